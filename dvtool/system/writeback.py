"""Reading files that others may write to, through a mapping or else, meanwhile.

A write through a mapping shows in a file's stamps only where it makes a clean page dirty. Linux
moves the times at the page fault. Until the system has written the page, later writes of the same
mapping move nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Protocol

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import ctypes
else:
    ctypes = later("ctypes")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_START = 2
"""SYNC_FILE_RANGE_WRITE: begin to write the dirty pages, and wait for nothing."""


_LEASED = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems whose inode knows of every mapping. Overlays are not: they map another inode."""


_IGNORED_SIGNAL = int(signal.SIGURG) if sys.platform != "win32" else 0
_LEASE_TRUSTED_S = 1.0
"""For so long after it was given nobody takes a lease away, whoever waits for it."""


class _FlushCall(Protocol):
    def __call__(self, fd: int, offset: int, size: int, flags: int) -> int: ...


def show_mapped_writes(fd: int, device: int) -> None:
    """Let every write through a mapping from now on move the stamps of an open file.

    A file that nobody has open for writing needs nothing: a mapping made later moves them with its
    first write. Otherwise its dirty pages begin their way to the disk, and nobody waits for them.
    This has no effect on files without a disk (tmpfs) that are mapped, nor on systems without
    sync_file_range(2). `device` is the file's st_dev.
    """
    if sys.platform != "linux" or (_file_systems().get(device) in _LEASED and _has_no_writer(fd)):
        return
    call = _flush_call()
    if call is not None:
        call(fd, 0, 0, _START)


def begin_to_write(path: str) -> None:
    """Have the disk begin to write a new file, where the system can; nobody waits for it."""
    call = _flush_call()
    if call is not None:
        with open(path, "rb", buffering=0) as file:
            call(file.fileno(), 0, 0, _START)


def _has_no_writer(fd: int) -> bool:
    """Return whether no descriptor and no mapping can write the file: only then it can be leased.

    The lease is given back at once. Who opens the file for writing meanwhile waits that long, and
    the signal that this sends is one that is ignored unless somebody asks for it.
    """
    try:
        control = fcntl.fcntl
        control(fd, fcntl.F_SETSIG, _IGNORED_SIGNAL)
        control(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        control(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:  # a writer, another user's file, or no leases there
        return False
    return True


class LeasedReader:
    """Reads small files whole while it holds a lease on them, which is in the fewest calls.

    A lease is given only on a regular file that no descriptor and no mapping can write, and who
    opens it for writing then waits until it is closed: bytes and stat belong together. Whether
    the signal that this sends would end the process is looked up once.
    """

    def __init__(self) -> None:
        self._usable = sys.platform == "linux" and _lease_lasts()
        self._sends_signal = self._usable and signal.getsignal(signal.SIGIO) != signal.SIG_IGN

    def read(self, fd: int, size: int) -> tuple[bytes, os.stat_result] | None:
        """Return the bytes and the stat of an open file of `size` bytes, to be closed at once.

        None, with nothing said of the file, where there is no lease, or it has another size. The
        descriptor's position stays as it is.
        """
        read = self.read_small(fd, size)
        if read is not None and read[1].st_size == size:
            return read
        if self._usable:
            with contextlib.suppress(OSError):  # there is none, or it was taken away
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return None

    def read_small(self, fd: int, size_max: int) -> tuple[bytes, os.stat_result] | None:
        """Do as `read`, whatever size the file has up to `size_max`.

        It is to be closed at once also after None: the lease may be there still.
        """
        if not self._usable:
            return None
        given_s = time.monotonic()
        try:
            if self._sends_signal:
                fcntl.fcntl(fd, fcntl.F_SETSIG, _IGNORED_SIGNAL)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            data = os.pread(fd, size_max + 1, 0)
            stats = os.fstat(fd)
        except OSError:
            # A writer, another user's file, no regular file, or no leases there. Or a damaged disk:
            # who reads the file otherwise says of what.
            return None
        if (
            len(data) == stats.st_size <= size_max
            and _file_systems().get(stats.st_dev) in _LEASED
            and time.monotonic() - given_s < _LEASE_TRUSTED_S
        ):
            return data, stats
        return None


def gives_leases(path: str) -> bool:
    """Whether files on the disk of a path, of this user, can be read by a `LeasedReader`."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return False
    return sys.platform == "linux" and _file_systems().get(device) in _LEASED and _lease_lasts()


@cache
def _lease_lasts() -> bool:
    """Whether the system leaves a lease for longer than `_LEASE_TRUSTED_S` to who has it."""
    try:
        with open("/proc/sys/fs/lease-break-time", "rb") as file:
            seconds = int(file.read())
    except (OSError, ValueError):
        return False
    return seconds == 0 or seconds > 2 * _LEASE_TRUSTED_S  # 0: it is never taken away


@cache
def _file_systems() -> dict[int, str]:
    """Return the type of each mounted file system, by its device number."""
    types: dict[int, str] = {}
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            for line in mounts:
                fields = line.split()
                major, minor = map(int, fields[2].split(b":"))
                name = fields[fields.index(b"-", 6) + 1]
                types[os.makedev(major, minor)] = os.fsdecode(name)
    except (OSError, ValueError, IndexError):
        return {}
    return types


@cache
def _flush_call() -> _FlushCall | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    answer: _FlushCall = function
    return answer
