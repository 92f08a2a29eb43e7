"""Repositories that a command names by a git URL, and of which no clone is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from dvtool.errors import PathFault, UsageError, printable
from dvtool.system.lazy import later
from dvtool.system.progress import Progress

if TYPE_CHECKING:
    from dvtool.snapshots import foreign
    from dvtool.snapshots.snapshot import Snapshot
    from dvtool.verbs.describe import Description
    from dvtool.verbs.export import export as export_verb
    from dvtool.verbs.export.entries import Exported
else:
    foreign = later("dvtool.snapshots.foreign")
    export_verb = later("dvtool.verbs.export.export")


T = TypeVar("T")


def split_url(
    arguments: Sequence[str], *, folder: str | None = None
) -> tuple[str | None, list[str]]:
    """Return the git URL that arguments begin with, None if there is none, and the rest.

    ``HOST:PATH`` is no URL if HOST is a revision of the repository around `folder`.
    """
    is_url = bool(arguments) and foreign.is_url(arguments[0])
    if is_url and not (folder is not None and _names_revision(arguments[0], folder)):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def _names_revision(argument: str, folder: str) -> bool:
    from dvtool import DvError, Repo

    if "://" in argument or "@" in argument:
        return False
    try:
        with Repo.open(folder, environ=os.environ) as repo:
            return repo.arguments.split_revision(argument)[0] is not None
    except DvError:  # no repository here
        return False


def of_revision(
    rev: str | None, paths: Sequence[str], read: Callable[[str | None, list[str]], T]
) -> T:
    """Call `read` with a revision and paths of a repository, of which each may be ``REV:PATH``.

    The text before the ``:`` is part of the path if it is no revision there, or if `rev` is given.
    """
    split = [path.partition(":") for path in paths]
    if rev is None and split and all(named and colon for named, colon, _ in split):
        named = {name for name, _, _ in split}
        if len(named) > 1:
            raise UsageError(
                f"too many revisions: {' '.join(map(printable, sorted(named)))}",
                hint="this takes paths of one revision",
            )
        try:
            return read(named.pop(), [path for _, _, path in split])
        except UsageError as error:
            if isinstance(error, PathFault):
                raise
    return read(rev, list(paths))


def snapshot_at(url: str, rev: str | None) -> AbstractContextManager[Snapshot]:
    """Give the data of a revision of a repository."""
    return export_verb.passing_snapshot(url, rev, os.environ)


def describe_at(url: str, rev: str | None) -> Description:
    """Describe a revision of a repository."""
    return export_verb.describe_url(url, rev, os.environ)


def get_from(
    url: str,
    path: str,
    folder: str | None,
    *,
    cwd: str,
    rev: str | None,
    force: bool,
    plan_only: bool,
    progress: Progress,
) -> Exported:
    """Write the data at or below a path, or ``REV:PATH``, of a repository into a folder."""

    def get(rev: str | None, paths: list[str]) -> Exported:
        request = export_verb.GetRequest(url, paths[0], folder, cwd, rev, force, plan_only)
        return export_verb.get(request, os.environ, progress)

    return of_revision(rev, [path], get)
