"""The user's files: walking them, reading them, and writing them without ever following a link.

Every path here is relative to the top of the worktree, with ``/``. Each component on the way is
opened on its own without following symlinks, so a link that lies in the workspace (or is put
there while dvtool works) cannot lead a write outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from dvtool.errors import DvError, InputError, UnsavedError, printable
from dvtool.format.digest import Digest
from dvtool.format.manifest import path_fault
from dvtool.system.atomic import flush_to_disk, is_temp_name, temp_name
from dvtool.system.lazy import later
from dvtool.system.stat import Stamp, Stat, stat_of
from dvtool.workspace.folder_state import look_of
from dvtool.workspace.opener import (
    FILE_FLAGS,
    FOLDER_FLAGS,
    HAS_DIR_FD,
    Opener,
    Place,
    open_in,
    reason,
)

if TYPE_CHECKING:
    import pathspec
else:
    pathspec = later("pathspec")

IGNORE_FILE = ".dvignore"
IGNORE_SIZE_MAX_BYTES = 1 << 20
OPEN_FOLDERS_MAX = 64
COPY_SIZE_BYTES = 1 << 20
UNNAMED_FLAGS = os.O_WRONLY | getattr(os, "O_TMPFILE", 0) | getattr(os, "O_CLOEXEC", 0)
DESCRIPTORS = "/proc/self/fd"
UNFINISHED_STALE_S = 3600
"""No write of ours rests so long: an unfinished file of this age is one that a crash left."""
_STAR = "[^/]*"
_PROBE = "a\u00e9"
_PROBE_OTHERS = ("A\u00e9", "ae\u0301")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS})
"""How a filesystem, or an old kernel, says that it has no files without names."""
_NO_LINK = frozenset({errno.ENOENT, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK})
"""Why such a file may get no name, though it could be made: no /proc, no links, a folder gone."""


class Folder(msgspec.Struct):
    """One folder as found on the disk. Names are sorted nowhere; ignored ones are left out."""

    path: str
    files: dict[str, Stat] = msgspec.field(default_factory=dict)
    links: dict[str, str] = msgspec.field(default_factory=dict)
    folders: list[str] = msgspec.field(default_factory=list)
    followed: set[str] = msgspec.field(default_factory=set)
    """Those of `folders` that are symlinks to follow."""
    left_out: bool = False
    """Whether ignore rules left something out."""
    excluded: bool = False
    """Whether they leave out the folder itself, where a walk began: then that is all of it."""
    unfinished: list[str] = msgspec.field(default_factory=list)
    """Files that an interrupted write left; they count for nothing else."""
    faults: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """(path, what is wrong) of what cannot be versioned: sockets, undecodable names, …"""
    look: Digest | None = None
    """What `folder_state` makes of it; None if there is more in it than counts, or nothing."""

    @property
    def empty(self) -> bool:
        """Whether nothing at all was found in it."""
        return not (self.files or self.links or self.folders or self.faults)


class _Pending(NamedTuple):
    """A folder still to be walked, and the identities of the folders above it."""

    inner: str
    behind_link: bool
    above: frozenset[tuple[int, int]]


class _Held(NamedTuple):
    """A folder held open, and which one it is."""

    fd: int
    device: int
    inode: int


At: TypeAlias = tuple[str, int | None]
"""A name and the descriptor of its folder: what the ``*at`` system calls take."""
NewFile: TypeAlias = tuple[str, bool, Iterable[memoryview]]
"""A file to put where nothing is: its path, whether it is executable, and its bytes in parts."""
Skip: TypeAlias = Callable[[str], bool]
"""Whether a folder at a path (below where the walk began) is passed over."""
Follow: TypeAlias = Callable[[str, str], bool]
"""Whether the symlink at a path (below where the walk began), to a target, is to be followed."""


class Workspace:
    """The files below one worktree. Use as a context manager, or `close` it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._held: dict[str, _Held] = {}
        """Those used last stand last."""
        self._has_unnamed = hasattr(os, "O_TMPFILE") and os.path.isdir(DESCRIPTORS)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folders held open."""
        for held in self._held.values():
            os.close(held.fd)
        self._held.clear()

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
        """Return where a symlink points, None if there is no symlink."""
        try:
            name, folder = self._at(path)
            return os.readlink(name, dir_fd=folder)
        except (OSError, UnsavedError):
            return None

    def walk(
        self,
        path: str,
        *,
        follow: Follow | None = None,
        via_link: bool = False,
        skip: Skip | None = None,
    ) -> Iterator[Folder]:
        """Yield the folders at and below `path` (relative paths below it), parents first.

        Those for which `skip` says so are named in the folder above them, and no more.

        `.dvignore` files of the folders on the way and of those walked apply, in gitignore syntax;
        one that leaves out `path` itself leaves a lone `excluded` folder.
        A symlink for which `follow` says so counts as what it points to, and with `via_link` one
        at `path` itself; no other is followed, also if it takes a folder's place meanwhile.
        """
        ignored = Ignore(self.root, path)
        if ignored.excluded:
            yield Folder("", left_out=True, excluded=True)
            return
        pending: list[_Pending] = [_Pending("", via_link, frozenset())]
        with Opener(self.root) as opener:
            while pending:
                at = pending.pop()
                left = len(pending)
                folder = self._walk_one(path, at, opener, ignored, follow, pending)
                if skip is not None:
                    pending[left:] = [one for one in pending[left:] if not skip(one.inner)]
                yield folder

    def _walk_one(
        self,
        path: str,
        at: _Pending,
        opener: Opener,
        ignored: Ignore,
        follow: Follow | None,
        pending: list[_Pending],
    ) -> Folder:
        """Look at one folder; its own folders go to `pending`."""
        place = _join(path, at.inner)
        own: int | None = None
        try:
            if at.behind_link and HAS_DIR_FD:
                own = os.open(self.absolute(place), FOLDER_FLAGS & ~_NOFOLLOW)
            there: Place
            if own is not None:
                there = own
            else:
                there = self.absolute(place) if at.behind_link else opener.folder(place)
            above = at.above
            if follow is not None:
                found = os.stat(there)
                if (here := (found.st_dev, found.st_ino)) in above:
                    fault = (at.inner, "is a symlink to a folder it lies in")
                    return Folder(at.inner, faults=[fault])
                above |= {here}
            folder = _scan(there, at.inner, ignored, follow)
        except OSError as error:
            why = f"cannot be read ({reason(error)})"
            return Folder(at.inner, faults=[(at.inner or ".", why)])
        finally:
            if own is not None:
                os.close(own)
        pending.extend(
            _Pending(_join(at.inner, name), at.behind_link or name in folder.followed, above)
            for name in sorted(folder.folders, reverse=True)
        )
        return folder

    # --- writing --------------------------------------------------------------------------

    def write_file(
        self, path: str, fill: Callable[[int], None], *, executable: bool
    ) -> os.stat_result:
        """Put a new file at `path`: `fill` writes it to the descriptor it is given.

        Only when `fill` has returned does the file take its name, so a failure (or `kill -9`)
        leaves what was there. Returns the lstat of the new file, as it was when it was complete:
        should somebody have replaced it since, that does not match what is there.
        """
        name, held = self._at(path, create=True)
        if held is None:
            return self._write_at(name, None, fill, executable)
        # Ours to the end: `fill` may look at a path, find that the folder is another by now, and
        # let go of the one that is held.
        folder = os.dup(held)
        try:
            return self._write_at(name, folder, fill, executable)
        finally:
            os.close(folder)

    def _write_at(
        self, name: str, folder: int | None, fill: Callable[[int], None], executable: bool
    ) -> os.stat_result:
        base = os.path.dirname(name) if folder is None else ""
        temp = os.path.join(base, temp_name())
        mode = 0o777 if executable else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
        fd = os.open(temp, flags, mode, dir_fd=folder)
        try:
            try:
                fill(fd)
                complete = os.fstat(fd)
            finally:
                os.close(fd)
            self._replace(temp, name, folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=folder)
            raise
        # The rename moved the ctime: so the file is asked once more, unless it is another by now.
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        ours = (complete.st_ino, complete.st_size, complete.st_mtime_ns)
        return found if ours == (found.st_ino, found.st_size, found.st_mtime_ns) else complete

    def write_new(self, folder: str, files: Iterable[NewFile]) -> list[Stamp | None]:
        """Put files of one folder, made if need be, where nothing is; return what each is then.

        Nothing is ever replaced, and whatever interrupts it leaves no unfinished file: a file gets
        its name, which must be free, once its last byte is there. None stands for one that was not
        put there: something has its name by now, or such files cannot be had here. Whoever gets
        that can call `write_file`.
        """
        stamps: list[Stamp | None] = []
        at = self._folder(folder, create=True) if self._has_unnamed else -1
        for path, executable, parts in files:
            name = path[len(folder) + 1 :] if folder else path
            _refuse_name(name, path)
            fd = self._open_unnamed(at, executable)
            if fd < 0:
                stamps.append(None)
                continue
            try:
                for data in parts:
                    while data:
                        data = data[os.write(fd, data) :]
                complete = os.fstat(fd)
                stamps.append(self._named(fd, name, at, complete))
            finally:
                os.close(fd)
        return stamps

    def _open_unnamed(self, folder: int, executable: bool) -> int:
        """Make a file without a name, -1 if there are none here."""
        if not self._has_unnamed:
            return -1
        try:
            return os.open(".", UNNAMED_FLAGS, 0o777 if executable else 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            self._has_unnamed = False
            return -1

    def _named(self, fd: int, name: str, folder: int, complete: os.stat_result) -> Stamp | None:
        """Give a file its name, unless something has it; return the file's stamp."""
        try:
            os.link(f"{DESCRIPTORS}/{fd}", name, dst_dir_fd=folder)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._has_unnamed = False
            return None
        # The new name moved the ctime; whatever else moved, somebody else did.
        found = os.fstat(fd)
        ours = complete.st_mtime_ns == found.st_mtime_ns and complete.st_size == found.st_size
        ctime_ns = found.st_ctime_ns if ours else complete.st_ctime_ns
        return Stamp(complete.st_mtime_ns, ctime_ns, complete.st_size, complete.st_ino)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Put a small file of the repository's own at `path`, durably; see `write_file`."""

        def fill(fd: int) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            flush_to_disk(fd)

        self.write_file(path, fill, executable=False)
        parent = path.rpartition("/")[0]
        if HAS_DIR_FD:
            flush_to_disk(self._folder(parent, create=False))

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
        """Set or clear the executable bits as the read bits allow; return the new lstat.

        A file that has other names (hard links) is replaced by a copy: those may lie anywhere.
        """
        fd = self.open_file(path)
        try:
            found = os.fstat(fd)
            mode = stat.S_IMODE(found.st_mode)
            wanted = mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
            if wanted == mode or not hasattr(os, "fchmod"):
                return found
            if found.st_nlink > 1:
                return self.write_file(path, lambda to: _copy(fd, to, wanted), executable=False)
            os.fchmod(fd, wanted)
            return os.fstat(fd)
        finally:
            os.close(fd)

    def rename(self, source: str, destination: str) -> None:
        """Rename a file, link or folder; nothing must be at the destination."""
        self._forget(source)
        self._forget(destination)
        new, into = self._at(destination, create=True)
        # Held open twice: the way to the one may push the other's folder out.
        into = None if into is None else os.dup(into)
        try:
            old, folder = self._at(source)
            os.rename(old, new, src_dir_fd=folder, dst_dir_fd=into)
        finally:
            if into is not None:
                os.close(into)

    def folds_names(self, path: str) -> bool:
        """Whether the filesystem takes names that differ in case or Unicode form for one.

        Asked of the filesystem itself, where `path` is or will be.
        """
        folder = path
        while folder and ((found := self.stat(folder)) is None or not stat.S_ISDIR(found.st_mode)):
            folder = folder.rpartition("/")[0]
        top = _join(folder, temp_name())
        self.write_file(f"{top}/{_PROBE}", lambda _: None, executable=False)
        try:
            return any(self.stat(f"{top}/{name}") is not None for name in _PROBE_OTHERS)
        finally:
            self.remove(f"{top}/{_PROBE}")
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
                found = self.stat(path)
                name = path.rpartition("/")[2]
                if found is None or not is_temp_name(name) or found.st_mtime >= oldest:
                    continue
                if stat.S_ISDIR(found.st_mode):  # as `folds_names` makes
                    self.remove(f"{path}/{_PROBE}")
                    self.remove_empty_folder(path)
                else:
                    self.remove(path)
                    size += found.st_size
        return size

    def sweep_beside(self, path: str) -> None:
        """As `sweep`, for the unfinished files in the folder that a path lies in."""
        folder = path.rpartition("/")[0]
        with contextlib.suppress(OSError), Opener(self.root) as opener:
            names = os.listdir(opener.folder(folder))
            self.sweep(_join(folder, name) for name in names if is_temp_name(name))

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
        if create:
            _refuse_name(name, path)
        if not HAS_DIR_FD:
            return self._checked_path(parent, name, create=create), None
        return name, self._folder(parent, create=create)

    def _folder(self, path: str, *, create: bool) -> int:
        held: _Held | None
        if path:
            parent, _, name = path.rpartition("/")
            above = self._folder(parent, create=create)
            held = self._held.pop(path, None)
            if held is not None and not _is_at(held, name, above):
                # Moved away or removed meanwhile: what stands there now is meant.
                os.close(held.fd)
                held = None
            if held is None:
                held = _hold(self._open_folder(name, above, path, create=create))
        else:
            held = self._held.pop("", None) or _hold(
                os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
            )
        if len(self._held) >= OPEN_FOLDERS_MAX:
            os.close(self._held.pop(next(iter(self._held))).fd)
        self._held[path] = held
        return held.fd

    def _open_folder(self, name: str, above: int, path: str, *, create: bool) -> int:
        _refuse_name(name, path)
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
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
        for key in [key for key in self._held if key == path or key.startswith(path + "/")]:
            os.close(self._held.pop(key).fd)


