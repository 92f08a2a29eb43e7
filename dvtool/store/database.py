"""store.db: the index of the local store, in SQLite.

It maps chunk -> pack and frame, file -> chunks, and remembers what each remote was seen to hold.
The first two can be made again from the packs; the last is a hint that every push checks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from dvtool.errors import BusyError, CorruptError, SetupError
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import PackInfo, Placement, Recipe
from dvtool.system.atomic import make_folders, share

VERSION = 1
QUERY_BATCH = 900
"""Below SQLite's oldest limit on the parameters of one statement, 999."""
BUSY_TIMEOUT_S = 60
BUSY_RETRY_S = 0.01
COMPLETE = int.from_bytes(b"dvtl")

K = TypeVar("K", bytes, str)
Row: TypeAlias = Any
"""A row as sqlite3 gives it: a tuple of the columns selected."""
ObjectRow: TypeAlias = tuple[str, int, bytes | None]
"""An object on a remote: key, size in bytes, MD5 if known."""

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
    "CREATE TABLE IF NOT EXISTS held_shards "
    "(digest BLOB PRIMARY KEY, removals INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS removals (id INTEGER PRIMARY KEY, count INTEGER NOT NULL)",
)
"""Apart, since an index that was made before there were these tables gets them when opened."""

TAKE_OVER = """
INSERT OR IGNORE INTO remote_recipes
  SELECT remotes.id, one.digest, one.chunks FROM main.recipes AS one, remotes
  WHERE one.digest NOT IN (SELECT digest FROM fresh.recipes);
DELETE FROM main.recipes WHERE digest IN (SELECT digest FROM before.recipes);
INSERT OR REPLACE INTO main.recipes SELECT * FROM fresh.recipes;
INSERT INTO main.packs (digest, size) SELECT digest, size FROM fresh.packs WHERE true
  ON CONFLICT (digest) DO UPDATE SET size = excluded.size;
DELETE FROM main.chunks;
INSERT INTO main.chunks
  SELECT one.digest, here.id, one.frame_offset, one.frame_size, one.start, one.size
  FROM fresh.chunks AS one
  JOIN fresh.packs AS there ON there.id = one.pack
  JOIN main.packs AS here ON here.digest = there.digest
  ORDER BY one.digest
"""

