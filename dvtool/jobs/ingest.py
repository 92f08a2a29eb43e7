"""Batches: files in, entries and packs out.

`ingest` is a plain function of picklable values, so any engine whose workers see the same disk can
work on a batch. Its result depends on the files and on what the store holds, never on how many
workers there are.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import zstandard

from dvtool.errors import DvError, InputError, printable
from dvtool.format.chunker import (
    FILE_SIZE_MAX_BYTES,
    MIB,
    SINGLE_CHUNK_SIZE_MAX_BYTES,
    SMALL,
    ChunkSizes,
    cut,
    sizes_after,
    sizes_for,
)
from dvtool.format.digest import DIGEST_SIZE_BYTES, EMPTY, Digest, digest_of, hasher
from dvtool.format.pack import GROUPED_SIZE_MAX_BYTES, ZSTD_LEVEL, PackInfo, Recipe, pack_frame
from dvtool.format.packing import FinishedPack, RollingPacks, discard_packs
from dvtool.store.database import Database
from dvtool.store.local import LocalStore
from dvtool.system.atomic import FULL, naming_full_disk
from dvtool.system.lazy import later
from dvtool.system.stat import Stat
from dvtool.system.writeback import show_mapped_writes
from dvtool.workspace.opener import NO_LINKS, READ_FLAGS, Links, Opener, reason

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

BATCH_SIZE_MIN_BYTES = 16 * MIB
BATCH_SIZE_MAX_BYTES = 30 * MIB
BATCH_FILES_MAX = 50_000
BATCHES_AIM = 8
FAR_SIZE_BYTES = 256 * MIB
FAR_FILES = 10_000
HASHED_AT_ONCE_BYTES = 1 << 20
PENDING_SIZE_MAX_BYTES = 8 * MIB
LARGE_SIZE_MIN_BYTES = 32 * MIB
"""Several threads are worth their start for a file of this size."""

CHUNKS_SAMPLED = 256


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

    @property
    def size_bytes(self) -> int:
        """The size of all files together when the walk saw them."""
        return sum(source.size for source in self.sources)


class Ingested(NamedTuple):
    """One file as it was read. `stat` was taken after the last byte."""

    path: str
    digest: Digest
    stat: Stat


@dataclass(slots=True)
class ReadFiles:
    """Files as they were read, in columns, which travel between processes at little cost."""

    paths: list[str] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    """Mode, inode, size, mtime and ctime in ns of each file."""

    def append(self, path: str, digest: Digest, stats: os.stat_result) -> None:
        """Add a file."""
        self.paths.append(path)
        self.digests += digest
        self.numbers.extend(
            (
                stats.st_mode,
                stats.st_ino & _U64,
                stats.st_size,
                stats.st_mtime_ns & _U64,
                stats.st_ctime_ns & _U64,
            )
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Ingested]:
        digests, step = bytes(self.digests), DIGEST_SIZE_BYTES
        rows = zip(*[iter(self.numbers)] * 5, strict=True)
        for number, (path, row) in enumerate(zip(self.paths, rows, strict=True)):
            mode, inode, size, mtime_ns, ctime_ns = row
            stat = Stat(mode, inode, size, _signed(mtime_ns), _signed(ctime_ns))
            digest = digests[number * step : number * step + step]
            yield Ingested(path, digest, stat)


_U64 = (1 << 64) - 1


def _signed(number: int) -> int:
    return number if number < 1 << 63 else number - (1 << 64)


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
            yield IngestBatch(root, store, tuple(run), follow_links, links)
            run, size = [], 0
        run.append(source)
        size += source.size
    if run:
        yield IngestBatch(root, store, tuple(run), follow_links, links)


def ingest(batch: IngestBatch, tell: Callable[[int], None] | None = None) -> IngestResult:
    """Read a batch's files, cut them and write what the store lacks into packs.

    `tell`, if given, is called with the number of bytes read since the last call.
    The packs are flushed to the disk, not yet in place. On any error no pack is left behind.
    """
    store = LocalStore(batch.store)
    large = any(source.size >= LARGE_SIZE_MIN_BYTES for source in batch.sources)
    writer = ChunkPacks(store, tell, threads=os.cpu_count() or 1 if large else 1)
    result = IngestResult()
    try:
        with naming_full_disk(batch.store), Opener(batch.root, batch.links) as opener:
            for source in batch.sources:
                _ingest_file(batch, source, opener, writer, result.files)
            result.packs = writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        store.close()
    return result


def _ingest_file(
    batch: IngestBatch, source: FileSource, opener: Opener, writer: ChunkPacks, done: ReadFiles
) -> None:
    name = printable(source.path)
    try:
        if batch.follow_links:
            fd = os.open(os.path.join(batch.root, source.path), READ_FLAGS)
        else:
            fd = opener.file(source.path)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {reason(error)}; nothing was changed",
            hint="make it readable, or list it in .dvignore, then repeat the command",
        ) from error
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{name} is not a file any more")
        if before.st_size > FILE_SIZE_MAX_BYTES:
            raise InputError(f"{name} is larger than the 1 TiB that a file may have")
        show_mapped_writes(fd, before.st_dev)
        if before.st_size <= SINGLE_CHUNK_SIZE_MAX_BYTES:
            digest, size = _read_small(fd, before.st_size, writer)
        else:
            sizes = writer.sizes_for(before.st_size, source.earlier)
            with open(fd, "rb", buffering=0, closefd=False) as file:
                digest, size = store_stream(file, before.st_size, writer, sizes)
        after = os.fstat(fd)
    except OSError as error:
        if error.errno in FULL:
            raise  # reading needs no room: it is the store's disk, not that of the file
        raise DvError(f"{name}: {error.strerror or error}") from error
    finally:
        os.close(fd)
    if size != after.st_size or _stamp(before) != _stamp(after):
        raise InputError(
            f"{name} changed while it was read; nothing was changed",
            hint="wait until nothing writes to it, then repeat the command",
        )
    done.append(source.path, digest, after)


def _stamp(stats: os.stat_result) -> tuple[int, int, int]:
    return stats.st_mtime_ns, stats.st_size, stats.st_ctime_ns


def _read_small(fd: int, size: int, writer: ChunkPacks) -> tuple[Digest, int]:
    data = os.read(fd, size + 1)
    while 0 < len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    digest = digest_of(data) if data else EMPTY
    if data:
        writer.put(digest, data)
    return digest, len(data)


def store_stream(
    file: BinaryIO, size: int, writer: ChunkPacks, sizes: ChunkSizes
) -> tuple[Digest, int]:
    """Cut a file of about so many bytes and put it into packs; return its hash and its size."""
    chunks: list[Digest] = []
    total = 0
    with writer.hashing() as whole:
        for view in cut(file, file_size_bytes=size, sizes=sizes):
            data = bytes(view)
            whole.update(data)
            digest = digest_of(data)
            writer.put(digest, data)
            chunks.append(digest)
            total += len(data)
    digest = whole.digest()
    if len(chunks) > 1:
        writer.put_recipe(Recipe(digest, total, tuple(chunks)))
    return digest, total


class _Hashing:
    """The hash of a whole file, taken in a thread, if there is one, while more of it is read."""

    def __init__(self, pool: futures.ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._hash = hasher()
        self._parts: list[bytes] = []
        self._size = 0
        self._underway: futures.Future[object] | None = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()

    def update(self, data: bytes) -> None:
        """Take the next part."""
        if self._pool is None:
            self._hash.update(data)
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size >= HASHED_AT_ONCE_BYTES:
            parts, self._parts, self._size = self._parts, [], 0
            self._wait()
            self._underway = self._pool.submit(lambda: self._hash.update(b"".join(parts)))

    def digest(self) -> Digest:
        """Return the hash of all parts."""
        self._wait()
        self._hash.update(b"".join(self._parts))
        self._parts = []
        return self._hash.digest()

    def _wait(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()


class ChunkPacks:
    """Writes the chunks that the store lacks into packs.

    With several `threads`, chunks are compressed in threads, and written while more are read. The
    packs are the same for any number of threads. `deliver`, if given, takes each finished pack,
    which need not be flushed to the disk then, instead of `finish`.
    """

    def __init__(
        self,
        store: LocalStore,
        tell: Callable[[int], None] | None,
        *,
        threads: int = 1,
        deliver: Callable[[FinishedPack], None] | None = None,
    ) -> None:
        self._tell = tell
        self._db: Database = store.db
        self._packs = RollingPacks(store.temp_path, durable=deliver is None)
        self._deliver = deliver or self._keep
        self._done: list[tuple[str, PackInfo]] = []
        self._taken: set[Digest] = set()
        self._fresh: set[Digest] = set()
        """The chunks taken that the store lacks."""
        self._pending: dict[Digest, bytes] = {}
        self._pending_size = 0
        self._recipes: list[Recipe] = []
        self._recipes_taken: set[Digest] = set()
        self._framing = futures.ThreadPoolExecutor(threads) if threads > 1 else None
        self._writing = futures.ThreadPoolExecutor(1) if threads > 1 else None
        self._hashing = futures.ThreadPoolExecutor(1) if threads > 1 else None
        self._underway: futures.Future[None] | None = None
        self._own = threading.local()

    def put(self, digest: Digest, data: bytes) -> None:
        """Take a chunk; the store is asked for many at a time whether it has them."""
        if self._tell is not None:
            self._tell(len(data))
        if digest in self._taken:
            return
        self._taken.add(digest)
        self._pending[digest] = data
        self._pending_size += len(data)
        if self._pending_size >= PENDING_SIZE_MAX_BYTES:
            self._drain()

    def sizes_for(self, size: int, earlier: Digest) -> ChunkSizes:
        """Return the bounds of the chunks of a file, as those of its earlier version were."""
        recipe = self._db.recipes([earlier]).get(earlier) if earlier else None
        if recipe is None:
            return sizes_for(size)
        # Of a class with larger chunks, a sample without any large one is as good as impossible.
        step = len(recipe.chunks) // CHUNKS_SAMPLED + 1
        places = self._db.places(recipe.chunks[::step])
        if not places:
            return sizes_for(size)
        return sizes_after(size, max(placement.size for _, placement in places.values()))

    def hashing(self) -> _Hashing:
        """Begin the hash of a whole file."""
        return _Hashing(self._hashing)

    def put_recipe(self, recipe: Recipe) -> None:
        """Take a recipe; it goes into the pack that completes its file."""
        if recipe.digest not in self._recipes_taken:
            self._recipes_taken.add(recipe.digest)
            self._recipes.append(recipe)

    def finish(self) -> list[tuple[str, PackInfo]]:
        """Flush everything to the disk; return the packs with their temporary paths."""
        self._drain()
        self._wait()
        self._end_threads()
        self._take(self._packs.finish())
        return self._done

    def abandon(self) -> None:
        """Remove the packs written so far."""
        with contextlib.suppress(Exception):  # another error is being raised
            self._wait()
        self._end_threads()
        self._packs.abandon()
        discard_packs(self._done)

    def _drain(self) -> None:
        """Begin to write the pending chunks, once the ones before are written."""
        chunks, self._pending = self._pending, {}
        recipes, self._recipes = self._recipes, []
        self._pending_size = 0
        if self._writing is None:
            self._write(chunks, recipes)
            return
        self._wait()
        self._underway = self._writing.submit(self._write, chunks, recipes)

    def _wait(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()

    def _end_threads(self) -> None:
        for pool in (self._writing, self._framing, self._hashing):
            if pool is not None:
                pool.shutdown()

    def _write(self, chunks: Mapping[Digest, bytes], recipes: Sequence[Recipe]) -> None:
        held = self._db.held_chunks(chunks)
        fresh = [(digest, data) for digest, data in chunks.items() if digest not in held]
        frames = self._frames(fresh)
        framed = ((*chunk, frame) for chunk, frame in zip(fresh, frames, strict=True))
        self._take(self._packs.fill(framed))
        self._fresh.update(digest for digest, _ in fresh)
        known = self._db.recipes(recipe.digest for recipe in recipes)
        # A recipe in the index may have been in a pack that is gone, with some of its chunks.
        needed = (
            recipe
            for recipe in recipes
            if recipe.digest not in known or not self._fresh.isdisjoint(recipe.chunks)
        )
        self._take(self._packs.fill((), needed))

    def _take(self, packs: Iterable[FinishedPack]) -> None:
        for pack in packs:
            self._deliver(pack)

    def _keep(self, pack: FinishedPack) -> None:
        self._done.append(pack)

    def _frames(self, chunks: Sequence[tuple[Digest, bytes]]) -> Iterable[bytes | None]:
        """Return the frames, where made ahead, of chunks that have a frame of their own."""
        if self._framing is None:
            return [None] * len(chunks)
        return self._framing.map(self._frame, (data for _, data in chunks))

    def _frame(self, data: bytes) -> bytes | None:
        if len(data) < GROUPED_SIZE_MAX_BYTES:
            return None
        if not hasattr(self._own, "compressor"):
            self._own.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        return pack_frame(data, self._own.compressor)
