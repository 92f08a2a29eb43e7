"""Batches of an origin's objects: read once, cut, and put into packs.

`take_objects` is a plain function of picklable values, as `dvtool.jobs.ingest` is.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from dvtool.errors import InputError, printable
from dvtool.format.chunker import (
    FILE_SIZE_MAX_BYTES,
    MIB,
    SINGLE_CHUNK_SIZE_MAX_BYTES,
    sizes_for,
)
from dvtool.format.digest import EMPTY, Digest, digest_of
from dvtool.format.pack import PackInfo
from dvtool.jobs.chunk_packs import ChunkPacks
from dvtool.jobs.ingest import (
    BATCH_SIZE_MAX_BYTES,
    BATCHES_AIM,
    LARGE_SIZE_MIN_BYTES,
    store_stream,
)
from dvtool.remotes.origins.base import SIZE_UNKNOWN, Origin, OriginObject
from dvtool.remotes.origins.reading import (
    READ_AT_ONCE_BYTES,
    ObjectReader,
    read_at_most,
    read_whole,
)
from dvtool.remotes.transports.retry import Attempts
from dvtool.store.local import LocalStore
from dvtool.system.atomic import naming_full_disk
from dvtool.system.parallel import run_bounded
from dvtool.workspace.staged import StagedFiles

BATCH_OBJECTS_MIN = 1_000
BATCH_OBJECTS_MAX = 10_000
TAKEN_SIZE_MIN_BYTES = 8 * MIB
HELD_SIZE_MAX_BYTES = 4 * MIB
"""Objects up to this size are read side by side, each whole; larger ones as a stream. Of unknown
size, an object is begun side by side, and begun again if it turns out to be larger."""
OBJECTS_AT_ONCE = 16
QUICK_SIZE_MAX_BYTES = 1 * MIB
"""Up to this size the work around a request counts for more than its bytes."""
_LAST: dict[str, tuple[int, Origin]] = {}
"""The origin of the batch before, and the process in which it is connected."""


@dataclass(frozen=True, slots=True)
class TakeBatch:
    """Objects of an origin, and the store that the packs are for, by its absolute path.

    Small objects are also written as new files below `staged_in`, if given, each at its path.
    """

    origin: Origin
    store: str
    objects: tuple[OriginObject, ...]
    staged_in: str = ""
    paths: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The size of all objects together, as listed."""
        return sum(max(described.size, 0) for described in self.objects)


@dataclass(slots=True)
class TakeResult:
    """Hash and size of each object, in the order of the batch, and packs under temporary paths.

    Where files are staged, `stamps` has the fields of each one's `Stamp`; None for a file that was
    left out.
    """

    digests: list[Digest] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    packs: list[tuple[str, PackInfo]] = field(default_factory=list)
    stamps: list[tuple[int, ...] | None] = field(default_factory=list)


def take_batches(
    origin: Origin, store: str, objects: Iterable[OriginObject], *, count: int, total_bytes: int
) -> Iterator[TakeBatch]:
    """Cut objects, in order, into batches that make about one pack each, as they are asked for."""
    for run in take_runs(objects, count=count, total_bytes=total_bytes):
        yield TakeBatch(origin, store, run)


