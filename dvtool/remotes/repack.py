"""Moving content between packs of a remote: live content goes into new packs, shards follow.

Content is downloaded in ranges, checked by its hash, packed, uploaded and proven before a shard
object points to it. The old packs are left alone: a gc buries them later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from dvtool.errors import RemoteError, listing
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.locations import Located, RemotePack, contents_of, encode_object
from dvtool.format.pack import Placement, Recipe
from dvtool.format.packing import FinishedPack, RollingPacks
from dvtool.format.ranges import PackRange, RangeLimits, join_ranges
from dvtool.remotes.objects import FetchedShard, pack_key, shard_key
from dvtool.remotes.pack_ranges import read_range
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.survey import Survey, live_bytes, shard_use
from dvtool.remotes.tombstones import Tombstones
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import SILENT, Progress

CHUNKS_AT_ONCE = 200_000
"""The old and new places of so many chunks are held at a time, some 700 bytes each."""
SHARDS_AT_ONCE = 32
LIMITS = RangeLimits()

FetchedShards = dict[Digest, FetchedShard]


@dataclass(slots=True)
class Moved:
    """The objects written anew: `packs` of `bytes`, and `shards` that point there now."""

    packs: int = 0
    bytes: int = 0
    shards: int = 0


@dataclass(frozen=True, slots=True)
class GcSide:
    """The local side of a gc: fresh paths for files in the making, and its progress."""

    temp_path: Callable[[], str]
    progress: Progress = SILENT


@dataclass(slots=True)
class MovingContent:
    """Content to move out of packs that go: the places of their chunks, and recipes with those."""

    places: dict[RemotePack, dict[Digest, Placement]] = field(default_factory=dict)
    taken: set[Digest] = field(default_factory=set)
    recipes: dict[Digest, Recipe] = field(default_factory=dict)

    @classmethod
    def of(cls, shards: Iterable[FetchedShard], packs: Collection[Digest]) -> Self:
        """Return the content of shards in the packs; a chunk in several packs counts once."""
        content = cls()
        for shard in shards:
            content.take(shard, packs)
        return content

    def take(self, shard: FetchedShard, packs: Collection[Digest]) -> None:
        """Add the content of a shard that is in the packs."""
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
    side: GcSide,
) -> Moved:
    """Move the content of shards in use out of these packs into new ones; update the survey.

    Packs are taken in groups whose chunks fit into the memory.
    """
    result = Moved()
    for group in _pack_groups(survey, packs):
        moved = _move_group(remote, tombstones, survey, group, side)
        result.packs += moved.packs
        result.bytes += moved.bytes
        result.shards += moved.shards
    return result


def _pack_groups(survey: Survey, packs: Collection[Digest]) -> Iterator[set[Digest]]:
    """Yield the packs in groups with a bounded number of chunks in use."""
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

    One bound is the sum over all shards. The shards of a hundred versions name the same chunk a
    hundred times, and by this bound alone no small pack would be moved together with another. So
    the other bound is what the pack's index can hold, where each chunk's hash takes its bytes.
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
    side: GcSide,
) -> Moved:
    concerned = [
        bytes.fromhex(name)
        for name, use in survey.shards.items()
        if not use.frames.keys().isdisjoint(packs)
    ]
    content = MovingContent()
    for _, shard in run_bounded(remote.read_shard, concerned):
        content.take(shard, packs)
    spans = ranges_of(content.places)
    side.progress.start("moving", total_bytes=sum(span.size for span in spans))
    with RollingPacks(side.temp_path, durable=False) as rolling:
        moved = _MovedPacks(remote, rolling)
        for span, chunks in run_bounded(
            lambda span: read_range(remote, span), spans, size_of=lambda span: span.size
        ):
            moved.add(chunks)
            side.progress.advance(span.size)
        moved.close(content.recipes.values())
    side.progress.finish()
    for at in range(0, len(concerned), SHARDS_AT_ONCE):
        # FetchedShards are read again: another client may have written one meanwhile.
        now = dict(run_bounded(remote.read_shard, concerned[at : at + SHARDS_AT_ONCE]))
        pointed = {
            digest: repointed(shard, packs, moved.locations) for digest, shard in now.items()
        }
        put_shards(remote, tombstones, pointed)
        survey.shards.update({digest.hex(): shard_use(shard) for digest, shard in pointed.items()})
    moved.result.shards = len(concerned)
    return moved.result


def repointed(
    shard: FetchedShard, packs: Collection[Digest], moved: Mapping[Digest, Located]
) -> FetchedShard:
    """Return a shard whose locations in `packs` are replaced by the new ones."""
    locations = {
        file: [
            moved.get(chunk.placement.digest, chunk) if chunk.pack.digest in packs else chunk
            for chunk in chunks
        ]
        for file, chunks in shard.locations.items()
    }
    return replace(shard, locations=locations)


def put_shards(remote: RemoteStore, tombstones: Tombstones, shards: FetchedShards) -> None:
    """Write shard objects, once all that they point to is claimed and seen."""
    packs = {pack for shard in shards.values() for pack in shard.packs()}
    expected: dict[str, int | None] = {pack_key(pack.digest): pack.size for pack in packs}
    with tombstones.claimed(shards=shards.keys(), packs={pack.digest for pack in packs}):
        require(remote, expected)
        objects = {d: encode_object(shard.text, shard.places()) for d, shard in shards.items()}
        for _ in run_bounded(lambda digest: remote.put_shard(digest, objects[digest]), objects):
            pass
        require(remote, {shard_key(digest): len(data) for digest, data in objects.items()})


def require(remote: RemoteStore, expected: Mapping[str, int | None]) -> None:
    """Raise a RemoteError unless the remote says that it has these keys with these sizes.

    A size of None matches any.
    """
    seen = remote.look(expected)
    lost = [
        key
        for key, size in expected.items()
        if key not in seen or (size is not None and seen[key].size != size)
    ]
    if lost:
        raise RemoteError(
            f"{remote.url} does not have these, which were there before:\n{listing(lost)}",
            hint="repeat the command",
        )


def ranges_of(moving: Mapping[RemotePack, Mapping[Digest, Placement]]) -> list[PackRange]:
    """Return the ranges of packs to read for all these chunks."""
    return [
        span
        for pack, places in sorted(moving.items(), key=lambda item: item[0].digest)
        for span in join_ranges(pack, places.values(), LIMITS)
    ]


class _MovedPacks:
    """Fills packs in a temporary file and uploads each as soon as it is full."""

    def __init__(self, remote: RemoteStore, packs: RollingPacks) -> None:
        self._remote = remote
        self._packs = packs
        self.locations: dict[Digest, Located] = {}
        """Chunk -> where it was moved to."""
        self.result = Moved()

    def add(self, chunks: Iterable[tuple[Digest, bytes]]) -> None:
        """Take chunks that were checked."""
        self._upload(self._packs.fill(chunks))

    def close(self, recipes: Iterable[Recipe]) -> None:
        """Put the recipes into the last packs, and upload these."""
        self._upload(self._packs.fill((), recipes))
        self._upload(self._packs.finish())

    def _upload(self, packs: Iterable[FinishedPack]) -> None:
        for path, info in packs:
            try:
                with open(path, "rb") as file:
                    self._remote.put_pack(info.digest, file)
            finally:
                os.unlink(path)
            pack = RemotePack(info.digest, info.size)
            for placement in info.index.placements():
                self.locations[placement.digest] = Located(pack, placement)
            self.result.packs += 1
            self.result.bytes += info.size
