"""Samples that are rows: of Parquet by row group, of JSON lines and CSV by an index of lines."""

from __future__ import annotations

import contextlib
import csv
import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from dvtool.errors import DvError, InputError, printable
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.line_index import LineIndex, line_index, read_fields
from dvtool.stream.order import Sizes, Window
from dvtool.stream.samples import Sample, data_key, list_files
from dvtool.system.lazy import later

parquet = later("pyarrow.parquet")

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
TABLE_SUFFIXES = (".parquet", *TEXT_SUFFIXES)
PACKED_SUFFIXES = tuple(
    text + packed for text in TEXT_SUFFIXES for packed in (".gz", ".bz2", ".xz", ".zst")
)


class Table(Protocol):
    """One file of rows."""

    @property
    def ends(self) -> Sequence[int]:
        """For each row, how many bytes it and all before it have, about."""

    def read(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Read rows, given by ascending numbers, as dictionaries of their fields."""


class RowSamples:
    """Each row of the tables below a path is a sample, and its data a dictionary of its fields.

    Keys are ``PATH#ROW``, rows counted from 0. Fields of CSV are texts, named by the first line.
    Compressed text cannot be read by ranges, and is refused.
    """

    kind = "rows"

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        for packed in snapshot.contents(path).ending_in(PACKED_SUFFIXES).paths:
            raise InputError(
                f"rows of {printable(packed)} cannot be read by ranges: it is compressed",
                hint="add it unpacked, or as Parquet; or stream it as files",
            )
        files = list_files(snapshot, path, TABLE_SUFFIXES)
        self._paths = files.paths
        self._tables = [
            _open_table(snapshot, file, digest)
            for file, digest in zip(self._paths, files.digests, strict=True)
        ]
        self._firsts = [0, *itertools.accumulate(len(table.ends) for table in self._tables)]
        ends: list[int] = []
        for table in self._tables:
            before = ends[-1] if ends else 0
            ends.extend([before + end for end in table.ends])
        self.sizes = Sizes(ends)
        self.data_key = data_key(self.kind, files)

    def key(self, number: int) -> str:
        """Return the path of a row's file, and the row."""
        table, row = self._row(number)
        return f"{self._paths[table]}#{row}"

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read rows, those of a file in one go."""
        samples: list[Sample] = []
        for table, rows in itertools.groupby(map(self._row, numbers), key=lambda row: row[0]):
            wanted = [row for _, row in rows]
            path = self._paths[table]
            for row, fields in zip(wanted, self._tables[table].read(wanted), strict=True):
                samples.append(Sample(f"{path}#{row}", fields))
        return samples

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> None:
        """Return nothing: rows are read by ranges, and files are not fetched whole."""

    def _row(self, number: int) -> tuple[int, int]:
        table = bisect_right(self._firsts, number) - 1
        return table, number - self._firsts[table]


class ParquetTable:
    """Rows of a Parquet file; whole row groups are read."""

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot, self._path = snapshot, path
        with self._open() as table:
            metadata = table.metadata
            groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
            self._firsts = [0, *itertools.accumulate(group.num_rows for group in groups)]
            sizes = (
                group.total_byte_size // max(group.num_rows, 1)
                for group in groups
                for _ in range(group.num_rows)
            )
            self.ends = list(itertools.accumulate(sizes))

    def read(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Read rows, given by ascending numbers."""
        values: list[dict[str, Any]] = []
        with self._open() as table:
            grouped = itertools.groupby(rows, key=lambda row: bisect_right(self._firsts, row) - 1)
            for group, wanted in grouped:
                first = self._firsts[group]
                with self._checked():
                    held = table.read_row_group(group).take([row - first for row in wanted])
                values.extend(held.to_pylist())
        return values

    def _open(self) -> Any:
        with self._checked():
            file = self._snapshot.open(self._path, "rb")
            try:
                return parquet.ParquetFile(file, pre_buffer=True)
            except BaseException:
                file.close()
                raise

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        """InputError for what makes it no Parquet; pyarrow has it as ValueError or OSError."""
        try:
            yield
        except DvError:
            raise
        except (ValueError, OSError) as error:
            raise InputError(
                f"{printable(self._path)} cannot be read as Parquet: {error}",
                hint="stream it as files, or name another path",
            ) from error


class LineTable:
    """Rows of a text file, found by an index of where they begin."""

    def __init__(self, snapshot: Snapshot, path: str, index: LineIndex) -> None:
        self._snapshot, self._path, self._index = snapshot, path, index
        self.ends = index.ends

    def read(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Read rows, given by ascending numbers: neighbours in one range."""
        spans = list(_row_runs(rows))
        wanted = [(self._path, *self._index.span(low, high)) for low, high in spans]
        values: list[dict[str, Any]] = []
        for (low, high), content in zip(spans, self._snapshot.read_ranges(wanted), strict=True):
            begin, _ = self._index.span(low, high)
            for row in range(low, high):
                first, end = self._index.span(row, row + 1)
                values.append(self._parse(row, content[first - begin : end - begin]))
        return values

    def _parse(self, row: int, line: bytes) -> dict[str, Any]:
        try:
            return self._fields(line)
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"row {row} of {printable(self._path)} cannot be read: {error}",
                hint="stream it as files, or mend the row",
            ) from error

    def _fields(self, line: bytes) -> dict[str, Any]:
        if self._index.delimiter is None:
            value = msgspec.json.decode(line)
            return value if isinstance(value, dict) else {"value": value}
        fields = read_fields(line.decode("utf-8"), self._index.delimiter)
        if len(fields) != len(self._index.names):
            raise ValueError(
                f"it has {len(fields)} fields, the first line {len(self._index.names)}"
            )
        return dict(zip(self._index.names, fields, strict=True))


def _open_table(snapshot: Snapshot, path: str, digest: bytes) -> Table:
    if path.lower().endswith(".parquet"):
        return ParquetTable(snapshot, path)
    return LineTable(snapshot, path, line_index(snapshot, path, digest))


def _row_runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of rows that follow one another, as first and end."""
    first = end = rows[0] if rows else 0
    for row in rows:
        if row != end:
            yield first, end
            first = row
        end = row + 1
    if rows:
        yield first, end
