"""A new file of the workspace, which takes its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from dvtool.workspace.last_look import Believed, put, temp_for
from dvtool.workspace.opener import CLOEXEC, NOFOLLOW

COPY_SIZE_BYTES = 1 << 20
_BINARY = getattr(os, "O_BINARY", 0)


def write_at(
    name: str,
    folder: int | None,
    fill: Callable[[int], None],
    executable: bool,
    believed: Believed,
    path: str,
) -> os.stat_result:
    """Fill a new file and give it the name; return its stat when it was complete."""
    temp = temp_for(name, believed)
    mode = 0o777 if executable else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | CLOEXEC | _BINARY
    fd = os.open(temp, flags, mode, dir_fd=folder)
    try:
        try:
            fill(fd)
            complete = os.fstat(fd)
        finally:
            os.close(fd)
        put(temp, name, folder, believed, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=folder)
        raise
    return complete


def settled_time(fd: int) -> os.stat_result | None:
    """Set a new file's time to just before now as the disk counts; return its stat then.

    Whatever is written to it from now on, in this very tick or second, moves that. None if the
    disk does not take such a time: then the stamp proves nothing.
    """
    if os.utime not in os.supports_fd:
        return None
    file_stat = os.fstat(fd)
    try:
        os.utime(fd, ns=(file_stat.st_atime_ns, file_stat.st_mtime_ns - 1))
    except OSError:
        return None
    settled = os.fstat(fd)
    return settled if settled.st_mtime_ns < file_stat.st_mtime_ns else None


def copy_bytes(source: int, to: int, mode: int) -> None:
    """Copy the whole of one open file into another, which gets the mode."""
    os.lseek(source, 0, os.SEEK_SET)
    while data := memoryview(os.read(source, COPY_SIZE_BYTES)):
        while data:
            data = data[os.write(to, data) :]
    os.fchmod(to, mode)
