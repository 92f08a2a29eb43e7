"""The part of a file's stat that tells its kind, and one state of the file from another."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

import msgspec

EXECUTABLE = stat.S_IXUSR
"""The bit of a mode that manifests keep: that the owner may execute the file."""
_modes: dict[int, int] = {}
"""Each mode is held once for all files: an int of its own takes 32 bytes."""


class Stat(msgspec.Struct, frozen=True, gc=False):
    """The kind of a file and what shows a change of it; a third of an os.stat_result in size."""

    st_mode: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


UNSEEN = Stat(stat.S_IFREG, 0, -1, 0, 0)
"""Stands for the stat of a file, known to be an ordinary one, that nobody has looked at yet."""
GONE = Stat(stat.S_IFREG, 0, 0, 0, 0)
"""Stands for the stat of a file that is not there any more: whoever opens it says so."""


class Stamp(NamedTuple):
    """The fields of an lstat that tell one state of a file from another, under their own names."""

    st_mtime_ns: int
    st_ctime_ns: int
    st_size: int
    st_ino: int


def stat_of(stats: os.stat_result) -> Stat:
    """Return the part of a stat that `Stat` keeps."""
    mode = _modes.setdefault(stats.st_mode, stats.st_mode)
    return Stat(mode, stats.st_ino, stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns)


def is_executable(stats: Stat | os.stat_result) -> bool:
    """Whether the owner may execute the file."""
    return bool(stats.st_mode & EXECUTABLE)


def kind_name(mode: int) -> str:
    """Name a kind that is no file, folder or link ('a socket', …)."""
    kinds = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something special")
