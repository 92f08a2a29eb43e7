"""A file of a snapshot, open for reading: seekable, and as much in memory as a few frames."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from dvtool.errors import DvError
from dvtool.format.digest import Digest, hasher
from dvtool.snapshots.cache import Memory, NewMemory
from dvtool.snapshots.contents import Content, not_the_content
from dvtool.snapshots.layouts import IN_STORE, Layout, PlacedChunk
from dvtool.snapshots.source import ContentSource
from dvtool.system.calls import here
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

FAR_WINDOW_BYTES = (8 << 20) + (256 << 10)
"""The part of a file on a remote that is read and checked at once, by one request if its frames lie
together. Four of them are a pack: it ends where the next begins."""
AHEAD_BYTES = 5 * FAR_WINDOW_BYTES
"""Of a file that is read in order so much comes from a remote ahead of the caller, window by window
and side by side. With frames on their way this takes up to 128 MiB of memory, whatever the size of
the file; from the local store up to 8 MiB; reading elsewhere, one chunk, at most 4 MiB, and its
frame."""
AHEAD_THREADS = AHEAD_BYTES // FAR_WINDOW_BYTES
AHEAD_TIMES = 2
"""Of a file that is read in order, up to so many times what the calls took is read ahead."""
BACKGROUND_MIN_BYTES = 1 << 20
LOCAL_WINDOW_BYTES = 2 << 20
LOCAL_AHEAD_BYTES = 4 << 20
"""So much of the local store is read and checked beside the caller's work. It is little, so that
memory which was used just now is used again: new memory costs more than the copy into it."""
REUSED_MIN_BYTES = 1 << 20
"""Memory for what a window has of the local store is used again from this size on."""
FAR_REUSED_MIN_BYTES = FAR_WINDOW_BYTES // 2
"""Memory for a request is used again from this size on: a window has one such request. Were it
used again for each of many small ones, each would come to take as much as a window."""
ROOM_BYTES = 10 << 20
"""Such memory has this size, if that is enough, so that each is enough for the next window; it
takes no more of the machine's than is written to."""
SPARE_MAX = AHEAD_BYTES // FAR_WINDOW_BYTES + 2
"""So many windows there are at a time: those ahead, the one at hand and the one before it."""
HASHED_AS_GIVEN_MIN_BYTES = 64 << 10
"""The bytes of a call are hashed together from this size on: by chunk takes half as long again."""
BUFFER_BYTES = 128 << 10


class _ReadWindow(NamedTuple):
    """Chunks of a file that follow one another, where each begins, and by which layout."""

    layout: Layout
    begins: Sequence[int]
    chunks: Sequence[memoryview]
    rooms: Sequence[Memory]
    """The memory that the chunks are in, which another window may use later."""

    @property
    def end(self) -> int:
        """Where the last chunk ends."""
        return self.begins[-1] + len(self.chunks[-1])


class _Coming(NamedTuple):
    """A window that is being read: where it begins and ends, and the result."""

    begin: int
    end: int
    result: futures.Future[_ReadWindow]


