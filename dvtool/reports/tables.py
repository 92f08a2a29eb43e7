"""The tables among changed files, compared by row."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Literal, NamedTuple, TypeAlias

import msgspec

from dvtool.format.compare import Difference
from dvtool.format.paths import workspace_path
from dvtool.reports.annotations import ANNOTATION_SUFFIX, annotation_tables
from dvtool.reports.row_diff import TableDiff, compare_tables, whole_table
from dvtool.reports.row_files import ROW_SUFFIXES, RowTable, no_table, row_tables
from dvtool.reports.row_sqlite import SQLITE_SUFFIXES, sqlite_tables
from dvtool.verbs.diff import TargetDiff

OpenFile: TypeAlias = Callable[[str], IO[bytes]]
"""Opens a file of one side for reading, seekable, by its path from the top of the worktree."""
NamedTables: TypeAlias = dict[str | None, RowTable]
_FAULTS = (ValueError, OverflowError, RecursionError, MemoryError)
"""The errors of reading a table that is none."""


class Sides(NamedTuple):
    """How to read the files of the two sides."""

    old: OpenFile
    new: OpenFile


class UnreadTable(msgspec.Struct, frozen=True):
    """A file that is called like a table and cannot be read as one."""

    path: str
    """The file, from the top of the worktree."""
    reason: str
    """The problem, in words."""


class RowDiff(msgspec.Struct):
    """Which rows of tables changed."""

    tables: list[TableDiff]
    """The tables whose files changed, sorted by path."""
    unread: list[UnreadTable]
    """Files that could not be compared."""


def may_have_rows(path: str) -> bool:
    """Whether a file may be a table, by its name."""
    return path.lower().endswith((*ROW_SUFFIXES, *SQLITE_SUFFIXES, ANNOTATION_SUFFIX))


def diff_rows(targets: Sequence[TargetDiff], sides: Sides, key: Sequence[str]) -> RowDiff:
    """Compare the rows of the tables among changed files; each at its path, renames unread.

    Rows are matched by the columns `key`, those of annotations by what the export itself says.
    UsageError if a table lacks a column of the key.
    """
    result = RowDiff([], [])
    for path, change in changed_tables(targets):
        try:
            result.tables.extend(diff_file(path, change, sides, key))
        except TableFault as error:
            result.unread.append(UnreadTable(path, str(error)))
    return result


class TableFault(Exception):
    """A file cannot be read as a table; the text says why."""


def changed_tables(targets: Sequence[TargetDiff]) -> Iterator[tuple[str, Difference]]:
    """Yield path and change of the files that may be tables and have another content."""
    for target in targets:
        for change in target.changes:
            path = workspace_path(target.target, change.path)
            old, new = change.old, change.new
            same = old is not None and new is not None and old.blake3 == new.blake3
            if may_have_rows(path) and not same and (new or old).is_file:  # type: ignore[union-attr]
                yield path, change


def diff_file(path: str, change: Difference, sides: Sides, key: Sequence[str]) -> list[TableDiff]:
    """Compare the tables of one file; none if it is JSON of no kind that is known.

    TableFault if a side is no table.
    """
    with ExitStack() as held:
        return diff_opened(path, *opened_tables(path, change, sides, held), key)


def opened_tables(
    path: str, change: Difference, sides: Sides, held: ExitStack
) -> tuple[NamedTables, NamedTables]:
    """Return the tables of both sides of a file, by name; none of a side that has no file."""
    old = _tables(path, sides.old, held) if change.old and change.old.is_file else {}
    new = _tables(path, sides.new, held) if change.new and change.new.is_file else {}
    return old, new


def diff_opened(
    path: str, old: NamedTables, new: NamedTables, key: Sequence[str]
) -> list[TableDiff]:
    """Compare tables that are open, those of the same name; TableFault if one is none."""
    names = sorted({**old, **new}, key=lambda name: name or "")
    try:
        return [_diff_table(path, old.get(name), new.get(name), key) for name in names]
    except _FAULTS as error:
        raise TableFault(str(no_table(path, error))) from error


def _diff_table(
    path: str, old: RowTable | None, new: RowTable | None, key: Sequence[str]
) -> TableDiff:
    if old is not None and new is not None:
        return compare_tables(path, old, new, new.key or key)
    change: Literal["added", "removed"] = "added" if new is not None else "removed"
    table = new or old
    assert table is not None
    return whole_table(path, table, change)


def tables_of(path: str, file: IO[bytes], held: ExitStack) -> list[RowTable]:
    """Return the tables of an open, seekable file of any kind; `held` closes what they read from.

    ValueError where it is no such file, now or when rows are read.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ANNOTATION_SUFFIX:
        return annotation_tables(file)
    return sqlite_tables(file, held) if suffix in SQLITE_SUFFIXES else row_tables(path, file)


def _tables(path: str, open_file: OpenFile, held: ExitStack) -> NamedTables:
    file = held.enter_context(open_file(path))
    try:
        tables = tables_of(path, file, held)
    except _FAULTS as error:
        raise TableFault(str(no_table(path, error))) from error
    return {table.name: table for table in tables}
