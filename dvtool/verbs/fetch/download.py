"""fetch: copy content that manifests name from a remote into the local store.

Nothing enters the store before it was checked by its hash.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from dvtool.errors import (
    CorruptError,
    DvError,
    MissingError,
    RemoteError,
    SetupError,
    count_text,
    listing,
)
from dvtool.format.digest import Digest
from dvtool.format.locations import RemotePack
from dvtool.format.manifest import ShardRef
from dvtool.format.pack import PackInfo, Recipe
from dvtool.format.packing import FinishedPack
from dvtool.format.ranges import PackRange
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.objects import pack_key
from dvtool.remotes.pack_ranges import read_range
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transfers import read_checked
from dvtool.remotes.transports.base import ObjectInfo, ObjectShort
from dvtool.system.atomic import naming_full_disk
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fetch.everything import plan_everything
from dvtool.verbs.fetch.lists import FetchLists
from dvtool.verbs.fetch.plan import (
    FetchPlanner,
    LackingContents,
    PackRead,
    lacking_contents,
    paths_of,
    shards_are_here,
)
from dvtool.verbs.fetch.received import ReceivedChunks, UntriedRecipes
from dvtool.verbs.fetch.references import fetch_referenced, first_error
from dvtool.verbs.fetch.request import Fetched, FetchRequest
from dvtool.verbs.fetch.whole_packs import receive_pack

RANGES_MEMORY_MAX_BYTES = 64 << 20
"""How much memory all ranges under way may take together."""
ADOPTED_CHUNKS_MAX = 1 << 17
"""Packs that go into the index together have so many chunks at most: some 30 MB of rows."""
ROUNDS = 2
"""A second round is for packs that were replaced while the first was under way."""


def fetch_shards(
    project: Project,
    remotes: Sequence[RemoteStore],
    refs: Sequence[ShardRef],
    *,
    places: bool = True,
) -> None:
    """Fetch shards of large manifests, with `places` and the locations in them; no content."""

    def get(remote: RemoteStore) -> None:
        absent = [ref for ref in refs if not project.store.has_shard(ref.digest)]
        known = Known(project.store.db, remote.required_mark().id)
        FetchLists(project, remote, Fetched(remote.url)).get_all(absent, known, places=places)

    _from_first(remotes, get)


def fetch(
    project: Project, remotes: Sequence[RemoteStore], requests: Sequence[FetchRequest]
) -> Fetched:
    """Fetch all requested content into the local store; if all is there, no request is made.

    The next remote is asked for content that the first does not give. Once all were asked, the
    error of the first is raised: MissingError if it lacks something, CorruptError if it sends
    something else, RemoteError if it does not answer. Content that arrived sound before that stays.
    """
    result = Fetched(remotes[0].url if remotes else "")
    with naming_full_disk(project.store.path), contextlib.ExitStack() as ending:
        ending.callback(project.shards.at_hand.clear)
        failed = _fetch_known_references(project, requests, result)
        try:
            errors = _from_first(
                remotes, lambda remote: _Fetch(project, remote, requests, result).run()
            )
        except DvError as error:
            fault = first_error(failed, list(failed))
            if fault is None:
                raise
            raise fault from error
        if failed and not remotes:
            raise first_error(failed, list(failed)) or MissingError("no remote to ask")
    result.warnings = tuple(f"taken from another remote, since {error}" for error in errors)
    return result


def _fetch_known_references(
    project: Project, requests: Sequence[FetchRequest], result: Fetched
) -> dict[Digest, DvError]:
    """Copy what is known here to be at sources; return why some could not be had.

    Shards that are not here say nothing yet: `_Fetch` looks again once it has them.
    """
    if not project.store.db.references.any():
        return {}
    here = [request for request in requests if shards_are_here(project, request)]
    sizes = lacking_contents(project, here).sizes if here else {}
    return fetch_referenced(project, sizes, result) if sizes else {}


def _from_first(
    remotes: Sequence[RemoteStore], work: Callable[[RemoteStore], None]
) -> list[DvError]:
    """Do the work with the first remote that can; return why those before it could not."""
    errors: list[DvError] = []
    if not remotes:
        return errors
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


class _Fetch:
    """One fetch from one remote, in rounds: a pack may go between its planning and its reading."""

    def __init__(
        self,
        project: Project,
        remote: RemoteStore,
        requests: Sequence[FetchRequest],
        result: Fetched,
    ) -> None:
        self.project = project
        self.store = project.store
        self.remote = remote
        self.requests = requests
        self.result = result
        self.lists = FetchLists(project, remote, result)
        self.planner = FetchPlanner(project, remote, requests, self.lists)
        self.download = _Download(project, remote, result)

    def run(self) -> None:
        self.lists.get_entries(self.requests)
        lacking = lacking_contents(self.project, self.requests)
        self.result.found = self.result.found or lacking.found
        if not lacking.sizes:
            return
        known = Known(self.store.db, self.remote.required_mark().id)
        for _ in range(ROUNDS):
            with naming_full_disk(self.store.path, sum(lacking.sizes.values())):
                unknown, failed = self._round(known, lacking)
            still = lacking.still(self.store)
            self._count_files(lacking, still)
            lacking = still
            if not failed:
                break
            # A pack may be gone since its place was read: the shards say where the content is now.
        if lacking.sizes:
            # By now the shards have said what is at a source, and not on the remote.
            lost = fetch_referenced(self.project, lacking.sizes, self.result)
            lacking = lacking.still(self.store)
            if error := first_error(lost, lacking.sizes):
                raise error
        if failed and lacking.sizes:
            raise failed[0]
        self._refuse_lacking(lacking, unknown)

    def _round(self, known: Known, lacking: LackingContents) -> tuple[set[Digest], list[DvError]]:
        """Get what can be had; return what is nowhere, and what went wrong."""
        unknown: set[Digest] = set()
        failed: list[DvError] = []
        everything = plan_everything(self.project, self.remote.url, self.requests, lacking)
        if everything is not None:
            everything.expect(known)
            for digest, (shard, _) in everything.shards.items():
                self.lists.count_at_hand(digest, shard.size)
            self.lists.keep_only(())  # the next round is to read them again
            failed = self.download.run(everything.reads, everything.recipes)
            known.add_objects(self.download.take_noted())
            if not failed:
                everything.learn(known)
            return unknown, failed
        for portion in self.planner.portions(known, lacking, self.download.not_whole):
            recipes = portion.recipes()
            whole = [read.pack for read in portion.reads if read.whole]
            if whole:
                known.expect(whole, {recipe.digest: recipe.chunks for recipe in recipes})
            failed += self.download.run(portion.reads, recipes)
            known.add_objects(self.download.take_noted())
            self.lists.learn(known, portion.later)
            unknown |= portion.sizes.keys() - portion.located.keys()
        return unknown, failed

    def _count_files(self, before: LackingContents, after: LackingContents) -> None:
        come = before.sizes.keys() - after.sizes.keys()
        self.result.files += len(come)
        if come and self.remote.url not in self.result.sources:
            self.result.sources += (self.remote.url,)
        self.result.bytes += sum(before.sizes[digest] for digest in come)

    def _refuse_lacking(self, lacking: LackingContents, unknown: set[Digest]) -> None:
        """Raise an error if something is lacking still; say first what the remote has not."""
        unknown = unknown & lacking.sizes.keys()
        if unknown:
            paths = paths_of(self.project, self.requests, unknown)
            raise MissingError(
                f"{self.remote.url} does not have what these need:\n{listing(paths)}",
                hint="run `dv push` in the clone where they were added",
            )
        if lacking.sizes:
            paths = paths_of(self.project, self.requests, lacking.sizes.keys())
            raise CorruptError(
                f"{self.remote.url} sent other content than these should have:\n{listing(paths)}",
                hint="run `dv push` in a clone that has them, or fetch from another remote",
            )


class _Download:
    """Reads packs and ranges of packs, side by side, and puts what was checked into the store."""

    def __init__(self, project: Project, remote: RemoteStore, result: Fetched) -> None:
        self.progress = project.progress
        self.store = project.store
        self.remote = remote
        self.result = result
        self.noted: list[ObjectInfo] = []
        self.not_whole: dict[Digest, CorruptError] = {}
        """Packs that are there but could not be taken whole, and why: ranges of them may do."""
        self.finished: dict[str, FinishedPack] = {}
        """Packs that came whole, by their temporary files, until the store has them."""

    def take_noted(self) -> list[ObjectInfo]:
        """Return, once, the packs that were read whole, with the MD5 that both sides know.

        `drop` and `gc` compare: such a pack need not be read again to be known.
        """
        noted, self.noted = self.noted, []
        return noted

    def run(self, reads: Sequence[PackRead], recipes: Sequence[Recipe]) -> list[DvError]:
        """Read what is planned; return an error for each pack that is gone or damaged.

        Recipes are tried as soon as their chunks are here. They go along with chunks that are read
        singly, as they do with packs read whole: should the index be lost, the packs here have all
        that it takes to make it again.
        """
        packs = count_text(len(reads), "pack")
        total = sum(read.size for read in reads)
        self.progress.start(f"downloading {packs} from {self.remote.url}", total_bytes=total)
        untried = UntriedRecipes(self.store, recipes)
        failed = self._get_packs([read.pack for read in reads if read.whole], untried)
        ranges = [span for read in reads if not read.whole for span in read.ranges]
        failed += self._get_ranges(ranges, recipes)
        self.progress.finish()
        untried.try_rest()
        return failed

    def _get_packs(self, packs: Sequence[RemotePack], untried: UntriedRecipes) -> list[DvError]:
        failed: list[DvError] = []
        transfers = run_bounded(
            self._get_pack, packs, size_of=lambda pack: pack.size, tell=self.progress.advance
        )
        try:
            for pack, got in transfers:
                if isinstance(got, DvError):
                    failed.append(got)
                    if isinstance(got, CorruptError):
                        self.not_whole[pack.digest] = got
                    continue
                self._adopt_with_others(got, untried)
                self.result.transferred_bytes += pack.size
        except BaseException:
            del transfers  # which waits for the calls under way
            for temp in list(self.finished):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temp)
            raise
        return failed

    def _adopt_with_others(self, pack: FinishedPack, untried: UntriedRecipes) -> None:
        """Take a pack into the store, and others that came whole meanwhile.

        The folders are flushed for all of them, and the index is written, once.
        """
        if pack[0] not in self.finished:
            return  # it went with another one
        group, chunks = [pack], len(pack[1].index.chunk_digests)
        for other in list(self.finished.values()):
            more = len(other[1].index.chunk_digests)
            if other is not pack and chunks + more <= ADOPTED_CHUNKS_MAX:
                group.append(other)
                chunks += more
        self.store.adopt(group)
        for temp, info in group:
            del self.finished[temp]
            untried.try_with(info.index.chunk_digests)

    def _get_ranges(self, ranges: Sequence[PackRange], recipes: Sequence[Recipe]) -> list[DvError]:
        failed: list[DvError] = []
        with ReceivedChunks(self.store) as received:
            for span, chunks in run_bounded(
                self._get_range,
                ranges,
                size_of=lambda span: span.memory_bytes,
                budget_bytes=RANGES_MEMORY_MAX_BYTES,
            ):
                if isinstance(chunks, DvError):
                    # Why the whole pack could not be taken says more.
                    failed.append(self.not_whole.get(span.pack.digest, chunks))
                else:
                    received.add(chunks)
                    self.result.transferred_bytes += span.size
                self.progress.advance(span.size)
            single = {placement.digest for span in ranges for placement in span.places}
            received.add_recipes(r for r in recipes if not single.isdisjoint(r.chunks))
        return failed

    def _get_pack(self, pack: RemotePack) -> FinishedPack | DvError:
        """Fetch a whole pack to a temporary file, and check its id and every chunk in it.

        An error is returned if the pack is gone or damaged, or has another size than the lists of
        files say: other packs can still be fetched.
        """
        try:
            return read_checked(lambda: self._read_pack(pack))
        except (MissingError, CorruptError) as error:
            return error
        except RemoteError as error:
            if not any(isinstance(each, ObjectShort) for each in (error, error.__cause__)):
                raise
            return self._wrong_size(pack, error)

    def _wrong_size(self, pack: RemotePack, error: RemoteError) -> CorruptError:
        """Return that the lists name a wrong size of a pack; raise `error` if they do not."""
        key = pack_key(pack.digest)
        stated = self.remote.backend.head(key)
        if stated is None or stated.size == pack.size:
            raise error
        return CorruptError(
            f"{self.remote.url}: {key} has {stated.size:,} bytes,"
            f" and {pack.size:,} by the lists of files there",
            hint="run: dv fsck --remote --deep, which says what is wrong there and how to mend it",
        )

    def _read_pack(self, pack: RemotePack) -> FinishedPack:
        temp = self.store.temp_path()
        try:
            index, md5 = receive_pack(self.remote, pack, temp)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            raise
        if md5 is not None:
            self.noted.append(ObjectInfo(pack_key(pack.digest), pack.size, md5))
        # Which file the chunks make is believed only after it was tried: see `_Fetch._round`.
        index.recipes = []
        self.finished[temp] = finished = temp, PackInfo(pack.digest, pack.size, index)
        return finished

    def _get_range(self, span: PackRange) -> list[tuple[Digest, bytes]] | DvError:
        """Fetch a range and return the checked chunks in it, or why they could not be had."""
        try:
            return read_checked(lambda: read_range(self.remote, span))
        except (MissingError, CorruptError) as error:
            return error
