"""Batches of checkout: contents out of the store, into new files of the workspace.

Batches write only files that were not there, and replace nothing. So the order of the files, and
the worker that writes each, do not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import TypeAlias

import msgspec

from dvtool.format.digest import Digest
from dvtool.jobs.engine import Engine
from dvtool.store.local import LocalStore
from dvtool.store.reader import ContentReader, Whereabouts
from dvtool.workspace.files import NewFile, Workspace
from dvtool.workspace.opener import Links

UNPACK_FILES_MAX = 512
UNPACK_SIZE_MAX_BYTES = 8 << 20


Piece: TypeAlias = tuple[str, Digest, int, bool]
"""A file to write: its path from the top of the worktree, its content, the size of that in bytes,
and whether it is executable. A plain tuple pickles in an eighth of a named one's time."""
Stamps: TypeAlias = list[tuple[int, int, int, int] | None]
"""The fields of each file's `Stamp`; None for a file that could not be written in this way."""


class UnpackBatch(msgspec.Struct, frozen=True):
    """Files to write below `root`, and where in which store their contents are. Picklable."""

    root: str
    store: str
    pieces: tuple[Piece, ...]
    whereabouts: Whereabouts
    links: Links = msgspec.field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum([size for _, _, size, _ in self.pieces])


def unpack(batch: UnpackBatch, tell: Callable[[int], None] | None = None) -> Stamps:
    """Write one batch. A content that is not what its name says is a CorruptError.

    `tell`, if given, is called with the bytes of each file that was written, or found in the way.
    """
    stamps: Stamps = []
    with (
        LocalStore(batch.store) as store,
        store.reader() as reader,
        Workspace(batch.root, links=batch.links) as workspace,
    ):
        reader.know(batch.whereabouts)
        for folder, pieces in groupby(batch.pieces, key=_folder_of):
            made = workspace.write_new(folder, _files(reader, pieces, tell))
            stamps.extend(None if stamp is None else stamp[:] for stamp in made)
    return stamps


def _files(
    reader: ContentReader, pieces: Iterable[Piece], tell: Callable[[int], None] | None
) -> Iterator[NewFile]:
    for path, digest, size, executable in pieces:
        if tell is None or size <= UNPACK_SIZE_MAX_BYTES:
            yield path, executable, reader.read(digest)
            told_bytes = 0
        else:
            parts = _ToldParts(reader.read(digest), tell)
            yield path, executable, parts
            told_bytes = parts.told_bytes
        if tell is not None:
            tell(size - told_bytes)


class _ToldParts:
    """The parts of a large file; tells of the bytes of each, once the next one is asked for."""

    def __init__(self, parts: Iterator[memoryview], tell: Callable[[int], None]) -> None:
        self._parts = parts
        self._tell = tell
        self.told_bytes = 0

    def __iter__(self) -> Iterator[memoryview]:
        for part in self._parts:
            yield part
            self._tell(len(part))
            self.told_bytes += len(part)


def _folder_of(piece: Piece) -> str:
    return piece[0].rpartition("/")[0]


def cut_pieces(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, ...]]:
    """Cut files, in the order of their contents in packs, into batches."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        full = len(batch) >= UNPACK_FILES_MAX or size + piece[2] > UNPACK_SIZE_MAX_BYTES
        if full and batch:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(piece)
        size += piece[2]
    if batch:
        yield tuple(batch)


def write_pieces(
    engine: Engine,
    workspace: Workspace,
    store: LocalStore,
    reader: ContentReader,
    runs: Iterable[Sequence[Piece]],
    tell: Callable[[int], None] | None = None,
) -> Iterator[tuple[Sequence[Piece], Stamps]]:
    """Write files where nothing is; yield each batch with the stamps of its files.

    A file that was not written has None: something is in its place by now, or this filesystem has
    no files without names. `tell` is called with the bytes done. The next of the `runs` is asked
    for while the batches of the one before are worked on; then the `reader` has prepared its
    contents, until the one after it is asked for.
    """
    begun: deque[Sequence[Piece]] = deque()

    def batches() -> Iterator[UnpackBatch]:
        for run in runs:
            for batch in cut_pieces(run):
                begun.append(batch)
                whereabouts = reader.whereabouts(piece[1] for piece in batch)
                yield UnpackBatch(workspace.root, store.path, batch, whereabouts, workspace.links)

    results = engine.map(unpack, batches(), tell=tell, begin="copied")
    with closing(results):
        for stamps in results:
            yield begun.popleft(), stamps
