"""A write through a mapping moves the stamps of a file that was read, dirty as its page may be."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dvtool.system.writeback import show_mapped_writes
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
