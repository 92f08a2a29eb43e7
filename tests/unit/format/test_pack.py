"""Packs: what goes in comes out, and no damaged or hostile pack gives a wrong byte."""

from __future__ import annotations

import io
import resource
from array import array
from collections.abc import Callable, Sequence
from typing import cast

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings, strategies as st

from dvtool.errors import CorruptError
from dvtool.format.digest import Digest, digest_of, guard_of
from dvtool.format.pack import (
    COUNTS,
    FRAME_RAW_SIZE_MAX_BYTES,
    PACK_MAGIC,
    PACK_SIZE_AIM_BYTES,
    PACK_SIZE_MAX_BYTES,
    PROBED_SIZE_BYTES,
    RAW,
    TRAILER,
    ZSTD,
    PackIndex,
    PackInfo,
    PackWriter,
    Recipe,
    chunk_in,
    decode_index,
    encode_index,
    pack_frame,
    read_index,
    unpack_frame,
    verify_pack,
)

KIB = 1 << 10
WHERE = "packs/ab/cd"


def noise(seed: object, size: int) -> bytes:
    """`size` bytes that zstd cannot make smaller."""
    return blake3(repr(seed).encode()).digest(size) if size else b""


def packed(chunks: Sequence[bytes], recipes: Sequence[Recipe] = ()) -> tuple[bytes, PackInfo]:
    file = io.BytesIO()
    writer = PackWriter(file)
    for chunk in chunks:
        writer.add(digest_of(chunk), chunk)
    for recipe in recipes:
        writer.add_recipe(recipe)
    info = writer.finish()
    return file.getvalue(), info


def index_of(data: bytes) -> PackIndex:
    return read_index(io.BytesIO(data), size=len(data), where=WHERE)


def contents(data: bytes) -> list[tuple[Digest, bytes]]:
    """Read a whole pack as a careful reader would."""
    index = index_of(data)
    found = []
    for place in index.placements():
        stored = data[place.frame_offset : place.frame_offset + place.frame_size]
        raw = unpack_frame(stored, where=WHERE)
        chunk = chunk_in(raw, place.start, place.size, place.digest, where=WHERE)
        found.append((place.digest, bytes(chunk)))
    return found


def with_index(frames: bytes, index: bytes, **trailer: int) -> bytes:
    """A pack with any index, its trailer sound but for what is given."""
    stored = zstandard.ZstdCompressor().compress(index)
    fields = {"stored": len(stored), "raw": len(index), "guard": guard_of(stored), "version": 1}
    fields |= trailer
    tail = TRAILER.pack(
        fields["stored"], fields["raw"], fields["guard"], fields["version"], 0, PACK_MAGIC
    )
    return frames + stored + tail


def refusal(data: bytes) -> CorruptError:
    with pytest.raises(CorruptError) as caught:
        verify_pack(io.BytesIO(data), index_of(data), where=WHERE)
    assert WHERE in str(caught.value)
    return caught.value


# --- writing and reading --------------------------------------------------------------------

