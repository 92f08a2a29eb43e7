"""New files in a folder that nobody looks into yet, which takes its place when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from dvtool.errors import UnsavedError
from dvtool.system.stat import Stamp
from dvtool.workspace.held_folders import HeldFolders, refuse_name
from dvtool.workspace.new_file import settled_time
from dvtool.workspace.opener import CLOEXEC, HAS_DIR_FD, NOFOLLOW
from dvtool.workspace.sparse import write_sparse
from dvtool.workspace.unnamed import UNKNOWN_SIZE

STAGED = "staged"
"""How the names of such folders begin."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC
_INHERITED = ("system.posix_acl_default", "security.selinux")
"""Attributes of a folder that what is made in it gets too."""
_INODE_MAX = (1 << 63) - 1


class StagedFiles:
    """Writes files below a folder straight under their names. Use as a context manager.

    A file that cannot be written is left out, and no part of it stays. For one thread.
    """

    def __init__(self, root: str) -> None:
        self._folders = HeldFolders(root)
        self._above: str | None = None
        """The folder of the file before, which nobody else moves, so that it need not be found."""
        self._at = -1

    def __enter__(self) -> StagedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()

    def write(self, path: str, data: bytes) -> Stamp | None:
        """Write a file; return its stamp, see `settled_time`, or None if it was left out."""
        above, _, name = path.rpartition("/")
        try:
            refuse_name(name, path)
            if self._above != above:
                self._above = None
                self._at, self._above = self._folders.open(above, create=True), above
            folder = self._at
            fd = os.open(name, _FLAGS, 0o666, dir_fd=folder)
        except (OSError, UnsavedError):
            return None
        try:
            try:
                write_sparse(fd, (memoryview(data),))
                settled = settled_time(fd)
                now = settled or os.fstat(fd)
            finally:
                os.close(fd)
        except BaseException as error:
            os.unlink(name, dir_fd=folder)
            if isinstance(error, OSError):
                return None
            raise
        is_sure = settled is not None and now.st_ino <= _INODE_MAX
        size = now.st_size if is_sure else UNKNOWN_SIZE
        return Stamp(now.st_mtime_ns, now.st_ctime_ns, size, min(now.st_ino, _INODE_MAX))


def staging_place(git_dir: str) -> str:
    """Return the folder that has the staged folders of a worktree."""
    return os.path.join(git_dir, "dv")


def sweep_staged(git_dir: str) -> int:
    """Remove what runs that were killed left staged; return how many bytes that were.

    Hold the worktree's lock: then no run goes on that needs it.
    """
    size = 0
    above = staging_place(git_dir)
    names = os.listdir(above) if os.path.isdir(above) else []
    for left in (os.path.join(above, name) for name in names if name.startswith(STAGED)):
        for folder, _, files in os.walk(left):
            with contextlib.suppress(OSError):
                size += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
        shutil.rmtree(left, ignore_errors=True)
    return size


def makes_alike(folder: str, other: str) -> bool:
    """Whether what is made in one folder can be moved into the other, and is as if made there.

    That is: they are on one disk, and hand on the same group, rights and label.
    """
    if not HAS_DIR_FD:
        return False
    try:
        first, second = os.stat(folder), os.stat(other)
        attributes = [_handed_on(each) for each in (folder, other)]
    except OSError:
        return False
    if first.st_dev != second.st_dev or attributes[0] != attributes[1]:
        return False
    # Some disks, and all of macOS, hand on the group whatever the bit says.
    return first.st_gid == second.st_gid and not (first.st_mode ^ second.st_mode) & stat.S_ISGID


def _handed_on(folder: str) -> list[bytes | None]:
    values: list[bytes | None] = []
    for name in _INHERITED:
        value = None
        if hasattr(os, "getxattr"):
            with contextlib.suppress(OSError):
                value = os.getxattr(folder, name)
        values.append(value)
    return values