_PLACE_TEST = " AND ".join(
    f"typeof({column}) = 'integer' AND {column} BETWEEN 0 AND 4294967295"
    for column in ("frame_offset", "frame_size", "start", "size")
)
_ROW_TESTS = {
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


class Database:
    """One connection to store.db. Values in, values out; every write is one transaction."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._db = _connect(path)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @property
    def complete(self) -> bool:
        """Whether all packs that were there when the file was made have been indexed.

        A process that was killed meanwhile left it incomplete; whoever comes next begins again.
        """
        return bool(self._db.execute("PRAGMA application_id").fetchone()[0] == COMPLETE)

    def set_complete(self) -> None:
        """Remember that every pack was indexed."""
        with self._db:
            self._db.execute(f"PRAGMA application_id = {COMPLETE:d}")

    # --- local content --------------------------------------------------------------------

    def add_packs(self, packs: Iterable[PackInfo]) -> None:
        """Index packs that are in place. What is known already stays as it is."""
        with self._db:
            for info in packs:
                number = self._pack_number(info)
                rows = _rows(number, info.index.placements())
                self._db.executemany("INSERT OR IGNORE INTO chunks VALUES (?,?,?,?,?,?)", rows)
                self._add_recipes(info.index.recipes)

    def add_recipes(self, recipes: Iterable[Recipe]) -> None:
        """Remember how files are put together. Only recipes that were verified belong here."""
        with self._db:
            self._add_recipes(recipes)

    def held_chunks(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the chunks that a local pack has."""
        return {row[0] for row in self._select("SELECT digest FROM chunks WHERE digest", digests)}

    def places(self, digests: Iterable[Digest]) -> dict[Digest, tuple[int, Placement]]:
        """Return chunk -> (number of its pack, place) for the chunks that a local pack has."""
        rows = self._select(
            "SELECT pack, digest, frame_offset, frame_size, start, size FROM chunks WHERE digest",
            digests,
        )
        return {row[1]: (row[0], Placement(*row[1:])) for row in rows}

    def pack_numbers(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return chunk -> number of its pack, for the chunks that a local pack has."""
        return dict(self._select("SELECT digest, pack FROM chunks WHERE digest", digests))

    def removals(self) -> int:
        """Return how often chunks were taken out of the index so far."""
        row = self._db.execute("SELECT count FROM removals WHERE id = 1").fetchone()
        return int(row[0]) if row else 0

    def held_shards(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the shards all of whose contents were found here, and are here still."""
        rows = self._select("SELECT digest, removals FROM held_shards WHERE digest", digests)
        now = self.removals()
        return {digest for digest, then in rows if then == now}

    def add_held_shards(self, digests: Iterable[Digest], removals: int) -> None:
        """Remember shards all of whose contents are here, seen since there were so many removals.

        Removed chunks, of whatever shard, make all of this forgotten.
        """
        rows = sorted((digest, removals) for digest in digests)
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO held_shards VALUES (?, ?)", rows)

    def _count_removal(self) -> None:
        self._db.execute(
            "INSERT INTO removals VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1"
        )
        self._db.execute("DELETE FROM held_shards")

    def recipes(self, digests: Iterable[Digest]) -> dict[Digest, Recipe]:
        """Return the known recipes of these files."""
        rows = self._select("SELECT digest, size, chunks FROM recipes WHERE digest", digests)
        return {digest: Recipe(digest, size, split(chunks)) for digest, size, chunks in rows}

    def packs(self) -> dict[int, RemotePack]:
        """Return number -> id and size of every local pack."""
        rows = self._db.execute("SELECT id, digest, size FROM packs")
        return {number: RemotePack(digest, size) for number, digest, size in rows}

    def chunks_in(self, pack: int) -> list[Placement]:
        """Return the chunks that are read from a pack, in its order."""
        rows = self._db.execute(
            "SELECT digest, frame_offset, frame_size, start, size FROM chunks WHERE pack = ? "
            "ORDER BY frame_offset, start",
            (pack,),
        )
        return [Placement(*row) for row in rows]

    def every_chunk(self) -> Iterator[tuple[Digest, int, int]]:
        """Yield each chunk here with the number of the pack it is read from and its raw size."""
        yield from self._db.execute("SELECT digest, pack, size FROM chunks")

    def replace_packs(
        self, olds: Mapping[Digest, Sequence[Placement]], packs: Iterable[PackInfo]
    ) -> None:
        """Forget local packs; what of their chunks is in `packs`, all in place, is read from those.

        `olds` gives all the chunks of each pack that goes. For remotes that have the same pack
        they are written down now, as they cannot be looked up in it any more.
        """
        with self._db:
            self._count_removal()
            for digest, places in olds.items():
                self._forget_pack(digest, places)
            for info in packs:
                rows = _rows(self._pack_number(info), info.index.placements())
                self._db.executemany("INSERT OR IGNORE INTO chunks VALUES (?,?,?,?,?,?)", rows)

    def _forget_pack(self, digest: Digest, places: Sequence[Placement]) -> None:
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return
        there = self._db.execute("SELECT id FROM remote_packs WHERE digest = ?", (digest,))
        for (number,) in there.fetchall():
            self._db.executemany(
                "INSERT OR REPLACE INTO remote_chunks VALUES (?,?,?,?,?,?)", _rows(number, places)
            )
        self._db.executemany(
            "DELETE FROM chunks WHERE digest = ? AND pack = ?",
            [(digest, row[0]) for digest in sorted(place.digest for place in places)],
        )
        self._db.execute("DELETE FROM packs WHERE id = ?", row)

    def forget_packs(self, packs: Iterable[Digest]) -> None:
        """Forget local packs that turned out to be lost, with all their chunks."""
        with self._db:
            self._count_removal()
            for digest in packs:
                row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (digest,))
                for number in row.fetchall():
                    self._db.execute("DELETE FROM chunks WHERE pack = ?", number)
                    self._db.execute("DELETE FROM packs WHERE id = ?", number)

    # --- looking for damage ---------------------------------------------------------------

    def faults(self) -> list[str]:
        """Return what is wrong with the file itself; nothing if all of it can be read.

        Columns are looked at too: a flipped bit can make a text or a number of a digest.
        """
        try:
            rows = self._db.execute("PRAGMA integrity_check(10)").fetchall()
            wrong = [str(row[0]) for row in rows if row[0] != "ok"]
            for table, test in _ROW_TESTS.items():
                row = self._db.execute(f"SELECT COUNT(*) FROM {table} WHERE NOT ({test})")
                if count := row.fetchone()[0]:
                    wrong.append(f"{count:,} rows of {table} are no such rows")
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return wrong

    def stray_chunks(self) -> list[Digest]:
        """Return the chunks that are said to be in a pack which is not known."""
        rows = self._db.execute(
            "SELECT digest FROM chunks WHERE pack NOT IN (SELECT id FROM packs)"
        )
        return [row[0] for row in rows]

    def remote_numbers(self) -> list[int]:
        """Return the numbers of the remotes that something is known of."""
        return [row[0] for row in self._db.execute("SELECT id FROM remotes ORDER BY id")]

    def every_recipe(self) -> Iterator[Recipe]:
        """Yield all recipes, in batches: the index may change meanwhile."""
        last = b""
        while rows := self._db.execute(
            "SELECT digest, size, chunks FROM recipes WHERE digest > ? ORDER BY digest LIMIT ?",
            (last, QUERY_BATCH),
        ).fetchall():
            yield from (Recipe(digest, size, split(chunks)) for digest, size, chunks in rows)
            last = rows[-1][0]

    def rows_of(self, pack: Digest) -> list[Placement]:
        """Return the chunks that are read from the pack of this id, if it is known."""
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (pack,)).fetchone()
        return self.chunks_in(row[0]) if row else []

    def copy_to(self, path: str) -> None:
        """Write all of it, as it is at one moment, to a file that is not there yet."""
        self._db.execute("VACUUM INTO ?", (path,))

    def take_over(
        self, fresh: str, before: str, late: Callable[[set[Digest]], Iterable[PackInfo]]
    ) -> None:
        """Replace what is listed of packs by what the index at `fresh` lists, in one transaction.

        Who has it open goes on with the same numbers of packs. `before` is a copy from before
        `fresh` was begun. What others have listed since stays: recipes, and of packs what `late`
        returns for the packs that `fresh` has. What is known of remotes stays too, and how files
        are made that no pack here makes any more: they are on a remote, if anywhere.
        """
        self._db.execute("ATTACH ? AS fresh", (fresh,))
        self._db.execute("ATTACH ? AS before", (before,))
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._count_removal()
                for statement in TAKE_OVER.split(";"):
                    self._db.execute(statement)
                known = {row[0] for row in self._db.execute("SELECT digest FROM fresh.packs")}
                for info in late(known):
                    known.add(info.digest)
                    rows = _rows(self._pack_number(info), info.index.placements())
                    self._db.executemany("INSERT OR IGNORE INTO chunks VALUES (?,?,?,?,?,?)", rows)
                gone = [(n,) for n, pack in self.packs().items() if pack.digest not in known]
                self._db.executemany("DELETE FROM main.packs WHERE id = ?", gone)
        finally:
            self._db.execute("DETACH before")
            self._db.execute("DETACH fresh")

    def forget_chunks(self, chunks: Iterable[Digest]) -> None:
        """Forget where chunks lie."""
        with self._db:
            self._count_removal()
            self._db.executemany("DELETE FROM chunks WHERE digest = ?", [(one,) for one in chunks])

    # --- what remotes hold ----------------------------------------------------------------

    def remote(self, name: str) -> int:
        """Return the number of a remote, by the id in its dv.json."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO remotes (name) VALUES (?)", (name,))
        row = self._db.execute("SELECT id FROM remotes WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def add_remote_pack(self, remote: int, pack: RemotePack, places: Iterable[Placement]) -> None:
        """Remember that a remote has a pack with these chunks.

        The chunks of a pack that is also here, byte for byte, need not be given.
        """
        with self._db:
            number = self._remote_pack(remote, pack)
            rows = _rows(number, places)
            self._db.executemany("INSERT OR REPLACE INTO remote_chunks VALUES (?,?,?,?,?,?)", rows)

    def set_pending(self, remote: int, packs: Iterable[Digest], *, pending: bool) -> None:
        """Remember of packs whether the push that brought them is still under way."""
        rows = [(pending, remote, digest) for digest in packs]
        with self._db:
            self._db.executemany(
                "UPDATE remote_packs SET pending = ? WHERE remote = ? AND digest = ?", rows
            )

    def pending_packs(self, remote: int) -> set[Digest]:
        """Return the packs that pushes brought which did not come to their end."""
        rows = self._db.execute(
            "SELECT digest FROM remote_packs WHERE remote = ? AND pending", (remote,)
        )
        return {row[0] for row in rows}

    def remote_packs(self, remote: int) -> dict[Digest, int]:
        """Return id -> size of the packs that a remote is believed to have."""
        rows = self._db.execute("SELECT digest, size FROM remote_packs WHERE remote = ?", (remote,))
        return dict(rows.fetchall())

    def forget_remote_packs(self, remote: int, packs: Iterable[Digest]) -> None:
        """Forget packs that a remote turned out not to have, and all that relied on them."""
        gone = list(packs)
        with self._db:
            for digest in gone:
                row = self._db.execute(
                    "SELECT id FROM remote_packs WHERE remote = ? AND digest = ?", (remote, digest)
                ).fetchone()
                if row:
                    self._db.execute("DELETE FROM remote_chunks WHERE remote_pack = ?", row)
                    self._db.execute("DELETE FROM remote_packs WHERE id = ?", row)

    def located(self, remote: int, digests: Iterable[Digest]) -> dict[Digest, Located]:
        """Return chunk -> where a remote is believed to have it."""
        # Joined here rather than in SQL, where a wrong guess at the order costs minutes.
        rows = self._db.execute(
            "SELECT id, digest, size FROM remote_packs WHERE remote = ?", (remote,)
        )
        by_number = {number: RemotePack(digest, size) for number, digest, size in rows}
        there = {pack.digest: pack for pack in by_number.values()}
        wanted = list(digests)
        found: dict[Digest, Located] = {}
        for number, *place in self._select(
            "SELECT remote_pack, digest, frame_offset, frame_size, start, size "
            "FROM remote_chunks WHERE digest",
            wanted,
        ):
            if number in by_number:
                found[place[0]] = Located(by_number[number], Placement(*place))
        local = self.packs()
        for digest, (number, placement) in self.places(wanted).items():
            pack = there.get(local[number].digest)
            if pack is not None:
                found[digest] = Located(pack, placement)
        return found

    def add_remote_objects(self, remote: int, objects: Iterable[ObjectRow]) -> None:
        """Remember the size and the MD5, where the remote states one, of objects there."""
        rows = sorted((remote, key, size, md5) for key, size, md5 in objects)
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO remote_objects VALUES (?,?,?,?)", rows)

    def remote_objects(self, remote: int, keys: Iterable[str]) -> list[ObjectRow]:
        """Return key, size and MD5 of those of the objects that are known."""
        return list(
            self._select(
                f"SELECT key, size, md5 FROM remote_objects WHERE remote = {remote:d} AND key", keys
            )
        )

    def add_remote_shards(self, remote: int, shards: Mapping[Digest, Iterable[Digest]]) -> None:
        """Remember shards that a remote has: hash -> the packs it points into."""
        rows = [(remote, digest, b"".join(packs)) for digest, packs in shards.items()]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO remote_shards VALUES (?,?,?)", rows)

    def remote_shards(
        self, remote: int, digests: Iterable[Digest]
    ) -> dict[Digest, tuple[Digest, ...]]:
        """Return hash -> packs of the shards that a remote is believed to have."""
        rows = self._select(
            f"SELECT digest, packs FROM remote_shards WHERE remote = {remote:d} AND digest",
            digests,
        )
        return {digest: split(packs) for digest, packs in rows}

    def add_remote_root(self, remote: int, root: str, manifests: Iterable[Digest]) -> None:
        """Remember that a root on the remote names these manifests."""
        rows = [(remote, manifest, root) for manifest in manifests]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO remote_roots VALUES (?,?,?)", rows)

    def remote_root_names(self, remote: int) -> set[str]:
        """Return the ids of the roots of a remote that are known."""
        rows = self._db.execute("SELECT root FROM remote_roots WHERE remote = ?", (remote,))
        return {row[0] for row in rows}

    def manifests_of_root(self, remote: int, root: str) -> set[Digest]:
        """Return the manifests for which a root is the one that is remembered."""
        rows = self._db.execute(
            "SELECT manifest FROM remote_roots WHERE remote = ? AND root = ?", (remote, root)
        )
        return {row[0] for row in rows}

    def remote_roots(self, remote: int, manifests: Iterable[Digest]) -> dict[Digest, str]:
        """Return manifest -> id of the root that names it."""
        return dict(
            self._select(
                f"SELECT manifest, root FROM remote_roots WHERE remote = {remote:d} AND manifest",
                manifests,
            )
        )

    def add_remote_recipes(self, remote: int, recipes: Mapping[Digest, Iterable[Digest]]) -> None:
        """Remember how a remote says that files are put together, which nothing here verified."""
        with self._db:
            self._add_remote_recipes(remote, recipes)

    def remote_recipes(
        self, remote: int, digests: Iterable[Digest]
    ) -> dict[Digest, tuple[Digest, ...]]:
        """Return file -> chunks as the remote says."""
        rows = self._select(
            f"SELECT digest, chunks FROM remote_recipes WHERE remote = {remote:d} AND digest",
            digests,
        )
        return {digest: split(chunks) for digest, chunks in rows}

    def add_remote_layout(
        self,
        remote: int,
        packs: Iterable[tuple[RemotePack, str]],
        recipes: Mapping[Digest, Iterable[Digest]],
    ) -> None:
        """Remember packs, each with its key, and recipes as a remote has them, in one go.

        What is known of a pack already stays.
        """
        with self._db:
            for pack, key in packs:
                self._remote_pack(remote, pack)
                self._db.execute(
                    "INSERT OR IGNORE INTO remote_objects VALUES (?,?,?,NULL)",
                    (remote, key, pack.size),
                )
            self._add_remote_recipes(remote, recipes)

    def add_pushed_commits(self, remote: int, commits: Iterable[str]) -> None:
        """Remember commits whose manifests, and those of all commits before, a remote has."""
        with self._db:
            self._db.executemany(
                "INSERT OR IGNORE INTO remote_commits VALUES (?, ?)",
                [(remote, commit) for commit in commits],
            )

    def pushed_commits(self, remote: int) -> list[str]:
        """Return the commits that were pushed to a remote from here."""
        rows = self._db.execute("SELECT id FROM remote_commits WHERE remote = ?", (remote,))
        return [row[0] for row in rows]

    def remote_features(self, place: str) -> str | None:
        """Return what was kept of the store at a place (a URL and endpoint), as text."""
        row = self._db.execute("SELECT text FROM remote_features WHERE place = ?", (place,))
        found = row.fetchone()
        return str(found[0]) if found else None

    def set_remote_features(self, place: str, text: str) -> None:
        """Keep what was found out about the store at a place, unless the disk is full or the like.

        It is no more than a hint, and no reason for a command to fail that has done its work.
        """
        row = (place, text)
        with contextlib.suppress(sqlite3.OperationalError), self._db:
            self._db.execute("INSERT OR REPLACE INTO remote_features VALUES (?,?)", row)

    # --- inside ---------------------------------------------------------------------------

    def _pack_number(self, info: PackInfo) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO packs (digest, size) VALUES (?, ?)", (info.digest, info.size)
        )
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (info.digest,)).fetchone()
        return int(row[0])

    def _remote_pack(self, remote: int, pack: RemotePack) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO remote_packs (remote, digest, size) VALUES (?, ?, ?)",
            (remote, pack.digest, pack.size),
        )
        row = self._db.execute(
            "SELECT id FROM remote_packs WHERE remote = ? AND digest = ?", (remote, pack.digest)
        ).fetchone()
        return int(row[0])

    def _add_recipes(self, recipes: Iterable[Recipe]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO recipes VALUES (?, ?, ?)",
            sorted((r.digest, r.size, b"".join(r.chunks)) for r in recipes),
        )

    def _add_remote_recipes(self, remote: int, recipes: Mapping[Digest, Iterable[Digest]]) -> None:
        rows = sorted((remote, digest, b"".join(chunks)) for digest, chunks in recipes.items())
        self._db.executemany("INSERT OR REPLACE INTO remote_recipes VALUES (?,?,?)", rows)

    def _select(self, head: str, keys: Iterable[K]) -> Iterator[Row]:
        for batch in _batches(keys):
            marks = ",".join("?" * len(batch))
            try:
                yield from self._db.execute(f"{head} IN ({marks})", batch)
            except UnicodeDecodeError as error:
                raise _damaged(self._path, error) from error


def split(joined: bytes) -> tuple[Digest, ...]:
    """Take digests that were joined end to end apart again."""
    step = DIGEST_SIZE_BYTES
    return tuple(joined[at : at + step] for at in range(0, len(joined), step))


def _rows(number: int, places: Iterable[Placement]) -> list[Row]:
    """Return what `chunks` and `remote_chunks` keep of places in the pack of this number."""
    return sorted((p.digest, number, p.frame_offset, p.frame_size, p.start, p.size) for p in places)


def _batches(keys: Iterable[K]) -> Iterator[Sequence[K]]:
    # Sorted, neighbouring keys lie on the same pages of the index.
    left = iter(sorted(set(keys)))
    while batch := list(islice(left, QUERY_BATCH)):
        yield batch


def _connect(path: str) -> sqlite3.Connection:
    make_folders(os.path.dirname(path))
    try:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    except sqlite3.Error as error:
        raise SetupError(f"cannot open the store's index {path}: {error}") from error
    try:
        _use_write_ahead_log(db)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: see `atomic.flush_to_disk`; nothing elsewhere
        db.execute("PRAGMA checkpoint_fullfsync = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            share(path)
            _create(db)
        elif version != VERSION:
            raise SetupError(
                f"the store's index {path} is of version {version}, this dvtool uses {VERSION}",
                hint="use a newer dvtool, or move the file away to have it made again",
            )
        for statement in LATER_TABLES:
            db.execute(statement)
    except sqlite3.OperationalError as error:
        # Locked, read-only, a full disk: the content of the file is not in question.
        db.close()
        kind = BusyError if _is_busy(error) else SetupError
        raise kind(f"cannot open the store's index {path}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        db.close()
        raise _damaged(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _damaged(path: str, error: Exception) -> CorruptError:
    # sqlite3 cannot even say what is wrong if the damaged part stands in its message.
    what = "" if isinstance(error, UnicodeDecodeError) else f": {error}"
    return CorruptError(
        f"the store's index {path} is damaged{what}",
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
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
