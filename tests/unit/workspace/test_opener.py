"""Opening for reading: no component of a path is ever followed through a link."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dvtool.workspace.opener import FILE_FLAGS, HELD_MAX, NOATIME, Opener, reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside/b").mkdir(parents=True)
    (tmp_path / "outside/b/f").write_text("theirs")
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/f").write_text("ours")
    (tmp_path / "root/a/g").write_text("ours too")
    (tmp_path / "root/top").write_text("top")
    return tmp_path / "root"


def content(opener: Opener, path: str) -> str:
    with open(opener.file(path)) as file:
        return file.read()


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_neighbours_share_the_folders_on_the_way(root: Path) -> None:
    before = open_fds()
    with Opener(str(root)) as opener:
        for _ in range(2):
            assert content(opener, "a/b/f") == "ours"
            assert content(opener, "a/g") == "ours too"
            assert content(opener, "top") == "top"
        assert opener.folder("a/b") == opener.folder("a/b")
        assert content(opener, "a/b/f") == "ours"
        assert open_fds() == before + 3
    assert open_fds() == before


@pytest.mark.parametrize("path", ["link/b/f", "a/link/f", "a/flink", "a/../a/g", "a/./g", ".."])
def test_links_and_dots_are_not_followed(root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "a/link").symlink_to(root.parent / "outside/b")
    (root / "a/flink").symlink_to(root.parent / "outside/b/f")
    with Opener(str(root)) as opener:
        with pytest.raises(OSError) as caught:
            os.close(opener.file(path + "/x" if path == ".." else path))
        assert reason(caught.value)
        # And what was opened on the way is of use afterwards.
        assert content(opener, "a/g") == "ours too"


def test_what_was_opened_is_read_not_what_took_its_place(root: Path) -> None:
    with Opener(str(root)) as opener:
        assert content(opener, "a/b/f") == "ours"
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to(root.parent / "outside")
        assert content(opener, "a/b/f") == "ours"
        assert content(opener, "top") == "top"  # lets go of a
        with pytest.raises(OSError) as caught:
            opener.file("a/b/f")
    assert "symlink" in reason(caught.value)


def test_deep_paths_take_few_descriptors(root: Path) -> None:
    path = root
    for _ in range(3 * HELD_MAX):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "f").write_text("deep")
    before = open_fds()
    inner = str(path.relative_to(root))
    with Opener(str(root)) as opener:
        for _ in range(2):
            assert content(opener, f"{inner}/f") == "deep"
            assert open_fds() <= before + HELD_MAX
            assert content(opener, "a/g") == "ours too"
    assert open_fds() == before


def test_a_pipe_in_the_place_of_a_file_does_not_block(root: Path) -> None:
    os.mkfifo(root / "a/pipe")
    with Opener(str(root)) as opener:
        os.close(opener.file("a/pipe"))


@pytest.mark.skipif(not hasattr(os, "O_NOATIME"), reason="needs a system with O_NOATIME")
def test_reading_leaves_no_time_of_access(disk_path: Path) -> None:
    path = disk_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (1, 2))  # the next reading would be noted: it was not read since it was written
    with Opener(str(disk_path)) as opener:
        fd = opener.file("file")
        assert os.read(fd, 10) == b"content"
        os.close(fd)
    assert path.stat().st_atime == 1


def test_files_of_others_are_opened_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses O_NOATIME for the file of another user."""
    (tmp_path / "file").write_bytes(b"content")
    flags_seen: list[int] = []
    system_open = os.open

    def refusing(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path == "file":
            flags_seen.append(flags)
            if flags & NOATIME:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return system_open(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    with Opener(str(tmp_path)) as opener:
        for _ in range(2):
            os.close(opener.file("file"))
    assert flags_seen == [FILE_FLAGS | NOATIME, FILE_FLAGS, FILE_FLAGS]
