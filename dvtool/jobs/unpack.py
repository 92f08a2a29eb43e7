"""Batches the other way round: contents out of the store, into new files of the workspace.

Only files that were not there go this way, and nothing is ever replaced, so it does not matter in
which order, or in which process, they are written.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeAlias

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.store.reader import ContentReader
from dvtool.system import workers
from dvtool.workspace.files import NewFile, Workspace
from dvtool.workspace.opener import Stamp

BATCH_FILES_MAX = 512
BATCH_SIZE_MAX_BYTES = 8 << 20
PARALLEL_MIN_FILES = 2_000
PARALLEL_MIN_BYTES = 32 << 20
WORKER_FILE_MAX_BYTES = 64 << 20
"""Larger files are not for workers: who interrupts a command does not wait for their end."""


class Piece(NamedTuple):
    """A file to write: its place from the top of the worktree, and what is to be in it."""

    place: str
    digest: Digest
    size: int
    executable: bool


Batch: TypeAlias = list[Piece]
Stamps: TypeAlias = list[tuple[int, int, int, int] | None]
"""The fields of each file's `Stamp`; None for one that could not be put there so."""


@dataclass(frozen=True, slots=True)
class Writer:
    """What writes batches; workers inherit it as it is."""

    workspace: Workspace
    reader: ContentReader
    batches: Sequence[Batch]

    def write(self, number: int) -> Stamps:
        """Write one batch. A content that is not what its name says is a CorruptError."""
        stamps: Stamps = []
        for folder, pieces in groupby(self.batches[number], key=_folder_of):
            stamps.extend(self.workspace.write_new(folder, self._files(pieces)))
        return stamps

    def _files(self, pieces: Iterable[Piece]) -> Iterator[NewFile]:
        for piece in pieces:
            yield piece.place, piece.executable, self.reader.read(piece.digest)


def _folder_of(piece: Piece) -> str:
    return piece.place.rpartition("/")[0]


def batches(pieces: Iterable[Piece]) -> list[Batch]:
    """Cut files, in the order in which their contents lie in packs, into batches."""
    cut: list[Batch] = []
    batch: Batch = []
    size = 0
    for piece in pieces:
        full = len(batch) >= BATCH_FILES_MAX or size + piece.size > BATCH_SIZE_MAX_BYTES
        if full or not cut:
            batch, size = [], 0
            cut.append(batch)
        batch.append(piece)
        size += piece.size
    return cut


def write_new(
    workspace: Workspace, reader: ContentReader, pieces: Sequence[Piece]
) -> Iterator[tuple[Batch, list[Stamp | None]]]:
    """Write files where nothing is; yield each batch with what its files are now.

    None stands for a file that was not written: something is in its place by now, or this
    filesystem has no files without names. Worker processes do it where that is worth their start.
    """
    writer = Writer(workspace, reader, batches(pieces))
    size = sum(piece.size for piece in pieces)
    large = size >= PARALLEL_MIN_BYTES or len(pieces) >= PARALLEL_MIN_FILES
    count = min(os.cpu_count() or 1, len(writer.batches))
    apart = large and count > 1 and workers.can_fork()
    every = _by_workers(writer, count) if apart else map(writer.write, range(len(writer.batches)))
    for stamps, batch in zip(every, writer.batches, strict=True):
        yield batch, [None if stamp is None else Stamp._make(stamp) for stamp in stamps]


def _by_workers(writer: Writer, count: int) -> Iterator[Stamps]:
    """Yield the results of all batches, in order, from forked workers."""
    with concurrent.futures.ProcessPoolExecutor(
        count, mp_context=workers.context(), initializer=_begin, initargs=(os.getpid(), writer)
    ) as pool:
        futures: list[concurrent.futures.Future[Stamps]] = []
        try:
            with workers.uninterrupted():
                futures.extend(pool.submit(_write, n) for n in range(len(writer.batches)))
            for future in futures:
                yield future.result()
        except concurrent.futures.BrokenExecutor as error:
            raise DvError(
                "a worker process ended before its work was done",
                hint="memory may have run out; repeat the command: it goes on where it was",
            ) from error
        except BaseException:
            for future in futures:
                future.cancel()
            raise


_inherited: list[Writer] = []
"""In a worker, the one writer that it was forked with."""


def _begin(parent: int, writer: Writer) -> None:
    workers.begin_worker(parent)
    writer.reader.separate()
    _inherited.append(writer)


def _write(number: int) -> Stamps:
    return _inherited[0].write(number)
