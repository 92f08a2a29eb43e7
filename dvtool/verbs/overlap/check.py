"""check-overlap: which files, or rows of tables, two or more splits have in common.

Files are compared by the hashes in manifests, so nothing is read. Hashes are sorted on the disk
and met in order, so that memory does not grow with the number of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import ClassVar, NamedTuple

from dvtool.errors import MissingError, UsageError, listing, printable
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entry
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.store.reader import ContentReader
from dvtool.system.sorting import Sorter
from dvtool.verbs.fetch import download
from dvtool.verbs.fetch.request import fetch_request
from dvtool.verbs.overlap.rows import RowQuery, TableColumns, format_of, table_rows
from dvtool.verbs.overlap.splits import Split, find_splits

SHARED_LISTED_MAX = 1_000
PLACES_LISTED_MAX = 10
COLUMN_SETS_MAX = 1_000
_DIGEST_BYTES = 32
_NUMBER_BYTES = 8


class SharedPlace(NamedTuple):
    """Where something is."""

    path: str
    """The path of the file, from the top of the worktree."""
    row: int | None
    """The number of the row, from 1, without the header; null for a whole file."""


@dataclass(frozen=True, slots=True)
class SharedPart:
    """Where one split has what others have too."""

    split: str
    """The split, as it was typed."""
    count: int
    """How often the split has it."""
    places: list[SharedPlace]
    """Where, up to ten times."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A file, or a row, that several splits have."""

    splits: list[SharedPart]
    """The splits that have it, in the order in which they were named."""


@dataclass(slots=True)
class SplitSize:
    """The part of one split that was compared."""

    split: str
    """The split, as it was typed."""
    files: int = 0
    """How many files it has, empty ones left out."""
    rows: int = 0
    """How many rows of tables were compared; 0 where whole files were."""
    keyless: int = 0
    """How many rows were passed over since their key columns are empty."""


@dataclass(frozen=True, slots=True)
class PairOverlap:
    """The content that two splits share."""

    first: str
    """The one, as it was typed."""
    second: str
    """The other, as it was typed."""
    shared: int
    """How many different files and rows both have."""


@dataclass(slots=True)
class OverlapReport:
    """The content that splits share."""

    json_keys: ClassVar = ("overlap", "shared", "splits", "pairs", "listed")

    shared: int = 0
    """How many different files and rows are in more than one split."""
    splits: list[SplitSize] = field(default_factory=list)
    """The splits, as they were named."""
    pairs: list[PairOverlap] = field(default_factory=list)
    """Every two splits."""
    listed: list[Shared] = field(default_factory=list)
    """Up to 1,000 shared files or rows, by path."""

    @property
    def overlap(self) -> bool:
        """Whether anything is in more than one split."""
        return self.shared > 0


class OverlapRequest(NamedTuple):
    """A comparison: the splits as they were typed; with `rows` or `keys`, rows of tables."""

    names: Sequence[str]
    rows: bool = False
    keys: tuple[str, ...] = ()
    header: bool = True
    """Whether CSV files have one."""

    @property
    def query(self) -> RowQuery | None:
        """The columns that make two rows the same; None where whole files are compared."""
        return RowQuery(self.keys, self.header) if self.rows or self.keys else None


def check_overlap(
    project: Project, settings: Settings, arguments: Arguments, request: OverlapRequest
) -> OverlapReport:
    """Return what the splits have in common; see `find_splits` for what a name means.

    Content that is in one split repeatedly is no overlap, and empty files are left out. For rows,
    tables that are not in the local store are fetched. UsageError for a split without files.
    """
    splits = find_splits(project, arguments, request.names)
    report = OverlapReport(splits=[SplitSize(split.name) for split in splits])
    with Sorter() as sorter:
        query = request.query
        if query is None:
            _add_files(project, splits, report, sorter)
        else:
            _fetch_tables(project, settings, splits)
            with project.store.reader() as reader:
                _Rows(project, reader, query, report, sorter).add(splits)
        for size in report.splits:
            if not size.files:
                raise UsageError(
                    f"{printable(size.split)} has no file that is not empty",
                    hint="see what it has: dv ls PATH",
                )
        _find_shared(sorter, report)
    return report


def _add_files(
    project: Project, splits: Sequence[Split], report: OverlapReport, sorter: Sorter
) -> None:
    for number, split in enumerate(splits):
        for part in split.parts:
            for path, entry in part.files(project):
                report.splits[number].files += 1
                sorter.add(_split_record(entry.digest, number, path, 0))


# --- rows -----------------------------------------------------------------------------------


