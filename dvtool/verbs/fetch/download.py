"""fetch: bring content that manifests name from a remote into the local store.

Shards say where content lies; ranges of packs are read, neighbouring ones joined, or whole packs
where most of one is needed. Nothing enters the store before it was checked by its hash.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from dvtool.errors import (
    CorruptError,
    DvError,
    MissingError,
    ObjectMissing,
    RemoteError,
    SetupError,
    listing,
)
from dvtool.format.digest import Digest, hasher
from dvtool.format.locations import Located, RemotePack, contents_of
from dvtool.format.manifest import Entries, Manifest, ShardRef, manifest_shards, shard_refs
from dvtool.format.pack import (
    PackInfo,
    PackWriter,
    Placement,
    Recipe,
    chunk_in,
    read_index,
    unpack_frame,
    verify_pack,
)
from dvtool.format.selection import Selection
from dvtool.project.parts import Project, workspace_path
from dvtool.remotes.estimate import Estimate, Requests
from dvtool.remotes.known import Known
from dvtool.remotes.proof import located_now
from dvtool.remotes.remote import FetchedShard, RemoteStore, pack_key, read_checked
from dvtool.remotes.transports.pace import REQUESTS_START
from dvtool.store.local import LocalStore
from dvtool.system.atomic import flush_to_disk
from dvtool.system.parallel import run_bounded

WHOLE_PACK_SHARE_MIN = 0.6
"""From this share of a pack's bytes on, the whole pack is fetched and kept as it is."""
GAP_MAX_BYTES = 128 << 10
"""Ranges this close are read as one: the gap costs less than another request."""
RANGE_MAX_BYTES = 8 << 20
RANGE_RAW_MAX_BYTES = 16 << 20
"""What the chunks of a range may amount to: zeros of a megabyte lie in a frame of a few bytes."""
RANGES_MEMORY_MAX_BYTES = 64 << 20
"""What all ranges under way may take of memory together."""
HASH_READ_BYTES = 1 << 20
GROUP_FILES = 65_536
"""Of so many files it is looked up at a time where they lie: about 1 KB of memory each."""
OPEN_SHARDS = 8
"""Packs that the last shards of a group point into may go on in the next one."""
ROUNDS = 2
"""A second round is for packs that were replaced while the first was under way."""


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
    """What a fetch did: `files` and `bytes` now here that were not before.

    `found` files were wanted too and here already, as by an earlier fetch that was interrupted.
    `warnings` say what a remote lacked that another one had.
    """

    remote: str
    files: int = 0
    bytes: int = 0
    transferred: int = 0
    found: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of a pack to read, and the chunks to take out of it."""

    pack: RemotePack
    offset: int
    size: int
    places: tuple[Placement, ...]

    @property
    def memory_bytes(self) -> int:
        """What reading it takes: its bytes and its chunks; one frame comes on top."""
        return self.size + sum(place.size for place in self.places)


@dataclass(slots=True)
class PackPlan:
    """What to read of one pack: all of it, or some ranges."""

    pack: RemotePack
    whole: bool
    ranges: list[Range] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to read."""
        return self.pack.size if self.whole else sum(one.size for one in self.ranges)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Contents that the local store lacks, with their sizes; `found` are here."""

    sizes: dict[Digest, int]
    found: int

    def still(self, store: LocalStore) -> Lacking:
        """Return what of them the store lacks by now."""
        missing = store.lacking(self.sizes)
        short = {digest: size for digest, size in self.sizes.items() if digest in missing}
        return Lacking(short, self.found + len(self.sizes) - len(short))


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of what is wanted: the sizes of contents, where they lie, and what to read for them.

    `later` are the shards, with what is wanted of them, that the next portion has once more.
    """

    sizes: Mapping[Digest, int]
    located: dict[Digest, list[Located]]
    plans: list[PackPlan]
    later: list[Wanted]


