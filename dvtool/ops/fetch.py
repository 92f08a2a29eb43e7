"""fetch: bring content that manifests name from a remote into the local store.

Shards say where content lies; ranges of packs are read, neighbouring ones joined, or whole packs
where most of one is needed. Nothing enters the store before it was checked by its hash.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dvtool.digest import Digest, hasher
from dvtool.errors import CorruptError, MissingError, ObjectMissing, listing
from dvtool.manifest import Entries, Manifest, ShardRef, manifest_shards, shard_refs
from dvtool.pack import (
    PackInfo,
    PackWriter,
    Placement,
    Recipe,
    chunk_in,
    read_index,
    unpack_frame,
    verify_pack,
)
from dvtool.parallel import run_bounded
from dvtool.project import Project, workspace_path
from dvtool.selection import Selection
from dvtool.shard import Located, RemotePack, contents_of
from dvtool.store.known import Known
from dvtool.store.local import LocalStore
from dvtool.store.proof import located_now
from dvtool.store.remote import FetchedShard, RemoteStore, pack_key

WHOLE_PACK_SHARE_MIN = 0.6
"""From this share of a pack's bytes on, the whole pack is fetched and kept as it is."""
GAP_MAX_BYTES = 128 << 10
"""Ranges this close are read as one: the gap costs less than another request."""
RANGE_MAX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch: a manifest, as far as selected, and of that only some contents if given.

    `past` gives earlier versions of the manifest, newest first. What was changed here and not
    pushed is not on the remote; the versions that are say where its unchanged content lies.
    """

    manifest: Manifest
    selection: Selection
    only: frozenset[Digest] | None = None
    past: Callable[[], Iterator[Manifest]] | None = None


@dataclass(slots=True)
class Fetched:
    """What a fetch did: `files` and `bytes` now here that were not before."""

    remote: str
    files: int = 0
    bytes: int = 0
    transferred: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of a pack to read, and the chunks to take out of it."""

    pack: RemotePack
    offset: int
    size: int
    places: tuple[Placement, ...]


@dataclass(slots=True)
class PackPlan:
    """What to read of one pack: all of it, or some ranges."""

    pack: RemotePack
    whole: bool
    ranges: list[Range] = field(default_factory=list)


def lacking(project: Project, wanted: Sequence[Wanted]) -> tuple[dict[Digest, int], list[str]]:
    """Return content -> size that the local store lacks, and one path of each.

    Entries in shards that are not here are not counted; `fetch` gets those first.
    """
    sizes: dict[Digest, int] = {}
    names: dict[Digest, str] = {}
    for one in wanted:
        for path, entry in project.entries(one.manifest, one.selection).items():
            if entry.size > 0 and (one.only is None or entry.digest in one.only):
                sizes.setdefault(entry.digest, entry.size)
                names.setdefault(entry.digest, workspace_path(one.selection.target, path))
    missing = project.store.lacking(sizes)
    found = {digest: size for digest, size in sizes.items() if digest in missing}
    return found, [names[digest] for digest in found]


def fetch_shards(project: Project, remote: RemoteStore, refs: Sequence[ShardRef]) -> None:
    """Bring shards of large manifests, and what they say of where content lies; no content."""
    _Fetch(project, remote, ()).run_shards(refs)


def fetch(project: Project, remote: RemoteStore, wanted: Sequence[Wanted]) -> Fetched:
    """Bring everything wanted into the local store; no request is made if it is there already.

    MissingError if the remote lacks something, CorruptError if it sends something else: what
    arrived sound before that stays.
    """
    return _Fetch(project, remote, wanted).run()


