"""A file of a snapshot, open for reading: seekable, and as much in memory as a few frames."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from dvtool.format.digest import Digest, hasher
from dvtool.snapshots.contents import Content
from dvtool.snapshots.layouts import IN_STORE, Layout, PlacedChunk
from dvtool.snapshots.source import ContentSource, not_the_content
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

AHEAD_BYTES = 32 << 20
"""Of a file that is read in order so much comes from a remote at once, by several requests, while
the caller has as much before it. With frames on their way this takes up to 128 MiB of memory,
whatever the size of the file; from the local store up to 16 MiB; reading elsewhere, one chunk, at
most 4 MiB, and its frame."""
BACKGROUND_MIN_BYTES = 1 << 20
LOCAL_BYTES = 4 << 20
"""So much of the local store is read and checked at once in order, beside the caller's work."""
BUFFER_BYTES = 128 << 10


_NumberedChunks: TypeAlias = tuple[Layout, dict[int, memoryview]]
"""A layout, and chunks by their number in it."""


class SnapshotFile(io.RawIOBase):
    """The bytes of one file of a snapshot. `name` is its path from the top of the repository.

    A read takes the frames that it touches. Where reads follow one another, more is got
    ahead. All bytes are checked: CorruptError comes before bytes that are not the file's. It
    may be used by several threads, one after the other.
    """

    def __init__(self, contents: Callable[[], ContentSource], content: Content) -> None:
        super().__init__()
        self.name = content.path
        self.mode = "rb"
        self._contents = contents
        self._content = content
        self._position = 0
        self._lock = threading.RLock()
        self._layout: Layout | None = None
        self._chunks: dict[int, memoryview] = {}
        """Chunks at hand by their number in the layout."""
        self._next = -1
        """The chunk that comes next if the file is read in order."""
        self._run_begin = self._run_calls = self._call_end = 0
        """Of the calls that follow one another: where the first begins, how many there were before
        the last, and where that ends."""
        self._ahead_bytes = 0
        """How much is read beyond what a call wants."""
        self._coming: tuple[int, int, futures.Future[_NumberedChunks]] | None = None
        """The first chunk of what is read ahead, by which process, and the result."""
        self._pool: futures.ThreadPoolExecutor | None = None
        self._pid = 0
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
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer from the position on; return how many bytes there were."""
        self._require_open()
        view = memoryview(buffer).cast("B")
        with self._lock:
            self._begin_call(len(view))
            filled = 0
            while filled < len(view) and self._position < self._content.size:
                chunk, begin = self._chunk_at(self._position)
                part = chunk[self._position - begin :][: len(view) - filled]
                view[filled : filled + len(part)] = part
                filled += len(part)
                self._position += len(part)
            return filled

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, fewer only at the end; all that is left without a size."""
        if size is None or size < 0:
            return self.readall()
        self._require_open()
        with self._lock:
            parts = []
            left = min(size, self._content.size - self._position)
            self._begin_call(left)
            while left > 0:
                chunk, begin = self._chunk_at(self._position)
                part = chunk[self._position - begin :][:left]
                parts.append(part)
                left -= len(part)
                self._position += len(part)
            return b"".join(parts)

    def readall(self) -> bytes:
        """Return the rest of the file."""
        data = bytearray(max(self._content.size - self._position, 0))
        return bytes(memoryview(data)[: self.readinto(data)])

    def close(self) -> None:
        """Let go of what is in memory."""
        self._chunks, coming, self._coming = {}, self._coming, None
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            if coming is not None:
                coming[2].cancel()
            pool.shutdown(wait=True, cancel_futures=True)
        super().close()

    # --- inside ---------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    def _begin_call(self, size: int) -> None:
        """Note which bytes are wanted now: a read elsewhere begins a new run of reads."""
        in_order = self._position == self._call_end
        self._run_calls = self._run_calls + 1 if in_order else 0
        if not in_order:
            self._run_begin = self._position
        # A buffer asks for a large stretch, such as a column of a table, by two calls: a large one
        # and a small one. So what the calls took alone would get too much.
        most = size << min(self._run_calls, 16)
        self._ahead_bytes = min(self._position - self._run_begin, most)
        self._call_end = min(self._position + size, self._content.size)

    def _chunk_at(self, position: int) -> tuple[memoryview, int]:
        """Return the chunk that has the byte at a position, and where the chunk begins."""
        if self._layout is None:
            layouts = self._contents().layouts([self._content])
            self._layout = layouts[self._content.digest]
        number = self._layout.numbers(position, position + 1).start
        if number not in self._chunks:
            self._get(number)
        return self._chunks[number], self._layout.begin(number)

    def _get(self, number: int) -> None:
        """Have the chunk of a number at hand, and begin to read what comes after it."""
        window = self._taken_ahead(number) if number == self._next else None
        if window is None:
            assert self._layout is not None
            window = self._read(number, self._limit(self._layout.begin(number)))
        self._layout, self._chunks = window
        self._check(number)
        self._next = max(self._chunks) + 1
        begin = self._layout.begin(self._next)
        limit = self._limit(begin)
        if self._next < len(self._layout.pieces) and limit - begin >= BACKGROUND_MIN_BYTES:
            self._begin_ahead(self._next, limit)

    def _limit(self, begin: int) -> int:
        """Return how far to read from a place on: what the caller wants now, or more ahead."""
        return max(self._call_end, begin + self._ahead_bytes)

    def _read(self, number: int, limit: int) -> _NumberedChunks:
        """Read the chunk of a number and those after it up to a limit."""
        contents, windows = self._contents(), list[_NumberedChunks]()

        def read(layouts: dict[bytes, Layout]) -> None:
            layout = layouts[self._content.digest]
            numbers = _ahead(layout, number, limit)
            wanted = {layout.pieces[at].chunk: layout.pieces[at] for at in numbers}
            views = _room_for(wanted)
            contents.chunks(wanted.values(), lambda chunk, data: _copy(data, views[chunk]))
            windows.append((layout, {at: views[layout.pieces[at].chunk] for at in numbers}))

        contents.trying([self._content], read)
        return windows[-1]

    def _begin_ahead(self, number: int, limit: int) -> None:
        """Begin to read and check what comes next, while the caller works on what it has."""
        if self._pool is None or self._pid != os.getpid():
            self._pool, self._pid = futures.ThreadPoolExecutor(1, "dv-ahead"), os.getpid()
        self._coming = number, self._pid, self._pool.submit(self._read, number, limit)

    def _taken_ahead(self, number: int) -> _NumberedChunks | None:
        coming, self._coming = self._coming, None
        if coming is None or coming[:2] != (number, os.getpid()):
            return None
        return coming[2].result()

    def _check(self, number: int) -> None:
        """Hash a file that is read in order, if only a remote said which chunks make it."""
        layout = self._layout
        assert layout is not None
        if layout.proven or layout.begin(number) != self._hashed:
            return
        for chunk in self._chunks.values():
            self._whole.update(chunk)
            self._hashed += len(chunk)
        if self._hashed == self._content.size:
            if self._whole.digest() != self._content.digest:
                self._chunks = {}
                raise not_the_content(self._content)
            self._contents().set_proven(self._content.digest)