class SnapshotFile(io.RawIOBase):
    """The bytes of one file of a snapshot. `name` is its path from the top of the repository.

    A read takes the frames that it touches. Where reads follow one another, more is got
    ahead. All bytes are checked: CorruptError comes before bytes that are not the file's. After
    an error each read raises it again until `seek`: else the bytes that came before it would be
    passed over. It may be used by several threads, one after the other.
    """

    def __init__(self, contents: Callable[[], ContentSource], content: Content) -> None:
        super().__init__()
        self.name = content.path
        self.mode = "rb"
        self._contents = contents
        self._content = content
        self._position = 0
        self._failed: Exception | None = None
        """The error of a call, which may have lost bytes; until the caller says where to go on."""
        self._lock = threading.RLock()
        self._window: _ReadWindow | None = None
        self._coming: deque[_Coming] = deque()
        """The reads ahead, each behind the one before."""
        self._spare: list[Memory] = []
        """Memory that no window uses any more."""
        self._left: list[Memory] = []
        """Memory of windows that the call under way has left, and of which it may have views."""
        self._run_begin = self._run_calls = self._call_end = 0
        """Of the calls that follow one another: where the first begins, how many there were before
        the last, and where that ends."""
        self._ahead_bytes = 0
        """How much is read beyond what a call wants."""
        self._pool: futures.ThreadPoolExecutor | None = None
        self._pid = 0
        self._stop = threading.Event()
        self._whole = hasher()
        self._hashed = 0
        """How many bytes from the beginning were hashed, as far as the file was read in order."""

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._content.size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        self._require_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, as of any file; nothing is read."""
        self._require_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}
        if whence not in start:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if start[whence] + offset < 0:
            raise ValueError(f"negative seek value {start[whence] + offset}")
        self._position = start[whence] + offset
        self._failed = None
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer from the position on; return how many bytes there were."""
        self._require_open()
        with memoryview(buffer).cast("B") as view, self._lock:  # no error keeps the buffer in use
            start = self._begin_call(len(view))
            try:
                self._read_on()
                while (filled := self._position - start) < len(view) and not self._is_at_end():
                    chunk, begin = self._chunk_at(self._position)
                    self._reuse_left()  # all before was copied
                    part = chunk[self._position - begin :][: len(view) - filled]
                    view[filled : filled + len(part)] = part
                    self._position += len(part)
            except BaseException as error:
                self._fail(error, start)
                raise
            return filled

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, fewer only at the end; all that is left without a size."""
        if size is None or size < 0:
            return self.readall()
        self._require_open()
        with self._lock:
            parts = []
            left = min(size, self._content.size - self._position)
            start = self._begin_call(left)
            try:
                self._read_on()
                while left > 0:
                    chunk, begin = self._chunk_at(self._position)
                    part = chunk[self._position - begin :][:left]
                    parts.append(part)
                    left -= len(part)
                    self._position += len(part)
                data = b"".join(parts)
                self._reuse_left()  # only now: the parts were views
                self._hash_given(data)
            except BaseException as error:
                self._fail(error, start)
                raise
            return data

    def readall(self) -> bytes:
        """Return the rest of the file."""
        start = self._position
        try:
            data = bytearray(max(self._content.size - start, 0))
            return bytes(memoryview(data)[: self.readinto(data)])
        except BaseException as error:  # such as no memory for the copy
            self._fail(error, start)
            raise

    def close(self) -> None:
        """Let go of what is in memory."""
        self._window = self._failed = None
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        for held in (self._coming, self._spare, self._left):
            held.clear()
        super().close()

    # --- inside ---------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def _is_at_end(self) -> bool:
        return self._position >= self._content.size

    def _reuse_left(self) -> None:
        self._spare += [room for room in self._left if len(room) >= ROOM_BYTES]
        self._left.clear()
        del self._spare[:-SPARE_MAX]

    def _fail(self, error: BaseException, start: int) -> None:
        """Have later calls raise the error of this one: nobody has the bytes that it had read.

        The position alone does not do: a buffer that asked for them has lost bytes of its own.
        """
        self._position = start
        if isinstance(error, Exception):
            self._failed = error
        else:
            self._failed = DvError(
                f"a read of {self.name} was interrupted",
                hint="seek to where to go on, or open the file again",
            )

    def _begin_call(self, size: int) -> int:
        """Note which bytes are wanted now: a read elsewhere begins a new run of reads.

        Returns the position. Raises the error of a call before, if no `seek` came after it.
        """
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        in_order = self._position == self._call_end
        self._run_calls = self._run_calls + 1 if in_order else 0
        if not in_order:
            self._run_begin = self._position
        # A buffer asks for a large stretch, such as a column of a table, by two calls: a large one
        # and a small one. So what the calls took alone would get too much.
        most = size << min(self._run_calls, 16)
        self._ahead_bytes = min(AHEAD_TIMES * (self._position - self._run_begin), most)
        self._call_end = min(self._position + size, self._content.size)
        return self._position

    def _chunk_at(self, position: int) -> tuple[memoryview, int]:
        """Return the chunk that has the byte at a position, and where the chunk begins."""
        window = self._window
        if window is None or not window.begins[0] <= position < window.end:
            window = self._next_window(position)
        number = bisect_right(window.begins, position) - 1
        return window.chunks[number], window.begins[number]

    def _next_window(self, position: int) -> _ReadWindow:
        """Have the window of a position at hand, and begin to read what comes after it."""
        before, self._window = self._window, None
        layout = self._known_layout() if before is None else before.layout
        if before is not None:
            self._hash_rest(before)
            self._left += before.rooms
        if not self._is_coming(position):
            self._coming.clear()
            begin = layout.begin(layout.numbers(position, position + 1).start)
            if self._call_end - begin > _window_bytes(layout, begin):
                self._begin_ahead(layout, begin)
        if self._is_coming(position):
            window = self._coming.popleft().result.result()
        else:
            end = _end_of_window(layout, position, self._limit(position))
            window = self._read(position, end)
        if window.end == self._content.size:
            self._check_whole(window)
        self._window = window
        self._begin_ahead(window.layout, window.end)
        return window

    def _known_layout(self) -> Layout:
        return self._contents().layouts([self._content])[self._content.digest]

    def _is_coming(self, position: int) -> bool:
        if not self._coming or self._pid != os.getpid():
            return False
        return self._coming[0].begin <= position < self._coming[0].end

    def _limit(self, begin: int) -> int:
        """Return how far to read from a place on: what the caller wants now, or more ahead."""
        return max(self._call_end, begin + self._ahead_bytes)

    def _begin_ahead(self, layout: Layout, begin: int) -> None:
        """Begin to read and check what comes from a place on, while the caller works."""
        if self._pool is None or self._pid != os.getpid():
            self._coming.clear()
        limit = min(self._limit(begin), self._content.size)
        at = self._coming[-1].end if self._coming else begin
        while at < limit and at - begin < _ahead_bytes(layout, begin):
            if limit - at < self._least_ahead(layout, begin, at):
                return
            end = _end_of_window(layout, at, limit)
            self._coming.append(_Coming(at, end, self._submitted(at, end)))
            at = end

    def _least_ahead(self, layout: Layout, begin: int, at: int) -> int:
        """Return how much is worth a read of its own, behind those that are on their way.

        As much as all of these have, up to a window: else each call would ask for its own share.
        """
        if not self._coming:
            return BACKGROUND_MIN_BYTES
        if at < self._call_end:  # the caller waits for it
            return 0
        return min(max(at - begin, BACKGROUND_MIN_BYTES), _window_bytes(layout, begin))

    def _read_on(self) -> None:
        """Begin to read what comes after all that is at hand or on its way, if that is worth it."""
        if self._window is not None and self._ahead_bytes:
            self._begin_ahead(self._window.layout, self._window.end)

    def _submitted(self, begin: int, end: int) -> futures.Future[_ReadWindow]:
        if self._pool is None or self._pid != os.getpid():
            self._pid, self._stop = os.getpid(), threading.Event()
            self._pool = futures.ThreadPoolExecutor(
                AHEAD_THREADS, "dv-ahead", initializer=setattr, initargs=(here, "stop", self._stop)
            )
        return self._pool.submit(self._read, begin, end)

    def _read(self, begin: int, end: int) -> _ReadWindow:
        """Read the chunks that have the bytes from a place up to another."""
        contents, windows = self._contents(), list[_ReadWindow]()

        def read(layouts: dict[bytes, Layout]) -> None:
            layout = layouts[self._content.digest]
            numbers = layout.numbers(begin, end)
            pieces = {layout.pieces[at].chunk: layout.pieces[at] for at in numbers}
            rooms = list[Memory]()

            def memory(size: int, reused_min: int = FAR_REUSED_MIN_BYTES) -> Memory:
                # The last of them may be another thread's already: requests go side by side.
                room = self._memory(size, reused_min)
                rooms.append(room)
                return room

            local = [piece for piece in pieces.values() if piece.place == IN_STORE]
            views = _views(partial(memory, reused_min=REUSED_MIN_BYTES), local) if local else {}

            def take(chunk: Digest, data: memoryview) -> None:
                if pieces[chunk].place == IN_STORE:
                    views[chunk][:] = data
                else:  # of what is not in the store, the bytes stay as they are
                    views[chunk] = data

            contents.chunks(pieces.values(), take, memory)
            chunks = [views[layout.pieces[at].chunk] for at in numbers]
            begins = [layout.begin(at) for at in numbers]
            windows.append(_ReadWindow(layout, begins, chunks, rooms))

        contents.trying([self._content], read)
        return windows[-1]

    def _memory(self, size: int, reused_min: int) -> Memory:
        """Return memory of at least so many bytes: that of a window before, if it is enough."""
        if size < reused_min:  # a part of a window must not take the memory of a whole one
            return _new_room(size) if size >= REUSED_MIN_BYTES else bytearray(size)
        with contextlib.suppress(IndexError):  # another thread may take the last one
            room = self._spare.pop()
            if len(room) >= size:
                return room
        return _new_room(max(size, ROOM_BYTES))

    # A file that is read in order is hashed, if only a remote said which chunks make it.

    def _hash_given(self, data: bytes) -> None:
        """Hash the bytes before the position, which a call is about to give, if they are next."""
        new = self._position - self._hashed
        if HASHED_AS_GIVEN_MIN_BYTES <= new <= len(data) and self._is_unproven():
            self._whole.update(memoryview(data)[-new:])
            self._hashed = self._position

    def _hash_rest(self, window: _ReadWindow) -> None:
        """Hash what was not hashed yet of a window, if that follows what was."""
        if self._hashed < window.begins[0] or window.layout.proven:
            return
        for begin, chunk in zip(window.begins, window.chunks, strict=True):
            new = begin + len(chunk) - self._hashed
            if new > 0:
                self._whole.update(chunk[-new:])
                self._hashed += new

    def _check_whole(self, window: _ReadWindow) -> None:
        """Compare the hash of a file of which the last window came, before any of that is given."""
        self._hash_rest(window)
        if window.layout.proven or self._hashed != self._content.size:
            return
        if self._whole.digest() != self._content.digest:
            raise not_the_content(self._content)
        self._contents().set_proven(self._content.digest)

    def _is_unproven(self) -> bool:
        return self._window is not None and not self._window.layout.proven


def _new_room(size: int) -> Memory:
    """Return memory that goes back to the system as soon as nobody uses it.

    The memory of a thread's bytearray stays in the thread's heap: half as much again.
    """
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return bytearray(size)
    # Private: else a child after a fork would see what its parent reads.
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            room.madvise(mmap.MADV_HUGEPAGE)
    return room


def _views(memory: NewMemory, pieces: Sequence[PlacedChunk]) -> dict[Digest, memoryview]:
    """Return memory for each of the chunks, all of it together."""
    sizes = [piece.located.placement.size for piece in pieces]
    ends, view = accumulate(sizes), memoryview(memory(sum(sizes)))
    return {
        piece.chunk: view[end - size : end]
        for piece, size, end in zip(pieces, sizes, ends, strict=True)
    }


def _is_local(layout: Layout, begin: int) -> bool:
    numbers = layout.numbers(begin, begin + 1)
    return numbers.start < len(layout.pieces) and layout.pieces[numbers.start].place == IN_STORE


def _window_bytes(layout: Layout, begin: int) -> int:
    return LOCAL_WINDOW_BYTES if _is_local(layout, begin) else FAR_WINDOW_BYTES


def _ahead_bytes(layout: Layout, begin: int) -> int:
    return LOCAL_AHEAD_BYTES if _is_local(layout, begin) else AHEAD_BYTES


def _end_of_window(layout: Layout, begin: int, limit: int) -> int:
    """Return where the last chunk of a window ends, that has what is before the limit.

    A window has one chunk at least, and of several no more bytes than make one. One that is half
    full ends with its pack: the next pack takes another request.
    """
    number = layout.numbers(begin, begin + 1).start
    begin = layout.begin(number)
    size = _window_bytes(layout, begin)
    end = min(bisect_left(layout.ends, limit) + 1, bisect_right(layout.ends, begin + size))
    end = min(max(end, number + 1), len(layout.ends))
    half = bisect_right(layout.ends, begin + size // 2, number, end)
    for other in range(max(half, number + 1), end):
        if layout.pieces[other].located.pack != layout.pieces[other - 1].located.pack:
            return layout.ends[other - 1]
    return layout.ends[end - 1]
