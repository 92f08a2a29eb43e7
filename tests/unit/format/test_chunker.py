"""Chunk boundaries are part of the format: these vectors pin them."""

from __future__ import annotations

import io
from itertools import accumulate

import pytest
from blake3 import blake3
from hypothesis import given, strategies as st
from pyfastcdc import FastCDC

from dvtool.format import chunker
from dvtool.format.chunker import (
    CHUNK_SIZE_MAX_BYTES,
    GIB,
    KIB,
    LARGE,
    MEDIUM,
    MIB,
    NORMALIZATION,
    SMALL,
    ChunkSizes,
    cut,
    cut_by_block,
    sizes_after,
    sizes_for,
)
from dvtool.format.digest import digest_of

CLASSES = {SMALL: 1, MEDIUM: 1 * GIB, LARGE: 16 * GIB}
"""Bounds -> a file size that picks them; what is cut may be shorter."""


def stream(seed: str, size: int) -> bytes:
    """Fixed pseudo-random bytes: the extended output of BLAKE3 over `seed`, as specified."""
    return blake3(seed.encode()).digest(size)


def chunks_of(data: bytes, sizes: ChunkSizes = SMALL) -> list[bytes]:
    return [bytes(chunk) for chunk in cut(io.BytesIO(data), file_size_bytes=CLASSES[sizes])]


def lengths(data: bytes, sizes: ChunkSizes = SMALL) -> list[int]:
    return [len(chunk) for chunk in chunks_of(data, sizes)]