def _ahead(layout: Layout, number: int, limit: int) -> range:
    """Return the numbers of the pieces to read at once, to have what is before the limit."""
    end, begin = number + 1, layout.begin(number)
    at_once = LOCAL_BYTES if layout.pieces[number].place == IN_STORE else AHEAD_BYTES
    while (
        end < len(layout.pieces)
        and layout.begin(end) < limit
        and layout.ends[end] - begin <= at_once
    ):
        end += 1
    return range(number, end)


def _room_for(pieces: Mapping[Digest, PlacedChunk]) -> dict[Digest, memoryview]:
    """Return room in memory for each of the chunks, all of it together."""
    sizes = [piece.located.placement.size for piece in pieces.values()]
    room = memoryview(bytearray(sum(sizes)))
    ends = accumulate(sizes)
    return {
        chunk: room[end - size : end] for chunk, size, end in zip(pieces, sizes, ends, strict=True)
    }


def _copy(data: memoryview, room: memoryview) -> None:
    room[:] = data


def open_content(
    raw: SnapshotFile,
    mode: str,
    buffering: int,
    text: tuple[str | None, str | None, str | None],
) -> SnapshotFile | io.BufferedReader[SnapshotFile] | io.TextIOWrapper:
    """Return a file as `open` would for a mode; `text` is encoding, errors and newline."""
    letters = set(mode)
    if len(letters) != len(mode) or letters - set("rwxabt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    if letters & set("wxa+"):
        raise io.UnsupportedOperation(
            f"mode {mode!r}: a snapshot is only read; change the file in the worktree, then: dv add"
        )
    if "r" not in letters:
        raise ValueError("Must have exactly one of create/read/write/append mode")
    if "b" in letters:
        for name, value in zip(("an encoding", "an errors", "a newline"), text, strict=True):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {name} argument")
        if buffering == 1:
            buffering = -1
        if buffering == 0:
            return raw
    elif buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    size = BUFFER_BYTES if buffering < 2 else buffering
    buffered = io.BufferedReader(raw, size)
    if "b" in letters:
        return buffered
    wrapped = io.TextIOWrapper(buffered, *text)
    wrapped.mode = mode  # type: ignore[misc]
    return wrapped
