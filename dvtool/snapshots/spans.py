"""Ranges of a remote's packs: which are read at once, and the frames in what came."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from dvtool.format.pack import Placement, chunk_in, unpack_frame
from dvtool.format.ranges import PackRange, RangeLimits, join_ranges
from dvtool.remotes.objects import pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.snapshots.cache import PackSink
from dvtool.snapshots.layouts import AT_SOURCE, PackPieces
from dvtool.snapshots.referenced import ReadFrame

KEPT_BLOCK_BYTES = 256 << 10
"""Received bytes are written to the cache in blocks of so many bytes at least."""


def frame_runs(packs: PackPieces, limits: RangeLimits) -> Iterator[tuple[int, PackRange]]:
    """Yield the ranges of remotes' packs that are one request each, with the remotes' numbers."""
    for (place, pack), placements in packs.items():
        if place != AT_SOURCE:
            distinct = {placement.digest: placement for placement in placements}
            for span in join_ranges(pack, distinct.values(), limits):
                yield place, span


class PackRoom:
    """A sink that takes at most so many bytes, into memory of that size, and passes them on."""

    def __init__(self, memory: memoryview, kept: PackSink | None, offset: int) -> None:
        self._memory = memory
        self._kept = kept
        self._offset = offset
        self._end = self._passed = 0

    def whole(self) -> memoryview:
        """Return the bytes that came, once all did."""
        self._pass_on(self._end)
        return self._memory[: self._end]

    def write(self, data: bytes, /) -> None:
        """Take bytes; ValueError for more than there is room for."""
        self._memory[self._end : self._end + len(data)] = data
        self.filled(len(data))

    def room(self, size: int, /) -> memoryview:
        """Return the memory of the next bytes."""
        return self._memory[self._end :][:size]

    def filled(self, size: int, /) -> None:
        """Take bytes that were received there."""
        self._end += size
        # Up to whole blocks of the file: pages that two writes share cost a third more.
        self._pass_on(self._end - (self._offset + self._end) % KEPT_BLOCK_BYTES)

    def _pass_on(self, end: int) -> None:
        if self._kept is not None and end > self._passed:
            self._kept.write(self._memory[self._passed : end])
            self._passed = end

    def stated(self, md5: bytes | None, /) -> None:
        """Let it be: nothing is freed for what comes here."""


def read_span(remote: RemoteStore, place: int, span: PackRange, room: PackRoom) -> list[ReadFrame]:
    """Return the wanted frames of a range of a pack, received into `room`; CorruptError if bad."""
    where = f"{remote.url}: {pack_key(span.pack.digest)}"
    remote.read_pack(span.pack.digest, room, offset=span.offset, size=span.size)
    data, frames = room.whole(), list[ReadFrame]()
    for (offset, size), group in groupby(span.places, key=_frame_of):
        stored = data[offset - span.offset :][:size]
        raw = unpack_frame(stored, where=where)
        placements = tuple(group)
        for chunk in placements:
            chunk_in(raw, chunk.start, chunk.size, chunk.digest, where=where)
        frames.append(ReadFrame(place, span.pack, offset, stored, raw, placements))
    return frames


def _frame_of(placement: Placement) -> tuple[int, int]:
    return placement.frame_offset, placement.frame_size
