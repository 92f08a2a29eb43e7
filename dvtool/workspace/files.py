"""The user's files: reading and writing them, replacing and removing, without following a link.

Every path here is relative to the top of the worktree, with ``/``. Each component on the way is
opened on its own without following symlinks, so a link in the workspace (or put there while dvtool
works) cannot lead a write outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from dvtool.errors import UnsavedError
from dvtool.format.digest import EMPTY
from dvtool.format.paths import joined
from dvtool.system.atomic import flush_to_disk, is_temp_name, parse_aside, temp_name
from dvtool.system.rename import rename_new
from dvtool.system.stat import Stamp
from dvtool.workspace.held_folders import At, HeldFolders, refuse_name
from dvtool.workspace.last_look import (
    Believed,
    FileThere,
    There,
    changed,
    found_at,
    give_back,
    is_expendable,
    put,
    same_content,
    take,
    temp_for,
)
from dvtool.workspace.new_file import copy_bytes, settled_time, write_at
from dvtool.workspace.opener import (
    FILE_FLAGS,
    HAS_DIR_FD,
    NO_LINKS,
    Links,
    Opener,
)
from dvtool.workspace.sparse import write_sparse
from dvtool.workspace.unnamed import UNKNOWN_SIZE, UnnamedFiles

UNFINISHED_STALE_S = 3600
"""No write of ours rests so long: an unfinished file of this age is one that a crash left."""
COARSEST_NS = 2_000_000_000
"""FAT stamps files with every second second."""
KEPT = "dv-kept"
"""The name of what a crash left aside and what may be nowhere else."""
_PROBE = "a\u00e9"
_EMPTY_FILE = FileThere(None, EMPTY)
_PROBE_OTHERS = ("A\u00e9", "ae\u0301")
NewFile: TypeAlias = tuple[str, bool, Iterable[memoryview]]
"""A file to put where nothing is: its path, whether it is executable, and its bytes in parts."""


class Workspace:
    """The files below one worktree. Use as a context manager, or `close` it.

    Whatever replaces or removes takes what the caller `believed` to be at the path, and raises
    UnsavedError, with nothing lost, if it was something else when the moment came. The default is
    what is there when the method is called. `modes` tells whether the executable bits of the files
    mean anything. The symlinks of `links` count as the folders that they lead to.
    """

    def __init__(self, root: str, *, modes: bool = True, links: Links = NO_LINKS) -> None:
        self.root = root
        self.modes = modes
        self.links = links if HAS_DIR_FD else NO_LINKS
        self._folders = HeldFolders(root, self.links)
        self._unnamed = UnnamedFiles()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folders held open."""
        self._folders.close()

    def absolute(self, path: str) -> str:
        """Return the path for messages and for programs outside."""
        return os.path.join(self.root, path) if path else self.root

    def follow(self, links: Links) -> None:
        """Follow these links, and no others, from now on."""
        self._folders.close()
        self.links = links if HAS_DIR_FD else NO_LINKS
        self._folders = HeldFolders(self.root, self.links)

    def opener(self) -> Opener:
        """Return what opens files here for reading; for another thread too."""
        return Opener(self.root, self.links)

    # --- reading --------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result | None:
        """Return the lstat of a path, None if there is nothing (or a file is in the way)."""
        try:
            name, folder = self._folders.at(path)
            followed = self._followed(path)
            return followed or os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, UnsavedError):
            return None

    def _followed(self, path: str) -> os.stat_result | None:
        """Return the stat of the folder that a link leads to, None if it is not followed there."""
        if path in self.links:
            with contextlib.suppress(OSError, UnsavedError):
                return os.fstat(self._folders.open(path, create=False))
        return None

    def open_file(self, path: str) -> int:
        """Open a regular file for reading and return its descriptor; a link is never followed."""
        name, folder = self._folders.at(path)
        return os.open(name, FILE_FLAGS, dir_fd=folder)

    def read_bytes(self, path: str, *, size_max: int) -> bytes | None:
        """Return a small file of the repository's own, None if there is nothing.

        OSError, for `reason` to put into words, if it is anything but an ordinary file, or has
        more than `size_max` bytes.
        """
        try:
            fd = self.open_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is not an ordinary file", path)
            with open(fd, "rb", closefd=False) as file:
                data = file.read(size_max + 1)
        finally:
            os.close(fd)
        if len(data) > size_max:
            raise OSError(errno.EFBIG, f"it has more than {size_max:,} bytes", path)
        return data

    def read_link(self, path: str) -> str | None:
        """Return where a symlink points, None if there is none or it counts as a folder."""
        try:
            name, folder = self._folders.at(path)
            return None if self._followed(path) else os.readlink(name, dir_fd=folder)
        except (OSError, UnsavedError):
            return None

    # --- writing --------------------------------------------------------------------------

    def write_file(
        self,
        path: str,
        fill: Callable[[int], None],
        *,
        executable: bool,
        believed: Believed | None = None,
    ) -> os.stat_result:
        """Put a new file at `path`: `fill` writes it to the descriptor it is given.

        Only when `fill` has returned does the file take its name, so a failure (or `kill -9`)
        leaves what was there. Returns the lstat of the new file, as it was when it was complete:
        should somebody have replaced it since, that does not match what is there.
        """
        with self._owned(path, create=True) as (name, folder):
            expected = found_at(name, folder) if believed is None else believed
            complete = write_at(name, folder, fill, executable, expected, path)
            # The rename changed the ctime, so the stat is read once more; it may be another file by
            # now.
            renamed = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return renamed if same_content(complete, renamed) else complete

    def write_data(
        self,
        path: str,
        fill: Callable[[int], None],
        *,
        executable: bool,
        believed: Believed | None = None,
    ) -> Stamp:
        """Do as `write_file` for a file of a target; see `settled_time` about the stamp."""
        settled = False

        def fill_and_settle(fd: int) -> None:
            nonlocal settled
            fill(fd)
            settled = settled_time(fd) is not None

        stamp = self.write_file(path, fill_and_settle, executable=executable, believed=believed)
        size = stamp.st_size if settled else UNKNOWN_SIZE
        return Stamp(stamp.st_mtime_ns, stamp.st_ctime_ns, size, stamp.st_ino)

    def clock_ns(self, path: str) -> int:
        """Return the stamp of a file that is made now, on the disk of a path.

        Only such a time can be compared with other stamps there: a disk has its own clock, perhaps
        that of another machine, and counts in whole seconds or pairs of them. Where nothing can be
        made the time is guessed, late enough for the coarsest clock.
        """
        folder = path
        while folder and (
            (folder_stat := self.stat(folder)) is None or not stat.S_ISDIR(folder_stat.st_mode)
        ):
            folder = folder.rpartition("/")[0]
        try:
            with self._owned(joined(folder, temp_name())) as (temp, at):
                fd = -1 if at is None else self._unnamed.open(at, False)
                named = fd < 0
                if named:
                    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=at)
                try:
                    return os.fstat(fd).st_mtime_ns
                finally:
                    os.close(fd)
                    if named:
                        take(temp, at, found_at(temp, at), path)
        except (OSError, UnsavedError):
            return time.time_ns() - COARSEST_NS

    @contextlib.contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Give an error the whole path: calls in an open folder know a name alone."""
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = self.absolute(path), None
            raise

    @contextlib.contextmanager
    def _owned(self, path: str, *, create: bool = False) -> Iterator[At]:
        """Yield a path's name and its folder, which stays open whatever is opened meanwhile."""
        name, held = self._folders.at(path, create=create)
        folder = None if held is None else os.dup(held)
        try:
            with self._naming(path):
                yield name, folder
        finally:
            if folder is not None:
                os.close(folder)

    def write_new(self, folder: str, files: Iterable[NewFile]) -> list[Stamp | None]:
        """Put files into one folder, made if need be, where nothing is; return the stamp of each.

        The stamps can be believed, see `settled_time`. Nothing is ever replaced, an interruption
        leaves no unfinished file: a file gets its name, which must be free, once its last byte is
        written. None is returned for a file that was not put there, as its name is taken by now or
        the disk has no such files; then the caller can call `write_file`.
        """
        stamps: list[Stamp | None] = []
        at = self._folders.open(folder, create=True) if self._unnamed.available else -1
        prefix = len(folder) + 1 if folder else 0
        path = folder
        try:
            for path, executable, parts in files:
                name = path[prefix:]
                refuse_name(name, path)
                fd = self._unnamed.open(at, executable)
                if fd < 0:
                    stamps.append(None)
                    continue
                try:
                    write_sparse(fd, parts)
                    stamps.append(self._unnamed.give_name(fd, name, at))
                finally:
                    os.close(fd)
        except OSError as error:
            # Calls in an open folder know a name alone.
            error.filename, error.filename2 = self.absolute(path), None
            raise
        return stamps

    def write_bytes(self, path: str, data: bytes, *, believed: Believed | None = None) -> None:
        """Put a small file of the repository's own at `path`, durably; see `write_file`."""

        def fill(fd: int) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            flush_to_disk(fd)

        self.write_file(path, fill, executable=False, believed=believed)
        parent = path.rpartition("/")[0]
        if HAS_DIR_FD:
            flush_to_disk(self._folders.open(parent, create=False))

    def write_link(self, path: str, target: str, *, believed: Believed | None = None) -> None:
        """Put a symlink at `path`."""
        with self._owned(path, create=True) as (name, folder):
            expected = found_at(name, folder) if believed is None else believed
            temp = temp_for(name, expected)
            os.symlink(target, temp, dir_fd=folder)
            try:
                put(temp, name, folder, expected, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temp, dir_fd=folder)
                raise

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that is there is fine."""
        self._folders.at(path + "/x", create=True)

    def set_executable(
        self, path: str, executable: bool, *, believed: Believed | None = None
    ) -> os.stat_result:
        """Set or clear the executable bits as the read bits allow; return the new lstat.

        A file that has other names (hard links) is replaced by a copy: the other names may be
        anywhere.
        """
        try:
            fd = self.open_file(path)
        except OSError as error:
            raise changed(path) from error
        try:
            file_stat = os.fstat(fd)
            if isinstance(believed, FileThere) and believed.stat is not None:
                if not same_content(believed.stat, file_stat):
                    raise changed(path)
            elif believed is not None:
                raise changed(path)
            mode = stat.S_IMODE(file_stat.st_mode)
            wanted = mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
            if wanted == mode or not hasattr(os, "fchmod"):
                return file_stat
            if file_stat.st_nlink > 1:
                return self.write_file(
                    path,
                    lambda to: copy_bytes(fd, to, wanted),
                    executable=False,
                    believed=believed or FileThere(file_stat),
                )
            os.fchmod(fd, wanted)
            return os.fstat(fd)
        finally:
            os.close(fd)

    # --- removing what is there, and moving it ----------------------------------------------

    def remove(self, path: str, *, believed: Believed | None = None) -> None:
        """Remove a file, symlink or empty folder; one that is gone is fine."""
        try:
            with self._owned(path) as (name, folder):
                expected = found_at(name, folder) if believed is None else believed
                take(name, folder, expected, path)
        except (FileNotFoundError, NotADirectoryError):
            return

    def remove_empty_folder(self, path: str) -> bool:
        """Remove a folder if nothing is in it; return whether it is gone."""
        self._folders.forget(path)
        try:
            name, folder = self._folders.at(path)
        except FileNotFoundError:
            return True
        try:
            take(name, folder, There.FOLDER, path)
        except UnsavedError:
            return False
        return True

    def rename(self, source: str, destination: str) -> None:
        """Rename a file, link or folder; UnsavedError if something is at the destination."""
        self._folders.forget(source)
        self._folders.forget(destination)
        # Held open here: opening the folders of the source may close this one.
        with self._owned(destination, create=True) as (new, into):
            old, folder = self._folders.at(source)
            try:
                rename_new(old, new, folder=folder, into=into)
            except FileExistsError as error:
                raise changed(destination) from error

    def bring_in(self, source: str, destination: str) -> None:
        """Move a folder of the same disk here, by its whole path.

        UnsavedError if something is at the destination.
        """
        above, name = os.path.split(source)
        with self._owned(destination, create=True) as (new, into), Opener(above) as opener:
            place = opener.folder("")
            # Between two descriptors a rename is sure to replace nothing.
            old, at = (name, place) if isinstance(place, int) else (source, None)
            try:
                rename_new(old, new, folder=at, into=into)
            except FileExistsError as error:
                raise changed(destination) from error

    # --- what crashes leave, and what the filesystem does -----------------------------------

    def folds_names(self, path: str) -> bool:
        """Whether the filesystem takes names that differ in case or Unicode form for one.

        Asked of the filesystem itself, where `path` is or will be.
        """
        folder = path
        while folder and (
            (folder_stat := self.stat(folder)) is None or not stat.S_ISDIR(folder_stat.st_mode)
        ):
            folder = folder.rpartition("/")[0]
        top = joined(folder, temp_name())
        self.write_file(f"{top}/{_PROBE}", lambda _: None, executable=False, believed=There.NOTHING)
        try:
            return any(self.stat(f"{top}/{name}") is not None for name in _PROBE_OTHERS)
        finally:
            self.remove(f"{top}/{_PROBE}", believed=_EMPTY_FILE)
            self.remove_empty_folder(top)

    def sweep(self, paths: Iterable[str]) -> int:
        """Remove unfinished files that a crash left; return how many bytes they had.

        To be called while no other process may write here; those younger than an hour stay all
        the same, as they may be another machine's on a shared disk.
        """
        oldest = time.time() - UNFINISHED_STALE_S
        size = 0
        for path in paths:
            with contextlib.suppress(OSError, UnsavedError):
                file_stat = self.stat(path)
                name = path.rpartition("/")[2]
                if file_stat is None or not is_temp_name(name) or file_stat.st_mtime >= oldest:
                    continue
                if parse_aside(name) is not None:
                    size += self._sweep_aside(path, file_stat, oldest)
                elif stat.S_ISDIR(file_stat.st_mode):  # as `folds_names` makes
                    self.remove(f"{path}/{_PROBE}", believed=_EMPTY_FILE)
                    self.remove_empty_folder(path)
                else:
                    self.remove(path)
                    size += file_stat.st_size
        return size

    def _sweep_aside(self, path: str, file_stat: os.stat_result, oldest: float) -> int:
        """Remove what was moved aside, if it is what its name says; else give it a name again."""
        if file_stat.st_ctime >= oldest:  # its content may be of any age
            return 0
        name, folder = self._folders.at(path)
        if is_expendable(name, folder):
            take(name, folder, found_at(name, folder), path)
            return file_stat.st_size
        give_back(name, os.path.join(os.path.dirname(name), KEPT), folder)
        return 0

    def sweep_beside(self, path: str) -> None:
        """As `sweep`, for the unfinished files in the folder of a path."""
        folder = path.rpartition("/")[0]
        with contextlib.suppress(OSError), self.opener() as opener:
            names = os.listdir(opener.folder(folder))
            self.sweep(joined(folder, name) for name in names if is_temp_name(name))
