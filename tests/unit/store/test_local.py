"""The local store: what it took in it gives back, verified, and the packs alone rebuild it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.locations import encode_object
from dvtool.format.manifest import Entry, ShardRef, ShardText, shard_refs
from dvtool.format.pack import Recipe
from dvtool.store.local import LocalStore
from tests.unit.store.packs import (
    KIB,
    LARGE,
    SMALL,
    forget_index,
    get,
    new_pack,
    noise,
    pieces,
    put,
    recipe_of,
)

pytestmark = pytest.mark.usefixtures("how_read")


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


# --- rebuilding -----------------------------------------------------------------------------


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


def test_foreign_files_among_the_packs_are_passed_over(store: LocalStore) -> None:
    put(store, SMALL)
    (Path(store.path, "packs") / "zz").mkdir()
    (Path(store.path, "packs") / "zz" / ".dv-tmp-1").write_text("unfinished")
    assert store.reindex() == 1


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


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files are named by /proc")
def test_the_names_of_shards_that_are_here_are_made_durable_too(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was killed may have left them, before their folders were flushed."""
    entries = {f"{n:06}": Entry(blake3=digest_of(b"%d" % n).hex(), size=9) for n in range(9000)}
    shards = list(shard_refs(entries))
    assert len(shards) > 1
    store.put_shards(shards)
    flushed = set()
    fsync = os.fsync

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        flushed.add(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    store.put_shards(shards)
    folders = {Path(store.shard_path(shard.ref.digest)).parent.resolve() for shard in shards}
    assert flushed >= {str(each) for folder in folders for each in (folder, folder.parent)}


def test_shards_wait_for_the_disk_together_until_their_texts_are_long(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    monkeypatch.setattr(store, "_put_group", lambda texts: groups.append(len(texts)))

    def put_shards_of(size: int, count: int) -> list[int]:
        groups.clear()
        texts = (b"%*d" % (size, number) for number in range(count))
        store.put_shards(ShardText(ShardRef("", 1, 1, digest_of(t).hex()), t) for t in texts)
        return [group for group in groups if group]

    assert put_shards_of(10, 150) == [64, 64, 22]
    assert put_shards_of(3 << 20, 7) == [3, 3, 1]


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
