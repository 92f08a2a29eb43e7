"""Batches of an origin's objects, taken straight to a remote: no store and no disk is shared.

A worker reads the objects, cuts them, puts the packs on the remote, and says what it read and where
it is now. The same batch makes the same packs, so a batch that is repeated changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
import xxhash
import zstandard

from dvtool.errors import CorruptError
from dvtool.format.chunker import MIB
from dvtool.format.digest import Digest, digest_of, split_digests
from dvtool.format.locations import Located, RemotePack, decode_locations, encode_locations
from dvtool.format.manifest import Entries, Entry
from dvtool.format.pack import PackInfo
from dvtool.format.packing import FinishedPack
from dvtool.jobs.chunk_packs import ChunkPacks
from dvtool.jobs.ingest import LARGE_SIZE_MIN_BYTES
from dvtool.jobs.take import stored_objects
from dvtool.remotes.address import RemoteAddress
from dvtool.remotes.objects import pack_key
from dvtool.remotes.origins.base import Origin, OriginObject
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.remotes.transports.retry import Attempts
from dvtool.store.local import LocalStore
from dvtool.system.atomic import naming_full_disk

FAR_OBJECTS_MIN = 1_000
FAR_SIZE_MIN_BYTES = 256 * MIB
"""A batch, but for the last, has so many objects or so many bytes, so that its own cost is small
beside that of its objects."""
FAR_GROWTH_MAX = 2
"""A batch ends at this multiple of either at the latest."""
FAR_STEPS_MAX = 8
FAR_BATCHES_AIM = 256
END_ONE_IN = 64
"""Past its least size a batch ends at one key in so many, whatever came before: so a key that is
new moves the ends of the batches next to it, and no others."""
WORKER_THREADS_MAX = 4
BATCH_PREFIX = "dv-batch-"
BATCH_MAX_S = 2 * 24 * 3600
"""No worker is at a batch for so long."""
LOCATIONS_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class FarBatch:
    """Objects of an origin, and the remote that they go to. Holds no secret."""

    origin: Origin
    remote: RemoteAddress
    objects: tuple[OriginObject, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all objects together, as listed."""
        return sum(max(described.size, 0) for described in self.objects)

    @cached_property
    def name(self) -> Digest:
        """The hash of what is to be read, in which state, and of the remote it goes to."""
        return digest_of(repr((self.remote.id, self.objects)).encode("utf-8", "surrogatepass"))


class PackThere(msgspec.Struct, frozen=True, array_like=True):
    """A pack that a worker put on the remote: id, size in bytes, MD5 if the store confirmed it."""

    digest: Digest
    size: int
    md5: bytes | None


class FarTaken(msgspec.Struct, array_like=True):
    """The result of a batch, in columns: hash and size of each object in order, and the places.

    `places` are the locations, as a shard object has them, of the distinct contents that are not
    empty, in the order in which the objects first have them.
    """

    digests: bytes
    sizes: bytes
    places: bytes
    packs: list[PackThere]

    def files(self) -> Iterator[tuple[Digest, int]]:
        """Yield hash and size of each object."""
        sizes = array("Q")
        sizes.frombytes(self.sizes)
        return zip(split_digests(self.digests), sizes, strict=True)

    def located(self) -> dict[Digest, list[Located]]:
        """Return content -> where its chunks are on the remote."""
        entries: Entries = {
            str(number): Entry(blake3=digest.hex(), size=size)
            for number, (digest, size) in enumerate(self.files())
        }
        raw = zstandard.decompress(self.places, max_output_size=LOCATIONS_MAX_BYTES)
        return decode_locations(raw, entries, "a worker's result")


def far_batches(
    origin: Origin,
    remote: RemoteAddress,
    objects: Iterable[OriginObject],
    *,
    count: int,
) -> Iterator[FarBatch]:
    """Cut objects, in order, into batches, as they are asked for; there are `count` in all."""
    for run in cut_runs(objects, count=count):
        yield FarBatch(origin, remote, run)


