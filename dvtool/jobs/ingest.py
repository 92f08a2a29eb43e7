"""Batches: files in, entries and packs out.

`ingest` is a plain function of picklable values, so any engine whose workers see the same disk can
work on a batch. Its result depends on the files and on what the store holds, never on how many
workers there are.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from dvtool.errors import DvError, InputError, printable
from dvtool.format.chunker import (
    FILE_SIZE_MAX_BYTES,
    MIB,
    SINGLE_CHUNK_SIZE_MAX_BYTES,
    SMALL,
    ChunkSizes,
    cut_by_block,
    sizes_for,
)
from dvtool.format.digest import EMPTY, Digest, digest_of
from dvtool.format.pack import PackInfo, Recipe
from dvtool.format.packing import discard_packs
from dvtool.jobs.chunk_packs import ChunkPacks, UnflushedPacks
from dvtool.store.local import LocalStore
from dvtool.system.atomic import FULL, naming_full_disk
from dvtool.system.collecting import collector_put_off
from dvtool.system.writeback import LeasedReader, show_mapped_writes
from dvtool.workspace.opener import NO_LINKS, READ_FLAGS, Links, Opener, reason
from dvtool.workspace.read_files import ReadFiles

BATCH_SIZE_MIN_BYTES = 16 * MIB
BATCH_SIZE_MAX_BYTES = 30 * MIB
BATCH_FILES_MAX = 50_000
BATCHES_AIM = 8
FAR_SIZE_BYTES = 256 * MIB
FAR_FILES = 10_000
LARGE_SIZE_MIN_BYTES = 32 * MIB
"""Several threads are worth their start for a file of this size."""


def keeps_class(size: int) -> bool:
    """Whether it matters for a file of this size how its earlier version was cut."""
    return sizes_for(size) != SMALL


class FileSource(NamedTuple):
    """One file to read: its path within the workspace and its size when the walk saw it.

    `earlier` is the content that was last seen there, if it is to be cut as that was.
    """

    path: str
    size: int
    earlier: Digest = b""


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """Files to read, and the store that the packs are for, by absolute paths. Picklable."""

    root: str
    store: str
    sources: tuple[FileSource, ...]
    follow_links: bool = False
    links: Links = field(default_factory=dict)
    flush: bool = True
    """Whether the packs are to be flushed to the disk."""

    @property
    def size_bytes(self) -> int:
        """The size of all files together when the walk saw them."""
        return sum(source.size for source in self.sources)

    def __reduce__(self) -> tuple[Any, ...]:
        # In columns, which travel between processes at little cost.
        paths = "\0".join([source.path for source in self.sources])
        sizes = array("Q", [source.size for source in self.sources])
        earlier = {n: source.earlier for n, source in enumerate(self.sources) if source.earlier}
        return _batch_of, (
            self.root,
            self.store,
            paths,
            sizes,
            earlier,
            self.follow_links,
            self.links,
            self.flush,
        )


def _batch_of(
    root: str,
    store: str,
    paths: str,
    sizes: array[int],
    earlier: Mapping[int, Digest],
    *options: Any,
) -> IngestBatch:
    sources = list(map(FileSource, paths.split("\0"), sizes)) if sizes else []
    for number, digest in earlier.items():
        sources[number] = sources[number]._replace(earlier=digest)
    return IngestBatch(root, store, tuple(sources), *options)


@dataclass(slots=True)
class IngestResult:
    """The result of a batch: the files' digests, and packs under temporary paths in the store."""

    files: ReadFiles = field(default_factory=ReadFiles)
    packs: list[tuple[str, PackInfo]] = field(default_factory=list)


