"""The tables of files: CSV, TSV, JSON lines, Parquet, Feather and SQLite, read row by row."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

import msgspec

from dvtool.errors import InputError, printable
from dvtool.system.extras import import_extra

LINE_BYTES_MAX = 16 << 20
"""A line of a text table may have so many bytes; more is no table that a person made."""
READ_ROWS = 4_096
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_FEATHER = (".feather", ".arrow")
ROW_SUFFIXES = (*_SEPARATORS, *_JSON_LINES, ".parquet", *_FEATHER)

RowCells: TypeAlias = Sequence[Any]


@dataclass(frozen=True)
class RowTable:
    """One table: `columns` are name -> type, `rows` yields the values in the order of columns.

    `rows` and `count` may be called again as long as the file is open. `key` names the columns that
    identify a row where the format itself says so. `name` is that of a table in a file of several.
    """

    name: str | None
    columns: dict[str, str]
    rows: Callable[[], Iterator[RowCells]]
    count: Callable[[], int]
    key: tuple[str, ...] = ()


def counted(rows: Callable[[], Iterator[RowCells]]) -> Callable[[], int]:
    """Return a function that counts rows by reading them."""
    return lambda: sum(1 for _ in rows())


def row_tables(path: str, file: IO[bytes]) -> list[RowTable]:
    """Return the one table of an open, seekable file of text or Arrow; its name says the format.

    ValueError where it is no such table, then or when it is read; SetupError if a library is
    missing.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _SEPARATORS:
        return [_csv_table(file, _SEPARATORS[suffix])]
    if suffix in _JSON_LINES:
        return [_json_lines_table(file)]
    if suffix == ".parquet":
        return [_parquet_table(path, file)]
    if suffix in _FEATHER:
        return [_feather_table(path, file)]
    raise ValueError("it is called like no table")


def no_table(path: str, error: Exception) -> InputError:
    """Return the error for a file that cannot be read as its name says."""
    if isinstance(error, RecursionError):
        return InputError(f"{printable(path)} is nested too deeply")
    return InputError(f"{printable(path)} cannot be read as a table: {printable(str(error))}")


# --- text -----------------------------------------------------------------------------------


def _text_lines(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    first = True
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            raise ValueError(f"a line is longer than {LINE_BYTES_MAX >> 20} MiB")
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def _csv_cells(file: IO[bytes], delimiter: str) -> Iterator[list[str]]:
    lines = (line.decode("utf-8") for line in _text_lines(file))
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        # The limit is the whole process's; texts of a data set are longer than its 128 KiB.
        limit = csv.field_size_limit(LINE_BYTES_MAX)
        try:
            fields = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num:,}: {error}") from error
        finally:
            csv.field_size_limit(limit)
        if fields is None:
            return
        if fields:
            yield fields


def _csv_table(file: IO[bytes], delimiter: str) -> RowTable:
    names = next(_csv_cells(file, delimiter), [])
    if len(set(names)) < len(names):
        raise ValueError("its header names a column twice")

    def rows() -> Iterator[RowCells]:
        fields_of_rows = _csv_cells(file, delimiter)
        next(fields_of_rows, None)
        for number, fields in enumerate(fields_of_rows, start=1):
            if len(fields) > len(names):
                raise ValueError(
                    f"row {number:,} has {len(fields)} fields, and the header {len(names)}"
                )
            yield fields + [None] * (len(names) - len(fields))

    return RowTable(None, dict.fromkeys(names, "text"), rows, counted(rows))


def _json_objects(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text_lines(file), start=1):
        if line.isspace():
            continue
        try:
            values = msgspec.json.decode(line)
        except RecursionError as error:
            raise ValueError(f"line {number:,} is nested too deeply") from error
        except msgspec.DecodeError as error:
            raise ValueError(f"line {number:,}: {error}") from error
        yield values if isinstance(values, dict) else {"value": values}


_JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}


def _json_lines_table(file: IO[bytes]) -> RowTable:
    return objects_table(lambda: _json_objects(file))


def objects_table(objects: Callable[[], Iterator[dict[str, Any]]]) -> RowTable:
    """Return the table of objects of JSON: one pass finds the columns; null and absent are alike.

    `objects` may be called again.
    """
    kinds: dict[str, set[str]] = {}
    for values in objects():
        for name, value in values.items():
            kinds.setdefault(name, set())
            if value is not None:
                kinds[name].add(_JSON_TYPES[type(value)])
    columns = {name: " or ".join(sorted(kinds[name])) or "null" for name in kinds}

    def rows() -> Iterator[RowCells]:
        for values in objects():
            yield [values.get(name) for name in columns]

    return RowTable(None, columns, rows, counted(rows))


# --- Arrow ----------------------------------------------------------------------------------


def _arrow(path: str) -> Any:
    for module in ("pyarrow.ipc", "pyarrow.parquet"):
        import_extra(module, extra="report", user=f"rows of {printable(path)}")
    return import_extra("pyarrow", extra="report", user=f"rows of {printable(path)}")


def _arrow_fault(error: Exception) -> Exception:
    """Return the error to raise; Arrow also says by an OSError, of no number, that data is bad."""
    is_of_disk = isinstance(error, OSError) and error.errno is not None
    return error if is_of_disk else ValueError(str(error))


def _columns_of(schema: Any) -> dict[str, str]:
    if len(set(schema.names)) < len(schema.names):
        raise ValueError("it has two columns of one name")
    return {field.name: str(field.type) for field in schema}


def _rows_of(batch: Any) -> Iterator[RowCells]:
    for start in range(0, batch.num_rows, READ_ROWS):
        part = batch.slice(start, READ_ROWS)
        yield from zip(*(column.to_pylist() for column in part.columns), strict=True)


def _parquet_table(path: str, file: IO[bytes]) -> RowTable:
    arrow = _arrow(path)
    try:
        table = arrow.parquet.ParquetFile(file)
    except (arrow.ArrowException, OSError) as error:
        raise _arrow_fault(error) from error

    def rows() -> Iterator[RowCells]:
        try:
            for batch in table.iter_batches(READ_ROWS):
                yield from _rows_of(batch)
        except (arrow.ArrowException, OSError) as error:
            raise _arrow_fault(error) from error

    return RowTable(None, _columns_of(table.schema_arrow), rows, lambda: table.metadata.num_rows)


def _feather_table(path: str, file: IO[bytes]) -> RowTable:
    arrow = _arrow(path)
    try:
        table = arrow.ipc.open_file(file)
    except (arrow.ArrowException, OSError) as error:
        raise _arrow_fault(error) from error

    def rows() -> Iterator[RowCells]:
        try:
            for number in range(table.num_record_batches):
                yield from _rows_of(table.get_batch(number))
        except (arrow.ArrowException, OSError) as error:
            raise _arrow_fault(error) from error

    return RowTable(None, _columns_of(table.schema), rows, counted(rows))
