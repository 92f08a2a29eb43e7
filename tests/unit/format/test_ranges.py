"""Which ranges of a pack are read: joined, and bounded by what they take and what they give."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dvtool.errors import CorruptError
from dvtool.format.digest import digest_of
from dvtool.format.locations import RemotePack
from dvtool.format.pack import RAW, Placement
from dvtool.format.ranges import PackRange, RangeLimits, chunks_in_range, join, join_ranges

LIMITS = RangeLimits(raw_bytes=16 << 20)
GAP_BYTES, SIZE_BYTES, RAW_BYTES = LIMITS.gap_bytes, LIMITS.size_bytes, 16 << 20
PACK = RemotePack(bytes(32), 64 << 20)


def place(offset: int, frame_size: int, raw_size: int, start: int = 0) -> Placement:
    return Placement(digest_of(b"%d %d" % (offset, start)), offset, frame_size, start, raw_size)


def every(ranges: Iterable[PackRange]) -> list[Placement]:
    return [one for part in ranges for one in part.places]


def test_neighbours_are_joined_across_small_gaps() -> None:
    places = [
        place(0, 1000, 1000),
        place(1000 + GAP_BYTES, 1000, 1000),
        place(2001 + 2 * GAP_BYTES, 10, 10),
    ]
    ranges = list(join_ranges(PACK, reversed(places), LIMITS))
    assert [(one.offset, one.size) for one in ranges] == [
        (0, 2000 + GAP_BYTES),
        (2001 + 2 * GAP_BYTES, 10),
    ]
    assert every(ranges) == places


def test_a_range_has_a_largest_size() -> None:
    places = [place(number << 20, 1 << 20, 1 << 20) for number in range(20)]
    ranges = list(join_ranges(PACK, places, LIMITS))
    assert [one.size for one in ranges] == [SIZE_BYTES, SIZE_BYTES, 4 << 20]
    assert every(ranges) == places


def test_what_compresses_well_is_bounded_by_what_it_unpacks_to() -> None:
    """A thousand frames of 256 KiB of zeros lie in 30 KB of a pack."""
    places = [place(number * 30, 30, 256 << 10) for number in range(1000)]
    ranges = list(join_ranges(PACK, places, LIMITS))
    assert len(ranges) == 16
    assert all(one.memory_bytes <= RAW_BYTES + one.size for one in ranges)
    assert every(ranges) == places


def test_chunks_that_claim_to_lie_in_one_frame_are_bounded_too() -> None:
    """A hostile list may let any number of large chunks overlap in one frame."""
    places = [place(0, 100, 4 << 20, start) for start in range(100)]
    ranges = list(join_ranges(PACK, places, LIMITS))
    assert all(one.memory_bytes <= RAW_BYTES + one.size for one in ranges)
    assert every(ranges) == places


def test_without_a_bound_on_what_they_unpack_to_only_stored_bytes_count() -> None:
    places = [place(number * 30, 30, 256 << 10) for number in range(1000)]
    (span,) = join_ranges(PACK, places, RangeLimits())
    assert (span.offset, span.size, span.places) == (0, 30_000, tuple(places))


def test_stretches_are_joined_without_knowing_their_chunks() -> None:
    limits = RangeLimits(gap_bytes=10, size_bytes=100)
    stretches = [(5, 10, 0), (20, 5, 0), (36, 4, 0), (50, 90, 0), (145, 1, 0), (151, 200, 0)]
    assert list(join(stretches, limits)) == [
        (5, 25, 2),
        (36, 40, 1),  # one byte too far away
        (50, 146, 2),
        (151, 351, 1),  # longer than a range may be, but it is a single frame
    ]
    assert list(join([], limits)) == []


def test_overlapping_stretches_end_with_the_longest() -> None:
    assert list(join([(0, 50, 0), (10, 5, 0), (55, 5, 0)], RangeLimits(10, 100))) == [(0, 60, 3)]


def test_chunks_come_out_of_a_range_checked() -> None:
    one, two, three = b"one", b"second", b"three"
    frames = [RAW + one + two, RAW + three]
    places = (
        Placement(digest_of(one), 100, len(frames[0]), 0, len(one)),
        Placement(digest_of(two), 100, len(frames[0]), len(one), len(two)),
        Placement(digest_of(three), 100 + len(frames[0]), len(frames[1]), 0, len(three)),
    )
    data = b"".join(frames)
    span = PackRange(PACK, 100, len(data), places)
    assert list(chunks_in_range(span, memoryview(data), where="here")) == [
        (digest_of(chunk), chunk) for chunk in (one, two, three)
    ]
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(CorruptError, match="here"):
            list(chunks_in_range(span, memoryview(broken), where="here"))
