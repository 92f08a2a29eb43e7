"""Batches of an origin's objects that stay there: read once, cut and hashed; nothing is kept.

`refer_objects` is a plain function of picklable values, as `dvtool.jobs.take` is.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from dvtool.errors import InputError, printable
from dvtool.format.chunker import (
    FILE_SIZE_MAX_BYTES,
    SINGLE_CHUNK_SIZE_MAX_BYTES,
    cut,
    sizes_for,
)
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.references import Reference, SourceAddress, is_nameable
from dvtool.jobs.take import HELD_SIZE_MAX_BYTES, OBJECTS_AT_ONCE, too_large
from dvtool.remotes.origins.base import SIZE_UNKNOWN, Origin, OriginObject
from dvtool.remotes.origins.reading import READ_AT_ONCE_BYTES, ObjectReader
from dvtool.remotes.transports.retry import Attempts
from dvtool.system.parallel import run_bounded


@dataclass(frozen=True, slots=True)
class ReferBatch:
    """Objects of the origin at an address. Holds no secret."""

    address: SourceAddress
    origin: Origin
    objects: tuple[OriginObject, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all objects together, as listed."""
        return sum(max(described.size, 0) for described in self.objects)


@dataclass(slots=True)
class ReferResult:
    """Hash, size and reference of each object, in the order of the batch; None for empty ones."""

    digests: list[Digest] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    references: list[Reference | None] = field(default_factory=list)


def refer_objects(batch: ReferBatch, tell: Callable[[int], None] | None = None) -> ReferResult:
    """Read a batch's objects, one request each, and return the hashes of them and their chunks.

    `tell`, if given, is called with the number of bytes read since the last call.
    """
    origin, attempts, result = batch.origin, Attempts(), ReferResult()
    objects = batch.objects
    done: dict[int, tuple[Digest, int, Reference | None]] = {}

    def read(number: int) -> tuple[Digest, int, Reference | None]:
        return _referred(batch.address, origin, objects[number], attempts)

    small = [n for n, each in enumerate(objects) if 0 <= each.size <= HELD_SIZE_MAX_BYTES]
    try:
        for number, row in run_bounded(read, small, workers=OBJECTS_AT_ONCE):
            done[number] = row
            if tell is not None:
                tell(row[1])
        for number in range(len(objects)):
            if number in done:
                row = done.pop(number)
            else:
                row = _referred(batch.address, origin, objects[number], attempts, tell)
            result.digests.append(row[0])
            result.sizes.append(row[1])
            result.references.append(row[2])
    finally:
        origin.close()
    return result


def _referred(
    address: SourceAddress,
    origin: Origin,
    described: OriginObject,
    attempts: Attempts,
    tell: Callable[[int], None] | None = None,
) -> tuple[Digest, int, Reference | None]:
    """Return the hash and the size of one object, and the reference to it."""
    key, tag = described.key, described.tag
    if described.size == SIZE_UNKNOWN or not is_nameable(key, tag, described.version):
        raise InputError(
            f"{origin.url}: {printable(key)} cannot be referred to: its size or its name does not "
            "tell one state of it",
            hint="leave it out (--exclude), or import a copy: without --reference",
        )
    if described.size > FILE_SIZE_MAX_BYTES:
        raise too_large(origin, described)
    chunks: list[tuple[Digest, int]] = []
    whole = hasher()
    with ObjectReader(origin, described, attempts, tell) as reader:
        file = cast(BinaryIO, io.BufferedReader(reader, READ_AT_ONCE_BYTES))
        if described.size <= SINGLE_CHUNK_SIZE_MAX_BYTES:
            parts = [data] if (data := file.read()) else []
        else:
            sizes = sizes_for(described.size)
            parts = cut(file, file_size_bytes=described.size, sizes=sizes)  # type: ignore[assignment]
        for part in parts:
            block = bytes(part)
            whole.update(block)
            chunks.append((digest_of(block), len(block)))
        version, settled_s = reader.version, reader.settled_s or 0
    if not chunks:
        return EMPTY, 0, None
    size = sum(part for _, part in chunks)
    reference = Reference(address, key, size, tag, version, tuple(chunks), settled_s)
    return whole.digest(), size, reference
