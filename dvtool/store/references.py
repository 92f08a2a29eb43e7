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

REFERENCES_FILE = "references.db"
_SIZE_BYTES = 8
_REFERENCE_TABLES = (
    "CREATE TABLE IF NOT EXISTS addresses (id INTEGER PRIMARY KEY, text BLOB NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS contents (digest BLOB NOT NULL, address INTEGER NOT NULL, "
    "key TEXT NOT NULL, size INTEGER NOT NULL, tag TEXT NOT NULL, version TEXT NOT NULL, "
    "chunks BLOB NOT NULL, UNIQUE (digest, address, key, tag, version))",
    "CREATE TABLE IF NOT EXISTS copied (digest BLOB PRIMARY KEY) WITHOUT ROWID",
)


class References:
    """Content -> the objects that have it. With `reading` nothing is made or changed."""

    def __init__(self, folder: str, *, reading: bool = False) -> None:
        self._path = os.path.join(folder, REFERENCES_FILE)
        fixed = reading or is_read_only(folder)
        try:
            self._db = self._connect(fixed)
        except sqlite3.OperationalError as error:
            raise SetupError(f"cannot open {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _connect(self, fixed: bool) -> sqlite3.Connection:
        path = self._path
        if fixed and not os.path.exists(path):
            path = ":memory:"
        elif not fixed:
            make_folders(os.path.dirname(path))
        db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, factory=HearingConnection
        )
        if fixed and path != ":memory:":
            db.execute("PRAGMA query_only = ON")
            return db  # with its tables: they are made in one transaction
        db.execute("PRAGMA synchronous = FULL")
        for statement in _REFERENCE_TABLES:
            db.execute(statement)
        if path != ":memory:":
            share(path)
        return db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, references: Iterable[tuple[Digest, Reference]]) -> None:
        """Remember, durably, which object has a content."""
        rows = [(digest, reference) for digest, reference in references]
        if not rows:
            return
        with self._db:
            numbers = {reference.address: self._number(reference.address) for _, reference in rows}
            contents = (
                (
                    digest,
                    numbers[reference.address],
                    *(reference.key, reference.size, reference.tag, reference.version),
                    _joined(reference),
                )
                for digest, reference in rows
            )
            insert = "INSERT OR IGNORE INTO contents VALUES (?,?,?,?,?,?,?)"
            write_rows(self._db, insert, contents)

    def find(self, digests: Iterable[Digest]) -> dict[Digest, list[Reference]]:
        """Return content -> the objects that have, or had it; those that came last first."""
        wanted = list(digests)
        references: dict[Digest, list[tuple[int, Reference]]] = {}
        try:
            addresses = {
                number: msgspec.json.decode(text, type=SourceAddress)
                for number, text in self._db.execute("SELECT id, text FROM addresses")
            }
            if not addresses:
                return {}
            columns = "rowid, digest, address, key, size, tag, version, chunks"
            for row, digest, number, key, size, tag, version, chunks in select_in(
                self._db, self._path, f"SELECT {columns} FROM contents WHERE digest", wanted
            ):
                parts = _parted(chunks) or ((digest, size),)
                reference = Reference(addresses[number], key, size, tag, version, parts)
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
            row = self._db.execute("SELECT 1 FROM contents LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        return row is not None

    def set_copied(self, digests: Iterable[Digest]) -> None:
        """Remember that copies of contents were asked for: a push sends them, not the reference."""
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO copied VALUES (?)", [(digest,) for digest in digests]
            )

    def copied(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the contents of which copies were asked for."""
        head = "SELECT digest FROM copied WHERE digest"
        return {row[0] for row in select_in(self._db, self._path, head, digests)}

    def known(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the contents that some object has, or had."""
        return set(self.find(digests))

    def forget_besides(self, needed: Collection[Digest], *, before_s: float) -> int:
        """Forget all contents but those `needed`; return by how many bytes the file shrank.

        Nothing is forgotten if any was learned since `before_s`, as `time.time` has it.
        """
        try:
            rows = self._db.execute("SELECT digest FROM contents UNION SELECT digest FROM copied")
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
