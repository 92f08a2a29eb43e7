"""The memory that readings use: nobody's is given to another, and there is a bound to it."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from dvtool import Snapshot, snapshot
from dvtool.format.chunker import sizes_for
from dvtool.snapshots import file as files, source
from dvtool.snapshots.cache import Memory
from tests.scenario import Clone, Remote, noise

PART = 3 << 20
CALL = 256 << 10
CHUNK_MAX_BYTES = sizes_for(2 * PART).maximum
FIRST, SECOND = noise(PART, 1), noise(PART, 2)


class _Together(list[Any]):
    """A list that two threads, each with memory, leave at the same time."""

    meeting = threading.Barrier(2)

    def append(self, item: Any, /) -> None:
        super().append(item)
        if isinstance(item, bytearray | mmap):
            self.meeting.wait(30)


@pytest.fixture
def two_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshot]:
    """A commit with a file whose halves, `FIRST` and `SECOND`, are in two packs of a remote."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    mine.write("first.bin", FIRST)
    mine.add("first.bin")
    mine.write("both.bin", FIRST + SECOND)
    mine.add("both.bin")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    with snapshot(repo=mine.clone(tmp_path / "bare", remote).path) as data:
        yield data


def test_requests_side_by_side_have_memory_of_their_own(
    two_packs: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One window is received by two threads."""
    with two_packs.open("both.bin", buffering=0) as file:
        monkeypatch.setattr(files, "list", _Together, raising=False)
        assert file.read(2 * PART) == FIRST + SECOND


def test_a_window_of_several_requests_takes_no_more_memory_than_one(
    two_packs: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of one window may be in many packs: each is a request of its own."""
    sizes: list[int] = []
    new_room = files._new_room

    def noted(size: int) -> Memory:
        sizes.append(size)
        return new_room(size)

    monkeypatch.setattr(files, "_new_room", noted)
    with two_packs.open("both.bin", buffering=0) as file:
        assert file.read(2 * PART) == FIRST + SECOND
    assert len(sizes) > 1
    assert sum(sizes) <= files.FAR_WINDOW_BYTES


def test_memory_to_spare_is_that_of_the_windows_which_are_there_at_a_time(
    two_packs: Snapshot,
) -> None:
    with two_packs.open("both.bin", buffering=0) as file:
        for _ in range(3):
            file._left += [files._new_room(files.ROOM_BYTES) for _ in range(files.SPARE_MAX)]
            file._reuse_left()
        assert len(file._spare) == files.SPARE_MAX


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the windows that files read from now on; they are small."""
    sizes: list[int] = []
    read = files.SnapshotFile._read

    def noted(self: files.SnapshotFile, begin: int, end: int) -> Any:
        sizes.append(end - begin)
        return read(self, begin, end)

    monkeypatch.setattr(files.SnapshotFile, "_read", noted)
    monkeypatch.setattr(files, "FAR_WINDOW_BYTES", 512 << 10)
    monkeypatch.setattr(files, "BACKGROUND_MIN_BYTES", 128 << 10)
    return sizes


@pytest.mark.parametrize("calls", [1, 2, 3, 5, 8])
def test_ahead_is_at_most_twice_what_was_read(
    two_packs: Snapshot, windows: list[int], calls: int
) -> None:
    with two_packs.open("both.bin", buffering=0) as file:
        for _ in range(calls):
            file.read(CALL)
    assert CALL * calls <= sum(windows) <= CALL * (1 + 3 * (calls - 1)) + CHUNK_MAX_BYTES


def test_small_calls_are_read_by_few_windows(two_packs: Snapshot, windows: list[int]) -> None:
    """Each window is as large as all that is on its way, until they are whole ones."""
    with two_packs.open("both.bin", buffering=0) as file:
        while file.read(CALL // 8):
            pass
    assert sum(windows) == 2 * PART
    assert len(windows) <= 2 * PART // (512 << 10) * 3 // 2 + 6


def test_a_stretch_that_a_buffer_asks_for_by_two_calls_has_little_more_read(
    two_packs: Snapshot, windows: list[int]
) -> None:
    with two_packs.open("both.bin", buffering=0) as file:
        file.seek(PART // 2)
        file.read(4 * CALL)
        file.read(CALL // 8)
    assert sum(windows) <= 4 * CALL + 3 * CALL // 8 + 2 * CHUNK_MAX_BYTES


def test_a_closed_file_holds_no_memory(
    two_packs: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[weakref.ref[Memory]] = []
    new_room = files._new_room

    def noted(size: int) -> Memory:
        room = new_room(size)
        rooms.append(weakref.ref(room))
        return room

    monkeypatch.setattr(files, "_new_room", noted)
    monkeypatch.setattr(files, "FAR_WINDOW_BYTES", PART // 2)
    monkeypatch.setattr(files, "REUSED_MIN_BYTES", 1)  # so that the last window has one, too
    file = two_packs.open("both.bin", buffering=0)
    while file.read(PART // 4):
        pass
    assert any(room() is not None for room in rooms)
    file.close()
    gc.collect()
    assert not any(room() is not None for room in rooms)


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
