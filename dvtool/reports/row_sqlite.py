"""The tables of an SQLite file. Nothing that the file brings along is run: no view, no function."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO
from urllib.parse import quote

from dvtool.reports.row_files import READ_ROWS, RowCells, RowTable

SQLITE_SUFFIXES = (".sqlite", ".sqlite3", ".db")
_COPY_BYTES = 1 << 20
_VALUE_BYTES_MAX = 64 << 20


def sqlite_tables(file: IO[bytes], held: ExitStack) -> list[RowTable]:
    """Return the tables of an SQLite file by name, without virtual ones.

    SQLite reads files of the disk only, so the content is copied into a temporary one.
    """
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="dvtool-"))
    path = os.path.join(folder, "table.db")
    with open(path, "wb") as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy, _COPY_BYTES)
    database = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)
    held.callback(database.close)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES_MAX)
    try:
        database.execute("pragma trusted_schema = off")
        names = [
            name
            for name, sql in database.execute(
                "select name, sql from sqlite_schema where type = 'table' order by name"
            )
            if not name.startswith("sqlite_") and not sql.lower().startswith("create virtual")
        ]
        return [_sqlite_table(database, name) for name in names]
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error


def _sqlite_table(database: sqlite3.Connection, name: str) -> RowTable:
    quoted = _quoted(name)
    described = database.execute(f"pragma table_info({quoted})").fetchall()
    columns = {column: kind.lower() or "any" for _, column, kind, *_ in described}
    selected = ", ".join(map(_quoted, columns))

    def rows() -> Iterator[RowCells]:
        try:
            cursor = database.execute(f"select {selected} from {quoted}")
            while batch := cursor.fetchmany(READ_ROWS):
                yield from batch
        except sqlite3.Error as error:
            raise ValueError(str(error)) from error

    def count() -> int:
        number: int = database.execute(f"select count(*) from {quoted}").fetchone()[0]
        return number

    return RowTable(name, columns, rows, count)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