chunk_lists = st.lists(
    st.builds(
        lambda seed, size, repeats: (noise(seed, size) * repeats)[: 200 * KIB],
        st.integers(0, 9),
        st.sampled_from([1, 2, 100, 5_000, 32 * KIB - 1, 32 * KIB, 100 * KIB]),
        st.sampled_from([1, 1, 3]),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(chunks=chunk_lists, recipe_sizes=st.lists(st.integers(2, 60), max_size=3))
def test_what_goes_in_comes_out(chunks: list[bytes], recipe_sizes: list[int]) -> None:
    recipes = [
        Recipe(digest_of(b"%d" % n), 7 * n, tuple(digest_of(b"%d" % m) for m in range(n)))
        for n in recipe_sizes
    ]
    data, info = packed(chunks, recipes)
    assert info.digest == digest_of(data)
    assert info.size == len(data)
    index = index_of(data)
    assert index == info.index
    assert index.recipes == recipes
    verify_pack(io.BytesIO(data), index, where=WHERE)
    assert sorted(contents(data)) == sorted((digest_of(chunk), chunk) for chunk in chunks)


@settings(max_examples=150, deadline=None)
@given(chunks=chunk_lists, recipe=st.integers(0, 3_000))
def test_the_bound_on_the_size_holds(chunks: list[bytes], recipe: int) -> None:
    """`fits` keeps packs within 64 MiB by it, and larger ones are refused by readers."""
    file = io.BytesIO()
    writer = PackWriter(file)
    assert writer.empty
    for chunk in chunks:
        writer.add(digest_of(chunk), chunk)
    if recipe:
        names = tuple(noise((recipe, n), 32) for n in range(recipe))
        writer.add_recipe(Recipe(digest_of(b"file"), 1 << 40, names))
    assert writer.empty == (not chunks and not recipe)
    bound = writer.size_bound
    assert writer.finish().size <= bound


def test_small_chunks_share_frames_and_large_ones_have_their_own() -> None:
    small = [noise(n, 10 * KIB) for n in range(30)]
    large = [noise(n, 32 * KIB) for n in range(2)]
    _, info = packed([*small[:20], *large, *small[20:]])
    raw_sizes: dict[int, int] = {}
    together: dict[int, int] = {}
    for frame, size in zip(info.index.chunk_frames, info.index.chunk_sizes, strict=True):
        raw_sizes[frame] = raw_sizes.get(frame, 0) + size
        together[frame] = together.get(frame, 0) + 1
    assert max(raw_sizes.values()) <= 128 * KIB
    assert sorted(together.values()) == [1, 1, 6, 12, 12]


def test_similar_small_chunks_compress_together() -> None:
    labels = [b'{"label": "cat", "box": [%d, 20, 30, 40]}' % n for n in range(1_000)]
    data, info = packed(labels)
    assert len(info.index.frame_sizes) == 1
    assert info.index.data_size < sum(map(len, labels)) / 5
    assert len(data) < len(labels) * 50


def test_a_frame_is_tried_as_a_whole_only_where_parts_of_it_can_be_compressed() -> None:
    tried: list[int] = []

    class Compressor:
        def compress(self, data: bytes) -> bytes:
            tried.append(len(data))
            return zstandard.ZstdCompressor(level=3).compress(data)

    compressor = cast(zstandard.ZstdCompressor, Compressor())
    random = noise(0, 100_000)
    assert pack_frame(random, compressor) == RAW + random
    assert max(tried) <= PROBED_SIZE_BYTES
    partly = random[:80_000] + bytes(20_000)
    assert pack_frame(memoryview(partly), compressor)[:1] == ZSTD
    alike = [noise(n, 100) + random[:8_000] for n in range(12)]
    assert pack_frame(b"".join(alike), compressor, alike)[:1] == ZSTD
    tiny = [random[:300]] * 300
    assert pack_frame(b"".join(tiny), compressor, tiny)[:1] == ZSTD


def test_frames_are_compressed_only_where_it_saves_three_percent() -> None:
    compressor = zstandard.ZstdCompressor(level=3)
    random = noise(0, 64 * KIB)
    assert pack_frame(random, compressor) == RAW + random
    saving_two = random[: 62 * KIB] + bytes(1 * KIB)
    assert pack_frame(saving_two, compressor)[:1] == RAW
    saving_ten = random[: 57 * KIB] + bytes(7 * KIB)
    stored = pack_frame(saving_ten, compressor)
    assert stored[:1] == ZSTD
    assert unpack_frame(stored, where=WHERE) == saving_ten
    assert len(stored) < 58 * KIB


def test_a_full_pack_takes_no_more_and_an_empty_one_takes_anything() -> None:
    writer = PackWriter(io.BytesIO())
    assert writer.fits(2 * PACK_SIZE_AIM_BYTES)
    chunk = noise(0, 1 << 20)
    count = 0
    while writer.fits(len(chunk)):
        writer.add(noise(count, 32), chunk)
        count += 1
    assert count == 31
    while writer.fits(1_000):
        writer.add(noise(count, 32), noise(count, 1_000))
        count += 1
    size = writer.finish().size
    assert PACK_SIZE_AIM_BYTES - 20 * KIB < size <= PACK_SIZE_AIM_BYTES < PACK_SIZE_MAX_BYTES


def test_frames_can_be_taken_over_as_they_are_stored() -> None:
    chunks = [noise(n, 300) for n in range(50)]
    data, info = packed(chunks)
    places = list(info.index.placements())
    file = io.BytesIO()
    writer = PackWriter(file)
    writer.add_frame(data[: info.index.frame_sizes[0]], [(p.digest, p.size) for p in places])
    writer.finish()
    assert file.getvalue() == data


def test_the_format_is_pinned() -> None:
    """A pack written today must have the id that it had in version 1.

    The frame is raw; zstd's output, and with it the id, may change with the library.
    """
    data, info = packed([noise(1, 100), noise(2, 40)])
    index = zstandard.ZstdDecompressor().decompress(data[info.index.data_size : -TRAILER.size])
    assert data[:141] == b"\x00" + noise(1, 100) + noise(2, 40)
    assert info.index.data_size == 141
    assert index == (
        COUNTS.pack(1, 2, 0, 0)
        + (141).to_bytes(4, "little")
        + guard_of(data[:141]).to_bytes(8, "little")
        + digest_of(noise(1, 100))
        + digest_of(noise(2, 40))
        + (100).to_bytes(4, "little")
        + (40).to_bytes(4, "little")
        + bytes(8)
    )
    assert data[-8:] == b"\x89dvpack\n"


# --- damage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_pack() -> bytes:
    chunks = [noise(1, 60), b"text " * 30, noise(2, 10)]
    recipe = Recipe(digest_of(b"file"), 220, (digest_of(chunks[0]), digest_of(chunks[1])))
    return packed(chunks, [recipe])[0]


def test_every_truncation_is_refused(small_pack: bytes) -> None:
    for size in range(len(small_pack)):
        refusal(small_pack[:size])
        refusal(small_pack[-size:] if size else b"")


def test_no_flipped_bit_gives_a_wrong_byte(small_pack: bytes) -> None:
    good, good_index = contents(small_pack), index_of(small_pack)
    for at in range(len(small_pack)):
        for bit in range(8):
            bad = bytearray(small_pack)
            bad[at] ^= 1 << bit
            try:
                index = index_of(bytes(bad))
                verify_pack(io.BytesIO(bad), index, where=WHERE)
                assert contents(bytes(bad)) == good
            except CorruptError as error:
                assert WHERE in str(error)
            else:
                assert index == good_index


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_an_index_of_any_bytes_is_refused_or_consistent(data: st.DataObject) -> None:
    """Behind a sound guard: an index that somebody made on purpose."""
    frames = RAW + noise(0, 50)
    raw = bytearray(encode_index(packed([noise(0, 50)])[1].index))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from([0, 1, 2, 255]))
    cut = data.draw(st.integers(0, 40))
    raw = raw[: len(raw) - cut] if cut < 20 else raw + bytes(cut)
    pack = with_index(frames, bytes(raw))
    try:
        index = index_of(pack)
    except CorruptError:
        return
    assert index.data_size == len(frames)
    assert encode_index(index) == bytes(raw)
    for place in index.placements():
        assert place.frame_offset + place.frame_size <= len(frames)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 15,
        COUNTS.pack(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        COUNTS.pack(1, 0, 0, 0),
        COUNTS.pack(0, 0, 1, 1),
    ],
)
def test_an_index_that_its_counts_do_not_bear_out_is_refused(raw: bytes) -> None:
    refusal(with_index(b"", raw))


