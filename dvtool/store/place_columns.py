"""Where chunks are in the local store, in columns: a row for each of a million takes long."""

from __future__ import annotations

from array import array
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.locations import RemotePack
from dvtool.format.pack import ChunkRow
from dvtool.store.schema import Row

LOOKED_UP_AT_ONCE = 50_000
"""About so many chunks are looked up at a time; with their names they take some 12 MB."""
COLUMNS_ROW = "digest, pack, frame_offset, frame_size, start, size"
_AFTER_ALL = b"\xff" * (DIGEST_SIZE_BYTES + 1)
_FIRST_BYTES = 256
_STEP = DIGEST_SIZE_BYTES


class PlaceColumns:
    """Where chunks are in local packs: a column of each value, in the order of the question.

    `numbers` has 0 where no pack has the chunk; `packs` are those that the numbers mean.
    """

    __slots__ = ("frame_offsets", "frame_sizes", "numbers", "packs", "sizes", "starts")

    def __init__(self, count: int = 0, packs: Mapping[int, RemotePack] | None = None) -> None:
        self.packs: Mapping[int, RemotePack] = packs or {}
        self.numbers, self.frame_offsets, self.frame_sizes, self.starts, self.sizes = (
            array("I", bytes(4 * count)) for _ in range(5)
        )

    def fill(self, positions: Mapping[Digest, int], rows: Iterable[Row]) -> None:
        """Take the rows of chunks, each to the position of its digest; others are passed over."""
        packs, position_of = self.packs, positions.get
        numbers, offsets, frame_sizes = self.numbers, self.frame_offsets, self.frame_sizes
        starts, sizes = self.starts, self.sizes
        for digest, number, offset, frame_size, start, size in rows:
            at = position_of(digest)
            if at is not None and number in packs:
                numbers[at] = number
                offsets[at] = offset
                frame_sizes[at] = frame_size
                starts[at] = start
                sizes[at] = size

    def rows(
        self, first: int, digests: Sequence[Digest], packs: Container[int]
    ) -> dict[Digest, ChunkRow]:
        """Return the rows of the chunks at positions from `first` on that are in these packs.

        `digests` are those that were asked for there.
        """
        part = slice(first, first + len(digests))
        columns = (
            self.numbers[part],
            self.frame_offsets[part],
            self.frame_sizes[part],
            self.starts[part],
            self.sizes[part],
        )
        return {row[0]: row for row in zip(digests, *columns, strict=True) if row[1] in packs}

    def copy_place(self, before: int, after: int) -> None:
        """Give the chunk at position `after` the place of the same one at `before`."""
        for column in (
            self.numbers,
            self.frame_offsets,
            self.frame_sizes,
            self.starts,
            self.sizes,
        ):
            column[after] = column[before]


def read_columns(
    joined: bytes,
    packs: Mapping[int, RemotePack],
    rows_of: Callable[[Collection[Digest], bytes, bytes], Iterable[Row]],
) -> PlaceColumns:
    """Return where chunks, whose digests are end to end, are in `packs`.

    `rows_of` gives the rows, with columns `COLUMNS_ROW`, of at least the digests that it is asked
    for, which are between two byte strings, the second one excluded.
    """
    columns = PlaceColumns(len(joined) // DIGEST_SIZE_BYTES, packs)
    for first, end, where in _ranges(joined):
        positions = {joined[at * _STEP : at * _STEP + _STEP]: at for at in where}
        after = bytes([end]) if end < _FIRST_BYTES else _AFTER_ALL
        columns.fill(positions, rows_of(positions.keys(), bytes([first]), after))
        if len(positions) < len(where):
            for at in where:
                last = positions[joined[at * _STEP : at * _STEP + _STEP]]
                if at != last:
                    columns.copy_place(last, at)
    return columns


def _ranges(joined: bytes) -> Iterator[tuple[int, int, array[int]]]:
    """Yield ranges of first bytes with the positions of the digests that begin with these."""
    count = len(joined) // DIGEST_SIZE_BYTES
    step = max(1, _FIRST_BYTES // max(1, -(-count // LOOKED_UP_AT_ONCE)))
    where = [array("I") for _ in range(0, _FIRST_BYTES, step)]
    if len(where) == 1:
        where[0].extend(range(count))
    else:
        add = [where[first // step].append for first in range(_FIRST_BYTES)]
        for at, first in enumerate(joined[::DIGEST_SIZE_BYTES]):
            add[first](at)
    for number, positions in enumerate(where):
        if positions:
            first = number * step
            yield first, first + step, positions
            where[number] = array("I")
