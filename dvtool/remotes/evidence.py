"""Evidence that a remote holds the very bytes: its own statement of them, or the bytes themselves.

A proof by size (`dvtool.remotes.proof`) is enough to spare an upload. It is not enough to free a
copy: a disk that turned one bit answers with the same size. So whoever frees asks for the MD5 that
the store states of an object and compares it with the MD5 that is known here of the same bytes.
Where the store states none, the chunks are read back and checked by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.format.digest import Digest, hasher
from dvtool.format.locations import Located, RemotePack
from dvtool.format.manifest import ShardRef
from dvtool.format.pack import Placement
from dvtool.format.ranges import PackRange
from dvtool.format.references import Reference
from dvtool.remotes.known import Known
from dvtool.remotes.objects import FetchedShard, pack_key, root_key, shard_key
from dvtool.remotes.pack_ranges import read_range
from dvtool.remotes.references import SourceAccess
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.repack import ranges_of
from dvtool.remotes.transfers import read_checked
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.logs import Log
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import SILENT, Progress

_LOG = Log("remotes")
BATCH_RAW_BYTES = 64 << 20
"""Bytes that are read back at a time, before compression; memory holds at most twice as many."""
SHARDS_READ_AT_ONCE = 32

Places: TypeAlias = Mapping[Digest, Sequence[Located]]
"""Content -> its chunks on a remote, in order. A chunk is a content of one chunk."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Content to be read back from a remote before copies of it may be freed."""

    remote: str
    bytes: int = 0
    requests: int = 0


Announce: TypeAlias = Callable[[ReadBack], object]
"""Is told, before it begins, what will be read back."""


def stated(known: Known, seen: Mapping[str, ObjectInfo]) -> set[str]:
    """Return the keys of the objects of which the remote states the MD5 that is known here."""
    return {
        info.key
        for info in known.objects(seen)
        if info.md5 is not None
        and (info.size, info.md5) == (seen[info.key].size, seen[info.key].md5)
    }


def not_stated(places: Places, keys: Collection[str]) -> dict[Digest, Sequence[Located]]:
    """Return the contents with a chunk in a pack that is not among the `keys` stated."""
    return {
        content: chunks
        for content, chunks in places.items()
        if not all(pack_key(chunk.pack.digest) in keys for chunk in chunks)
    }


def reading_of(remote: RemoteStore, places: Places) -> ReadBack:
    """Return what `read_back` of these places takes."""
    spans = [span for batch in _pack_batches(places) for span in _spans(batch)]
    return ReadBack(remote.url, sum(span.size for span in spans), len(spans))


def read_back(remote: RemoteStore, places: Places, progress: Progress = SILENT) -> set[Digest]:
    """Read contents from a remote; return those whose bytes there are what their names say.

    RemoteError if the remote does not answer. Memory is bounded, whatever the contents' sizes.
    """
    good: set[Digest] = set()
    whole, broken = hasher(), False
    for batch in _pack_batches(places):
        arrived: dict[tuple[Digest, Digest], bytes] = {}
        for span, chunks in run_bounded(
            lambda span: _range_or_none(remote, span), _spans(batch), size_of=_memory_of
        ):
            arrived.update({(span.pack.digest, digest): data for digest, data in chunks or ()})
            progress.advance(span.size)
        for part in batch:
            for chunk in part.chunks:
                data = arrived.get((chunk.pack.digest, chunk.placement.digest))
                broken |= data is None
                whole.update(data or b"")
            if part.last:
                if not broken and whole.digest() == part.content:
                    good.add(part.content)
                whole, broken = hasher(), False
    _LOG.note(
        "read back from %s: %d contents, of which %d are what their names say",
        *(remote.url, len(places), len(good)),
    )
    return good


def read_roots(
    remote: RemoteStore, repo_id: str, names: Mapping[Digest, str], sure: Collection[str]
) -> set[Digest]:
    """Return the manifests that roots name, of `names`: manifest -> the root that should name it.

    The roots whose keys are `sure` are believed, the others read.
    """
    doubtful = {name for name in names.values() if root_key(repo_id, name) not in sure}
    wrong: set[str] = set()
    named: dict[str, set[Digest]] = {}
    for name, read in run_bounded(lambda name: remote.sound_root(repo_id, name), doubtful):
        if read is None:
            wrong.add(name)
        else:
            named[name] = {bytes.fromhex(manifest.manifest) for manifest in read[0].manifests}
    return {
        manifest
        for manifest, name in names.items()
        if name not in wrong and (name not in named or manifest in named[name])
    }


def read_shards(remote: RemoteStore, shards: Iterable[Digest]) -> set[Digest]:
    """Return those of the shards whose entries a remote has; each is read and checked."""
    return {digest for digest, good in run_bounded(lambda d: _has_shard(remote, d), shards) if good}


def _has_shard(remote: RemoteStore, digest: Digest) -> bool:
    try:
        remote.read_shard(digest)
    except (CorruptError, MissingError):
        return False
    return True


