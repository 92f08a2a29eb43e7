"""Places in columns are those that rows say, whichever way they are looked up."""

from __future__ import annotations

import random
import sqlite3

import pytest

from dvtool.errors import CorruptError
from dvtool.format.digest import digest_of
from dvtool.store.local import LocalStore
from dvtool.store.place_columns import PlaceColumns
from tests.unit.store.packs import new_pack


def rows_of(columns: PlaceColumns) -> list[tuple[int, ...]]:
    values = (columns.numbers, columns.frame_offsets, columns.frame_sizes, columns.starts)
    return list(zip(*values, columns.sizes, strict=True))


@pytest.fixture
def scattered(store: LocalStore) -> LocalStore:
    """Return a store with 60 chunks in three packs; `b"0"` is in two of them."""
    for at in range(3):
        names = [b"0", *(b"%d" % n for n in range(20 * at, 20 * at + 20))]
        store.adopt([new_pack(store, list(dict.fromkeys(names)))])
    return store


@pytest.mark.parametrize("at_once", [1, 7, 50_000])
@pytest.mark.parametrize("scanned_per_lookup", [0, 1_000_000])
def test_columns_say_what_rows_say(
    scattered: LocalStore, monkeypatch: pytest.MonkeyPatch, at_once: int, scanned_per_lookup: int
) -> None:
    monkeypatch.setattr("dvtool.store.database.SCAN_MIN", 2)
    monkeypatch.setattr("dvtool.store.database.SCAN_BATCH", 3)
    monkeypatch.setattr("dvtool.store.database.SCANNED_PER_LOOKUP", scanned_per_lookup)
    monkeypatch.setattr("dvtool.store.place_columns.LOOKED_UP_AT_ONCE", at_once)
    # Not all that is here, some of it twice, some not here, and both ends of the range.
    wanted = [digest_of(b"%d" % n) for n in [*range(5, 80), *range(0, 40, 7)]]
    wanted += [bytes(32), b"\xff" * 32]
    random.Random(at_once).shuffle(wanted)
    columns = scattered.db.place_columns(b"".join(wanted))
    places = scattered.db.places(wanted)
    assert len(places) == 56
    expected = []
    for digest in wanted:
        number, at = places.get(digest, (0, None))
        rest = (at.frame_offset, at.frame_size, at.start, at.size) if at else (0, 0, 0, 0)
        expected.append((number, *rest))
    assert rows_of(columns) == expected
    assert columns.packs == scattered.db.packs()


def test_nothing_is_wanted_or_here(store: LocalStore) -> None:
    assert rows_of(store.db.place_columns(b"")) == []
    assert rows_of(store.db.place_columns(bytes(64))) == [(0, 0, 0, 0, 0)] * 2


def test_rows_of_a_pack_that_the_index_does_not_have_do_not_count(scattered: LocalStore) -> None:
    digests = [digest_of(b"%d" % n) for n in range(60)]
    (first, *_), path = scattered.db.packs(), scattered.database_path
    scattered.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM packs WHERE id = ?", (first,))
    numbers = scattered.db.place_columns(b"".join(digests)).numbers
    assert first not in numbers
    assert numbers.count(0) == 20


@pytest.mark.parametrize("value", [-1, 1 << 40, "text"])
def test_a_number_that_no_place_has_is_damage(scattered: LocalStore, value: object) -> None:
    scattered.db.packs()
    path = scattered.database_path
    scattered.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE chunks SET frame_offset = ?", (value,))
    with pytest.raises(CorruptError, match=r"index .* is damaged"):
        scattered.db.place_columns(digest_of(b"1"))
    assert scattered.db.held_chunks([digest_of(b"1")])
