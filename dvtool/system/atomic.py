"""Writing files so that a crash leaves the old content or the new, never a mixture.

A new file gets a temporary name in the same folder, is flushed to the disk, then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

from dvtool.system.heard import while_hearing
from dvtool.system.lazy import later
from dvtool.system.room import NEEDED

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMP_PREFIX = ".dv-tmp-"
"""Prefix of dvtool's unfinished files: walks pass over them, fsck and gc remove them."""

FLUSHES_MAX = 8
"""So many files are flushed side by side, where there are several."""
T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_SHARED = stat.S_ISGID | stat.S_IWGRP
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_TEMP_NAME = re.compile(
    re.escape(TEMP_PREFIX) + r"[0-9]+-(?:([0-9a-f]{16})-([0-9a-f]{0,32})-|export-)?[0-9a-f]{12}"
)
_EXPORT_NAME = re.compile(re.escape(TEMP_PREFIX) + r"[0-9]+-export-[0-9a-f]{12}")


def is_temp_name(name: str) -> bool:
    """Whether a name is one that a function here makes; a user's may begin alike."""
    return _TEMP_NAME.fullmatch(name) is not None


def temp_name() -> str:
    """Return a fresh name for an unfinished file."""
    return f"{TEMP_PREFIX}{os.getpid()}-{os.urandom(6).hex()}"


def temp_name_of_export() -> str:
    """Return a fresh name for an unfinished file of an export, which has it locked."""
    return f"{TEMP_PREFIX}{os.getpid()}-export-{os.urandom(6).hex()}"


def is_of_export(name: str) -> bool:
    """Whether a name is one that `temp_name_of_export` makes: no other unfinished file's."""
    return _EXPORT_NAME.fullmatch(name) is not None


class Aside(NamedTuple):
    """The parts of an aside name, in hex: of what was believed to be there, and of its name.

    `digest` is the beginning of a digest, `mark` stands for the name of what was to be replaced.
    """

    mark: str
    digest: str


def aside_name(digest: bytes, mark: bytes) -> str:
    """Return a fresh name for what takes the place of something, or is moved out of the way.

    `mark` are 8 bytes; see `Aside`.
    """
    return f"{TEMP_PREFIX}{os.getpid()}-{mark.hex()}-{digest.hex()[:32]}-{os.urandom(6).hex()}"


def parse_aside(name: str) -> Aside | None:
    """Return what an aside name says, None if it is none."""
    match = _TEMP_NAME.fullmatch(name)
    return Aside(match[1], match[2]) if match and match[1] else None


def flush_to_disk(fd: int) -> None:
    """Return once the bytes of `fd`, a file or folder, would survive a power cut.

    On macOS fsync(2) ends when the drive has the bytes, perhaps only in its cache; F_FULLFSYNC
    waits until the drive has written them, where the filesystem supports it.
    """
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):
            while_hearing(partial(fcntl.fcntl, fd, _FULL_SYNC))
            return
    while_hearing(partial(os.fsync, fd))


def flush_file(path: str) -> None:
    """Return once the bytes of a file that others have written would survive a power cut."""
    with open(path, "r+b", buffering=0) as file:
        flush_to_disk(file.fileno())


def share(path: str) -> None:
    """Give a new file or folder to the group, where its parent folder is shared with the group.

    A folder is shared if it is group-writable and passes its group on (setgid), as
    `git init --shared` leaves it. All users of the group can then use the file, whatever the
    umask of its writer.
    """
    above = os.stat(os.path.dirname(path) or ".").st_mode
    if above & _SHARED != _SHARED:
        return
    try:
        # Who may write to the folder can put a link here: what that leads to keeps its mode.
        fd = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, errno.EPERM):
            return  # a link, or another user's
        raise
    try:
        share_open(fd, above)
    finally:
        os.close(fd)


def share_open(fd: int, above: int) -> None:
    """Do as `share` does to an open file or folder; `above` is the mode of the folder it is in.

    Another user's files are left to that user.
    """
    if above & _SHARED != _SHARED:
        return
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        return
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        wanted = mode | _SHARED | stat.S_IRWXG | (above & stat.S_IRWXO)
    else:
        wanted = mode | stat.S_IRGRP | stat.S_IWGRP | (above & stat.S_IROTH)
    if wanted != mode:
        os.fchmod(fd, stat.S_IMODE(wanted))


