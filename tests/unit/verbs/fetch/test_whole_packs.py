"""A pack as it arrives, the recipes that wait for it, and shards that are read once."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from dvtool.errors import CorruptError
from dvtool.format.digest import digest_of, hasher
from dvtool.format.locations import RemotePack, StoredPlaces
from dvtool.format.manifest import Entry
from dvtool.format.pack import Recipe
from dvtool.project.shards import ShardSource
from dvtool.remotes.objects import FetchedShard, ShardAtHand, pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import LocalStore
from dvtool.verbs.fetch import whole_packs
from dvtool.verbs.fetch.received import ReceivedChunks, UntriedRecipes
from dvtool.verbs.fetch.whole_packs import ArrivingPack, receive_pack
from tests.memory import MemoryBackend

A, B = b"a" * 5, b"b" * 7
WHOLE = digest_of(A + B)


def test_bytes_are_written_and_hashed_however_they_come(tmp_path: Path) -> None:
    whole = hasher()
    with (tmp_path / "pack").open("xb", buffering=0) as file:
        arriving = ArrivingPack(file, whole, states_md5=True)
        arriving.write(b"one ")
        arriving.room(9)[:4] = b"two "
        arriving.filled(4)
        arriving.room(5)[:] = b"three"
        arriving.filled(5)
    assert (tmp_path / "pack").read_bytes() == b"one two three"
    assert whole.digest() == digest_of(b"one two three")


MD5 = hashlib.md5(A + B, usedforsecurity=False).digest()


@pytest.mark.parametrize(
    ("stated", "states_md5", "noted"),
    [
        ((None, None), True, None),
        ((MD5, MD5), True, MD5),
        ((MD5, MD5), False, None),
        ((MD5, b"2"), True, None),
        ((b"2", MD5), True, None),
        ((b"2", b"2"), True, None),
        ((None, MD5), True, None),
        ((MD5, None), True, None),
    ],
)
def test_an_md5_is_noted_that_every_answer_stated(
    tmp_path: Path, stated: tuple[bytes | None, ...], states_md5: bool, noted: bytes | None
) -> None:
    """And that the bytes have: a store may state other things of the same form."""
    with (tmp_path / "pack").open("xb", buffering=0) as file:
        arriving = ArrivingPack(file, hasher(), states_md5=states_md5)
        for md5, piece in zip(stated, (A, B), strict=True):
            arriving.stated(md5)
            arriving.write(piece)
        assert arriving.md5() == noted


def test_a_pack_is_checked_whole_and_chunk_by_chunk(tmp_path: Path) -> None:
    with LocalStore(str(tmp_path / "store")) as store:
        with ReceivedChunks(store) as received:
            received.add([(digest_of(A), A), (digest_of(B), B)])
        ((info, path),) = [(i, store.pack_path(i.digest)) for i in store.db.packs().values()]
        data = Path(path).read_bytes()
    objects = {pack_key(info.digest): data}
    backend = MemoryBackend("memory:", objects)
    pack = RemotePack(info.digest, info.size)
    index, md5 = receive_pack(RemoteStore(backend), pack, str(tmp_path / "sound"))
    assert sorted(index.chunk_digests) == sorted([digest_of(A), digest_of(B)])
    stated = backend.head(pack_key(info.digest))
    assert stated is not None
    assert md5 == stated.md5
    assert (tmp_path / "sound").read_bytes() == data
    objects[pack_key(info.digest)] = bytes([data[0] ^ 1]) + data[1:]
    with pytest.raises(CorruptError, match="not what its name says"):
        receive_pack(RemoteStore(backend), pack, str(tmp_path / "damaged"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no process")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_a_pack_is_checked_can_fetch(tmp_path: Path) -> None:
    with LocalStore(str(tmp_path / "store")) as store:
        with ReceivedChunks(store) as received:
            received.add([(digest_of(A), A), (digest_of(B), B)])
        (info,) = store.db.packs().values()
        data = Path(store.pack_path(info.digest)).read_bytes()
    remote = RemoteStore(MemoryBackend("memory:", {pack_key(info.digest): data}))
    with whole_packs._ONE_AT_A_TIME:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # should it wait for ever
            try:
                receive_pack(remote, RemotePack(info.digest, info.size), str(tmp_path / "got"))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) and (tmp_path / "got").read_bytes() == data


def test_a_recipe_is_tried_when_its_last_chunk_is_here(tmp_path: Path) -> None:
    chunks = (digest_of(A), digest_of(B))
    false = Recipe(digest_of(b"other"), len(A + B), chunks)
    with LocalStore(str(tmp_path)) as store:
        untried = UntriedRecipes(store, [Recipe(WHOLE, len(A + B), chunks), false])
        for chunk, lacking in ((A, {WHOLE}), (B, set())):
            with ReceivedChunks(store) as received:
                received.add([(digest_of(chunk), chunk)])
            untried.try_with([digest_of(chunk)])
            assert store.lacking([WHOLE]) == lacking
        untried.try_rest()
        assert store.lacking([false.digest]) == {false.digest}


def test_a_recipe_of_chunks_that_were_here_is_tried_at_the_end(tmp_path: Path) -> None:
    chunks = (digest_of(A), digest_of(B))
    with LocalStore(str(tmp_path)) as store:
        with ReceivedChunks(store) as received:
            received.add([(digest_of(A), A), (digest_of(B), B)])
        untried = UntriedRecipes(store, [Recipe(WHOLE, len(A + B), chunks)])
        untried.try_with([digest_of(B)])
        assert store.lacking([WHOLE]) == {WHOLE}
        untried.try_rest()
        assert store.lacking([WHOLE]) == set()


def test_a_recipe_that_could_not_be_tried_is_tried_again_at_the_end(tmp_path: Path) -> None:
    chunks = (digest_of(A), digest_of(B))
    with LocalStore(str(tmp_path)) as store:
        untried = UntriedRecipes(store, [Recipe(WHOLE, len(A + B), chunks)])
        untried.try_with(chunks)  # of which another process freed the pack at once
        with ReceivedChunks(store) as received:
            received.add([(digest_of(A), A), (digest_of(B), B)])
        assert store.lacking([WHOLE]) == {WHOLE}
        untried.try_rest()
        assert store.lacking([WHOLE]) == set()


def test_recipes_of_many_chunks_wait_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvtool.verbs.fetch.received.AWAITED_MAX_CHUNKS", 3)
    other = Recipe(digest_of(B + A), len(A + B), (digest_of(B), digest_of(A)))
    with LocalStore(str(tmp_path)) as store:
        first = Recipe(WHOLE, len(A + B), (digest_of(A), digest_of(B)))
        untried = UntriedRecipes(store, [first, other])
        with ReceivedChunks(store) as received:
            received.add([(digest_of(A), A), (digest_of(B), B)])
        untried.try_with(first.chunks)
        assert store.lacking([WHOLE, other.digest]) == {other.digest}
        untried.try_rest()
        assert store.lacking([other.digest]) == set()


def test_places_at_hand_are_bounded_and_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvtool.project.shards.AT_HAND_MAX_BYTES", 10)
    entries = {"a": Entry(blake3=WHOLE.hex(), size=12)}
    small, large = StoredPlaces(b"1234567", 9), StoredPlaces(b"1234", 9)
    with LocalStore(str(tmp_path)) as store:
        source = ShardSource(store)
        for digest, places in ((b"none", None), (b"small", small), (b"large", large)):
            shard = FetchedShard(entries, b"", {}, 1, b"md5", stored_places=places)
            source.without_places().keep_at_hand("one", {digest: shard})
        kept = {b"small": ShardAtHand(small, 1, b"md5")}
        assert source.take_at_hand("other", [b"small"]) == {}
        assert source.take_at_hand("one", [b"small", b"large", b"none"]) == kept
        assert source.take_at_hand("one", [b"small"]) == {}