def take_runs(
    objects: Iterable[OriginObject], *, count: int, total_bytes: int
) -> Iterator[tuple[OriginObject, ...]]:
    """Cut objects, in order, into the runs of batches for workers of this machine.

    There are `count` objects of `total_bytes`; of few, batches are small, so that all have work.
    """
    most = min(BATCH_OBJECTS_MAX, max(BATCH_OBJECTS_MIN, count // BATCHES_AIM))
    limit = min(BATCH_SIZE_MAX_BYTES, max(TAKEN_SIZE_MIN_BYTES, total_bytes // BATCHES_AIM))
    run: list[OriginObject] = []
    size = 0
    for described in objects:
        more = max(described.size, 0)
        if run and (size + more > limit or len(run) >= most):
            yield tuple(run)
            run, size = [], 0
        run.append(described)
        size += more
    if run:
        yield tuple(run)


def take_objects(batch: TakeBatch, tell: Callable[[int], None] | None = None) -> TakeResult:
    """Read a batch's objects, one request each, and write what the store lacks into packs.

    `tell`, if given, is called with the number of bytes read since the last call. The packs are
    flushed to the disk, not yet in place. On any error no pack is left behind.
    """
    store = LocalStore(batch.store)
    large = any(described.size >= LARGE_SIZE_MIN_BYTES for described in batch.objects)
    writer = ChunkPacks(store, tell, threads=os.cpu_count() or 1 if large else 1)
    result = TakeResult()
    attempts = Attempts()
    try:
        with naming_full_disk(batch.store):
            origin = _still_connected(batch.origin)
            with _staging(batch, result) as keep:
                stored = stored_objects(origin, batch.objects, writer, attempts, store, keep)
                for digest, size in stored:
                    result.digests.append(digest)
                    result.sizes.append(size)
            result.packs = writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        store.close()
    return result


@contextlib.contextmanager
def _staging(batch: TakeBatch, result: TakeResult) -> Iterator[Callable[[int, bytes], None] | None]:
    """Yield what writes an object as a file, given its number and bytes; None if nothing is to."""
    if not batch.staged_in:
        yield None
        return
    result.stamps = [None] * len(batch.objects)
    with StagedFiles(batch.staged_in) as files:

        def keep(number: int, data: bytes) -> None:
            stamp = files.write(batch.paths[number], data)
            result.stamps[number] = None if stamp is None else tuple(stamp)

        yield keep


def _still_connected(origin: Origin) -> Origin:
    """Return an origin as the batch before left it, connected, where that was of an equal one.

    A worker gets a copy with each batch; setting up a client takes as long as 500 small objects.
    """
    pid, before = _LAST.get("origin", (0, None))
    if before is not None and pid == os.getpid() and before == origin:
        return before
    disconnect()
    _LAST["origin"] = os.getpid(), origin
    return origin


def disconnect() -> None:
    """Close what the last batch left connected, where that was in this process."""
    pid, before = _LAST.pop("origin", (0, None))
    if before is not None and pid == os.getpid():
        before.close()  # after a fork, the connections are those of another process


def stored_objects(
    origin: Origin,
    objects: Sequence[OriginObject],
    writer: ChunkPacks,
    attempts: Attempts,
    store: LocalStore,
    keep: Callable[[int, bytes], None] | None = None,
) -> Iterator[tuple[Digest, int]]:
    """Yield hash and size of each object in order, once its bytes are with the writer.

    The same objects are written in the same order each time, so they make the same packs. `keep` is
    called with the number and the bytes of each small one.
    """
    small = [(number, each) for number, each in enumerate(objects) if _is_held(each)]
    done: dict[int, tuple[Digest, int]] = {}
    ahead: dict[int, bytes | None] = {}
    turns = iter([number for number, _ in small])
    turn = next(turns, None)
    for read_number, data in _held_bytes(origin, small, attempts):
        ahead[read_number] = data
        while turn is not None and turn in ahead:
            held = ahead.pop(turn)
            if held is not None:
                done[turn] = _store_small(held, writer)
                if keep is not None:
                    keep(turn, held)
            turn = next(turns, None)
    for number, described in enumerate(objects):
        if number in done:
            yield done.pop(number)
        else:
            yield _store_large(origin, described, writer, attempts, store)


def _held_bytes(
    origin: Origin, small: Sequence[tuple[int, OriginObject]], attempts: Attempts
) -> Iterator[tuple[int, bytes | None]]:
    """Yield the bytes of small objects as they come; None for one that turns out to be larger."""
    first = next((pair for pair in small if pair[1].size != SIZE_UNKNOWN), None)
    read: set[int] = set()
    if first is not None:  # by the first, an origin learns how to read the others quickly
        read.add(first[0])
        yield first[0], read_whole(origin, first[1], attempts)
    quick = (pair for pair in small if pair[1].size <= QUICK_SIZE_MAX_BYTES)
    for number, data in origin.read_many(pair for pair in quick if pair is not first):
        read.add(number)
        yield number, data
    reads = run_bounded(
        lambda numbered: read_at_most(origin, numbered[1], attempts, HELD_SIZE_MAX_BYTES),
        [pair for pair in small if pair[0] not in read],
        workers=OBJECTS_AT_ONCE,
        size_of=lambda numbered: _held_size(numbered[1]),
        budget_bytes=BATCH_SIZE_MAX_BYTES,
    )
    for (number, _), held in reads:
        yield number, held


def _is_held(described: OriginObject) -> bool:
    return described.size <= HELD_SIZE_MAX_BYTES


def _held_size(described: OriginObject) -> int:
    return HELD_SIZE_MAX_BYTES if described.size == SIZE_UNKNOWN else described.size


def _store_small(data: bytes, writer: ChunkPacks) -> tuple[Digest, int]:
    if not data:
        return EMPTY, 0
    if len(data) <= SINGLE_CHUNK_SIZE_MAX_BYTES:
        digest = digest_of(data)
        writer.put(digest, data)
        return digest, len(data)
    return store_stream(io.BytesIO(data), len(data), writer, sizes_for(len(data)))


def _store_large(
    origin: Origin,
    described: OriginObject,
    writer: ChunkPacks,
    attempts: Attempts,
    store: LocalStore,
) -> tuple[Digest, int]:
    with ObjectReader(origin, described, attempts) as reader:
        file = cast(BinaryIO, io.BufferedReader(reader, READ_AT_ONCE_BYTES))
        if described.size == SIZE_UNKNOWN:
            return _store_spooled(file, writer, store)
        if described.size > FILE_SIZE_MAX_BYTES:
            raise too_large(origin, described)
        return store_stream(file, described.size, writer, sizes_for(described.size))


def _store_spooled(file: BinaryIO, writer: ChunkPacks, store: LocalStore) -> tuple[Digest, int]:
    """Store what has no size yet, by way of a temporary file: how it is cut depends on its size."""
    with tempfile.TemporaryFile(dir=store.temp_folder()) as spool:
        size = 0
        while block := file.read(READ_AT_ONCE_BYTES):
            spool.write(block)
            size += len(block)
        spool.seek(0)
        if size <= SINGLE_CHUNK_SIZE_MAX_BYTES:
            return _store_small(spool.read(), writer)
        return store_stream(cast(BinaryIO, spool), size, writer, sizes_for(size))


def too_large(origin: Origin, described: OriginObject) -> InputError:
    """Return the error for an object that is larger than a file may be."""
    return InputError(
        f"{origin.url}: {printable(described.key)} is larger than the 1 TiB that a file may have",
        hint="leave it out: --exclude, then repeat the command",
    )
