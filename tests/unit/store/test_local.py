"""The local store: what it took in it gives back, verified, and the packs alone rebuild it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from dvtool.errors import BusyError, CorruptError, MissingError, SetupError
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.locations import encode_object
from dvtool.format.manifest import Entry, shard_refs
from dvtool.format.pack import PackInfo, PackWriter, Recipe
from dvtool.store import reader
from dvtool.store.freeing import rewrite_packs, sweep_temp
from dvtool.store.local import LocalStore
from dvtool.store.lock import drop_lock
from dvtool.store.reader import OPEN_PACKS_MAX

KIB = 1 << 10


def noise(seed: object, size: int) -> bytes:
    return blake3(repr(seed).encode()).digest(size)


def pieces(data: bytes, size: int = 40 * KIB) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def recipe_of(chunks: Sequence[bytes]) -> Recipe:
    whole = b"".join(chunks)
    return Recipe(digest_of(whole), len(whole), tuple(digest_of(chunk) for chunk in chunks))


def new_pack(
    store: LocalStore, chunks: Sequence[bytes], recipes: Sequence[Recipe] = ()
) -> tuple[str, PackInfo]:
    temp = store.temp_path()
    with open(temp, "xb") as file:
        writer = PackWriter(file)
        for chunk in chunks:
            writer.add(digest_of(chunk), chunk)
        for recipe in recipes:
            writer.add_recipe(recipe)
        return temp, writer.finish()


def put(store: LocalStore, *files: bytes) -> list[PackInfo]:
    """One pack for each file."""
    infos = []
    for data in files:
        chunks = pieces(data) if len(data) > 64 * KIB else [data]
        recipes = [recipe_of(chunks)] if len(chunks) > 1 else []
        temp, info = new_pack(store, chunks, recipes)
        store.adopt([(temp, info)])
        infos.append(info)
    return infos


def get(store: LocalStore, *files: Digest) -> dict[Digest, bytes]:
    with store.reader() as reader:
        return {digest: b"".join(reader.read(digest)) for digest in reader.prepare(files)}


@pytest.fixture(autouse=True, params=["one by one", "ahead"])
def how_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of files of several chunks are read one by one, or some ahead in a thread."""
    if request.param == "ahead":
        monkeypatch.setattr(reader, "AHEAD_MIN_BYTES", 0)
        monkeypatch.setattr(reader, "PACKED_SHARE_MAX", 100)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(str(tmp_path / "dv")) as store:
        yield store


SMALL = noise("small", 1_000)
LARGE = noise("large", 300 * KIB)


# --- taking in and giving back --------------------------------------------------------------


def test_what_was_adopted_is_read_back(store: LocalStore) -> None:
    put(store, SMALL, LARGE)
    wanted = [digest_of(SMALL), digest_of(LARGE)]
    assert get(store, *wanted) == {digest_of(SMALL): SMALL, digest_of(LARGE): LARGE}
    assert store.lacking(wanted) == set()
    assert os.listdir(Path(store.path, "tmp")) == []


def test_an_adopted_pack_lies_under_its_id(store: LocalStore) -> None:
    (info,) = put(store, SMALL)
    path = Path(store.pack_path(info.digest))
    assert digest_of(path.read_bytes()) == info.digest
    assert path.stat().st_size == info.size
    put(store, SMALL)
    assert [number_and_pack[1].digest for number_and_pack in store.db.packs().items()] == [
        info.digest
    ]


def test_a_pack_that_did_not_get_into_place_is_not_indexed(store: LocalStore) -> None:
    temp, info = new_pack(store, [SMALL])
    os.unlink(temp)
    with pytest.raises(FileNotFoundError):
        store.adopt([(temp, info)])
    assert store.lacking([digest_of(SMALL)])
    assert not store.db.packs()