def lacking(project: Project, wanted: Sequence[Wanted]) -> Lacking:
    """Return what of the contents wanted is not here; their shards must be."""
    sizes: dict[Digest, int] = {}
    for one in wanted:
        for entries in project.runs(one.manifest, one.selection):
            sizes.update((d, size) for d, size in _contents(one, entries) if d not in sizes)
    return Lacking(sizes, 0).still(project.store)


def _contents(one: Wanted, entries: Entries) -> Iterator[tuple[Digest, int]]:
    for entry in entries.values():
        if entry.size > 0 and (one.only is None or entry.digest in one.only):
            yield entry.digest, entry.size


def names_of(project: Project, wanted: Sequence[Wanted], digests: Collection[Digest]) -> list[str]:
    """Return one path of each of these contents, in the order of the manifests."""
    names: dict[Digest, str] = {}
    for one in wanted if digests else ():
        for entries in project.runs(one.manifest, one.selection):
            for path, entry in entries.items():
                if entry.size > 0 and entry.digest in digests and entry.digest not in names:
                    names[entry.digest] = workspace_path(one.selection.target, path)
    return list(names.values())


def fetch_shards(
    project: Project, remotes: Sequence[RemoteStore], refs: Sequence[ShardRef]
) -> None:
    """Bring shards of large manifests, and what they say of where content lies; no content."""

    def get(remote: RemoteStore) -> None:
        absent = [ref for ref in refs if not project.store.has_shard(ref.digest)]
        _Fetch(project, remote, (), Fetched(remote.url)).run_shards(absent)

    _from_first(remotes, get)


def fetch(project: Project, remotes: Sequence[RemoteStore], wanted: Sequence[Wanted]) -> Fetched:
    """Bring everything wanted into the local store; no request is made if it is there already.

    What the first remote does not give is asked of the next one. Once all were asked, the error of
    the first is raised: MissingError if it lacks something, CorruptError if it sends something
    else, RemoteError if it does not answer. What arrived sound before that stays.
    """
    result = Fetched(remotes[0].url)
    errors = _from_first(remotes, lambda remote: _Fetch(project, remote, wanted, result).run())
    result.warnings = tuple(f"taken from another remote, since {error}" for error in errors)
    return result


def _from_first(
    remotes: Sequence[RemoteStore], work: Callable[[RemoteStore], None]
) -> list[DvError]:
    """Do the work with the first remote that can; return why those before it could not."""
    errors: list[DvError] = []
    for remote in remotes:
        try:
            work(remote)
            return errors
        except (MissingError, CorruptError, RemoteError, SetupError) as error:
            errors.append(error)
    first, *others = errors
    if others:
        first.args = ("\n".join([str(first), *(f"and: {other}" for other in others)]),)
    raise first


def estimate(
    project: Project, remote: RemoteStore, wanted: Sequence[Wanted]
) -> tuple[Fetched, Estimate]:
    """Return what a fetch would bring, and what that takes. Only lists of files are fetched."""
    result = Fetched(remote.url)
    return result, _Fetch(project, remote, wanted, result).estimate()


