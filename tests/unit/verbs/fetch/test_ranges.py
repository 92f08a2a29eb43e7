"""Which ranges of a pack are read: joined, and bounded by what they take and what they give."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.format.locations import RemotePack
from dvtool.format.pack import Placement
from dvtool.store.local import LocalStore
from dvtool.verbs.fetch.download import (
    GAP_MAX_BYTES,
    RANGE_MAX_BYTES,
    RANGE_RAW_MAX_BYTES,
    Range,
    _RangeWriter,
    join_ranges,
)

PACK = RemotePack(bytes(32), 64 << 20)


def place(offset: int, frame_size: int, raw_size: int, start: int = 0) -> Placement:
    return Placement(digest_of(b"%d %d" % (offset, start)), offset, frame_size, start, raw_size)


def every(ranges: Iterable[Range]) -> list[Placement]:
    return [one for part in ranges for one in part.places]


def test_neighbours_are_joined_across_small_gaps() -> None:
    places = [
        place(0, 1000, 1000),
        place(1000 + GAP_MAX_BYTES, 1000, 1000),
        place(2001 + 2 * GAP_MAX_BYTES, 10, 10),
    ]
    ranges = join_ranges(PACK, reversed(places))
    assert [(one.offset, one.size) for one in ranges] == [
        (0, 2000 + GAP_MAX_BYTES),
        (2001 + 2 * GAP_MAX_BYTES, 10),
    ]
    assert every(ranges) == places


def test_a_range_has_a_largest_size() -> None:
    places = [place(number << 20, 1 << 20, 1 << 20) for number in range(20)]
    ranges = join_ranges(PACK, places)
    assert [one.size for one in ranges] == [RANGE_MAX_BYTES, RANGE_MAX_BYTES, 4 << 20]
    assert every(ranges) == places


def test_what_compresses_well_is_bounded_by_what_it_unpacks_to() -> None:
    """A thousand frames of 256 KiB of zeros lie in 30 KB of a pack."""
    places = [place(number * 30, 30, 256 << 10) for number in range(1000)]
    ranges = join_ranges(PACK, places)
    assert len(ranges) == 16
    assert all(one.memory_bytes <= RANGE_RAW_MAX_BYTES + one.size for one in ranges)
    assert every(ranges) == places


def test_chunks_that_claim_to_lie_in_one_frame_are_bounded_too() -> None:
    """A hostile list may let any number of large chunks overlap in one frame."""
    places = [place(0, 100, 4 << 20, start) for start in range(100)]
    ranges = join_ranges(PACK, places)
    assert all(one.memory_bytes <= RANGE_RAW_MAX_BYTES + one.size for one in ranges)
    assert every(ranges) == places


def test_a_disk_that_is_full_at_the_end_keeps_no_unfinished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with LocalStore(str(tmp_path)) as store:
        store.db.packs()
        with pytest.raises(OSError, match="space"), _RangeWriter(store) as writer:
            writer.add([(digest_of(b"x"), b"x")])
            assert os.listdir(store.temp_folder())
            monkeypatch.setattr(os, "fsync", full)
        assert os.listdir(store.temp_folder()) == []