def test_chunks_and_frames_of_nothing_are_refused() -> None:
    data, info = packed([noise(0, 50)])
    frames = data[: info.index.data_size]
    for columns in (([51], [50, 0], [0, 0]), ([51, 0], [50], [0]), ([50, 1], [50], [0])):
        sizes, chunks, numbers = columns
        index = PackIndex(
            frame_sizes=array("I", sizes),
            frame_guards=array("Q", [0] * len(sizes)),
            chunk_digests=[digest_of(b"")] * len(chunks),
            chunk_sizes=array("I", chunks),
            chunk_frames=array("I", numbers),
        )
        assert "without" in str(refusal(with_index(frames, encode_index(index))))


def test_the_trailer_is_checked() -> None:
    data, info = packed([noise(0, 50)])
    raw = encode_index(info.index)
    frames = data[: info.index.data_size]
    index_of(with_index(frames, raw))
    refusal(with_index(frames, raw, stored=1 << 31))
    refusal(with_index(frames, raw, stored=0))
    refusal(with_index(frames, raw, raw=len(raw) + 1))
    refusal(with_index(frames, raw, raw=0))
    refusal(with_index(frames, raw, raw=0xFFFFFFFF))
    refusal(with_index(frames, raw, guard=0))
    refusal(with_index(frames + b"x", raw))
    refusal(with_index(b"", raw))


