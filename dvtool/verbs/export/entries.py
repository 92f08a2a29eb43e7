"""The entries that an export writes, with their names there, in batches that fit into memory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

import msgspec

from dvtool.snapshots.listed import Listed
from dvtool.snapshots.snapshot import Snapshot

BATCH_BYTES = 32 << 20
BATCH_FILES = 1000
EXPORT_FILES = 1000
EXPORT_BYTES = 256 << 20
STREAMED_BYTES = 8 << 20
"""Larger files are read piece by piece."""
PIECE_BYTES = 4 << 20


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an export, or of its plan: what would be there."""

    commit: str
    """The commit that was exported."""
    files: int
    """How many files are there now, those that were there before included."""
    bytes: int
    """Their bytes."""
    kept: int
    """How many of the files were there before, with this content."""
    left_out: tuple[str, ...] = ()
    """Symlinks and empty folders, which a bucket cannot hold."""


class ExportEntry(msgspec.Struct, frozen=True):
    """An entry, and its name at the destination."""

    entry: Listed
    name: str


def entries_below(snapshot: Snapshot, path: str) -> Iterator[ExportEntry]:
    """Yield the entries at or below a path: named from it; of a file by its own name.

    PathMissing if the commit has nothing there.
    """
    real = snapshot.followed(path)
    for entry in snapshot.entries(real):
        below = entry.path == real
        name = posixpath.basename(path.rstrip("/") or entry.path) if below else ""
        yield ExportEntry(entry, name or entry.path[len(real) :].lstrip("/"))


def batches(entries: Iterable[ExportEntry]) -> Iterator[list[ExportEntry]]:
    """Join files to batches that are read at once; a file that is streamed is alone in its own."""
    batch: list[ExportEntry] = []
    size = 0
    for each in entries:
        file_size = each.entry.size or 0
        if file_size > STREAMED_BYTES:
            yield [each]
            continue
        if batch and (size + file_size > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += file_size
    if batch:
        yield batch


def far_parts(files: Iterable[ExportEntry]) -> Iterator[list[ExportEntry]]:
    """Join files to the batches of a cluster, each worth its way there."""
    part: list[ExportEntry] = []
    size = 0
    for each in files:
        part.append(each)
        size += each.entry.size or 0
        if len(part) >= EXPORT_FILES or size >= EXPORT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def pieces(
    snapshot: Snapshot, batch: list[ExportEntry]
) -> Iterator[tuple[ExportEntry, Iterator[bytes]]]:
    """Yield each file of a batch with its checked bytes, piece by piece."""
    if len(batch) == 1 and (batch[0].entry.size or 0) > STREAMED_BYTES:
        yield batch[0], _streamed(snapshot, batch[0].entry.path)
        return
    contents = snapshot.read_ranges([(each.entry.path, 0, None) for each in batch])
    for each, content in zip(batch, contents, strict=True):
        yield each, iter((content,))


def _streamed(snapshot: Snapshot, path: str) -> Iterator[bytes]:
    with snapshot.open(path, "rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
