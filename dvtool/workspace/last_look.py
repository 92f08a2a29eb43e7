"""Replacing and removing what is in the user's workspace; only this module of dvtool does that.

The caller says what it believes to be there. The file there is moved to a name that no walk takes
for data, in one step with what replaces it, and looked at only then: nobody can exchange it after
the look. If the file is not what was believed, it gets its name back and the command ends; else it
is removed.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from typing import NamedTuple, TypeAlias

from dvtool.errors import UnsavedError, printable
from dvtool.format.digest import READ_SIZE_BYTES, Digest, digest_of, hasher
from dvtool.format.spelling import NAME_SIZE_MAX_BYTES
from dvtool.system.atomic import aside_name, parse_aside, temp_name
from dvtool.system.rename import exchange, rename_new
from dvtool.system.stat import Stamp, Stat
from dvtool.workspace.opener import FILE_FLAGS, reason
from dvtool.workspace.statcache import link_digest

NO_MARK = bytes(8)
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY})


class FileThere(NamedTuple):
    """A file is there: with this stat, if one is given, and with content of this digest.

    Without a digest its stat has to do.
    """

    stat: Stat | Stamp | os.stat_result | None
    digest: Digest = b""


class LinkThere(NamedTuple):
    """A symlink is there that points to `target`."""

    target: str


class There(enum.Enum):
    """Nothing is there, or a folder that has to be empty by the time."""

    NOTHING = "nothing"
    FOLDER = "folder"


Believed: TypeAlias = FileThere | LinkThere | There
"""The state that the caller believes to be at a path."""


def text_there(text: bytes | None) -> Believed:
    """Return what is believed to be where this text was read, or (None) nothing was found."""
    return There.NOTHING if text is None else FileThere(None, digest_of(text))


def found_at(name: str, folder: int | None) -> Believed:
    """Return what is at a name now, to be believed from here on; files by their stat."""
    try:
        file_stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(file_stat.st_mode):
            return LinkThere(os.readlink(name, dir_fd=folder))
    except FileNotFoundError:
        return There.NOTHING
    return There.FOLDER if stat.S_ISDIR(file_stat.st_mode) else FileThere(file_stat)


def temp_for(name: str, believed: Believed) -> str:
    """Return a fresh name, beside another, for what `put` will give that name."""
    if isinstance(believed, There):
        return _beside(name, temp_name())
    return _beside(name, aside_name(_digest(believed), _mark(os.path.basename(name))))


def put(temp: str, name: str, folder: int | None, believed: Believed, path: str) -> None:
    """Rename a file from its name of `temp_for` to `name`, replacing what is believed to be there.

    UnsavedError if something else has the name; then that keeps it. The file that is believed to be
    there may be gone by now.
    """
    if not isinstance(believed, There):
        try:
            if not _is_still_there(name, folder, believed, content=False):
                raise changed(path)
            if exchange(temp, name, folder=folder):
                _settle_exchange(temp, name, folder, believed, path)
                return
        except FileNotFoundError:
            pass  # the file is gone by now
    take(name, folder, believed, path)
    try:
        rename_new(temp, name, folder=folder, into=folder)
    except FileExistsError as error:
        raise changed(path) from error


def _settle_exchange(
    aside: str, name: str, folder: int | None, believed: FileThere | LinkThere, path: str
) -> None:
    """Remove what an exchange put aside if it is what was believed; else put it back."""
    if _is_still_there(aside, folder, believed, content=True):
        os.unlink(aside, dir_fd=folder)
        return
    ours = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    exchange(aside, name, folder=folder)
    if os.stat(aside, dir_fd=folder, follow_symlinks=False).st_ino != ours:
        raise changed(path, give_back(aside, name, folder))
    os.unlink(aside, dir_fd=folder)
    raise changed(path)


def take(name: str, folder: int | None, believed: Believed, path: str) -> None:
    """Remove what is believed to have a name, if it is there; UnsavedError if it is another."""
    if believed is There.NOTHING:
        return
    try:
        if isinstance(believed, There):
            os.rmdir(name, dir_fd=folder)
            return
        if not _is_still_there(name, folder, believed, content=False):
            raise changed(path)
        aside = _beside(name, aside_name(_digest(believed), NO_MARK))
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        if believed is There.FOLDER and error.errno in _NOT_EMPTY:
            raise changed(path) from error
        raise
    try:
        as_believed = _is_still_there(aside, folder, believed, content=True)
    except BaseException:
        give_back(aside, name, folder)
        raise
    if not as_believed:
        raise changed(path, give_back(aside, name, folder))
    os.unlink(aside, dir_fd=folder)


def give_back(aside: str, name: str, folder: int | None) -> str | None:
    """Give what was moved aside a name again; return that if it is not `name`, which is taken."""
    base = os.path.basename(name)
    kept = None
    number = 0
    while True:
        new = _beside(name, base)
        try:
            rename_new(aside, new, folder=folder, into=folder)
        except FileExistsError:
            number += 1
            end = f".kept-{number}"
            cut = os.fsencode(os.path.basename(name))[: NAME_SIZE_MAX_BYTES - len(end)]
            base = kept = cut.decode("utf-8", "ignore") + end
        else:
            return kept


def is_expendable(name: str, folder: int | None) -> bool:
    """Whether what a crash left under an aside name may go.

    It may go if it is the file that was believed to be there, or if that file still has its name:
    then this is the one that was to replace it.
    """
    aside = parse_aside(os.path.basename(name))
    if aside is None:
        return False
    places = [name]
    if aside.mark != NO_MARK.hex():
        names = os.listdir(os.path.dirname(name) if folder is None else folder)
        places += [_beside(name, other) for other in names if _mark(other).hex() == aside.mark]
    digests = (_digest_of_any(candidate, folder).hex() for candidate in places)
    return any(digest and digest.startswith(aside.digest) for digest in digests)


def _digest_of_any(name: str, folder: int | None) -> Digest:
    """Return the digest of a file's content or of where a link points; empty if there is none."""
    link = found_at(name, folder)
    if isinstance(link, LinkThere):
        return link_digest(link.target)
    with contextlib.suppress(OSError, UnsavedError):
        return _digest_at(name, folder)
    return b""