class _Fetch:
    def __init__(
        self, project: Project, remote: RemoteStore, wanted: Sequence[Wanted], result: Fetched
    ) -> None:
        self.project = project
        self.store = project.store
        self.remote = remote
        self.wanted = wanted
        self.shards: dict[Digest, FetchedShard] = {}
        """Those at hand; `lists` are all that were fetched, with the size of each in bytes."""
        self.lists: dict[Digest, int] = {}
        self.result = result

    def run(self) -> None:
        self.get_entries()
        short = lacking(self.project, self.wanted)
        self.result.found = self.result.found or short.found
        if not short.sizes:
            return
        known = Known(self.store.db, self.remote.required_mark().id)
        for _ in range(ROUNDS):
            unknown, failed = self._round(known, short)
            still = short.still(self.store)
            self._count_files(short, still)
            short = still
            if not failed:
                break
            # A pack may have gone since its place was read: the shards say where it lies now.
        if failed:
            raise failed[0]
        unknown &= short.sizes.keys()
        if unknown:
            names = names_of(self.project, self.wanted, unknown)
            raise MissingError(
                f"{self.remote.url} does not have what these need:\n{listing(names)}",
                hint="run `dv push` in the clone where they were added",
            )
        if short.sizes:
            names = names_of(self.project, self.wanted, short.sizes.keys())
            raise CorruptError(
                f"{self.remote.url} sent other content than these should have:\n{listing(names)}",
                hint="run `dv push` in a clone that has them, or fetch from another remote",
            )

    def _round(self, known: Known, short: Lacking) -> tuple[set[Digest], list[DvError]]:
        """Get what can be had; return what is nowhere, and what went wrong."""
        unknown: set[Digest] = set()
        failed: list[DvError] = []
        for portion in self._portions(known, short):
            located = portion.located
            recipes = [
                Recipe(digest, portion.sizes[digest], tuple(c.placement.digest for c in chunks))
                for digest, chunks in located.items()
                if len(chunks) > 1
            ]
            whole = [plan.pack for plan in portion.plans if plan.whole]
            if whole:
                known.expect(whole, {recipe.digest: recipe.chunks for recipe in recipes})
            failed += self._download(portion.plans, recipes)
            self.store.add_tried(recipes)
            self._learn(known, portion.later)
            unknown |= portion.sizes.keys() - located.keys()
        return unknown, failed

    def _portions(self, known: Known, short: Lacking) -> Iterator[Portion]:
        """Yield what is lacking, of some shards at a time, so that memory stays bounded.

        What lies in a pack of which the next shards may want more waits for them: it would be
        read twice, once in ranges and once with all of the pack.
        """
        groups = list(self._groups())
        later: list[Wanted] = []
        for number, fresh in enumerate(groups, 1):
            group = [*later, *fresh]
            sizes = self._lacking_in(group, short) if len(groups) > 1 else short.sizes
            located = self._located(known, sizes, group)
            held = self._held(located)
            plans = plan_packs(located, held)
            later, waiting = [], set[Digest]()
            if number < len(groups):
                later, waiting = self._waiting(group, located, plans)
            if waiting:
                located = {d: chunks for d, chunks in located.items() if d not in waiting}
                sizes = {d: size for d, size in sizes.items() if d not in waiting}
                plans = plan_packs(located, held)
            yield Portion(sizes, located, plans, later)
            kept = {ref.digest for one in later for ref in one.manifest.shards}
            self.shards = {d: shard for d, shard in self.shards.items() if d in kept}

    def _groups(self) -> Iterator[list[Wanted]]:
        """Cut what is wanted into its shards, and these into groups of some `GROUP_FILES` files."""
        group: list[Wanted] = []
        files = 0
        seen = set()
        for one in self.wanted:
            for part in self._parts(one):
                what = (part.manifest.shards, part.selection, part.only)
                if part.manifest.shards and what in seen:
                    continue  # as most of a large manifest is in each of its versions
                seen.add(what)
                if group and files + part.manifest.files > GROUP_FILES:
                    yield group
                    group, files = [], 0
                group.append(part)
                files += part.manifest.files
        if group:
            yield group

    def _parts(self, one: Wanted) -> Iterator[Wanted]:
        if one.manifest.entries is not None:
            yield one
            return
        for ref in self.project.shards(one.manifest, one.selection):
            yield replace(one, manifest=Manifest(one.manifest.kind, None, (ref,)))

    def _lacking_in(self, group: Sequence[Wanted], short: Lacking) -> dict[Digest, int]:
        """Return what a group has of what was lacking, unless it came with an earlier group."""
        wanted = short.sizes.keys() & self._wanted_by(group)
        return {digest: short.sizes[digest] for digest in self.store.lacking(wanted)}

    def _wanted_by(self, group: Iterable[Wanted]) -> set[Digest]:
        return {
            digest
            for one in group
            for entries in self.project.runs(one.manifest, one.selection)
            for digest, _ in _contents(one, entries)
        }

    def _waiting(
        self,
        group: Sequence[Wanted],
        located: Mapping[Digest, Sequence[Located]],
        plans: Iterable[PackPlan],
    ) -> tuple[list[Wanted], set[Digest]]:
        """Return what of a group is better fetched with the next one: shards and contents.

        That is what lies in packs which are not read whole as yet, and are among those that the
        last shards point into; not more than a group has.
        """
        there = [self.shards.get(ref.digest) for one in group for ref in one.manifest.shards]
        last = [shard for shard in there if shard is not None][-OPEN_SHARDS:]
        now = {plan.pack for plan in plans if not plan.whole}
        packs = now.intersection(pack for shard in last for pack in shard.packs())
        late = {d for d, chunks in located.items() if any(c.pack in packs for c in chunks)}
        later = [
            one
            for one in group
            for ref in one.manifest.shards
            if (shard := self.shards.get(ref.digest)) and not late.isdisjoint(shard.locations)
        ]
        if sum(one.manifest.files for one in later) > GROUP_FILES:
            return [], set()
        # What a shard has may be wanted for another's sake alone: then it cannot wait with it.
        return later, late & self._wanted_by(later)

    def _count_files(self, before: Lacking, after: Lacking) -> None:
        come = before.sizes.keys() - after.sizes.keys()
        self.result.files += len(come)
        self.result.bytes += sum(before.sizes[digest] for digest in come)

    def estimate(self) -> Estimate:
        """Return what `run` takes, once the lists of files are here."""
        self.get_entries()
        short = lacking(self.project, self.wanted)
        self.result.found = short.found
        if not short.sizes:
            return Estimate()
        known = Known(self.store.db, self.remote.required_mark().id)
        located: set[Digest] = set()
        reads: dict[RemotePack, tuple[int, int]] = {}
        for portion in self._portions(known, short):
            located.update(portion.located)
            for plan in portion.plans:
                count, size = reads.get(plan.pack, (0, 0))
                if plan.whole:
                    reads[plan.pack] = (1, plan.size)
                elif size < plan.pack.size:
                    size = min(size + plan.size, plan.pack.size)
                    reads[plan.pack] = (count + len(plan.ranges), size)
        self.result.files = len(located)
        self.result.bytes = sum(short.sizes[digest] for digest in located)
        shards = len(self.lists)
        size = sum(self.lists.values()) + sum(size for _, size in reads.values())
        gets = 1 + shards + sum(count for count, _ in reads.values())
        features = self.remote.backend.features
        return Estimate(shards + len(reads), size, Requests(get=gets)).timed(
            bytes_per_s=features.down_bytes_per_s,
            latency_s=features.latency_s,
            side_by_side=REQUESTS_START,
        )

    def _held(self, located: Mapping[Digest, Sequence[Located]]) -> set[Digest]:
        return self.store.db.held_chunks(c.placement.digest for cs in located.values() for c in cs)

    def run_shards(self, refs: Sequence[ShardRef]) -> None:
        known = Known(self.store.db, self.remote.required_mark().id)
        for some in _refs_in_groups(refs):
            self._get(some)
            self._learn(known)
            self.shards.clear()

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
        groups = list(_refs_in_groups(refs.values()))
        for some in groups:
            self._get(some)
            if len(groups) > 1:
                self.shards.clear()  # with what they say of places they are too much for memory

    def _get_locations(self, missing: Collection[Digest], wanted: Iterable[Wanted]) -> None:
        """Fetch the shards that say where missing content lies."""
        sought = set(missing)
        refs: dict[Digest, ShardRef] = {}
        for one in wanted:
            for ref, entries in self._entries_by_shard(one):
                if ref.digest not in self.shards and not sought.isdisjoint(contents_of(entries)):
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
                self.store.keep_shard(ref, shard.entries)
                self.shards[ref.digest] = shard
                self.lists[ref.digest] = shard.size
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
        self, known: Known, sizes: Mapping[Digest, int], wanted: Sequence[Wanted]
    ) -> dict[Digest, list[Located]]:
        """Return where contents lie, of all that can be found; each source costs more requests."""
        self._get_locations(sizes.keys(), wanted)
        located: dict[Digest, list[Located]] = {}
        for located in self._tries(known, sizes, wanted):
            if len(located) == len(sizes):
                break
        return located

    def _tries(
        self, known: Known, sizes: Mapping[Digest, int], wanted: Sequence[Wanted]
    ) -> Iterator[dict[Digest, list[Located]]]:
        """Yield what is located, and more each time."""
        located = self._in_shards(sizes)
        yield located
        unknown = sizes.keys() - located.keys()
        lists = known.chunk_lists(unknown)
        there = located_now(self.remote, known, (chunk for cs in lists.values() for chunk in cs))
        for digest, chunks in lists.items():
            if there.keys() >= set(chunks):
                located[digest] = [there[chunk] for chunk in chunks]
        yield located
        for past in dict.fromkeys(one.past for one in wanted):
            for manifest in past() if past is not None else ():
                refs = manifest_shards(manifest)
                self._get((r for r in refs if r.digest not in self.shards), required=False)
                located = self._in_shards(sizes) | located
                yield located

    def _in_shards(self, sizes: Mapping[Digest, int]) -> dict[Digest, list[Located]]:
        return {
            digest: chunks
            for shard in self.shards.values()
            for digest, chunks in shard.locations.items()
            if digest in sizes
        }

    # --- reading --------------------------------------------------------------------------

    def _download(self, plans: Sequence[PackPlan], recipes: Sequence[Recipe]) -> list[DvError]:
        """Read what is planned; return an error for each pack that is gone or damaged.

        Recipes go along with chunks that are read singly, as they do with packs read whole: should
        the index be lost, the packs here have all that it takes to make it again.
        """
        self.project.progress.start("downloading", total_bytes=sum(plan.size for plan in plans))
        failed: list[DvError] = []
        whole = [plan.pack for plan in plans if plan.whole]
        for pack, got in run_bounded(self._get_pack, whole, size_of=lambda pack: pack.size):
            if isinstance(got, DvError):
                failed.append(got)
            else:
                self.store.adopt([got])
            self._count(pack.size)
        ranges = [one for plan in plans if not plan.whole for one in plan.ranges]
        with _RangeWriter(self.store) as writer:
            for one, chunks in run_bounded(
                self._get_range,
                ranges,
                size_of=lambda one: one.memory_bytes,
                budget_bytes=RANGES_MEMORY_MAX_BYTES,
            ):
                if isinstance(chunks, DvError):
                    failed.append(chunks)
                else:
                    writer.add(chunks)
                self._count(one.size)
            single = {place.digest for one in ranges for place in one.places}
            writer.add_recipes(one for one in recipes if not single.isdisjoint(one.chunks))
        self.project.progress.finish()
        return failed

    def _count(self, size: int) -> None:
        self.result.transferred += size
        self.project.progress.advance(size)

    def _get_pack(self, pack: RemotePack) -> tuple[str, PackInfo] | DvError:
        """Fetch a whole pack to a temporary file, and check its id and every chunk in it.

        That the pack is gone or damaged is returned: what else there is may still be had.
        """
        try:
            return read_checked(lambda: self._read_pack(pack))
        except (MissingError, CorruptError) as error:
            return error

    def _read_pack(self, pack: RemotePack) -> tuple[str, PackInfo]:
        where = f"{self.remote.url}: {pack_key(pack.digest)}"
        temp = self.store.temp_path()
        try:
            with open(temp, "xb") as file:
                whole = _HashingSink(file)
                copied = self.remote.copy_pack(pack.digest, file, size=pack.size)
                if not copied:
                    self.remote.read_pack(pack.digest, whole, offset=0, size=pack.size)
                file.flush()
                flush_to_disk(file.fileno())
            with open(temp, "rb") as file:
                # What is believed is what lies here now, whoever put it there.
                digest = _digest_of_file(file) if copied else whole.hash.digest()
                if digest != pack.digest:
                    raise CorruptError(f"{where}: its bytes are not what its name says")
                index = read_index(file, size=pack.size, where=where)
                verify_pack(file, index, where=where)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            raise
        # Which file the chunks make is believed only after it was tried: see `_round`.
        index.recipes = []
        return temp, PackInfo(pack.digest, pack.size, index)

    def _get_range(self, one: Range) -> list[tuple[Digest, bytes]] | DvError:
        """Fetch a range and return the checked chunks in it, or why they could not be had."""
        try:
            return read_checked(lambda: self._read_range(one))
        except (MissingError, CorruptError) as error:
            return error

    def _read_range(self, one: Range) -> list[tuple[Digest, bytes]]:
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

    def _learn(self, known: Known, later: Iterable[Wanted] = ()) -> None:
        """Remember where the shards say that content lies: a hint, which every push proves.

        Those with what is fetched `later` come then, when more of their packs are here.
        """
        left = {ref.digest for one in later for ref in one.manifest.shards}
        mine = {pack.digest for pack in self.store.db.packs().values()}
        shards = {digest: shard for digest, shard in self.shards.items() if digest not in left}
        packs = {pack for shard in shards.values() for pack in shard.packs()}
        known.learn(shards, packs, held=mine)


