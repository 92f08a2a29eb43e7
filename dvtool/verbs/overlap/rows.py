"""The rows of tables, each as the hash of its values: CSV, JSON lines and Parquet.

Values are compared as text, so that tables of different formats can be: ``1`` in a CSV file is the
number 1 in a Parquet file. The empty text, no value and no such column are alike.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Literal, TypeAlias

import msgspec

from dvtool.errors import InputError, UsageError, listing, printable
from dvtool.format.digest import Digest, digest_of
from dvtool.system.extras import import_extra

Format: TypeAlias = Literal["csv", "tsv", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_GZIP = ".gz"
_FIELD_LENGTH_MAX = (1 << 31) - 1
PARQUET_BATCH_ROWS = 4_096
READ_BYTES = 1 << 20

_DAMAGE = (ValueError, csv.Error, gzip.BadGzipFile, zlib.error, EOFError)
"""The errors of reading a table that is none; an error of the disk is not among them."""

RowValues: TypeAlias = dict[str, Any]
TableColumns: TypeAlias = frozenset[str]


class RowQuery(msgspec.Struct, frozen=True):
    """The rule by which two rows are the same.

    With `keys` the values of these columns count, without keys all columns with their values. A
    row in which these are all empty is like no other. Without a `header`, the columns of CSV files
    are called 1, 2, 3 …
    """

    keys: tuple[str, ...] = ()
    header: bool = True


class TableRows(msgspec.Struct):
    """The rows of one table, and its columns; None for JSON lines, each of which has its own."""

    columns: TableColumns | None
    rows: Iterator[tuple[int, Digest | None]]
    """Number of the row, from 1, and its hash; None for a row that is like no other."""


def format_of(path: str) -> Format | None:
    """Return the format of a table by its name; None if the file is no table."""
    name = path.lower().removesuffix(_GZIP)
    packed = name != path.lower()
    table = next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix)), None)
    return None if packed and table == "parquet" else table


def table_rows(path: str, pieces: Callable[[], Iterable[memoryview]], query: RowQuery) -> TableRows:
    """Return the rows of the table at a path whose bytes come in pieces.

    InputError, naming the row, for what is no such table; UsageError for a key that it lacks.
    """
    kind = format_of(path)
    rows = _parquet(path, pieces, query) if kind == "parquet" else _text_rows(path, pieces, query)
    try:
        first = next(rows, None)
    except _DAMAGE as error:
        raise _no_table(path, 1, error) from error
    if first is None:
        return TableRows(frozenset(), iter(()))
    columns = None if kind == "jsonl" else frozenset(first)
    return TableRows(columns, _numbered(path, first, rows, query))


def _numbered(
    path: str, first: RowValues, rows: Iterator[RowValues], query: RowQuery
) -> Iterator[tuple[int, Digest | None]]:
    number, values = 1, first
    while True:
        if any(key not in values for key in query.keys):
            _refuse_lacking(path, number, values, query)
        yield number, _row_digest(values, query)
        number += 1
        try:
            values = next(rows)
        except StopIteration:
            return
        except _DAMAGE as error:
            raise _no_table(path, number, error) from error


def _refuse_lacking(path: str, number: int, columns: Iterable[str], query: RowQuery) -> None:
    names = set(columns)
    for key in query.keys:
        if key not in names:
            raise UsageError(
                f"{printable(path)}, row {number:,}, has no column {printable(key)}; it has:\n"
                f"{listing(sorted(names))}",
                hint="name columns that all tables have: --key COLUMN",
            )


def _no_table(path: str, number: int, error: Exception) -> InputError:
    return InputError(
        f"{printable(path)} cannot be read as a table, at row {number:,}: {printable(str(error))}",
        hint="mend it, or leave it out with a glob: dv check-overlap 'data/train/*.csv' …",
    )


def _row_digest(values: RowValues, query: RowQuery) -> Digest | None:
    if query.keys:
        texts = [_value_text(values[key]) for key in query.keys]
        return digest_of(_encode_row(texts)) if any(texts) else None
    pairs = sorted((name, text) for name, value in values.items() if (text := _value_text(value)))
    return digest_of(_encode_row(pairs)) if pairs else None


_encode_row = msgspec.json.Encoder().encode


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)  # dates, decimals


# --- text -----------------------------------------------------------------------------------


class _Pieces(io.RawIOBase):
    """Bytes that come in pieces, as a file to be read from its start to its end."""

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _text_rows(
    path: str, pieces: Callable[[], Iterable[memoryview]], query: RowQuery
) -> Iterator[RowValues]:
    raw = io.BufferedReader(_Pieces(pieces()), READ_BYTES)
    packed = path.lower().endswith(_GZIP)
    plain = io.BufferedReader(gzip.GzipFile(fileobj=raw), READ_BYTES) if packed else raw
    kind = format_of(path)
    if kind == "jsonl":
        return _json_rows(plain)
    text = io.TextIOWrapper(plain, "utf-8-sig", newline="")
    return _csv_rows(text, _DELIMITERS[kind or ""], query)


def _json_rows(file: Iterable[bytes]) -> Iterator[RowValues]:
    for number, line in enumerate(file):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
        if text.isspace():
            continue
        try:
            values = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error
        if not isinstance(values, dict):
            raise ValueError("it is no JSON object")
        yield values


def _csv_rows(file: IO[str], delimiter: str, query: RowQuery) -> Iterator[RowValues]:
    rows = _csv_fields(file, delimiter)
    names = next(rows, None) if query.header else []
    if names is None:
        return
    if len(set(names)) < len(names):
        raise ValueError("its header names a column twice")
    for fields in rows:
        if query.header and len(fields) > len(names):
            raise ValueError(f"it has {len(fields)} fields, and the header {len(names)}")
        columns = names or [str(number + 1) for number in range(len(fields))]
        yield dict(zip(columns, fields + [""] * (len(columns) - len(fields)), strict=True))


def _csv_fields(file: IO[str], delimiter: str) -> Iterator[list[str]]:
    rows = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        # The limit is the whole process's; texts of a data set are longer than its 128 KiB.
        limit = csv.field_size_limit(_FIELD_LENGTH_MAX)
        try:
            fields = next(rows, None)
        finally:
            csv.field_size_limit(limit)
        if fields is None:
            return
        if fields:
            yield fields


# --- Parquet --------------------------------------------------------------------------------


def _parquet(
    path: str, pieces: Callable[[], Iterable[memoryview]], query: RowQuery
) -> Iterator[RowValues]:
    parquet = import_extra("pyarrow.parquet", extra="parquet", user=f"rows of {printable(path)}")
    arrow = import_extra("pyarrow", extra="parquet", user=f"rows of {printable(path)}")
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(io.BufferedReader(_Pieces(pieces()), READ_BYTES), file, READ_BYTES)
        file.seek(0)
        try:
            table = parquet.ParquetFile(file)
            _refuse_lacking(path, 1, table.schema_arrow.names, query)
            nested = any("." in key for key in query.keys)  # a dot would lead into a struct
            columns = list(query.keys) if query.keys and not nested else None
            for batch in table.iter_batches(PARQUET_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
        except arrow.ArrowException as error:
            raise ValueError(str(error)) from error