def changed(path: str, kept: str | None = None) -> UnsavedError:
    """Return the error for a path at which something else was than what was planned with."""
    where = f"; it has the name {printable(kept)} now" if kept else ""
    return UnsavedError(
        f"{printable(path)} changed while dvtool was at work; it was left as it is{where}",
        hint="repeat the command when nothing else writes there",
    )


def same_content(planned: Stat | Stamp | os.stat_result, now: os.stat_result) -> bool:
    """Whether a file is, by its stat, the one that was read; a chmod moves its ctime only."""
    return (planned.st_mtime_ns, planned.st_size, planned.st_ino) == (
        now.st_mtime_ns,
        now.st_size,
        now.st_ino,
    )


def _digest(believed: Believed) -> Digest:
    if isinstance(believed, FileThere):
        return believed.digest
    return link_digest(believed.target) if isinstance(believed, LinkThere) else b""


def _mark(name: str) -> bytes:
    """Return a short mark of a name, for where the name itself could be too long."""
    return digest_of(os.fsencode(name))[: len(NO_MARK)]


def _beside(name: str, other: str) -> str:
    """Return another name in the folder of a name, which without descriptors is a path."""
    return os.path.join(os.path.dirname(name), other)


def _is_still_there(
    name: str, folder: int | None, believed: FileThere | LinkThere | There, *, content: bool
) -> bool:
    """Whether a name has what is believed.

    A file's stat says so, or with `content` its bytes: some disks give a file another inode, or
    another time, with another name.
    """
    file_stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if isinstance(believed, LinkThere):
        return (
            stat.S_ISLNK(file_stat.st_mode) and os.readlink(name, dir_fd=folder) == believed.target
        )
    if not isinstance(believed, FileThere) or not stat.S_ISREG(file_stat.st_mode):
        return False
    if content and believed.digest:
        return _digest_at(name, folder) == believed.digest
    if believed.stat is None:
        return True
    return same_content(believed.stat, file_stat)


def _digest_at(name: str, folder: int | None) -> Digest:
    """Read a file; what its stat says may be true no more, as of a file that is mapped."""
    try:
        fd = os.open(name, FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT):
            return b""
        raise UnsavedError(
            f"a file cannot be read ({reason(error)}), so it is not known what would be lost",
            hint="make it readable, or move it elsewhere, then repeat the command",
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        whole = hasher()
        while data := os.read(fd, READ_SIZE_BYTES):
            whole.update(data)
        return whole.digest()
    finally:
        os.close(fd)
