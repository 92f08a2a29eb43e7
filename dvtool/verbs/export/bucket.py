"""Exporting to a plain prefix of a bucket: each file an object under its own name."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dvtool.errors import RemoteError, printable
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
    pieces,
)
from dvtool.verbs.export.folder import exported

if TYPE_CHECKING:
    from dvtool.remotes.transports import registry
    from dvtool.remotes.transports.base import Backend
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
    progress: Progress,
) -> Exported:
    """Put the files at or below a path of a commit under a prefix, each under its own name.

    The store's own MD5 is compared where it states one. Objects that are there with this content
    are kept, so it can be repeated; others are a RemoteError unless `force`. Symlinks and
    empty folders are left out and named in the result.
    """
    entries = list(entries_below(snapshot, path))
    files = [each for each in entries if each.entry.type == "file"]
    others = [each.entry.path for each in entries if each.entry.type != "file"]
    backend = registry.open_backend(url, options)
    there = {info.key: info for info in backend.list("")}
    kept = 0
    progress.start("exporting", total_bytes=sum(each.entry.size or 0 for each in files))
    try:
        for batch in batches(files):
            fresh: list[tuple[ExportEntry, ExportBody]] = []
            for each, content in pieces(snapshot, batch):
                body = _body(each, content)
                info = there.get(each.name)
                if info is not None and (info.size, info.md5) == (each.entry.size, body.md5):
                    kept += 1
                    body.close()
                elif info is not None and not force:
                    body.close()
                    raise _refuse_other(url, each)
                else:
                    fresh.append((each, body))
            for (each, _), _done in run_bounded(lambda item: _put_object(backend, *item), fresh):
                progress.advance(each.entry.size or 0)
    finally:
        progress.finish()
    return exported(snapshot, entries, kept=kept, left_out=others)


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


def _refuse_other(url: str, each: ExportEntry) -> RemoteError:
    return RemoteError(
        f"{printable(url)} has another object under {printable(each.name)}",
        hint="name another prefix, or --force to replace objects that are there",
    )
