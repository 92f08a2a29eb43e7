"""Contents on remotes: where they are, and reading ranges of packs. Nothing is kept in the store.

A remote is foreign: chunks are checked by their names. That the chunks which a remote names for a
content do make that content is known once all of it was read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

from dvtool.errors import (
    CorruptError,
    DvError,
    ManifestError,
    MissingError,
    ObjectMissing,
    RemoteError,
    SetupError,
    listing,
)
from dvtool.format.digest import Digest
from dvtool.format.file_places import ListedShard, decode_listed
from dvtool.format.locations import OBJECT_SIZE_MAX_BYTES, Located, RemotePack
from dvtool.format.manifest import ShardRef, decode, manifest_shards
from dvtool.format.pack import PACK_SIZE_MAX_BYTES
from dvtool.format.paths import SUFFIX
from dvtool.format.ranges import PackRange, RangeLimits
from dvtool.git import Git
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transfers import read_checked
from dvtool.snapshots.cache import FrameCache, NewMemory, PackSink, shard_name
from dvtool.snapshots.contents import Content, Contents
from dvtool.snapshots.layouts import AT_SOURCE, PackPieces, PlacedChunk, pieces_by_pack
from dvtool.snapshots.local import LocalChunks
from dvtool.snapshots.lost import LostPacks, SilentRemotes
from dvtool.snapshots.places import KnownPlaces, ListedPlaces, PlacesOfShard
from dvtool.snapshots.referenced import RUNS_MEMORY_MAX_BYTES, ReadFrame, SourceChunks
from dvtool.snapshots.spans import PackRoom, frame_runs, read_span
from dvtool.system.collecting import collector_put_off
from dvtool.system.parallel import run_bounded

T = TypeVar("T")
FRAME_RUN_LIMITS = RangeLimits(size_bytes=9 << 20, raw_bytes=16 << 20)
FETCH_LIMITS = RangeLimits(gap_bytes=1 << 20, size_bytes=PACK_SIZE_MAX_BYTES)
"""Into the cache a pack may go in one request: it is never in memory."""
FETCHES_MAX = 8
"""So many packs come at once: more would come no sooner, and later than the first are needed."""
NO_REMOTE_HINT = "add one: dv remote add origin s3://BUCKET/PREFIX (or a folder)"
NO_COMMITTED_REMOTE_HINT = (
    "its .dvconfig names no remote, and a folder as a remote is known to one clone alone: "
    "name the folder of that clone instead of a URL"
)


class RemoteChunks:
    """The contents on the remotes of a repository, for several threads of one process.

    `remotes` opens them when the first is needed. Of several, the first that has something gives
    it: one that does not answer is asked last for a while, and a list of packs that are lost there
    says nothing.
    """

    def __init__(
        self,
        git: Git,
        local: LocalChunks,
        remotes: Callable[[], Sequence[RemoteStore]],
        commit: str,
        cache: FrameCache | None,
        sources: SourceChunks,
        *,
        before_fork: RemoteChunks | None = None,
    ) -> None:
        """Take the parts; what `before_fork` knew, of the parent of this process, is known here."""
        self._git = git
        self._local = local
        self._open = remotes
        self._commit = commit
        self._cache = cache
        self._sources = sources
        self._anew = False
        """Whether shards in the cache may be out of date: a gc there has moved content since."""
        self._lock = threading.RLock()
        self._opened: Sequence[RemoteStore] | None = None
        self._places: KnownPlaces = KnownPlaces(
            before_fork._places if before_fork is not None else None
        )
        self._unlisted: set[Digest] = set()
        """Shards that the first remote lacks or could not be asked for, until `forget`."""
        self._lost: LostPacks = LostPacks(before_fork._lost if before_fork is not None else None)
        self._silent = SilentRemotes()
        if before_fork is not None:  # whose locks may be held for ever: they are not asked for
            self._anew = before_fork._anew
            sources.learn(before_fork._sources.learned)

    @property
    def remotes(self) -> Sequence[RemoteStore]:
        """The remotes, opened; none if none is set; SetupError if the first may not be asked."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    @property
    def are_several(self) -> bool:
        """Whether another remote may have what one lacks."""
        return len(self.remotes) > 1

    @property
    def _no_remote_hint(self) -> str:
        return NO_COMMITTED_REMOTE_HINT if self._git.worktree is None else NO_REMOTE_HINT

    # --- shards ---------------------------------------------------------------------------

    def shards(self, refs: Sequence[ShardRef]) -> Iterator[tuple[ShardRef, ListedShard]]:
        """Yield shards of large manifests, checked, in any order."""
        came: set[Digest] = set()

        def get(remote: RemoteStore, number: int) -> Iterator[tuple[ShardRef, ListedShard]]:
            wanted = [ref for ref in refs if ref.digest not in came]
            for ref, shard in run_bounded(partial(self._get_shard, remote), wanted):
                came.add(ref.digest)
                self._keep(number, ref.digest, shard)
                yield ref, shard

        if not self.remotes:
            raise MissingError(
                f"shards of a large manifest ({len(refs):,}) are not in the local store, and there "
                "is no remote to ask",
                hint=self._no_remote_hint,
            )
        try:
            yield from self._from_first(get)
        except ObjectMissing as error:
            raise MissingError(
                f"shards of a large manifest are neither in the local store nor on a remote: "
                f"{error}",
                hint="run `dv push` in the clone where the data was added",
            ) from error

    def _get_shard(self, remote: RemoteStore, ref: ShardRef) -> ListedShard:
        """Return a shard as a remote has it, checked; from the cache if it is there."""
        if self._cache is None:
            return remote.read_shard_as(ref.digest, partial(_decoded, ref))
        name = shard_name(remote.required_mark().id, ref.digest)
        shard = self._cached_shard(self._cache, ref, name)
        if shard is None:
            with self._cache.turn(ref.digest, "list"):  # of several processes one asks for it
                shard = self._cached_shard(self._cache, ref, name)
                shard = shard or self._fetched_shard(self._cache, remote, ref, name)
        return shard

    def _cached_shard(self, cache: FrameCache, ref: ShardRef, name: str) -> ListedShard | None:
        data = None if self._anew else cache.get(name, size_max=OBJECT_SIZE_MAX_BYTES)
        if data is None:
            return None
        try:
            return _decoded(ref, data, name)
        except CorruptError:
            cache.drop(name)
            return None

    def _fetched_shard(
        self, cache: FrameCache, remote: RemoteStore, ref: ShardRef, name: str
    ) -> ListedShard:
        def decode(data: bytes, where: str) -> tuple[ListedShard, bytes]:
            return _decoded(ref, data, where), data

        shard, data = remote.read_shard_as(ref.digest, decode)
        cache.put(name, data)
        return shard

    def _keep(self, number: int, digest: Digest, shard: ListedShard) -> PlacesOfShard:
        self._sources.learn(shard.references)
        return self._places.keep(number, digest, shard.locations)

    def forget(self) -> None:
        """Ask the remotes anew, from now on, where contents are: a gc may have moved them."""
        with self._lock:
            self._anew = True
            self._unlisted.clear()
            self._places.clear()

    # --- where contents are ---------------------------------------------------------------

    def locate(self, contents: Sequence[Content]) -> dict[Digest, list[PlacedChunk]]:
        """Return the chunks of contents; MissingError, naming the files, if one is nowhere."""
        try:
            return self._locate(contents)
        except MissingError:
            if not self._lost.clear():
                raise
            return self._locate(contents)  # a lost pack may be back, or what is needed of it here

    def _locate(self, contents: Sequence[Content]) -> dict[Digest, list[PlacedChunk]]:
        located = self._sources.locate([content.digest for content in contents])
        self._add_remembered(located, contents)
        if all(content.digest in located for content in contents):
            return located

        def get(remote: RemoteStore, number: int) -> Iterator[None]:
            for found in self._attempts(
                remote, number, [c for c in contents if c.digest not in located]
            ):
                with collector_put_off():
                    for digest, chunks in self._lost.without(number, found).items():
                        placed = [PlacedChunk(number, chunk) for chunk in chunks]
                        located.setdefault(digest, placed)
                left = [content.digest for content in contents if content.digest not in located]
                located.update(self._sources.locate(left) if left else {})
                if all(content.digest in located for content in contents):
                    yield None
                    return
            lacking = [c.path for c in contents if c.digest not in located]
            raise MissingError(
                f"{remote.url} does not have what these need, nor does the local store:\n"
                f"{listing(sorted(lacking))}",
                hint="run `dv push` in the clone where they were added",
            )

        if not self.remotes:
            lacking = sorted(content.path for content in contents)
            raise MissingError(
                "the local store does not have what these need, and there is no remote to ask:\n"
                f"{listing(lacking)}",
                hint=self._no_remote_hint,
            )
        for _ in self._from_first(get):
            pass
        return located

    def _add_remembered(
        self, located: dict[Digest, list[PlacedChunk]], contents: Sequence[Content]
    ) -> None:
        """Add contents that the first remote has by shards read before; no remote is opened."""
        by_shard: dict[Digest, list[Digest]] = {}
        for content in contents:
            if content.digest not in located:
                by_shard.setdefault(content.shard.digest, []).append(content.digest)
        with collector_put_off():
            for shard, digests in by_shard.items():
                places = self._places.get(0, shard)
                held = places.held(digests) if places is not None else {}
                for digest, chunks in self._lost.without(0, held).items():
                    located[digest] = [PlacedChunk(0, chunk) for chunk in chunks]

    def listed_places(self, contents: Contents, numbers: Iterable[int]) -> ListedPlaces:
        """Return where the first remote has contents, by its lists; those of a gc may be old.

        It is asked for lists that are not in memory, once. Contents at a source are left out, and
        those that no list has. RemoteError and the like if it is the only one and cannot be asked.
        """
        runs: list[tuple[ShardRef, list[Digest]]] = []
        for refs, digests in contents.listed_in(numbers):
            at_source = self._sources.locate(digests)
            left = [d for d in digests if d not in at_source] if at_source else digests
            runs += [(ref, left) for ref in refs] if left else ()
        absent = {
            ref.digest: ref
            for ref, _ in runs
            if ref.digest not in self._unlisted and self._places.get(0, ref.digest) is None
        }
        located: ListedPlaces = {}
        if absent and self._first_answers():
            located = self._read_lists(absent, {d for _, left in runs for d in left})
        with collector_put_off():
            for ref, left in runs:
                places = self._places.get(0, ref.digest)
                located.update(places.held(left) if places is not None else {})
            return self._lost.without(0, located)

    def _first_answers(self) -> bool:
        """Whether the first remote can be asked; True as well if there is no other."""
        if not self.are_several:
            return True
        if self._silent.since(0) is not None:
            return False
        try:
            self._silent.ask(self.remotes[0], 0)
        except DvError:
            return False
        return True

    def _read_lists(
        self, refs: Mapping[Digest, ShardRef], wanted: Collection[Digest]
    ) -> ListedPlaces:
        """Return where contents are by shards of the first remote, where that has these shards."""
        located: ListedPlaces = {}
        try:
            for remote in self.remotes[:1]:
                remote.required_mark()
                located = self._listed(remote, 0, refs.values(), wanted)
        except DvError:
            if self._opened is None or len(self._opened) == 1:
                raise
            self._unlisted.update(refs)
        return located

    def _attempts(
        self, remote: RemoteStore, number: int, contents: Sequence[Content]
    ) -> Iterator[ListedPlaces]:
        """Yield where a remote has contents; each source costs more requests than the last."""
        wanted = {content.digest for content in contents}
        refs = {content.shard.digest: content.shard for content in contents}
        yield self._listed(remote, number, refs.values(), wanted)
        yield self._known(remote, wanted)
        seen = set(refs)
        for target in dict.fromkeys(content.target.target for content in contents):
            for refs_then in self._past(target):
                more = [ref for ref in refs_then if ref.digest not in seen]
                seen.update(ref.digest for ref in more)
                if more:
                    yield self._listed(remote, number, more, wanted)

    def _listed(
        self, remote: RemoteStore, number: int, refs: Iterable[ShardRef], wanted: Collection[Digest]
    ) -> ListedPlaces:
        """Return where contents are, by the remote's shards; one that it lacks says nothing."""
        located: ListedPlaces = {}
        absent = []
        for ref in refs:
            places = self._places.get(number, ref.digest)
            if places is None:
                absent.append(ref)
            else:
                located.update(places.held(wanted))

        def get(ref: ShardRef) -> ListedShard | None:
            try:
                return self._get_shard(remote, ref)
            except ObjectMissing:
                return None

        for ref, shard in run_bounded(get, absent):
            if shard is not None:
                located.update(self._keep(number, ref.digest, shard).held(wanted))
            elif number == 0:
                self._unlisted.add(ref.digest)
        return located

    def _known(self, remote: RemoteStore, wanted: Collection[Digest]) -> ListedPlaces:
        """Return where a remote is believed to have contents, from earlier use of it here."""
        mark = remote.mark()
        return self._local.on_remote(mark.id, wanted) if mark is not None else {}

    def _past(self, target: str) -> Iterator[list[ShardRef]]:
        """Yield the shards of earlier versions of a target, newest first."""
        git = self._git
        for commit in git.log(target + SUFFIX, rev=self._commit):
            if commit.blob is None:
                continue
            try:
                text = git.read_blob(commit.blob)
                yield manifest_shards(decode(text, target + SUFFIX))
            except (ManifestError, MissingError):
                continue
            finally:
                git.close()

    def _from_first(self, work: Callable[[RemoteStore, int], Iterator[T]]) -> Iterator[T]:
        """Yield what the first remote that can gives; else raise the error of the first."""
        errors: dict[int, DvError] = {}
        for number in sorted(range(len(self.remotes)), key=lambda n: self._silent.since(n) or 0):
            remote = self.remotes[number]
            try:
                self._silent.ask(remote, number)
                yield from work(remote, number)
                return
            except (MissingError, CorruptError, RemoteError, SetupError) as error:
                errors[number] = error
        raise errors[min(errors)]

    # --- reading --------------------------------------------------------------------------

    def read(
        self, pieces: Iterable[PlacedChunk], memory: NewMemory = bytearray
    ) -> Iterator[ReadFrame]:
        """Yield the frames of chunks, in any order; neighbouring frames are one request.

        They are received into what `memory` returns. Every chunk is checked. ObjectMissing if a
        pack is gone, CorruptError if a chunk arrives damaged again and again.
        """
        some = list(pieces)
        referenced = [piece for piece in some if piece.place == AT_SOURCE]
        for frame in self._sources.read(referenced) if referenced else ():
            self._keep_frames(frame.pack, [(frame.offset, frame.stored)])
            yield frame
        pieces = [piece for piece in some if piece.place != AT_SOURCE]
        missing: list[ObjectMissing] = []

        def get(span: tuple[int, PackRange]) -> list[ReadFrame]:
            place, of_pack = span
            remote = self.remotes[place]

            def read() -> list[ReadFrame]:
                with self._cache_sink(of_pack) as kept:
                    received = memoryview(memory(of_pack.size))[: of_pack.size]
                    room = PackRoom(received, kept, of_pack.offset)
                    return read_span(remote, place, of_pack, room)

            try:
                return read_checked(read)
            except ObjectMissing as error:
                missing.append(self._noted(place, of_pack, error))
                return []

        spans = list(frame_runs(pieces_by_pack(pieces), FRAME_RUN_LIMITS))
        if len(spans) == 1:  # no thread is begun for one request
            yield from get(spans[0])
        else:
            for _, frames in run_bounded(
                get,
                spans,
                size_of=lambda span: span[1].memory_bytes,
                budget_bytes=RUNS_MEMORY_MAX_BYTES,
            ):
                yield from frames
        if missing:
            raise missing[0]

    def _noted(self, number: int, span: PackRange, error: ObjectMissing) -> ObjectMissing:
        """Note that a remote lacks a pack, and return the error; raise it if there is no other.

        So a call asks for all its packs before the error, and where the next remote is asked, it
        is asked for all of them.
        """
        if not self.are_several:
            raise error
        self._lost.note(number, span.pack.digest)
        return error

    def _cache_sink(self, span: PackRange) -> AbstractContextManager[PackSink | None]:
        """Give what writes a range to the cache as it comes, unchecked; whoever reads that checks.

        So it is written while the processor still has it at hand.
        """
        if self._cache is None:
            return nullcontext()
        return self._cache.pack_sink(span.pack.digest, span.offset, span.size)

    def fetch(self, packs: PackPieces) -> int:
        """Put the frames of chunks into the cache, which there must be; return how many bytes.

        The wanted frames of a pack are one request, if they lie together. They are written as they
        come: whoever reads the cache checks it, and asks the remote again for what arrived damaged.
        """
        cache = self._cache
        assert cache is not None
        missing: list[ObjectMissing] = []

        def get(span: tuple[int, PackRange]) -> int:
            place, pack_range = span
            pack, offset, size = pack_range.pack.digest, pack_range.offset, pack_range.size
            try:
                with cache.pack_sink(pack, offset, size) as sink:
                    self.remotes[place].read_pack(pack, sink, offset=offset, size=size)
            except ObjectMissing as error:
                missing.append(self._noted(place, pack_range, error))
                return 0
            return size

        referenced = [
            PlacedChunk(AT_SOURCE, Located(pack, at))
            for (place, pack), placements in packs.items()
            if place == AT_SOURCE
            for at in placements
        ]
        came = 0
        for frame in self._sources.read(referenced) if referenced else ():
            self._keep_frames(frame.pack, [(frame.offset, frame.stored)])
            came += len(frame.stored)
        spans = frame_runs(packs, FETCH_LIMITS)
        came += sum(size for _, size in run_bounded(get, spans, workers=FETCHES_MAX))
        if missing:
            raise missing[0]
        return came

    def _keep_frames(self, pack: RemotePack, frames: Sequence[tuple[int, memoryview]]) -> None:
        if self._cache is not None:
            self._cache.put_frames(pack.digest, frames)


def _decoded(ref: ShardRef, data: bytes, name: str) -> ListedShard:
    with collector_put_off():
        return decode_listed(data, ref, name)
