"""The plan of a fetch: which contents are lacking, where they are, which ranges of packs to read.

Ranges of packs are read, neighbouring ones joined, or whole packs where most of one is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.manifest import Manifest, manifest_shards
from dvtool.format.pack import Placement, Recipe
from dvtool.format.paths import workspace_path
from dvtool.format.ranges import PackRange, RangeLimits, join_ranges
from dvtool.project.parts import Project
from dvtool.remotes.estimate import SAMPLE_SIZE_BYTES, Estimate, LinkSample, Requests
from dvtool.remotes.known import Known
from dvtool.remotes.proof import located_now
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.pace import REQUESTS_START
from dvtool.store.local import LocalStore
from dvtool.system.logs import Log
from dvtool.verbs.fetch import lists
from dvtool.verbs.fetch.lists import FetchLists
from dvtool.verbs.fetch.request import Fetched, FetchRequest

_LOG = Log("fetch")
WHOLE_PACK_SHARE_MIN = 0.6
"""From this share of a pack's bytes on, the whole pack is fetched and kept as it is."""
RANGE_LIMITS = RangeLimits(raw_bytes=16 << 20)
OPEN_SHARDS = 8
"""Packs that the last shards of a group point into may go on in the next one."""


@dataclass(slots=True)
class PackRead:
    """The part of one pack to read: all of it, or some ranges."""

    pack: RemotePack
    whole: bool
    ranges: list[PackRange] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to read."""
        return self.pack.size if self.whole else sum(span.size for span in self.ranges)


@dataclass(frozen=True, slots=True)
class LackingContents:
    """Contents that the local store lacks, with their sizes; `found` are here."""

    sizes: dict[Digest, int]
    found: int

    def still(self, store: LocalStore) -> LackingContents:
        """Return the contents that the store lacks by now."""
        missing = store.lacking(self.sizes)
        sizes = {digest: size for digest, size in self.sizes.items() if digest in missing}
        return LackingContents(sizes, self.found + len(self.sizes) - len(sizes))


@dataclass(frozen=True, slots=True)
class FetchPortion:
    """A portion of a fetch: the sizes of contents, where they are, and the ranges to read.

    `later` are the shards, with what is wanted of them, that the next portion has once more.
    """

    sizes: Mapping[Digest, int]
    located: dict[Digest, list[Located]]
    reads: list[PackRead]
    later: list[FetchRequest]

    def recipes(self) -> list[Recipe]:
        """Return how the files of several chunks are put together, as the remote says."""
        return [
            Recipe(digest, self.sizes[digest], tuple(c.placement.digest for c in chunks))
            for digest, chunks in self.located.items()
            if len(chunks) > 1
        ]


def lacking_contents(project: Project, requests: Sequence[FetchRequest]) -> LackingContents:
    """Return the requested contents that are not here; their shards must be."""
    sizes: dict[Digest, int] = {}
    for request in requests:
        if request.sizes is not None:
            sizes = {**request.sizes, **sizes}
            continue
        for entries in project.runs(request.manifest, request.selection):
            sizes.update((d, size) for d, size in request.contents(entries) if d not in sizes)
    return LackingContents(sizes, 0).still(project.store)


def shards_are_here(project: Project, request: FetchRequest) -> bool:
    """Whether the entries of all shards that a request selects are in the store."""
    if request.manifest.entries is not None:
        return True
    shards = project.selected_shards(request.manifest, request.selection)
    return all(project.store.has_shard(ref.digest) for ref in shards)


def paths_of(
    project: Project, requests: Sequence[FetchRequest], digests: Collection[Digest]
) -> list[str]:
    """Return one path of each of these contents, in the order of the manifests."""
    paths: dict[Digest, str] = {}
    for request in requests if digests else ():
        for entries in project.runs(request.manifest, request.selection):
            for path, entry in entries.items():
                if entry.size > 0 and entry.digest in digests and entry.digest not in paths:
                    paths[entry.digest] = workspace_path(request.selection.target, path)
    return list(paths.values())


def is_read_whole(pack: RemotePack, *, frames_bytes: int, chunks: int) -> bool:
    """Whether so much of a pack is needed that it is read whole.

    The index counts too, by the digests of the chunks, which no compression makes smaller: in a
    pack of very small files it is as large as they are.
    """
    needed = frames_bytes + DIGEST_SIZE_BYTES * chunks
    return needed >= WHOLE_PACK_SHARE_MIN * pack.size


def plan_reads(
    located: Mapping[Digest, Sequence[Located]],
    held: set[Digest],
    not_whole: Collection[Digest] = (),
) -> list[PackRead]:
    """Say which packs to read whole and which ranges of the others, in a fixed order.

    Packs in `not_whole` are read in ranges, however much of them is needed.
    """
    by_pack: dict[RemotePack, dict[Digest, Placement]] = {}
    for chunks in located.values():
        for chunk in chunks:
            if chunk.placement.digest not in held:
                by_pack.setdefault(chunk.pack, {})[chunk.placement.digest] = chunk.placement
    reads = []
    for pack, places in by_pack.items():
        frames = {placement.frame_offset: placement.frame_size for placement in places.values()}
        needed = sum(frames.values())
        whole = is_read_whole(pack, frames_bytes=needed, chunks=len(places))
        if whole and pack.digest not in not_whole:
            reads.append(PackRead(pack, whole=True))
            how = "whole"
        else:
            ranges = list(join_ranges(pack, places.values(), RANGE_LIMITS))
            reads.append(PackRead(pack, whole=False, ranges=ranges))
            how = f"in {len(ranges)} ranges"
        _LOG.note(
            "pack %s is read %s: %d of its %d bytes are needed",
            *(pack.digest.hex()[:16], how, needed, pack.size),
        )
    return reads


class FetchPlanner:
    """Finds where the requested contents are on one remote, of some shards at a time."""

    def __init__(
        self,
        project: Project,
        remote: RemoteStore,
        requests: Sequence[FetchRequest],
        fetch_lists: FetchLists,
    ) -> None:
        self._project = project
        self._store = project.store
        self._remote = remote
        self._requests = requests
        self._lists = fetch_lists

    def portions(
        self, known: Known, lacking: LackingContents, not_whole: Collection[Digest] = ()
    ) -> Iterator[FetchPortion]:
        """Yield the lacking contents, of some shards at a time, so that memory stays bounded.

        Content in a pack of which the next shards may need more waits for them: otherwise the
        content would be read twice, once in ranges and once with all of the pack.
        """
        groups = list(self._groups())
        later: list[FetchRequest] = []
        for number, fresh in enumerate(groups, 1):
            group = [*later, *fresh]
            sizes = self._lacking_in(group, lacking) if len(groups) > 1 else lacking.sizes
            located = self._located(known, sizes, group)
            held = self._held(located)
            reads = plan_reads(located, held, not_whole)
            later, waiting = [], set[Digest]()
            if number < len(groups):
                later, waiting = self._waiting(group, located, reads)
            if waiting:
                located = {d: chunks for d, chunks in located.items() if d not in waiting}
                sizes = {d: size for d, size in sizes.items() if d not in waiting}
                reads = plan_reads(located, held, not_whole)
            yield FetchPortion(sizes, located, reads, later)
            self._lists.keep_only(later)

    # --- which shards at a time -----------------------------------------------------------

    def _groups(self) -> Iterator[list[FetchRequest]]:
        """Cut the requests into their shards, and these into groups of some number of files."""
        group: list[FetchRequest] = []
        files = 0
        seen = set()
        for request in self._requests:
            for part in self._parts(request):
                shard = (part.manifest.shards, part.selection, part.only)
                if part.manifest.shards and shard in seen:
                    continue  # as most of a large manifest is in each of its versions
                seen.add(shard)
                if group and files + part.manifest.files > lists.GROUP_FILES:
                    yield group
                    group, files = [], 0
                group.append(part)
                files += part.manifest.files
        if group:
            yield group

    def _parts(self, request: FetchRequest) -> Iterator[FetchRequest]:
        if request.manifest.entries is not None:
            yield request
            return
        for ref in self._project.selected_shards(request.manifest, request.selection):
            yield replace(request, manifest=Manifest(request.manifest.kind, None, (ref,)))

    def _lacking_in(
        self, group: Sequence[FetchRequest], lacking: LackingContents
    ) -> dict[Digest, int]:
        """Return the lacking contents of a group that did not come with an earlier group."""
        wanted = lacking.sizes.keys() & self._contents_of(group)
        return {digest: lacking.sizes[digest] for digest in self._store.lacking(wanted)}

    def _contents_of(self, group: Iterable[FetchRequest]) -> set[Digest]:
        return {
            digest
            for request in group
            for entries in self._project.runs(request.manifest, request.selection)
            for digest, _ in request.contents(entries)
        }

    def _waiting(
        self,
        group: Sequence[FetchRequest],
        located: Mapping[Digest, Sequence[Located]],
        reads: Iterable[PackRead],
    ) -> tuple[list[FetchRequest], set[Digest]]:
        """Return the shards and contents of a group that are better fetched with the next group.

        Such content is in packs that are not read whole yet and that the last shards point into; it
        is not more than a group has.
        """
        last = list(self._lists.of(group))[-OPEN_SHARDS:]
        partial = {read.pack for read in reads if not read.whole}
        packs = partial.intersection(pack for shard in last for pack in shard.packs())
        late = {d for d, chunks in located.items() if any(c.pack in packs for c in chunks)}
        later = [
            part
            for part in group
            for shard in self._lists.of([part])
            if not late.isdisjoint(shard.locations)
        ]
        if sum(part.manifest.files for part in later) > lists.GROUP_FILES:
            return [], set()
        # A content of one shard may be wanted for another's sake alone: then it cannot wait.
        return later, late & self._contents_of(later)

    # --- where contents are ---------------------------------------------------------------

    def _held(self, located: Mapping[Digest, Sequence[Located]]) -> set[Digest]:
        return self._store.db.held_chunks(c.placement.digest for cs in located.values() for c in cs)

    def _located(
        self, known: Known, sizes: Mapping[Digest, int], group: Sequence[FetchRequest]
    ) -> dict[Digest, list[Located]]:
        """Return where contents are, as far as known; each further source costs more requests."""
        self._lists.get_locations(sizes.keys(), group)
        located: dict[Digest, list[Located]] = {}
        for located in self._attempts(known, sizes, group):
            left = sizes.keys() - located.keys()
            if not left or left <= self._lists.referenced(left):
                break
        return located

    def _attempts(
        self, known: Known, sizes: Mapping[Digest, int], group: Sequence[FetchRequest]
    ) -> Iterator[dict[Digest, list[Located]]]:
        """Yield what is located, and more each time."""
        located = self._lists.located(sizes.keys())
        yield located
        unknown = sizes.keys() - located.keys()
        chunk_lists = known.chunk_lists(unknown)
        chunks_now = located_now(
            self._remote, known, (chunk for chunks in chunk_lists.values() for chunk in chunks)
        )
        for digest, chunks in chunk_lists.items():
            if chunks_now.keys() >= set(chunks):
                located[digest] = [chunks_now[chunk] for chunk in chunks]
        yield located
        for past in dict.fromkeys(request.past for request in group):
            for manifest in past() if past is not None else ():
                self._lists.get_more(manifest_shards(manifest))
                located = self._lists.located(sizes.keys()) | located
                yield located


def plan_fetch(
    project: Project,
    remote: RemoteStore,
    requests: Sequence[FetchRequest],
    *,
    sample: bool = False,
) -> tuple[Fetched, Estimate]:
    """Return the result that a fetch would have, and its cost. Only shards are fetched.

    With `sample`, the beginning of one pack is read to tell the time, if nobody measured the link.
    """
    result = Fetched(remote.url)
    fetch_lists = FetchLists(project, remote, result)
    fetch_lists.get_entries(requests)
    lacking = lacking_contents(project, requests)
    result.found = lacking.found
    if not lacking.sizes:
        return result, Estimate()
    known = Known(project.store.db, remote.required_mark().id)
    planner = FetchPlanner(project, remote, requests, fetch_lists)
    located: set[Digest] = set()
    reads: dict[RemotePack, tuple[int, int]] = {}
    for portion in planner.portions(known, lacking):
        located.update(portion.located)
        _count_reads(reads, portion.reads)
    result.files = len(located)
    result.bytes = sum(lacking.sizes[digest] for digest in located)
    estimate = _estimate(remote, fetch_lists, reads)
    if sample and estimate.seconds is None and reads:
        estimate = _timed_by_sample(remote, next(iter(reads)), estimate)
    return result, estimate


def _timed_by_sample(remote: RemoteStore, pack: RemotePack, estimate: Estimate) -> Estimate:
    link = LinkSample()
    remote.read_pack(pack.digest, link, offset=0, size=min(SAMPLE_SIZE_BYTES, pack.size))
    return link.timed(estimate, side_by_side=REQUESTS_START)


def _count_reads(reads: dict[RemotePack, tuple[int, int]], more: Iterable[PackRead]) -> None:
    """Add to pack -> requests and bytes. A pack is read whole once, and never more than whole."""
    for read in more:
        count, size = reads.get(read.pack, (0, 0))
        if read.whole:
            reads[read.pack] = (1, read.size)
        elif size < read.pack.size:
            size = min(size + read.size, read.pack.size)
            reads[read.pack] = (count + len(read.ranges), size)


def _estimate(
    remote: RemoteStore, fetch_lists: FetchLists, reads: Mapping[RemotePack, tuple[int, int]]
) -> Estimate:
    shards = len(fetch_lists.sizes)
    size = sum(fetch_lists.sizes.values()) + sum(size for _, size in reads.values())
    gets = 1 + shards + sum(count for count, _ in reads.values())
    features = remote.backend.features
    return Estimate(shards + len(reads), size, Requests(get=gets)).timed(
        bytes_per_s=features.down_bytes_per_s,
        latency_s=features.latency_s,
        side_by_side=REQUESTS_START,
    )
