"""Contents at the sources of references: where they are, and reading ranges of the objects."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import NamedTuple

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Placement
from dvtool.format.references import Reference
from dvtool.remotes.references import ChunkRun, SourceAccess, runs_of
from dvtool.snapshots.layouts import AT_SOURCE, PlacedChunk
from dvtool.system.parallel import run_bounded

RUNS_MEMORY_MAX_BYTES = 64 << 20
"""So much memory all ranges that are under way may take together."""
LOST_FOR_S = 30.0
"""So long an object that was found changed is not asked again: it may be put back."""
_RAW = b"\0"
"""The codec of a frame that is as it is, as the cache keeps frames."""


class ReadFrame(NamedTuple):
    """A frame as it was read from a remote, with the chunks in it that were asked for, checked."""

    place: int
    pack: RemotePack
    offset: int
    stored: memoryview
    raw: bytes | memoryview
    placements: tuple[Placement, ...]


class SourceChunks:
    """The contents at sources, for several threads of one process.

    `known` says which objects have contents, by what is known in the store. Chunk number n that
    begins at offset x of an object is a frame at x + n, since each has a byte for its codec.
    """

    def __init__(
        self,
        known: Callable[[Collection[Digest]], Mapping[Digest, Sequence[Reference]]],
        access: SourceAccess,
    ) -> None:
        self._known = known
        self._access = access
        self._lock = threading.Lock()
        self._learned: dict[Digest, Reference] = {}
        self._by_name: dict[Digest, Reference] = {}
        self._lost: dict[Digest, float] = {}
        """Name of a reference -> when it was found not to hold, by `time.monotonic`."""

    def learn(self, references: Mapping[Digest, Reference]) -> None:
        """Remember what a shard on a remote says."""
        with self._lock:
            self._learned.update(references)

    @property
    def learned(self) -> Mapping[Digest, Reference]:
        """What shards on remotes said."""
        return self._learned

    def locate(self, contents: Collection[Digest]) -> dict[Digest, list[PlacedChunk]]:
        """Return the chunks of those of the contents that are at a source, as far as is known.

        An object that was found changed or gone is passed over.
        """
        located: dict[Digest, list[PlacedChunk]] = {}
        with self._lock:
            known = self._known(contents)
            for content in contents if known or self._learned else ():
                learned = self._learned.get(content)
                for one in (*known.get(content, ()), *([learned] if learned else [])):
                    if time.monotonic() - self._lost.get(one.name, -inf) > LOST_FOR_S:
                        self._by_name[one.name] = one
                        located[content] = _pieces(one)
                        break
        return located

    def read(self, pieces: Sequence[PlacedChunk]) -> Iterator[ReadFrame]:
        """Yield the frames of chunks, each checked; near ones are read by one request.

        ReferenceLost or CorruptError, naming the object, if it is not what was taken.
        """
        wanted: dict[Digest, dict[Digest, list[Placement]]] = {}
        for piece in pieces:
            chunks = wanted.setdefault(piece.located.pack.digest, {})
            chunks.setdefault(piece.chunk, []).append(piece.located.placement)
        runs = (
            run for name, chunks in wanted.items() for run in runs_of(self._by_name[name], chunks)
        )
        for run, read in run_bounded(
            self._read, runs, size_of=lambda run: run.size, budget_bytes=RUNS_MEMORY_MAX_BYTES
        ):
            one = run.reference
            pack = RemotePack(one.name, one.size)
            placements = {p.frame_offset: p for some in wanted[one.name].values() for p in some}
            starts = list(accumulate((size for _, size in one.chunks), initial=0))
            for (digest, data), (_, offset, _) in zip(read, run.chunks, strict=True):
                at = offset + bisect_left(starts, offset)
                placement = placements.get(at) or Placement(digest, at, len(data) + 1, 0, len(data))
                stored = memoryview(_RAW + data)
                yield ReadFrame(AT_SOURCE, pack, at, stored, data, (placement,))

    def _read(self, run: ChunkRun) -> list[tuple[Digest, bytes]]:
        try:
            return self._access.read(run)
        except (MissingError, CorruptError):
            with self._lock:
                self._lost[run.reference.name] = time.monotonic()
            raise


def _pieces(reference: Reference) -> list[PlacedChunk]:
    pack = RemotePack(reference.name, reference.size)
    pieces, at = [], 0
    for number, (digest, size) in enumerate(reference.chunks):
        placement = Placement(digest, at + number, size + 1, 0, size)
        pieces.append(PlacedChunk(AT_SOURCE, Located(pack, placement)))
        at += size
    return pieces
