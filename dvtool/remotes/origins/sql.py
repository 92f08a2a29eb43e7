"""Databases as origins: the rows of a query as a Parquet file, the same bytes for the same rows.

Read through ADBC, in one read-only transaction, a batch at a time. pyarrow and the drivers are the
extra `dvtool[sql]` and are loaded when a query runs.

The file is cut into row groups where the rows say so, as files are cut into chunks: a row that is
added or removed changes the group that it is in. Within a group the pages are cut by their content
(pyarrow's `use_content_defined_chunking`). Dictionaries are off: they hold the values in the order
in which these first occur, so that one row could change every page behind it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import xxhash

from dvtool.errors import RemoteError, SetupError, UsageError, printable
from dvtool.format.source import DataSource, holds_credentials
from dvtool.system.extras import import_extra

BATCH_ROWS = 1 << 14
"""SQLite has no types of columns: the driver takes them from so many rows."""
_BATCH_OPTION = "adbc.sqlite.query.batch_rows"
SAMPLE_ROWS = 1_024
GROUP_SIZE_BYTES = 4 << 20
GROUP_ROWS_MIN = 256
GROUP_ROWS_MAX = 1 << 15
WRITER_SETTINGS: Mapping[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": True,
    "store_schema": True,
    # Smaller than pyarrow's own: of an 8 MB file a deleted row then changes 5 %, not 12 %.
    "use_content_defined_chunking": {"min_chunk_size": 32 << 10, "max_chunk_size": 128 << 10},
}
"""All that decides about the bytes, besides the release of pyarrow, which the file names."""
URL_FORM = "sqlite:///FILE, duckdb:///FILE, or postgresql://HOST/DATABASE"
FILE_SCHEMES = ("sqlite", "duckdb")
"""Databases that are a file."""
DUCKDB_SETTINGS: Mapping[str, str] = {
    "access_mode": "READ_ONLY",
    # Else a query could read any file, write one (COPY … TO) and load code.
    "enable_external_access": "false",
    "lock_configuration": "true",
}
_TABLE = r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?"
_NOISE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_COUNTABLE = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)
_ATTACHES = re.compile(r"[\s;]*attach\b", re.IGNORECASE)
_PARAMETERS = frozenset({"sslmode", "service", "application_name", "connect_timeout", "host"})
_PRIMARY_KEY = {
    "sqlite": "SELECT name FROM pragma_table_info('{0}') WHERE pk > 0 ORDER BY pk",
    "duckdb": "SELECT unnest(constraint_column_names) FROM duckdb_constraints() WHERE "
    "constraint_type = 'PRIMARY KEY' AND lower('{0}') IN (lower(table_name), "
    "lower(schema_name || '.' || table_name))",
    "postgresql": "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = "
    "i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indrelid = '{0}'::regclass AND i.indisprimary "
    "ORDER BY array_position(i.indkey::int2[], a.attnum)",
}


def sql_source(url: str, asked: str, root: str, folder: str) -> tuple[DataSource, dict[str, str]]:
    """Return the source that an address and a query, or the name of a table, mean as typed.

    A database that is a file is relative to `folder`; in the manifest it is relative to the top of
    the worktree, `root`, if it is in there. The user's name stays on this machine, and is returned.
    """
    if holds_credentials(url):
        raise UsageError(
            "a password does not belong into the address",
            hint="put it into ~/.pgpass or a service file, or set PGPASSWORD",
        )
    scheme = url.partition("://")[0].lower()
    if scheme not in (*FILE_SCHEMES, "postgresql", "postgres") or not url.isprintable():
        raise UsageError(f"{printable(url)} is no database", hint=f"write {URL_FORM}")
    query = asked.strip().rstrip(";").strip()
    if not query or "\0" in query:
        raise UsageError("there is no query", hint="name a table, or write one: 'SELECT …'")
    if scheme in FILE_SCHEMES:
        path = url.partition("://")[2]
        if not path.startswith("/") or len(path) < 2:
            raise UsageError(
                f"{printable(url)} names no file",
                hint=f"{scheme}:///relative.db, or {scheme}:////absolute.db",
            )
        full = os.path.normpath(os.path.join(folder, unquote(path[1:])))
        inside = full.startswith(root + os.sep)
        where = os.path.relpath(full, root) if inside else full
        return DataSource("sql", f"{scheme}:///{quote(where)}", "", query=query), {}
    parts = urlsplit(url)
    extra = sorted(name for name, _ in parse_qsl(parts.query) if name not in _PARAMETERS)
    if extra:
        raise UsageError(
            f"the address sets {printable(extra[0])}, which is not for a manifest",
            hint=f"it may set {', '.join(sorted(_PARAMETERS))}; the rest goes to the environment",
        )
    where = parts.netloc.rpartition("@")[2] + parts.path
    clean = f"postgresql://{where}" + (f"?{parts.query}" if parts.query else "")
    user = unquote(parts.netloc.rpartition("@")[0])
    return DataSource("sql", clean, "", query=query), {"user": user} if user else {}


def has_order(query: str) -> bool:
    """Whether a query orders its rows at the top, as far as its text tells."""
    text = _NOISE.sub(" ", query)
    while (inner := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = inner
    return re.search(r"\border\s+by\b", text, re.IGNORECASE) is not None


class SqlSource:
    """A connection to the database of a source, read-only, in one transaction."""

    def __init__(self, source: DataSource, local: Mapping[str, str], root: str) -> None:
        self._source = source
        self._local = local
        self._root = root
        self._kind = source.url.partition("://")[0]
        self._opened = contextlib.ExitStack()
        self._connection: Any = None

    def __enter__(self) -> SqlSource:
        # The drivers' DB-API modules would load pandas and polars too, where these are installed.
        manager = _module("adbc_driver_manager")
        with self._explained("cannot be opened"):
            self._opened.enter_context(opened := self._database(manager))
            connection = self._opened.enter_context(manager.AdbcConnection(opened))
            connection.set_autocommit(False)
            self._connection = connection
            if self._kind == "postgresql":
                with self._run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"):
                    pass
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # another error may be on its way
            self._connection.rollback()
        with contextlib.suppress(Exception):
            self._opened.close()

    @contextlib.contextmanager
    def _run(self, query: str, **options: str) -> Iterator[Any]:
        """Run a statement; yield the reader of its batches."""
        with _module("adbc_driver_manager").AdbcStatement(self._connection) as statement:
            statement.set_options(**options)
            statement.set_sql_query(query)
            stream, _ = statement.execute_query()
            with _module("pyarrow").RecordBatchReader.from_stream(stream) as reader:
                yield reader

    def _database(self, manager: Any) -> Any:
        driver = _module(f"adbc_driver_{self._kind}")
        if self._kind != "duckdb":
            return driver.connect(self._address())
        return manager.AdbcDatabase(
            driver=driver.driver_path(),
            entrypoint="duckdb_adbc_init",
            path=self._file(),
            **DUCKDB_SETTINGS,
        )

    def _file(self) -> str:
        path = os.path.join(self._root, unquote(self._source.url.partition("://")[2][1:]))
        if not os.path.isfile(path):
            raise RemoteError(
                f"there is no database {printable(path)}",
                hint=f"write {self._kind}:///relative.db, or {self._kind}:////absolute.db",
            )
        return path

    def _address(self) -> str:
        if self._kind == "sqlite":
            return f"file:{quote(self._file())}?mode=ro"
        rest = self._source.url.partition("://")[2]
        user = self._local.get("user")
        return f"postgresql://{quote(user, safe='') + '@' if user else ''}{rest}"

    def full_query(self) -> str:
        """Return the query; of a table, the one that reads it in the order of its primary key."""
        query = self._source.query
        if _ATTACHES.match(_COMMENT.sub(" ", query)):  # SQLite would make the file
            raise RemoteError(
                f"{printable(self._source.url)}: the query attaches another database, which the "
                "address does not name; nothing was recorded",
                hint="name that one in the address",
            )
        if not re.fullmatch(_TABLE, query):
            return query
        named = self._run(_PRIMARY_KEY[self._kind].format(query))
        with self._explained(f"has no table {query} that can be read"), named as reader:
            keys = reader.read_all().column(0).to_pylist()
        order = ", ".join('"' + key.replace('"', '""') + '"' for key in keys)
        return f"SELECT * FROM {query}" + (f" ORDER BY {order}" if order else "")

    def write_parquet(self, query: str, path: str) -> tuple[int, tuple[str, ...]]:
        """Write the rows of a query to a file; return how many, and name and type of each column.

        RemoteError, with what the database says, if the query fails at any moment.
        """
        parquet = _module("pyarrow.parquet")
        rows = 0
        _module("pyarrow").set_memory_pool(_module("pyarrow").system_memory_pool())
        options = {_BATCH_OPTION: str(BATCH_ROWS)} if self._kind == "sqlite" else {}
        with self._explained("refuses the query"), self._run(query, **options) as reader:
            with parquet.ParquetWriter(path, reader.schema, **WRITER_SETTINGS) as writer:
                for table in row_groups(reader):
                    writer.write_table(table, row_group_size=max(table.num_rows, 1))
                    rows += table.num_rows
            columns = _columns(reader.schema)
        return rows, columns

    def described(self, query: str) -> tuple[tuple[str, ...], int | None]:
        """Return name and type of each column of a query, and how many rows it gives.

        The rows are None for a statement that cannot be part of another, as a PRAGMA.
        RemoteError, with what the database says, if it refuses the query.
        """
        inner = f"(\n{query}\n) AS planned"  # a comment may end the query
        countable = _COUNTABLE.match(_COMMENT.sub(" ", query)) is not None
        options = {_BATCH_OPTION: str(BATCH_ROWS)} if self._kind == "sqlite" else {}
        # SQLite tells types by the first rows, and reads no more than these.
        only_columns = query if self._kind == "sqlite" else f"SELECT * FROM {inner} LIMIT 0"
        with self._explained("refuses the query"):
            with self._run(only_columns, **options) as reader:
                columns = _columns(reader.schema)
            if not countable:
                return columns, None
            with self._run(f"SELECT count(*) FROM {inner}") as reader:
                return columns, int(reader.read_all().column(0)[0].as_py())

    @contextlib.contextmanager
    def _explained(self, trouble: str) -> Iterator[None]:
        manager, arrow = _module("adbc_driver_manager"), _module("pyarrow")
        try:
            yield
        except (manager.Error, arrow.ArrowException, arrow.ArrowInvalid, OSError) as error:
            said = printable(" ".join(str(error).split()))
            hint = "try the query in the database's own program"
            if "ype mismatch" in said:
                hint = "give the column one type in the query: CAST(column AS TEXT)"
            elif "password" in said or "authentication" in said:
                hint = "the password comes from PGPASSWORD, ~/.pgpass or a service file"
            raise RemoteError(
                f"{printable(self._source.url)} {trouble}: {said}; nothing was recorded", hint=hint
            ) from error


def row_groups(reader: Any) -> Iterator[Any]:
    """Yield the rows as tables, cut where a row's first value says so.

    It does not matter how the driver cut them into batches. The usual number of rows
    follows from the width of the first rows, in steps of two.
    """
    arrow = _module("pyarrow")
    pending: list[Any] = []
    count = usual = 0
    for batch in reader:
        pending.append(batch)
        count += batch.num_rows
        if count < SAMPLE_ROWS and not usual:
            continue
        table = arrow.Table.from_batches(pending)
        usual = usual or _usual_rows(_compact(table.slice(0, SAMPLE_ROWS)))
        at = 0
        for end in _cuts(table, usual):
            yield _compact(table.slice(at, end - at))
            at = end
        rest = table.slice(at)
        pending, count = rest.to_batches(), rest.num_rows
    table = arrow.Table.from_batches(pending, schema=reader.schema)
    usual = usual or _usual_rows(_compact(table))
    at = 0
    for end in (*_cuts(table, usual), table.num_rows):
        if end > at or not table.num_rows:
            yield _compact(table.slice(at, end - at))
        at = end


def _columns(schema: Any) -> tuple[str, ...]:
    return tuple(f"{field.name} {field.type}" for field in schema)


def _compact(table: Any) -> Any:
    return table.combine_chunks() if table.num_columns else table


def _usual_rows(sample: Any) -> int:
    width = max(sample.nbytes // max(sample.num_rows, 1), 1)
    rows = 1 << (GROUP_SIZE_BYTES // width).bit_length()
    return int(min(max(rows // 2, GROUP_ROWS_MIN), GROUP_ROWS_MAX))


def _cuts(table: Any, usual: int) -> list[int]:
    """Return the rows before which a group ends, from the start of one; the last one stays open."""
    if not table.num_columns:
        return []
    cuts = []
    least, most, last, at = usual // 4, usual * 2, 0, 0
    for chunk in table.column(0).chunks:
        for value in chunk.to_pylist():
            size = at - last
            if size >= most or (size >= least and _begins_group(value, usual)):
                cuts.append(at)
                last = at
            at += 1
    return cuts


def _begins_group(value: object, usual: int) -> bool:
    return xxhash.xxh3_64_intdigest(repr(value).encode("utf-8", "replace")) % usual == 0


def _module(name: str) -> Any:
    if name == "adbc_driver_duckdb" and importlib.util.find_spec(name) is None:
        raise SetupError(
            "files of DuckDB need its own package, duckdb, which is not installed",
            hint="install the package duckdb beside dvtool: see docs/install.md",
        )
    return import_extra(name, extra="sql", user="databases")
