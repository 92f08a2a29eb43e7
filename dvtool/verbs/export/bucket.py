"""Exporting to a plain prefix of a bucket: each file an object under its own name."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dvtool.errors import RemoteError, UnsavedError, printable
from dvtool.snapshots.snapshot import Snapshot
from dvtool.system.lazy import later
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress
from dvtool.verbs.export.entries import (
    STREAMED_BYTES,
    Exported,
    ExportEntry,
    batches,
    entries_below,
    far_parts,
    pieces,
)
from dvtool.verbs.export.folder import exported

if TYPE_CHECKING:
    from dvtool.jobs.cluster import ClusterEngine
    from dvtool.remotes.transports import registry
    from dvtool.remotes.transports.base import Backend, ObjectInfo
    from dvtool.remotes.transports.declaration import Value
else:
    registry = later("dvtool.remotes.transports.registry")


def export_to_bucket(
    snapshot: Snapshot,
    path: str,
    url: str,
    options: Mapping[str, Value],
    *,
    force: bool,
    plan_only: bool = False,
    progress: Progress,
    engine: ClusterEngine | None = None,
) -> Exported:
    """Put the files at or below a path of a commit under a prefix, each under its own name.

    The store's own MD5 is compared where it states one. Objects that are there with this content
    are kept, so it can be repeated; others are an UnsavedError unless `force`. Symlinks and
    empty folders are left out and named in the result. With an `engine` its workers do it, which
    must see the repository at the same path. With `plan_only` nothing is put, and what is there is
    compared by size alone.
    """
    entries = list(entries_below(snapshot, path))
    files = [each for each in entries if each.entry.type == "file"]
    others = [each.entry.path for each in entries if each.entry.type != "file"]
    backend = registry.open_backend(url, options)
    objects = {info.key: info for info in backend.list("")}
    if plan_only:
        kept = _foreseen(backend.url, files, objects, force=force)
        return exported(snapshot, entries, kept=kept, left_out=others)
    kept = 0
    progress.start("exporting", total_bytes=sum(each.entry.size or 0 for each in files))
    try:
        if engine is not None:
            far = _far_batches(snapshot, (url, options), files, objects, force=force)
            for _, known in engine.as_done(export_far, far, tell=progress.advance):
                kept += known
        else:
            for batch in batches(files):
                kept += _put_batch(snapshot, backend, batch, objects, force, progress.advance)
    finally:
        progress.finish()
    return exported(snapshot, entries, kept=kept, left_out=others)


def _foreseen(
    url: str, files: Sequence[ExportEntry], objects: Mapping[str, ObjectInfo], *, force: bool
) -> int:
    """Return how many files are there, as far as sizes tell; refuse others unless `force`."""
    kept = 0
    for each in files:
        info = objects.get(each.name)
        if info is not None and info.size == each.entry.size:
            kept += 1
        elif info is not None and not force:
            raise _refuse_other(url, each)
    return kept


@dataclass(frozen=True, slots=True)
class FarExport:
    """Files that a worker is to put under a prefix, and what is there of them. No secrets."""

    snapshot: Snapshot
    url: str
    options: Mapping[str, Value]
    files: tuple[ExportEntry, ...]
    there: Mapping[str, ObjectInfo]
    force: bool

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(each.entry.size or 0 for each in self.files)


def export_far(batch: FarExport, tell: Callable[[int], None] | None = None) -> int:
    """Put files under a prefix, on a worker; return how many were there already."""
    backend = registry.open_backend(batch.url, batch.options)
    with batch.snapshot as snapshot:
        return sum(
            _put_batch(snapshot, backend, part, batch.there, batch.force, tell)
            for part in batches(batch.files)
        )


def _far_batches(
    snapshot: Snapshot,
    address: tuple[str, Mapping[str, Value]],
    files: Sequence[ExportEntry],
    objects: Mapping[str, ObjectInfo],
    *,
    force: bool,
) -> Iterator[FarExport]:
    for part in far_parts(files):
        known = {each.name: objects[each.name] for each in part if each.name in objects}
        yield FarExport(snapshot, *address, tuple(part), known, force)


def _put_batch(
    snapshot: Snapshot,
    backend: Backend,
    batch: list[ExportEntry],
    objects: Mapping[str, ObjectInfo],
    force: bool,
    tell: Callable[[int], None] | None,
) -> int:
    """Put the files of a batch that are not there; return how many are."""
    kept = 0
    fresh: list[tuple[ExportEntry, ExportBody]] = []
    for each, content in pieces(snapshot, batch):
        body = _body(each, content)
        info = objects.get(each.name)
        if info is not None and (info.size, info.md5) == (each.entry.size, body.md5):
            kept += 1
            body.close()
        elif info is not None and not force:
            body.close()
            raise _refuse_other(backend.url, each)
        else:
            fresh.append((each, body))
    for (each, _), _done in run_bounded(lambda item: _put_object(backend, *item), fresh):
        if tell is not None:
            tell(each.entry.size or 0)
    return kept


class ExportBody(NamedTuple):
    """The content of a file, as it is sent, and its MD5."""

    data: bytes | BinaryIO
    md5: bytes

    def close(self) -> None:
        """Let go of a temporary file."""
        if not isinstance(self.data, bytes):
            self.data.close()


def _body(each: ExportEntry, content: Iterator[bytes]) -> ExportBody:
    state = hashlib.md5(usedforsecurity=False)
    if (each.entry.size or 0) <= STREAMED_BYTES:
        data = b"".join(content)
        state.update(data)
        return ExportBody(data, state.digest())
    file = tempfile.TemporaryFile()
    for piece in content:
        state.update(piece)
        file.write(piece)
    return ExportBody(file, state.digest())


def _put_object(backend: Backend, each: ExportEntry, body: ExportBody) -> None:
    try:
        stored = backend.put(each.name, body.data)
    finally:
        body.close()
    if stored.size != each.entry.size or (stored.md5 is not None and stored.md5 != body.md5):
        raise RemoteError(f"the store did not keep {printable(each.name)} as it was sent")


def _refuse_other(url: str, each: ExportEntry) -> UnsavedError:
    return UnsavedError(
        f"{printable(url)} has another object under {printable(each.name)}",
        hint="name another prefix, or --force to replace objects that are there",
    )
