"""Packs: immutable runs of frames with their own index at the end.

::

    pack    = frame* index trailer
    frame   = codec byte (0 raw, 1 zstd), then the body: one chunk or several small ones, end to end
    index   = zstd of the columns below, little-endian
    trailer = u32 index size, u32 index size before zstd, u64 XXH3-64 of the stored index,
              u32 version, u32 zero, 8 bytes magic

    columns = u32 frames, u32 chunks, u32 recipes, u32 recipe chunks
              u32 stored size × frames        (frames lie end to end from offset 0)
              u64 XXH3-64 of stored bytes × frames
              32 bytes BLAKE3 × chunks        (in frame order)
              u32 raw size × chunks
              u32 frame number × chunks       (never falling)
              32 bytes file BLAKE3 × recipes
              u64 file size × recipes
              u32 chunk count × recipes
              32 bytes BLAKE3 × recipe chunks

Offsets are sums of sizes, so an index cannot point outside its pack. A pack's id is the BLAKE3 of
all its bytes. Nothing here knows of paths, networks or git: bytes and file objects in and out.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO, TypeAlias

import msgspec
import zstandard

from dvtool.errors import CorruptError
from dvtool.format.chunker import CHUNK_SIZE_MAX_BYTES, KIB, MIB
from dvtool.format.columns import Columns, little_endian
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, digest_of, guard_of, hasher

PACK_VERSION = 1
PACK_MAGIC = b"\x89dvpack\n"
PACK_SIZE_MAX_BYTES = 64 * MIB
PACK_SIZE_AIM_BYTES = 32 * MIB
"""Half of the limit: several packs fit side by side into the budget of transfers under way."""
GROUPED_SIZE_MAX_BYTES = 32 * KIB
"""Chunks below this share a frame with their neighbours."""
FRAME_RAW_SIZE_BYTES = 128 * KIB
FRAME_RAW_SIZE_MAX_BYTES = CHUNK_SIZE_MAX_BYTES
"""No frame unpacks to more than this: a reader can refuse a decompression bomb unread."""
FRAME_STORED_SIZE_MAX_BYTES = FRAME_RAW_SIZE_MAX_BYTES + 1
"""The size of a raw frame with its codec byte; compressed frames are smaller."""
ZSTD_LEVEL = 3
SAVING_MIN = 0.03

PROBED_SIZE_BYTES = 8 * KIB
"""So much of a frame is compressed first, in `PROBE_PIECES` pieces, to see whether it can be."""
PROBE_PIECES = 8
PROBED_CHUNKS_MAX = 32
"""A frame of more chunks is tried as a whole: of each the probe would have next to nothing."""
PROBE_SAVING_MIN = 0.01

Data: TypeAlias = bytes | memoryview
"""Bytes that do not change."""
RAW, ZSTD = b"\x00", b"\x01"
TRAILER = struct.Struct("<IIQII8s")
COUNTS = struct.Struct("<IIII")
INDEX_BYTES_PER_CHUNK = DIGEST_SIZE_BYTES + 8
INDEX_BYTES_PER_FRAME = 12
INDEX_BYTES_PER_RECIPE = DIGEST_SIZE_BYTES + 12


class Recipe(msgspec.Struct, frozen=True):
    """How a file of several chunks is put together. `size` is the file's, in bytes."""

    digest: Digest
    size: int
    chunks: tuple[Digest, ...]


class Placement(msgspec.Struct, frozen=True, gc=False):
    """Where a chunk is: its frame's range in the pack, its own range in the unpacked frame."""

    digest: Digest
    frame_offset: int
    frame_size: int
    start: int
    size: int


ChunkRow: TypeAlias = tuple[Digest, int, int, int, int, int]
"""A chunk's `Placement` in short, as the index has it, with the number of its pack second."""


