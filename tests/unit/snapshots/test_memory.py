"""The memory that readings use: nobody's is given to another, and there is a bound to it."""

from __future__ import annotations

import threading
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from dvtool import snapshot
from dvtool.snapshots import file as files
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
