"""The files in a target's place in the workspace, and what is known of them without reading."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from dvtool.errors import InputError, listing
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entry
from dvtool.format.paths import (
    SELF,
    folder_of,
    folders_above,
    link_fault,
    path_fault,
    workspace_path,
)
from dvtool.format.selection import Selection
from dvtool.system.lazy import later_in
from dvtool.system.stat import Stat, is_executable, stat_of
from dvtool.workspace.last_look import Believed, FileThere, LinkThere, There
from dvtool.workspace.statcache import Seen, SeenFolder

if TYPE_CHECKING:
    from dvtool.workspace import rules, walk as walks
    from dvtool.workspace.read_files import ReadFiles
    from dvtool.workspace.worktree import Worktree
else:
    rules, walks = later_in("dvtool.workspace", "rules", "walk")

ContentAt: TypeAlias = Callable[[str], bool]
"""Whether the content at a path within the target counts, also behind a link that leads out."""


class Scan(msgspec.Struct):
    """The paths of one target, relative to it, as found on the disk."""

    target: str
    files: dict[str, Stat] = msgspec.field(default_factory=dict)
    links: dict[str, str] = msgspec.field(default_factory=dict)
    folders: set[str] = msgspec.field(default_factory=set)
    empty_folders: list[str] = msgspec.field(default_factory=list)
    faults: list[tuple[str, str]] = msgspec.field(default_factory=list)
    followed: dict[str, str] = msgspec.field(default_factory=dict)
    """Symlinks that count as what they point to, and where that is."""
    left_out: bool = False
    """Whether ignore rules left something out."""
    unfinished: list[str] = msgspec.field(default_factory=list)
    """Files that an interrupted command left; see `sweep`."""
    seen: dict[str, Seen] = msgspec.field(default_factory=dict)
    """The statcache's entries, of paths on the disk and of vanished ones."""
    states: dict[str, tuple[Digest, list[str]]] = msgspec.field(default_factory=dict)
    """The state of each folder ("" is the target), where that says all, and the folders in it."""
    digests: dict[str, Digest] = msgspec.field(default_factory=dict)
    """Of the files whose digest is known: from the statcache, or once `hash_files` has run."""

    names_only: bool = False
    """Whether most files are listed alone, with the stat `UNSEEN`, until they are read."""
    listed: list[tuple[str, int, list[str] | None]] = msgspec.field(default_factory=list)
    """Then each folder in the order of `files`: how many there are in it, and the folders in it if
    it is to get a state."""
    read: ReadFiles | None = None
    """All the files, by sorted paths, once they were read at one go: `files` has no stats of them
    then, and `digests` nothing."""
    recorded: frozenset[str] | None = None
    """The files last seen to be executable, where the disk itself does not tell; else None."""

    def executable(self, path: str) -> bool:
        """Whether a file counts as executable."""
        if self.recorded is not None:
            return path in self.recorded
        return is_executable(self.files[path])

    def unread(self, paths: Iterable[str]) -> list[str]:
        """Return those of the files whose digest is not known yet."""
        return [path for path in paths if path in self.files and path not in self.digests]

    def behind_link(self, path: str) -> bool:
        """Whether a path is, or is behind, a symlink that is followed."""
        return bool(self.followed) and (
            path in self.followed or any(above in self.followed for above in _above(path))
        )

    def believed(self, path: str) -> Believed:
        """Return what is at a path by this scan, for who replaces or removes it.

        A target that is no file or link may be a folder, which the scan has no name for.
        """
        if path in self.followed:
            return LinkThere(self.followed[path])
        if path in self.files:
            return FileThere(self.files[path], self.digests.get(path, b""))
        if path in self.links:
            return LinkThere(self.links[path])
        return There.FOLDER if path in self.folders or path == SELF else There.NOTHING

    def vanished(self, path: str) -> bool:
        """Whether a path was put there by dvtool, or added, and is gone now."""
        seen = self.seen.get(path)
        return (
            seen is not None
            and seen.tracked
            and not (path in self.files or path in self.links or path in self.folders)
        )

    def hidden(self, path: str) -> bool:
        """Whether something at a path, or above it, could not be looked at."""
        if not self.faults:
            return False
        faults = {fault for fault, _ in self.faults}
        return path in faults or not faults.isdisjoint(_above(path))

    @property
    def unseen(self) -> bool:
        """Whether there are files that were listed alone, with the stat `UNSEEN`."""
        return any(folders is not None for _, _, folders in self.listed)

    @property
    def plain(self) -> bool:
        """Whether there are but files and folders with files, and nothing was known of them."""
        others = self.links or self.empty_folders or self.seen or self.digests
        return not others and self.recorded is None and SELF not in self.files

    def leave_unfilled(self, paths: Iterable[str]) -> None:
        """Let an empty folder count as no entry where one of the paths, absent, belongs into it."""
        empty = set(self.empty_folders)
        if empty:
            unfilled = {a for path in paths if not self.vanished(path) for a in _above(path)}
            self.empty_folders = [path for path in self.empty_folders if path not in unfilled]


