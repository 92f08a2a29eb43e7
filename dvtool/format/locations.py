"""Shard objects: the entries of a shard (which its hash covers) and where their content is.

::

    object  = header entries locations
    header  = 8 bytes magic, u32 entries size, u32 entries size before zstd,
              u32 locations size, u32 locations size before zstd, u64 XXH3-64 of stored locations
    entries = zstd of the canonical text; its BLAKE3 is the shard's hash and name
    locations = zstd of the columns below, little-endian; empty where the object is kept locally

    columns = u32 packs, u32 files, u32 chunks, u32 named chunks
              32 bytes pack BLAKE3 × packs
              u32 pack size × packs
              u32 chunk count × files         (one file per distinct non-empty content, in the
                                               order in which the entries first name it)
              u32 pack number, u32 frame offset, u32 frame size, u32 start, u32 size: each × chunks
              32 bytes BLAKE3 × named chunks  (of the files with several chunks, in order; a file's
                                               only chunk has the file's own hash)
              references, as JSON             (of the files whose chunks are in no pack)

Locations are a hint: the reader checks every chunk and file by its hash. gc may replace them.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import add, le
from typing import NamedTuple, TypeAlias

import msgspec
import zstandard

from dvtool.errors import INSTALL_NEWER, CorruptError
from dvtool.format.chunker import SMALL
from dvtool.format.columns import Columns, little_endian
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, digest_of, guard_of, hasher
from dvtool.format.manifest import Entries, ShardRef, decode_any_shard, decode_shard
from dvtool.format.pack import (
    FRAME_RAW_SIZE_MAX_BYTES,
    FRAME_STORED_SIZE_MAX_BYTES,
    PACK_SIZE_MAX_BYTES,
    ZSTD_LEVEL,
    Placement,
    unzstd,
)
from dvtool.format.references import (
    REFERENCE_TEXT_MAX_BYTES,
    Reference,
    decode_references,
    encode_references,
)

SHARD_MAGIC = b"\x89dvshrd\n"
HEADER = struct.Struct("<8sIIIIQ")
TEXT_ZSTD_LEVEL = 1
"""Of hashes in hex zstd mostly makes less at this level, in half the time: it seeks no repeats."""
LOCATION_COUNTS = struct.Struct("<IIII")
OBJECT_SIZE_MAX_BYTES = 64 << 20
"""A shard object larger than this is refused before it is read."""
PART_RAW_SIZE_MAX_BYTES = 256 << 20
ZSTD_WINDOW_MAX_BYTES = 8 << 20
"""How far back zstd may refer; every decoder must manage this, and level 3 uses 2 MiB."""
UNPACK_BLOCK_BYTES = 1 << 20
UNPACKED_AT_ONCE_MAX_BYTES = 4 << 20
"""A text of at most so many bytes is unpacked before its hash is looked at, a larger one twice."""
NO_PACK = 0xFFFFFFFF
"""The number of a pack that chunks at a source have in the columns."""


class RemotePack(msgspec.Struct, frozen=True, gc=False):
    """A pack as locations name it; `size` in bytes lets a listing prove it whole."""

    digest: Digest
    size: int


class Located(msgspec.Struct, frozen=True, gc=False):
    """One chunk on a remote."""

    pack: RemotePack
    placement: Placement


PlaceRow: TypeAlias = tuple[int, Digest, int, int, int, int]
"""A chunk's place in short: the number of its pack, and the values of a `Placement`."""


class ChunkPlaces(NamedTuple):
    """Where chunks are on a remote, as rows: a `Located` for each of a million takes long."""

    packs: dict[int, RemotePack]
    rows: dict[Digest, PlaceRow]

    def packs_used(self) -> set[RemotePack]:
        """Return the packs that any of the chunks is in."""
        return {self.packs[number] for number in {row[0] for row in self.rows.values()}}


