"""Exporting to a folder: files that are there with this content are kept, so it can be repeated."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from dvtool.errors import InputError, UnsavedError, listing, printable
from dvtool.format.digest import hasher
from dvtool.snapshots.snapshot import Snapshot
from dvtool.system.atomic import is_of_export, share, temp_name_of_export
from dvtool.system.progress import Progress
from dvtool.verbs.export.entries import (
    Exported,
    ExportEntry,
    batches,
    entries_below,
    far_parts,
    pieces,
)

if TYPE_CHECKING:
    from dvtool.jobs.cluster import ClusterEngine

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

_READ_BYTES = 1 << 20


def export_to_folder(
    snapshot: Snapshot,
    path: str,
    folder: str,
    *,
    force: bool,
    plan_only: bool = False,
    progress: Progress,
    engine: ClusterEngine | None = None,
) -> Exported:
    """Write the files at or below a path of a commit into a folder, which is made.

    UnsavedError, before anything is written, where something else is in the place of an entry or of
    a folder; with `force` files and symlinks in the place of files are replaced. InputError for a
    symlink in the place of a folder. With `plan_only` nothing is written; all of that is raised.
    """
    entries = list(entries_below(snapshot, path))
    wanted, kept = _compare_folder(entries, folder, force=force)
    if plan_only:
        return exported(snapshot, entries, kept=kept)
    files = [each for each in wanted if each.entry.type == "file"]
    progress.start("exporting", total_bytes=sum(each.entry.size or 0 for each in files))
    try:
        os.makedirs(folder, exist_ok=True)
        _remove_unfinished(folder, entries)
        if engine is not None:
            parts = (
                FarWrites(snapshot, os.path.abspath(folder), tuple(p)) for p in far_parts(files)
            )
            for _ in engine.as_done(write_far, parts, tell=progress.advance):
                pass
        else:
            _write_each(snapshot, folder, files, progress.advance)
        for each in wanted:
            if each.entry.type != "file":
                _make(os.path.join(folder, each.name), each)
    finally:
        progress.finish()
    return exported(snapshot, entries, kept=kept)


@dataclass(frozen=True, slots=True)
class FarWrites:
    """Files that a worker is to write into a folder that it sees at the same path."""

    snapshot: Snapshot
    folder: str
    files: tuple[ExportEntry, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(each.entry.size or 0 for each in self.files)


def write_far(batch: FarWrites, tell: Callable[[int], None] | None = None) -> None:
    """Write files, on a worker; InputError if it does not see the folder."""
    if not os.path.isdir(batch.folder):
        raise InputError(
            f"a worker has no folder {printable(batch.folder)}",
            hint="export to a disk that all workers see at the same path, or to a bucket",
        )
    with batch.snapshot as snapshot:
        _write_each(snapshot, batch.folder, batch.files, tell)


def _write_each(
    snapshot: Snapshot,
    folder: str,
    files: Sequence[ExportEntry],
    tell: Callable[[int], None] | None,
) -> None:
    for batch in batches(files):
        for each, content in pieces(snapshot, batch):
            _write_file(os.path.join(folder, each.name), content, each)
            if tell is not None:
                tell(each.entry.size or 0)


def exported(
    snapshot: Snapshot,
    entries: Sequence[ExportEntry],
    *,
    kept: int,
    left_out: Sequence[str] = (),
) -> Exported:
    """Return the result of an export of entries."""
    files = [each.entry for each in entries if each.entry.type == "file"]
    size = sum(entry.size or 0 for entry in files)
    return Exported(
        commit=snapshot.commit,
        files=len(files),
        bytes=size,
        kept=kept,
        left_out=tuple(left_out),
    )


def _compare_folder(
    entries: Sequence[ExportEntry], folder: str, *, force: bool
) -> tuple[list[ExportEntry], int]:
    """Return the entries that are not at the destination yet, and how many files are."""
    wanted: list[ExportEntry] = []
    others: list[str] = []
    kept = 0
    for each in entries:
        destination = os.path.join(folder, each.name)
        _require_real_folders(folder, each.name)
        try:
            status = os.lstat(destination)
        except FileNotFoundError:
            wanted.append(each)
            continue
        except NotADirectoryError:  # a file is in the place of a folder, of the top one perhaps
            others.append(_file_above(destination))
            continue
        if _is_entry_there(each, destination, status):
            kept += each.entry.type == "file"
        elif force and not stat.S_ISDIR(status.st_mode) and each.entry.type != "folder":
            wanted.append(each)
        else:
            others.append(destination)
    if others:
        raise UnsavedError(
            "something else is in the place of what would be exported: "
            + listing(sorted(set(others))),
            hint="name another folder, or --force to replace files that are there",
        )
    return wanted, kept


def _file_above(path: str) -> str:
    """Return what is no folder and in the place of one above a path.

    If all is gone by now, that is the highest folder of the path.
    """
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        higher = os.path.dirname(above)
        if higher in ("", above):
            break
        above = higher
    return above


def _remove_unfinished(folder: str, entries: Sequence[ExportEntry]) -> None:
    """Remove unfinished files of an export that was killed; whoever writes one has it locked.

    Nothing else's: a checkout that was killed may have left a user's edit under a temporary name.
    """
    if fcntl is None:
        return
    for inner in {os.path.dirname(os.path.join(folder, each.name)) for each in entries}:
        with contextlib.suppress(OSError):
            for name in filter(is_of_export, os.listdir(inner)):
                path = os.path.join(inner, name)
                with contextlib.suppress(OSError), open(path, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)


def _is_entry_there(each: ExportEntry, path: str, status: os.stat_result) -> bool:
    entry = each.entry
    if entry.type == "folder":
        return stat.S_ISDIR(status.st_mode)
    if entry.type == "symlink":
        return stat.S_ISLNK(status.st_mode) and os.readlink(path) == entry.symlink
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
        return False
    state = hasher()
    with open(path, "rb") as file:
        while piece := file.read(_READ_BYTES):
            state.update(piece)
    return state.hexdigest() == entry.blake3 and bool(status.st_mode & 0o100) >= bool(entry.exec)


def _require_real_folders(folder: str, name: str) -> None:
    """Refuse a symlink in the place of a folder: what is written below it would be elsewhere."""
    inner = folder
    for part in name.split("/")[:-1]:
        inner = os.path.join(inner, part)
        if os.path.islink(inner):
            raise InputError(
                f"{printable(inner)} is a symlink; an export writes nothing through it",
                hint="remove it, or name another folder",
            )
        if not os.path.isdir(inner):
            return


def _write_file(path: str, content: object, each: ExportEntry) -> None:
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    with _unfinished_file(folder) as (temp, file):
        for piece in content:  # type: ignore[attr-defined]
            file.write(piece)
        file.flush()
        if each.entry.exec:
            mode = os.fstat(file.fileno()).st_mode
            os.chmod(file.fileno(), mode | ((mode & 0o444) >> 2))
        share(temp)
        if fcntl is None:
            file.close()  # Windows renames no open file
        os.replace(temp, path)  # while it is locked: nobody takes it for what a killed export left


@contextlib.contextmanager
def _unfinished_file(folder: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the path of a new file and the file, locked; it is removed if the block fails."""
    while True:
        temp = os.path.join(folder, temp_name_of_export())
        try:
            with open(temp, "xb") as file:
                if _locked_in_time(temp, file):
                    yield temp, file
                    return
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            raise


def _locked_in_time(temp: str, file: BinaryIO) -> bool:
    """Lock a new file; False if another export took it for one left behind before that."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever else has it locked, removes it at once
    except OSError:
        return True  # of a disk without locks nothing is swept
    return os.path.lexists(temp)


def _make(path: str, each: ExportEntry) -> None:
    if each.entry.type == "folder":
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)  # --force, and _compare_folder saw that it is no folder
    os.symlink(each.entry.symlink or "", path)
