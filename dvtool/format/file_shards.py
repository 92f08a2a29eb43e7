"""Shards of files alone, cut and written without an object for each entry.

The result is that of `manifest.cut_shards`: a million files take a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec
import xxhash

from dvtool.format.chunker import SINGLE_CHUNK_SIZE_MAX_BYTES, chunks_expected
from dvtool.format.digest import DIGEST_SIZE_BYTES, digest_of
from dvtool.format.manifest import (
    SHARD_CHUNKS_MAX,
    SHARD_ENTRIES_AVERAGE,
    SHARD_ENTRIES_MAX,
    ShardRef,
    ShardText,
)

_PATH_END, _HASH_END, _LINE_END = '": {"blake3": "', '", "size": ', '},\n"'


def cut_file_shards(
    paths: Sequence[str], digests: bytes, sizes: Sequence[int], executable: Sequence[int]
) -> Iterator[ShardText]:
    """Yield the shards of files, given by columns in canonical order; `digests` are end to end.

    They are cut where `cut_shards` cuts their entries.
    """
    for begin, end in _shard_bounds(paths, sizes):
        run = slice(begin, end)
        joined = digests[begin * DIGEST_SIZE_BYTES : end * DIGEST_SIZE_BYTES]
        text = _lines_of(paths[run], joined, sizes[run], executable[run]).encode()
        name = digest_of(text).hex()
        ref = ShardRef(first=paths[begin], files=end - begin, bytes=sum(sizes[run]), blake3=name)
        yield ShardText(ref, text)


def _shard_bounds(paths: Sequence[str], sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where each shard begins and ends."""
    hashes = map(xxhash.xxh3_64_intdigest, map(str.encode, paths))
    begins = [number for number, value in enumerate(hashes) if not value % SHARD_ENTRIES_AVERAGE]
    single = max(sizes, default=0) <= SINGLE_CHUNK_SIZE_MAX_BYTES
    most = min(SHARD_ENTRIES_MAX, SHARD_CHUNKS_MAX)
    begin = 0
    for end in chain(begins, (len(paths),)):
        while begin < end:
            after = min(end, begin + most) if single else _filled(sizes, begin, end)
            yield begin, after
            begin = after


def _filled(sizes: Sequence[int], begin: int, end: int) -> int:
    """Return the end of the shard that begins at a file, if nothing cuts it before it is full."""
    chunks = 0
    for number in range(begin, end):
        size = sizes[number]
        chunks += 1 if size <= SINGLE_CHUNK_SIZE_MAX_BYTES else chunks_expected(size)
        if number > begin and (number - begin == SHARD_ENTRIES_MAX or chunks > SHARD_CHUNKS_MAX):
            return number
    return end


def _lines_of(
    paths: Sequence[str], digests: bytes, sizes: Sequence[int], executable: Sequence[int]
) -> str:
    count = len(paths)
    numbers = list(map(str, sizes))
    if any(executable):
        numbers = [
            f'{size}, "exec": true' if runs else size
            for size, runs in zip(numbers, executable, strict=True)
        ]
    parts = [""] * (6 * count)
    parts[0::6] = _json_keys(paths)
    parts[1::6] = [_PATH_END] * count
    parts[2::6] = digests.hex("\n", DIGEST_SIZE_BYTES).split("\n")
    parts[3::6] = [_HASH_END] * count
    parts[4::6] = numbers
    parts[5::6] = [_LINE_END] * (count - 1) + ["}\n}"]
    return '{\n"' + "".join(parts)


def _json_keys(paths: Sequence[str]) -> Sequence[str]:
    """Return paths as JSON has them, without the quotes around each."""
    encode = msgspec.json.encode
    if encode(paths) == '["{}"]'.format('","'.join(paths)).encode():
        return paths
    return [encode(path).decode()[1:-1] for path in paths]
