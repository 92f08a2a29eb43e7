"""Frames and shards that were read from remotes, kept in files that all processes share.

Frames are at their places in a file of their pack, which has holes elsewhere; a shard is a file.
Bytes that are damaged, cut short, a hole, gone or cannot be read are a miss: whoever reads them
checks them by their hashes, as if the remote had sent them. So nothing is flushed, and nothing has
to be mended after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from mmap import mmap
from typing import Literal, NamedTuple, TypeAlias

from dvtool.errors import BusyError, DvError
from dvtool.format.digest import Digest
from dvtool.format.locations import OBJECT_SIZE_MAX_BYTES
from dvtool.project.parts import Project
from dvtool.system.atomic import is_temp_name, share, write_bytes
from dvtool.system.locking import locked
from dvtool.system.logs import Log

FRAMES = "frames"
TAG = "CACHEDIR.TAG"
_TAG_TEXT = b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by dvtool; it may be removed.\n"
FREED_SHARE = 0.1
"""Once there is too much, so much more than needed goes, so that the next look is not soon."""
USED_EVERY_S = 60.0
"""The time of a file's last use is noted no more often."""
UNFINISHED_AGE_S = 3600.0
TURNS = 64
"""So many files to wait on there are, for good, whatever the number of things to get."""
TURN_S = 300.0
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_WRITE_FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_NO_FILE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""Somebody put a folder, a link or the like there: nothing is kept of this pack."""
LOOK_BYTES = 64
"""So much of a frame is looked at, to tell it from a hole."""
_HOLE = bytes(LOOK_BYTES)
_ENDLESS = sys.maxsize
WRITTEN_AT_ONCE_MAX = 512
"""Kernels take at most 1,024 pieces in one write."""
_LOG = Log("cache")

Buffer: TypeAlias = bytes | memoryview
Memory: TypeAlias = bytearray | mmap
NewMemory: TypeAlias = Callable[[int], Memory]
"""Returns memory of at least so many bytes, which nobody else uses."""


class CacheUsage(NamedTuple):
    """The size of a cache."""

    files: int
    """How many files."""
    bytes: int
    """Bytes of all files together."""


def default_folder(environ: Mapping[str, str]) -> str:
    """Return dvtool's folder in the user's cache folder: XDG_CACHE_HOME, or the system's own."""
    given = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # the specification has others passed over
        return os.path.join(given, "dvtool")
    home = environ.get("HOME") or os.path.expanduser("~")
    usual = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return os.path.join(home, *usual, "dvtool")


def cache_of(project: Project, environ: Mapping[str, str]) -> FrameCache | None:
    """Return the cache of what is read from remotes; None if its size is set to 0."""
    size = project.config.number("cache.size")
    given = project.config.text("cache.path")
    folder = os.path.join(project.root, os.path.expanduser(given)) if given else None
    return FrameCache(folder or default_folder(environ), size) if size else None


