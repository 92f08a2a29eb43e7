"""Content-defined chunking: where a file is cut depends on its bytes, not on offsets.

The algorithm is FastCDC in its 2020 variant (W. Xia et al., "The Design of Fast Content-Defined
Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020), normalisation
level 2, as the package pyfastcdc computes it. Boundaries are part of the format: golden vectors
in the tests pin them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

import msgspec

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

CUT_SIZE_BYTES = 8 * MIB
"""So much of a file is read and cut at a time."""
NORMALIZATION: Literal[2] = 2
"""How strongly sizes are drawn to the average: an edit stores 10 % less than at level 1."""
SINGLE_CHUNK_SIZE_MAX_BYTES = 64 * KIB
"""Files up to this size are one chunk, whose hash is then the file's own."""


class ChunkSizes(msgspec.Struct, frozen=True):
    """Bounds of the chunks of one file, in bytes."""

    minimum: int
    average: int
    maximum: int


SMALL = ChunkSizes(16 * KIB, 64 * KIB, 256 * KIB)
MEDIUM = ChunkSizes(64 * KIB, 256 * KIB, 1 * MIB)
LARGE = ChunkSizes(256 * KIB, 1 * MIB, 4 * MIB)
CHUNK_SIZE_MAX_BYTES = LARGE.maximum
FILE_SIZE_MAX_BYTES = 1 << 40
"""Above 1 TiB the list of a file's chunks would outgrow what one pack or shard may hold."""


def sizes_for(file_size_bytes: int) -> ChunkSizes:
    """Return the chunk bounds for a file of this size: larger files have larger chunks."""
    if file_size_bytes < 1 * GIB:
        return SMALL
    return MEDIUM if file_size_bytes < 16 * GIB else LARGE


def sizes_after(file_size_bytes: int, chunk_size_max_bytes: int) -> ChunkSizes:
    """Return the chunk bounds for a file whose earlier version has chunks of up to this size.

    They stay what they were where that is one class below what the size asks for, so that a file
    that grows past a bound stores what it grew by. More than four times as many chunks as the size
    asks for, or more than 2^20, would outgrow what one pack or shard may hold.
    """
    usual = sizes_for(file_size_bytes)
    for smaller, larger, below_bytes in ((SMALL, MEDIUM, 16 * GIB), (MEDIUM, LARGE, 256 * GIB)):
        if usual == larger and chunk_size_max_bytes <= smaller.maximum:
            return smaller if file_size_bytes < below_bytes else usual
    return usual


class CutBlock(msgspec.Struct, frozen=True):
    """Bytes of a file, and the chunks that they are, end to end."""

    data: memoryview
    chunks: list[memoryview]


def cut(
    file: BinaryIO, *, file_size_bytes: int, sizes: ChunkSizes | None = None
) -> Iterator[memoryview]:
    """Yield the chunks of `file`, read from its position to its end, in order.

    `file_size_bytes` picks the bounds, unless `sizes` are given; if the file turns out longer or
    shorter, the caller will see it by adding up the chunks.
    """
    for block in cut_by_block(file, file_size_bytes=file_size_bytes, sizes=sizes):
        yield from block.chunks


def cut_by_block(
    file: BinaryIO, *, file_size_bytes: int, sizes: ChunkSizes | None = None
) -> Iterator[CutBlock]:
    """Yield the chunks that `cut` yields, some MiB of them at a time, each as it lies in memory.

    A chunk is cut once as many bytes follow its start as it may have, so where a block ends has
    no part in it.
    """
    # Imported here: commands that cut nothing should not pay for loading it.
    from pyfastcdc import FastCDC

    sizes = sizes or sizes_for(file_size_bytes)
    cutter = FastCDC(
        sizes.average,
        min_size=sizes.minimum,
        max_size=sizes.maximum,
        normalized_chunking=NORMALIZATION,
    )
    full_size = max(CUT_SIZE_BYTES, 2 * sizes.maximum)
    buffer_size = min(full_size, file_size_bytes + 1)
    rest, ended = memoryview(b""), False
    while not ended:
        buffer = memoryview(bytearray(len(rest) + buffer_size))
        buffer[: len(rest)] = rest
        filled, ended = _fill(file, buffer, len(rest))
        buffer, buffer_size = buffer[:filled].toreadonly(), full_size
        last_start = filled if ended else filled - sizes.maximum
        chunks: list[memoryview] = []
        end = 0
        for chunk in cutter.cut_buf(buffer):
            if end > last_start:
                break
            chunks.append(buffer[end : end + chunk.length])
            end += chunk.length
        if chunks:
            yield CutBlock(buffer[:end], chunks)
        rest = buffer[end:]


def _fill(file: BinaryIO, buffer: memoryview, filled: int) -> tuple[int, bool]:
    """Read until a buffer is full; return how full it is, and whether the file has ended."""
    read_into: Callable[[memoryview], int | None] = file.readinto  # type: ignore[attr-defined]
    while filled < len(buffer):
        count = read_into(buffer[filled:])
        if not count:
            return filled, True
        filled += count
    return filled, False


def chunks_expected(file_size_bytes: int) -> int:
    """Return about how many chunks a file of this size has; exactly 1 up to the single-chunk size.

    Used where the length of chunk lists must be bounded from sizes alone.
    """
    if file_size_bytes <= SINGLE_CHUNK_SIZE_MAX_BYTES:
        return 1
    return 1 + file_size_bytes // sizes_for(file_size_bytes).average
