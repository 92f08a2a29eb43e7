"""Chunks into packs: the writer that every batch of files or objects puts its chunks into."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import zstandard

from dvtool.format.chunker import MIB, ChunkSizes, sizes_after, sizes_for
from dvtool.format.digest import Digest, hasher
from dvtool.format.pack import (
    GROUPED_SIZE_MAX_BYTES,
    ZSTD_LEVEL,
    Data,
    PackInfo,
    Recipe,
    pack_frame,
)
from dvtool.format.packing import FinishedPack, RollingPacks, discard_packs
from dvtool.store.database import Database
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later
from dvtool.system.writeback import begin_to_write

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

PENDING_SIZE_MAX_BYTES = 8 * MIB
BLOCKS_SIZE_MAX_BYTES = 4 * PENDING_SIZE_MAX_BYTES
"""So much memory the pending chunks keep: each is a part of a block, which stays as a whole."""
CHUNKS_SAMPLED = 256


class _Hashing:
    """The hash of a whole file, taken in a thread, if there is one, while more of it is read."""

    def __init__(self, pool: futures.ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._hash = hasher()
        self._underway: futures.Future[object] | None = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()

    def update(self, data: Data) -> None:
        """Take the next part, which does not change meanwhile."""
        if self._pool is None:
            self._hash.update(data)
            return
        self._wait()
        self._underway = self._pool.submit(self._hash.update, data)

    def digest(self) -> Digest:
        """Return the hash of all parts."""
        self._wait()
        return self._hash.digest()

    def _wait(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()


class UnflushedPacks:
    """Takes packs that are flushed when they are adopted: the disk begins to write them now."""

    def __init__(self) -> None:
        self.packs: list[FinishedPack] = []

    def __call__(self, pack: FinishedPack) -> None:
        """Take a pack."""
        self.packs.append(pack)
        begin_to_write(pack[0])


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
        self._pending: dict[Digest, Data] = {}
        self._apart: set[Digest] = set()
        """The small ones of these that are chunks of larger files."""
        self._pending_size = self._held_size = 0
        self._block: object = None
        """The memory of the chunk before."""
        self._recipes: list[Recipe] = []
        self._recipes_taken: set[Digest] = set()
        self._framing = futures.ThreadPoolExecutor(threads) if threads > 1 else None
        self._writing = futures.ThreadPoolExecutor(1) if threads > 1 else None
        self._hashing = futures.ThreadPoolExecutor(1) if threads > 1 else None
        self._underway: futures.Future[None] | None = None
        self._own = threading.local()

    def put(self, digest: Digest, data: Data) -> None:
        """Take a chunk, which does not change; the store is asked for many at a time.

        A view is one of the chunks of a larger file: even a small one has a frame of its own, so
        that it is beside its neighbours, which are read with it.
        """
        if self._tell is not None:
            self._tell(len(data))
        if digest in self._taken:
            return
        self._taken.add(digest)
        if isinstance(data, memoryview):
            if len(data) < GROUPED_SIZE_MAX_BYTES:
                data = bytes(data)  # else it would keep all of its block
                self._apart.add(digest)
            elif data.obj is not self._block:
                self._block = data.obj
                self._held_size += memoryview(data.obj).nbytes
        self._pending[digest] = data
        self._pending_size += len(data)
        if self._pending_size >= PENDING_SIZE_MAX_BYTES or self._held_size >= BLOCKS_SIZE_MAX_BYTES:
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
        apart, self._apart = self._apart, set()
        self._pending_size = self._held_size = 0
        self._block = None
        if self._writing is None:
            self._write(chunks, apart, recipes)
            return
        self._wait()
        self._underway = self._writing.submit(self._write, chunks, apart, recipes)

    def _wait(self) -> None:
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()

    def _end_threads(self) -> None:
        for pool in (self._writing, self._framing, self._hashing):
            if pool is not None:
                pool.shutdown()

    def _write(
        self, chunks: Mapping[Digest, Data], apart: Collection[Digest], recipes: Sequence[Recipe]
    ) -> None:
        held = self._db.held_chunks(chunks)
        fresh = [(digest, data) for digest, data in chunks.items() if digest not in held]
        if apart or any(len(data) >= GROUPED_SIZE_MAX_BYTES for _, data in fresh):
            frames = self._frames([(data, digest in apart) for digest, data in fresh])
            framed = ((*chunk, frame) for chunk, frame in zip(fresh, frames, strict=True))
            self._take(self._packs.fill(framed))
        else:
            self._take(self._packs.fill_small(fresh))
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

    def _frames(self, chunks: Iterable[tuple[Data, bool]]) -> Iterable[bytes | None]:
        """Return the frames of chunks that have one of their own; small ones only if told so."""
        return (self._framing.map if self._framing is not None else map)(self._frame, chunks)

    def _frame(self, chunk: tuple[Data, bool]) -> bytes | None:
        data, apart = chunk
        if len(data) < GROUPED_SIZE_MAX_BYTES and not apart:
            return None
        if not hasattr(self._own, "compressor"):
            self._own.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        return pack_frame(data, self._own.compressor)