def scan_target(
    worktree: Worktree,
    target: str,
    *,
    inner: str = "",
    content_at: ContentAt | None = None,
    names_only: bool = False,
) -> Scan:
    """Look at a target, or only at `inner` in it, without reading any file.

    A symlink that leads outside of the target cannot be an entry itself. Where `content_at` says
    that the content at its path counts, it is followed. `names_only` is for who reads all the files
    anyway: see `Scan`.
    """
    scan = Scan(target, names_only=names_only)
    _look(worktree, scan, inner, content_at)
    _recall(worktree, scan, inner)
    _recall_modes(worktree, scan)
    return scan


def scan_rest(
    worktree: Worktree,
    target: str,
    starts: Iterable[str],
    same: Collection[str],
    *,
    content_at: ContentAt | None,
) -> Scan:
    """As `scan_target`, but without the files in the folders `same` themselves.

    All others are in and below the folders `starts`.
    """
    scan = Scan(target)
    for start in starts:
        _look(worktree, scan, start, content_at, same=same)
    scan.folders.update(folder for folder in same if folder)
    skip = len(target) + 1
    known = worktree.statcache.paths_below(target)
    folders = [path for path in known if path[skip:] not in same]
    _take_seen(scan, worktree.statcache.folders(folders).items())
    for path in scan.empty_folders:
        if folder_of(path) in same:  # all else in there is as it was; that this was left is new
            _recall_alone(worktree, scan, workspace_path(target, path), path)
    _recall_alone(worktree, scan, target, SELF)
    _recall_modes(worktree, scan)
    return scan


def _look(
    worktree: Worktree,
    scan: Scan,
    inner: str,
    content_at: ContentAt | None,
    *,
    same: Container[str] = (),
) -> None:
    full_path = f"{scan.target}/{inner}" if inner else scan.target
    path = inner or SELF
    file_stat = worktree.workspace.stat(full_path)
    via_link = inner != "" and _follows_above(worktree, scan, inner, content_at)
    if via_link:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            file_stat = os.stat(worktree.absolute(full_path))
    elif file_stat is not None and stat.S_ISLNK(file_stat.st_mode):
        link = worktree.workspace.read_link(full_path) or ""
        if full_path in worktree.workspace.links:
            scan.faults.append((path, walks.LED_ELSEWHERE))
            return
        if _follows(scan, path, link, content_at) and os.path.exists(worktree.absolute(full_path)):
            file_stat = os.stat(worktree.absolute(full_path))
            via_link = True
        else:
            scan.links[path] = link
    if file_stat is None:
        return
    if stat.S_ISDIR(file_stat.st_mode):
        _walk(worktree, scan, inner, content_at, via_link=via_link, same=same)
    elif inner and not via_link and _is_left_out(worktree, full_path):
        scan.left_out = True
        scan.links.pop(path, None)
    elif (fault := path_fault(inner) if inner else None) is not None:
        scan.faults.append((path, fault))
        scan.links.pop(path, None)
    elif stat.S_ISREG(file_stat.st_mode):
        scan.files[path] = stat_of(file_stat)
    elif path not in scan.links:
        scan.faults.append((path, "is neither a file nor a folder"))


def _is_left_out(worktree: Worktree, path: str) -> bool:
    links = worktree.workspace.links
    return rules.Ignore(worktree.root, path, is_folder=False, links=links).excluded


def scan_files(worktree: Worktree, target: str, paths: Collection[str]) -> Scan:
    """Look at some paths of a target alone, for ordinary files, without reading any."""
    scan = Scan(target)
    for path in paths:
        file_stat = worktree.workspace.stat(workspace_path(target, path))
        if file_stat is not None and stat.S_ISREG(file_stat.st_mode):
            scan.files[path] = stat_of(file_stat)
    scan.folders = folders_above(scan.files)
    folders = {folder_of(workspace_path(target, path)) for path in paths}
    known = worktree.statcache.folders(folders)
    for path in paths:
        folder, _, name = workspace_path(target, path).rpartition("/")
        seen = known.get(folder, {}).get(name)
        if seen is not None:
            _remember(scan, path, seen)
    _recall_modes(worktree, scan)
    return scan


