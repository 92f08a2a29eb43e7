"""Moving a file or folder of the workspace to where a rename cannot take it: another disk.

All is copied, and durable, before the first source goes; only what was copied goes. Repeating an
interrupted move goes on with it: equal copies that are there already count.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dvtool.errors import InputError, printable
from dvtool.format.digest import READ_SIZE_BYTES, hasher
from dvtool.format.paths import joined
from dvtool.system.atomic import flush_to_disk, sync_folder
from dvtool.system.stat import kind_name
from dvtool.workspace.files import Workspace
from dvtool.workspace.last_look import Believed, FileThere, LinkThere, There, changed
from dvtool.workspace.sparse import write_sparse


class _Moved(NamedTuple):
    """Something to move: its path below what is moved ("" is that itself), and what it is."""

    path: str
    stat: os.stat_result
    link: str | None


def move_across(workspace: Workspace, source: str, destination: str) -> None:
    """Move a file, link or folder by copying it; repeating this finishes what was interrupted.

    InputError, before anything is done, for what is neither; UnsavedError if something else is at
    a destination, or if a source changed meanwhile. Nothing is lost then.
    """
    parts = list(_all_below(workspace, source))
    copied: list[tuple[str, Believed]] = []
    folders = [part for part in parts if stat.S_ISDIR(part.stat.st_mode)]
    for folder in folders:
        workspace.make_folder(joined(destination, folder.path))
    for part in parts:
        old, new = joined(source, part.path), joined(destination, part.path)
        if part.link is not None:
            if workspace.read_link(new) != part.link:
                workspace.write_link(new, part.link, believed=There.NOTHING)
            copied.append((old, LinkThere(part.link)))
        elif part not in folders:
            copied.append((old, _copy_file(workspace, old, new, part.stat)))
    for folder in folders:
        sync_folder(workspace.absolute(joined(destination, folder.path)))
    sync_folder(os.path.dirname(workspace.absolute(destination)))
    for old, believed in copied:
        workspace.remove(old, believed=believed)
    for folder in reversed(folders):
        workspace.remove_empty_folder(joined(source, folder.path))


def _all_below(workspace: Workspace, source: str) -> Iterator[_Moved]:
    """Yield all that is at and below a path, folders before what is in them."""
    pending = [""]
    while pending:
        inner = pending.pop()
        path = joined(source, inner)
        with workspace.opener() as opener:
            above, _, name = path.rpartition("/")
            folder = opener.folder(above)
            name_or_path = os.path.join(folder, name) if isinstance(folder, str) else name
            fd = None if isinstance(folder, str) else folder
            file_stat = os.stat(name_or_path, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(file_stat.st_mode):
                yield _Moved(inner, file_stat, os.readlink(name_or_path, dir_fd=fd))
                continue
            if not (stat.S_ISREG(file_stat.st_mode) or stat.S_ISDIR(file_stat.st_mode)):
                raise InputError(
                    f"{printable(path)} is {kind_name(file_stat.st_mode)}, which cannot be copied "
                    "to another disk",
                    hint="move it away first",
                )
            yield _Moved(inner, file_stat, None)
            if stat.S_ISDIR(file_stat.st_mode):
                names = os.listdir(opener.folder(path))
                pending += [joined(inner, name) for name in sorted(names, reverse=True)]


def _copy_file(workspace: Workspace, old: str, new: str, file_stat: os.stat_result) -> FileThere:
    """Copy a file, durably, with its times and mode; return what it is, with its digest.

    UnsavedError if another file has its name there already.
    """
    whole = hasher()

    def fill(to: int) -> None:
        write_sparse(to, _hashed(fd, whole.update))
        if hasattr(os, "fchmod"):
            os.fchmod(to, stat.S_IMODE(file_stat.st_mode))
        with contextlib.suppress(OSError, OverflowError):
            os.utime(to, ns=(file_stat.st_atime_ns, file_stat.st_mtime_ns))
        flush_to_disk(to)

    fd = workspace.open_file(old)
    try:
        if workspace.stat(new) is None:
            workspace.write_file(new, fill, executable=False, believed=There.NOTHING)
            return FileThere(file_stat, whole.digest())
        for _ in _hashed(fd, whole.update):
            pass
    finally:
        os.close(fd)
    copy, fd = hasher(), workspace.open_file(new)
    try:
        for _ in _hashed(fd, copy.update):
            pass
    finally:
        os.close(fd)
    if copy.digest() != whole.digest():
        raise changed(new)
    return FileThere(file_stat, whole.digest())


def _hashed(fd: int, update: Callable[[bytes], object]) -> Iterator[memoryview]:
    """Yield what a file has, and hash it on the way."""
    while data := os.read(fd, READ_SIZE_BYTES):
        update(data)
        yield memoryview(data)
