"""The two hashes and their jobs.

BLAKE3-256 *names* content (files, chunks, shards, packs): a name must resist a deliberate
collision. XXH3-64 *guards* stored bytes against accidents and spreads paths evenly over shards.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, TypeAlias

import xxhash
from blake3 import blake3

Digest: TypeAlias = bytes
"""The 32 bytes of a BLAKE3-256."""

DIGEST_SIZE_BYTES = 32
HEX_LENGTH = 2 * DIGEST_SIZE_BYTES
EMPTY: Digest = blake3(b"").digest()

READ_SIZE_BYTES = 1 << 20
"""How much of a file is read at a time to be hashed."""

_ONE_DIGEST = struct.Struct(f"{DIGEST_SIZE_BYTES}s")

hasher = blake3
"""An incremental BLAKE3: ``h = hasher(); h.update(data); h.digest()``."""


def digest_of(data: bytes | bytearray | memoryview) -> Digest:
    """Return the BLAKE3-256 of `data`, 32 bytes."""
    return blake3(data).digest()


def digest_of_file(file: BinaryIO) -> Digest:
    """Return the BLAKE3-256 of what is left to read of a file."""
    whole = blake3()
    while data := file.read(READ_SIZE_BYTES):
        whole.update(data)
    return whole.digest()


def guard_of(data: bytes | bytearray | memoryview) -> int:
    """Return the XXH3-64 of `data` as an unsigned integer (no protection against intent)."""
    return xxhash.xxh3_64_intdigest(data)


def parse_hex(text: str) -> Digest:
    """Return the digest that 64 lower-case hex characters spell; ValueError for anything else."""
    if len(text) != HEX_LENGTH or text != text.lower() or not text.isalnum():
        raise ValueError(f"not a BLAKE3-256 in lower-case hex: {text[:80]!r}")
    return bytes.fromhex(text)


def split_digests(joined: bytes | memoryview) -> tuple[Digest, ...]:
    """Split bytes of digests joined end to end."""
    if len(joined) % DIGEST_SIZE_BYTES == 0:
        return tuple([digest for (digest,) in _ONE_DIGEST.iter_unpack(joined)])
    step = DIGEST_SIZE_BYTES  # a damaged index: the last one is too short to be found anywhere
    return tuple(bytes(joined[at : at + step]) for at in range(0, len(joined), step))