def link_above(worktree: Worktree, target: str, inner: str) -> str | None:
    """Return the first path, of the target and of the folders to `inner` in it, that is a symlink.

    The path is relative to the target; None if there is none.
    """
    for path in (SELF, *reversed(list(_above(inner))[:-1])) if inner else ():
        if worktree.workspace.read_link(workspace_path(target, path)) is not None:
            return path
    return None


def _follows_above(
    worktree: Worktree, scan: Scan, inner: str, content_at: ContentAt | None
) -> bool:
    """Whether a symlink on the way to `inner` is followed."""
    path = None if content_at is None else link_above(worktree, scan.target, inner)
    if path is None:
        return False
    link = worktree.workspace.read_link(workspace_path(scan.target, path)) or ""
    return _follows(scan, path, link, content_at)


def scan_selected(
    worktree: Worktree, selection: Selection, *, content_at: ContentAt | None = None
) -> Scan:
    """Look at a target as far as it is selected (or further), without reading any file."""
    inner = selection.folder
    folders: list[str] = []
    parent = inner.rpartition("/")[0]
    while parent:
        folders.append(parent)
        parent = parent.rpartition("/")[0]
    folder_stats = {
        path: folder_stat
        for path in (*folders, SELF)
        if (folder_stat := worktree.workspace.stat(workspace_path(selection.target, path)))
        is not None
    }
    if not all(stat.S_ISDIR(folder_stat.st_mode) for folder_stat in folder_stats.values()):
        # A link or a file on the way: what that means, only a look at the whole can say.
        return scan_target(worktree, selection.target, content_at=content_at)
    scan = scan_target(worktree, selection.target, inner=inner, content_at=content_at)
    scan.folders.update(path for path in folders if path in folder_stats)
    return scan


def find_left_out(worktree: Worktree, scan: Scan, paths: Iterable[str]) -> None:
    """Look for tracked paths that ignore rules kept out of the scan: those rules are for others.

    As with git, what is tracked stays tracked when a rule comes to match it. So a folder in the
    place of a tracked path counts as an empty one: all else in it is left out.
    """
    if not scan.left_out:
        return
    filled: set[str] = set()
    for path in paths:
        if path in scan.files or path in scan.links or path in scan.folders:
            continue
        full_path = workspace_path(scan.target, path)
        file_stat = worktree.workspace.stat(full_path)
        if file_stat is None:
            continue
        if stat.S_ISREG(file_stat.st_mode):
            scan.files[path] = stat_of(file_stat)
            if path in scan.seen:
                _remember(scan, path, scan.seen[path])
        elif stat.S_ISLNK(file_stat.st_mode):
            scan.links[path] = worktree.workspace.read_link(full_path) or ""
        elif stat.S_ISDIR(file_stat.st_mode):
            scan.folders.add(path)
            scan.empty_folders.extend([path] if path != SELF else [])
        filled.update(_above(path))
    scan.folders |= filled - {SELF}
    scan.empty_folders = [path for path in scan.empty_folders if path not in filled]


def refuse_unreadable(scan: Scan, paths: Iterable[str]) -> None:
    """Raise an InputError if something in the way of these paths could not be looked at."""
    faults = {path for path, _ in scan.faults}
    if not faults:
        return
    hidden = sorted(
        {path for path in paths if path in faults or not faults.isdisjoint(_above(path))}
    )
    if hidden:
        raise InputError(
            "these could not be looked at; nothing was changed:\n"
            + listing(workspace_path(scan.target, path) for path in hidden),
            hint="see what is wrong with them or the folders above: dv status",
        )


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
    yield SELF


def content_of(entries: Mapping[str, Entry]) -> ContentAt:
    """Say where a manifest has content: at its files and in the folders above them."""
    folders: set[str] = set()
    for path in entries:
        while path := path.rpartition("/")[0]:
            if path in folders:
                break
            folders.add(path)
    return lambda path: path in folders or (path in entries and entries[path].is_file)


def _follows(scan: Scan, path: str, link: str, content_at: ContentAt | None) -> bool:
    if content_at is None or not content_at(path):
        return False
    if path != SELF and not link_fault(path, link):
        return False  # an entry itself; a target is none, wherever it leads
    scan.followed[path] = link
    return True


