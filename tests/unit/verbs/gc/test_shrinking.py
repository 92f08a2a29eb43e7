"""Taking chunks out of the local store, and proof that a remote has them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.errors import BusyError, MissingError
from dvtool.format.digest import Digest, digest_of
from dvtool.format.locations import Located, RemotePack, encode_object
from dvtool.format.manifest import Entry, ShardRef, shard_refs
from dvtool.format.pack import PackInfo, PackWriter, Recipe
from dvtool.remotes.known import Known
from dvtool.remotes.proof import located_now, prove_roots, prove_shards
from dvtool.remotes.remote import RemoteStore, RootManifest, pack_key, shard_key
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.store import lock
from dvtool.store.freeing import drop_chunks, finish_drops, rewrite_packs
from dvtool.store.local import LocalStore
from dvtool.store.lock import drop_lock
from tests.scenario import noise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(str(tmp_path / "dv")) as store:
        yield store


def put(store: LocalStore, *chunks: bytes, recipes: tuple[Recipe, ...] = ()) -> PackInfo:
    """Put a pack of chunks, in this order, into the store."""
    temp = store.temp_path()
    with open(temp, "xb") as file:
        writer = PackWriter(file)
        for chunk in chunks:
            writer.add(digest_of(chunk), chunk)
        for recipe in recipes:
            writer.add_recipe(recipe)
        info = writer.finish()
    store.adopt([(temp, info)])
    return info


def read(store: LocalStore, digest: Digest) -> bytes:
    with store.reader() as reader:
        reader.prepare([digest])
        return b"".join(reader.read(digest))


def on_disk(store: LocalStore) -> set[str]:
    return {path.name for path in Path(store.path, "packs").rglob("*") if path.is_file()}


A, B, C = noise(50_000, 1), noise(50_000, 2), b"small"


def test_a_pack_goes_when_nothing_of_it_stays(store: LocalStore) -> None:
    info = put(store, A, B)
    kept = put(store, C)
    assert drop_chunks(store, {digest_of(A), digest_of(B)}) == info.size
    assert on_disk(store) == {kept.digest.hex()}
    assert store.lacking([digest_of(A), digest_of(C)]) == {digest_of(A)}
    assert drop_chunks(store, {digest_of(A)}) == 0


def test_what_stays_is_written_anew(store: LocalStore) -> None:
    info = put(store, A, C, B)
    freed = drop_chunks(store, {digest_of(A)})
    assert 50_000 < freed < info.size
    assert read(store, digest_of(B)) == B
    assert read(store, digest_of(C)) == C
    with pytest.raises(MissingError):
        read(store, digest_of(A))


def test_recipes_of_what_stays_are_kept_with_it(store: LocalStore, tmp_path: Path) -> None:
    whole = Recipe(digest_of(B + C), len(B + C), (digest_of(B), digest_of(C)))
    broken = Recipe(digest_of(A + C), len(A + C), (digest_of(A), digest_of(C)))
    put(store, A, B, C, recipes=(whole, broken))
    drop_chunks(store, {digest_of(A)})
    assert read(store, whole.digest) == B + C
    shutil.copytree(Path(store.path, "packs"), tmp_path / "again/packs")
    with LocalStore(str(tmp_path / "again")) as again:
        assert read(again, whole.digest) == B + C
        assert again.lacking([broken.digest]) == {broken.digest}


def test_a_chunk_in_two_packs_goes_from_the_index(store: LocalStore) -> None:
    put(store, A, B)
    put(store, B, C)
    drop_chunks(store, {digest_of(B)})
    assert store.lacking([digest_of(B)]) == {digest_of(B)}
    assert read(store, digest_of(A)) == A
    assert read(store, digest_of(C)) == C


def test_a_pack_that_comes_again_is_not_doomed(store: LocalStore) -> None:
    info = put(store, A)
    marker = Path(store.path, "doomed", info.digest.hex())
    marker.parent.mkdir()
    marker.touch()
    put(store, A)
    assert not marker.exists()
    finish_drops(store)
    assert read(store, digest_of(A)) == A


def test_leftovers_are_removed_only_if_not_indexed(store: LocalStore) -> None:
    kept, gone = put(store, A), put(store, B)
    doomed = Path(store.path, "doomed")
    doomed.mkdir()
    for name in (kept.digest.hex(), gone.digest.hex(), digest_of(C).hex(), "stray"):
        (doomed / name).touch()
    store.db.replace_packs({gone.digest: list(gone.index.placements())}, [])
    finish_drops(store)
    assert on_disk(store) == {kept.digest.hex()}
    assert not list(doomed.iterdir())


def test_two_drops_at_once_wait(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    put(store, A)
    monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.05)
    with filelock.FileLock(Path(store.path, "drop.lock")), pytest.raises(BusyError):
        drop_chunks(store, {digest_of(A)})
    assert read(store, digest_of(A)) == A


def test_a_reader_finds_what_was_put_into_another_pack_meanwhile(store: LocalStore) -> None:
    whole = Recipe(digest_of(A + B), len(A + B), (digest_of(A), digest_of(B)))
    put(store, A)
    put(store, B, recipes=(whole,))
    put(store, C)
    with store.reader() as reader, LocalStore(store.path) as other:
        reader.prepare([whole.digest, digest_of(C)])
        with drop_lock(other.path):
            assert rewrite_packs(other, list(other.db.packs()), set()) > 0
        assert len(on_disk(store)) == 1
        assert b"".join(reader.read(whole.digest)) == A + B
        assert b"".join(reader.read(digest_of(C))) == C
        drop_chunks(other, {digest_of(A), digest_of(B), digest_of(C)})
    with store.reader() as reader, pytest.raises(MissingError):
        reader.prepare([digest_of(C)])


def test_merging_leaves_a_pack_alone_that_would_come_out_the_same(store: LocalStore) -> None:
    info = put(store, A, B)
    (number,) = store.db.packs()
    assert rewrite_packs(store, [number], set()) == 0
    assert on_disk(store) == {info.digest.hex()}
    assert read(store, digest_of(A)) == A


# --- what a remote has ----------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    (tmp_path / "remote").mkdir()
    remote = RemoteStore(LocalBackend(str(tmp_path / "remote")))
    remote.initialise()
    return remote


@pytest.fixture
def known(store: LocalStore, remote: RemoteStore) -> Known:
    return Known(store.db, remote.required_mark().id)


def upload(store: LocalStore, remote: RemoteStore, info: PackInfo) -> None:
    with open(store.pack_path(info.digest), "rb") as file:
        remote.put_pack(info.digest, file)


def published(store: LocalStore, remote: RemoteStore, info: PackInfo) -> ShardRef:
    """Publish a shard of A and B, which are in this pack."""
    upload(store, remote, info)
    entries = {
        "a": Entry(blake3=digest_of(A).hex(), size=len(A)),
        "b": Entry(blake3=digest_of(B).hex(), size=len(B)),
    }
    (text,) = shard_refs(entries)
    pack = RemotePack(info.digest, info.size)
    places = {place.digest: [Located(pack, place)] for place in info.index.placements()}
    remote.put_shard(text.ref.digest, encode_object(text.text, places))
    return text.ref


def test_where_a_remote_has_chunks_is_known_after_the_drop(
    store: LocalStore, remote: RemoteStore, known: Known
) -> None:
    info = put(store, A, B)
    upload(store, remote, info)
    known.add_pack(RemotePack(info.digest, info.size), ())  # its chunks are looked up here
    drop_chunks(store, {digest_of(A), digest_of(B)})
    assert located_now(remote, known, [digest_of(A)]).keys() == {digest_of(A)}


def test_a_chunk_is_found_in_another_pack_than_the_one_that_is_gone(
    store: LocalStore, remote: RemoteStore, known: Known
) -> None:
    one, other = put(store, A), put(store, A, B)
    for info in (one, other):
        upload(store, remote, info)
        known.add_pack(RemotePack(info.digest, info.size), list(info.index.placements()))
    for gone in (one, other):
        (Path(remote.url) / pack_key(gone.digest)).unlink()
        found = located_now(remote, known, [digest_of(A)])
        if gone is one:
            assert found[digest_of(A)].pack.digest == other.digest
    assert not found


def test_shards_are_proven_by_the_remote_alone(
    store: LocalStore, remote: RemoteStore, known: Known
) -> None:
    info = put(store, A, B)
    ref = published(store, remote, info)
    for _ in range(2):  # read there, then known
        proven = prove_shards(remote, known, {ref.digest: ref}, roots=["dv.json"])
        assert proven.shards == {ref.digest}
        assert "dv.json" in proven.there
    (Path(remote.url) / pack_key(info.digest)).unlink()
    assert prove_shards(remote, known, {ref.digest: ref}).shards == set()
    upload(store, remote, info)
    (Path(remote.url) / shard_key(ref.digest)).unlink()
    assert prove_shards(remote, known, {ref.digest: ref}).shards == set()


def test_roots_of_other_clones_are_read(
    store: LocalStore, remote: RemoteStore, known: Known
) -> None:
    names = [digest_of(text) for text in (b"1", b"2", b"3")]
    for name in names[:2]:
        remote.put_root("repo", [RootManifest("data", name.hex(), [])])
    remote.put_root("other", [RootManifest("data", names[2].hex(), [])])
    assert prove_roots(remote, known, "repo", names) == set(names[:2])
    # Known now; but only what the remote says it has counts, and a listing finds the rest.
    assert known.roots(names).keys() == set(names[:2])
    shutil.rmtree(Path(remote.url) / "roots/repo")
    assert prove_roots(remote, known, "repo", names) == set()
