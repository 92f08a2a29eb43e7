"""The meaning of arguments: paths as typed, and revisions told from paths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from dvtool.errors import UsageError, printable
from dvtool.format.paths import SOURCE_PATH, workspace_path
from dvtool.format.selection import Selection, has_wildcards, select
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

    def sort_arguments(
        self, arguments: Sequence[str], behind: Sequence[str] | None = None, *, ranges: bool = False
    ) -> tuple[list[str], list[str]]:
        """Tell revisions from paths, as git does: revisions first, and a path wins over both.

        `behind` are the arguments that stood behind ``--``: these are paths, and all others are
        not. ``REV:PATH`` is a revision and a path in it. With `ranges`, ``A..B`` is A and B, and
        ``A...B`` is B and the commit where it left A.
        """
        revs: list[str] = []
        paths: list[str] = []
        for number, argument in enumerate(arguments):
            rev, path = self.split_revision(argument)
            if rev is not None:
                revs.extend([] if rev in revs else [rev])
                paths.append(path)
            elif behind is None and self._names_something(argument):
                return revs, [*paths, *arguments[number:]]
            elif ranges and _is_range(argument):
                revs.extend(self.ends_of(argument))
            else:
                self._require_revision(argument, alone=behind is not None)
                revs.append(argument)
        return revs, list(dict.fromkeys([*paths, *(behind or ())]))

    def split_revision(self, argument: str) -> tuple[str | None, str]:
        """Return revision and path of ``REV:PATH``; None and the argument for any other.

        As in git the path counts from the top of the worktree, or, if it begins with a dot, from
        the folder that the user is in. No path at all is the whole worktree. UsageError for a
        range, and for a commit that a shallow clone lacks.
        """
        rev, colon, path = argument.partition(":")
        if not (rev and colon) or os.path.lexists(os.path.join(self._cwd, argument)):
            return None, argument
        if not self.project.git.has_commit(rev):
            explained = self._explained(rev)
            if explained is not None:
                raise explained
            return None, argument
        if not path.startswith("."):
            path = os.path.join(self.project.root, path)
        return rev, path

    def ends_of(self, argument: str) -> list[str]:
        """Return the two revisions of a range ``A..B`` or ``A...B``; HEAD stands for a lacking one.

        UsageError if one of them is none, or if ``A...B`` share no commit.
        """
        git = self.project.git
        before, dots, after = argument.partition("..")
        ends = [before or "HEAD", after.removeprefix(".") or "HEAD"]
        for end in ends:
            self._require_revision(end)
        if not (dots and after.startswith(".")):
            return ends
        base = git.merge_base(*(git.resolve(end) for end in ends))
        if base is None:
            raise UsageError(
                f"the two sides of {printable(argument)} share no commit",
                hint="compare them directly, with two dots: A..B",
            )
        return [base, ends[1]]

    def is_revision(self, argument: str) -> bool:
        """Whether an argument is a revision or a range of them, and names no path."""
        if self._names_something(argument):
            return False
        ends = argument.replace("...", "..").split("..")
        return all(not end or self.project.git.has_commit(end) for end in ends) and any(ends)

    def is_path_or_branch(self, argument: str) -> bool:
        """Whether an argument names a path, a branch or a tag."""
        if self._names_something(argument):
            return True
        git = self.project.git
        return any(git.has_commit(f"refs/{kind}/{argument}") for kind in ("heads", "tags"))

    def _require_revision(self, argument: str, *, alone: bool = False) -> None:
        """Raise a UsageError that explains an argument which is no revision; `alone`: nor path."""
        try:
            self.project.git.resolve(argument)
        except UsageError as error:
            explained = self._explained(argument)
            if explained is not None:
                raise explained from error
            if alone:
                raise
            raise UsageError(
                f"{printable(argument)} is neither a revision nor a target or path in one",
                hint="put paths behind `--`; `dv status` lists the targets",
            ) from error

    def _explained(self, argument: str) -> UsageError | None:
        """Return an error for what looks like a revision of another kind than is asked for."""
        shown = printable(argument)
        before, dots, after = argument.partition("..")
        git = self.project.git
        if dots and all(not end or git.has_commit(end) for end in (before, after.lstrip("."))):
            return UsageError(
                f"{shown} is a range of commits; this takes single revisions",
                hint="name the revisions, as `git rev-list` lists them; dv diff and dv log take "
                "ranges",
            )
        stem = re.split(r"[~^]", argument, maxsplit=1)[0]
        if stem != argument and git.is_shallow() and git.has_commit(stem or "HEAD"):
            return UsageError(
                f"this clone is shallow: it ends before {shown}",
                hint="to have the commits before: git fetch --unshallow",
            )
        return None

    def _names_something(self, argument: str) -> bool:
        try:
            path = self.relative(argument)
        except UsageError:
            return False
        if os.path.lexists(os.path.join(self.project.root, path)):
            return True
        targets = [*self.project.targets(), *self.project.manifests_left_out()]
        selected = select(targets, [path])[0]
        if any(selection.whole or has_wildcards(path) for selection in selected):
            return True
        # A path that is not on the disk may be in a manifest; a revision is more likely meant.
        return bool(selected) and not self.project.git.has_commit(argument)

    def all_relative(self, paths: Paths) -> list[str]:
        """Return paths as typed, each as `relative` does."""
        return [self.relative(path) for path in each_path(paths)]

    def selections(self, targets: Sequence[str], paths: Paths) -> list[Selection]:
        """Return what paths and globs, as typed, select of the targets; all of them without any."""
        selected = self.all_relative(paths)
        try:
            return chosen(targets, selected)
        except UsageError as error:
            self.project.refuse_left_out(selected)
            self._refuse_revision(paths, error)
            raise

    def _refuse_revision(self, paths: Paths, cause: UsageError) -> None:
        """Explain a revision, or a ``REV:PATH``, where only paths are taken."""
        for argument in each_path(paths):
            if self.project.git.has_commit(argument):
                shown = printable(argument)
                raise UsageError(
                    f"{shown} is a revision, and paths are taken here",
                    hint=f"what it has: dv ls --rev {shown}, dv diff {shown}, dv log {shown}",
                ) from cause
            self.refuse_in_revision(argument, cause)

    def refuse_in_revision(
        self, path: str | os.PathLike[str], cause: Exception | None = None
    ) -> None:
        """Raise a UsageError for a ``REV:PATH``, for a command that is about the workspace."""
        typed = os.fspath(path)
        rev, inner = self.split_revision(typed)
        if rev is not None:
            plain = self.shown(self.relative(inner))
            raise UsageError(
                f"{printable(typed)} is a path in a revision; this command is about the "
                "workspace and takes its paths",
                hint=f"repeat it with {printable(plain)}; at a revision read dv ls, cat, diff, "
                "log, show, fetch, export and get",
            ) from cause

    def selecting(self, paths: Paths) -> Callable[[Sequence[str]], list[Selection]]:
        """Return `selections` for these paths, to be called once the targets are known."""
        return partial(self.selections, paths=paths)


def _is_range(argument: str) -> bool:
    """Whether an argument has the form of a range of commits, not of a path to a folder above."""
    return ".." in argument and "/../" not in argument and not argument.startswith("../")


def _real_parent(path: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)
