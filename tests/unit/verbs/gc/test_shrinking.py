"""Proof that a remote has chunks, whatever the local store gave up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.locations import Located, RemotePack, encode_object
from dvtool.format.manifest import Entry, ShardRef, shard_refs
from dvtool.format.pack import PackInfo, PackWriter, Recipe
from dvtool.remotes.known import Known
from dvtool.remotes.objects import RootManifest, pack_key, shard_key
from dvtool.remotes.proof import located_now, prove_roots, prove_shards
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.store.freeing import drop_chunks
from dvtool.store.local import LocalStore
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


A, B, C = noise(50_000, 1), noise(50_000, 2), b"small"


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