class _Fetch:
    def __init__(self, project: Project, remote: RemoteStore, wanted: Sequence[Wanted]) -> None:
        self.project = project
        self.store = project.store
        self.remote = remote
        self.wanted = wanted
        self.shards: dict[Digest, FetchedShard] = {}
        self.result = Fetched(remote.url)

    def run(self) -> Fetched:
        self.get_entries()
        sizes, names = lacking(self.project, self.wanted)
        if not sizes:
            return self.result
        mark = self.remote.required_mark()
        known = Known(self.store.db, mark.id)
        self._get_locations(set(sizes))
        located = self._located(known, sizes, names)
        held = self.store.db.held_chunks(c.placement.digest for cs in located.values() for c in cs)
        plans = plan_packs(located, held)
        self._download(plans)
        self._finish(known, located, sizes, names)
        return self.result

    def run_shards(self, refs: Sequence[ShardRef]) -> None:
        known = Known(self.store.db, self.remote.required_mark().id)
        self._get(refs)
        self._learn(known)

    # --- shards ---------------------------------------------------------------------------

    def get_entries(self) -> None:
        """Fetch the shards of sharded manifests that are needed and not here."""
        refs = {
            ref.digest: ref
            for one in self.wanted
            if one.manifest.entries is None
            for ref in self.project.shards(one.manifest, one.selection)
            if not self.store.has_shard(ref.digest)
        }
        self._get(refs.values())

    def _get_locations(self, missing: set[Digest]) -> None:
        """Fetch the shards that say where missing content lies."""
        refs: dict[Digest, ShardRef] = {}
        for one in self.wanted:
            for ref, entries in self._entries_by_shard(one):
                if ref.digest not in self.shards and not missing.isdisjoint(contents_of(entries)):
                    refs[ref.digest] = ref
        self._get(refs.values(), required=False)

    def _entries_by_shard(self, one: Wanted) -> Iterator[tuple[ShardRef, Entries]]:
        if one.manifest.entries is not None:
            for text in shard_refs(one.manifest.entries):
                # The run of a small manifest from this shard's first path on.
                yield text.ref, _run_of(one.manifest.entries, text.ref)
            return
        for ref in self.project.shards(one.manifest, one.selection):
            if ref.digest not in self.shards:
                yield ref, self.store.load_shard(ref)

    def _get(self, refs: Iterable[ShardRef], *, required: bool = True) -> None:
        """Fetch shards; without `required`, those that the remote has."""
        wanted = list(refs)
        if not wanted:
            return
        self.project.progress.start("fetching lists", total_bytes=None)
        get = self.remote.get_shard if required else self._get_or_none
        try:
            for ref, shard in run_bounded(get, wanted):
                if shard is None:
                    continue
                self.store.put_shard_text(ref.digest, shard.text)
                self.shards[ref.digest] = shard
                self.result.transferred += shard.size
        except ObjectMissing as error:
            raise MissingError(
                f"{self.remote.url} does not have what this manifest lists ({error.key})",
                hint="run `dv push` in the clone where the data was added",
            ) from error
        finally:
            self.project.progress.finish()

    def _get_or_none(self, ref: ShardRef) -> FetchedShard | None:
        try:
            return self.remote.get_shard(ref)
        except ObjectMissing:
            return None

    # --- what to read ---------------------------------------------------------------------

    def _located(
        self, known: Known, sizes: dict[Digest, int], names: Sequence[str]
    ) -> dict[Digest, list[Located]]:
        located: dict[Digest, list[Located]] = {}
        for located in self._tries(known, sizes):
            if len(located) == len(sizes):
                return located
        unknown = [name for digest, name in zip(sizes, names, strict=True) if digest not in located]
        raise MissingError(
            f"{self.remote.url} does not have what these need:\n{listing(unknown)}",
            hint="run `dv push` in the clone where they were added",
        )

    def _tries(
        self, known: Known, sizes: dict[Digest, int]
    ) -> Iterator[dict[Digest, list[Located]]]:
        """Yield what is located, and more each time: a further source costs more requests."""
        located = self._in_shards(sizes)
        yield located
        unknown = sizes.keys() - located.keys()
        lists = known.chunk_lists(unknown)
        there = located_now(self.remote, known, (chunk for cs in lists.values() for chunk in cs))
        for digest, chunks in lists.items():
            if there.keys() >= set(chunks):
                located[digest] = [there[chunk] for chunk in chunks]
        yield located
        for one in self.wanted:
            for manifest in one.past() if one.past is not None else ():
                refs = manifest_shards(manifest)
                self._get((r for r in refs if r.digest not in self.shards), required=False)
                located = self._in_shards(sizes) | located
                yield located

    def _in_shards(self, sizes: dict[Digest, int]) -> dict[Digest, list[Located]]:
        return {
            digest: chunks
            for shard in self.shards.values()
            for digest, chunks in shard.locations.items()
            if digest in sizes
        }

    # --- reading --------------------------------------------------------------------------

    def _download(self, plans: Sequence[PackPlan]) -> None:
        whole = [plan.pack for plan in plans if plan.whole]
        ranges = [one for plan in plans if not plan.whole for one in plan.ranges]
        total = sum(pack.size for pack in whole) + sum(one.size for one in ranges)
        self.project.progress.start("downloading", total_bytes=total)
        for pack, (temp, info) in run_bounded(self._get_pack, whole):
            self.store.adopt([(temp, info)])
            self._count(pack.size)
        writer = _RangeWriter(self.store)
        try:
            for one, chunks in run_bounded(self._get_range, ranges):
                writer.add(chunks)
                self._count(one.size)
            writer.close()
        except BaseException:
            writer.abandon()
            raise
        self.project.progress.finish()

    def _count(self, size: int) -> None:
        self.result.transferred += size
        self.project.progress.advance(size)

    def _get_pack(self, pack: RemotePack) -> tuple[str, PackInfo]:
        """Fetch a whole pack to a temporary file, and check its id and every chunk in it."""
        where = f"{self.remote.url}: {pack_key(pack.digest)}"
        temp = self.store.temp_path()
        try:
            with open(temp, "xb") as file:
                whole = _HashingSink(file)
                self.remote.read_pack(pack.digest, whole, offset=0, size=pack.size)
                if whole.hash.digest() != pack.digest:
                    raise CorruptError(f"{where}: its bytes are not what its name says")
                file.flush()
                os.fsync(file.fileno())
            with open(temp, "rb") as file:
                index = read_index(file, size=pack.size, where=where)
                verify_pack(file, index, where=where)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            raise
        # Which file the chunks make is believed only after it was tried: see `_finish`.
        index.recipes = []
        return temp, PackInfo(pack.digest, pack.size, index)

    def _get_range(self, one: Range) -> list[tuple[Digest, bytes]]:
        """Fetch a range and return the checked chunks in it."""
        where = f"{self.remote.url}: {pack_key(one.pack.digest)}"
        buffer = io.BytesIO()
        self.remote.read_pack(one.pack.digest, buffer, offset=one.offset, size=one.size)
        data = memoryview(buffer.getvalue())
        chunks = []
        frame_offset, raw = -1, memoryview(b"")
        for place in one.places:
            if place.frame_offset != frame_offset:
                frame_offset = place.frame_offset
                start = frame_offset - one.offset
                raw = memoryview(unpack_frame(data[start : start + place.frame_size], where=where))
            chunk = chunk_in(raw, place.start, place.size, place.digest, where=where)
            chunks.append((place.digest, bytes(chunk)))
        return chunks

    # --- what is now here -----------------------------------------------------------------

    def _finish(
        self,
        known: Known,
        located: dict[Digest, list[Located]],
        sizes: dict[Digest, int],
        names: Sequence[str],
    ) -> None:
        recipes = [
            Recipe(digest, sizes[digest], tuple(chunk.placement.digest for chunk in chunks))
            for digest, chunks in located.items()
            if len(chunks) > 1
        ]
        self.store.add_tried(recipes)
        self._learn(known)
        still = self.store.lacking(sizes)
        if still:
            raise CorruptError(
                f"{self.remote.url} sent other content than these should have:\n"
                + listing(n for d, n in zip(sizes, names, strict=True) if d in still),
                hint="run `dv push` in a clone that has them, or fetch from another remote",
            )
        self.result.files = len(sizes)
        self.result.bytes = sum(sizes.values())

    def _learn(self, known: Known) -> None:
        """Remember where the shards say that content lies: a hint, which every push proves."""
        mine = {pack.digest for pack in self.store.db.packs().values()}
        packs = {pack for shard in self.shards.values() for pack in shard.packs()}
        known.learn(self.shards, packs, held=mine)