class PackIndex(msgspec.Struct):
    """The contents of one pack, as columns; see the module's docstring."""

    frame_sizes: array[int] = msgspec.field(default_factory=lambda: array("I"))
    frame_guards: array[int] = msgspec.field(default_factory=lambda: array("Q"))
    chunk_digests: list[Digest] = msgspec.field(default_factory=list)
    chunk_sizes: array[int] = msgspec.field(default_factory=lambda: array("I"))
    chunk_frames: array[int] = msgspec.field(default_factory=lambda: array("I"))
    recipes: list[Recipe] = msgspec.field(default_factory=list)

    def frame_offsets(self) -> list[int]:
        """Return where each frame begins, in bytes from the start of the pack."""
        return list(accumulate(self.frame_sizes, initial=0))[:-1]

    def placements(self) -> Iterator[Placement]:
        """Yield the placement of each chunk, in the order of the pack."""
        offsets = self.frame_offsets()
        frame_before, start = -1, 0
        for digest, size, frame in zip(
            self.chunk_digests, self.chunk_sizes, self.chunk_frames, strict=True
        ):
            if frame != frame_before:
                frame_before, start = frame, 0
            yield Placement(digest, offsets[frame], self.frame_sizes[frame], start, size)
            start += size

    @property
    def data_size(self) -> int:
        """Bytes of all frames together, which is where the index begins."""
        return sum(self.frame_sizes)


class PackInfo(msgspec.Struct, frozen=True):
    """A finished pack: its id, its size in bytes and what is in it."""

    digest: Digest
    size: int
    index: PackIndex


