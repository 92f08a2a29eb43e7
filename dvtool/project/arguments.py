"""The meaning of arguments: paths as typed, and revisions told from paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from dvtool.errors import UsageError, printable
from dvtool.format.paths import SOURCE_PATH, workspace_path
from dvtool.format.selection import Selection, select
from dvtool.project.parts import Project, chosen

OnePath: TypeAlias = str | os.PathLike[str]
"""A path, as text or as a `Path`."""
Paths: TypeAlias = OnePath | Sequence[OnePath]
"""One path or several, as text or as `Path`s."""


def each_path(paths: Paths) -> list[str]:
    """Return paths, be it one or several, as text."""
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]


class Arguments:
    """Reads paths and revisions as a user types them in the folder `cwd`."""

    def __init__(self, project: Project, cwd: str) -> None:
        self.project = project
        self._cwd = cwd

    @property
    def cwd(self) -> str:
        """The folder, absolute, that typed paths are relative to."""
        return self._cwd

    def relative(self, path: str | os.PathLike[str]) -> str:
        """Return a path as typed, from the top of the worktree; UsageError if it is outside."""
        root = self.project.root
        typed = os.fspath(path)
        full = os.path.normpath(os.path.join(self._cwd, typed))
        for candidate in (full, _real_parent(full)):
            if candidate == root:
                return ""
            if candidate.startswith(root + os.sep):
                return candidate[len(root) + 1 :].replace(os.sep, "/")
        raise UsageError(
            f"{printable(typed)} is outside of this repository ({printable(root)})",
            hint="a target is inside the repository whose commits version it",
        )

    def shown(self, path: str) -> str:
        """Return a path from the top of the worktree as the user would type it here."""
        shown = os.path.relpath(os.path.join(self.project.root, path), self._cwd)
        return shown.replace(os.sep, "/")

    def shown_in(self, target: str, path: str) -> str:
        """Return the path of an entry of a target as the user would type it here."""
        if path == SOURCE_PATH:
            return f"{self.shown(target)} (where the data comes from)"
        return self.shown(workspace_path(target, path))

    def sort_arguments(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        """Tell revisions from paths, as git does: revisions first, and a path wins over both."""
        revs: list[str] = []
        for number, argument in enumerate(arguments):
            if self._names_something(argument):
                return revs, list(arguments[number:])
            try:
                self.project.git.resolve(argument)
            except UsageError as error:
                hint = "put paths behind `--`; `dv status` lists the targets"
                if self.project.git.is_shallow():
                    hint = f"the clone is shallow; for older commits: git fetch --unshallow\n{hint}"
                raise UsageError(
                    f"{printable(argument)} is neither a revision nor a target or path in one",
                    hint=hint,
                ) from error
            revs.append(argument)
        return revs, []

    def _names_something(self, argument: str) -> bool:
        try:
            path = self.relative(argument)
        except UsageError:
            return False
        if os.path.lexists(os.path.join(self.project.root, path)):
            return True
        if select(self.project.targets(), [path])[0]:
            return True
        return bool(select(list(self.project.manifests_left_out()), [path])[0])

    def all_relative(self, paths: Paths) -> list[str]:
        """Return paths as typed, each as `relative` does."""
        return [self.relative(path) for path in each_path(paths)]

    def selections(self, targets: Sequence[str], paths: Paths) -> list[Selection]:
        """Return what paths and globs, as typed, select of the targets; all of them without any."""
        return chosen(targets, self.all_relative(paths))

    def selecting(self, paths: Paths) -> Callable[[Sequence[str]], list[Selection]]:
        """Return `selections` for these paths, to be called once the targets are known."""
        return partial(self.selections, paths=paths)


def _real_parent(path: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)
