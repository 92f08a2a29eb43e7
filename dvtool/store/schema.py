"""The tables of store.db, opening the file, and queries that both halves of it share."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, starmap
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from dvtool.errors import BusyError, CorruptError, SetupError
from dvtool.format.pack import PackIndex, Placement
from dvtool.store.rooted import database_uri
from dvtool.system.atomic import make_folders, share
from dvtool.system.heard import while_hearing
from dvtool.system.sorting import sorted_in_parts

SCHEMA_VERSION = 1
QUERY_BATCH = 900
"""Below SQLite's oldest limit on the parameters of one statement, 999."""
CHUNK_ROWS_AT_ONCE = QUERY_BATCH // 6
"""Rows of six values that one statement takes: a third less time than by a statement for each."""
WRITE_BATCH = 1024
"""Rows that are written in some milliseconds, so that bars move and Ctrl-C is answered."""
BUSY_TIMEOUT_S = 60
BUSY_RETRY_S = 0.01


K = TypeVar("K", bytes, str)
Row: TypeAlias = Any
"""A row as sqlite3 gives it: a tuple of the columns selected."""

SCHEMA = """
CREATE TABLE packs (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, size INTEGER NOT NULL);
CREATE TABLE chunks (
  digest BLOB PRIMARY KEY, pack INTEGER NOT NULL,
  frame_offset INTEGER NOT NULL, frame_size INTEGER NOT NULL,
  start INTEGER NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE recipes (
  digest BLOB PRIMARY KEY, size INTEGER NOT NULL, chunks BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE remotes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE remote_packs (
  id INTEGER PRIMARY KEY, remote INTEGER NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
  pending INTEGER NOT NULL DEFAULT 0, UNIQUE (remote, digest)
);
CREATE TABLE remote_objects (
  remote INTEGER NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, md5 BLOB,
  PRIMARY KEY (remote, key)
) WITHOUT ROWID;
CREATE TABLE remote_chunks (
  digest BLOB NOT NULL, remote_pack INTEGER NOT NULL,
  frame_offset INTEGER NOT NULL, frame_size INTEGER NOT NULL,
  start INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (digest, remote_pack)
) WITHOUT ROWID;
CREATE TABLE remote_shards (
  remote INTEGER NOT NULL, digest BLOB NOT NULL, packs BLOB NOT NULL,
  PRIMARY KEY (remote, digest)
) WITHOUT ROWID;
CREATE TABLE remote_roots (
  remote INTEGER NOT NULL, manifest BLOB NOT NULL, root TEXT NOT NULL,
  PRIMARY KEY (remote, manifest)
) WITHOUT ROWID;
CREATE TABLE remote_recipes (
  remote INTEGER NOT NULL, digest BLOB NOT NULL, chunks BLOB NOT NULL,
  PRIMARY KEY (remote, digest)
) WITHOUT ROWID;
CREATE TABLE remote_commits (
  remote INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (remote, id)
) WITHOUT ROWID;
"""
LATER_TABLES = (
    "CREATE TABLE IF NOT EXISTS remote_features "
    "(place TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS remote_ids "
    "(place TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS held_shards "
    "(digest BLOB PRIMARY KEY, removals INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS removals (id INTEGER PRIMARY KEY, count INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS seen_manifests "
    "(clone TEXT NOT NULL, manifest BLOB NOT NULL, PRIMARY KEY (clone, manifest)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS remote_referring "
    "(remote INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (remote, digest)) WITHOUT ROWID",
)
"""Tables that came later: an older index gets them when it is opened."""

