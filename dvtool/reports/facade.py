"""The class of `Repo.reports`: changes as a person looks at them, and what splits share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.reports import sides
    from dvtool.reports.tables import RowDiff
    from dvtool.verbs.overlap import check
else:
    sides = later("dvtool.reports.sides")
    check = later("dvtool.verbs.overlap.check")


class Reports:
    """Changes between two revisions, as `Repo.diff` takes them, and between splits.

    Every method raises `DvError`.
    """

    def __init__(self, project: Project, settings: Settings, arguments: Arguments) -> None:
        self._project = project
        self._settings = settings
        self._arguments = arguments

    def rows(
        self,
        old: str | None = None,
        new: str | None = None,
        paths: Paths = (),
        *,
        key: Sequence[str] = (),
    ) -> RowDiff:
        """Compare the rows of changed tables, matched by the columns `key`."""
        compared = sides.Comparison(old, new, paths, key)
        return sides.report_rows(self._project, self._settings, self._arguments, compared)

    def changes(
        self,
        old: str | None = None,
        new: str | None = None,
        paths: Paths = (),
        *,
        key: Sequence[str] = (),
    ) -> sides.Report:
        """Show changes as a page, and in short as a comment; of large data a sample is read."""
        compared = sides.Comparison(old, new, paths, key)
        return sides.report_changes(self._project, self._settings, self._arguments, compared)

    def overlap(
        self,
        splits: Sequence[str],
        *,
        rows: bool = False,
        keys: Sequence[str] = (),
        header: bool = True,
    ) -> check.OverlapReport:
        """Find what is in more than one split: paths (of what is staged), or `REV:PATH`.

        With `rows`, or columns `keys`, rows of tables are compared; see `dv check-overlap`.
        """
        request = check.OverlapRequest(splits, rows, tuple(keys), header)
        return check.check_overlap(self._project, self._settings, self._arguments, request)
