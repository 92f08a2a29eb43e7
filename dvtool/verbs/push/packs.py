"""The packs to upload: local packs as they are, or new ones."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from dvtool.format import pack
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests
from dvtool.format.locations import RemotePack
from dvtool.format.pack import PackIndex, Placement, Recipe, read_index
from dvtool.format.packing import RollingPacks
from dvtool.format.references import Reference
from dvtool.store.local import LocalStore

WHOLE_PACK_MIN_BYTES = 8 << 20
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
        found = self.several.get(content)
        return (content,) if found is None else split_digests(found[1])

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

    def chunks_of(self, shards: Iterable[Digest]) -> dict[Digest, None]:
        """Return the distinct chunks of some shards, in the order of their entries."""
        referenced = self.references.keys()
        contents = (
            content
            for shard in shards
            for content in self.of(shard)
            if not referenced or content not in referenced
        )
        if not self.several:
            return dict.fromkeys(contents)
        return dict.fromkeys(chunk for content in contents for chunk in self.chunks(content))

    @property
    def chunk_count(self) -> int:
        """About how many chunks the shards list; a content of two shards counts twice."""
        several = sum(len(joined) // DIGEST_SIZE_BYTES - 1 for _, joined in self.several.values())
        return sum(map(len, self.sizes.values())) + several

    def recipes_completed(self, chunks: Collection[Digest]) -> list[Recipe]:
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
class Outgoing:
    """Chunks to upload: packs to send as they are, the rest to be assembled.

    `rest_bytes` is about the size of the rest, by the frames that it is in now. Chunks
    that are `absent` are not here; if there are any, nothing is said of the others.
    """

    whole: tuple[Upload, ...] = ()
    rest: tuple[Digest, ...] = ()
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


def plan_packs(store: LocalStore, chunks: Mapping[Digest, object]) -> Outgoing:
    """Say which local packs go up as they are, and which chunks are left for new ones.

    `chunks` are the keys, in the order of the manifests.
    A local pack goes up as it is only if every chunk in it is needed: what was added and then
    dropped before it was committed is nobody else's business.
    """
    numbers = array("Q")
    absent: set[Digest] = set()
    for run in runs(chunks):
        found = store.db.pack_numbers(run)
        absent.update(digest for digest in run if digest not in found)
        numbers.extend(found[digest] for digest in run if digest in found)
    if absent:
        return Outgoing(absent=frozenset(absent))
    packs = store.db.packs()
    whole: dict[int, Upload] = {}
    for number in dict.fromkeys(numbers):
        pack_here = packs[number]
        path = store.pack_path(pack_here.digest)
        if pack_here.size >= WHOLE_PACK_MIN_BYTES or len(packs) <= WHOLE_PACKS_MIN:
            with open(path, "rb") as file:
                index = read_index(file, size=pack_here.size, where=path)
            if all(digest in chunks for digest in index.chunk_digests):
                whole[number] = Upload(path, pack_here)
    rest = tuple(
        digest for digest, number in zip(chunks, numbers, strict=True) if number not in whole
    )
    size = sum(_stored_bytes(store.db.places(run).values()) for run in runs(rest))
    return Outgoing(tuple(whole.values()), rest, size)


def runs(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    """Cut digests into runs, each as many as are held in memory with all that is known of them."""
    left = iter(digests)
    while run := list(islice(left, RUN_CONTENTS_MAX)):
        yield run


def _stored_bytes(places: Iterable[tuple[int, Placement]]) -> int:
    """Return about how much chunks take as they are stored: their part of each frame."""
    used: dict[tuple[int, int], int] = {}
    frames: dict[tuple[int, int], tuple[int, int]] = {}
    for number, place in places:
        frame = (number, place.frame_offset)
        used[frame] = used.get(frame, 0) + place.size
        end = max(frames.get(frame, (0, 0))[1], place.start + place.size)
        frames[frame] = (place.frame_size, end)
    return sum(size * used[frame] // max(raw, 1) for frame, (size, raw) in frames.items())


def assembled(store: LocalStore, chunks: Sequence[Digest], contents: Contents) -> Iterator[Upload]:
    """Yield new packs of chunks, in the order of the manifests; each is written when asked for.

    The files, in the store's folder for what is unfinished, are the caller's to remove.
    """
    recipes = reversed(contents.recipes_completed(chunks))
    with (
        RollingPacks(store.temp_path, durable=False) as packs,
        contextlib.closing(_read_chunks(store, chunks)) as read,
    ):
        for path, info in packs.fill(read, recipes):
            yield Upload(path, RemotePack(info.digest, info.size), info.index)
        for path, info in packs.finish():
            yield Upload(path, RemotePack(info.digest, info.size), info.index)


def _read_chunks(
    store: LocalStore, chunks: Iterable[Digest]
) -> Generator[tuple[Digest, bytes], None, None]:
    """Yield chunks of the local store with their bytes, looked up a run at a time."""
    for run in runs(chunks):
        with store.reader() as reader:
            reader.prepare_chunks(run)
            for digest in run:
                yield digest, bytes(reader.chunk(digest))
