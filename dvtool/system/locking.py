"""Locks between processes: the kernel's where the disk has them, a file of its own elsewhere.

flock(2) goes with the process, however it ends. Some disks have none: NFS without lockd (ENOLCK),
Lustre mounted without it (ENOSYS). There a file beside the lock says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator

from dvtool.errors import BusyError, SetupError, printable
from dvtool.system.atomic import share
from dvtool.system.logs import Log, Watch

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

HELD_SUFFIX = ".held"
POLL_S = 0.05
HOLDER_SIZE_MAX_BYTES = 1024
_BUSY = frozenset({errno.EACCES, errno.EAGAIN})
_LOG = Log("locks")
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


@contextlib.contextmanager
def locked(path: str, *, wait_s: float, busy: str) -> Iterator[None]:
    """Hold the lock of the file `path`, made if need be, whose folder is there.

    BusyError, which says `busy`, if another process holds it for longer than `wait_s`.
    """
    deadline_s, watch = time.monotonic() + wait_s, Watch()
    fd = _open(path)
    try:
        share(path)
        if not _flocked(fd, deadline_s, busy):
            with _marked(path + HELD_SUFFIX, deadline_s, busy):
                _LOG.note("has the lock %s, without flock, after %s", path, watch)
                yield
            return
        try:
            _LOG.note("has the lock %s after %s", path, watch)
            yield
        finally:
            # Not left to the close: a process that was forked meanwhile has the file open too.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    # Who may write to a shared folder can put a link in the lock's place: it is not followed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SetupError(
            f"{printable(path)} is a symlink, and no lock",
            hint=f"see who put it there, then: rm {printable(path)}",
        ) from error


def _flocked(fd: int, deadline_s: float, busy: str) -> bool:
    """Take the kernel's lock; return False if this disk has none."""
    while fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            if error.errno not in _BUSY:
                raise
        _wait(deadline_s, busy)
    return False


@contextlib.contextmanager
def _marked(path: str, deadline_s: float, busy: str) -> Iterator[None]:
    """Hold a lock that is a file: whoever can make it has the lock, and removes it."""
    holder = f"{platform.node()} {os.getpid()}\n".encode()
    while not _made(path, holder):
        _refuse_left(path)
        _wait(deadline_s, busy, f"if that cannot be: rm {printable(path)}")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _made(path: str, holder: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(fd, holder)
    finally:
        os.close(fd)
    return True


def _refuse_left(path: str) -> None:
    """SetupError for the file of a process of this machine that is gone.

    It is not taken over: of two who do that at once, the later would remove the earlier's lock.
    """
    try:
        with open(path, "rb") as file:
            host, _, number = file.read(HOLDER_SIZE_MAX_BYTES).decode().strip().rpartition(" ")
        if host != platform.node():
            return
        os.kill(int(number), 0)
    except ProcessLookupError as error:
        raise SetupError(
            f"a dv command that was killed (process {number}) left its lock {printable(path)}",
            hint=f"if no other dv command is at work: rm {printable(path)}",
        ) from error
    except (OSError, ValueError, OverflowError):
        return


def _wait(deadline_s: float, busy: str, besides: str = "") -> None:
    if time.monotonic() >= deadline_s:
        hint = "wait for it to end, then repeat the command"
        raise BusyError(busy, hint=f"{hint}; {besides}" if besides else hint)
    time.sleep(POLL_S)
