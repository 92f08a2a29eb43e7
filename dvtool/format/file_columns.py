"""Shards of plain files, read without an object for each: what opening a snapshot waits for."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import islice
from operator import lt
from typing import NamedTuple

import msgspec

from dvtool.errors import ManifestError
from dvtool.format.digest import HEX_LENGTH, digest_of
from dvtool.format.manifest import EMPTY_HEX, Entries, Entry, ShardRef
from dvtool.format.paths import parents_sorted, path_faults, refuse_nested
from dvtool.system.decoders import json_decoder

_BEGIN, _PATH_END, _HASH_END = b'{\n"', b'": {"blake3": "', b'", "size": '
_LINE_END, _END = b'},\n"', b"}\n}"
_file_decoder = json_decoder(dict[str, Entry])


class FileColumns(NamedTuple):
    """Files in the order of their paths, by columns."""

    paths: list[str]
    digests: bytes
    """The BLAKE3 of each, end to end."""
    sizes: array[int]
    """The size of each in bytes, at least 1."""


def decode_file_columns(text: bytes, ref: ShardRef) -> FileColumns | None:
    """Return the files of a shard from its text, checked; None for any doubt.

    The files are those of `decode_shard`, which says what is wrong where None is returned, or
    reads a shard that has more than files with content, none of them executable.
    """
    files = decode_plain_files(text, ref)
    return files[1] if files is not None else None


def decode_plain_files(text: bytes, ref: ShardRef) -> tuple[Entries, FileColumns] | None:
    """Do as `decode_file_columns`, with the entries too, as `decode_shard` returns them."""
    if digest_of(text) != ref.digest:
        return None
    try:
        entries = _file_decoder.decode(text)
        sizes = array("q", [entry.size for entry in entries.values()])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None
    paths = list(entries)
    hashes = [entry.blake3 for entry in entries.values()]
    joined = "".join(hashes)
    if (
        not paths
        or min(sizes) < 1
        or set(map(len, hashes)) != {HEX_LENGTH}
        or EMPTY_HEX in joined
        or (paths[0], len(paths), sum(sizes)) != (ref.first, ref.files, ref.bytes)
        or not _is_canonical(text, paths, sizes)
        or not all(map(lt, paths, islice(paths, 1, None)))
    ):
        return None
    try:
        digests = bytes.fromhex(joined)
        refuse_nested(parents_sorted(paths), entries, "")
    except (ValueError, ManifestError):
        return None
    if digests.hex() != joined or next(path_faults(paths), None) is not None:
        return None
    return entries, FileColumns(paths, digests, sizes)


def _is_canonical(text: bytes, paths: Sequence[str], sizes: array[int]) -> bool:
    """Whether JSON that has these paths and sizes, and a hash with each, is laid out as shards are.

    It has all that the canonical text has, and each path, hash and number takes at least its own
    length. So a text of that length has nothing else: no space, escape, other key or key twice.
    """
    files = len(paths)
    parts = ((_BEGIN, 1), (_PATH_END, files), (_HASH_END, files), (_LINE_END, files - 1), (_END, 1))
    between = sum(len(part) * count for part, count in parts)
    path_bytes = len("".join(paths).encode())
    if len(text) != between + path_bytes + HEX_LENGTH * files + _digits(sizes):
        return False
    return (
        text.startswith(_BEGIN)
        and text.endswith(_END)
        and all(text.count(part) == count for part, count in parts[1:4])
    )


def _digits(sizes: array[int]) -> int:
    """Return how many decimal digits numbers have together."""
    fewest, most = len(str(min(sizes))), len(str(max(sizes)))
    return fewest * len(sizes) if fewest == most else len("".join(map(str, sizes)))