class StoredPlaces(msgspec.Struct, frozen=True):
    """The locations of a shard as its object has them: a tenth of the memory of `Located`."""

    stored: bytes
    raw_size: int
    """How large it says that they are, in bytes; to be looked at before they are unpacked."""

    def unpack(self, name: str) -> bytes:
        """Return the locations as they were before zstd."""
        return _unpack(self.stored, self.raw_size, name)

    def decode(
        self, entries: Entries, name: str
    ) -> tuple[dict[Digest, list[Located]], dict[Digest, Reference]]:
        """Do as `decode_places`, with the checked entries of the same shard."""
        return decode_places(self.unpack(name), entries, name)


class ShardObject(msgspec.Struct, frozen=True):
    """A decoded shard object: the canonical text, and by file the locations or the reference."""

    text: bytes
    locations: Mapping[Digest, list[Located]]
    references: dict[Digest, Reference] = {}
    places: StoredPlaces | None = None
    """The locations and references once more, as the object has them, if it has any."""


ContentPlaces: TypeAlias = Mapping[Digest, Iterable[Located] | Reference]
"""File -> where its chunks are, or the object that it is at its source."""


def contents_of(entries: Entries) -> dict[Digest, int]:
    """Return digest -> size of the distinct, non-empty file contents, in the order of entries."""
    contents: dict[Digest, int] = {}
    for entry in entries.values():
        if entry.size > 0:
            contents.setdefault(bytes.fromhex(entry.blake3), entry.size)
    return contents


def encode_object(text: bytes, locations: ContentPlaces | bytes | None) -> bytes:
    """Return a shard object; without locations, the form that the local store keeps.

    `locations` must be in the order of `contents_of` the entries, or be what `encode_locations`
    made of such.
    """
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    if isinstance(locations, bytes):
        raw = locations
    else:
        raw = b"" if locations is None else encode_locations(locations)
    stored_text = zstandard.ZstdCompressor(level=TEXT_ZSTD_LEVEL).compress(text)
    stored = compressor.compress(raw) if raw else b""
    header = HEADER.pack(
        SHARD_MAGIC, len(stored_text), len(text), len(stored), len(raw), guard_of(stored)
    )
    return header + stored_text + stored


def encode_locations(locations: ContentPlaces) -> bytes:
    """Return locations as columns, before zstd: 24 bytes for a file of one chunk."""
    numbers: dict[RemotePack, int] = {}
    rows: list[PlaceRow] = []
    references = [where for where in locations.values() if isinstance(where, Reference)]
    counts = array("I")
    for chunks in locations.values():
        before = len(rows)
        if isinstance(chunks, Reference):
            rows += place_rows_of(chunks)
            chunks = ()
        for chunk in chunks:
            placement = chunk.placement
            number = numbers.setdefault(chunk.pack, len(numbers))
            rows.append(
                (
                    number,
                    placement.digest,
                    placement.frame_offset,
                    placement.frame_size,
                    placement.start,
                    placement.size,
                )
            )
        counts.append(len(rows) - before)
    packs = {number: pack for pack, number in numbers.items()}
    return encode_place_rows(packs, rows, counts, references)


def place_rows_of(reference: Reference) -> list[PlaceRow]:
    """Return the rows of the chunks of a content that is in no pack."""
    return [(NO_PACK, digest, 0, 0, 0, size) for digest, size in reference.chunks]


def encode_place_rows(
    packs: Mapping[int, RemotePack],
    rows: Sequence[PlaceRow],
    counts: array[int],
    references: Sequence[Reference] = (),
) -> bytes:
    """Return locations as columns: `counts` says how many of the rows each file has, in order.

    `references` are those of the files whose rows have `NO_PACK`, in order.
    """
    columns = list(zip(*rows, strict=True)) or [()] * 6
    numbers, digests = columns[:2]
    named: list[Digest] = []
    if set(counts) - {1}:
        left = iter(digests)
        for count in counts:
            chunks = list(islice(left, count))
            named += chunks if count != 1 else ()
    return encode_place_columns(packs, numbers, columns[2:], counts, named, references)


