"""The two sides of a report: commits, or a commit and the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from dvtool.errors import MissingError, printable
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.reports.tables import OpenFile, RowDiff, Sides, diff_rows
from dvtool.snapshots.reading import snapshot_of
from dvtool.verbs.diff import TargetDiff, diff


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions to compare: `old` (HEAD for None) with `new`, or with the workspace (None)."""

    old: str | None
    new: str | None
    paths: Paths = ()


def report_rows(
    project: Project,
    arguments: Arguments,
    comparison: Comparison,
    key: Sequence[str],
    *,
    environ: Mapping[str, str],
) -> RowDiff:
    """Compare the rows of changed tables; see `diff_rows`."""
    with opened_sides(project, arguments, comparison, environ=environ) as (targets, sides):
        return diff_rows(targets, sides, key)


@contextmanager
def opened_sides(
    project: Project, arguments: Arguments, comparison: Comparison, *, environ: Mapping[str, str]
) -> Iterator[tuple[list[TargetDiff], Sides]]:
    """Give the changes between two sides, and how to read the files of each."""
    old, new = comparison.old, comparison.new
    targets = diff(project, arguments, old, new, comparison.paths)
    with ExitStack() as held:
        before = held.enter_context(snapshot_of(project, old, environ=environ))
        if new is None:
            yield targets, Sides(before.open, _workspace_files(project))
        else:
            after = held.enter_context(snapshot_of(project, new, environ=environ))
            yield targets, Sides(before.open, after.open)


def _workspace_files(project: Project) -> OpenFile:
    def open_file(path: str) -> IO[bytes]:
        try:
            return open(os.path.join(project.root, path), "rb")
        except FileNotFoundError as error:
            raise MissingError(
                f"{printable(path)} is not in the workspace", hint="run: dv checkout"
            ) from error

    return open_file
