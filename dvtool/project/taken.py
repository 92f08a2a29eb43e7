"""The objects taken from origins: which content each object had, in which state; of one clone.

The record is an index in git's common folder. It spares requests: what is in it, in the state that
a listing says, and in the store, is not read again, by an update or by an import that goes on.
Without it nothing is lost but time (decision 052).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dvtool.errors import DvError
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.manifest import Entry
from dvtool.format.source import DataSource
from dvtool.format.spelling import folded
from dvtool.remotes.origins.base import FORM_EXECUTABLE, FORM_LINK, OriginObject
from dvtool.system.atomic import make_folders
from dvtool.system.disposable import one_transaction, open_disposable

FILE_NAME = "taken.db"
TAKEN_ROWS_AT_ONCE = 10_000

_TABLES = """
CREATE TABLE IF NOT EXISTS taken (
    source BLOB NOT NULL, key TEXT NOT NULL, tag TEXT NOT NULL, size INTEGER NOT NULL,
    digest BLOB NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (source, key)
) WITHOUT ROWID;
CREATE TEMP TABLE listed (
    path TEXT PRIMARY KEY, key TEXT NOT NULL, tag TEXT NOT NULL, size INTEGER NOT NULL,
    version TEXT NOT NULL, folded TEXT NOT NULL, digest BLOB, bytes INTEGER,
    form TEXT NOT NULL
) WITHOUT ROWID;
"""


class ListedFile(NamedTuple):
    """One object of a listing whose content is known."""

    path: str
    digest: Digest
    size: int
    form: str = ""
    """As that of an `OriginObject`."""
    link: str = ""
    """Where a symlink points."""

    @property
    def entry(self) -> Entry:
        """The entry of a manifest for it."""
        if self.form == FORM_LINK:
            return Entry(symlink=self.link)
        executable = self.form == FORM_EXECUTABLE
        return Entry(blake3=self.digest.hex(), size=self.size, exec=executable)


class TakenObjects:
    """The record of one source, and the listing that is being worked on, both on disk."""

    def __init__(self, git_dir: str, source: DataSource) -> None:
        folder = os.path.join(git_dir, "dv")
        make_folders(folder)
        named_source = (source.kind, source.url, source.path, *sorted(source.options.items()))
        self._source = digest_of(repr(named_source).encode())
        self._db = open_disposable(os.path.join(folder, FILE_NAME), _TABLES)

    def __enter__(self) -> TakenObjects:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # --- the listing ----------------------------------------------------------------------

    def list_objects(self, objects: Iterable[tuple[str, OriginObject]]) -> None:
        """Take objects of a listing, with their paths; a path that is there already is DvError.

        A symlink has no content, so that counts as known.
        """
        rows = (
            (
                *(path, each.key, each.tag, each.size, each.version, folded(path)),
                *((EMPTY, 0) if each.form == FORM_LINK else (None, None)),
                each.form,
            )
            for path, each in objects
        )
        try:
            with one_transaction(self._db):
                self._db.executemany(
                    "INSERT INTO listed (path, key, tag, size, version, folded, digest, bytes, "
                    "form) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
        except sqlite3.IntegrityError as error:
            raise DvError("the listing names an object twice", hint="repeat the command") from error

    def total(self) -> tuple[int, int]:
        """Return how many objects are listed, and their bytes as far as they are known."""
        row = self._db.execute("SELECT count(*), total(max(size, 0)) FROM listed").fetchone()
        return row[0], int(row[1])

    def state(self) -> str:
        """Return a hash over paths, sizes and tags of the listing, in hex.

        Where an object has no tag, its content stands for it; "" as long as that is not known.
        """
        whole = hasher(b"dv listing 1\n")
        last = ""
        while rows := self._db.execute(
            "SELECT path, size, tag || form, digest FROM listed WHERE path > ? "
            "ORDER BY path LIMIT ?",
            (last, TAKEN_ROWS_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            for path, size, tag, digest in rows:
                if not tag and digest is None:
                    return ""
                named = tag or f"={digest.hex()}"
                whole.update(f"{path}\0{size}\0{named}\n".encode())
        return whole.hexdigest()

    def one_for_another(self, most: int) -> list[tuple[str, str]]:
        """Return pairs of paths, some at most, that a filesystem takes for one another.

        Two that differ in case or Unicode form only, and a path with others below it.
        """
        self._db.execute("CREATE INDEX IF NOT EXISTS temp.by_folded ON listed (folded)")
        alike = self._db.execute(
            "SELECT a.path, b.path FROM listed a JOIN listed b "
            "ON a.folded = b.folded AND a.path < b.path LIMIT ?",
            (most,),
        ).fetchall()
        below = self._db.execute(
            "SELECT a.path, (SELECT b.path FROM listed b WHERE b.folded > a.folded || '/' "
            "AND b.folded < a.folded || '0' LIMIT 1) AS inner FROM listed a "
            "WHERE inner IS NOT NULL LIMIT ?",
            (most,),
        ).fetchall()
        return [*alike, *below][:most]

    def recall(self) -> None:
        """Note in the listing the content of each object that was taken in that very state."""
        with one_transaction(self._db):
            self._db.execute(
                "UPDATE listed SET (digest, bytes) = (SELECT taken.digest, taken.bytes FROM taken "
                "WHERE taken.source = ? AND taken.key = listed.key AND taken.size = listed.size "
                "AND taken.tag IN (listed.tag, listed.tag || ?)) WHERE tag <> '' AND form <> ?",
                (self._source, FORM_EXECUTABLE, FORM_LINK),
            )

    def changes(self) -> tuple[int, int, int]:
        """Return how many objects are new, are another, or are gone since they were taken.

        All 0 where nothing is on record, as after git clone.
        """
        recorded = "SELECT key FROM taken WHERE source = :source"
        added = f"SELECT count(*) FROM listed WHERE key NOT IN ({recorded})"
        gone = f"SELECT count(*) FROM ({recorded}) WHERE key NOT IN (SELECT key FROM listed)"
        changed = (
            "SELECT count(*) FROM listed JOIN taken ON taken.source = :source "
            "AND taken.key = listed.key "
            "WHERE taken.tag <> listed.tag || listed.form OR taken.size <> listed.size"
        )
        named = {"source": self._source}
        if self._db.execute(f"{recorded} LIMIT 1", named).fetchone() is None:
            return 0, 0, 0
        first, second, third = (
            self._db.execute(sql, named).fetchone()[0] for sql in (added, changed, gone)
        )
        return first, second, third

    def has_record(self) -> bool:
        """Whether anything was taken from the source by this clone."""
        asked = self._db.execute("SELECT 1 FROM taken WHERE source = ? LIMIT 1", (self._source,))
        return asked.fetchone() is not None

    def known(self) -> Iterator[list[ListedFile]]:
        """Yield the objects whose content is known, by path, some at a time."""
        last = ""
        while rows := self._db.execute(
            "SELECT path, digest, bytes, form, iif(form = ?, version, '') FROM listed "
            "WHERE path > ? AND digest IS NOT NULL ORDER BY path LIMIT ?",
            (FORM_LINK, last, TAKEN_ROWS_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            yield [ListedFile(*row) for row in rows]

    def known_objects(self) -> Iterator[list[tuple[str, OriginObject, Digest]]]:
        """Yield path, object and content of the objects whose content is known, some at a time."""
        last = ""
        while rows := self._db.execute(
            "SELECT path, digest, key, size, tag, version FROM listed "
            "WHERE path > ? AND digest IS NOT NULL ORDER BY path LIMIT ?",
            (last, TAKEN_ROWS_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            yield [(row[0], OriginObject(*row[2:]), row[1]) for row in rows]

    def unknown(self) -> Iterator[tuple[str, OriginObject]]:
        """Yield the objects whose content is not known, by path; `settle` may be called between."""
        last = ""
        while rows := self._db.execute(
            "SELECT path, key, size, tag, version FROM listed WHERE path > ? AND digest IS NULL "
            "ORDER BY path LIMIT ?",
            (last, TAKEN_ROWS_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            yield from ((row[0], OriginObject(*row[1:])) for row in rows)

    def unknown_total(self) -> tuple[int, int]:
        """Return how many objects' content is not known, and their bytes."""
        row = self._db.execute(
            "SELECT count(*), total(max(size, 0)) FROM listed WHERE digest IS NULL"
        ).fetchone()
        return row[0], int(row[1])

    def unsized_total(self) -> int:
        """Return how many of the listed objects have a size that is not known."""
        row = self._db.execute("SELECT count(*) FROM listed WHERE size < 0").fetchone()
        return int(row[0])

    def forget_between(self, first: str, last: str) -> None:
        """Let the content of the objects from one path to another count as not known."""
        self._db.execute(
            "UPDATE listed SET digest = NULL WHERE path BETWEEN ? AND ?", (first, last)
        )

    def forget(self, paths: Iterable[str]) -> None:
        """Let the content of some objects count as not known, as where the store lacks it."""
        with one_transaction(self._db):
            self._db.executemany(
                "UPDATE listed SET digest = NULL WHERE path = ?", ((path,) for path in paths)
            )

    def guess(self, files: Iterable[ListedFile]) -> None:
        """Note the content of objects in the listing alone, until `settle` or the end."""
        with one_transaction(self._db):
            self._db.executemany(
                "UPDATE listed SET digest = ?, bytes = ? WHERE path = ?",
                ((file.digest, file.size, file.path) for file in files),
            )

    def settle(self, files: Iterable[ListedFile]) -> None:
        """Record, durably enough to go on after a crash, what objects were found to hold."""
        settled = list(files)
        self.guess(settled)
        with one_transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO taken (source, key, tag, size, digest, bytes) "
                "SELECT ?, key, tag || form, size, digest, bytes FROM listed WHERE path = ?",
                ((self._source, file.path) for file in settled),
            )

    def settle_listed(self) -> None:
        """Record what all objects of the listing were found to hold, as `settle` does."""
        with one_transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO taken (source, key, tag, size, digest, bytes) "
                "SELECT ?, key, tag || form, size, digest, bytes FROM listed "
                "WHERE digest IS NOT NULL",
                (self._source,),
            )

    def keep_only_listed(self) -> None:
        """Forget what was taken from objects that are listed no more."""
        with one_transaction(self._db):
            self._db.execute(
                "DELETE FROM taken WHERE source = ? AND key NOT IN (SELECT key FROM listed)",
                (self._source,),
            )