def test_lacking_is_what_cannot_be_made_whole(store: LocalStore) -> None:
    chunks = pieces(LARGE)
    recipe = recipe_of(chunks)
    assert store.lacking([recipe.digest, EMPTY]) == {recipe.digest}
    store.adopt([new_pack(store, chunks[1:], [recipe])])
    assert store.lacking([recipe.digest]) == {recipe.digest}
    with pytest.raises(MissingError):
        get(store, recipe.digest)
    store.adopt([new_pack(store, chunks[:1])])
    assert store.lacking([recipe.digest, digest_of(b"other")]) == {digest_of(b"other")}
    assert get(store, recipe.digest) == {recipe.digest: LARGE}


def test_an_empty_file_needs_nothing(store: LocalStore) -> None:
    assert store.lacking([EMPTY]) == set()
    assert get(store, EMPTY) == {}
    with store.reader() as reader:
        assert list(reader.read(EMPTY)) == []


def test_more_contents_than_one_statement_of_sqlite_takes(store: LocalStore) -> None:
    many = [b"%d" % n for n in range(2_500)]
    store.adopt([new_pack(store, many)])
    found = get(store, *[digest_of(one) for one in many])
    assert sorted(found.values()) == sorted(many)


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


def test_a_pack_that_is_gone_is_said_to_be(store: LocalStore) -> None:
    (info,) = put(store, SMALL)
    os.unlink(store.pack_path(info.digest))
    with pytest.raises(MissingError, match="is gone") as caught:
        get(store, digest_of(SMALL))
    assert caught.value.hint is not None


# --- damage ---------------------------------------------------------------------------------


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


# --- rebuilding -----------------------------------------------------------------------------


def forget_index(store: LocalStore) -> None:
    store.close()
    for name in os.listdir(store.path):
        if name.startswith("store.db"):
            os.unlink(Path(store.path, name))


def test_the_packs_alone_restore_everything(store: LocalStore) -> None:
    files = [SMALL, LARGE, *(noise(n, 100) for n in range(50)), noise("two packs", 200 * KIB)]
    put(store, *files[:-1])
    chunks = pieces(files[-1])
    store.adopt([new_pack(store, chunks[:2])])
    store.adopt([new_pack(store, chunks[2:], [recipe_of(chunks)])])
    digests = [digest_of(file) for file in files]
    packs = {pack.digest for pack in store.db.packs().values()}
    recipes = store.db.recipes(digests)
    assert len(recipes) == 2
    forget_index(store)
    assert store.lacking(digests) == set()
    assert {pack.digest for pack in store.db.packs().values()} == packs
    assert store.db.recipes(digests) == recipes
    assert get(store, *digests) == {digest_of(file): file for file in files}
    assert store.reindex() == len(packs)


def foreign_pack(store: LocalStore, chunks: Sequence[bytes], *recipes: Recipe) -> None:
    """A pack that lies in the store, as copied there by hand, unknown to the index."""
    temp, info = new_pack(store, chunks, recipes)
    path = store.pack_path(info.digest)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(temp, path)


def test_reindexing_does_not_believe_a_lying_recipe(store: LocalStore) -> None:
    one, two = noise(1, 50 * KIB), noise(2, 50 * KIB)
    names = (digest_of(one), digest_of(two))
    honest = recipe_of([one, two])
    wanted = digest_of(b"what the victim asks for")
    for lie in (
        Recipe(wanted, 100 * KIB, names),
        Recipe(honest.digest, 7, names),
        Recipe(honest.digest, (1 << 64) - 1, names),
        Recipe(honest.digest, 100 * KIB, names[::-1]),
        Recipe(wanted, 50 * KIB, names[:1]),
        Recipe(wanted, 0, ()),
        Recipe(EMPTY, 100 * KIB, names),
        Recipe(wanted, 1, (digest_of(b"not here"),) * 2),
    ):
        shutil.rmtree(store.path, ignore_errors=True)
        foreign_pack(store, [one, two], lie)
        forget_index(store)
        assert store.reindex() == 1
        assert store.db.recipes([lie.digest]) == {}
        assert lie.digest == EMPTY or store.lacking([lie.digest]) == {lie.digest}
        assert get(store, *names) == dict(zip(names, (one, two), strict=True))
        store.close()


