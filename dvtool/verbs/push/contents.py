"""The contents of the shards that a push takes, in columns: there may be millions of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests
from dvtool.format.locations import (
    ChunkPlaces,
    PlaceRow,
    RemotePack,
    encode_place_columns,
    encode_place_rows,
    place_rows_of,
)
from dvtool.format.pack import Recipe
from dvtool.format.references import Reference
from dvtool.store.database import Database
from dvtool.store.place_columns import PlaceColumns

RUN_CONTENTS_MAX = 50_000
"""How many contents are looked up at a time; with all known of them they take some 20 MB."""
NO_CHUNK = -1
"""In the place of a pack's number: the content stays at its source."""


@dataclass(slots=True)
class PushedContents:
    """The contents of shards, in the order of the entries; most are one chunk of the same name."""

    shards: dict[Digest, tuple[int, int]] = field(default_factory=dict)
    """Shard -> where its contents begin and end in the columns."""
    digests: bytes = b""
    """The contents of all shards, end to end."""
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    """Their sizes in bytes."""
    places: PlaceColumns = field(default_factory=PlaceColumns)
    """Where local packs have them, as one chunk."""
    several: dict[Digest, tuple[int, bytes]] = field(default_factory=dict)
    """Content of several chunks -> its size, and its chunks end to end. Others are one chunk."""
    references: dict[Digest, Reference] = field(default_factory=dict)
    """Content that stays at its source -> the object that has it; its chunks go nowhere."""

    def take(self, shards: Iterable[tuple[Digest, Mapping[Digest, int]]], db: Database) -> None:
        """Add shards with their contents and sizes, and look up which of them are a chunk here.

        Which of them have several chunks is for the caller.
        """
        joined = bytearray(self.digests)
        for shard, sizes in shards:
            begin = len(self.sizes)
            joined += b"".join(sizes)
            self.sizes.extend(sizes.values())
            self.shards[shard] = begin, len(self.sizes)
        self.digests = bytes(joined)
        del joined
        self.places = db.place_columns(self.digests)

    def joined(self, shard: Digest) -> bytes:
        """Return the contents of a shard, end to end."""
        begin, end = self.shards[shard]
        return self.digests[begin * DIGEST_SIZE_BYTES : end * DIGEST_SIZE_BYTES]

    def of(self, shard: Digest) -> tuple[Digest, ...]:
        """Return the contents of a shard."""
        return split_digests(self.joined(shard))

    def chunks(self, content: Digest) -> tuple[Digest, ...]:
        """Return the chunks of a content."""
        recipe = self.several.get(content)
        return (content,) if recipe is None else split_digests(recipe[1])

    def runs(self) -> Iterator[list[Digest]]:
        """Yield the shards by runs with as many contents as are held in memory at a time."""
        run: list[Digest] = []
        count = 0
        for shard, (begin, end) in self.shards.items():
            if run and count + end - begin > RUN_CONTENTS_MAX:
                yield run
                run, count = [], 0
            run.append(shard)
            count += end - begin
        if run:
            yield run

    def unplaced(self, shards: Iterable[Digest]) -> dict[Digest, int]:
        """Return content -> size of those of the shards that are no chunk of a local pack."""
        sizes: dict[Digest, int] = {}
        for shard in shards:
            begin, end = self.shards[shard]
            numbers = self.places.numbers[begin:end]
            if 0 in numbers:
                rows = zip(self.of(shard), numbers, self.sizes[begin:end], strict=True)
                sizes.update((content, size) for content, number, size in rows if not number)
        return sizes

    def stretches(self, shard: Digest) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield chunks of a shard's contents, end to end, with the number of the pack they are in.

        The number is 0 for chunks that were not looked up, or were not here then.
        """
        begin, end = self.shards[shard]
        numbers: Sequence[int] = self.places.numbers[begin:end]
        contents = self.of(shard) if 0 in numbers or self.references else ()
        if self.references:
            named = zip(contents, numbers, strict=True)
            numbers = [NO_CHUNK if content in self.references else n for content, n in named]
        digests = memoryview(self.digests)
        at = 0
        for number, same in groupby(numbers):
            before, at = at, at + len(list(same))
            if number > 0:
                first, after = begin + before, begin + at
                yield number, digests[first * DIGEST_SIZE_BYTES : after * DIGEST_SIZE_BYTES]
            elif number == 0:
                yield 0, b"".join(map(self._joined_chunks, contents[before:at]))

    def _joined_chunks(self, content: Digest) -> bytes:
        recipe = self.several.get(content)
        return content if recipe is None else recipe[1]

    # --- where they are on the remote -----------------------------------------------------

    def chunks_of(self, shards: Iterable[Digest]) -> set[Digest]:
        """Return the distinct chunks of some shards that are to be in packs."""
        chunks: set[Digest] = set()
        for shard in shards:
            for _, joined in self.stretches(shard):
                chunks.update(split_digests(joined))
        return chunks

    def packs_used(self, shard: Digest, packs: Mapping[int, RemotePack]) -> set[Digest] | None:
        """Return the packs of a shard's contents, if all are chunks in the local `packs`."""
        begin, end = self.shards[shard]
        numbers = set(self.places.numbers[begin:end])
        if not packs.keys() >= numbers:
            return None
        if self.references and not self.references.keys().isdisjoint(self.of(shard)):
            return None
        return {packs[number].digest for number in numbers}

    def encoded_columns(self, shard: Digest, packs: Mapping[int, RemotePack]) -> bytes:
        """Return the locations of a shard's contents, encoded; all are in `packs`."""
        span = slice(*self.shards[shard])
        at = self.places
        columns = [at.frame_offsets[span], at.frame_sizes[span], at.starts[span], at.sizes[span]]
        counts = array("I", [1]) * len(columns[0])
        return encode_place_columns(packs, at.numbers[span], columns, counts)

    def encoded_places(self, shard: Digest, places: ChunkPlaces) -> tuple[bytes, set[Digest]]:
        """Return the locations of a shard's contents, encoded, and the packs that they name."""
        rows: list[PlaceRow] = []
        counts = array("I")
        packs: set[Digest] = set()
        referenced: list[Reference] = []
        for content in self.of(shard):
            reference = self.references.get(content)
            if reference is None:
                more = [places.rows[chunk] for chunk in self.chunks(content)]
                packs.update(places.packs[row[0]].digest for row in more)
            else:
                referenced.append(reference)
                more = place_rows_of(reference)
            rows += more
            counts.append(len(more))
        return encode_place_rows(places.packs, rows, counts, referenced), packs

    @property
    def chunk_count(self) -> int:
        """About how many chunks the shards list; a content of two shards counts twice."""
        several = sum(len(joined) // DIGEST_SIZE_BYTES - 1 for _, joined in self.several.values())
        return len(self.sizes) + several

    def recipes_completed(self, chunks: Iterable[Digest]) -> list[Recipe]:
        """Return the recipes of the files of several chunks that these chunks complete."""
        if not self.several:
            return []
        fresh = set(chunks)
        return [
            Recipe(digest, size, parts)
            for digest, (size, joined) in self.several.items()
            if digest not in self.references
            and not fresh.isdisjoint(parts := split_digests(joined))
        ]
