"""A write through a mapping moves the stamps of a file that was read, dirty as its page may be."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dvtool.system import writeback
from dvtool.system.writeback import LeasedReader, show_mapped_writes
from tests.scenario import Clone, Remote

TICK_S = 0.02


@pytest.fixture
def mapped(disk_path: Path) -> Path:
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(disk_path)], capture_output=True, text=True
    ).stdout.strip()
    if sys.platform != "linux" or kind in ("tmpfs", "ramfs", "overlayfs"):
        pytest.skip(f"needs Linux and a disk, not {kind}")
    return disk_path


def test_a_write_after_it_moves_the_stamp(mapped: Path) -> None:
    path = mapped / "file"
    path.write_bytes(bytes(10_000))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        for number in range(5):
            pages[0] = number
            before = path.stat().st_mtime_ns
            time.sleep(TICK_S)
            _show(path)
            pages[0] = number + 100
            assert path.stat().st_mtime_ns > before


def test_a_mapping_made_after_it_moves_the_stamp_of_a_file_that_nobody_had_open(
    mapped: Path,
) -> None:
    path = mapped / "file"
    path.write_bytes(bytes(10_000))
    _show(path)
    before = path.stat().st_mtime_ns
    time.sleep(TICK_S)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 1
        assert path.stat().st_mtime_ns > before


def test_a_writer_that_comes_after_it_waits_for_nobody(mapped: Path) -> None:
    path = mapped / "file"
    path.write_bytes(bytes(10_000))
    with open(path, "rb") as file:
        show_mapped_writes(file.fileno(), os.fstat(file.fileno()).st_dev)
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # BlockingIOError while it is leased


def test_nobody_writes_a_leased_file_while_it_is_read(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mapped / "file"
    path.write_bytes(b"content")
    refused = []

    def read_beside_a_writer(fd: int, size: int, offset: int) -> bytes:
        with pytest.raises(BlockingIOError):
            os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        refused.append(True)
        return pread(fd, size, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", read_beside_a_writer)
    with open(path, "rb", buffering=0) as file:
        read = LeasedReader().read(file.fileno(), 7)
    assert read is not None
    assert read[0] == b"content"
    assert read[1] == path.stat()
    assert refused == [True]
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # it was only for as long as it was open


def test_a_file_that_can_be_written_or_is_not_as_expected_is_not_read_by_a_lease(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mapped / "file"
    path.write_bytes(b"content")
    with open(path, "r+b") as file:
        pages = mmap.mmap(file.fileno(), 0)
    with pages:
        assert _read_leased(path, 7) is None
    for size in (0, 6, 8):
        assert _read_leased(path, size) is None
    os.mkfifo(mapped / "pipe")
    assert _read_leased(mapped / "pipe", 0) is None
    assert _read_leased(path, 7) is not None
    monkeypatch.setattr(writeback, "_LEASED", frozenset())  # as an overlay maps another inode
    assert _read_leased(path, 7) is None


def test_a_lease_that_may_have_been_taken_away_proves_nothing(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mapped / "file"
    path.write_bytes(b"content")
    moments = iter([0.0, 0.5, 0.0, 1.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    assert _read_leased(path, 7) is not None
    assert _read_leased(path, 7) is None


def test_a_small_file_of_any_size_is_read_whole_or_not_at_all(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mapped / "file"
    path.write_bytes(b"content")
    with open(path, "rb", buffering=0) as file:
        read = LeasedReader().read_small(file.fileno(), 7)
    assert read is not None
    assert read == (b"content", path.stat())
    with open(path, "rb", buffering=0) as file:
        assert LeasedReader().read_small(file.fileno(), 6) is None
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, 5, offset))
    with open(path, "rb", buffering=0) as file:
        assert LeasedReader().read_small(file.fileno(), 7) is None


def _read_leased(path: Path, size: int) -> object:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        read = LeasedReader().read(fd, size)
        if read is None and path.is_file():  # nothing is left of the lease
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return read
    finally:
        os.close(fd)


def _show(path: Path) -> None:
    with open(path, "rb") as file:
        show_mapped_writes(file.fileno(), os.fstat(file.fileno()).st_dev)


def test_status_sees_what_is_written_through_a_mapping_after_an_add(mapped: Path) -> None:
    clone = Clone.new(mapped / "work", Remote(str(mapped / "remote")))
    clone.write("data/small", bytes(10_000))
    clone.write("data/large", bytes(200_000))
    for name in ("small", "large"):
        with open(clone.path / "data" / name, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
            for number in range(3):
                pages[0] = number + 1
                time.sleep(TICK_S)
                clone.add("data")
                with clone.repo() as repo:
                    assert repo.status()[0].modified == []  # and what it had to read is read
                pages[0] = number + 101
                with clone.repo() as repo:
                    assert list(repo.status()[0].modified) == [name]
