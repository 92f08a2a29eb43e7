"""Columns of fixed-width values in binary objects: little-endian numbers and digests."""

from __future__ import annotations

import sys
from array import array

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests


def little_endian(numbers: array[int]) -> bytes:
    """Return the numbers as little-endian bytes."""
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


class Columns:
    """Takes one column after another from bytes whose length was checked before."""

    def __init__(self, raw: bytes, offset: int) -> None:
        self._raw = raw
        self._offset = offset

    def numbers(self, typecode: str, count: int) -> array[int]:
        """Take `count` numbers of an `array` typecode (``I``: 4 bytes, ``Q``: 8)."""
        column = array(typecode)
        column.frombytes(self._take(count * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column

    def digests(self, count: int) -> list[Digest]:
        """Take `count` digests."""
        return list(split_digests(self._take(count * DIGEST_SIZE_BYTES)))

    def _take(self, size: int) -> bytes:
        taken = self._raw[self._offset : self._offset + size]
        self._offset += size
        return taken