_PLACE_TEST = " AND ".join(
    f"typeof({column}) = 'integer' AND {column} BETWEEN 0 AND 4294967295"
    for column in ("frame_offset", "frame_size", "start", "size")
)
ROW_TESTS = {
    "packs": "typeof(digest) = 'blob' AND length(digest) = 32 AND typeof(size) = 'integer'",
    "chunks": f"typeof(digest) = 'blob' AND length(digest) = 32 AND typeof(pack) = 'integer' "
    f"AND {_PLACE_TEST}",
    "recipes": "typeof(digest) = 'blob' AND length(digest) = 32 AND typeof(size) = 'integer' "
    "AND typeof(chunks) = 'blob' AND length(chunks) % 32 = 0",
    "remotes": "typeof(name) = 'text'",
    "remote_packs": "typeof(digest) = 'blob' AND typeof(size) = 'integer'",
    "remote_chunks": f"typeof(digest) = 'blob' AND {_PLACE_TEST}",
    "remote_objects": "typeof(key) = 'text' AND typeof(size) = 'integer' "
    "AND typeof(md5) IN ('blob', 'null')",
    "remote_shards": "typeof(digest) = 'blob' AND typeof(packs) = 'blob'",
    "remote_roots": "typeof(manifest) = 'blob' AND typeof(root) = 'text'",
    "remote_recipes": "typeof(digest) = 'blob' AND typeof(chunks) = 'blob'",
    "remote_commits": "typeof(id) = 'text'",
}
"""Table -> a test of each row; a flipped bit can make a text or a number of a digest."""


class HearingConnection(sqlite3.Connection):
    """A connection whose ``with`` hears signals while it commits; it may be used by any thread."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        """Commit, or roll back after an error, also that of the commit itself."""
        if kind is not None:
            self.rollback()
            return False
        try:
            while_hearing(self.commit)
        except BaseException:
            self.rollback()
            raise
        return False


def connect(path: str) -> sqlite3.Connection:
    """Open store.db, made with its tables if it is not there.

    Where it may only be read, the connection is to a copy that goes with it: what a command that
    only reads notes on its way stays there. SetupError or BusyError if it cannot be opened,
    CorruptError if it is damaged.
    """
    fixed = is_read_only(os.path.dirname(path))
    if not fixed:
        make_folders(os.path.dirname(path))
    try:
        # An empty name is that of a file without a name, which SQLite keeps in memory if it can.
        db = sqlite3.connect(
            "" if fixed else path,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
            factory=HearingConnection,
        )
    except sqlite3.Error as error:
        raise SetupError(f"cannot open the store's index {path}: {error}") from error
    try:
        if fixed:
            _copy_into(db, path)
        else:
            _use_write_ahead_log(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: see `atomic.flush_to_disk`; nothing elsewhere
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            if not fixed:
                share(path)
            _create(db)
        elif version != SCHEMA_VERSION:
            raise _other_version(path, version)
        for statement in LATER_TABLES:
            db.execute(statement)
    except sqlite3.OperationalError as error:
        # The file is locked or read-only, or the disk is full: its content is not in question.
        db.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error
        kind = BusyError if _is_busy(error) else SetupError
        raise kind(f"cannot open the store's index {path}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        db.close()
        raise damaged(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: str) -> sqlite3.Connection:
    """Open store.db for reading alone; where there is none, an empty one in memory.

    The connection may be used by several threads, one at a time. Errors are as `connect` has them.
    """
    if is_read_only(os.path.dirname(path)):
        return connect(path)
    if os.path.exists(path):
        try:
            db = sqlite3.connect(
                database_uri(path), uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
            )
            version = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError as error:
            kind = BusyError if _is_busy(error) else SetupError
            raise kind(f"cannot open the store's index {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise damaged(path, error) from error
        if version == SCHEMA_VERSION:
            return db
        db.close()
        if version:
            raise _other_version(path, version)
    db = sqlite3.connect(":memory:", check_same_thread=False)
    _create(db)
    for statement in LATER_TABLES:
        db.execute(statement)
    return db


def _other_version(path: str, version: int) -> SetupError:
    return SetupError(
        f"the store's index {path} is of version {version}, this dvtool uses {SCHEMA_VERSION}",
        hint="use a newer dvtool, or move the file away to have it made again",
    )


def is_read_only(folder: str) -> bool:
    """Whether a folder, or the nearest one above it that is there, may not be written in."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return not os.access(folder, os.W_OK | os.X_OK)


def _copy_into(db: sqlite3.Connection, path: str) -> None:
    """Copy a store.db that may only be read, if there is one, with what its log has besides."""
    if not os.path.exists(path):
        return
    log = f"{path}-wal"
    # With nothing in the log the file is whole by itself. Else SQLite needs its shared memory.
    logged = os.path.exists(log) and os.path.getsize(log) > 0
    uri = database_uri(path) + ("" if logged else "&immutable=1")
    source = sqlite3.connect(uri, uri=True)
    try:
        source.backup(db)
    finally:
        source.close()


