"""Flushing and replacing of files."""

from __future__ import annotations

import os
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
