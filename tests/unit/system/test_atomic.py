"""Flushing and replacing of files."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from dvtool.system import atomic


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fcntl")
def test_a_filesystem_without_a_full_flush_gets_the_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that no fcntl(2) knows stands for F_FULLFSYNC on a filesystem without it."""
    flushed = []
    fsync = os.fsync

    def count(fd: int) -> None:
        flushed.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", count)
    monkeypatch.setattr(atomic, "_FULL_SYNC", 0x7FFF)
    with open(tmp_path / "a", "wb") as file:
        file.write(b"x")
        atomic.flush_to_disk(file.fileno())
        assert flushed == [file.fileno()]


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic.write_bytes(str(path), b"old")
    with pytest.raises(ZeroDivisionError), atomic.replacing(str(path)) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files are named by /proc")
def test_of_several_files_each_is_flushed_before_its_rename_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append(("flushed", os.readlink(f"/proc/self/fd/{fd}")))

    def noted_replace(old: str, new: str) -> None:
        done.append(("renamed", old))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    contents = [(str(folders[n % 3] / f"file{n}"), b"%d" % n) for n in range(20)]

    atomic.write_all(contents)

    assert {path: Path(path).read_bytes() for path, _ in contents} == dict(contents)
    renames = [place for place, (act, _) in enumerate(done) if act == "renamed"]
    assert len(renames) == len(contents)
    for place in renames:
        assert ("flushed", done[place][1]) in done[:place]
    for folder in folders:
        assert ("flushed", str(folder)) in done[renames[-1] :]


def test_several_files_are_left_as_they_were_if_one_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [OSError(errno.EIO, "of a damaged disk")]
    fsync = os.fsync

    def failing_fsync(fd: int) -> None:
        if failing:
            raise failing.pop()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing_fsync)

    with pytest.raises(OSError, match="of a damaged disk"):
        atomic.write_all([(str(tmp_path / f"file{n}"), b"new") for n in range(5)])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_raised_once_no_file_is_being_flushed_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors that are closed then may at once be other files'."""
    begun, ended = [], []

    def slow_flush(fd: int) -> None:
        begun.append(fd)
        if len(begun) == 9:  # by when all are waited for
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        os.fstat(fd)
        ended.append(fd)

    monkeypatch.setattr(atomic, "flush_to_disk", slow_flush)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_all([(str(tmp_path / f"file{n}"), b"new") for n in range(12)])
    assert sorted(begun) == sorted(ended)
    assert list(tmp_path.iterdir()) == []


def test_no_mode_is_changed_beyond_a_link(tmp_path: Path) -> None:
    """Whoever may write to a shared folder can put a link into it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    outside.chmod(0o600)
    (shared / "link").symlink_to(outside)
    (shared / "file").write_bytes(b"")
    (shared / "file").chmod(0o600)
    for name in ("link", "file"):
        atomic.share(str(shared / name))
    assert outside.stat().st_mode & 0o777 == 0o600
    assert (shared / "file").stat().st_mode & 0o777 == 0o660
