"""`dvtool.system.disposable`: records that are made anew."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dvtool.system import disposable

TABLES = "CREATE TABLE IF NOT EXISTS rows (n INTEGER)"


def rows(path: Path) -> list[int]:
    db = disposable.open_disposable(str(path), TABLES)
    found = [row[0] for row in db.execute("SELECT n FROM rows")]
    db.close()
    return found


def test_a_damaged_record_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "record.db"
    db = disposable.open_disposable(str(path), TABLES)
    with disposable.one_transaction(db):
        db.execute("INSERT INTO rows VALUES (1)")
    with pytest.raises(ZeroDivisionError), disposable.one_transaction(db):
        db.execute("INSERT INTO rows VALUES (2)")
        raise ZeroDivisionError
    db.close()
    assert rows(path) == [1]
    path.write_bytes(b"no database" * 100)
    assert rows(path) == []


def test_a_record_in_use_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disposable, "RECORD_BUSY_WAIT_S", 0.01)
    path = tmp_path / "record.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError):
        rows(path)
    db.execute(TABLES)
    db.execute("INSERT INTO rows VALUES (3)")
    db.execute("COMMIT")
    db.close()
    assert rows(path) == [3]
