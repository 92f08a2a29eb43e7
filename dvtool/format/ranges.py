"""The one place that joins neighbouring stretches of a pack into ranges worth a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from dvtool.format.digest import Digest
from dvtool.format.locations import RemotePack
from dvtool.format.pack import Placement, chunk_in, unpack_frame

_IN_PACK = attrgetter("frame_offset", "start")


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """How far frames are joined into one range.

    `gap_bytes`: frames this close are joined, as the gap costs less than another request.
    `size_bytes`: no range of several frames is longer. `raw_bytes`, if given, bounds the size of
    all chunks of a range: a frame of a few bytes may unpack to a megabyte of zeros.
    """

    gap_bytes: int = 128 << 10
    size_bytes: int = 8 << 20
    raw_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PackRange:
    """A stretch of a pack to read, and the chunks to take out of it."""

    pack: RemotePack
    offset: int
    size: int
    places: tuple[Placement, ...]

    @property
    def memory_bytes(self) -> int:
        """Memory for reading the range: its bytes and its chunks; add one unpacked frame."""
        return self.size + sum(placement.size for placement in self.places)


def join(
    stretches: Iterable[tuple[int, int, int]], limits: RangeLimits
) -> Iterator[tuple[int, int, int]]:
    """Join stretches, given as (offset, size, raw size) in the order of their offsets.

    Yields begin and end of each range, and how many of the stretches are in it, in order.
    """
    gap, size_max, raw_max = limits.gap_bytes, limits.size_bytes, limits.raw_bytes
    begin = end = raw = count = 0
    for offset, size, raw_size in stretches:
        near = offset <= end + gap and offset + size - begin <= size_max
        if count and not (near and (raw_max is None or raw + raw_size <= raw_max)):
            yield begin, end, count
            raw = count = 0
        if not count:
            begin = end = offset
        end = max(end, offset + size)
        raw += raw_size
        count += 1
    if count:
        yield begin, end, count


def join_ranges(
    pack: RemotePack, placements: Iterable[Placement], limits: RangeLimits
) -> Iterator[PackRange]:
    """Yield the ranges of a pack to read for these chunks of it, each chunk in one of them."""
    order = sorted(placements, key=_IN_PACK)
    at = 0
    stretches = (
        (placement.frame_offset, placement.frame_size, placement.size) for placement in order
    )
    for begin, end, count in join(stretches, limits):
        yield PackRange(pack, begin, end - begin, tuple(order[at : at + count]))
        at += count


def chunks_in_range(
    span: PackRange, data: memoryview, *, where: str
) -> Iterator[tuple[Digest, bytes]]:
    """Yield the chunks of a range, in the order of its places, out of its bytes in the pack.

    CorruptError, naming `where`, if a frame cannot be unpacked or a chunk has other bytes than its
    name says.
    """
    frame_offset, raw = -1, memoryview(b"")
    for placement in span.places:
        if placement.frame_offset != frame_offset:
            frame_offset = placement.frame_offset
            start = frame_offset - span.offset
            raw = memoryview(unpack_frame(data[start : start + placement.frame_size], where=where))
        chunk = chunk_in(raw, placement.start, placement.size, placement.digest, where=where)
        yield placement.digest, bytes(chunk)
