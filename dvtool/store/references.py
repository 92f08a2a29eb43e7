"""The references that this store knows: contents that are at a source, and how to check them.

They are in a file of their own, `references.db`, which no rebuild of the index touches: until a
push, it alone knows which object has a content. A content may have several; each is tried.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping

import msgspec

from dvtool.errors import CorruptError, SetupError
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.references import Reference, SourceAddress
from dvtool.store.schema import (
    BUSY_TIMEOUT_S,
    HearingConnection,
    is_read_only,
    select_in,
    write_rows,
)
from dvtool.system.atomic import make_folders, share
from dvtool.system.decoders import json_decoder

REFERENCES_FILE = "references.db"
_SIZE_BYTES = 8
_INSERT = (
    "INSERT INTO contents VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE "
    "SET modified = max(modified, excluded.modified) WHERE excluded.modified > modified"
)
_ADD_TIMES = "ALTER TABLE contents ADD COLUMN modified INTEGER NOT NULL DEFAULT 0"
_REFERENCE_TABLES = (
    "CREATE TABLE IF NOT EXISTS addresses (id INTEGER PRIMARY KEY, text BLOB NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS contents (digest BLOB NOT NULL, address INTEGER NOT NULL, "
    "key TEXT NOT NULL, size INTEGER NOT NULL, tag TEXT NOT NULL, version TEXT NOT NULL, "
    "chunks BLOB NOT NULL, modified INTEGER NOT NULL DEFAULT 0, "
    "UNIQUE (digest, address, key, tag, version))",
    "CREATE TABLE IF NOT EXISTS copied (digest BLOB PRIMARY KEY) WITHOUT ROWID",
)


class References:
    """Content -> the objects that have it. With `reading` nothing is made or changed.

    The file is made when something is first put into it.
    """

    def __init__(self, folder: str, *, reading: bool = False) -> None:
        self._path = os.path.join(folder, REFERENCES_FILE)
        self._fixed = reading or is_read_only(folder)
        self._in_memory = False
        self._time = "modified"
        self._db = self._opened()

    def _opened(self, *, making: bool = False) -> sqlite3.Connection:
        try:
            return self._connect(making)
        except sqlite3.OperationalError as error:
            raise SetupError(f"cannot open {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _connect(self, making: bool) -> sqlite3.Connection:
        """Open the file, or nothing in its place if there is none and none is to be made."""
        making = making and not self._fixed
        self._in_memory = not making and not _has_bytes(self._path)
        path = ":memory:" if self._in_memory else self._path
        if making:
            make_folders(os.path.dirname(path))
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, factory=HearingConnection
        )
        if self._fixed and not self._in_memory:
            db.execute("PRAGMA query_only = ON")
            self._time = "modified" if "modified" in _column_names(db) else "0"
            return db
        db.execute("PRAGMA synchronous = FULL")
        with db:
            db.execute("BEGIN IMMEDIATE")  # so that whoever reads finds all tables, or no bytes
            for statement in _REFERENCE_TABLES:
                db.execute(statement)
            if "modified" not in _column_names(db):
                db.execute(_ADD_TIMES)
        self._time = "modified"
        if not self._in_memory:
            share(path)
        return db

    def _current(self, *, making: bool = False) -> sqlite3.Connection:
        """Return the connection; a file that came since, or is to be made, is opened."""
        if self._in_memory and ((making and not self._fixed) or _has_bytes(self._path)):
            self._db.close()
            self._db = self._opened(making=making)
        return self._db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, references: Iterable[tuple[Digest, Reference]]) -> None:
        """Remember, durably, which object has a content; of known ones the latest time."""
        rows = [(digest, reference) for digest, reference in references]
        if not rows:
            return
        db = self._current(making=True)
        with db:
            numbers = {reference.address: self._number(reference.address) for _, reference in rows}
            contents = (
                (
                    digest,
                    numbers[reference.address],
                    *(reference.key, reference.size, reference.tag, reference.version),
                    *(_joined(reference), reference.modified),
                )
                for digest, reference in rows
            )
            write_rows(db, _INSERT, contents)

    def find(self, digests: Iterable[Digest]) -> dict[Digest, list[Reference]]:
        """Return content -> the objects that have, or had it; those that came last first."""
        wanted, db = list(digests), self._current()
        references: dict[Digest, list[tuple[int, Reference]]] = {}
        try:
            addresses = {
                number: json_decoder(SourceAddress).decode(text)
                for number, text in db.execute("SELECT id, text FROM addresses")
            }
            if not addresses:
                return {}
            columns = f"rowid, digest, address, key, size, tag, version, chunks, {self._time}"
            for row, digest, number, key, size, tag, version, chunks, time in select_in(
                db, self._path, f"SELECT {columns} FROM contents WHERE digest", wanted
            ):
                parts = _parted(chunks) or ((digest, size),)
                reference = Reference(addresses[number], key, size, tag, version, parts, time)
                references.setdefault(digest, []).append((row, reference))
        except (sqlite3.DatabaseError, msgspec.MsgspecError, KeyError) as error:
            raise self._damaged(error) from error
        return {
            digest: [reference for _, reference in sorted(rows, key=_row_of, reverse=True)]
            for digest, rows in references.items()
        }

    def any(self) -> bool:
        """Whether any content is known to be at a source."""
        try:
            row = self._current().execute("SELECT 1 FROM contents LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        return row is not None

    def set_copied(self, digests: Iterable[Digest]) -> None:
        """Remember that copies of contents were asked for: a push sends them, not the reference."""
        rows = [(digest,) for digest in digests]
        if rows:
            with self._current(making=True) as db:
                db.executemany("INSERT OR IGNORE INTO copied VALUES (?)", rows)

    def copied(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the contents of which copies were asked for."""
        head = "SELECT digest FROM copied WHERE digest"
        return {row[0] for row in select_in(self._current(), self._path, head, digests)}

    def known(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the contents that some object has, or had."""
        return set(self.find(digests))

    def forget_besides(self, needed: Collection[Digest], *, before_s: float) -> int:
        """Forget all contents but those `needed`; return by how many bytes the file shrank.

        Nothing is forgotten if any was learned since `before_s`, as `time.time` has it.
        """
        try:
            rows = self._current().execute(
                "SELECT digest FROM contents UNION SELECT digest FROM copied"
            )
            gone = [row for row in rows if row[0] not in needed]
            if not gone or os.path.getmtime(self._path) > before_s:
                return 0
            size = os.path.getsize(self._path)
            with self._db:
                self._db.executemany("DELETE FROM contents WHERE digest = ?", gone)
                self._db.executemany("DELETE FROM copied WHERE digest = ?", gone)
                self._db.execute(
                    "DELETE FROM addresses WHERE id NOT IN (SELECT address FROM contents)"
                )
            self._db.execute("VACUUM")
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        return size - os.path.getsize(self._path)

    def _number(self, address: SourceAddress) -> int:
        text = msgspec.json.encode(address)
        self._db.execute("INSERT OR IGNORE INTO addresses (text) VALUES (?)", (text,))
        row = self._db.execute("SELECT id FROM addresses WHERE text = ?", (text,)).fetchone()
        return int(row[0])

    def _damaged(self, error: Exception) -> CorruptError:
        return CorruptError(
            f"{self._path} cannot be read ({error})",
            hint="move it away: what was pushed is learned from the remote again, and the rest by "
            "dv import --reference, repeated",
        )


def _has_bytes(path: str) -> bool:
    """Whether a file is there with something in it: SQLite makes it before it writes to it."""
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:
        return False


def _column_names(db: sqlite3.Connection) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(contents)")}


def chunk_lists_of(
    references: Mapping[Digest, list[Reference]],
) -> dict[Digest, tuple[Digest, ...]]:
    """Return content -> its chunks, as its first reference says."""
    return {
        content: tuple(chunk for chunk, _ in known[0].chunks)
        for content, known in references.items()
    }


def _row_of(numbered: tuple[int, Reference]) -> int:
    return numbered[0]


def _joined(reference: Reference) -> bytes:
    if len(reference.chunks) == 1:
        return b""
    return b"".join(digest + size.to_bytes(_SIZE_BYTES) for digest, size in reference.chunks)


def _parted(joined: bytes) -> tuple[tuple[Digest, int], ...]:
    step = DIGEST_SIZE_BYTES + _SIZE_BYTES
    rows = (joined[at : at + step] for at in range(0, len(joined), step))
    return tuple((row[:DIGEST_SIZE_BYTES], int.from_bytes(row[DIGEST_SIZE_BYTES:])) for row in rows)
