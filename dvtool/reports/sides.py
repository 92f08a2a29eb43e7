"""The two sides of a report: commits, or a commit and the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from dvtool.errors import MissingError, printable
from dvtool.git.listing import OBJECT_ID
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.reports.comment import comment
from dvtool.reports.gather import gather
from dvtool.reports.page import page
from dvtool.reports.tables import OpenFile, RowDiff, Sides, diff_rows
from dvtool.snapshots.reading import snapshot_of
from dvtool.snapshots.snapshot import Snapshot
from dvtool.system import atomic
from dvtool.verbs.diff import TargetDiff, diff

_COMMIT_SHOWN_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two revisions to compare: `old` (HEAD for None) with `new`, or with the workspace (None)."""

    old: str | None
    new: str | None
    paths: Paths = ()
    key: Sequence[str] = ()
    """The columns by which rows of tables are matched."""


def report_rows(
    project: Project, settings: Settings, arguments: Arguments, comparison: Comparison
) -> RowDiff:
    """Compare the rows of changed tables; see `diff_rows`."""
    with opened_sides(project, settings, arguments, comparison) as (targets, sides):
        return diff_rows(targets, sides, comparison.key)


@dataclass(frozen=True, slots=True)
class Report:
    """Changes of the data as a person looks at them."""

    html: str
    """One page below 5 MB that needs nothing from elsewhere, and has no script."""
    markdown: str
    """The same in short, below 65,000 characters: a comment on a pull request."""
    files: int
    """How many files changed."""

    def write_html(self, path: str) -> None:
        """Put the page in the place of a file, whole or not at all, as on a full disk.

        A link stays, and what it leads to is replaced. A path of no file, as /dev/stdout, is
        written to.
        """
        data = self.html.encode("utf-8")
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                file.write(data)
            return
        with atomic.naming_full_disk(path, len(data)):
            atomic.write_bytes(os.path.realpath(path), data, durable=False)


def report_changes(
    project: Project, settings: Settings, arguments: Arguments, comparison: Comparison
) -> Report:
    """Show the changes between two sides; of large data a sample is read, and the report says so.

    SetupError if a library of `dvtool[report]` is needed and missing.
    """
    names = _shown_name(comparison.old or "HEAD"), _shown_name(comparison.new or "the workspace")
    with opened_sides(project, settings, arguments, comparison) as (targets, sides):
        gathered = gather(names, targets, sides, comparison.key)
        return Report(page(gathered), comment(gathered), len(gathered.changes))


def _shown_name(rev: str) -> str:
    return rev[:_COMMIT_SHOWN_LENGTH] if OBJECT_ID.fullmatch(rev) else rev


@contextmanager
def opened_sides(
    project: Project, settings: Settings, arguments: Arguments, comparison: Comparison
) -> Iterator[tuple[list[TargetDiff], Sides]]:
    """Give the changes between two sides, and how to read the files of each."""
    old, new, environ = comparison.old, comparison.new, settings.environ
    targets = diff(project, settings, arguments, old, new, comparison.paths)
    renamed = {
        target.target: target.renamed_from for target in targets if target.renamed_from is not None
    }
    with ExitStack() as held:
        before = held.enter_context(snapshot_of(project, old, environ=environ))
        if new is None:
            yield targets, Sides(_by_old_name(before, renamed), _workspace_files(project))
        else:
            after = held.enter_context(snapshot_of(project, new, environ=environ))
            yield targets, Sides(_by_old_name(before, renamed), after.open)


def _by_old_name(snapshot: Snapshot, renamed: Mapping[str, str]) -> OpenFile:
    """Return how to read files before; `renamed` are new name -> old name of targets."""

    def open_file(path: str) -> IO[bytes]:
        for new, old in renamed.items():
            if path == new or path.startswith(f"{new}/"):
                return snapshot.open(old + path[len(new) :])
        return snapshot.open(path)

    return open_file


def _workspace_files(project: Project) -> OpenFile:
    def open_file(path: str) -> IO[bytes]:
        try:
            return open(os.path.join(project.root, path), "rb")
        except FileNotFoundError as error:
            raise MissingError(
                f"{printable(path)} is not in the workspace", hint="run: dv checkout"
            ) from error

    return open_file
