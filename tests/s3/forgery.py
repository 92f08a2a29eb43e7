"""Objects as somebody might forge them who can write to a remote, byte by byte."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from dvtool.format.columns import Columns
from dvtool.format.digest import Digest, digest_of, guard_of
from dvtool.format.locations import HEADER, LOCATION_COUNTS, SHARD_MAGIC, split_object
from dvtool.format.pack import PACK_MAGIC, PACK_VERSION, TRAILER, PackIndex, encode_index

U32_MAX = (1 << 32) - 1


@dataclass
class Locations:
    """The columns of a shard's locations, free to be set to anything."""

    packs: list[tuple[Digest, int]]
    counts: list[int]
    rows: list[list[int]]
    """Of each chunk: pack number, frame offset, frame size, start, size."""
    names: list[Digest]
    head: tuple[int, int, int, int] | None = None
    """The four counts, if they are to lie."""

    @classmethod
    def parse(cls, raw: bytes) -> Locations:
        packs, files, chunks, named = LOCATION_COUNTS.unpack_from(raw)
        columns = Columns(raw, LOCATION_COUNTS.size)
        digests = columns.digests(packs)
        sizes = columns.numbers("I", packs)
        counts = columns.numbers("I", files)
        rows = zip(*[columns.numbers("I", chunks) for _ in range(5)], strict=True)
        names = columns.digests(named)
        return cls(
            list(zip(digests, sizes, strict=True)), list(counts), list(map(list, rows)), names
        )

    def encode(self) -> bytes:
        head = self.head or (len(self.packs), len(self.counts), len(self.rows), len(self.names))
        numbers = [
            array("I", [size for _, size in self.packs]),
            array("I", self.counts),
            *(array("I", [row[column] for row in self.rows]) for column in range(5)),
        ]
        return b"".join(
            [
                LOCATION_COUNTS.pack(*head),
                *[digest for digest, _ in self.packs],
                *[column.tobytes() for column in numbers],
                *self.names,
            ]
        )


@dataclass
class ShardFile:
    """One shard object on a folder remote, opened for forgery."""

    path: Path
    text: bytes
    locations: Locations

    @classmethod
    def open(cls, path: Path) -> ShardFile:
        text, raw = split_object(path.read_bytes(), path.name)
        return cls(path, text, Locations.parse(raw))

    def write(self) -> None:
        self.path.write_bytes(shard_object(self.text, self.locations.encode()))


def shard_object(
    text: bytes,
    raw: bytes,
    *,
    text_raw: int | None = None,
    locations_raw: int | None = None,
    stored_text: bytes | None = None,
    stored: bytes | None = None,
) -> bytes:
    """Return a shard object; the keyword arguments stand in place of what would be true."""
    packed_text = zstandard.compress(text) if stored_text is None else stored_text
    packed = zstandard.compress(raw) if stored is None else stored
    header = HEADER.pack(
        SHARD_MAGIC,
        len(packed_text),
        len(text) if text_raw is None else text_raw,
        len(packed),
        len(raw) if locations_raw is None else locations_raw,
        guard_of(packed),
    )
    return header + packed_text + packed


def zeros(size: int) -> bytes:
    """Return a zstd frame that unpacks to so many zeros and says so, made without much memory."""
    stream = zstandard.ZstdCompressor().compressobj(size=size)
    block = bytes(1 << 20)
    parts = [stream.compress(block[: min(size - at, 1 << 20)]) for at in range(0, size, 1 << 20)]
    return b"".join([*parts, stream.flush()])


def sizeless(data: bytes) -> bytes:
    """Return a zstd frame that does not say to how much it unpacks."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def boasting(size: int) -> bytes:
    """Return a zstd frame that claims to unpack to `size` bytes, and holds next to nothing."""
    # Magic, a descriptor (content size of 8 bytes, single segment), the size, one empty last block.
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\x00\x00"


@dataclass
class Pack:
    """A pack whose frames and index need not agree; its id always is that of its bytes."""

    frames: Sequence[bytes]
    index: PackIndex = field(default_factory=PackIndex)
    raw: bytes | None = None
    raw_size: int | None = None
    stored: bytes | None = None
    stored_size: int | None = None
    version: int = PACK_VERSION

    def encode(self) -> bytes:
        raw = encode_index(self.index) if self.raw is None else self.raw
        stored = zstandard.compress(raw) if self.stored is None else self.stored
        trailer = TRAILER.pack(
            len(stored) if self.stored_size is None else self.stored_size,
            len(raw) if self.raw_size is None else self.raw_size,
            guard_of(stored),
            self.version,
            0,
            PACK_MAGIC,
        )
        return b"".join([*self.frames, stored, trailer])


def index_of(frames: Sequence[bytes], chunks: Sequence[tuple[Digest, int, int]]) -> PackIndex:
    """Return an index: of the frames as they are, of the chunks (name, size, frame) as said."""
    return PackIndex(
        frame_sizes=array("I", map(len, frames)),
        frame_guards=array("Q", map(guard_of, frames)),
        chunk_digests=[digest for digest, _, _ in chunks],
        chunk_sizes=array("I", [size for _, size, _ in chunks]),
        chunk_frames=array("I", [frame for _, _, frame in chunks]),
    )


def put_pack(remote: Path, data: bytes) -> tuple[Digest, int]:
    """Put a pack on a folder remote under its true id; return that and its size."""
    digest = digest_of(data)
    place = remote / "packs" / digest.hex()[:2] / digest.hex()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return digest, len(data)