def test_another_version_is_refused_with_the_way_out() -> None:
    data, info = packed([noise(0, 50)])
    error = refusal(with_index(data[: info.index.data_size], encode_index(info.index), version=2))
    assert "format 2" in str(error)
    assert error.hint is not None
    assert "format 2" in error.hint


def test_frame_numbers_that_fall_or_do_not_exist_are_refused() -> None:
    chunks = [noise(0, 40 * KIB), noise(1, 40 * KIB)]
    data, info = packed(chunks)
    frames = data[: info.index.data_size]
    for numbers in ([1, 0], [0, 2], [0, 0xFFFFFFFF]):
        info.index.chunk_frames[:] = info.index.chunk_frames[:0]
        info.index.chunk_frames.extend(numbers)
        refusal(with_index(frames, encode_index(info.index)))


def test_a_chunk_that_is_not_what_its_digest_says_is_refused() -> None:
    for size in (50, 40 * KIB):
        data, info = packed([noise(0, size), noise(1, size)])
        info.index.chunk_digests[1] = digest_of(b"something else")
        lying = with_index(data[: info.index.data_size], encode_index(info.index))
        assert "other bytes" in str(refusal(lying))


def test_a_frame_that_is_not_what_its_guard_says_is_refused() -> None:
    """Also where every chunk in it is sound: a scan may look at the guards alone."""
    data, info = packed([noise(0, 40 * KIB), noise(1, 40 * KIB)])
    info.index.frame_guards[1] ^= 1
    lying = with_index(data[: info.index.data_size], encode_index(info.index))
    assert "damaged" in str(refusal(lying))


def test_chunks_beyond_the_end_of_their_frame_are_refused() -> None:
    data, info = packed([noise(0, 50), noise(1, 50)])
    info.index.chunk_sizes[1] = 51
    refusal(with_index(data[: info.index.data_size], encode_index(info.index)))
    info.index.chunk_sizes[1] = FRAME_RAW_SIZE_MAX_BYTES
    with pytest.raises(CorruptError, match="more than a frame may"):
        decode_index(encode_index(info.index), data_size=info.index.data_size, where=WHERE)


# --- bombs ----------------------------------------------------------------------------------