@dataclass(slots=True)
class Inspection:
    """Asks a remote for evidence of contents, given by the shards that say where they are.

    `wanted` are contents by shard; `there` is what the remote said of objects a moment ago.
    """

    remote: RemoteStore
    known: Known
    wanted: Mapping[ShardRef, Collection[Digest]]
    there: Mapping[str, ObjectInfo]
    access: SourceAccess
    lost: set[Digest] = field(default_factory=set)
    """Contents of which there is no evidence, as far as it was asked for."""
    referenced: dict[Digest, Reference] = field(default_factory=dict)
    """Contents that the remote only says are at a source."""
    faults: dict[Digest, DvError] = field(default_factory=dict)
    """Why the source of a content that is lost is no evidence."""
    _looked: dict[str, ObjectInfo | None] = field(default_factory=dict)
    _stated: set[str] = field(default_factory=set)

    def reading(self) -> ReadBack:
        """Return what has to be read back. Contents whose shard is damaged there are `lost`."""
        size = requests = 0
        for places in self._unstated():
            part = reading_of(self.remote, places)
            size += part.bytes
            requests += part.requests
        size += sum(reference.size for reference in self.referenced.values())
        requests += len(self.referenced)
        return ReadBack(self.remote.url, size, requests)

    def read(self, progress: Progress = SILENT) -> None:
        """Read back what the remote does not state; what is not as it should be is `lost`."""
        for places in self._unstated():
            self.lost |= places.keys() - read_back(self.remote, places, progress)
        for content, reference in self.referenced.items():
            # Nobody keeps the source as it is: only its very bytes, now, are evidence.
            try:
                self.access.verify(content, reference, progress.advance)
            except (MissingError, CorruptError) as error:
                self.lost.add(content)
                self.faults[content] = error

    def _unstated(self) -> Iterator[dict[Digest, Sequence[Located]]]:
        """Yield contents that the remote says nothing certain of, some shards at a time."""
        left = iter(self._doubtful())
        while batch := list(islice(left, SHARDS_READ_AT_ONCE)):
            places: dict[Digest, Sequence[Located]] = {}
            for ref, shard in run_bounded(lambda ref: self._shard_or_none(ref), batch):
                contents = self.wanted[ref]
                locations = shard.locations if shard is not None else {}
                references = shard.references if shard is not None else {}
                places.update({c: locations[c] for c in contents if c in locations})
                self.referenced.update({c: references[c] for c in contents if c in references})
                self.lost.update(c for c in contents if c not in locations and c not in references)
            self._look({pack_key(c.pack.digest) for chunks in places.values() for c in chunks})
            yield not_stated(places, self._stated)

    def _doubtful(self) -> list[ShardRef]:
        """Return the shards that the remote does not state with all packs they point into."""
        believed = self.known.shards(ref.digest for ref in self.wanted)
        packs = {pack for pointed in believed.values() for pack in pointed}
        self._look({*map(shard_key, believed), *map(pack_key, packs)})
        referring = self.known.referring(believed)
        return [
            ref
            for ref in self.wanted
            if ref.digest not in believed
            or ref.digest in referring
            or shard_key(ref.digest) not in self._stated
            or not all(pack_key(pack) in self._stated for pack in believed[ref.digest])
        ]

    def _look(self, keys: Collection[str]) -> None:
        fresh = [key for key in keys if key not in self._looked]
        unknown = [key for key in fresh if key not in self.there]
        answers = {**self.there, **self.remote.look(unknown)} if unknown else self.there
        self._looked.update({key: answers.get(key) for key in fresh})
        self._stated |= stated(self.known, {k: answers[k] for k in fresh if k in answers})

    def _shard_or_none(self, ref: ShardRef) -> FetchedShard | None:
        try:
            return self.remote.get_shard(ref)
        except (CorruptError, MissingError):
            return None


@dataclass(frozen=True, slots=True)
class _ContentPart:
    """Some chunks of a content, in order, and whether they are the last ones."""

    content: Digest
    chunks: Sequence[Located]
    last: bool


def _pack_batches(places: Places) -> Iterator[list[_ContentPart]]:
    """Yield the contents as they lie in packs, so much at a time as one reads at once."""
    run: list[_ContentPart] = []
    size = 0
    for content, chunks in sorted(places.items(), key=lambda item: _first_place(item[1])):
        begin = 0
        for end, chunk in enumerate(chunks, 1):
            size += chunk.placement.size
            if size >= BATCH_RAW_BYTES or end == len(chunks):
                run.append(_ContentPart(content, chunks[begin:end], end == len(chunks)))
                begin = end
            if size >= BATCH_RAW_BYTES:
                yield run
                run, size = [], 0
    if run:
        yield run


def _first_place(chunks: Sequence[Located]) -> tuple[Digest, int, int]:
    first = chunks[0]
    return first.pack.digest, first.placement.frame_offset, first.placement.start


def _spans(batch: Iterable[_ContentPart]) -> list[PackRange]:
    places: dict[RemotePack, dict[Digest, Placement]] = {}
    for part in batch:
        for chunk in part.chunks:
            places.setdefault(chunk.pack, {})[chunk.placement.digest] = chunk.placement
    return ranges_of(places)


def _memory_of(span: PackRange) -> int:
    return span.memory_bytes


def _range_or_none(remote: RemoteStore, span: PackRange) -> list[tuple[Digest, bytes]] | None:
    """Return the chunks of a range, checked; None if it is gone or any of it is damaged."""
    try:
        return read_checked(lambda: read_range(remote, span))
    except (CorruptError, MissingError):
        return None