def encode_place_columns(
    packs: Mapping[int, RemotePack],
    numbers: Sequence[int],
    places: Sequence[Sequence[int]],
    counts: array[int],
    named: Sequence[Digest] = (),
    references: Sequence[Reference] = (),
) -> bytes:
    """Do as `encode_place_rows`, of columns: numbers of packs, then `places` as in a row's end.

    `named` are the chunks, in order, of files that have not one.
    """
    sizes: dict[Digest, int] = {}
    order: dict[Digest, int] = {}
    shown: dict[int, int] = {NO_PACK: NO_PACK}
    for number in dict.fromkeys(numbers):
        if number == NO_PACK:
            continue
        pack = packs[number]
        sizes.setdefault(pack.digest, pack.size)
        shown[number] = order.setdefault(pack.digest, len(order))
    columns = [array("I", map(shown.__getitem__, numbers)), *(array("I", c) for c in places)]
    return b"".join(
        [
            LOCATION_COUNTS.pack(len(sizes), len(counts), len(numbers), len(named)),
            *sizes,
            *map(little_endian, (array("I", sizes.values()), counts, *columns)),
            *named,
            encode_references(references),
        ]
    )


class _Parts(msgspec.Struct, frozen=True):
    """The stored parts of a shard object, and the size that each claims to unpack to."""

    text: bytes
    text_raw_size: int
    locations: bytes
    locations_raw_size: int


def split_object(data: bytes, name: str) -> tuple[bytes, bytes]:
    """Return the canonical text and the raw locations of a shard object, neither checked."""
    parts = _parts(data, name)
    text = _unpack(parts.text, parts.text_raw_size, name)
    return text, _unpack(parts.locations, parts.locations_raw_size, name)


def decode_object(data: bytes, ref: ShardRef | Digest, name: str) -> tuple[Entries, ShardObject]:
    """Return the entries and the locations of a shard object from elsewhere, checked.

    `ref` is how a manifest refers to the shard, or only its hash. The text is unpacked into memory
    only once its hash is right, the locations only once their size is within what the entries
    allow. CorruptError, naming `name` or the shard's hash, if something is wrong.
    """
    opened = open_object(data, ref.digest if isinstance(ref, ShardRef) else ref, name)
    text = opened.text
    entries = decode_shard(text, ref) if isinstance(ref, ShardRef) else decode_any_shard(text, ref)
    places = opened.places
    if places.raw_size > _locations_size_max(entries):
        raise CorruptError(f"{name}: its locations are more than its entries can have")
    located, references = places.decode(entries, name)
    return entries, ShardObject(text, located, references, places if places.raw_size else None)


def decode_entries(data: bytes, ref: ShardRef, name: str) -> Entries:
    """Return the entries of a shard object from elsewhere, checked; see `decode_object`."""
    return decode_shard(open_object(data, ref.digest, name).text, ref)


class OpenedObject(NamedTuple):
    """A shard object from elsewhere, of which the text was checked."""

    text: bytes
    places: StoredPlaces


def open_object(data: bytes, digest: Digest, name: str) -> OpenedObject:
    """Return the text of a shard object from elsewhere, checked by its hash; else CorruptError."""
    parts = _parts(data, name)
    places = StoredPlaces(parts.locations, parts.locations_raw_size)
    return OpenedObject(_checked_text(parts, digest, name), places)


def without_locations(data: bytes, name: str) -> bytes | None:
    """Return a shard object in the form that the local store keeps; its text stays stored.

    None if no writer stores it so: too long, or with a window that not every reader allows.
    """
    parts = _parts(data, name)
    window_bytes = zstandard.get_frame_parameters(parts.text).window_size
    if len(parts.text) > parts.text_raw_size or window_bytes > ZSTD_WINDOW_MAX_BYTES:
        return None
    header = HEADER.pack(SHARD_MAGIC, len(parts.text), parts.text_raw_size, 0, 0, guard_of(b""))
    return header + parts.text


def with_locations(data: bytes, digest: Digest, locations: bytes, name: str) -> bytes:
    """Return a shard object with these encoded locations; its text, of this hash, stays stored.

    CorruptError, naming `name`, if the text is not the shard's.
    """
    parts = _parts(data, name)
    _check_text(parts, digest, name)
    stored = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(locations) if locations else b""
    sizes = len(parts.text), parts.text_raw_size, len(stored), len(locations)
    header = HEADER.pack(SHARD_MAGIC, *sizes, guard_of(stored))
    return header + parts.text + stored