def cut_runs(objects: Iterable[OriginObject], *, count: int) -> Iterator[tuple[OriginObject, ...]]:
    """Cut objects, in order, into the runs of batches for workers of a cluster."""
    steps = count // (FAR_BATCHES_AIM * FAR_OBJECTS_MIN)
    # A power of two, so that batches stay the same when some objects come or go.
    least = FAR_OBJECTS_MIN * min(FAR_STEPS_MAX, 1 << max(steps.bit_length() - 1, 0))
    run: list[OriginObject] = []
    size = 0
    for described in objects:
        run.append(described)
        size += max(described.size, 0)
        full = len(run) >= FAR_GROWTH_MAX * least or size >= FAR_GROWTH_MAX * FAR_SIZE_MIN_BYTES
        enough = len(run) >= least or size >= FAR_SIZE_MIN_BYTES
        if full or (enough and _may_end_at(described.key)):
            yield tuple(run)
            run, size = [], 0
    if run:
        yield tuple(run)


def _may_end_at(key: str) -> bool:
    name = key.encode("utf-8", "surrogatepass")
    return xxhash.xxh3_64_intdigest(name) % END_ONE_IN == 0


def take_to_remote(batch: FarBatch, tell: Callable[[int], None] | None = None) -> FarTaken:
    """Read a batch's objects, one request each, and put them on the remote in packs.

    A pack is on this disk only until it is on the remote. SetupError if the remote is not the one
    that the driver uses.
    """
    remote = batch.remote.open()
    _sweep_lost_batches()
    with tempfile.TemporaryDirectory(prefix=BATCH_PREFIX) as folder, LocalStore(folder) as store:
        packs = _Uploads(remote)
        large = any(described.size >= LARGE_SIZE_MIN_BYTES for described in batch.objects)
        threads = min(os.cpu_count() or 1, WORKER_THREADS_MAX) if large else 1
        writer = ChunkPacks(store, tell, threads=threads, deliver=packs.put)
        try:
            with naming_full_disk(folder):
                files = list(stored_objects(batch.origin, batch.objects, writer, Attempts(), store))
                writer.finish()
        except BaseException:
            writer.abandon()
            raise
        finally:
            batch.origin.close()
    located = _located(files, packs.infos)
    return FarTaken(
        b"".join(digest for digest, _ in files),
        array("Q", [size for _, size in files]).tobytes(),
        zstandard.compress(encode_locations(located)),
        packs.there,
    )


def _sweep_lost_batches() -> None:
    """Remove what batches left here, in the folder for temporary files, whose workers were lost."""
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(BATCH_PREFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    stats = entry.stat(follow_symlinks=False)
                    if stats.st_uid == os.getuid() and stats.st_mtime < time.time() - BATCH_MAX_S:
                        shutil.rmtree(entry.path, ignore_errors=True)


class _Uploads:
    """The packs of a batch, each put on the remote when it is finished."""

    def __init__(self, remote: RemoteStore) -> None:
        self._remote = remote
        self.infos: list[PackInfo] = []
        self.there: list[PackThere] = []

    def put(self, pack: FinishedPack) -> None:
        """Put a finished pack on the remote, and remove it here."""
        path, info = pack
        try:
            with open(path, "rb") as file:
                stored = self._remote.put_pack(info.digest, file)
        finally:
            os.unlink(path)
        self.infos.append(info)
        self.there.append(PackThere(info.digest, info.size, stored.md5))


def _located(
    files: Iterable[tuple[Digest, int]], infos: Iterable[PackInfo]
) -> Mapping[Digest, list[Located]]:
    """Return content -> its chunks, from the indexes of the packs; CorruptError if one lacks."""
    chunks: dict[Digest, Located] = {}
    recipes: dict[Digest, tuple[Digest, ...]] = {}
    for info in infos:
        pack = RemotePack(info.digest, info.size)
        for placement in info.index.placements():
            chunks.setdefault(placement.digest, Located(pack, placement))
        recipes.update((recipe.digest, recipe.chunks) for recipe in info.index.recipes)
    located: dict[Digest, list[Located]] = {}
    for digest, size in files:
        if not size or digest in located:
            continue
        try:
            located[digest] = [chunks[chunk] for chunk in recipes.get(digest, (digest,))]
        except KeyError as error:
            raise CorruptError(f"no pack of the batch has all of {digest.hex()}") from error
    return located


def object_infos(packs: Iterable[PackThere]) -> list[ObjectInfo]:
    """Return the packs as objects of the remote."""
    return [ObjectInfo(pack_key(pack.digest), pack.size, pack.md5) for pack in packs]
