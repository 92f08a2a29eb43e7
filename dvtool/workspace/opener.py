"""Opening the user's files for reading, with no link followed at any component of a path.

A path as a whole cannot be opened so: the system follows links in all components but the last. So
each folder on the way is opened by itself, below the one before. The exception are links to folders
that the user had followed in this worktree (see `open_followed`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import TypeAlias

HELD_MAX = 64
"""How many of the folders on the way stay open; deeper folders are opened anew."""
HAS_DIR_FD = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
READ_FLAGS = os.O_RDONLY | CLOEXEC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""A named pipe that took a file's place must not block the open."""
FILE_FLAGS = READ_FLAGS | NOFOLLOW
NOATIME = getattr(os, "O_NOATIME", 0)
"""Reading leaves no time of access, which the disk would write down; for the file's owner alone."""
FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | NOFOLLOW | CLOEXEC

Links: TypeAlias = Mapping[str, str]
"""The symlinks that are followed, by their paths from the top of the worktree, and the folder that
each leads to, as an absolute path without links."""
NO_LINKS: Links = {}

Place: TypeAlias = int | str
"""A folder: its descriptor or, where folders have none (as on Windows), its path."""


class Opener:
    """Opens files and folders below `root`. Use as a context manager; for one thread at a time.

    The folders on the way to the last path stay open, so that a run of neighbours opens each folder
    once. A file that was opened is read even if it is moved meanwhile, never its replacement. Every
    method raises the OSError that the system gave; `reason` puts it into words.
    """

    def __init__(self, root: str, links: Links = NO_LINKS) -> None:
        self._root = root
        self._links = links
        self._file_flags = FILE_FLAGS | NOATIME
        self._chain: list[tuple[str, int]] = []
        """The paths of folders held open, each below the one before, with their descriptors."""

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folders held open."""
        while self._chain:
            os.close(self._chain.pop()[1])

    def file(self, path: str) -> int:
        """Open a file of any kind; the descriptor is the caller's, who has to look at the kind."""
        folder, _, name = path.rpartition("/")
        chain = self._chain
        at = chain[-1][1] if chain and chain[-1][0] == folder else self.folder(folder)
        if isinstance(at, str):
            return open_in(at, name)
        try:
            return os.open(name, self._file_flags, dir_fd=at)
        except PermissionError as error:
            if error.errno != errno.EPERM or self._file_flags == FILE_FLAGS:
                raise
        fd = os.open(name, FILE_FLAGS, dir_fd=at)
        self._file_flags = FILE_FLAGS  # it is another's, and so are its neighbours most likely
        return fd

    def folder(self, path: str) -> Place:
        """Open a folder ("" is the root). The descriptor stays open until the next call only."""
        if not HAS_DIR_FD:
            return self._checked(path)
        if self._chain and self._chain[-1][0] == path:
            return self._chain[-1][1]
        while self._chain and not _is_within(path, self._chain[-1][0]):
            os.close(self._chain.pop()[1])
        if not self._chain:
            self._hold("", os.open(self._root, FOLDER_FLAGS & ~NOFOLLOW))
        at, fd = self._chain[-1]
        for name in path[len(at) :].split("/"):
            if not name:
                continue
            if name in (".", ".."):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
            at = f"{at}/{name}" if at else name
            fd = self._below(fd, name, at)
            self._hold(at, fd)
        return fd

    def _below(self, fd: int, name: str, path: str) -> int:
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=fd)
        except OSError as error:
            if path in self._links and is_in_the_way(error):
                return open_followed(os.path.join(self._root, path), self._links[path])
            raise

    def _hold(self, path: str, fd: int) -> None:
        if len(self._chain) >= HELD_MAX:
            os.close(self._chain.pop(0)[1])
        self._chain.append((path, fd))

    def _checked(self, path: str) -> str:
        # Each component is looked at before use instead.
        at = self._root
        for component in path.split("/") if path else ():
            at = os.path.join(at, component)
            if component in ("", ".", "..") or not stat.S_ISDIR(os.lstat(at).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return at


def open_in(folder: Place, name: str) -> int:
    """Open a file of a folder for reading; a symlink is an OSError."""
    if isinstance(folder, str):
        return os.open(os.path.join(folder, name), FILE_FLAGS)
    return os.open(name, FILE_FLAGS, dir_fd=folder)


def open_followed(link_path: str, folder: str) -> int:
    """Open the folder to which the symlink at `link_path` led when the user had it followed.

    OSError if it leads elsewhere by now, or if no folder is there.
    """
    if os.path.realpath(link_path) != folder:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), link_path)
    return os.open(folder, FOLDER_FLAGS)


def is_in_the_way(error: OSError) -> bool:
    """Whether a folder could not be opened because a symlink or a file has its place."""
    return error.errno in (errno.ELOOP, errno.ENOTDIR)


def reason(error: OSError) -> str:
    """Say in words why something could not be opened."""
    if error.errno == errno.ELOOP:
        return "it is a symlink"
    if error.errno == errno.ENOTDIR:
        return "a symlink or a file is where a folder on the way should be"
    return error.strerror or str(error)


def _is_within(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(above + "/")