def damaged(path: str, error: Exception) -> CorruptError:
    """Return the error for a store.db that cannot be read."""
    # sqlite3 fails to name the fault if the damaged bytes are in its message.
    detail = "" if isinstance(error, UnicodeDecodeError) else f": {error}"
    return CorruptError(
        f"the store's index {path} is damaged{detail}",
        hint="make it again from the packs: dv fsck --rebuild",
    )


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    # Where two processes make the file at once SQLite does not wait here, as it does elsewhere.
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > give_up:
                raise
            time.sleep(BUSY_RETRY_S)


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _create(db: sqlite3.Connection) -> None:
    # Two processes may come here at once: the second finds the work done.
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'packs'").fetchone():
                raise sqlite3.DatabaseError("it has tables, and says no version")
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def select_in(db: sqlite3.Connection, path: str, head: str, keys: Iterable[K]) -> Iterator[Row]:
    """Yield the rows of `head IN (keys)`, some keys at a time; `path` is the file's.

    CorruptError if a text in the table is not UTF-8.
    """
    return chain.from_iterable(_rows_of_batches(db, path, head, keys))


def _rows_of_batches(
    db: sqlite3.Connection, path: str, head: str, keys: Iterable[K]
) -> Iterator[list[Row]]:
    # A list for each batch: a generator that yields single rows doubles the time of a million.
    for batch in _batches(keys):
        marks = ",".join("?" * len(batch))
        try:
            rows = db.execute(f"{head} IN ({marks})", batch).fetchall()
        except UnicodeDecodeError as error:
            raise damaged(path, error) from error
        yield rows


def _batches(keys: Iterable[K]) -> Iterator[Sequence[K]]:
    # Neighbours in sorted order are on the same pages of the index.
    left = sorted_in_parts(set(keys), _beginning)
    while batch := list(islice(left, QUERY_BATCH)):
        yield batch


def write_rows(db: sqlite3.Connection, statement: str, rows: Iterable[Row]) -> None:
    """Run a statement for each row, some rows at a time: no signal is heard within one call."""
    left = iter(rows)
    while batch := list(islice(left, WRITE_BATCH)):
        db.executemany(statement, batch)


def add_chunk_rows(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Put rows into `chunks`; those of chunks that are there already stay as they are."""
    left = iter(rows)
    while batch := list(islice(left, CHUNK_ROWS_AT_ONCE)):
        marks = ",".join(["(?,?,?,?,?,?)"] * len(batch))
        values = list(chain.from_iterable(batch))
        db.execute(f"INSERT OR IGNORE INTO chunks VALUES {marks}", values)


def place_rows(number: int, places: Iterable[Placement]) -> Iterator[Row]:
    """Yield the rows of `chunks` or `remote_chunks` for placements in the pack of this number."""
    rows = ((p.digest, number, p.frame_offset, p.frame_size, p.start, p.size) for p in places)
    return sorted_rows(rows)


def pack_rows(*packs: tuple[int, PackIndex]) -> Iterator[Row]:
    """Yield the rows of `chunks`, sorted, for all that the packs of these numbers have."""
    return sorted_rows(chain.from_iterable(starmap(_index_rows, packs)))


def _index_rows(number: int, index: PackIndex) -> Iterator[Row]:
    # As `PackIndex.placements`, without an object for each of a million chunks.
    offsets, sizes = index.frame_offsets(), index.frame_sizes
    frame_before, start, offset, frame_size = -1, 0, 0, 0
    for digest, size, frame in zip(
        index.chunk_digests, index.chunk_sizes, index.chunk_frames, strict=True
    ):
        if frame != frame_before:
            frame_before, start = frame, 0
            offset, frame_size = offsets[frame], sizes[frame]
        yield digest, number, offset, frame_size, start, size
        start += size


def sorted_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows sorted, whose first column is a digest."""
    return sorted_in_parts(rows, _first_byte)


def _first_byte(row: Row) -> int:
    byte: int = row[0][0]
    return byte


def _beginning(key: K) -> K:
    return key[:1]
