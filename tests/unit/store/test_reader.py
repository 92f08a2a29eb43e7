"""Contents come out of packs verified, or not at all."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import digest_of, hasher
from dvtool.store.freeing import rewrite_packs
from dvtool.store.local import LocalStore
from dvtool.store.lock import drop_lock
from dvtool.store.reader import OPEN_PACKS_MAX
from tests.unit.store.packs import KIB, LARGE, SMALL, get, new_pack, noise, pieces, put, recipe_of

pytestmark = pytest.mark.usefixtures("how_read")


def test_contents_come_in_the_order_of_the_disk(store: LocalStore) -> None:
    files = [noise(n, 50 * KIB) for n in range(6)] + [noise(n, 100) for n in range(6)]
    store.adopt([new_pack(store, files[::2])])
    store.adopt([new_pack(store, files[1::2])])
    digests = [digest_of(file) for file in files]
    with store.reader() as reader:
        order = reader.prepare(reversed(digests))
    places = store.db.places(digests)
    positions = [(places[d][0], places[d][1].frame_offset, places[d][1].start) for d in order]
    assert positions == sorted(positions)
    assert len(order) == len(files)


def test_a_reader_holds_few_packs_open(store: LocalStore) -> None:
    files = [noise(n, 100) for n in range(2 * OPEN_PACKS_MAX)]
    put(store, *files)
    before = len(os.listdir("/proc/self/fd"))
    with store.reader() as reader:
        for digest in reader.prepare(digest_of(file) for file in files):
            list(reader.read(digest))
            assert len(os.listdir("/proc/self/fd")) <= before + OPEN_PACKS_MAX
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_file_over_more_packs_than_are_held_open(store: LocalStore) -> None:
    chunks = [noise(number, 40 * KIB) for number in range(2 * OPEN_PACKS_MAX)]
    store.adopt([new_pack(store, [chunk]) for chunk in chunks])
    # Each pack is needed again and again, in another order.
    every = [*chunks, *reversed(chunks), *chunks[::3], *chunks]
    store.adopt([new_pack(store, [b"one"], [recipe_of(every)])])
    with store.reader() as reader:
        reader.prepare([recipe_of(every).digest])
        assert b"".join(reader.read(recipe_of(every).digest)) == b"".join(every)


def test_a_pack_that_is_merged_away_while_a_file_is_read(store: LocalStore) -> None:
    chunks = [noise(number, 40 * KIB) for number in range(20)]
    packs = [new_pack(store, [chunk]) for chunk in chunks]
    recipe = recipe_of(chunks)
    store.adopt([*packs, new_pack(store, [b"one"], [recipe])])
    with store.reader() as reader:
        reader.prepare([recipe.digest])
        parts = reader.read(recipe.digest)
        got = [bytes(next(parts))]
        with drop_lock(store.path):
            rewrite_packs(store, store.db.packs(), ())
        assert len(store.db.packs()) == 1
        got += map(bytes, parts)
    assert b"".join(got) == b"".join(chunks)


def test_what_was_looked_up_long_before_is_found_where_it_is_now(store: LocalStore) -> None:
    """Another process may merge packs, and a new pack may have the number of one that went."""
    files = [noise(number, 40 * KIB) for number in range(4)]
    large = noise("large", 300 * KIB)
    *_, last = put(store, large, *files)
    digests = [digest_of(file) for file in (*files, large)]
    columns = store.reader().look_up(b"".join(digests))
    with drop_lock(store.path):
        rewrite_packs(store, list(columns.packs)[1:-1], ())
    newest = store.db.packs()[max(store.db.packs())].digest
    store.db.forget_packs([newest, last.digest])
    store.adopt([new_pack(store, [noise("more", 9 * KIB), files[3]])])
    put(store, *files[:3])
    now = store.db.packs()
    assert now.keys() == columns.packs.keys() and now != columns.packs
    with store.reader() as reader:
        order = reader.prepare_from(columns, 1, digests[1:])
        got = {digest: b"".join(reader.read(digest)) for digest in order}
        assert got == dict(zip(digests[1:], (*files[1:], large), strict=True))
        assert reader.prepare_from(columns, 0, digests[:1]) == digests[:1]
        with pytest.raises(MissingError):
            reader.prepare_from(columns, 0, [digest_of(b"nowhere")])


def test_a_pack_that_is_gone_is_said_to_be(store: LocalStore) -> None:
    (info,) = put(store, SMALL)
    os.unlink(store.pack_path(info.digest))
    with pytest.raises(MissingError, match="is gone") as caught:
        get(store, digest_of(SMALL))
    assert caught.value.hint is not None


def test_no_flipped_byte_in_a_pack_gives_a_wrong_byte(store: LocalStore) -> None:
    text = b"some text that zstd makes smaller " * 20
    (info,) = put(store, text)
    path = Path(store.pack_path(info.digest))
    good = path.read_bytes()
    for at in range(info.index.data_size):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            assert get(store, digest_of(text)) == {digest_of(text): text}
        except CorruptError:
            pass
        else:
            pytest.fail(f"byte {at} is not checked")


def test_of_a_damaged_large_file_the_last_part_never_comes(store: LocalStore) -> None:
    (info,) = put(store, LARGE)
    path = Path(store.pack_path(info.digest))
    good = path.read_bytes()
    for at in (5, info.index.data_size // 2, info.index.data_size - 1):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        got = bytearray()
        with store.reader() as reader:
            reader.prepare([digest_of(LARGE)])
            with pytest.raises(CorruptError, match=info.digest.hex()):
                for part in reader.read(digest_of(LARGE)):
                    got += part
        assert len(got) < len(LARGE)


def test_a_pack_cut_short_is_corrupt(store: LocalStore) -> None:
    (info,) = put(store, SMALL)
    path = Path(store.pack_path(info.digest))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CorruptError, match="shorter than the index says"):
        get(store, digest_of(SMALL))


def test_an_index_that_lies_gives_no_wrong_byte(store: LocalStore) -> None:
    """A swapped row in store.db, as of a bug or a bad disk."""
    put(store, SMALL, noise("other", 1_000))
    store.close()
    with sqlite3.connect(store.database_path) as db:
        db.execute("UPDATE chunks SET pack = 3 - pack")
    db.close()
    with pytest.raises(CorruptError):
        get(store, digest_of(SMALL))


def test_the_reader_hashes_what_it_gives(store: LocalStore) -> None:
    put(store, LARGE)
    whole = hasher()
    with store.reader() as reader:
        reader.prepare([digest_of(LARGE)])
        for part in reader.read(digest_of(LARGE)):
            whole.update(part)
        for chunk in pieces(LARGE):
            reader.prepare_chunks([digest_of(chunk)])
            assert reader.chunk(digest_of(chunk)) == chunk
        with pytest.raises(MissingError):
            reader.prepare_chunks([digest_of(b"not here")])
    assert whole.digest() == digest_of(LARGE)
