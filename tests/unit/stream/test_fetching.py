"""What readers of a stream get from a remote: each block at once, whatever is in the cache."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from dvtool.remotes import remote
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.local.backend import LocalBackend
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
    get, decode = LocalBackend.get, remote.decode_object

    def noted_get(self: LocalBackend, key: str, *, size_max: int) -> bytes:
        collects.append(("ask", gc.isenabled()))
        return get(self, key, size_max=size_max)

    def noted_decode(*args: Any) -> Any:
        collects.append(("read", gc.isenabled()))
        return decode(*args)

    stream = Stream("data", repo=bare.path)
    stream.samples  # noqa: B018
    monkeypatch.setattr(LocalBackend, "get", noted_get)
    monkeypatch.setattr(remote, "decode_object", noted_decode)
    assert len(stream.read([0])) == 1
    assert set(collects) == {("ask", True), ("read", False)}