def _walk(
    worktree: Worktree,
    scan: Scan,
    inner: str,
    content_at: ContentAt | None,
    *,
    via_link: bool,
    same: Container[str],
) -> None:
    outer = inner + "/" if inner else ""
    full_path = f"{scan.target}/{inner}" if inner else scan.target

    def follow(path: str, link: str) -> bool:
        return _follows(scan, outer + path, link, content_at)

    folders = walks.walk(
        worktree.root,
        full_path,
        follow=follow if content_at else None,
        via_link=via_link,
        skip=(lambda path: outer + path in same) if same else None,
        links=worktree.workspace.links,
        names_only=scan.names_only,
    )
    for folder in folders:
        path = "/".join(part for part in (inner, folder.path) if part)
        prefix = path + "/" if path else ""
        if path and not folder.excluded:
            scan.folders.add(path)
            if folder.empty:
                scan.empty_folders.append(path)
        inside = [prefix + name for name in folder.files] if prefix else folder.files
        scan.files.update(zip(inside, folder.files.values(), strict=True))
        if scan.names_only:
            stated = folder.folders if folder.unstated else None
            scan.listed.append((path, len(folder.files), stated))
        for name, link in folder.links.items():
            scan.links[prefix + name] = link
        if folder.state is not None:
            scan.states[path] = (folder.state, folder.folders)
        scan.faults.extend((outer + fault, why) for fault, why in folder.faults)
        scan.left_out = scan.left_out or folder.left_out
        scan.unfinished.extend(prefix + name for name in folder.unfinished)


def _recall(worktree: Worktree, scan: Scan, inner: str) -> None:
    full_path = f"{scan.target}/{inner}" if inner else scan.target
    _take_seen(scan, worktree.statcache.each_below(full_path))
    _recall_alone(worktree, scan, full_path, inner or SELF)


def _recall_alone(worktree: Worktree, scan: Scan, full_path: str, path: str) -> None:
    folder, _, name = full_path.rpartition("/")
    alone = worktree.statcache.folder(folder).get(name)
    if alone is not None:
        _remember(scan, path, alone)


def _take_seen(scan: Scan, folders: Iterable[tuple[str, SeenFolder]]) -> None:
    skip = len(scan.target) + 1
    paths: dict[str, str] = {}
    for folder, seen in folders:
        if not paths:
            paths = dict(zip(scan.files, scan.files, strict=True))  # 70 MB less of a million
        prefix = folder[skip:] + "/" if len(folder) > skip else ""
        for name, seen_file in seen.items():
            path = prefix + name
            _remember(scan, paths.get(path, path), seen_file)


def _recall_modes(worktree: Worktree, scan: Scan) -> None:
    """Where the disk keeps no executable bits, go by those that were written or added last."""
    if not worktree.workspace.modes:
        scan.recorded = frozenset(path for path, seen in scan.seen.items() if seen.executable)


def _remember(scan: Scan, path: str, seen: Seen) -> None:
    scan.seen[path] = seen
    file_stat = scan.files.get(path)
    if file_stat is not None and seen.digest and seen.matches(file_stat):
        scan.digests[path] = seen.digest
        # The same numbers, held once: of a million files they take 100 MB.
        scan.files[path] = Stat(
            file_stat.st_mode, seen.inode, seen.size, seen.mtime_ns, seen.ctime_ns
        )


def sweep(worktree: Worktree, scan: Scan) -> None:
    """Remove what interrupted commands left in the target; the worktree's lock must be held."""
    worktree.workspace.sweep(
        workspace_path(scan.target, path) for path in scan.unfinished if path not in scan.seen
    )


def is_known(scan: Scan, path: str) -> bool:
    """Whether it is known what is at a path: a file must have been read."""
    return path not in scan.files or path in scan.digests


def entry_now(scan: Scan, path: str) -> Entry | None:
    """Return the entry that a path would have now, None for nothing; see `is_known`.

    A folder with something in it has none.
    """
    if path in scan.files:
        return file_entry(scan, path)
    if path in scan.links:
        return Entry(symlink=scan.links[path])
    return Entry(dir=True) if path in scan.empty_folders else None


def file_entry(scan: Scan, path: str) -> Entry:
    """Return the entry that a file has now; its digest must be known."""
    file_stat = scan.files[path]
    return Entry(
        blake3=scan.digests[path].hex(), size=file_stat.st_size, exec=scan.executable(path)
    )
