"""store.db: opening it, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from dvtool.errors import BusyError, CorruptError, SetupError
from dvtool.format.digest import EMPTY, digest_of
from dvtool.store.local import LocalStore
from tests.unit.store.packs import SMALL, forget_index, get, new_pack, put


def test_more_contents_than_one_statement_of_sqlite_takes(store: LocalStore) -> None:
    many = [b"%d" % n for n in range(2_500)]
    store.adopt([new_pack(store, many)])
    found = get(store, *[digest_of(one) for one in many])
    assert sorted(found.values()) == sorted(many)


@pytest.mark.parametrize("scanned_per_lookup", [0, 1_000_000])
def test_many_chunks_are_found_whether_each_is_looked_up_or_every_row_is_read(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, scanned_per_lookup: int
) -> None:
    monkeypatch.setattr("dvtool.store.database.SCAN_MIN", 2)
    monkeypatch.setattr("dvtool.store.database.SCAN_BATCH", 3)
    monkeypatch.setattr("dvtool.store.database.SCANNED_PER_LOOKUP", scanned_per_lookup)
    here = [digest_of(b"%d" % n) for n in range(20)]
    assert store.db.held_chunks(here) == set()
    store.adopt([new_pack(store, [b"%d" % n for n in range(20)])])
    wanted = {*here[:10], digest_of(b"not here")}
    assert store.db.held_chunks(wanted) == set(here[:10])
    assert store.db.chunk_sizes(wanted) == dict.fromkeys(here[:10], 1)
    assert store.lacking(wanted) == {digest_of(b"not here")}
    places = store.db.places(wanted)
    assert store.db.placed_here(wanted) == {
        digest: (digest, pack, at.frame_offset, at.frame_size, at.start, at.size)
        for digest, (pack, at) in places.items()
    }
    assert places.keys() == set(here[:10])


def test_an_index_in_use_is_not_called_damaged(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint for a damaged one is to move it away."""
    monkeypatch.setattr("dvtool.store.schema.BUSY_TIMEOUT_S", 0.05)
    os.makedirs(store.path)
    other = sqlite3.connect(store.database_path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BusyError):
        store.lacking([EMPTY, digest_of(b"x")])
    other.rollback()
    other.close()
    assert store.lacking([digest_of(b"x")]) == {digest_of(b"x")}


def test_a_damaged_index_is_named_with_the_way_out(store: LocalStore) -> None:
    put(store, SMALL)
    forget_index(store)
    Path(store.database_path).write_bytes(b"not a database" * 1_000)
    with pytest.raises(CorruptError, match=r"store\.db") as caught:
        store.lacking([digest_of(SMALL)])
    assert caught.value.hint is not None
    assert "packs" in caught.value.hint


def test_an_index_of_another_version_is_left_alone(store: LocalStore) -> None:
    put(store, SMALL)
    store.close()
    with sqlite3.connect(store.database_path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SetupError, match="version 99"):
        store.lacking([digest_of(SMALL)])
    with sqlite3.connect(store.database_path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
    db.close()
