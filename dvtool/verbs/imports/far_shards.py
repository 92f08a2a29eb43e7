"""The shards of what workers took: cut from the listing, with the places of their content.

All is read in the order of paths, so that memory does not grow with the listing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.locations import Located, contents_of, encode_locations, encode_object
from dvtool.format.manifest import (
    INLINE_ENTRIES_MAX,
    Built,
    Entries,
    Entry,
    Manifest,
    ShardRef,
    ShardText,
    build,
    cut_shards,
    decode_shard,
    manifest_shards,
)
from dvtool.format.paths import SELF
from dvtool.format.source import DataSource
from dvtool.jobs.take_to_remote import PackThere
from dvtool.project.journal import Journal, ShardMade, UsedBatch
from dvtool.project.parts import Project
from dvtool.project.taken import TakenObjects
from dvtool.remotes.remote import RemoteStore

AFTER_ALL = chr(0x10FFFF)
"""After every path."""


class _PathWindow(NamedTuple):
    """The places of the contents of a run of paths, which ends at `last`."""

    last: str
    located: Mapping[Digest, list[Located]]


class _Unread(NamedTuple):
    """A window that is read when it is needed; no path in it is after `end`."""

    first: str
    end: str
    read: Callable[[], _PathWindow]


class _PathPlaces:
    """Where contents are, for shards in the order of their paths."""

    def __init__(self, windows: Iterator[_Unread]) -> None:
        self._windows = windows
        self._next = next(windows, None)
        self._open: deque[_PathWindow] = deque()

    def go_on(self, first: str, last: str) -> None:
        """Read the windows that reach into this run of paths; let go of those before it."""
        while self._open and self._open[0].last < first:
            self._open.popleft()
        while self._next is not None and self._next.first <= last:
            if self._next.end >= first:
                self._open.append(self._next.read())
            self._next = next(self._windows, None)

    def find(self, content: Digest) -> list[Located] | None:
        """Return the chunks of a content of the run."""
        for window in self._open:
            chunks = window.located.get(content)
            if chunks is not None:
                return chunks
        return None


class FarShards:
    """Makes the manifest of an import on a cluster, and the shard objects, kept in the journal.

    `proven` are the shards of the manifest before, with their packs, that the remote was seen to
    hold whole; they are not made again.
    """

    def __init__(
        self,
        project: Project,
        remote: RemoteStore,
        taken: TakenObjects,
        journal: Journal,
        proven: Mapping[Digest, Sequence[PackThere]],
    ) -> None:
        self._project = project
        self._remote = remote
        self._taken = taken
        self._journal = journal
        self._proven = proven
        self.shards: list[Digest] = []
        """The shards of the manifest, those that the remote has included."""

    def build(self, source: DataSource, before: Manifest | None) -> Built:
        """Return the manifest of what is listed; of a large one, each shard is stored here too."""
        self._journal.forget_shards()
        self.shards.clear()
        batches, kept = _PathPlaces(self._batches()), _PathPlaces(self._kept(before))
        objects, _ = self._taken.total()
        refs: list[ShardRef] = []
        few: Entries = {}
        for shard in cut_shards(self._entries()):
            refs.append(shard.ref)
            self.shards.append(shard.ref.digest)
            entries = decode_shard(shard.text, shard.ref)
            if objects <= INLINE_ENTRIES_MAX:
                few.update(entries)
            else:
                self._project.store.put_shards([shard])
            if shard.ref.digest in self._proven:
                self._journal.need_packs(self._proven[shard.ref.digest])
                continue
            first, last = shard.ref.first, next(reversed(entries))
            batches.go_on(first, last)
            kept.go_on(first, last)
            self._make(shard, entries, (batches, kept))
        if objects <= INLINE_ENTRIES_MAX:
            return build("file" if SELF in few else "dir", few, source)
        return Built(Manifest("dir", None, tuple(refs), source), ())

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        for file in chain.from_iterable(self._taken.known()):
            yield file.path, file.entry

    def _make(
        self, shard: ShardText, entries: Entries, places: tuple[_PathPlaces, _PathPlaces]
    ) -> None:
        located: dict[Digest, list[Located]] = {}
        packs: set[Digest] = set()
        for content in contents_of(entries):
            chunks = next((c for each in places if (c := each.find(content)) is not None), None)
            if chunks is None:
                raise DvError(
                    "the listing changed while it was worked on", hint="repeat the command"
                )
            located[content] = chunks
            packs.update(chunk.pack.digest for chunk in chunks)
        data = encode_object(shard.text, encode_locations(located))
        self._journal.add_shard(ShardMade(shard.ref.digest, data, b"".join(packs)))

    def _batches(self) -> Iterator[_Unread]:
        """Yield the batches of the listing."""

        def read(batch: UsedBatch) -> _PathWindow:
            result = self._journal.result(batch.name)
            return _PathWindow(batch.last, result.located() if result is not None else {})

        for batch in self._journal.used():
            yield _Unread(batch.first, batch.last, partial(read, batch))

    def _kept(self, before: Manifest | None) -> Iterator[_Unread]:
        """Yield the shards of the manifest before that the remote has, with their places."""

        def read(ref: ShardRef) -> _PathWindow:
            shard = self._remote.get_shard(ref)
            packs = {chunk.pack for chunks in shard.locations.values() for chunk in chunks}
            self._journal.need_packs(PackThere(pack.digest, pack.size, None) for pack in packs)
            return _PathWindow(next(reversed(shard.entries)), shard.locations)

        refs = manifest_shards(before) if before is not None else []
        ends = [*(ref.first for ref in refs[1:]), AFTER_ALL]
        for ref, end in zip(refs, ends, strict=False):
            if ref.digest in self._proven:
                yield _Unread(ref.first, end, partial(read, ref))
