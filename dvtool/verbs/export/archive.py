"""Exporting as a tar archive: the same commit gives the same bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from dvtool.snapshots.snapshot import Snapshot
from dvtool.system.progress import Progress
from dvtool.verbs.export.entries import Exported, ExportEntry, batches, entries_below, pieces
from dvtool.verbs.export.folder import exported


def export_to_tar(snapshot: Snapshot, path: str, out: BinaryIO, *, progress: Progress) -> Exported:
    """Write the files at or below a path of a commit to `out`, as an uncompressed POSIX archive.

    Its times are that of the commit, its owner is root. An error leaves the archive without its
    end, which `tar` notices.
    """
    entries = list(entries_below(snapshot, path))
    files = [each for each in entries if each.entry.type == "file"]
    progress.start("exporting", total_bytes=sum(each.entry.size or 0 for each in files))
    try:
        tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)
        for batch in batches(files):
            for each, content in pieces(snapshot, batch):
                tar.addfile(_member(snapshot, each), _PiecesFile(content))
                progress.advance(each.entry.size or 0)
        for each in entries:
            if each.entry.type != "file":
                tar.addfile(_member(snapshot, each))
        tar.close()
    finally:
        progress.finish()
    return exported(snapshot, entries, kept=0)


def _member(snapshot: Snapshot, each: ExportEntry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(each.name)
    member.mtime = snapshot.commit_time
    member.mode = 0o755 if each.entry.exec else 0o644
    if each.entry.type == "folder":
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    elif each.entry.type == "symlink":
        member.type, member.linkname = tarfile.SYMTYPE, each.entry.symlink or ""
    else:
        member.size = each.entry.size or 0
    return member


class _PiecesFile(io.RawIOBase):
    """A file made of pieces, for `tarfile`, which reads exact amounts."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        parts, have = [self._left], len(self._left)
        while have < size and (piece := next(self._content, None)) is not None:
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._left = data[size:]
        return data[:size]