def _fetch_tables(project: Project, settings: Settings, splits: Sequence[Split]) -> None:
    """Bring the tables that the local store lacks into it."""
    requests = []
    for part in (part for split in splits for part in split.parts):
        digests = {
            entry.digest for path, entry in part.files(project) if format_of(path) is not None
        }
        lacking = project.store.lacking(digests)
        if lacking:
            only = frozenset(lacking)
            requests.append(fetch_request(project, part.manifest, part.selection, only))
    if requests:
        download.fetch(project, settings.open_remotes(), requests)


class _Rows:
    """Takes the rows of the tables of splits, and whole files that are no tables."""

    def __init__(
        self,
        project: Project,
        reader: ContentReader,
        query: RowQuery,
        report: OverlapReport,
        sorter: Sorter,
    ) -> None:
        self._project = project
        self._reader = reader
        self._query = query
        self._report = report
        self._sorter = sorter
        self._columns: dict[int, set[TableColumns]] = {}
        """The columns of the tables of each split, as far as these are the same in all rows."""

    def add(self, splits: Sequence[Split]) -> None:
        """Take all of them; UsageError if rows of two splits can never be equal."""
        self._columns = {number: set() for number in range(len(splits))}
        for number, split in enumerate(splits):
            for part in split.parts:
                for path, entry in part.files(self._project):
                    self._report.splits[number].files += 1
                    if format_of(path) is None:
                        self._sorter.add(_split_record(entry.digest, number, path, 0))
                    else:
                        self._add_table(number, path, entry)
        if not self._query.keys:
            self._refuse_unlike()

    def _add_table(self, number: int, path: str, entry: Entry) -> None:
        size = self._report.splits[number]

        def pieces() -> Iterator[memoryview]:
            try:
                self._reader.prepare([entry.digest])
            except MissingError as error:
                raise MissingError(f"{printable(path)}: {error}", hint=error.hint) from error
            return self._reader.read(entry.digest)

        table = table_rows(path, pieces, self._query)
        columns = self._columns.get(number, set())
        if table.columns is None or len(columns) > COLUMN_SETS_MAX:
            self._columns.pop(number, None)
        elif table.columns:
            columns.add(table.columns)
        for row, digest in table.rows:
            size.rows += 1
            if digest is None:
                size.keyless += 1
            else:
                self._sorter.add(_split_record(digest, number, path, row))

    def _refuse_unlike(self) -> None:
        for (first, columns), (second, other) in combinations(self._columns.items(), 2):
            if columns and other and columns.isdisjoint(other):
                names = [self._report.splits[number].split for number in (first, second)]
                differing = sorted(min(columns, key=sorted) ^ min(other, key=sorted))
                raise UsageError(
                    f"no row of {printable(names[0])} can be equal to one of "
                    f"{printable(names[1])}: only one of them has the columns\n"
                    f"{listing(differing)}",
                    hint="compare by columns that both have: --key COLUMN; if the files have no "
                    "header: --no-header",
                )


# --- comparing ------------------------------------------------------------------------------


def _split_record(digest: Digest, split: int, path: str, row: int) -> bytes:
    """Return a record that sorts by hash, split, path and row; row 0 is a whole file."""
    number = split.to_bytes(2, "big")
    # A row is never taken for a file, whatever their hashes.
    kind = b"\1" if row else b"\0"
    return kind + digest + number + path.encode() + b"\0" + row.to_bytes(_NUMBER_BYTES, "big")


def _content_of(record: bytes) -> bytes:
    return record[: 1 + _DIGEST_BYTES]


def _split_of(record: bytes) -> int:
    return int.from_bytes(record[1 + _DIGEST_BYTES : 3 + _DIGEST_BYTES], "big")


def _place_of(record: bytes) -> SharedPlace:
    row = int.from_bytes(record[-_NUMBER_BYTES:], "big")
    return SharedPlace(record[3 + _DIGEST_BYTES : -_NUMBER_BYTES - 1].decode(), row or None)


def _find_shared(sorter: Sorter, report: OverlapReport) -> None:
    pairs: Counter[tuple[int, int]] = Counter()
    for _, records in groupby(sorter, _content_of):
        parts: dict[int, SharedPart] = {}
        for split, members in groupby(records, _split_of):
            places: list[SharedPlace] = []
            count = 0
            for record in members:
                count += 1
                if len(places) < PLACES_LISTED_MAX:
                    places.append(_place_of(record))
            parts[split] = SharedPart(report.splits[split].split, count, places)
        if len(parts) > 1:
            report.shared += 1
            pairs.update(combinations(sorted(parts), 2))
            if len(report.listed) < SHARED_LISTED_MAX:
                report.listed.append(Shared(list(parts.values())))
    report.listed.sort(key=lambda shared: shared.splits[0].places)
    names = [size.split for size in report.splits]
    report.pairs = [
        PairOverlap(names[first], names[second], pairs[first, second])
        for first, second in combinations(range(len(names)), 2)
    ]
