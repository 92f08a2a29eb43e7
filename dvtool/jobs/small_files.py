"""Batches of files of which only the names are known: the small ones are read, others are left.

A look at each file beforehand would take as long as half of reading it, and who reads it under a
lease sees the stat that belongs to its bytes anyway.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvtool.format.chunker import SINGLE_CHUNK_SIZE_MAX_BYTES
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.packing import FinishedPack, discard_packs
from dvtool.format.pointer import LFS_FIRST_LINE, is_lfs_pointer
from dvtool.jobs.chunk_packs import ChunkPacks, UnflushedPacks
from dvtool.jobs.ingest import BATCH_FILES_MAX, BATCH_SIZE_MAX_BYTES, BATCHES_AIM
from dvtool.store.local import LocalStore
from dvtool.system.atomic import naming_full_disk
from dvtool.system.collecting import collector_put_off
from dvtool.system.writeback import LeasedReader
from dvtool.workspace.opener import NO_LINKS, Links, Opener
from dvtool.workspace.read_files import ReadFiles

BATCH_FILES_MIN = 1_000
LEFT_MIN = 100
"""Once so many files had to be left, and most of those looked at, the rest are left unseen."""

LFS_FIRST_BYTE = LFS_FIRST_LINE[0]


@dataclass(frozen=True, slots=True)
class SmallFilesBatch:
    """Paths within a target, and the workspace and the store, by absolute paths."""

    root: str
    store: str
    target: str
    paths: Sequence[str]
    links: Links = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Nothing: no sizes are known."""
        return 0

    def __reduce__(self) -> tuple[Any, ...]:
        columns = (self.root, self.store, self.target, "\0".join(self.paths), self.links)
        return _small_batch_of, columns


def _small_batch_of(
    root: str, store: str, target: str, paths: str, links: Links
) -> SmallFilesBatch:
    return SmallFilesBatch(root, store, target, paths.split("\0"), links)


@dataclass(slots=True)
class SmallFilesResult:
    """The result of a batch. `left` are the numbers of the paths that `files` has not, in order."""

    files: ReadFiles = field(default_factory=ReadFiles)
    left: array[int] = field(default_factory=lambda: array("I"))
    pointers: list[str] = field(default_factory=list)
    """The paths of the files that are pointers of git-lfs."""
    packs: list[FinishedPack] = field(default_factory=list)
    """They are under temporary paths in the store, and not flushed to the disk."""


def small_files_batches(
    root: str, store: str, target: str, paths: Sequence[str], links: Links = NO_LINKS
) -> Iterator[SmallFilesBatch]:
    """Cut paths in a target, in order, into eight batches, or more if there are very many."""
    count = min(BATCH_FILES_MAX, max(BATCH_FILES_MIN, -(-len(paths) // BATCHES_AIM)))
    for start in range(0, len(paths), count):
        yield SmallFilesBatch(root, store, target, paths[start : start + count], links)


def read_small_files(
    batch: SmallFilesBatch, tell: Callable[[int], None] | None = None
) -> SmallFilesResult:
    """Read the files that have one chunk at most, and write what the store lacks into packs.

    Files are left that are larger or that others may write to, and those that cannot be read: who
    reads them otherwise says why. So are all files once the batch has read as much as a pack holds.
    On any error no pack is left behind.
    """
    store = LocalStore(batch.store)
    unflushed = UnflushedPacks()
    writer = ChunkPacks(store, tell, deliver=unflushed)
    result = SmallFilesResult(packs=unflushed.packs)
    try:
        with (
            naming_full_disk(batch.store),
            collector_put_off(),
            Opener(batch.root, batch.links) as opener,
        ):
            _read_and_put(batch, opener, writer, result)
            writer.finish()
    except BaseException:
        writer.abandon()
        discard_packs(unflushed.packs)
        raise
    finally:
        store.close()
    return result


def _read_and_put(
    batch: SmallFilesBatch, opener: Opener, writer: ChunkPacks, result: SmallFilesResult
) -> None:
    read_small, left = LeasedReader().read_small, result.left
    open_file, put, append = opener.file, writer.put, result.files.append_unnamed
    paths, prefix = batch.paths, batch.target + "/"
    size = 0
    for number, path in enumerate(paths):
        try:
            fd = open_file(prefix + path)
        except OSError:
            left.append(number)
            continue
        try:
            read = read_small(fd, SINGLE_CHUNK_SIZE_MAX_BYTES)
        finally:
            os.close(fd)  # who waits to write the file waits no longer than for its bytes
        if read is None:
            left.append(number)
            if len(left) >= max(LEFT_MIN, number // 2):
                left.extend(range(number + 1, len(paths)))
                return
            continue
        data, stats = read
        digest = EMPTY
        if data:
            digest = digest_of(data)
            put(digest, data)
            if data[0] == LFS_FIRST_BYTE and is_lfs_pointer(data):
                result.pointers.append(path)
        append(digest, stats)
        size += len(data)
        if size >= BATCH_SIZE_MAX_BYTES:
            left.extend(range(number + 1, len(paths)))
            return