def ingest_batches(
    root: str,
    store: str,
    sources: Iterable[FileSource],
    *,
    follow_links: bool = False,
    total_bytes: int | None = None,
    links: Links = NO_LINKS,
    far: bool = False,
    flush: bool = True,
) -> Iterator[IngestBatch]:
    """Cut files, in order, into batches that make about one pack each.

    Batches for workers that are `far` away are larger, as each has a way to go. With `total_bytes`,
    the size of all files, they are taken as batches are asked for.
    """
    if total_bytes is None:
        sources = list(sources)
        total_bytes = sum(source.size for source in sources)
    limit = min(BATCH_SIZE_MAX_BYTES, max(BATCH_SIZE_MIN_BYTES, total_bytes // BATCHES_AIM))
    run: list[FileSource] = []
    size = 0
    for source in sources:
        over = size + source.size > limit or len(run) >= BATCH_FILES_MAX
        if far:
            over = size >= FAR_SIZE_BYTES or len(run) >= FAR_FILES
        if run and over:
            yield IngestBatch(root, store, tuple(run), follow_links, links, flush)
            run, size = [], 0
        run.append(source)
        size += source.size
    if run:
        yield IngestBatch(root, store, tuple(run), follow_links, links, flush)


def ingest(batch: IngestBatch, tell: Callable[[int], None] | None = None) -> IngestResult:
    """Read a batch's files, cut them and write what the store lacks into packs.

    `tell`, if given, is called with the number of bytes read since the last call.
    The packs are not in place yet. On any error no pack is left behind.
    """
    store = LocalStore(batch.store)
    large = any(source.size >= LARGE_SIZE_MIN_BYTES for source in batch.sources)
    unflushed = UnflushedPacks()
    writer = ChunkPacks(
        store,
        tell,
        threads=os.cpu_count() or 1 if large else 1,
        deliver=None if batch.flush else unflushed,
    )
    result = IngestResult()
    try:
        with (
            naming_full_disk(batch.store),
            collector_put_off(),
            Opener(batch.root, batch.links) as opener,
        ):
            leased = LeasedReader()
            for source in batch.sources:
                fd = _open(batch, source, opener)
                try:
                    small = source.size <= SINGLE_CHUNK_SIZE_MAX_BYTES
                    read = leased.read(fd, source.size) if small else None
                    if read is None:
                        digest, stats = _read_checked(fd, source, writer)
                finally:
                    os.close(fd)  # who waits to write the file waits no longer than for its bytes
                if read is not None:
                    data, stats = read
                    digest = _put_small(data, writer)
                result.files.append(source.path, digest, stats)
            result.packs = writer.finish() + unflushed.packs
    except BaseException:
        writer.abandon()
        discard_packs(unflushed.packs)
        raise
    finally:
        store.close()
    return result


def _open(batch: IngestBatch, source: FileSource, opener: Opener) -> int:
    try:
        if batch.follow_links:
            return os.open(os.path.join(batch.root, source.path), READ_FLAGS)
        return opener.file(source.path)
    except OSError as error:
        raise InputError(
            f"{printable(source.path)} cannot be read: {reason(error)}; nothing was changed",
            hint="make it readable, or list it in .dvignore, then repeat the command",
        ) from error


def _read_checked(fd: int, source: FileSource, writer: ChunkPacks) -> tuple[Digest, os.stat_result]:
    """Read a file that others may write to; InputError if it changed meanwhile."""
    name = printable(source.path)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{name} is not a file any more")
        if before.st_size > FILE_SIZE_MAX_BYTES:
            raise InputError(f"{name} is larger than the 1 TiB that a file may have")
        show_mapped_writes(fd, before.st_dev)
        if before.st_size <= SINGLE_CHUNK_SIZE_MAX_BYTES:
            data = _read_small(fd, before.st_size)
            digest, size = _put_small(data, writer), len(data)
        else:
            sizes = writer.sizes_for(before.st_size, source.earlier)
            with open(fd, "rb", buffering=0, closefd=False) as file:
                digest, size = store_stream(file, before.st_size, writer, sizes)
        after = os.fstat(fd)
    except OSError as error:
        if error.errno in FULL:
            raise  # reading needs no room: it is the store's disk, not that of the file
        raise DvError(f"{name}: {error.strerror or error}") from error
    if size != after.st_size or _stamp(before) != _stamp(after):
        raise InputError(
            f"{name} changed while it was read; nothing was changed",
            hint="wait until nothing writes to it, then repeat the command",
        )
    return digest, after


def _stamp(stats: os.stat_result) -> tuple[int, int, int]:
    return stats.st_mtime_ns, stats.st_size, stats.st_ctime_ns


def _read_small(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    while 0 < len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    return data


def _put_small(data: bytes, writer: ChunkPacks) -> Digest:
    if not data:
        return EMPTY
    digest = digest_of(data)
    writer.put(digest, data)
    return digest


def store_stream(
    file: BinaryIO, size: int, writer: ChunkPacks, sizes: ChunkSizes
) -> tuple[Digest, int]:
    """Cut a file of about so many bytes and put it into packs; return its hash and its size."""
    chunks: list[Digest] = []
    total = 0
    with writer.hashing() as whole:
        for block in cut_by_block(file, file_size_bytes=size, sizes=sizes):
            whole.update(block.data)
            for data in block.chunks:
                digest = digest_of(data)
                writer.put(digest, data)
                chunks.append(digest)
            total += len(block.data)
    digest = whole.digest()
    if len(chunks) > 1:
        writer.put_recipe(Recipe(digest, total, tuple(chunks)))
    return digest, total
