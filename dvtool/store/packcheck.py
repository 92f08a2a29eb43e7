"""Reads one pack from its first byte to its last and reports its damage.

Every part is read on its own, so that one bad sector or bit costs one frame, not the pack: the
chunks that still have the hash of their name are as good as ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

from dvtool.errors import CorruptError
from dvtool.format.digest import READ_SIZE_BYTES, Digest, digest_of, guard_of, hasher
from dvtool.format.pack import (
    PACK_MAGIC,
    PACK_SIZE_MAX_BYTES,
    PACK_VERSION,
    TRAILER,
    PackIndex,
    Placement,
    read_index,
    unpack_frame,
)

FAULTS_MAX = 20
"""So many faults of one pack are named; the loss is counted in chunks anyway."""


@dataclass(frozen=True, slots=True)
class PackCheck:
    """The state of the file of one pack. Sound if there are no `faults`.

    `places` are the chunks that should be there, by the pack's own index or, where that cannot be
    read, by the caller; `bad` are those of which no place has the right bytes.
    """

    digest: Digest
    size: int
    faults: tuple[str, ...]
    index: PackIndex | None
    places: tuple[Placement, ...]
    bad: frozenset[Digest]
    found: Digest | None
    """The BLAKE3 of the file's bytes; None if not all of them can be read."""
    newer: bool = False
    """Whether the pack is of a later format, which this version cannot judge."""

    @property
    def sound(self) -> bool:
        """Whether every byte is right."""
        return not self.faults

    @property
    def misnamed(self) -> bool:
        """Whether this is another pack, whole and sound, under a wrong name."""
        return self.index is not None and not self.bad and self.found not in (None, self.digest)


def check_pack(
    path: str, digest: Digest, *, size: int | None = None, known: Sequence[Placement] = ()
) -> PackCheck:
    """Check the pack at `path`, which should have this id and, if given, size in bytes.

    `known` says where chunks should be if the pack's index cannot. May run in any thread.
    """
    try:
        file = open(path, "rb", buffering=0)
    except OSError as error:
        why = "is gone" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
        bad = frozenset(placement.digest for placement in known)
        return PackCheck(digest, 0, (why,), None, tuple(known), bad, None)
    with file:
        return _Check(file, digest, size, known).run()