class PackSink:
    """Writes bytes of a pack to their place in the cache's file; a full disk is no error."""

    def __init__(self, offset: int, give_up: Callable[[Exception], None]) -> None:
        self.fd: int | None = None
        """Where it writes; without one, what comes is not kept."""
        self._offset = offset
        self._give_up = give_up

    def write(self, data: Buffer, /) -> None:
        """Take the next bytes."""
        left = memoryview(data)
        while left and self.fd is not None:
            try:
                written = os.pwrite(self.fd, left, self._offset)
            except OSError as error:
                self._give_up(error)
                self.close()
                return
            self._offset += written
            left = left[written:]

    def close(self) -> None:
        """Close the file."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)


class FrameCache:
    """A bounded cache in a folder; several processes and threads may use one.

    The least recently used go first. Each process looks at the whole again once it has written
    1/64 of the size, so it may be exceeded by so much for each process that writes.
    """

    def __init__(self, folder: str, size_max_bytes: int) -> None:
        self.folder = folder
        self.size_max_bytes = size_max_bytes
        self._top = os.path.join(folder, FRAMES)
        self._lock = threading.Lock()
        self._until_look = 0
        """How many bytes may be written before the next look at the whole."""
        self._broken = False

    def get(self, name: str, *, size_max: int) -> bytes | None:
        """Return what is kept under a name, unchecked; None if that is nothing, or too much."""
        path = self._path(name)
        try:
            fd = os.open(path, _READ_FLAGS)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > size_max:
                return None
            data = os.read(fd, status.st_size + 1)
            while len(data) < status.st_size and (more := os.read(fd, status.st_size)):
                data += more
            if time.time() - status.st_mtime > USED_EVERY_S:
                os.utime(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        return data

    def get_shards(self, shard: Digest) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes, unchecked, of what is kept of a shard, whichever remote had it."""
        start = shard_name("", shard)
        for entry in _folder_entries(os.path.dirname(self._path(start))):
            if entry.name.startswith(start) and not is_temp_name(entry.name):
                data = self.get(entry.name, size_max=OBJECT_SIZE_MAX_BYTES)
                if data is not None:
                    yield entry.name, data

    def get_frames(
        self,
        pack: Digest,
        frames: Sequence[tuple[int, int]],
        memory: NewMemory = bytearray,
    ) -> dict[int, memoryview]:
        """Return what is kept of a pack at offset and size of frames, unchecked, by offset.

        They are given in the order of their offsets; neighbours are read at once, into what
        `memory` returns. Holes, and what is cut short, are left out.
        """
        fd = self.open_pack(pack)
        if fd is None:
            return {}
        kept: dict[int, memoryview] = {}
        try:
            some = list(_frames_in(fd, frames))
            for begin, end, sizes in _adjoining(some):
                data = memoryview(memory(end - begin))[: end - begin]
                whole = begin + os.preadv(fd, [data], begin)
                for at, size in sizes:
                    if at + size <= whole:
                        kept[at] = data[at - begin :][:size]
        except OSError:
            pass
        finally:
            os.close(fd)
        return kept

    def open_pack(self, pack: Digest) -> int | None:
        """Return a descriptor of what is kept of a pack, each byte at its place; None for nothing.

        Bytes that are not kept are holes or the end of the file; the caller closes it.
        """
        try:
            fd = os.open(self._path(pack.hex()), _READ_FLAGS)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                if time.time() - status.st_mtime > USED_EVERY_S:
                    os.utime(fd)
                kept, fd = fd, -1
                return kept
        except OSError:
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        return None

    def absent(self, pack: Digest, frames: Mapping[int, int]) -> set[int]:
        """Return which frames of a pack, by offset with size, nothing is kept of."""
        fd = self.open_pack(pack)
        if fd is None:
            return set(frames)
        try:
            return {at for at, size in frames.items() if not frame_begins(fd, at, size)}
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def pack_sink(self, pack: Digest, offset: int, size: int) -> Iterator[PackSink]:
        """Give what takes `size` bytes of a pack from an offset on, as they come and unchecked."""
        path = self._path(pack.hex())
        sink = PackSink(offset, self._give_up)
        try:
            if not self._broken and size <= self.size_max_bytes:
                self._get_ready(path, size)
                fd = os.open(path, _WRITE_FLAGS, 0o666)
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    sink.fd = fd
                else:
                    os.close(fd)
        except (OSError, DvError) as error:
            if getattr(error, "errno", None) not in _NO_FILE:
                self._give_up(error)
        with contextlib.closing(sink):
            yield sink

    def put_frames(self, pack: Digest, frames: Sequence[tuple[int, Buffer]]) -> None:
        """Keep frames of a pack at their offsets, as `put` does; neighbours are written at once.

        Others may write the same bytes meanwhile.
        """
        path = self._path(pack.hex())
        size = sum(len(data) for _, data in frames)
        try:
            if self._broken or size > self.size_max_bytes:
                return
            self._get_ready(path, size)
            fd = os.open(path, _WRITE_FLAGS, 0o666)
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    for offset, neighbours in _holes_beside(frames):
                        os.pwritev(fd, neighbours, offset)
            finally:
                os.close(fd)
        except (OSError, DvError) as error:
            if getattr(error, "errno", None) not in _NO_FILE:
                self._give_up(error)

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes under a name, if there is room; a disk that cannot take them is no error."""
        if self._broken or len(data) > self.size_max_bytes:
            return
        path = self._path(name)
        try:
            self._get_ready(path, len(data))
            write_bytes(path, data, durable=False)
        except (OSError, DvError) as error:
            self._give_up(error)

    def drop(self, name: str) -> None:
        """Remove what is kept under a name."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(name))

    @contextlib.contextmanager
    def turn(self, name: bytes, kind: Literal["fetch", "list"] = "fetch") -> Iterator[None]:
        """Wait until nobody else gets what has this name, by hash, from a remote.

        Within a turn of one kind there may be one of the other, and none of the same.

        The kernel ends the turn of a process that was killed. Whoever has waited for `TURN_S`, or
        finds no disk to wait on, goes on: then a remote is asked twice.
        """
        lock = os.path.join(self.folder, f"{kind}-{name[0] % TURNS:02}.lock")
        with contextlib.ExitStack() as held:
            try:
                self._make_folders(self._top)
                held.enter_context(locked(lock, wait_s=TURN_S, busy="another process fetches it"))
            except (OSError, DvError) as error:
                _LOG.note("does not wait for its turn: %s", error)
            yield

    def usage(self) -> CacheUsage:
        """Return how much is kept."""
        sizes = [size for _, _, size in self._files()]
        return CacheUsage(len(sizes), sum(sizes))

    def clean(self) -> CacheUsage:
        """Remove all; return what was removed."""
        files = size = 0
        for path, _, file_size in self._files():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                files, size = files + 1, size + file_size
        return CacheUsage(files, size)

    # --- inside ---------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self._top, name[:2], name)

    def _get_ready(self, path: str, size: int) -> None:
        """Make the folder of a file and room for more bytes."""
        if not os.path.isdir(os.path.dirname(path)):
            self._make_folders(os.path.dirname(path))
        self._make_room(size)

    def _give_up(self, error: Exception) -> None:
        _LOG.note("nothing more is kept in %s: %s", self.folder, error)
        self._broken = True

    def _make_folders(self, folder: str) -> None:
        # Not `make_folders`: a flush of each of 256 folders waits for all files written so far.
        os.makedirs(folder, exist_ok=True)
        share(folder)
        write_tag(self.folder)

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._until_look -= size
            if self._until_look >= 0:
                return
            self._until_look = max(self.size_max_bytes // 64, 0)
        lock = os.path.join(self.folder, "frames.lock")
        # Another process that is at it makes room for this one too.
        with contextlib.suppress(BusyError), locked(lock, wait_s=0, busy="it makes room"):
            self._free(size)

    def _free(self, more: int) -> None:
        files = sorted(self._files(), key=lambda file: file[1])
        total = sum(size for _, _, size in files)
        step = self.size_max_bytes // 64
        if total + more + step <= self.size_max_bytes:
            return
        goal = self.size_max_bytes * (1 - FREED_SHARE) - more - step
        for path, _, size in files:
            if total <= goal:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size

    def _files(self) -> Iterator[tuple[str, float, int]]:
        """Yield path, time of last use and size of each file; old unfinished ones go."""
        for folder in _folder_entries(self._top):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for file in _folder_entries(folder.path):
                try:
                    status = file.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if is_temp_name(file.name):
                    if time.time() - status.st_mtime > UNFINISHED_AGE_S:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(file.path)
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    blocks = getattr(status, "st_blocks", status.st_size)
                    size = min(status.st_size, 512 * blocks)  # without holes
                    yield file.path, status.st_mtime, size


def _holes_beside(frames: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[int, list[Buffer]]]:
    """Join frames where one begins at the end of another: offset, and the bytes from there on."""
    begin = end = -1
    joined: list[Buffer] = []
    for offset, data in frames:
        if offset != end or len(joined) == WRITTEN_AT_ONCE_MAX:
            if joined:
                yield begin, joined
            begin, joined = offset, []
        joined.append(data)
        end = offset + len(data)
    if joined:
        yield begin, joined


def _frames_in(fd: int, frames: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the frames, in the order of their offsets, that are in a file as far as can be seen.

    A hole that the system knows of is passed by one call, whatever the number of frames in it.
    """
    hole_end = data_end = 0
    for at, size in frames:
        if at < hole_end:
            continue
        if at + size > data_end:
            begin = _next_data(fd, at)
            if begin > at:
                hole_end = begin
                continue
            data_end = _next_hole(fd, at)
        if at + size <= data_end and frame_begins(fd, at, size):
            yield at, size


def _next_data(fd: int, offset: int) -> int:
    """Return where data is from an offset on; the offset itself where the system cannot say."""
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return _ENDLESS if error.errno == errno.ENXIO else offset


def _next_hole(fd: int, offset: int) -> int:
    """Return where a hole is from an offset on; far away where the system cannot say."""
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE) if hasattr(os, "SEEK_HOLE") else _ENDLESS
    except OSError:
        return _ENDLESS


def frame_begins(fd: int, offset: int, size: int) -> bool:
    """Whether a frame begins at a place of a cache's file: else there is a hole, or the file's end.

    A place that the disk cannot read has none either.
    """
    try:
        begin = os.pread(fd, min(size, LOOK_BYTES), offset)
        if begin != _HOLE[: len(begin)]:
            return True
        # A raw frame that begins with zeros, of a file with much else, ends with others mostly.
        end = os.pread(fd, LOOK_BYTES, offset + size - LOOK_BYTES) if size > LOOK_BYTES else b""
    except OSError:
        return False
    return end != _HOLE[: len(end)]


def _adjoining(
    frames: Iterable[tuple[int, int]],
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Join frames, by offset and size, where one begins at the end of another."""
    begin = end = -1
    joined: list[tuple[int, int]] = []
    for offset, size in frames:
        if offset != end:
            if joined:
                yield begin, end, joined
            begin, joined = offset, []
        joined.append((offset, size))
        end = offset + size
    if joined:
        yield begin, end, joined


def write_tag(folder: str) -> None:
    """Mark a folder as a cache, which backups leave out (bford.info/cachedir)."""
    tag = os.path.join(folder, TAG)
    if not os.path.lexists(tag):
        write_bytes(tag, _TAG_TEXT, durable=False)


def shard_name(remote_id: str, shard: Digest) -> str:
    """Return the name of a shard object as one remote has it."""
    return f"{shard.hex()}-{remote_id}"


def _folder_entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
