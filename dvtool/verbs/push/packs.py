"""The packs to upload: local packs as they are, or new ones."""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import BinaryIO

from dvtool.errors import CorruptError
from dvtool.format import pack
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, digest_of_file, split_digests
from dvtool.format.locations import (
    ChunkPlaces,
    PlaceRow,
    RemotePack,
    encode_place_rows,
    place_rows_of,
)
from dvtool.format.pack import GROUPED_SIZE_MAX_BYTES, PackIndex, Placement, Recipe, read_index
from dvtool.format.packing import Frame, RollingPacks
from dvtool.format.references import Reference
from dvtool.store.local import LocalStore

WHOLE_PACK_MIN_BYTES = 4 << 20
"""Smaller local packs are joined into larger ones for the remote, unless there are only few."""
WHOLE_PACKS_MIN = 4
RUN_CONTENTS_MAX = 50_000
"""How many contents are looked up at a time; with all known of them they take some 20 MB."""


@dataclass(slots=True)
class Contents:
    """The chunks of the contents of shards, in columns: there may be millions of them."""

    digests: dict[Digest, bytes] = field(default_factory=dict)
    """Shard -> its contents, in the order of its entries, end to end."""
    sizes: dict[Digest, array[int]] = field(default_factory=dict)
    """Shard -> their sizes in bytes."""
    numbers: dict[Digest, array[int]] = field(default_factory=dict)
    """Shard -> the number of the local pack that was seen to have each; 0 for none."""
    several: dict[Digest, tuple[int, bytes]] = field(default_factory=dict)
    """Content of several chunks -> its size, and its chunks end to end. Others are one chunk."""
    references: dict[Digest, Reference] = field(default_factory=dict)
    """Content that stays at its source -> the object that has it; its chunks go nowhere."""

    def take(self, shard: Digest, sizes: Mapping[Digest, int]) -> None:
        """Add the contents of a shard; which of them have several chunks is for the caller."""
        self.digests[shard] = b"".join(sizes)
        self.sizes[shard] = array("Q", sizes.values())

    def of(self, shard: Digest) -> tuple[Digest, ...]:
        """Return the contents of a shard."""
        return split_digests(self.digests[shard])

    def chunks(self, content: Digest) -> tuple[Digest, ...]:
        """Return the chunks of a content."""
        recipe = self.several.get(content)
        return (content,) if recipe is None else split_digests(recipe[1])

    def runs(self) -> Iterator[list[Digest]]:
        """Yield the shards by runs with as many contents as are held in memory at a time."""
        run: list[Digest] = []
        count = 0
        for shard, sizes in self.sizes.items():
            if run and count + len(sizes) > RUN_CONTENTS_MAX:
                yield run
                run, count = [], 0
            run.append(shard)
            count += len(sizes)
        if run:
            yield run

    def chunks_of(self, shards: Iterable[Digest]) -> dict[Digest, int]:
        """Return the distinct chunks of some shards, in the order of their entries.

        With each goes the number of the local pack that was seen to have it, 0 if none was.
        """
        numbers_of: dict[Digest, int] = {}
        for shard in shards:
            contents = zip(self.of(shard), self.numbers[shard], strict=True)
            if not self.several and not self.references:
                numbers_of.update(contents)
                continue
            for content, number in contents:
                if content in self.references:
                    continue
                if content in self.several:
                    numbers_of.update(
                        (chunk, numbers_of.get(chunk, 0)) for chunk in self.chunks(content)
                    )
                else:
                    numbers_of[content] = number
        return numbers_of

    def encoded_places(self, shard: Digest, places: ChunkPlaces) -> tuple[bytes, set[Digest]]:
        """Return the locations of a shard's contents, encoded, and the packs that they name."""
        contents = self.of(shard)
        referenced = [
            self.references[content] for content in contents if content in self.references
        ]
        if referenced:
            return self._places_with_references(contents, places, referenced)
        if not self.several:
            counts = array("I", [1]) * len(contents)
            chunks = contents
        else:
            lists = [self.chunks(content) for content in contents]
            counts = array("I", map(len, lists))
            chunks = tuple(chain.from_iterable(lists))
        rows = [places.rows[chunk] for chunk in chunks]
        packs = {places.packs[number].digest for number in {row[0] for row in rows}}
        return encode_place_rows(places.packs, rows, counts), packs

    def _places_with_references(
        self, contents: Sequence[Digest], places: ChunkPlaces, referenced: Sequence[Reference]
    ) -> tuple[bytes, set[Digest]]:
        rows: list[PlaceRow] = []
        counts = array("I")
        packs: set[Digest] = set()
        for content in contents:
            reference = self.references.get(content)
            if reference is None:
                more = [places.rows[chunk] for chunk in self.chunks(content)]
                packs.update(places.packs[row[0]].digest for row in more)
            else:
                more = place_rows_of(reference)
            rows += more
            counts.append(len(more))
        return encode_place_rows(places.packs, rows, counts, referenced), packs

    @property
    def chunk_count(self) -> int:
        """About how many chunks the shards list; a content of two shards counts twice."""
        several = sum(len(joined) // DIGEST_SIZE_BYTES - 1 for _, joined in self.several.values())
        return sum(map(len, self.sizes.values())) + several

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


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished pack on the local disk; its `index` if the local store's has nothing of it."""

    path: str
    pack: RemotePack
    index: PackIndex | None = None

    @property
    def temporary(self) -> bool:
        """Whether the file is only there to be uploaded."""
        return self.index is not None

    def places(self) -> Iterable[Placement]:
        """Return the places of its chunks, if the local store's index does not give them."""
        return () if self.index is None else self.index.placements()


@dataclass(frozen=True, slots=True)
class PackPart:
    """Chunks of a local pack that go into new packs: end to end, in the order of the manifests."""

    pack: RemotePack
    chunks: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Chunks to upload: packs to send as they are, the rest to be assembled.

    `rest_bytes` is about the size of the rest, by the frames that it is in now. Chunks
    that are `absent` are not here; if there are any, nothing is said of the others.
    """

    whole: tuple[Upload, ...] = ()
    rest: tuple[PackPart, ...] = ()
    rest_bytes: int = 0
    absent: frozenset[Digest] = frozenset()

    @property
    def bytes(self) -> int:
        """About how many bytes the packs will have."""
        return self.rest_bytes + sum(upload.pack.size for upload in self.whole)

    @property
    def packs(self) -> int:
        """About how many packs there will be."""
        return len(self.whole) + -(-self.rest_bytes // pack.PACK_SIZE_AIM_BYTES)


def plan_packs(store: LocalStore, chunks: Mapping[int, bytearray]) -> Outgoing:
    """Say which local packs go up as they are, and which chunks are left for new ones.

    `chunks` gives them, end to end, by the number of the local pack that was seen to have them, in
    the order of the manifests; 0 stands for none. It is taken over.
    A local pack goes up as it is only if every chunk in it is needed: what was added and then
    dropped before it was committed is nobody else's business.
    """
    by_pack, absent = _by_local_pack(store, chunks)
    if absent:
        return Outgoing(absent=frozenset(absent))
    packs = store.db.packs()
    whole: dict[int, Upload] = {}
    for number, joined in by_pack.items():
        pack_here = packs[number]
        if pack_here.size >= WHOLE_PACK_MIN_BYTES or len(packs) <= WHOLE_PACKS_MIN:
            path = store.pack_path(pack_here.digest)
            with open(path, "rb") as file:
                index = read_index(file, size=pack_here.size, where=path)
            others = set(index.chunk_digests).difference(split_digests(bytes(joined)))
            if _are_all_in(others, by_pack.values()):
                whole[number] = Upload(path, pack_here)
    rest = tuple(
        PackPart(packs[number], bytes(joined))
        for number, joined in by_pack.items()
        if number not in whole
    )
    return Outgoing(tuple(whole.values()), rest, sum(_part_bytes(store, part) for part in rest))


def _by_local_pack(
    store: LocalStore, chunks: Mapping[int, bytearray]
) -> tuple[dict[int, bytearray], set[Digest]]:
    """Return the chunks by the number of the pack that has them, and those that none has."""
    packs = store.db.packs()
    by_pack = {number: joined for number, joined in chunks.items() if number in packs}
    absent: set[Digest] = set()
    for unsure in (joined for number, joined in chunks.items() if number not in packs):
        for run in _runs_of(unsure):
            known = store.db.pack_numbers(run)
            for digest in run:
                if digest in known:
                    by_pack.setdefault(known[digest], bytearray()).extend(digest)
                else:
                    absent.add(digest)
    return by_pack, absent


def _are_all_in(digests: set[Digest], joined: Collection[bytearray]) -> bool:
    """Whether all of these digests are among those that are joined end to end."""
    # Mostly none of them is, which a search for one shows before anything is taken apart.
    if digests and not any(next(iter(digests)) in some for some in joined):
        return False
    for some in joined if digests else ():
        digests.difference_update(split_digests(bytes(some)))
    return not digests


def runs(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    """Cut digests into runs, each as many as are held in memory with all that is known of them."""
    left = iter(digests)
    while run := list(islice(left, RUN_CONTENTS_MAX)):
        yield run


def _runs_of(joined: bytearray) -> Iterator[tuple[Digest, ...]]:
    """Yield digests that are joined end to end, each once in a run of them."""
    step = RUN_CONTENTS_MAX * DIGEST_SIZE_BYTES
    for at in range(0, len(joined), step):
        yield tuple(dict.fromkeys(split_digests(bytes(joined[at : at + step]))))


def _part_bytes(store: LocalStore, part: PackPart) -> int:
    """Return about how much chunks take as they are stored: their part of each frame."""
    path = store.pack_path(part.pack.digest)
    try:
        with open(path, "rb") as file:
            index = read_index(file, size=part.pack.size, where=path)
    except (CorruptError, FileNotFoundError):
        return len(part.chunks)  # only about; reading the chunks tells of damage that matters
    wanted = set(split_digests(part.chunks))
    used, raw = (array("Q", bytes(8 * len(index.frame_sizes))) for _ in range(2))
    for digest, size, frame in zip(
        index.chunk_digests, index.chunk_sizes, index.chunk_frames, strict=True
    ):
        raw[frame] += size
        if digest in wanted:
            used[frame] += size
    frames = zip(index.frame_sizes, used, raw, strict=True)
    return sum(size * needed // max(every, 1) for size, needed, every in frames)


def assembled(store: LocalStore, parts: Sequence[PackPart], contents: Contents) -> Iterator[Upload]:
    """Yield new packs of parts of others, pack by pack; each is written when asked for.

    The files, in the store's folder for what is unfinished, are the caller's to remove.
    """
    chunks = chain.from_iterable(split_digests(part.chunks) for part in parts)
    recipes = reversed(contents.recipes_completed(chunks))
    with (
        RollingPacks(store.temp_path, durable=False) as packs,
        contextlib.closing(_read_parts(store, parts)) as read,
    ):
        for path, info in packs.fill(read, recipes):
            yield Upload(path, RemotePack(info.digest, info.size), info.index)
        for path, info in packs.finish():
            yield Upload(path, RemotePack(info.digest, info.size), info.index)


def _read_parts(
    store: LocalStore, parts: Iterable[PackPart]
) -> Generator[tuple[Digest, bytes] | Frame, None, None]:
    """Yield what is wanted of packs: frames as they are, where all of one is, then the rest."""
    for part in parts:
        left = dict.fromkeys(split_digests(part.chunks))
        try:
            file = open(store.pack_path(part.pack.digest), "rb")
        except FileNotFoundError:  # a gc or drop moved its chunks; the reader finds them
            file = None
        if file is not None:
            with file:
                yield from _whole_frames(file, part.pack, left)
        yield from _read_chunks(store, left)


def _whole_frames(file: BinaryIO, info: RemotePack, wanted: dict[Digest, None]) -> Iterator[Frame]:
    """Yield the frames of a pack of which all is wanted, and take their chunks out of `wanted`.

    Small frames are left to be joined, and all frames of a pack that is not what its name says:
    there each chunk is checked by itself.
    """
    try:
        index = read_index(file, size=info.size, where=info.digest.hex())
    except CorruptError:
        return
    frames = []
    end = 0
    counts = Counter(index.chunk_frames)
    for number, (offset, size) in enumerate(
        zip(index.frame_offsets(), index.frame_sizes, strict=True)
    ):
        begin, end = end, end + counts[number]
        raw_size = sum(index.chunk_sizes[begin:end])
        digests = index.chunk_digests[begin:end]
        if raw_size >= GROUPED_SIZE_MAX_BYTES and all(map(wanted.__contains__, digests)):
            frames.append((offset, size, begin, end))
    file.seek(0)
    if not frames or digest_of_file(file) != info.digest:
        return
    for offset, size, begin, end in frames:
        file.seek(offset)
        chunks = zip(index.chunk_digests[begin:end], index.chunk_sizes[begin:end], strict=True)
        yield Frame(file.read(size), list(chunks))
        for digest in index.chunk_digests[begin:end]:
            wanted.pop(digest, None)


def _read_chunks(
    store: LocalStore, chunks: Iterable[Digest]
) -> Generator[tuple[Digest, bytes], None, None]:
    """Yield chunks of the local store with their bytes, looked up a run at a time."""
    for run in runs(chunks):
        with store.reader() as reader:
            reader.prepare_chunks(run)
            for digest in run:
                yield digest, bytes(reader.chunk(digest))
