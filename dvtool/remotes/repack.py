"""Moving content between packs of a remote: what is live goes into new packs, shards follow.

Content is downloaded in ranges, checked by its hash, packed, uploaded and proven before a shard
object points to it. The old packs are left alone: a gc buries them later.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Self

from dvtool.errors import RemoteError, listing
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.locations import Located, RemotePack, contents_of, encode_object
from dvtool.format.pack import PackWriter, Placement, Recipe, chunk_in, unpack_frame
from dvtool.remotes.remote import FetchedShard, RemoteStore, pack_key, shard_key
from dvtool.remotes.survey import Survey, live_bytes, shard_use
from dvtool.remotes.tombstones import Tombstones
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import SILENT, Progress

CHUNKS_AT_ONCE = 200_000
"""Of so many chunks the old and the new places are held at a time, some 700 bytes each."""
SHARDS_AT_ONCE = 32
GAP_MAX_BYTES = 128 << 10
RANGE_MAX_BYTES = 8 << 20

Shards = dict[Digest, FetchedShard]


@dataclass(slots=True)
class Moved:
    """What was written anew: `packs` of `bytes`, and `shards` that point there now."""

    packs: int = 0
    bytes: int = 0
    shards: int = 0


@dataclass(frozen=True, slots=True)
class _Range:
    """A stretch of a pack to read, and the chunks to take out of it."""

    pack: RemotePack
    offset: int
    size: int
    places: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Here:
    """What a gc has on this side: fresh paths for files in the making, and who is told of it."""

    temp_path: Callable[[], str]
    progress: Progress = SILENT


@dataclass(slots=True)
class Wanted:
    """What is to be read of packs that go: the places of their chunks, and recipes with those."""

    places: dict[RemotePack, dict[Digest, Placement]] = field(default_factory=dict)
    taken: set[Digest] = field(default_factory=set)
    recipes: dict[Digest, Recipe] = field(default_factory=dict)

    @classmethod
    def of(cls, shards: Iterable[FetchedShard], packs: Collection[Digest]) -> Self:
        """Return what some shards have in the packs; of a chunk that is in several, one place."""
        found = cls()
        for shard in shards:
            found.take(shard, packs)
        return found

    def take(self, shard: FetchedShard, packs: Collection[Digest]) -> None:
        """Add what a shard has in the packs."""
        sizes: dict[Digest, int] | None = None
        for file, chunks in shard.locations.items():
            inside = [chunk for chunk in chunks if chunk.pack.digest in packs]
            for chunk in inside:
                if chunk.placement.digest not in self.taken:
                    self.taken.add(chunk.placement.digest)
                    places = self.places.setdefault(chunk.pack, {})
                    places[chunk.placement.digest] = chunk.placement
            if inside and len(chunks) > 1 and file not in self.recipes:
                sizes = contents_of(shard.entries) if sizes is None else sizes
                names = tuple(chunk.placement.digest for chunk in chunks)
                self.recipes[file] = Recipe(file, sizes[file], names)


def move_out(
    remote: RemoteStore,
    tombstones: Tombstones,
    survey: Survey,
    packs: Collection[Digest],
    here: Here,
) -> Moved:
    """Write what shards in use have in these packs into new ones; the survey learns of it.

    So many packs at a time that what their shards say of them fits into the memory.
    """
    result = Moved()
    for some in _groups(survey, packs):
        moved = _move_group(remote, tombstones, survey, some, here)
        result.packs += moved.packs
        result.bytes += moved.bytes
        result.shards += moved.shards
    return result


def _groups(survey: Survey, packs: Collection[Digest]) -> Iterator[set[Digest]]:
    """Yield the packs, so many at a time that they have a bounded number of chunks in use."""
    group: set[Digest] = set()
    total = 0
    for pack, count in _chunks_at_most(survey, packs).items():
        if group and total + count > CHUNKS_AT_ONCE:
            yield group
            group, total = set(), 0
        group.add(pack)
        total += count
    if group:
        yield group


def _chunks_at_most(survey: Survey, packs: Collection[Digest]) -> dict[Digest, int]:
    """Return, for each pack, how many chunks of it are in use at most.

    One bound is what all shards have in it, added up. Those of a hundred versions name the same
    chunk a hundred times, and by that alone no small pack would be moved together with another; so
    the other bound is what can be in the pack's index, where each chunk's hash takes its bytes.
    """
    named = dict.fromkeys(sorted(packs), 0)
    sizes: dict[Digest, int] = {}
    for use in survey.shards.values():
        for pack in named.keys() & use.chunks.keys():
            named[pack] += use.chunks[pack]
            sizes[pack] = use.sizes[pack]
    live = live_bytes(survey, survey.shards)
    at_most: dict[Digest, int] = {}
    for pack, count in named.items():
        key = pack_key(pack)
        frames = max(live.get(key, 0), survey.data_bytes.get(key, 0))
        indexed = max(0, sizes.get(pack, 0) - frames) // DIGEST_SIZE_BYTES
        at_most[pack] = min(count, indexed)
    return at_most


def _move_group(
    remote: RemoteStore,
    tombstones: Tombstones,
    survey: Survey,
    packs: Collection[Digest],
    here: Here,
) -> Moved:
    concerned = [
        bytes.fromhex(name)
        for name, use in survey.shards.items()
        if not use.frames.keys().isdisjoint(packs)
    ]
    wanted = Wanted()
    for _, shard in run_bounded(remote.read_shard, concerned):
        wanted.take(shard, packs)
    todo = ranges(wanted.places)
    here.progress.start("moving", total_bytes=sum(one.size for one in todo))
    writer = _Writer(remote, here.temp_path)
    try:
        for one, chunks in run_bounded(
            lambda one: _read(remote, one), todo, size_of=lambda one: one.size
        ):
            writer.add(one.places, chunks)
            here.progress.advance(one.size)
        writer.close(wanted.recipes.values())
    finally:
        writer.abandon()
    here.progress.finish()
    for at in range(0, len(concerned), SHARDS_AT_ONCE):
        # Read again: somebody may have written one of them while the content was on its way.
        now = dict(run_bounded(remote.read_shard, concerned[at : at + SHARDS_AT_ONCE]))
        pointed = {digest: repointed(shard, packs, writer.moved) for digest, shard in now.items()}
        put_shards(remote, tombstones, pointed)
        survey.shards.update({digest.hex(): shard_use(shard) for digest, shard in pointed.items()})
    writer.result.shards = len(concerned)
    return writer.result


def repointed(
    shard: FetchedShard, packs: Collection[Digest], moved: Mapping[Digest, Located]
) -> FetchedShard:
    """Return a shard whose chunks in `packs` are read from where they were moved to."""
    locations = {
        file: [
            moved.get(chunk.placement.digest, chunk) if chunk.pack.digest in packs else chunk
            for chunk in chunks
        ]
        for file, chunks in shard.locations.items()
    }
    return replace(shard, locations=locations)


def put_shards(remote: RemoteStore, tombstones: Tombstones, shards: Shards) -> None:
    """Write shard objects, having claimed and seen all that they point to."""
    packs = {pack for shard in shards.values() for pack in shard.packs()}
    expected: dict[str, int | None] = {pack_key(pack.digest): pack.size for pack in packs}
    with tombstones.claimed(shards=shards.keys(), packs={pack.digest for pack in packs}):
        require(remote, expected)
        objects = {d: encode_object(shard.text, shard.locations) for d, shard in shards.items()}
        for _ in run_bounded(lambda digest: remote.put_shard(digest, objects[digest]), objects):
            pass
        require(remote, {shard_key(digest): len(data) for digest, data in objects.items()})


def require(remote: RemoteStore, expected: Mapping[str, int | None]) -> None:
    """Raise a RemoteError unless the remote says that it has these keys with these sizes.

    None stands for any size.
    """
    there = remote.look(expected)
    lost = [
        key
        for key, size in expected.items()
        if key not in there or (size is not None and there[key].size != size)
    ]
    if lost:
        raise RemoteError(
            f"{remote.url} does not have these, which were there before:\n{listing(lost)}",
            hint="repeat the command",
        )


def ranges(wanted: Mapping[RemotePack, Mapping[Digest, Placement]]) -> list[_Range]:
    """Return what to read of packs to get all these chunks of theirs."""
    return [
        one
        for pack, places in sorted(wanted.items(), key=lambda item: item[0].digest)
        for one in _joined(pack, places.values())
    ]


def _joined(pack: RemotePack, places: Iterable[Placement]) -> Iterator[_Range]:
    run: list[Placement] = []
    end = 0
    for place in sorted(places, key=lambda place: (place.frame_offset, place.start)):
        far = run and place.frame_offset > end + GAP_MAX_BYTES
        long = run and place.frame_offset + place.frame_size > run[0].frame_offset + RANGE_MAX_BYTES
        if far or (long and place.frame_offset != run[-1].frame_offset):
            yield _Range(pack, run[0].frame_offset, end - run[0].frame_offset, tuple(run))
            run = []
        run.append(place)
        end = place.frame_offset + place.frame_size
    if run:
        yield _Range(pack, run[0].frame_offset, end - run[0].frame_offset, tuple(run))


def _read(remote: RemoteStore, one: _Range) -> list[bytes]:
    """Return the chunks of a range, in the order of its places, checked by their names."""
    where = f"{remote.url}: {pack_key(one.pack.digest)}"
    buffer = io.BytesIO()
    remote.read_pack(one.pack.digest, buffer, offset=one.offset, size=one.size)
    data = memoryview(buffer.getvalue())
    chunks: list[bytes] = []
    frame_offset, raw = -1, memoryview(b"")
    for place in one.places:
        if place.frame_offset != frame_offset:
            frame_offset = place.frame_offset
            start = frame_offset - one.offset
            raw = memoryview(unpack_frame(data[start : start + place.frame_size], where=where))
        chunks.append(bytes(chunk_in(raw, place.start, place.size, place.digest, where=where)))
    return chunks


class _Writer:
    """Fills packs in a temporary file and uploads each as soon as it is full."""

    def __init__(self, remote: RemoteStore, temp_path: Callable[[], str]) -> None:
        self._remote = remote
        self._temp_path = temp_path
        self._temp = ""
        self._file: BinaryIO | None = None
        self._pack: PackWriter | None = None
        self.moved: dict[Digest, Located] = {}
        self.result = Moved()

    def add(self, places: Sequence[Placement], chunks: Sequence[bytes]) -> None:
        """Take chunks, each named by its place."""
        for place, data in zip(places, chunks, strict=True):
            if self._pack is not None and not self._pack.fits(len(data)):
                self._finish()
            self._open().add(place.digest, data)

    def close(self, recipes: Iterable[Recipe]) -> None:
        """Put the recipes into the last packs, and upload what is left."""
        for recipe in recipes:
            if self._pack is not None and not self._pack.fits_recipe(recipe):
                self._finish()
            self._open().add_recipe(recipe)
        if self._pack is not None:
            self._finish()

    def abandon(self) -> None:
        """Remove the unfinished file, if there is one."""
        if self._file is not None:
            self._file.close()
            os.unlink(self._temp)
            self._file = self._pack = None

    def _open(self) -> PackWriter:
        if self._pack is None:
            self._temp = self._temp_path()
            self._file = open(self._temp, "x+b")
            self._pack = PackWriter(self._file)
        return self._pack

    def _finish(self) -> None:
        assert self._pack is not None
        assert self._file is not None
        info = self._pack.finish()
        self._file.flush()
        self._remote.put_pack(info.digest, self._file)
        pack = RemotePack(info.digest, info.size)
        for place in info.index.placements():
            self.moved[place.digest] = Located(pack, place)
        self.result.packs += 1
        self.result.bytes += info.size
        self.abandon()
