"""The way to a path below a root, with no link followed, also while others change the folders."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple, TypeAlias

from dvtool.errors import InputError, UnsavedError, printable
from dvtool.format.paths import path_fault
from dvtool.workspace.opener import (
    CLOEXEC,
    FOLDER_FLAGS,
    HAS_DIR_FD,
    NO_LINKS,
    Links,
    is_in_the_way,
    open_followed,
)

OPEN_FOLDERS_MAX = 64


class _Held(NamedTuple):
    """A folder held open, and which one it is."""

    fd: int
    device: int
    inode: int


At: TypeAlias = tuple[str, int | None]
"""A name and the descriptor of its folder: what the ``*at`` system calls take."""


class HeldFolders:
    """The folders below one root, each opened below the one before; of links `links` are followed.

    The folders used last stay open, so that a run of neighbours opens each folder once. A folder
    that was moved away or replaced meanwhile is opened anew. For one thread at a time.
    """

    def __init__(self, root: str, links: Links = NO_LINKS) -> None:
        self._root = root
        self._links = links
        self._held: dict[str, _Held] = {}
        """From the least to the most recently used."""

    def close(self) -> None:
        """Release the folders held open."""
        for held in self._held.values():
            os.close(held.fd)
        self._held.clear()

    def at(self, path: str, *, create: bool = False) -> At:
        """Return a path's name and its folder, with `create` made if need be.

        FileNotFoundError if there is no such folder; UnsavedError if a link or a file is where a
        folder should be.
        """
        parent, _, name = path.rpartition("/")
        if create:
            refuse_name(name, path)
        if not HAS_DIR_FD:
            return self._checked_path(parent, name, create=create), None
        return name, self.open(parent, create=create)

    def open(self, path: str, *, create: bool) -> int:
        """Return the descriptor of a folder, which stays open until a few others were asked for."""
        held: _Held | None
        if path:
            parent, _, name = path.rpartition("/")
            above = self.open(parent, create=create)
            held = self._held.pop(path, None)
            if held is not None and not _is_at(held, name, above, follow=path in self._links):
                # The folder was moved away or removed meanwhile: the one that is there now is
                # meant.
                os.close(held.fd)
                held = None
            if held is None:
                held = _hold(self._open_folder(name, above, path, create=create))
        else:
            held = self._held.pop("", None) or _hold(
                os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | CLOEXEC)
            )
        if len(self._held) >= OPEN_FOLDERS_MAX:
            os.close(self._held.pop(next(iter(self._held))).fd)
        self._held[path] = held
        return held.fd

    def _open_folder(self, name: str, above: int, path: str, *, create: bool) -> int:
        refuse_name(name, path)
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
        except OSError as error:
            if not is_in_the_way(error):
                raise
            if path in self._links:
                with contextlib.suppress(OSError):
                    return open_followed(os.path.join(self._root, path), self._links[path])
            raise self._in_the_way(path) from error

    def _checked_path(self, parent: str, name: str, *, create: bool) -> str:
        # Windows has no descriptors of folders: each component is looked at before use instead.
        at = self._root
        for component in parent.split("/") if parent else ():
            at = os.path.join(at, component)
            try:
                folder_stat = os.lstat(at)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(at)
                continue
            if not stat.S_ISDIR(folder_stat.st_mode) or os.path.islink(at):
                raise self._in_the_way(os.path.relpath(at, self._root))
        return os.path.join(at, name)

    def _in_the_way(self, path: str) -> UnsavedError:
        if path in self._links:
            return UnsavedError(
                f"{printable(path)} is a symlink that led to {printable(self._links[path])} when "
                "it was added; it leads elsewhere now, or nothing is there",
                hint="mount the disk or mend the link; or have it followed where it leads now: "
                f"dv add --dereference {printable(path)}",
            )
        return UnsavedError(
            f"{printable(path)} is a symlink or a file where a folder should be; "
            "dvtool does not follow it",
            hint="move it away, then repeat the command; a link to a folder of data is followed "
            "once it, or what it is in, was added with --dereference",
        )

    def forget(self, path: str) -> None:
        """Close what is held open at and below a folder, before it is removed or replaced."""
        for key in [key for key in self._held if key == path or key.startswith(path + "/")]:
            os.close(self._held.pop(key).fd)


def refuse_name(name: str, path: str) -> None:
    """Raise an InputError for a name that leads elsewhere, or into git's own folder.

    Manifests with such paths are refused as they are read; nothing gets past here in any case.
    """
    if name and name[0] not in ".gG" and name.isascii():
        return
    fault = path_fault(name)
    if fault:
        raise InputError(f"{printable(path)} {fault}")


def _hold(fd: int) -> _Held:
    folder_stat = os.fstat(fd)
    return _Held(fd, folder_stat.st_dev, folder_stat.st_ino)


def _is_at(held: _Held, name: str, above: int, *, follow: bool) -> bool:
    try:
        folder_stat = os.stat(name, dir_fd=above, follow_symlinks=follow)
    except FileNotFoundError:
        return False
    return (held.device, held.inode) == (folder_stat.st_dev, folder_stat.st_ino)
