"""The user's files: walking them, reading them, and writing them without ever following a link.

Every path here is relative to the top of the worktree, with ``/``. Each component on the way is
opened on its own without following symlinks, so a link that lies in the workspace (or is put
there while dvtool works) cannot lead a write outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import pathspec

from dvtool.atomic import TEMP_PREFIX, temp_name
from dvtool.errors import DvError, InputError, UnsavedError, printable

IGNORE_FILE = ".dvignore"
OPEN_FOLDERS_MAX = 64
_HAS_DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""A named pipe that took a file's place must not block the open."""


@dataclass(slots=True)
class Folder:
    """One folder as found on the disk. Names are sorted nowhere; ignored ones are left out."""

    path: str
    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """(path, what is wrong) of what cannot be versioned: sockets, undecodable names, …"""

    @property
    def empty(self) -> bool:
        """Whether nothing at all was found in it."""
        return not (self.files or self.links or self.folders or self.faults)


At: TypeAlias = tuple[str, int | None]
"""A name and the descriptor of its folder: what the ``*at`` system calls take."""


class Workspace:
    """The files below one worktree. Use as a context manager, or `close` it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._fds: dict[str, int] = {}

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folders held open."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def absolute(self, path: str) -> str:
        """Return the path for messages and for programs outside."""
        return os.path.join(self.root, path) if path else self.root

    # --- reading --------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result | None:
        """Return the lstat of a path, None if there is nothing (or a file stands in the way)."""
        try:
            name, folder = self._at(path)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, UnsavedError):
            return None

    def open_file(self, path: str) -> int:
        """Open a regular file for reading and return its descriptor; a link is never followed."""
        name, folder = self._at(path)
        flags = os.O_RDONLY | _NOFOLLOW | _CLOEXEC | _BINARY | _NONBLOCK
        return os.open(name, flags, dir_fd=folder)

    def read_link(self, path: str) -> str | None:
        """Return where a symlink points, None if there is no symlink."""
        try:
            name, folder = self._at(path)
            return os.readlink(name, dir_fd=folder)
        except (OSError, UnsavedError):
            return None

    def walk(self, path: str, *, dereference: bool = False) -> Iterator[Folder]:
        """Yield the folders at and below `path` (relative paths below it), parents first.

        `.dvignore` files of the folders on the way and of those walked apply, in gitignore syntax.
        """
        ignored = Ignore(self.root, path)
        pending = [""]
        active: set[tuple[int, int]] = set()
        while pending:
            inner = pending.pop()
            full = os.path.join(self.root, path, inner) if inner else os.path.join(self.root, path)
            if dereference and not _first_visit(full, active):
                continue
            folder = _scan(full, inner, ignored, dereference=dereference)
            pending.extend(_join(inner, name) for name in sorted(folder.folders, reverse=True))
            yield folder

    # --- writing --------------------------------------------------------------------------

    def write_file(
        self, path: str, fill: Callable[[int], None], *, executable: bool
    ) -> os.stat_result:
        """Put a new file at `path`: `fill` writes it to the descriptor it is given.

        Only when `fill` has returned does the file take its name, so a failure (or `kill -9`)
        leaves what was there. Returns the lstat of the new file.
        """
        name, folder = self._at(path, create=True)
        base = os.path.dirname(name) if folder is None else ""
        temp = os.path.join(base, temp_name())
        mode = 0o777 if executable else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
        fd = os.open(temp, flags, mode, dir_fd=folder)
        try:
            try:
                fill(fd)
            finally:
                os.close(fd)
            self._replace(temp, name, folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=folder)
            raise
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def write_link(self, path: str, target: str) -> None:
        """Put a symlink at `path`, replacing a file or link."""
        name, folder = self._at(path, create=True)
        base = os.path.dirname(name) if folder is None else ""
        temp = os.path.join(base, temp_name())
        os.symlink(target, temp, dir_fd=folder)
        try:
            self._replace(temp, name, folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=folder)
            raise

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that is there is fine."""
        self._at(path + "/x", create=True)

    def set_executable(self, path: str, executable: bool) -> os.stat_result:
        """Set or clear the executable bits as the read bits allow; return the new lstat."""
        fd = self.open_file(path)
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
            wanted = mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
            if wanted != mode and hasattr(os, "fchmod"):
                os.fchmod(fd, wanted)
            return os.fstat(fd)
        finally:
            os.close(fd)

    def remove(self, path: str) -> None:
        """Remove a file or symlink; one that is gone is fine."""
        try:
            name, folder = self._at(path)
            os.unlink(name, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            return

    def remove_empty_folder(self, path: str) -> bool:
        """Remove a folder if nothing is in it; return whether it is gone."""
        self._forget(path)
        try:
            name, folder = self._at(path)
            os.rmdir(name, dir_fd=folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
                return False
            raise
        return True

    def _replace(self, temp: str, name: str, folder: int | None) -> None:
        try:
            os.replace(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            # An empty folder gives way; one with something in it holds what we know nothing of.
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                raise UnsavedError(
                    f"the folder {printable(name)} stands where a file should go, and is not empty",
                    hint="move what is in it elsewhere, then repeat the command",
                ) from error
            os.replace(temp, name, src_dir_fd=folder, dst_dir_fd=folder)

    # --- the way to a path ----------------------------------------------------------------

    def _at(self, path: str, *, create: bool = False) -> At:
        parent, _, name = path.rpartition("/")
        if not _HAS_DIR_FD:
            return self._checked_path(parent, name, create=create), None
        return name, self._folder(parent, create=create)

    def _folder(self, path: str, *, create: bool) -> int:
        fd = self._fds.get(path)
        if fd is not None:
            return fd
        if path:
            parent, _, name = path.rpartition("/")
            above = self._folder(parent, create=create)
            fd = self._open_folder(name, above, path, create=create)
        else:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
        if len(self._fds) >= OPEN_FOLDERS_MAX:
            # The oldest but the root itself: the folders of a sorted run of paths stay.
            oldest = next(key for key in self._fds if key)
            if oldest != path.rpartition("/")[0]:
                os.close(self._fds.pop(oldest))
        self._fds[path] = fd
        return fd

    def _open_folder(self, name: str, above: int, path: str, *, create: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW | _CLOEXEC
        try:
            return os.open(name, flags, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
            return os.open(name, flags, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._in_the_way(path) from error
            raise

    def _checked_path(self, parent: str, name: str, *, create: bool) -> str:
        # Windows has no descriptors of folders: each component is looked at before use instead.
        at = self.root
        for component in parent.split("/") if parent else ():
            at = os.path.join(at, component)
            try:
                found = os.lstat(at)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(at)
                continue
            if not stat.S_ISDIR(found.st_mode) or os.path.islink(at):
                raise self._in_the_way(os.path.relpath(at, self.root))
        return os.path.join(at, name)

    def _in_the_way(self, path: str) -> UnsavedError:
        return UnsavedError(
            f"{printable(path)} is a symlink or a file where a folder should be; "
            "dvtool does not follow it",
            hint="move it away, then repeat the command",
        )

    def _forget(self, path: str) -> None:
        """Close what is held open at and below a folder, before it is removed or replaced."""
        for key in [key for key in self._fds if key == path or key.startswith(path + "/")]:
            os.close(self._fds.pop(key))


class Ignore:
    """The `.dvignore` rules that apply within one target, in gitignore syntax."""

    def __init__(self, root: str, target: str) -> None:
        self._root = root
        self._target = target
        self._specs: dict[str, pathspec.PathSpec | None] = {}  # type: ignore[type-arg]
        self.active = False
        parts = target.split("/") if target else []
        for depth in range(len(parts)):
            self.enter("/".join(parts[:depth]))

    def enter(self, folder: str) -> None:
        """Read the rules of one more folder (relative to the worktree), if it has any."""
        if folder in self._specs:
            return
        try:
            with open(os.path.join(self._root, folder, IGNORE_FILE), encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            self._specs[folder] = None
            return
        try:
            self._specs[folder] = pathspec.GitIgnoreSpec.from_lines(lines)
        except ValueError as error:
            where = _join(folder, IGNORE_FILE)
            raise DvError(f"{where}: {error}", hint="the syntax is that of .gitignore") from error
        self.active = True

    def ignores(self, inner: str, *, is_folder: bool) -> bool:
        """Whether a path within the target is left out; the deepest rules decide."""
        path = _join(self._target, inner) + ("/" if is_folder else "")
        at = path.rstrip("/").rpartition("/")[0]
        while True:
            spec = self._specs.get(at)
            if spec is not None:
                verdict = spec.check_file(path[len(at) + 1 if at else 0 :]).include
                if verdict is not None:
                    return bool(verdict)
            if not at:
                return False
            at = at.rpartition("/")[0]


def _scan(full: str, inner: str, ignored: Ignore, *, dereference: bool) -> Folder:
    folder = Folder(inner)
    prefix = inner + "/" if inner else ""
    try:
        with os.scandir(full) as found:
            entries = list(found)
    except PermissionError:
        folder.faults.append((inner or ".", "cannot be read (permission denied)"))
        return folder
    if any(entry.name == IGNORE_FILE for entry in entries):
        ignored.enter(_join(ignored._target, inner))
    for entry in entries:
        name = entry.name
        if name.startswith(TEMP_PREFIX):
            continue
        is_folder = entry.is_dir(follow_symlinks=dereference)
        if ignored.active and ignored.ignores(prefix + name, is_folder=is_folder):
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            folder.faults.append((prefix + name, "has a name that is not valid UTF-8"))
            continue
        _sort_in(folder, entry, prefix + name, is_folder, dereference=dereference)
    return folder


def _sort_in(
    folder: Folder, entry: os.DirEntry[str], path: str, is_folder: bool, *, dereference: bool
) -> None:
    if is_folder:
        folder.folders.append(entry.name)
        return
    if entry.is_symlink() and not dereference:
        with contextlib.suppress(FileNotFoundError):
            folder.links[entry.name] = os.readlink(entry.path)
        return
    try:
        found = entry.stat(follow_symlinks=dereference)
    except FileNotFoundError:
        if entry.is_symlink():
            folder.faults.append((path, "is a symlink to nothing"))
        return
    except OSError as error:
        folder.faults.append((path, f"cannot be examined ({error.strerror})"))
        return
    if stat.S_ISREG(found.st_mode):
        folder.files[entry.name] = found
    else:
        folder.faults.append((path, f"is {_kind_name(found.st_mode)}, not a file"))


def _kind_name(mode: int) -> str:
    kinds = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something special")


def _first_visit(full: str, active: set[tuple[int, int]]) -> bool:
    """Whether a folder reached through links was not walked yet: two links may form a loop."""
    found = os.stat(full)
    key = (found.st_dev, found.st_ino)
    if key in active:
        return False
    active.add(key)
    return True


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def is_executable(found: os.stat_result) -> bool:
    """Whether the owner may execute the file, which is the bit that manifests keep."""
    return bool(found.st_mode & stat.S_IXUSR)


def refuse_faults(faults: list[tuple[str, str]], target: str) -> None:
    """Raise an InputError that names what a walk found but cannot version."""
    if not faults:
        return
    named = "\n".join(
        f"  {printable(_join(target, path))} {why}" for path, why in sorted(faults)[:10]
    )
    more = f"\n  … and {len(faults) - 10:,} more" if len(faults) > 10 else ""
    raise InputError(
        f"cannot add {printable(target)}; nothing was changed:\n{named}{more}",
        hint=f"mend or move them, or list them in {IGNORE_FILE}",
    )