def _copy(source: int, to: int, mode: int) -> None:
    os.lseek(source, 0, os.SEEK_SET)
    while data := memoryview(os.read(source, COPY_SIZE_BYTES)):
        while data:
            data = data[os.write(to, data) :]
    os.fchmod(to, mode)


def _refuse_name(name: str, path: str) -> None:
    """Raise an InputError for a name that leads elsewhere, or into git's own folder.

    Manifests with such paths are refused as they are read; nothing gets past here in any case.
    """
    if name and name[0] not in ".gG" and name.isascii():
        return
    fault = path_fault(name)
    if fault:
        raise InputError(f"{printable(path)} {fault}")


def _hold(fd: int) -> _Held:
    found = os.fstat(fd)
    return _Held(fd, found.st_dev, found.st_ino)


def _is_at(held: _Held, name: str, above: int) -> bool:
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (held.device, held.inode) == (found.st_dev, found.st_ino)


class Ignore:
    """The `.dvignore` rules that apply within one target, in gitignore syntax."""

    def __init__(self, root: str, target: str, *, is_folder: bool = True) -> None:
        self.target = target
        self._rules: dict[str, tuple[_Rule, ...]] = {}
        self._excluded = False
        self.active = False
        parts = target.split("/") if target else []
        with Opener(root) as opener:
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self.enter(folder, opener.folder(folder))
                on_the_way = is_folder or depth < len(parts) - 1
                if self._verdict(parts[: depth + 1], is_folder=on_the_way):
                    self._excluded = True

    @property
    def excluded(self) -> bool:
        """Whether the target itself, or a folder above it, is left out."""
        return self._excluded

    def enter(self, folder: str, place: Place) -> None:
        """Read the rules of one more folder (relative to the worktree), which lies at `place`."""
        if folder in self._rules:
            return
        where = _join(folder, IGNORE_FILE)
        self._rules[folder] = ()
        text = _ignore_text(where, place)
        if text is None:
            return
        lines = os.fsdecode(text).removeprefix("\ufeff").split("\n")
        try:
            rules = [_parse_rule(line) for line in lines]
        except ValueError as error:
            raise DvError(
                f"{printable(where)}: {error}", hint="the syntax is that of .gitignore"
            ) from error
        # The last rule that matches decides.
        self._rules[folder] = tuple(rule for rule in reversed(rules) if rule is not None)
        self.active = True

    def ignores(self, inner: str, *, is_folder: bool) -> bool:
        """Whether a path within the target is left out; the deepest rules decide.

        As in git a rule is about the path itself: what is below a folder that is left out is
        never asked for.
        """
        if self._excluded:
            return True
        return self._verdict(_join(self.target, inner).split("/"), is_folder=is_folder)

    def _verdict(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        for depth in range(len(parts) - 1, -1, -1):
            for rule in self._rules.get("/".join(parts[:depth]), ()):
                if rule.matches(parts[depth:], is_folder=is_folder):
                    return rule.excludes
        return False


def _ignore_text(where: str, folder: Place) -> bytes | None:
    """Return the content of a `.dvignore`, None if there is no file of this name.

    It may come with the repository from anybody: a link to some other file is not followed.
    """
    try:
        fd = open_in(folder, IGNORE_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{printable(where)} cannot be read: {reason(error)}") from error
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{printable(where)} is {_kind_name(found.st_mode)}, not a file")
        with open(fd, "rb", closefd=False) as file:
            text = file.read(IGNORE_SIZE_MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(text) > IGNORE_SIZE_MAX_BYTES:
        raise InputError(f"{printable(where)} has more than {IGNORE_SIZE_MAX_BYTES:,} bytes")
    return text


class _Rule(msgspec.Struct, frozen=True):
    """One line of a `.dvignore`: a pattern for each component of a path, None for ``**``."""

    excludes: bool
    folders_only: bool
    components: tuple[re.Pattern[str] | None, ...]

    def matches(self, parts: Sequence[str], *, is_folder: bool) -> bool:
        return (is_folder or not self.folders_only) and _matches(self.components, parts)


def _matches(components: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """Whether the components match all parts; in steps that are at most their product.

    All ways to match are followed at once, as sets of the components that may come next.
    """
    end = len(components)
    if end == 2 and components[0] is None and components[1] is not None:
        return components[1].match(parts[-1] + "/x") is not None  # by far the most rules
    states = _skipped({0}, components)
    for part in parts:
        following = set()
        for state in states - {end}:
            component = components[state]
            if component is None:
                # At the end ** stands for at least one component, elsewhere for none as well.
                following |= {state, end} if state == end - 1 else {state}
            elif component.match(part + "/x"):
                following.add(state + 1)
        states = _skipped(following, components)
    return end in states


def _skipped(states: set[int], components: Sequence[re.Pattern[str] | None]) -> set[int]:
    """Add the states that are reached where ``**`` stands for nothing."""
    found = set(states)
    for state in states:
        at = state
        while at < len(components) - 1 and components[at] is None:
            at += 1
            found.add(at)
    return found


def _parse_rule(line: str) -> _Rule | None:
    line = line.removesuffix("\r")
    # Spaces at the end count only behind a backslash.
    trimmed = re.fullmatch(r"((?:\\.|[^\\])*?) *", line)
    text = trimmed[1] if trimmed else line
    if not text or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    if "/" in text:
        names = text.removeprefix("/").split("/")
    else:
        names = ["**", "*" if text == "**" else text]
    if "" in names:
        return None
    components = tuple(None if name == "**" else _component(name) for name in names)
    return _Rule(excludes, folders_only, components)


def _component(name: str) -> re.Pattern[str]:
    """Return the pattern of one component; match it with a name with "/x" behind it.

    pathspec takes what lies below a match for matched, and git does not (``!folder/`` brings back
    the folder, not what another rule leaves out in it): so it sees no more than one component.
    """
    with warnings.catch_warnings():
        # Of "[[]", which pathspec hands on to `re` as it is.
        warnings.simplefilter("ignore", FutureWarning)
        (pattern,) = pathspec.GitIgnoreSpec.from_lines([f"/{name}/x"]).patterns
        if not isinstance(pattern, pathspec.RegexPattern) or pattern.regex is None:
            return re.compile(r"(?!)")
        return re.compile(_without_backtracking(pattern.regex.pattern))


def _without_backtracking(pattern: str) -> str:
    """Return the pattern such that a name with many stars does not take for ever to match.

    What stands between two stars is looked for once, at the first place: if the rest does not
    match from there it does not from a later one. Only ``*`` becomes ``[^/]*``.
    """
    head, *middle = pattern.split(_STAR)
    if len(middle) < 2:
        return pattern
    return head + "".join(f"(?>{_STAR}?{piece})" for piece in middle[:-1]) + _STAR + middle[-1]


def _scan(there: Place, inner: str, ignored: Ignore, follow: Follow | None) -> Folder:
    folder = Folder(inner)
    prefix = inner + "/" if inner else ""
    with os.scandir(there) as found:
        entries = list(found)
    if any(entry.name == IGNORE_FILE for entry in entries):
        ignored.enter(_join(ignored.target, inner), there)
    for entry in entries:
        name = entry.name
        if is_temp_name(name):
            folder.unfinished.append(name)
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.active and ignored.ignores(prefix + name, is_folder=is_folder):
            folder.left_out = True
            continue
        if not _is_utf8(name):
            folder.faults.append((prefix + name, "has a name that is not valid UTF-8"))
        elif is_folder:
            folder.folders.append(name)
        elif entry.is_symlink():
            _sort_link(folder, entry, there, prefix + name, follow)
        else:
            _sort_file(folder, entry, prefix + name, followed=False)
    if entries and len(entries) == len(folder.files) + len(folder.folders) + len(folder.links):
        plain = follow is None or not any(entry.is_symlink() for entry in entries)
        if plain or len(folder.links) == sum(entry.is_symlink() for entry in entries):
            with contextlib.suppress(OSError, OverflowError):
                folder.look = look_of(entries)
    return folder


def _sort_link(
    folder: Folder, entry: os.DirEntry[str], there: Place, path: str, follow: Follow | None
) -> None:
    fd = there if isinstance(there, int) else None  # entry.path is the name alone then
    try:
        link = os.readlink(entry.path, dir_fd=fd)
        is_folder = follow is not None and entry.is_dir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EINVAL:  # something else has its name by now
            return
        # as of two symlinks that point at each other
        link, is_folder = os.readlink(entry.path, dir_fd=fd), False
        if follow is not None and follow(path, link):
            folder.faults.append((path, f"cannot be examined ({error.strerror})"))
            return
    if not _is_utf8(link):
        folder.faults.append((path, "is a symlink to a name that is not valid UTF-8"))
    elif follow is None or not follow(path, link):
        folder.links[entry.name] = link
    elif is_folder:
        folder.folders.append(entry.name)
        folder.followed.add(entry.name)
    else:
        _sort_file(folder, entry, path, followed=True)


def _sort_file(folder: Folder, entry: os.DirEntry[str], path: str, *, followed: bool) -> None:
    try:
        found = entry.stat(follow_symlinks=followed)
    except FileNotFoundError:
        if followed:
            folder.faults.append((path, "is a symlink to nothing"))
        return
    except OSError as error:
        folder.faults.append((path, f"cannot be examined ({error.strerror})"))
        return
    if stat.S_ISREG(found.st_mode):
        folder.files[entry.name] = stat_of(found)
    elif stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode):
        folder.faults.append((path, "was replaced while it was looked at"))
    else:
        folder.faults.append((path, f"is {_kind_name(found.st_mode)}, not a file"))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_name(mode: int) -> str:
    kinds = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something special")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


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
