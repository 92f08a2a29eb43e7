"""The memory that readings use: nobody's is given to another, and there is a bound to it."""

from __future__ import annotations

import threading
import tracemalloc
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from dvtool import snapshot
from dvtool.snapshots import file as files, source
from tests.scenario import Clone, Remote, noise

PART = 3 << 20


class _Together(list[Any]):
    """A list that two threads, each with memory, leave at the same time."""

    meeting = threading.Barrier(2)

    def append(self, item: Any, /) -> None:
        super().append(item)
        if isinstance(item, bytearray | mmap):
            self.meeting.wait(30)


def test_requests_side_by_side_have_memory_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that is in two packs, one window is received by two threads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    first, second = noise(PART, 1), noise(PART, 2)
    mine.write("first.bin", first)
    mine.add("first.bin")
    mine.write("both.bin", first + second)
    mine.add("both.bin")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    bare = mine.clone(tmp_path / "bare", remote)
    with snapshot(repo=bare.path) as data, data.open("both.bin", buffering=0) as file:
        monkeypatch.setattr(files, "list", _Together, raising=False)
        assert file.read(2 * PART) == first + second


def test_many_files_from_the_cache_take_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a bounded amount besides: not all frames are in memory before the first is taken."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "CACHED_AT_ONCE_BYTES", 256 << 10)
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    for number in range(200):
        mine.write(f"data/{number:03}", noise(50_000, number))
    mine.add("data")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    with snapshot(repo=mine.clone(tmp_path / "bare", remote).path) as data:
        data.prefetch(data.find("data"))
        contents = list(data.contents("data"))
        tracemalloc.start()
        read = data.read_contents(contents)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert read == [noise(50_000, number) for number in range(200)]
    assert peak < sum(map(len, read)) + (4 << 20)
