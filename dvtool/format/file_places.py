"""Shard objects from elsewhere, read without an object for each file: entries and places.

They are read as `decode_object` reads them, with the same results and errors. Where a shard has
more than plain files of one chunk each, or anything is wrong, that is asked.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from typing import NamedTuple

from dvtool.errors import CorruptError
from dvtool.format.columns import Columns
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.file_columns import (
    FileColumns,
    decode_file_columns,
    decode_plain_files,
)
from dvtool.format.locations import (
    LOCATION_COUNTS,
    Located,
    RemotePack,
    ShardObject,
    check_places,
    decode_object,
    open_object,
)
from dvtool.format.manifest import Entries, ShardRef
from dvtool.format.pack import Placement
from dvtool.format.references import Reference

FILE_PLACE_BYTES = 200
"""About so much the place of a file takes: its name, an index entry and five numbers."""


class ListedShard(NamedTuple):
    """A shard object from elsewhere, checked."""

    text: bytes
    listed: FileColumns | Entries
    locations: Mapping[Digest, list[Located]]
    references: Mapping[Digest, Reference]


def decode_listed(data: bytes, ref: ShardRef, name: str) -> ListedShard:
    """Return a shard object from elsewhere, checked, with the errors of `decode_object`."""
    opened = open_object(data, ref.digest, name)
    files = decode_file_columns(opened.text, ref)
    if files is not None and opened.places.raw_size <= _places_size(len(files.paths)):
        places = decode_file_places(opened.places.unpack(name), files)
        if places is not None:
            return ListedShard(opened.text, files, places, {})
    entries, shard = decode_object(data, ref, name)
    return ListedShard(shard.text, entries, shard.locations, shard.references)


def decode_fetched(data: bytes, ref: ShardRef, name: str) -> tuple[Entries, ShardObject]:
    """Do as `decode_object`; of a shard of plain files the locations are `FilePlaces`."""
    opened = open_object(data, ref.digest, name)
    files = decode_plain_files(opened.text, ref)
    if files is not None and opened.places.raw_size <= _places_size(len(files[1].paths)):
        places = decode_file_places(opened.places.unpack(name), files[1])
        if places is not None:
            return files[0], ShardObject(opened.text, places, {}, opened.places)
    return decode_object(data, ref, name)


class FilePlaces(Mapping[Digest, list[Located]]):
    """Where contents are on a remote, of which each is one chunk: an object when it is asked for.

    A tenth of the memory of a dictionary of these objects.
    """

    def __init__(
        self, rows: dict[Digest, int], packs: Sequence[RemotePack], places: Sequence[array[int]]
    ) -> None:
        self._rows = rows
        self._packs = packs
        self._places = places

    def __getitem__(self, content: Digest) -> list[Located]:
        row = self._rows[content]
        numbers, offsets, frame_sizes, starts, sizes = self._places
        placement = Placement(content, offsets[row], frame_sizes[row], starts[row], sizes[row])
        return [Located(self._packs[numbers[row]], placement)]

    def held(self, contents: Iterable[Digest]) -> dict[Digest, list[Located]]:
        """Return the chunks of those of the contents that are of this shard."""
        rows = self._rows
        return {content: self[content] for content in contents if content in rows}

    def packs_used(self) -> set[RemotePack]:
        """Return the packs that any of the contents is in."""
        return {self._packs[number] for number in set(self._places[0])}

    @property
    def size_bytes(self) -> int:
        """About how much memory this takes."""
        return FILE_PLACE_BYTES * len(self._rows)

    def __contains__(self, content: object) -> bool:
        return content in self._rows

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self) -> KeysView[Digest]:
        """Return the contents, as a dictionary does."""
        return self._rows.keys()


def decode_file_places(raw: bytes, files: FileColumns) -> FilePlaces | None:
    """Return where files are from a shard's raw locations; None for any doubt."""
    if len(raw) < LOCATION_COUNTS.size:
        return None
    packs, contents, chunks, named = LOCATION_COUNTS.unpack_from(raw)
    rows, sizes = _content_rows(files)
    if (
        len(raw) != _places_size(contents) - (DIGEST_SIZE_BYTES + 4) * (contents - packs)
        or named
        or not contents == chunks == len(rows)
    ):
        return None
    columns = Columns(raw, LOCATION_COUNTS.size)
    digests, pack_sizes = columns.digests(packs), columns.numbers("I", packs)
    counts = columns.numbers("I", contents)
    places = [columns.numbers("I", chunks) for _ in range(5)]
    if counts.count(1) != contents or places[4] != sizes:
        return None
    try:
        check_places(places, pack_sizes, "")
    except CorruptError:
        return None
    if max(places[0]) >= packs:  # a chunk at its source
        return None
    table = [RemotePack(d, s) for d, s in zip(digests, pack_sizes, strict=True)]
    return FilePlaces(rows, table, places)


def _content_rows(files: FileColumns) -> tuple[dict[Digest, int], array[int]]:
    """Return the distinct contents in the order in which files first name them, and their sizes."""
    digests = struct.unpack(f"{DIGEST_SIZE_BYTES}s" * len(files.paths), files.digests)
    rows = dict(zip(digests, range(len(digests)), strict=True))
    if len(rows) == len(digests):
        return rows, files.sizes
    sizes: dict[Digest, int] = {}
    for digest, size in zip(digests, files.sizes, strict=True):
        sizes.setdefault(digest, size)
    return {digest: row for row, digest in enumerate(sizes)}, array("q", sizes.values())


def _places_size(files: int) -> int:
    """Return how large the locations of files are that are each one chunk in a pack of its own."""
    return LOCATION_COUNTS.size + (DIGEST_SIZE_BYTES + 4 + 4 + 20) * files
