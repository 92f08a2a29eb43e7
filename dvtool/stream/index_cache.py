"""Indexes of contents, kept in the repository's git folder under the content's hash.

A file that is damaged, or vanished, is a miss: the index is then made again. When all files have
more than `INDEXES_MAX_BYTES`, the least recently used go.
"""

from __future__ import annotations

import contextlib
import os

import xxhash

from dvtool.snapshots.snapshot import Snapshot
from dvtool.system.atomic import is_temp_name, write_bytes

INDEXES_MAX_BYTES = 1 << 30
_CHECK_BYTES = 16


def load_index(snapshot: Snapshot, name: str) -> bytes | None:
    """Return an index that was kept under a name, None if there is none or it is damaged."""
    path = os.path.join(_indexes_folder(snapshot), name)
    try:
        with open(path, "rb") as file:
            check, value = file.read(_CHECK_BYTES), file.read()
        if xxhash.xxh3_128_digest(value) != check:
            return None
        os.utime(path)
    except OSError:
        return None
    return value


def keep_index(snapshot: Snapshot, name: str, value: bytes) -> None:
    """Keep an index; where nothing can be written, it is made again the next time."""
    folder = _indexes_folder(snapshot)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name)
        write_bytes(path, xxhash.xxh3_128_digest(value) + value, durable=False)
        _remove_oldest(folder)


def _indexes_folder(snapshot: Snapshot) -> str:
    return os.path.join(snapshot.git_dirs[1], "dv", "indexes")


def _remove_oldest(folder: str) -> None:
    with os.scandir(folder) as entries:
        files = [(entry.stat(), entry.path) for entry in entries if not is_temp_name(entry.name)]
    size = sum(stat.st_size for stat, _ in files)
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
        if size <= INDEXES_MAX_BYTES:
            return
        os.unlink(path)
        size -= stat.st_size