class PackWriter:
    """Appends chunks to one pack; `finish` closes it with its index.

    The file need only be writable: nothing is read back or sought. `fits` keeps the pack within
    `PACK_SIZE_AIM_BYTES`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hasher = hasher()
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._index = PackIndex()
        self._data_size = 0
        self._index_size = TRAILER.size + COUNTS.size
        self._group: list[tuple[Digest, Data]] = []
        self._group_size = 0

    @property
    def size_bound(self) -> int:
        """The size that the pack would have at most, in bytes, if it were finished now."""
        # A raw frame is a byte longer than its chunks: the codec byte is part of the frame.
        index_size = self._index_size + INDEX_BYTES_PER_FRAME
        # zstd may add so much to bytes that it cannot compress: ZSTD_compressBound.
        index_growth = (index_size >> 8) + 64
        return self._data_size + index_size + index_growth + self._group_size + 1

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return not (self._group or self._index.chunk_digests or self._index.recipes)

    def fits(self, size: int) -> bool:
        """Whether one more chunk of `size` bytes keeps the pack within its limit."""
        more = size + 1 + INDEX_BYTES_PER_CHUNK + INDEX_BYTES_PER_FRAME
        return self.size_bound + more <= PACK_SIZE_AIM_BYTES or self.empty

    def fits_recipe(self, recipe: Recipe) -> bool:
        """Whether one more recipe keeps the pack within its limit."""
        more = INDEX_BYTES_PER_RECIPE + DIGEST_SIZE_BYTES * len(recipe.chunks)
        return self.empty or self.size_bound + more <= PACK_SIZE_AIM_BYTES

    def fits_frame(self, size: int, chunks: int) -> bool:
        """Whether a frame of `size` stored bytes with so many chunks keeps it within its limit."""
        more = size + INDEX_BYTES_PER_FRAME + INDEX_BYTES_PER_CHUNK * chunks
        return self.empty or self.size_bound + more <= PACK_SIZE_AIM_BYTES

    def fits_small(self, chunks: Sequence[tuple[Digest, Data]]) -> bool:
        """Whether chunks that share frames surely keep the pack within its limit, all of them."""
        size = sum([len(data) for _, data in chunks])
        # Each could get a frame of its own, and its codec byte; 1 more is for the index's growth.
        most = INDEX_BYTES_PER_CHUNK + INDEX_BYTES_PER_FRAME + 2
        return self.size_bound + size + most * (len(chunks) + 1) <= PACK_SIZE_AIM_BYTES

    def add_small(self, chunks: Sequence[tuple[Digest, Data]]) -> None:
        """Append chunks, each below `GROUPED_SIZE_MAX_BYTES`, as `add` does one after the other."""
        self._index_size += INDEX_BYTES_PER_CHUNK * len(chunks)
        group, group_size = self._group, self._group_size
        for chunk in chunks:
            size = len(chunk[1])
            if group_size + size > FRAME_RAW_SIZE_BYTES:
                self._flush_group()
                group_size = 0
            group.append(chunk)
            group_size += size
        self._group_size = group_size

    def add(self, digest: Digest, data: Data, stored: bytes | None = None) -> None:
        """Append a chunk; small ones are held back until they fill a frame.

        `stored` is the frame of a chunk that has one of its own, where `pack_frame` made it before.
        """
        self._index_size += INDEX_BYTES_PER_CHUNK
        if stored is not None or len(data) >= GROUPED_SIZE_MAX_BYTES:
            if stored is None:
                stored = pack_frame(data, self._compressor)
            self.add_frame(stored, [(digest, len(data))], counted=True)
            return
        if self._group_size + len(data) > FRAME_RAW_SIZE_BYTES:
            self._flush_group()
        self._group.append((digest, data))
        self._group_size += len(data)

    def add_frame(
        self, stored: bytes, chunks: Sequence[tuple[Digest, int]], *, counted: bool = False
    ) -> None:
        """Append a frame as it is stored, with the digest and raw size of each chunk in it."""
        index = self._index
        number = len(index.frame_sizes)
        self._write(stored)
        self._data_size += len(stored)
        index.frame_sizes.append(len(stored))
        index.frame_guards.append(guard_of(stored))
        index.chunk_digests.extend([digest for digest, _ in chunks])
        index.chunk_sizes.extend([size for _, size in chunks])
        index.chunk_frames.extend([number] * len(chunks))
        self._index_size += INDEX_BYTES_PER_FRAME
        if not counted:
            self._index_size += INDEX_BYTES_PER_CHUNK * len(chunks)

    def add_recipe(self, recipe: Recipe) -> None:
        """Record how a file is put together; its chunks may be in earlier packs too."""
        self._index.recipes.append(recipe)
        self._index_size += INDEX_BYTES_PER_RECIPE + DIGEST_SIZE_BYTES * len(recipe.chunks)

    def finish(self) -> PackInfo:
        """Write the chunks held back, the index and the trailer; return the finished pack."""
        self._flush_group()
        raw = encode_index(self._index)
        stored = self._compressor.compress(raw)
        self._write(stored)
        self._write(
            TRAILER.pack(len(stored), len(raw), guard_of(stored), PACK_VERSION, 0, PACK_MAGIC)
        )
        size = self._data_size + len(stored) + TRAILER.size
        return PackInfo(self._hasher.digest(), size, self._index)

    def _flush_group(self) -> None:
        if not self._group:
            return
        parts = [data for _, data in self._group]
        chunks = [(digest, len(data)) for digest, data in self._group]
        self._group.clear()
        self._group_size = 0
        self.add_frame(pack_frame(b"".join(parts), self._compressor, parts), chunks, counted=True)

    def _write(self, data: bytes) -> None:
        self._hasher.update(data)
        self._file.write(data)


def pack_frame(
    raw: Data, compressor: zstandard.ZstdCompressor, chunks: Sequence[Data] = ()
) -> bytes:
    """Return the stored form of a frame, with these `chunks`: compressed where that saves 3 %.

    Where parts of it, taken all over it, cannot be compressed at all, the whole is not tried.
    """
    if len(raw) > 2 * PROBED_SIZE_BYTES and len(chunks) <= PROBED_CHUNKS_MAX:
        probe = _probe_of(raw, chunks)
        if len(compressor.compress(probe)) > len(probe) * (1 - PROBE_SAVING_MIN):
            return RAW + raw
    packed = compressor.compress(raw)
    if len(packed) <= len(raw) * (1 - SAVING_MIN):
        return ZSTD + packed
    return RAW + raw


def _probe_of(raw: Data, chunks: Sequence[Data]) -> bytes:
    if len(chunks) < 2:
        size = PROBED_SIZE_BYTES // PROBE_PIECES
        step = (len(raw) - size) // (PROBE_PIECES - 1)
        return b"".join([raw[at * step : at * step + size] for at in range(PROBE_PIECES)])
    # The same places of each: files that are alike, if random, are so at the same places.
    size = PROBED_SIZE_BYTES // (2 * len(chunks))
    middles = [chunk[len(chunk) // 2 :][:size] for chunk in chunks]
    return b"".join([*(chunk[:size] for chunk in chunks), *middles])


def unpack_frame(stored: bytes | memoryview, *, where: str) -> bytes | memoryview:
    """Return the raw bytes of a frame; CorruptError, naming `where`, if it is not one.

    Nothing is unpacked that claims to be larger than a frame may be, and nothing may follow it.
    """
    codec, body = bytes(stored[:1]), memoryview(stored)[1:]
    if codec == RAW:
        return body
    if codec != ZSTD:
        raise CorruptError(f"{where}: a frame has the unknown codec {codec.hex() or 'none'}")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= FRAME_RAW_SIZE_MAX_BYTES:
            raise CorruptError(f"{where}: a frame claims to unpack to {size:,} bytes")
        raw = unzstd(body, size)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{where}: a frame cannot be unpacked ({error})") from error
    if len(raw) != size:
        raise CorruptError(f"{where}: a frame unpacks to {len(raw):,} bytes, not {size:,}")
    return raw


def unzstd(stored: bytes | memoryview, size: int) -> bytes:
    """Return the `size` bytes of the one zstd frame that `stored` must be; ZstdError if not."""
    return zstandard.ZstdDecompressor().decompress(
        stored, max_output_size=size, allow_extra_data=False
    )


def chunk_in(
    raw: bytes | memoryview, start: int, size: int, digest: Digest, *, where: str
) -> memoryview:
    """Return a chunk of an unpacked frame, checked against its name."""
    view = memoryview(raw)[start : start + size]
    if len(view) != size or digest_of(view) != digest:
        raise CorruptError(f"{where}: chunk {digest.hex()} has other bytes than its name says")
    return view


def encode_index(index: PackIndex) -> bytes:
    """Return the columns of an index as bytes, before compression."""
    recipe_chunks = [digest for recipe in index.recipes for digest in recipe.chunks]
    return b"".join(
        [
            COUNTS.pack(
                len(index.frame_sizes),
                len(index.chunk_digests),
                len(index.recipes),
                len(recipe_chunks),
            ),
            little_endian(index.frame_sizes),
            little_endian(index.frame_guards),
            *index.chunk_digests,
            little_endian(index.chunk_sizes),
            little_endian(index.chunk_frames),
            *[recipe.digest for recipe in index.recipes],
            little_endian(array("Q", [recipe.size for recipe in index.recipes])),
            little_endian(array("I", [len(recipe.chunks) for recipe in index.recipes])),
            *recipe_chunks,
        ]
    )


def decode_index(raw: bytes, *, data_size: int, where: str) -> PackIndex:
    """Return the index of a pack whose frames take `data_size` bytes.

    CorruptError if the columns do not fit together: sizes that do not add up to `data_size`,
    frame numbers that fall or do not exist, counts that the bytes do not bear out.
    """
    if len(raw) < COUNTS.size:
        raise CorruptError(f"{where}: the index is cut short")
    frames, chunks, recipes, recipe_chunks = COUNTS.unpack_from(raw)
    expected = (
        COUNTS.size
        + INDEX_BYTES_PER_FRAME * frames
        + INDEX_BYTES_PER_CHUNK * chunks
        + INDEX_BYTES_PER_RECIPE * recipes
        + DIGEST_SIZE_BYTES * recipe_chunks
    )
    if len(raw) != expected:
        raise CorruptError(f"{where}: the index has {len(raw):,} bytes, not {expected:,}")
    _check_zeros(raw, frames, chunks, where=where)
    columns = Columns(raw, COUNTS.size)
    index = PackIndex(
        frame_sizes=columns.numbers("I", frames),
        frame_guards=columns.numbers("Q", frames),
        chunk_digests=columns.digests(chunks),
        chunk_sizes=columns.numbers("I", chunks),
        chunk_frames=columns.numbers("I", chunks),
    )
    names = columns.digests(recipes)
    sizes = columns.numbers("Q", recipes)
    counts = columns.numbers("I", recipes)
    if sum(counts) != recipe_chunks:
        raise CorruptError(f"{where}: the recipes in the index do not add up")
    for name, size, count in zip(names, sizes, counts, strict=True):
        index.recipes.append(Recipe(name, size, tuple(columns.digests(count))))
    _check_frames(index, data_size=data_size, where=where)
    return index


def read_index(file: BinaryIO, *, size: int, where: str) -> PackIndex:
    """Read the index of a pack of `size` bytes from a seekable file."""
    if not TRAILER.size <= size <= PACK_SIZE_MAX_BYTES:
        raise CorruptError(f"{where}: {size:,} bytes are too few or too many for a pack")
    file.seek(size - TRAILER.size)
    stored_size, raw_size, guard, version, zero, magic = TRAILER.unpack(file.read(TRAILER.size))
    if magic != PACK_MAGIC:
        raise CorruptError(f"{where}: not a pack (its trailer is not one)")
    if version != PACK_VERSION:
        raise CorruptError(
            f"{where}: pack format {version}, this dvtool reads {PACK_VERSION}",
            hint=f"use a version of dvtool that reads format {version}",
        )
    data_size = size - TRAILER.size - stored_size
    if data_size < 0 or raw_size > PACK_SIZE_MAX_BYTES or zero != 0:
        raise CorruptError(f"{where}: the index cannot be as large as the trailer says")
    file.seek(data_size)
    stored = file.read(stored_size)
    if len(stored) != stored_size or guard_of(stored) != guard:
        raise CorruptError(f"{where}: the index is damaged")
    try:
        if zstandard.frame_content_size(stored) != raw_size:
            raise CorruptError(f"{where}: the index is not as large as the trailer says")
        raw = unzstd(stored, raw_size)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{where}: the index cannot be unpacked ({error})") from error
    return decode_index(raw, data_size=data_size, where=where)


def verify_pack(file: BinaryIO, index: PackIndex, *, where: str) -> None:
    """Read every frame of a pack and check every chunk by its name; CorruptError if one is wrong.

    Recipes are not checked: their chunks may be in other packs.
    """
    file.seek(0)
    placements = index.placements()
    placement = next(placements, None)
    offset = 0
    for size, guard in zip(index.frame_sizes, index.frame_guards, strict=True):
        stored = file.read(size)
        if len(stored) != size or guard_of(stored) != guard:
            raise CorruptError(f"{where}: the frame at {offset:,} is damaged")
        raw = unpack_frame(stored, where=where)
        filled = 0
        while placement is not None and placement.frame_offset == offset:
            chunk_in(raw, placement.start, placement.size, placement.digest, where=where)
            filled = placement.start + placement.size
            placement = next(placements, None)
        if filled != len(raw):
            raise CorruptError(f"{where}: the frame at {offset:,} holds more than its chunks")
        offset += size


def _check_zeros(raw: bytes, frames: int, chunks: int, *, where: str) -> None:
    """Refuse empty frames and chunks: a few bytes of index could claim millions of them."""
    if 0 in Columns(raw, COUNTS.size).numbers("I", frames):
        raise CorruptError(f"{where}: the index has a frame without bytes")
    sizes_at = COUNTS.size + INDEX_BYTES_PER_FRAME * frames + DIGEST_SIZE_BYTES * chunks
    if 0 in Columns(raw, sizes_at).numbers("I", chunks):
        raise CorruptError(f"{where}: the index has a chunk without bytes")


def _check_frames(index: PackIndex, *, data_size: int, where: str) -> None:
    if index.data_size != data_size:
        raise CorruptError(f"{where}: the frames in the index do not fill the pack")
    before = 0
    raw_sizes = [0] * len(index.frame_sizes)
    for frame, size in zip(index.chunk_frames, index.chunk_sizes, strict=True):
        if frame < before or frame >= len(raw_sizes):
            raise CorruptError(f"{where}: the index puts a chunk into a frame that is not there")
        before = frame
        raw_sizes[frame] += size
    if 0 in raw_sizes:
        raise CorruptError(f"{where}: the index has a frame without chunks")
    if any(size > FRAME_RAW_SIZE_MAX_BYTES for size in raw_sizes):
        raise CorruptError(f"{where}: the index has a frame of more than a frame may unpack to")
