"""Shards of plain files, read without an object for each: what opening a snapshot waits for."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from dvtool.errors import ManifestError
from dvtool.format.digest import DIGEST_SIZE_BYTES, EMPTY, HEX_LENGTH, digest_of
from dvtool.format.manifest import Entries, Entry, ShardRef
from dvtool.format.paths import parents_sorted, path_faults, refuse_nested
from dvtool.system.decoders import json_decoder

T = TypeVar("T")
_BEGIN, _PATH_END, _HASH_END = b'{\n"', b'": {"blake3": "', b'", "size": '
_LINE_END, _END = b'},\n"', b"}\n}"


class _File(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The entry of a file with content: what an `Entry` may have besides, takes longer to make."""

    blake3: str
    size: Annotated[int, msgspec.Meta(ge=1)]


_file_decoder = json_decoder(dict[str, _File])
_entry_decoder = json_decoder(dict[str, Entry])


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
    entries = _decoded(text, _file_decoder) if digest_of(text) == ref.digest else None
    return _checked(text, ref, entries) if entries else None


def decode_plain_files(text: bytes, ref: ShardRef) -> tuple[Entries, FileColumns] | None:
    """Do as `decode_file_columns`, with the entries too, as `decode_shard` returns them.

    The text's hash was checked before.
    """
    entries = _decoded(text, _entry_decoder)
    columns = _checked(text, ref, entries) if entries else None
    return (entries, columns) if entries and columns is not None else None


def _decoded(text: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _checked(
    text: bytes, ref: ShardRef, entries: Mapping[str, _File] | Mapping[str, Entry]
) -> FileColumns | None:
    try:
        # A list is looked at several times in less time than an array once.
        sizes = [entry.size for entry in entries.values()]
        hashes = "\n".join([entry.blake3 for entry in entries.values()])
        columns = FileColumns(list(entries), bytes.fromhex(hashes), array("q", sizes))
    except (ValueError, OverflowError):
        return None
    paths, digests, _ = columns
    if (
        min(sizes) < 1
        or (paths[0], len(paths), sum(sizes)) != (ref.first, ref.files, ref.bytes)
        or len(digests) != DIGEST_SIZE_BYTES * len(paths)
        or digests.hex("\n", DIGEST_SIZE_BYTES) != hashes
        or EMPTY in digests
        or not _is_canonical(text, paths, sizes)
        or sorted(paths) != paths
        or next(path_faults(paths), None) is not None
    ):
        return None
    try:
        refuse_nested(parents_sorted(paths), entries, "")
    except ManifestError:
        return None
    return columns


def _is_canonical(text: bytes, paths: Sequence[str], sizes: Sequence[int]) -> bool:
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


def _digits(sizes: Sequence[int]) -> int:
    """Return how many decimal digits numbers have together."""
    fewest, most = len(str(min(sizes))), len(str(max(sizes)))
    return fewest * len(sizes) if fewest == most else len("".join(map(str, sizes)))