def test_an_honest_recipe_from_elsewhere_is_believed(store: LocalStore) -> None:
    chunks = pieces(LARGE)
    foreign_pack(store, chunks, recipe_of(chunks), recipe_of(chunks[:2]))
    forget_index(store)
    assert get(store, digest_of(LARGE)) == {digest_of(LARGE): LARGE}
    assert store.lacking([recipe_of(chunks[:2]).digest]) == set()


def test_one_damaged_pack_does_not_hide_the_others(store: LocalStore) -> None:
    infos = put(store, *[noise(n, 1_000) for n in range(4)])
    path = Path(store.pack_path(sorted(info.digest for info in infos)[0]))
    path.write_bytes(path.read_bytes()[:-1])
    forget_index(store)
    with pytest.raises(CorruptError, match=path.name):
        store.reindex()
    assert len(store.db.packs()) == 3


def test_a_rebuild_that_was_interrupted_is_begun_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [noise(n, 1_000) for n in range(4)]
    put(store, *files)
    forget_index(store)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "add_tried", killed)
        with pytest.raises(KeyboardInterrupt):
            store.lacking([digest_of(files[0])])
    store.close()
    with sqlite3.connect(store.database_path) as db:
        db.execute("DELETE FROM chunks WHERE pack > 2")
    db.close()
    assert store.lacking(digest_of(file) for file in files) == set()


def killed(*_: object) -> None:
    raise KeyboardInterrupt


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


def test_foreign_files_among_the_packs_are_passed_over(store: LocalStore) -> None:
    put(store, SMALL)
    (Path(store.path, "packs") / "zz").mkdir()
    (Path(store.path, "packs") / "zz" / ".dv-tmp-1").write_text("unfinished")
    assert store.reindex() == 1


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


# --- shards ---------------------------------------------------------------------------------


def test_shards_are_kept_and_checked(store: LocalStore) -> None:
    entries = {f"{n:03}": Entry(blake3=digest_of(b"%d" % n).hex(), size=9) for n in range(500)}
    (shard,) = shard_refs(entries)
    assert not store.has_shard(shard.ref.digest)
    with pytest.raises(MissingError):
        store.load_shard(shard.ref)
    store.put_shards([shard])
    store.put_shards([shard])
    assert store.has_shard(shard.ref.digest)
    assert store.load_shard(shard.ref) == entries
    path = Path(store.shard_path(shard.ref.digest))
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(CorruptError):
            store.load_shard(shard.ref)
    other = encode_object(b"{}", None)
    path.write_bytes(other)
    with pytest.raises(CorruptError, match="not what its name says"):
        store.load_shard(shard.ref)


def test_a_shard_must_have_the_hash_it_is_put_under(store: LocalStore) -> None:
    with pytest.raises(CorruptError):
        store.put_shard_text(digest_of(b"one"), b"other")
    assert not store.has_shard(digest_of(b"one"))


# --- several processes ----------------------------------------------------------------------


def adopt_many(path: str, number: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    with LocalStore(path) as store:
        for count in range(10):
            shared = noise(count, 70 * KIB)
            put(store, shared, noise((number, count), 500))


@pytest.mark.parametrize("round_", range(3))
def test_processes_may_adopt_at_once_into_a_new_store(tmp_path: Path, round_: int) -> None:
    context = multiprocessing.get_context("fork")
    path = str(tmp_path / "dv")
    start = context.Barrier(4)
    workers = [context.Process(target=adopt_many, args=(path, n, start)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    files = [noise(count, 70 * KIB) for count in range(10)]
    files += [noise((number, count), 500) for number in range(4) for count in range(10)]
    with LocalStore(path) as store:
        digests = [digest_of(file) for file in files]
        assert store.lacking(digests) == set()
        assert get(store, *digests) == {digest_of(file): file for file in files}
        indexed = {pack.digest for pack in store.db.packs().values()}
    on_disk = {bytes.fromhex(p.name) for p in Path(path, "packs").rglob("*") if p.is_file()}
    assert indexed == on_disk


def test_unfinished_files_are_swept_after_some_days(store: LocalStore) -> None:
    old, new = Path(store.temp_path()), Path(store.temp_path())
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    sweep_temp(store)
    assert not old.exists()
    assert new.exists()


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