class _Check:
    def __init__(
        self, file: BinaryIO, digest: Digest, size: int | None, known: Sequence[Placement]
    ) -> None:
        self.file = file
        self.digest = digest
        self.expected = size
        self.known = known
        self.size = os.fstat(file.fileno()).st_size
        self.faults: list[str] = []
        self.good: set[Digest] = set()
        self.readable = True

    def run(self) -> PackCheck:
        if self.expected is not None and self.size != self.expected:
            self._fault(f"has {self.size:,} bytes, not {self.expected:,}")
        index = self._read_index()
        placements = tuple(self.known if index is None else index.placements())
        actual = self._read_unindexed(placements) if index is None else self._read_frames(index)
        if actual is not None and actual != self.digest:
            self._fault("its bytes are not what its name says")
        bad = frozenset(
            placement.digest for placement in placements if placement.digest not in self.good
        )
        faults = tuple(self.faults)
        newer = index is None and actual == self.digest and self._is_newer()
        return PackCheck(self.digest, self.size, faults, index, placements, bad, actual, newer)

    def _fault(self, text: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(text)

    def _read_index(self) -> PackIndex | None:
        try:
            return read_index(self.file, size=self.size, where="")
        except CorruptError as error:
            self._fault(str(error).removeprefix(": "))
        except OSError as error:
            self._fault(f"the index cannot be read: {error.strerror}")
        return None

    def _is_newer(self) -> bool:
        if not TRAILER.size <= self.size <= PACK_SIZE_MAX_BYTES:
            return False
        *_, version, _, magic = TRAILER.unpack(
            self._read(self.size - TRAILER.size, TRAILER.size) or bytes(TRAILER.size)
        )
        return bool(magic == PACK_MAGIC and version > PACK_VERSION)

    def _read(self, offset: int, size: int) -> bytes | None:
        """Return up to `size` bytes; None, with a fault, where the disk does not give them."""
        parts = []
        try:
            self.file.seek(offset)
            while size > 0 and (data := self.file.read(size)):
                parts.append(data)
                size -= len(data)
        except OSError as error:
            self._fault(f"cannot be read at {offset:,}: {error.strerror}")
            self.readable = False
            return None
        return b"".join(parts)

    def _read_frames(self, index: PackIndex) -> Digest | None:
        """Check every frame of the index; return the hash of the whole file."""
        whole = hasher()
        offset = 0
        groups = groupby(index.placements(), key=lambda placement: placement.frame_offset)
        chunks = {frame: list(places) for frame, places in groups}
        for size, guard in zip(index.frame_sizes, index.frame_guards, strict=True):
            stored = self._read(offset, size)
            if stored is not None:
                whole.update(stored)
                if guard_of(stored) != guard:
                    self._fault(f"the frame at {offset:,} is damaged")
                self._take_chunks(stored, offset, chunks.get(offset, ()))
            offset += size
        return self._hash_from(whole, offset)

    def _hash_from(self, whole: hasher, offset: int) -> Digest | None:
        while self.readable and (data := self._read(offset, READ_SIZE_BYTES)):
            whole.update(data)
            offset += len(data)
        return whole.digest() if self.readable else None

    def _read_unindexed(self, places: Sequence[Placement]) -> Digest | None:
        by_frame = sorted(places, key=lambda placement: (placement.frame_offset, placement.start))
        for (offset, size), in_frame in groupby(
            by_frame, key=lambda placement: (placement.frame_offset, placement.frame_size)
        ):
            stored = self._read(offset, size)
            if stored:
                self._take_chunks(stored, offset, list(in_frame))
        return self._hash_from(hasher(), 0)

    def _take_chunks(self, stored: bytes, offset: int, placements: Sequence[Placement]) -> None:
        """Note which chunks of a frame have the hash of their name, whatever the guard says."""
        try:
            raw = memoryview(unpack_frame(stored, where=""))
        except CorruptError as error:
            self._fault(f"at {offset:,}: {str(error).removeprefix(': ')}")
            return
        end = 0
        for placement in placements:
            end = placement.start + placement.size
            if end <= len(raw) and digest_of(raw[placement.start : end]) == placement.digest:
                self.good.add(placement.digest)
            else:
                self._fault(f"chunk {placement.digest.hex()[:12]}… at {offset:,} has other bytes")
        if end != len(raw):
            self._fault(f"the frame at {offset:,} holds other than its chunks")


def read_chunks(path: str, places: Iterable[Placement]) -> Iterator[tuple[Digest, bytes]]:
    """Yield the chunks of a pack, perhaps a damaged one, that have the hash of their name."""
    by_frame = sorted(places, key=lambda placement: (placement.frame_offset, placement.start))
    with open(path, "rb", buffering=0) as file:
        for (offset, size), in_frame in groupby(
            by_frame, key=lambda placement: (placement.frame_offset, placement.frame_size)
        ):
            try:
                file.seek(offset)
                raw = memoryview(unpack_frame(file.read(size), where=path))
            except (CorruptError, OSError):
                continue
            for placement in in_frame:
                data = raw[placement.start : placement.start + placement.size]
                if len(data) == placement.size and digest_of(data) == placement.digest:
                    yield placement.digest, bytes(data)


def digest_of_parts(parts: Iterable[tuple[str, Placement]]) -> Digest:
    """Return the BLAKE3 of chunks end to end, each given by its pack's path and its place.

    CorruptError or OSError if one cannot be read. The chunks themselves are not checked.
    """
    whole = hasher()
    at: tuple[str, int] = ("", -1)
    raw = memoryview(b"")
    for path, placement in parts:
        if at != (path, placement.frame_offset):
            with open(path, "rb", buffering=0) as file:
                file.seek(placement.frame_offset)
                raw = memoryview(unpack_frame(file.read(placement.frame_size), where=path))
            at = (path, placement.frame_offset)
        whole.update(raw[placement.start : placement.start + placement.size])
    return whole.digest()


def fingerprint(placement: Placement) -> int:
    """Return a placement as 64 bits, so that many can be compared in little memory."""
    numbers = (placement.frame_offset, placement.frame_size, placement.start, placement.size)
    return guard_of(placement.digest + b"".join(number.to_bytes(4, "little") for number in numbers))
