"""What readers of a stream get from a remote: each block at once, whatever is in the cache."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from dvtool.format.locations import Located, RemotePack
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.snapshots import remote
from dvtool.snapshots.places import ShardPlaces
from dvtool.stream import Stream, reading
from tests.scenario import Clone, Remote, noise

FILES, SIZE, IN_BLOCK = 32, 60_000, 8


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone without content of files that are all in one pack."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    far = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", far)
    for number in range(FILES):
        mine.write(f"data/{number:02}", noise(SIZE, number))
    mine.add("data")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    return mine.clone(tmp_path / "bare", far)


def test_a_block_before_one_in_the_cache_is_fetched_at_once(
    bare: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the cache's file of the pack has a hole, which begins as a raw frame does."""
    spans: list[int] = []
    read_pack = RemoteStore.read_pack

    def counted(self: RemoteStore, *args: Any, offset: int, size: int, **rest: Any) -> None:
        spans.append(size)
        read_pack(self, *args, offset=offset, size=size, **rest)

    monkeypatch.setattr(RemoteStore, "read_pack", counted)
    monkeypatch.setattr(reading, "PIECE_BYTES", SIZE)
    stream = Stream("data", repo=bare.path, window=IN_BLOCK * SIZE)
    held = {sample.key: sample.data for sample in stream.epoch(0)}
    assert held == {f"data/{number:02}": noise(SIZE, number) for number in range(FILES)}
    assert len(spans) == FILES // IN_BLOCK


def test_the_collector_is_on_while_a_remote_is_asked(
    bare: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take minutes, in which others make garbage; reading the list that came does not."""
    collects: list[tuple[str, bool]] = []
    get, decode = LocalBackend.get, remote.decode_listed

    def noted_get(self: LocalBackend, key: str, *, size_max: int) -> bytes:
        collects.append(("ask", gc.isenabled()))
        return get(self, key, size_max=size_max)

    def noted_decode(*args: Any) -> Any:
        collects.append(("read", gc.isenabled()))
        return decode(*args)

    stream = Stream("data", repo=bare.path)
    stream.samples  # noqa: B018
    monkeypatch.setattr(LocalBackend, "get", noted_get)
    monkeypatch.setattr(remote, "decode_listed", noted_decode)
    assert len(stream.read([0])) == 1
    assert set(collects) == {("ask", True), ("read", False)}


def test_what_a_gc_moved_meanwhile_is_fetched_from_where_it_is_now(bare: Clone) -> None:
    """A reader knows places by lists that it read before: they are read anew."""
    stream = Stream("data", repo=bare.path, window=IN_BLOCK * SIZE)
    assert len(stream.read([0])) == 1
    remote = stream.snapshot._contents._remote
    gone = RemotePack(bytes(32), 64 << 20)
    files = stream.snapshot.contents("data").digests
    remote._places._shards = {
        shard: ShardPlaces(
            {
                file: [Located(gone, at.placement) for at in chunks]
                for file, chunks in places.held(files).items()
            }
        )
        for shard, places in remote._places._shards.items()
    }
    read = {sample.key: sample.data for sample in stream.epoch(0)}
    assert read == {f"data/{number:02}": noise(SIZE, number) for number in range(FILES)}


def test_files_of_one_chunk_and_of_several_come_by_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    far = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", far)
    sizes = {number: 3_000 if number % 2 else 400_000 for number in range(12)}
    for number, size in sizes.items():
        mine.write(f"mixed/{number:02}", noise(size, number))
    mine.add("mixed")
    mine.commit("mixed")
    with mine.repo() as repo:
        repo.push()
    other = mine.clone(tmp_path / "other", far)
    asked: list[bytes] = []
    read_pack = RemoteStore.read_pack

    def noted(self: RemoteStore, digest: bytes, *args: Any, **rest: Any) -> None:
        asked.append(digest)
        read_pack(self, digest, *args, **rest)

    monkeypatch.setattr(RemoteStore, "read_pack", noted)
    stream = Stream("mixed", repo=other.path)
    chunks = {
        len(layout.pieces)
        for layout in stream.snapshot._contents.layouts(
            stream.snapshot.contents("mixed")[:]
        ).values()
    }
    assert 1 in chunks and max(chunks) > 1
    held = {sample.key: sample.data for sample in stream.epoch(0)}
    assert held == {f"mixed/{number:02}": noise(size, number) for number, size in sizes.items()}
    assert len(asked) == len(set(asked)) == 1