def _parts(data: bytes, name: str) -> _Parts:
    if len(data) < HEADER.size:
        raise CorruptError(f"{name}: {len(data)} bytes are too few for a shard")
    magic, text_size, text_raw, size, raw, guard = HEADER.unpack_from(data)
    if magic != SHARD_MAGIC:
        raise CorruptError(
            f"{name}: is not a shard of format 1",
            hint=f"if a newer dvtool wrote it: {INSTALL_NEWER}",
        )
    if len(data) != HEADER.size + text_size + size:
        raise CorruptError(f"{name}: has {len(data):,} bytes, not the size that its header says")
    stored_text = data[HEADER.size : HEADER.size + text_size]
    stored = data[HEADER.size + text_size :]
    if guard_of(stored) != guard:
        raise CorruptError(f"{name}: its locations are damaged")
    return _Parts(stored_text, text_raw, stored, raw)


def _checked_text(parts: _Parts, digest: Digest, name: str) -> bytes:
    if parts.text_raw_size <= UNPACKED_AT_ONCE_MAX_BYTES:
        text = _unpack(parts.text, parts.text_raw_size, name)
        if digest_of(text) == digest:
            return text
    _check_text(parts, digest, name)
    return _unpack(parts.text, parts.text_raw_size, name)


def _check_text(parts: _Parts, digest: Digest, name: str) -> None:
    """Raise CorruptError unless the text has its hash; only a block of it is held at a time."""
    whole = hasher()
    left = min(parts.text_raw_size, PART_RAW_SIZE_MAX_BYTES)
    unpacking = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX_BYTES)
    try:
        with unpacking.stream_reader(parts.text) as stream:
            while left > 0 and (block := stream.read(min(left, UNPACK_BLOCK_BYTES))):
                whole.update(block)
                left -= len(block)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{name}: cannot be unpacked ({error})") from error
    if whole.digest() != digest:
        raise CorruptError(f"{name}: its text is not what its name says")


