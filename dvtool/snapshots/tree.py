"""The paths of a commit's data, over all targets: find, list, walk."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import asdict

from dvtool.errors import PathIsFolder, PathMissing, PathNotFolder, printable
from dvtool.format.paths import joined, workspace_path
from dvtool.format.selection import Selection, select
from dvtool.snapshots.columns import EntryColumns
from dvtool.snapshots.contents import Content, Contents
from dvtool.snapshots.listed import Listed, source_of_files
from dvtool.snapshots.targets import TargetEntries, inner_path

LINKS_MAX = 40
"""So many symlinks are followed for one path, as by Linux."""


class Tree:
    """The paths of all targets of a commit; `commit` is for messages. Paths are from the top."""

    def __init__(
        self, targets: Mapping[str, TargetEntries], commit: str, *, url: str | None = None
    ) -> None:
        """Take the entries by target; `url` is how the repository was named, if by a URL."""
        # Paths below a folder sort by the folder's name with the slash.
        self._targets = dict(
            sorted(targets.items(), key=lambda item: _sort_key(item[1]), reverse=False)
        )
        self._commit = commit
        self._of = f"{shlex.quote(printable(url))} " if url is not None else ""
        self._nested = _are_nested(list(self._targets))
        self._folders = {parent for target in self._targets for parent in _parents(target)} | {""}

    @property
    def targets(self) -> Mapping[str, TargetEntries]:
        """The targets in the order of their paths."""
        return self._targets

    # --- one path -------------------------------------------------------------------------

    def entry(self, path: str) -> tuple[TargetEntries, EntryColumns, int] | None:
        """Return the entry at a path, links not followed; None for a folder or nothing."""
        for target in self._around(path):
            inner = inner_path(target, path)
            position = target.entry(inner) if inner else None
            if position is not None:
                return (target, *position)
        return None

    def is_folder(self, path: str) -> bool:
        """Whether a path, links not followed, is a folder."""
        if path in self._folders:
            return True
        position = self.entry(path)
        if position is not None:
            _, columns, number = position
            return not columns.is_file(number) and not columns.link(number)
        return any(target.has_below(inner_path(target, path)) for target in self._around(path))

    def info(self, path: str) -> Listed:
        """Return what is known of a path, links not followed; PathMissing if nothing is there."""
        path = normal_path(path)
        position = self.entry(path)
        if position is None:
            path = self.followed(path, last=False)
            position = self.entry(path)
        if position is not None:
            return _listed(path, *position)
        if self.is_folder(path):
            return self._folder(path)
        raise self._missing(path)

    def content(self, path: str) -> Content:
        """Return the content of the file at a path, links followed.

        PathMissing, or PathIsFolder for a folder.
        """
        for real in self._leads(path):
            position = self.entry(real)
            if position is not None and position[1].is_file(position[2]):
                target, columns, number = position
                inner = inner_path(target, real)
                return Content(columns.digest(number), columns.size(number), real, target, inner)
        if self.is_folder(real):
            shown = printable(path) if real else "the top of the repository"
            raise PathIsFolder(f"{shown} is a folder, not a file", path=path)
        raise self._missing(path)

    def _leads(self, path: str) -> Iterator[str]:
        """Yield a path as it is, which it mostly leads to, then with its symlinks followed."""
        yield normal_path(path)
        yield self.followed(path)

    def followed(self, path: str, *, last: bool = True) -> str:
        """Return where a path leads once its symlinks are followed; without `last`, all but it."""
        path = normal_path(path)
        left, done = path.split("/") if path else [], ""
        links = 0
        while left:
            done = f"{done}/{left.pop(0)}" if done else left.pop(0)
            if not left and not last:
                break
            position = self.entry(done)
            link = position[1].link(position[2]) if position is not None else ""
            if link:
                links += 1
                if links > LINKS_MAX:
                    raise self._missing(path)
                goal = posixpath.normpath(posixpath.join(posixpath.dirname(done), link))
                left, done = [*goal.split("/"), *left], ""
                if goal.startswith(".."):
                    raise self._missing(path)
        return done

    def _missing(self, path: str) -> PathMissing:
        return PathMissing(
            f"{printable(path)} is not in the data of commit {self._commit[:10]}",
            hint=f"see what there is: dv ls {self._of}--rev {self._commit[:10]}; a file that git"
            " itself keeps is read with git",
            path=path,
        )

    # --- several paths --------------------------------------------------------------------

    def files(self, path: str) -> list[str]:
        """Return the sorted paths of the files at or below a path; PathMissing if none can be."""
        path = self.followed(path)
        found: list[str] = []
        for target, columns, low, high in self._runs(path):
            paths = columns.files_between(low, high)
            if target.is_file:
                found.append(target.target)
            else:
                prefix = target.target + "/"
                found.extend([prefix + inner for inner in paths])
        return sorted(found) if self._nested else found

    def entries(self, path: str) -> Iterator[Listed]:
        """Yield all entries at or below a path, in order: files, symlinks and empty folders."""
        for target, columns, low, high in self._runs(self.followed(path)):
            for number in range(low, high):
                full = workspace_path(target.target, columns.paths[number])
                yield _listed(full, target, columns, number)

    def contents(self, path: str) -> Contents:
        """Return the contents of the files at or below a path; PathMissing if none can be."""
        return Contents(self._runs(self.followed(path)), nested=self._nested)

    def matching(self, pattern: str) -> list[str]:
        """Return the sorted paths of the files that a glob matches, or that are below one."""
        selections, _ = select(list(self._targets), [normal_path(pattern)])
        found = []
        for selection in selections:
            target = self._targets[selection.target]
            for columns in target.may_match(selection):
                found.extend(_selected(target, selection, columns.files_between(0, len(columns))))
        return sorted(found)

    def entries_selected(self, selections: Iterable[Selection]) -> Iterator[Listed]:
        """Yield the entries that selections name, in their order."""
        for selection in selections:
            target = self._targets[selection.target]
            for columns in target.may_match(selection):
                for number, path in enumerate(columns.paths):
                    if selection.matches(path):
                        full = workspace_path(target.target, path)
                        yield _listed(full, target, columns, number)

    def children(self, path: str) -> list[Listed]:
        """Return what is directly in a folder, sorted; of a file, the file."""
        path = self.followed(path)
        position = self.entry(path)
        if position is not None and not self.is_folder(path):
            return [_listed(path, *position)]
        if not self.is_folder(path):
            raise self._missing(path)
        prefix = f"{path}/" if path else ""
        children: dict[str, Listed] = {}
        for target in self._around(path):
            inner = inner_path(target, path)
            for name, entry in target.children(inner):
                full = prefix + name
                children[name] = _listed(full, target, *entry) if entry else self._folder(full)
        if path in self._folders:
            for name in self._targets:
                if name.startswith(prefix) and name != path:
                    child = name[len(prefix) :].partition("/")[0]
                    if child not in children:
                        children[child] = self.info(prefix + child)
        return [children[name] for name in sorted(children)]

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield folder, names of folders and names of files in it, from the top down."""
        path = self.followed(path)
        if not self.is_folder(path):
            raise (
                PathNotFolder(f"{printable(path)} is a file, not a folder", path=path)
                if self.entry(path)
                else self._missing(path)
            )
        ahead = [path]
        while ahead:
            folder = ahead.pop()
            children = self.children(folder)
            folders = [_last_name(child.path) for child in children if child.type == "folder"]
            files = [_last_name(child.path) for child in children if child.type != "folder"]
            yield folder, folders, files
            ahead.extend(joined(folder, name) for name in reversed(folders))

    # --- inside ---------------------------------------------------------------------------

    def _around(self, path: str) -> Iterator[TargetEntries]:
        """Yield the targets that a path is, or is in."""
        at = 0
        while at >= 0:
            at = path.find("/", at + 1)
            target = self._targets.get(path if at < 0 else path[:at])
            if target is not None:
                yield target

    def _runs(self, path: str) -> Iterator[tuple[TargetEntries, EntryColumns, int, int]]:
        """Yield the entries at or below a path, links followed; PathMissing if there are none."""
        position = self.entry(path)
        if position is not None:
            target, columns, number = position
            yield target, columns, number, number + 1
            return
        if not self.is_folder(path):
            raise self._missing(path)
        for target in self._around(path):
            for run in target.runs(inner_path(target, path)):
                yield (target, *run)
        prefix = f"{path}/" if path else ""
        for name, target in self._targets.items():
            if name.startswith(prefix) and name != path:
                for run in target.runs():
                    yield (target, *run)

    def _folder(self, path: str) -> Listed:
        target = next((target.target for target in self._around(path)), "")
        return Listed(type="folder", path=path, target=target)


def normal_path(path: str) -> str:
    """Return a path from the top without ``.``, doubled or last slashes; "" is the top."""
    if not path or path in (".", "/"):
        return ""
    if "//" in path or "./" in path or path.endswith(("/", "/.", "/..")) or path[0] == "/":
        path = posixpath.normpath(path).strip("/")
        if path == "." or path.startswith("../") or path == "..":
            path = "" if path == "." else path
    return path


def _selected(target: TargetEntries, selection: Selection, paths: list[str]) -> list[str]:
    return [workspace_path(target.target, path) for path in paths if selection.matches(path)]


def _listed(path: str, target: TargetEntries, columns: EntryColumns, number: int) -> Listed:
    shown = columns.shown(number)
    source = source_of_files(target.manifest) if shown.type == "file" else None
    return Listed(path=path, target=target.target, source=source, **asdict(shown))


def _last_name(path: str) -> str:
    return path.rpartition("/")[2]


def _sort_key(target: TargetEntries) -> str:
    return target.target if target.is_file else target.target + "/"


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _are_nested(targets: list[str]) -> bool:
    known = set(targets)
    return any(parent in known for target in targets for parent in _parents(target))
