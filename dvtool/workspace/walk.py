"""Walking the user's folders: what is in each that counts, and what cannot be versioned."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import msgspec

from dvtool.errors import InputError, printable
from dvtool.format.digest import Digest
from dvtool.format.paths import is_utf8, joined
from dvtool.system.atomic import TEMP_PREFIX, is_temp_name
from dvtool.system.stat import UNSEEN, Stat, kind_name, stat_of
from dvtool.workspace.folder_state import state_of
from dvtool.workspace.opener import (
    FOLDER_FLAGS,
    HAS_DIR_FD,
    NO_LINKS,
    NOFOLLOW,
    Links,
    Opener,
    Place,
    open_followed,
    reason,
)
from dvtool.workspace.rules import IGNORE_FILE, Ignore

_NAME = attrgetter("name")


class Folder(msgspec.Struct):
    """One folder as found on the disk. Names are sorted nowhere; ignored ones are left out."""

    path: str
    files: dict[str, Stat] = msgspec.field(default_factory=dict)
    links: dict[str, str] = msgspec.field(default_factory=dict)
    folders: list[str] = msgspec.field(default_factory=list)
    followed: set[str] = msgspec.field(default_factory=set)
    """The names of `folders` that are symlinks to follow."""
    left_out: bool = False
    """Whether ignore rules left something out."""
    excluded: bool = False
    """Whether they leave out the folder itself, where a walk began: then that is all of it."""
    unfinished: list[str] = msgspec.field(default_factory=list)
    """Files that an interrupted write left; they count for nothing else."""
    faults: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """(path, what is wrong) of what cannot be versioned: sockets, undecodable names, …"""
    state: Digest | None = None
    """See `folder_state`; None if there is more in it than counts, or nothing."""
    unstated: bool = False
    """Whether there would be a state, had the files been looked at: see `walk`."""

    @property
    def empty(self) -> bool:
        """Whether nothing at all was found in it."""
        return not (self.files or self.links or self.folders or self.faults)


class _Pending(NamedTuple):
    """A folder still to be walked, and the identities of the folders above it."""

    inner: str
    behind_link: bool
    above: frozenset[tuple[int, int]]


GIT_FOLDER = ".git"
OWN_REPOSITORY = f"is git's own, of a clone in there: leave it out ({GIT_FOLDER} in .dvignore)"
LED_ELSEWHERE = (
    "is a symlink that dvtool followed: it leads elsewhere now, or nothing is there; mount the "
    "disk, mend the link, or repeat dv add --dereference"
)
Skip: TypeAlias = Callable[[str], bool]
"""Whether a folder at a path (below where the walk began) is passed over."""
Follow: TypeAlias = Callable[[str, str], bool]
"""Whether the symlink at a path (below where the walk began), to a target, is to be followed."""


def walk(
    root: str,
    path: str,
    *,
    follow: Follow | None = None,
    via_link: bool = False,
    skip: Skip | None = None,
    links: Links = NO_LINKS,
    names_only: bool = False,
) -> Iterator[Folder]:
    """Yield the folders at and below `path` (relative paths below it), parents first.

    `path` is relative to `root`, the top of the worktree. A folder for which `skip` says so is
    named in the folder above it, and no more.

    `.dvignore` files of the folders on the way and of those walked apply, in gitignore syntax;
    one that leaves out `path` itself leaves a lone `excluded` folder.
    A symlink for which `follow` says so counts as what it points to, and with `via_link` one
    at `path` itself; no other is followed, also if it takes a folder's place meanwhile. The `links`
    count as folders. With `names_only` most files get the stat `UNSEEN`.
    """
    rules = Ignore(root, path, links=links)
    if rules.excluded:
        yield Folder("", left_out=True, excluded=True)
        return
    pending: list[_Pending] = [_Pending("", via_link, frozenset())]
    with Opener(root, links) as opener:
        walk_of = _Walk(root, path, opener, rules, follow, links, names_only)
        while pending:
            folder, inside = walk_of.folder(pending.pop())
            pending.extend(inside if skip is None else [at for at in inside if not skip(at.inner)])
            yield folder


class _Walk(NamedTuple):
    """The options of one walk."""

    root: str
    path: str
    opener: Opener
    rules: Ignore
    follow: Follow | None
    links: Links
    names_only: bool

    def folder(self, at: _Pending) -> tuple[Folder, list[_Pending]]:
        """Look at one folder; return it and its own folders, the last one first."""
        path = joined(self.path, at.inner)
        own: int | None = None
        try:
            opened: Place
            if at.behind_link and HAS_DIR_FD:
                opened = own = os.open(self._absolute(path), FOLDER_FLAGS & ~NOFOLLOW)
            else:
                opened = self._absolute(path) if at.behind_link else self.opener.folder(path)
            above = at.above
            if self.follow is not None:
                folder_stat = os.stat(opened)
                if (identity := (folder_stat.st_dev, folder_stat.st_ino)) in above:
                    fault = (at.inner, "is a symlink to a folder it is in")
                    return Folder(at.inner, faults=[fault]), []
                above |= {identity}
            followed = self._followed_in(path)
            folder = Folder(at.inner)
            _scan(folder, opened, self.rules, self.follow, followed, self.names_only)
        except OSError as error:
            why = f"cannot be read ({reason(error)})"
            return Folder(at.inner, faults=[(at.inner or ".", why)]), []
        finally:
            if own is not None:
                os.close(own)
        inside = [
            _Pending(joined(at.inner, name), at.behind_link or name in folder.followed, above)
            for name in sorted(folder.folders, reverse=True)
        ]
        return folder, inside

    def _followed_in(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder that are links to follow, and whether they can be."""
        prefix = folder + "/"
        names = {
            path[len(prefix) :]: destination
            for path, destination in self.links.items()
            if path.startswith(prefix) and "/" not in path[len(prefix) :]
        }
        return {name: self._leads_to(prefix + name, names[name]) for name in names}

    def _leads_to(self, path: str, destination: str) -> bool:
        try:
            os.close(open_followed(self._absolute(path), destination))
        except OSError:
            return False
        return True

    def _absolute(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root


def _scan(
    folder: Folder,
    opened: Place,
    rules: Ignore,
    follow: Follow | None,
    followed: Mapping[str, bool],
    names_only: bool,
) -> None:
    prefix = folder.path + "/" if folder.path else ""
    with os.scandir(opened) as iterator:
        entries = list(iterator)
    names = list(map(_NAME, entries))
    text = "".join(names)
    if IGNORE_FILE in names:
        rules.enter(joined(rules.target, folder.path), opened)
    # Of most folders all entries are ordinary files, with names that say nothing.
    plain_names = not (followed or rules.active) and text.isascii() and GIT_FOLDER not in names
    plain_names = plain_names and not (TEMP_PREFIX in text and any(map(is_temp_name, names)))
    if names_only and plain_names and entries and _list(folder, entries, names):
        return
    for entry in entries:
        name = entry.name
        if plain_names and entry.is_file(follow_symlinks=False):
            _sort_file(folder, entry, prefix + name, followed=False)
            continue
        if is_temp_name(name):
            folder.unfinished.append(name)
            continue
        is_link = bool(followed) and name in followed and entry.is_symlink()
        is_folder = followed[name] if is_link else entry.is_dir(follow_symlinks=False)
        if rules.active and rules.ignores(prefix + name, is_folder=is_folder):
            folder.left_out = True
            continue
        if name == GIT_FOLDER:
            folder.faults.append((prefix + name, OWN_REPOSITORY))
        elif not is_utf8(name):
            folder.faults.append((prefix + name, "has a name that is not valid UTF-8"))
        elif is_folder:
            folder.folders.append(name)
        elif is_link:
            folder.faults.append((prefix + name, LED_ELSEWHERE))
        elif entry.is_symlink():
            _sort_link(folder, entry, opened, prefix + name, follow)
        else:
            _sort_file(folder, entry, prefix + name, followed=False)
    if not followed:  # what a link leads to does not show in the state
        _set_state(folder, entries, follow)


def _list(folder: Folder, entries: Sequence[os.DirEntry[str]], names: list[str]) -> bool:
    """Take a folder of ordinary files and folders by their names; False if there is more in it."""
    are_files = [entry.is_file(follow_symlinks=False) for entry in entries]
    files = names if all(are_files) else list(compress(names, are_files))
    folders: list[str] = []
    if len(files) < len(entries):
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    if len(files) + len(folders) < len(entries):
        return False
    folder.files, folder.folders, folder.unstated = dict.fromkeys(files, UNSEEN), folders, True
    return True


def _set_state(folder: Folder, entries: Sequence[os.DirEntry[str]], follow: Follow | None) -> None:
    if entries and len(entries) == len(folder.files) + len(folder.folders) + len(folder.links):
        plain = follow is None or not any(entry.is_symlink() for entry in entries)
        if plain or len(folder.links) == sum(entry.is_symlink() for entry in entries):
            with contextlib.suppress(OSError, OverflowError):
                folder.state = state_of(entries)


def _sort_link(
    folder: Folder, entry: os.DirEntry[str], opened: Place, path: str, follow: Follow | None
) -> None:
    fd = opened if isinstance(opened, int) else None  # entry.path is the name alone then
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
    if not is_utf8(link):
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
        file_stat = entry.stat(follow_symlinks=followed)
    except FileNotFoundError:
        if followed:
            folder.faults.append((path, "is a symlink to nothing"))
        return
    except OSError as error:
        folder.faults.append((path, f"cannot be examined ({error.strerror})"))
        return
    if stat.S_ISREG(file_stat.st_mode):
        folder.files[entry.name] = stat_of(file_stat)
    elif stat.S_ISDIR(file_stat.st_mode) or stat.S_ISLNK(file_stat.st_mode):
        folder.faults.append((path, "was replaced while it was looked at"))
    else:
        folder.faults.append((path, f"is {kind_name(file_stat.st_mode)}, not a file"))


def refuse_faults(faults: list[tuple[str, str]], target: str) -> None:
    """Raise an InputError that names what a walk found but cannot version."""
    if not faults:
        return
    named = "\n".join(
        f"  {printable(joined(target, path))} {why}" for path, why in sorted(faults)[:10]
    )
    more = f"\n  … and {len(faults) - 10:,} more" if len(faults) > 10 else ""
    raise InputError(
        f"cannot add {printable(target)}; nothing was changed:\n{named}{more}",
        hint=f"repair or move them, or list them in {IGNORE_FILE}",
    )