def _locations_size_max(entries: Entries) -> int:
    """Return how large the locations of these entries can be, if every chunk is minimal."""
    chunks = [1 + size // SMALL.minimum for size in contents_of(entries).values()]
    # Each chunk in a pack of its own, with a name of its own.
    per_chunk = 5 * 4 + 2 * DIGEST_SIZE_BYTES + 4
    per_file = 4 + REFERENCE_TEXT_MAX_BYTES
    return LOCATION_COUNTS.size + per_file * len(chunks) + per_chunk * sum(chunks)


def decode_locations(raw: bytes, entries: Entries, name: str) -> dict[Digest, list[Located]]:
    """Return file digest -> its chunks, of the files that are in packs; see `decode_places`."""
    return decode_places(raw, entries, name)[0]


def decode_places(
    raw: bytes, entries: Entries, name: str
) -> tuple[dict[Digest, list[Located]], dict[Digest, Reference]]:
    """Return file digest -> its chunks, from a shard's raw locations and its checked entries.

    Files that are at their source have a reference in place of that. CorruptError if they do not
    fit the entries or point outside of a pack.
    """
    if not raw:
        return {}, {}
    contents = contents_of(entries)
    if len(raw) < LOCATION_COUNTS.size:
        raise CorruptError(f"{name}: its locations are cut short")
    packs, files, chunks, named = LOCATION_COUNTS.unpack_from(raw)
    expected = (
        LOCATION_COUNTS.size + (DIGEST_SIZE_BYTES + 4) * packs + 4 * files + 20 * chunks
        + DIGEST_SIZE_BYTES * named
    )  # fmt: skip
    if len(raw) < expected or files != len(contents):
        raise CorruptError(f"{name}: its locations do not fit its entries")
    columns = Columns(raw, LOCATION_COUNTS.size)
    digests = columns.digests(packs)
    sizes = columns.numbers("I", packs)
    table = [RemotePack(d, s) for d, s in zip(digests, sizes, strict=True)]
    counts = columns.numbers("I", files)
    places = [columns.numbers("I", chunks) for _ in range(5)]
    names = columns.digests(named)
    check_places(places, sizes, name)
    if sum(counts) != chunks or sum(count for count in counts if count != 1) != named:
        raise CorruptError(f"{name}: its locations do not add up")
    located, outside = _by_file(contents, counts, places, names, table, name)
    return located, decode_references(raw[expected:], outside, name)


def _by_file(
    contents: Mapping[Digest, int],
    counts: array[int],
    places: list[array[int]],
    names: list[Digest],
    packs: list[RemotePack],
    name: str,
) -> tuple[dict[Digest, list[Located]], dict[Digest, tuple[tuple[Digest, int], ...]]]:
    """Return the files in packs, and the chunks of those at their source."""
    rows = zip(*places, strict=True)
    names_left = iter(names)
    located: dict[Digest, list[Located]] = {}
    outside: dict[Digest, tuple[tuple[Digest, int], ...]] = {}
    for (digest, file_size), count in zip(contents.items(), counts, strict=True):
        chunks = []
        elsewhere = []
        total = 0
        for _ in range(count):
            number, offset, frame_size, start, size = next(rows)
            chunk = digest if count == 1 else next(names_left)
            total += size
            if number == NO_PACK:
                elsewhere.append((chunk, size))
                continue
            chunks.append(Located(packs[number], Placement(chunk, offset, frame_size, start, size)))
        if total != file_size or (chunks and elsewhere):
            raise CorruptError(f"{name}: the chunks of {digest.hex()} are not of the file's size")
        if elsewhere:
            outside[digest] = tuple(elsewhere)
        else:
            located[digest] = chunks
    return located, outside


def check_places(places: list[array[int]], pack_sizes: array[int], name: str) -> None:
    """Raise CorruptError if chunks, by columns, are outside of a pack or of a frame."""
    numbers, offsets, frame_sizes, starts, sizes = places
    if any(size > PACK_SIZE_MAX_BYTES for size in pack_sizes):
        raise CorruptError(f"{name}: names a pack of more than {PACK_SIZE_MAX_BYTES:,} bytes")
    if _are_within(places, pack_sizes):
        return
    for number, offset, frame_size in zip(numbers, offsets, frame_sizes, strict=True):
        if number == NO_PACK and not offset and not frame_size:
            continue
        if number >= len(pack_sizes) or offset + frame_size > pack_sizes[number]:
            raise CorruptError(f"{name}: points outside of a pack")
        if not 0 < frame_size <= FRAME_STORED_SIZE_MAX_BYTES:
            raise CorruptError(f"{name}: names a frame of {frame_size:,} bytes")
    for start, size in zip(starts, sizes, strict=True):
        if size == 0 or start + size > FRAME_RAW_SIZE_MAX_BYTES:
            raise CorruptError(f"{name}: points outside of a frame")


def _are_within(places: list[array[int]], pack_sizes: array[int]) -> bool:
    """Whether all chunks are in packs, and within them: one look at each column, not each chunk."""
    numbers, offsets, frame_sizes, starts, sizes = places
    if not numbers or max(numbers) >= len(pack_sizes):
        return False
    ends = map(add, offsets, frame_sizes)
    return (
        0 < min(frame_sizes) <= max(frame_sizes) <= FRAME_STORED_SIZE_MAX_BYTES
        and min(sizes) > 0
        and max(map(add, starts, sizes)) <= FRAME_RAW_SIZE_MAX_BYTES
        and all(map(le, ends, map(pack_sizes.__getitem__, numbers)))
    )


def _unpack(stored: bytes, raw_size: int, name: str) -> bytes:
    if not stored:
        return b""
    try:
        claimed = zstandard.frame_content_size(stored)
        if claimed != raw_size or raw_size > PART_RAW_SIZE_MAX_BYTES:
            raise CorruptError(f"{name}: a part claims to unpack to {claimed:,} bytes")
        return unzstd(stored, raw_size)
    except zstandard.ZstdError as error:
        raise CorruptError(f"{name}: cannot be unpacked ({error})") from error