class Trickle(io.RawIOBase):
    """A file that gives few bytes at a time, as a pipe or a network filesystem may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._left = memoryview(data)
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        taken = self._left[: min(self._step, len(view))]
        view[: len(taken)] = taken
        self._left = self._left[len(taken) :]
        return len(taken)


def test_the_stream_is_the_one_that_the_vectors_were_made_of() -> None:
    assert stream("dvtool", 8).hex() == "7b8bea0f523238e6"


# fmt: off
GOLDEN = {
    SMALL: [
        89182, 82793, 67330, 75132, 104418, 102507, 72596, 46977, 33748, 91098, 131719,
        71145, 83584, 67751, 32202, 73265, 106351, 83309, 77058, 94258, 70936, 67307, 25011,
        91436, 87199, 71574, 36238, 61028,
    ],
    MEDIUM: [
        322721, 295799, 287345, 319582, 295666, 357952, 295560, 183135, 304790, 328755,
        379887, 290890, 326773, 301306, 314279, 273896, 279066, 85478,
    ],
    LARGE: [
        1152182, 1108029, 1110981, 1255321, 1167308, 1162190, 1079138, 787426, 1323496,
        1606696, 1565089, 1168018, 1937941, 353401,
    ],
}
# fmt: on


@pytest.mark.parametrize("sizes", CLASSES, ids=["small", "medium", "large"])
def test_golden_boundaries_of_noise(sizes: ChunkSizes) -> None:
    size = {SMALL: 2, MEDIUM: 5, LARGE: 16}[sizes] * MIB
    assert lengths(stream("dvtool", size), sizes) == GOLDEN[sizes]


def test_golden_boundaries_of_text() -> None:
    rows = [b"%d,%s,%d\n" % (n, stream(f"{n}", 4).hex().encode(), n * n) for n in range(20_000)]
    found = chunks_of(b"".join(rows))
    assert [len(chunk) for chunk in found] == [25549, 114368, 79720, 42196, 70560, 110081, 31790]


def test_the_size_of_the_file_picks_the_class() -> None:
    assert sizes_for(0) == sizes_for(1 * GIB - 1) == SMALL
    assert sizes_for(1 * GIB) == sizes_for(16 * GIB - 1) == MEDIUM
    assert sizes_for(16 * GIB) == sizes_for(1 << 50) == LARGE
    assert ChunkSizes(16 * KIB, 64 * KIB, 256 * KIB) == SMALL
    assert ChunkSizes(64 * KIB, 256 * KIB, 1 * MIB) == MEDIUM
    assert ChunkSizes(256 * KIB, 1 * MIB, 4 * MIB) == LARGE
    assert CHUNK_SIZE_MAX_BYTES == 4 * MIB


@pytest.mark.parametrize("sizes", CLASSES, ids=["small", "medium", "large"])
@pytest.mark.parametrize("kind", ["noise", "zeros", "pattern"])
def test_chunks_keep_their_bounds_and_make_the_file(sizes: ChunkSizes, kind: str) -> None:
    size = 20 * sizes.average + 12_345
    data = {
        "noise": stream(kind, size),
        "zeros": bytes(size),
        "pattern": (b"0123456789abcdef" * (size // 16 + 1))[:size],
    }[kind]
    found = chunks_of(data, sizes)
    assert b"".join(found) == data
    assert all(sizes.minimum <= len(chunk) <= sizes.maximum for chunk in found[:-1])
    assert 0 < len(found[-1]) <= sizes.maximum
    if kind == "noise":
        assert sizes.average / 2 < size / len(found) < sizes.average * 2
    else:
        assert {len(chunk) for chunk in found[:-1]} == {sizes.maximum}


def test_chunks_are_about_as_large_as_the_average() -> None:
    found = lengths(stream("average", 32 * MIB))
    assert 56 * KIB < 32 * MIB / len(found) < 88 * KIB


@pytest.mark.parametrize("size", [0, 1, 16 * KIB - 1, 16 * KIB, 64 * KIB, 256 * KIB + 1])
def test_files_of_few_bytes(size: int) -> None:
    data = stream("few", size)
    found = chunks_of(data)
    assert b"".join(found) == data
    assert (len(found) == 0) == (size == 0)
    if size <= 16 * KIB:
        assert len(found) <= 1


@pytest.mark.parametrize("step", [1_000, 4_096, 65_537])
def test_boundaries_do_not_depend_on_how_reads_come(step: int) -> None:
    data = stream("trickle", 2 * MIB)
    found = [bytes(chunk) for chunk in cut(Trickle(data, step), file_size_bytes=len(data))]  # type: ignore[arg-type]
    assert found == chunks_of(data)


def test_cutting_begins_where_the_file_stands() -> None:
    data = stream("position", 1 * MIB)
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert [bytes(chunk) for chunk in cut(file, file_size_bytes=1)] == chunks_of(data)


def new_bytes(before: bytes, after: bytes) -> int:
    known = {digest_of(chunk) for chunk in chunks_of(before)}
    return sum(len(chunk) for chunk in chunks_of(after) if digest_of(chunk) not in known)


def test_an_edit_moves_only_the_boundaries_near_it() -> None:
    data = stream("edit", 16 * MIB)
    middle = len(data) // 2
    edits = {
        "insert": data[:middle] + stream("inserted", 1_000) + data[middle:],
        "remove": data[:middle] + data[middle + 1_000 :],
        "overwrite": data[:middle] + stream("over", 4_096) + data[middle + 4_096 :],
        "prepend": b"x" + data,
        "append": data + stream("appended", 1_000),
    }
    for name, edited in edits.items():
        assert new_bytes(data, edited) <= 4 * SMALL.maximum, name
    ends = set(accumulate(lengths(data)))
    shifted = {end - 1_000 for end in accumulate(lengths(edits["insert"]))}
    assert {end for end in ends if end < middle - SMALL.maximum} <= set(
        accumulate(lengths(edits["insert"]))
    )
    assert {end for end in ends if end > middle + 4 * SMALL.maximum} <= shifted


@pytest.mark.parametrize(
    ("size", "earlier", "sizes"),
    [
        (GIB - 1, SMALL, SMALL),
        (GIB - 1, MEDIUM, SMALL),
        (GIB, SMALL, SMALL),
        (GIB, MEDIUM, MEDIUM),
        (16 * GIB - 1, SMALL, SMALL),
        (16 * GIB, SMALL, MEDIUM),
        (16 * GIB, MEDIUM, MEDIUM),
        (256 * GIB - 1, MEDIUM, MEDIUM),
        (256 * GIB, MEDIUM, LARGE),
        (16 * GIB, LARGE, LARGE),
    ],
)
def test_a_file_keeps_the_class_of_its_earlier_version(
    size: int, earlier: ChunkSizes, sizes: ChunkSizes
) -> None:
    assert sizes_after(size, earlier.maximum) == sizes
    assert size // sizes.average <= max(1 << 20, 4 * (size // sizes_for(size).average))


@given(
    st.binary(max_size=64),
    st.integers(0, 5 * KIB),
    st.integers(0, 6 * KIB),
    st.integers(1, 3 * KIB),
    st.integers(1, 2_000),
)
def test_where_blocks_end_has_no_part_in_the_cuts(
    seed: bytes, size: int, claimed: int, block_size: int, step: int
) -> None:
    """The cuts are those of the package's own stream, whatever the size says."""
    sizes = ChunkSizes(64, 256, 1_024)
    data = blake3(seed).digest(size) if size % 2 else bytes(size)
    cutter = FastCDC(256, min_size=64, max_size=1_024, normalized_chunking=NORMALIZATION)
    expected = [bytes(chunk.data) for chunk in cutter.cut_stream(io.BytesIO(data))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunker, "CUT_SIZE_BYTES", block_size)
        blocks = list(
            cut_by_block(Trickle(data, step), file_size_bytes=claimed, sizes=sizes)  # type: ignore[arg-type]
        )
    assert [bytes(chunk) for block in blocks for chunk in block.chunks] == expected
    for block in blocks:
        assert b"".join(block.chunks) == block.data
