"""Writing files with holes where their content is zeros."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

HOLE_SIZE_MIN_BYTES = 64 << 10
"""Blocks of zeros of this size become holes, so that a sparse file takes no more room again."""
_ZEROS = bytes(HOLE_SIZE_MIN_BYTES)


def write_sparse(fd: int, parts: Iterable[memoryview]) -> int:
    """Write a new file from its start, with holes for long runs of zeros; return its size."""
    size = end = 0  # `end` is of what was written: beyond it is a hole
    for data in parts:
        first = 0
        for hole in _holes(data):
            end = _write_from(fd, data[first:hole], size + first, end)
            first = hole + HOLE_SIZE_MIN_BYTES
        end = _write_from(fd, data[first:], size + first, end)
        size += len(data)
    if size != end:
        os.ftruncate(fd, size)
    return size


def _holes(data: memoryview) -> Iterator[int]:
    """Yield where blocks begin that are zeros from end to end."""
    for at in range(0, len(data) - HOLE_SIZE_MIN_BYTES + 1, HOLE_SIZE_MIN_BYTES):
        last = at + HOLE_SIZE_MIN_BYTES
        # Both ends first: nearly every block differs there. bytes compare fast, memoryviews do not.
        if not data[at] and not data[last - 1] and bytes(data[at:last]) == _ZEROS:
            yield at


def _write_from(fd: int, data: memoryview, at: int, end: int) -> int:
    """Write data at an offset, where `end` is the file's; return where the file then ends."""
    if not data:
        return end
    if at != end:
        os.lseek(fd, at, os.SEEK_SET)
    last = at + len(data)
    while data:
        data = data[os.write(fd, data) :]
    return last