def _refs_in_groups(refs: Iterable[ShardRef]) -> Iterator[list[ShardRef]]:
    group: list[ShardRef] = []
    for ref in refs:
        if group and sum(one.files for one in group) + ref.files > GROUP_FILES:
            yield group
            group = []
        group.append(ref)
    if group:
        yield group


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
    start = end = raw = 0
    for place in sorted(places, key=lambda place: (place.frame_offset, place.start)):
        frame_end = place.frame_offset + place.frame_size
        near = place.frame_offset <= end + GAP_MAX_BYTES and frame_end - start <= RANGE_MAX_BYTES
        if run and not (near and raw + place.size <= RANGE_RAW_MAX_BYTES):
            ranges.append(Range(pack, start, end - start, tuple(run)))
            run, raw = [], 0
        if not run:
            start = place.frame_offset
            end = frame_end
        end = max(end, frame_end)
        raw += place.size
        run.append(place)
    if run:
        ranges.append(Range(pack, start, end - start, tuple(run)))
    return ranges


def _digest_of_file(file: BinaryIO) -> Digest:
    whole = hasher()
    while data := file.read(HASH_READ_BYTES):
        whole.update(data)
    return whole.digest()


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
            self._opened().add(digest, data)

    def add_recipes(self, recipes: Iterable[Recipe]) -> None:
        for recipe in recipes:
            if self._writer is not None and not self._writer.fits_recipe(recipe):
                self.close()
            self._opened().add_recipe(recipe)

    def _opened(self) -> PackWriter:
        if self._writer is None:
            self._temp = self._store.temp_path()
            self._file = open(self._temp, "xb")
            self._writer = PackWriter(self._file)
        return self._writer

    def close(self) -> None:
        if self._writer is None or self._file is None:
            return
        info = self._writer.finish()
        self._file.flush()
        flush_to_disk(self._file.fileno())
        self._file.close()
        self._file = self._writer = None
        info.index.recipes = []  # believed only once they were tried
        self._store.adopt([(self._temp, info)])
        self._temp = ""

    def __enter__(self) -> _RangeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whatever ended the transfer, what arrived before was checked and need not come again.
        try:
            self.close()
        except BaseException as error:
            self._abandon()
            if kind is None or not isinstance(error, (OSError, DvError)):
                raise

    def _abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temp)