def sync_folder(path: str) -> None:
    """Make renames in a folder durable (a no-op where folders cannot be opened, as on Windows)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        flush_to_disk(fd)
    finally:
        os.close(fd)


def sync_folders(paths: Iterable[str]) -> None:
    """Make renames in several folders durable, with fewer waits for the disk."""
    _all_done(sync_folder, sorted(paths))


def make_folders(path: str) -> None:
    """Make a folder and those above it, each durable, and shared as the one above it is."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above and above != path:
        make_folders(above)
    try:
        os.mkdir(path)
        share(path)
    except FileExistsError:
        if not os.path.isdir(path):  # else another process was faster
            raise
    sync_folder(above or ".")


@contextlib.contextmanager
def naming_full_disk(path: str, needed_bytes: int | None = None) -> Iterator[None]:
    """Say `path` of a disk that is found to be full in here, where the error names no file.

    `needed_bytes` is what is to be written at most; `room.needed_of` finds it in the error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            if error.filename is None:
                error.filename = path
            if needed_bytes is not None:
                vars(error).setdefault(NEEDED, needed_bytes)
        raise


@contextlib.contextmanager
def unfinished(path: str) -> Iterator[BinaryIO]:
    """Yield a new binary file at a temporary path; it stays, flushed, if the block ends well."""
    try:
        with open(path, "xb") as file:
            yield file
            file.flush()
            flush_to_disk(file.fileno())
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


@contextlib.contextmanager
def replacing(path: str, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of `path` when the block ends well.

    When the block raises, `path` is untouched and the temporary file is gone.
    """
    folder = os.path.dirname(path) or "."
    temp = os.path.join(folder, temp_name())
    try:
        with open(temp, "xb") as file:
            yield file
            file.flush()
            share(temp)
            if durable:
                flush_to_disk(file.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    if durable:
        sync_folder(folder)


def write_bytes(path: str, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `path` with `data`."""
    with replacing(path, durable=durable) as file:
        file.write(data)


def write_all(contents: Sequence[tuple[str, bytes]]) -> None:
    """Replace the content of several files, as `write_bytes` does, with fewer waits for the disk.

    An error may leave some of them replaced, each whole. All are durable at the end.
    """
    if len(contents) == 1:
        write_bytes(*contents[0])
        return
    temps: dict[str, str] = {}
    try:
        with contextlib.ExitStack() as opened:
            descriptors = []
            for path, data in contents:
                temp = os.path.join(os.path.dirname(path) or ".", temp_name())
                temps[temp] = path
                file = opened.enter_context(open(temp, "xb"))
                file.write(data)
                file.flush()
                share(temp)
                descriptors.append(file.fileno())
            _all_done(flush_to_disk, descriptors)
        for temp, path in temps.items():
            os.replace(temp, path)
    except BaseException:
        for temp in temps:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
        raise
    sync_folders({os.path.dirname(path) or "." for path, _ in contents})


def _all_done(call: Callable[[T], object], arguments: Sequence[T]) -> None:
    """Call with each argument, side by side: a disk's journal is written once for all that wait.

    An error, of a call or a signal's handler, is raised once no call is under way any more: the
    caller closes what they work on.
    """
    if len(arguments) < 2:
        for argument in arguments:
            call(argument)
        return
    pool = futures.ThreadPoolExecutor(FLUSHES_MAX, "dv-flush")
    calls: list[futures.Future[object]] = []
    interruption: BaseException | None = None
    try:
        calls += (pool.submit(call, argument) for argument in arguments)
        futures.wait(calls, return_when=futures.FIRST_EXCEPTION)
    except BaseException as error:
        interruption = error
    while True:
        try:
            pool.shutdown(cancel_futures=True)
            break
        except BaseException as error:
            interruption = interruption or error
    if interruption is not None:
        raise interruption
    for each in calls:
        if not each.cancelled():
            each.result()


def read_own_file(path: str, *, size_max_bytes: int) -> bytes | None:
    """Return the bytes of a small file that `write_bytes` left; None if there is no such file.

    A link, a pipe, a folder or a file above that size is none: dvtool made no such thing.
    """
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError:
        return None
    try:
        stats = os.fstat(fd)
        if not stat.S_ISREG(stats.st_mode) or stats.st_size > size_max_bytes:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read(size_max_bytes)
    finally:
        os.close(fd)