def _run_of(entries: Entries, ref: ShardRef) -> Entries:
    paths = list(entries)
    start = paths.index(ref.first)
    return {path: entries[path] for path in paths[start : start + ref.files]}


def plan_packs(located: dict[Digest, list[Located]], held: set[Digest]) -> list[PackPlan]:
    """Say which packs to read whole and which ranges of the others, in a fixed order."""
    by_pack: dict[RemotePack, dict[Digest, Placement]] = {}
    for chunks in located.values():
        for chunk in chunks:
            if chunk.placement.digest not in held:
                by_pack.setdefault(chunk.pack, {})[chunk.placement.digest] = chunk.placement
    plans = []
    for pack, places in by_pack.items():
        frames = {place.frame_offset: place.frame_size for place in places.values()}
        if sum(frames.values()) >= WHOLE_PACK_SHARE_MIN * pack.size:
            plans.append(PackPlan(pack, whole=True))
        else:
            plans.append(PackPlan(pack, whole=False, ranges=join_ranges(pack, places.values())))
    return plans


def join_ranges(pack: RemotePack, places: Iterable[Placement]) -> list[Range]:
    """Join the frames of chunks into ranges, across small gaps, up to a size that fits memory."""
    ranges: list[Range] = []
    run: list[Placement] = []
    start = end = 0
    for place in sorted(places, key=lambda place: (place.frame_offset, place.start)):
        frame_end = place.frame_offset + place.frame_size
        near = place.frame_offset <= end + GAP_MAX_BYTES and frame_end - start <= RANGE_MAX_BYTES
        if run and not near:
            ranges.append(Range(pack, start, end - start, tuple(run)))
            run = []
        if not run:
            start = place.frame_offset
            end = frame_end
        end = max(end, frame_end)
        run.append(place)
    if run:
        ranges.append(Range(pack, start, end - start, tuple(run)))
    return ranges


class _HashingSink:
    """Writes to a file and hashes what it wrote."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self.hash = hasher()

    def write(self, data: bytes, /) -> int:
        self.hash.update(data)
        return self._file.write(data)


class _RangeWriter:
    """Puts single chunks, fetched out of foreign packs, into packs of our own."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._temp = ""
        self._file: io.BufferedWriter | None = None
        self._writer: PackWriter | None = None

    def add(self, chunks: Iterable[tuple[Digest, bytes]]) -> None:
        for digest, data in chunks:
            if self._writer is not None and not self._writer.fits(len(data)):
                self.close()
            if self._writer is None:
                self._temp = self._store.temp_path()
                self._file = open(self._temp, "xb")
                self._writer = PackWriter(self._file)
            self._writer.add(digest, data)

    def close(self) -> None:
        if self._writer is None or self._file is None:
            return
        info = self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = self._writer = None
        self._store.adopt([(self._temp, info)])

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            os.unlink(self._temp)
