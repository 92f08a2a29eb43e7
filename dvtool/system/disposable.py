"""Records in SQLite files of which nothing is lost but time: a damaged one is made anew."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator

RECORD_BUSY_WAIT_S = 30.0


def open_disposable(path: str, tables: str) -> sqlite3.Connection:
    """Open a record with these tables, a script that may run again; a damaged one is removed first.

    sqlite3.OperationalError where the disk refuses, or another process holds it for long.
    """
    try:
        return _opened_anew(path, tables)
    except sqlite3.OperationalError:
        raise  # it is in use, or not to be had: no reason to remove it
    except sqlite3.DatabaseError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return _opened_anew(path, tables)


def _opened_anew(path: str, tables: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=RECORD_BUSY_WAIT_S, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(tables)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def one_transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block does to a record, or nothing of it."""
    db.execute("BEGIN")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