def test_a_frame_that_claims_too_much_is_not_unpacked() -> None:
    compressor = zstandard.ZstdCompressor()
    at_most = ZSTD + compressor.compress(bytes(FRAME_RAW_SIZE_MAX_BYTES))
    assert len(unpack_frame(at_most, where=WHERE)) == FRAME_RAW_SIZE_MAX_BYTES
    bomb = ZSTD + compressor.compress(bytes(FRAME_RAW_SIZE_MAX_BYTES + 1))
    with pytest.raises(CorruptError, match="claims to unpack to 4,194,305 bytes"):
        unpack_frame(bomb, where=WHERE)


def test_a_frame_that_does_not_say_its_size_is_not_unpacked() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    bomb = ZSTD + compressor.compress(bytes(1 << 30)) + compressor.flush()
    with pytest.raises(CorruptError):
        unpack_frame(bomb, where=WHERE)


@pytest.mark.parametrize("rest", [b"\0", b"more", bytes(100_000)])
def test_nothing_may_follow_a_compressed_frame(rest: bytes) -> None:
    stored = ZSTD + zstandard.ZstdCompressor().compress(bytes(70_000))
    assert unpack_frame(stored, where=WHERE) == bytes(70_000)
    with pytest.raises(CorruptError, match="unused data"):
        unpack_frame(stored + rest, where=WHERE)
    with pytest.raises(CorruptError):
        unpack_frame(stored + stored[1:], where=WHERE)


@pytest.mark.parametrize("kind", range(16))
def test_a_skippable_frame_is_none(kind: int) -> None:
    """zstd gives it the size 0 and would pass over it, to whatever comes next."""
    skipped = (0x184D2A50 + kind).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"abcd"
    for rest in (b"", zstandard.ZstdCompressor().compress(bytes(70_000))):
        with pytest.raises(CorruptError):
            unpack_frame(ZSTD + skipped + rest, where=WHERE)


def test_a_huge_window_allocates_nothing() -> None:
    """A header that asks for a window of 2 GiB, with little content: only that is unpacked."""
    huge = zstandard.ZstdCompressionParameters(window_log=31, write_content_size=True)
    whole = zstandard.ZstdCompressor(level=1).compress(b"x" * 1000)
    # Magic, then a descriptor: content size of 4 bytes, a window byte follows (31 -> 21 << 3).
    header = whole[:4] + bytes([0b1000_0000, (huge.window_log - 10) << 3])
    for block in (b"", b"\x03\x00\x00"):
        stored = ZSTD + header + (1 << 20).to_bytes(4, "little") + block
        tracked = peak_of(lambda stored=stored: refused(stored))  # type: ignore[misc]
        assert tracked < 64 << 20


def refused(stored: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack_frame(stored, where=WHERE)


def peak_of(work: Callable[[], None]) -> int:
    """Return by how much the most memory that this process ever had grew, in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10


def test_a_frame_that_lies_about_its_size_gives_nothing() -> None:
    stored = bytearray(zstandard.ZstdCompressor().compress(bytes(70_000)))
    assert int.from_bytes(stored[5:9], "little") == 70_000
    stored[5:9] = (100).to_bytes(4, "little")
    with pytest.raises(CorruptError):
        unpack_frame(ZSTD + bytes(stored), where=WHERE)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x01",
        b"\x02abc",
        b"\xff",
        ZSTD + b"\x28\xb5\x2f\xfd",
        ZSTD + b"\x50\x2a\x4d\x18\0\0\0\0",
    ],
)
def test_what_is_no_frame_is_refused(stored: bytes) -> None:
    try:
        assert len(unpack_frame(stored, where=WHERE)) == 0
    except CorruptError as error:
        assert WHERE in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_frame_give_bytes_or_a_corrupt_error(stored: bytes) -> None:
    for codec in (b"", ZSTD, ZSTD + b"\x28\xb5\x2f\xfd"):
        try:
            unpack_frame(codec + stored, where=WHERE)
        except CorruptError as error:
            assert WHERE in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pack_are_refused(data: bytes) -> None:
    refusal(data)
    refusal(data + TRAILER.pack(len(data), 100, guard_of(data), 1, 0, PACK_MAGIC))
