"""Shards of files alone, cut and written without an object for each entry.

The result is that of `manifest.cut_shards`: a million files take a third of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import xxhash

from dvtool.format.chunker import SINGLE_CHUNK_SIZE_MAX_BYTES, chunks_expected
from dvtool.format.digest import Digest, digest_of
from dvtool.format.manifest import (
    SHARD_CHUNKS_MAX,
    SHARD_ENTRIES_AVERAGE,
    SHARD_ENTRIES_MAX,
    ShardRef,
    ShardText,
)


def cut_file_shards(files: Iterable[tuple[str, Digest, int, bool]]) -> Iterator[ShardText]:
    """Yield the shards of files, given in canonical order: path, digest, size, executable or not.

    They are cut where `cut_shards` cuts their entries.
    """
    encode, hash_of = msgspec.json.encode, xxhash.xxh3_64_intdigest
    lines: list[str] = []
    first, chunks, size_bytes = "", 0, 0
    for path, digest, size, executable in files:
        more = 1 if size <= SINGLE_CHUNK_SIZE_MAX_BYTES else chunks_expected(size)
        if lines and (
            not hash_of(path.encode()) % SHARD_ENTRIES_AVERAGE
            or len(lines) == SHARD_ENTRIES_MAX
            or chunks + more > SHARD_CHUNKS_MAX
        ):
            yield _shard_of(first, lines, size_bytes)
            lines, chunks, size_bytes = [], 0, 0
        if not lines:
            first = path
        tail = ', "exec": true' if executable else ""
        key = encode(path).decode()
        lines.append(f'{key}: {{"blake3": "{digest.hex()}", "size": {size}{tail}}}')
        chunks += more
        size_bytes += size
    if lines:
        yield _shard_of(first, lines, size_bytes)


def _shard_of(first: str, lines: list[str], size_bytes: int) -> ShardText:
    text = "{{\n{}\n}}".format(",\n".join(lines)).encode()
    ref = ShardRef(first=first, files=len(lines), bytes=size_bytes, blake3=digest_of(text).hex())
    return ShardText(ref, text)
