"""The journal of an import on a cluster: what became of each batch, so that a killed one goes on.

It is a file of this clone, below git's common folder, one for a source and a remote, and goes when
the import is done. It also holds, on the disk and not in memory, what is made of the batches at
the end: which packs there must be, and the shard objects. Without it nothing is lost but time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from dvtool.format.digest import Digest, digest_of
from dvtool.format.source import DataSource
from dvtool.jobs.take_to_remote import FarTaken, PackThere
from dvtool.system.atomic import make_folders
from dvtool.system.decoders import msgpack_decoder
from dvtool.system.disposable import one_transaction, open_disposable

JOURNALS = "journal"
KEPT_S = 60 * 24 * 3600
"""How long the journal of an import that nobody repeats is kept."""
JOURNAL_ROWS = 1_000

_JOURNAL_TABLES = """
CREATE TABLE IF NOT EXISTS batches (name BLOB PRIMARY KEY, result BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (
    first TEXT PRIMARY KEY, last TEXT NOT NULL, name BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, md5 BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shards (
    digest BLOB PRIMARY KEY, object BLOB NOT NULL, packs BLOB NOT NULL
) WITHOUT ROWID;
DELETE FROM used;
DELETE FROM packs;
DELETE FROM shards;
"""
_encoder, _decoder = msgspec.msgpack.Encoder(), msgpack_decoder(FarTaken)


class UsedBatch(NamedTuple):
    """A batch of the listing: its name, and the first and last path of its objects."""

    first: str
    last: str
    name: Digest


class ShardMade(NamedTuple):
    """A shard object that is to be put on the remote, and the packs that it points into."""

    digest: Digest
    data: bytes
    packs: bytes


class Journal:
    """The journal of one import, from one source to one remote; a context manager."""

    def __init__(self, git_dir: str, source: DataSource, remote_id: str) -> None:
        folder = os.path.join(git_dir, "dv", JOURNALS)
        make_folders(folder)
        _sweep(folder)
        named = (source.kind, source.url, sorted(source.options.items()), remote_id)
        self._path = os.path.join(folder, digest_of(repr(named).encode()).hex() + ".db")
        self._db = open_disposable(self._path, _JOURNAL_TABLES)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def remove(self) -> None:
        """Remove the journal: the import is done."""
        self._db.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    # --- batches --------------------------------------------------------------------------

    def result(self, name: Digest) -> FarTaken | None:
        """Return what became of a batch; None if it was not done, or its row is damaged."""
        row = self._db.execute("SELECT result FROM batches WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        with contextlib.suppress(msgspec.MsgspecError):
            return _decoder.decode(row[0])
        return None

    def add(self, name: Digest, result: FarTaken) -> None:
        """Record what became of a batch."""
        self._db.execute(
            "INSERT OR REPLACE INTO batches VALUES (?, ?)", (name, _encoder.encode(result))
        )

    def use(self, batch: UsedBatch, packs: Iterable[PackThere]) -> None:
        """Note that a batch, which is done, is part of the listing, and where its bytes are."""
        with one_transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO used VALUES (?, ?, ?)", batch)
            self.need_packs(packs)

    def used(self) -> Iterator[UsedBatch]:
        """Yield the batches of the listing, by path."""
        last = ""
        while rows := self._db.execute(
            "SELECT first, last, name FROM used WHERE first > ? ORDER BY first LIMIT ?",
            (last, JOURNAL_ROWS),
        ).fetchall():
            last = rows[-1][0]
            yield from map(UsedBatch._make, rows)

    def drop_batches(self, lost: set[Digest]) -> list[UsedBatch]:
        """Forget the batches with a pack among the lost ones; return them."""
        gone = []
        for batch in self.used():
            result = self.result(batch.name)
            if result is None or any(pack.digest in lost for pack in result.packs):
                gone.append(batch)
        with one_transaction(self._db):
            for batch in gone:
                self._db.execute("DELETE FROM batches WHERE name = ?", (batch.name,))
                self._db.execute("DELETE FROM used WHERE first = ?", (batch.first,))
            self._db.executemany(
                "DELETE FROM packs WHERE digest = ?", [(digest,) for digest in lost]
            )
        return gone

    # --- what is made of them -------------------------------------------------------------

    def need_packs(self, packs: Iterable[PackThere]) -> None:
        """Note packs that the remote must have."""
        self._db.executemany(
            "INSERT INTO packs VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE "
            "SET md5 = coalesce(excluded.md5, md5)",
            [(pack.digest, pack.size, pack.md5) for pack in packs],
        )

    def packs(self) -> Iterator[list[PackThere]]:
        """Yield the packs that the remote must have, sorted, some at a time."""
        last = b""
        while rows := self._db.execute(
            "SELECT digest, size, md5 FROM packs WHERE digest > ? ORDER BY digest LIMIT ?",
            (last, JOURNAL_ROWS),
        ).fetchall():
            last = rows[-1][0]
            yield [PackThere(*row) for row in rows]

    def packs_total(self) -> tuple[int, int]:
        """Return how many packs the remote must have, and their bytes."""
        row = self._db.execute("SELECT count(*), total(size) FROM packs").fetchone()
        return row[0], int(row[1])

    def forget_shards(self) -> None:
        """Forget the shard objects, which are to be made anew."""
        self._db.execute("DELETE FROM shards")

    def add_shard(self, shard: ShardMade) -> None:
        """Keep a shard object until it is on the remote."""
        self._db.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", shard)

    def shards(self) -> Iterator[ShardMade]:
        """Yield the shard objects, by name; each is read when its turn comes."""
        last = b""
        while row := self._db.execute(
            "SELECT digest, object, packs FROM shards WHERE digest > ? ORDER BY digest LIMIT 1",
            (last,),
        ).fetchone():
            last = row[0]
            yield ShardMade(*row)

    def shard_names(self) -> list[Digest]:
        """Return the hashes of the shards that are to be put on the remote."""
        return [row[0] for row in self._db.execute("SELECT digest FROM shards ORDER BY digest")]


def _sweep(folder: str) -> None:
    """Remove journals of imports that nobody repeated for long."""
    oldest_s = time.time() - KEPT_S
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < oldest_s:
                os.unlink(entry.path)
