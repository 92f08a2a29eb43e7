"""A fetch of all that large manifests name into an empty store, as a fresh clone's first one is.

Where the packs that the shards point into are needed for the most part anyway, they are read whole,
and nothing is looked up content by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dvtool.format.digest import Digest
from dvtool.format.locations import NO_PACK, RemotePack
from dvtool.format.manifest import ShardRef
from dvtool.format.pack import Recipe
from dvtool.format.packs_use import PacksUse, packs_use
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.objects import ShardAtHand, shard_key
from dvtool.verbs.fetch.plan import LackingContents, PackRead, is_read_whole
from dvtool.verbs.fetch.request import FetchRequest

FRAMES_MAX = 1 << 18
"""Frames that are told apart to see how much of each pack is needed: some 40 MB."""
PARTS_MAX = 1 << 20
"""Chunks that the recipes name together at most: some 60 MB."""


@dataclass(frozen=True, slots=True)
class Everything:
    """The packs to read, all of them whole, and the recipes of the files of several chunks.

    `shards` are the shards that said so, with the packs that each points into.
    """

    reads: list[PackRead]
    recipes: list[Recipe]
    shards: dict[Digest, tuple[ShardAtHand, tuple[RemotePack, ...]]]

    def expect(self, known: Known) -> None:
        """Remember what is about to come: see `Known.expect`."""
        packs = [read.pack for read in self.reads]
        known.expect(packs, {recipe.digest: recipe.chunks for recipe in self.recipes})

    def learn(self, known: Known) -> None:
        """Remember that the remote has the shards, once all their packs are here."""
        known.learn_held(self.shards)


def plan_everything(
    project: Project,
    url: str,
    requests: Sequence[FetchRequest],
    lacking: LackingContents,
) -> Everything | None:
    """Return what to read if the store is empty and all packs are needed for the most part.

    None if not; so it is if the places of a shard are not at hand, or some content is in no pack.
    The shards are at hand no more then: if a pack is gone, they are to be read again.
    """
    whole = all(r.only is None and r.selection.whole and r.manifest.shards for r in requests)
    if not whole or lacking.found or not project.store.db.is_empty():
        return None
    refs = {ref.digest: ref for request in requests for ref in request.manifest.shards}
    at_hand = project.shards.at_hand
    if any((url, digest) not in at_hand for digest in refs):
        return None
    needs = _Needs()
    shards: dict[Digest, tuple[ShardAtHand, tuple[RemotePack, ...]]] = {}
    in_parts: list[ShardRef] = []
    parts = 0
    for digest, ref in refs.items():
        shard = at_hand[url, digest]
        use = packs_use(shard.places, f"{url}: {shard_key(digest)}")
        if not needs.add(use):
            return None
        shards[digest] = (shard, use.packs)
        if use.in_parts:
            in_parts.append(ref)
            parts += use.frames.total()
    if parts > PARTS_MAX or not needs.mostly():
        return None
    project.shards.take_at_hand(url, refs)
    reads = [PackRead(pack, whole=True) for pack in needs.frames]
    return Everything(reads, list(_recipes(project, url, in_parts, shards)), shards)


@dataclass(frozen=True, slots=True)
class _Needs:
    """How much of each pack some shards need."""

    frames: dict[RemotePack, dict[int, tuple[int, int]]] = field(default_factory=dict)
    """Pack -> offset of each frame -> its size, and how many of its chunks are needed at least."""

    def add(self, use: PacksUse) -> bool:
        """Add what one more shard needs; return False if that cannot be taken into account."""
        for (number, offset, size), chunks in use.frames.items():
            if number == NO_PACK:
                return False
            frames = self.frames.setdefault(use.packs[number], {})
            # Two shards may need the same chunks, so their numbers are not added up.
            before = frames.get(offset, (0, 0))
            frames[offset] = max(before[0], size), max(before[1], chunks)
        return sum(map(len, self.frames.values())) <= FRAMES_MAX

    def mostly(self) -> bool:
        """Whether the larger part of each pack is needed."""
        return all(
            is_read_whole(
                pack,
                frames_bytes=sum(size for size, _ in frames.values()),
                chunks=sum(chunks for _, chunks in frames.values()),
            )
            for pack, frames in self.frames.items()
        )


def _recipes(
    project: Project,
    url: str,
    refs: Iterable[ShardRef],
    shards: Mapping[Digest, tuple[ShardAtHand, tuple[RemotePack, ...]]],
) -> Iterable[Recipe]:
    """Yield how the files of several chunks are put together, as the shards say; each once."""
    seen: set[Digest] = set()
    for ref in refs:
        entries = project.store.load_shard(ref)
        where = f"{url}: {shard_key(ref.digest)}"
        located, _ = shards[ref.digest][0].places.decode(entries, where)
        for digest, chunks in located.items():
            if len(chunks) > 1 and digest not in seen:
                seen.add(digest)
                size = sum(chunk.placement.size for chunk in chunks)
                yield Recipe(digest, size, tuple(chunk.placement.digest for chunk in chunks))
