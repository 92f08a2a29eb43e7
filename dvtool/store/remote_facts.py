"""The facts of remotes in store.db: hints, which every push confirms before it relies on them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from dvtool.format.digest import Digest, split_digests
from dvtool.format.locations import ChunkPlaces, RemotePack
from dvtool.format.pack import Placement
from dvtool.store.schema import K, Row, place_rows, select_in, write_rows

ObjectRow: TypeAlias = tuple[str, int, bytes | None]
"""An object on a remote: key, size in bytes, MD5 if known."""


class RemoteFacts:
    """The tables about remotes, each remote under a number. Every write is one transaction."""

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._path = path

    def numbers(self) -> list[int]:
        """Return the numbers of all remotes in the tables."""
        return [row[0] for row in self._db.execute("SELECT id FROM remotes ORDER BY id")]

    def number(self, name: str) -> int:
        """Return the number of a remote, by the id in its dv.json; a new remote gets one."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO remotes (name) VALUES (?)", (name,))
        return self.known_number(name)

    def known_number(self, name: str) -> int:
        """Return the number of a remote, 0, which no remote has, if nothing is known of it."""
        row = self._db.execute("SELECT id FROM remotes WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def add_pack(self, remote: int, pack: RemotePack, places: Iterable[Placement]) -> None:
        """Remember that a remote has a pack with these chunks.

        The chunks of a pack that is also here, byte for byte, need not be given.
        """
        with self._db:
            number = self._pack_number(remote, pack)
            rows = place_rows(number, places)
            write_rows(self._db, "INSERT OR REPLACE INTO remote_chunks VALUES (?,?,?,?,?,?)", rows)

    def set_pending(self, remote: int, packs: Iterable[Digest], *, pending: bool) -> None:
        """Remember whether the push that uploaded these packs is still under way."""
        rows = [(pending, remote, digest) for digest in packs]
        with self._db:
            write_rows(
                self._db,
                "UPDATE remote_packs SET pending = ? WHERE remote = ? AND digest = ?",
                rows,
            )

    def pending_packs(self, remote: int) -> set[Digest]:
        """Return the packs of pushes that were interrupted."""
        rows = self._db.execute(
            "SELECT digest FROM remote_packs WHERE remote = ? AND pending", (remote,)
        )
        return {row[0] for row in rows}

    def packs(self, remote: int) -> dict[Digest, int]:
        """Return id -> size of the packs that a remote is believed to have."""
        rows = self._db.execute("SELECT digest, size FROM remote_packs WHERE remote = ?", (remote,))
        return dict(rows.fetchall())

    def forget_packs(self, remote: int, packs: Iterable[Digest]) -> None:
        """Forget packs that a remote turned out not to have, and all rows that rely on them."""
        gone = list(packs)
        with self._db:
            for digest in gone:
                row = self._db.execute(
                    "SELECT id FROM remote_packs WHERE remote = ? AND digest = ?", (remote, digest)
                ).fetchone()
                if row:
                    self._db.execute("DELETE FROM remote_chunks WHERE remote_pack = ?", row)
                    self._db.execute("DELETE FROM remote_packs WHERE id = ?", row)

    def listed(self, remote: int, digests: Iterable[Digest]) -> ChunkPlaces:
        """Return where chunks are on the remote, for the chunks written down here."""
        # Joined here rather than in SQL, where a wrong guess at the order costs minutes.
        rows = self._db.execute(
            "SELECT id, digest, size FROM remote_packs WHERE remote = ?", (remote,)
        )
        packs = {number: RemotePack(digest, size) for number, digest, size in rows}
        columns = "remote_pack, digest, frame_offset, frame_size, start, size"
        chunks = self._select(f"SELECT {columns} FROM remote_chunks WHERE digest", digests)
        return ChunkPlaces(packs, {row[1]: row for row in chunks if row[0] in packs})

    def keep_places(self, pack: Digest, places: Iterable[Placement]) -> None:
        """Write down, within a transaction, where chunks are in a pack that leaves this store.

        Remotes that have the same pack need it: the local pack can no longer be asked.
        """
        rows = self._db.execute("SELECT id FROM remote_packs WHERE digest = ?", (pack,))
        for (number,) in rows.fetchall():
            write_rows(
                self._db,
                "INSERT OR REPLACE INTO remote_chunks VALUES (?,?,?,?,?,?)",
                place_rows(number, places),
            )

    def add_objects(self, remote: int, objects: Iterable[ObjectRow]) -> None:
        """Remember the size and the MD5, where the remote states one, of objects there."""
        rows = sorted((remote, key, size, md5) for key, size, md5 in objects)
        with self._db:
            write_rows(self._db, "INSERT OR REPLACE INTO remote_objects VALUES (?,?,?,?)", rows)

    def objects(self, remote: int, keys: Iterable[str]) -> list[ObjectRow]:
        """Return key, size and MD5 of the objects that are known."""
        return list(
            self._select(
                f"SELECT key, size, md5 FROM remote_objects WHERE remote = {remote:d} AND key", keys
            )
        )

    def keys_until(self, remote: int, until: str) -> set[str]:
        """Return the keys of the objects of a remote that are known, up to this key."""
        rows = self._db.execute(
            "SELECT key FROM remote_objects WHERE remote = ? AND key <= ?", (remote, until)
        )
        return {row[0] for row in rows}

    def forget_objects(self, remote: int, keys: Iterable[str]) -> None:
        """Forget the objects of a remote with these keys."""
        rows = [(remote, key) for key in keys]
        with self._db:
            write_rows(self._db, "DELETE FROM remote_objects WHERE remote = ? AND key = ?", rows)

    def add_shards(
        self,
        remote: int,
        shards: Mapping[Digest, Iterable[Digest]],
        referring: Collection[Digest] = (),
    ) -> None:
        """Remember shards that a remote has: hash -> the packs it points into.

        Shards that are `referring` name contents that are at a source, and in no pack.
        """
        rows = [(remote, digest, b"".join(packs)) for digest, packs in shards.items()]
        with self._db:
            write_rows(self._db, "INSERT OR REPLACE INTO remote_shards VALUES (?,?,?)", rows)
            named = [(remote, digest) for digest in shards]
            write_rows(
                self._db,
                "DELETE FROM remote_referring WHERE remote = ? AND digest = ?",
                [row for row in named if row[1] not in referring],
            )
            write_rows(
                self._db,
                "INSERT OR IGNORE INTO remote_referring VALUES (?,?)",
                [row for row in named if row[1] in referring],
            )

    def referring(self, remote: int, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the shards whose objects there name contents that are at a source."""
        head = f"SELECT digest FROM remote_referring WHERE remote = {remote:d} AND digest"
        return {row[0] for row in self._select(head, digests)}

    def shards(self, remote: int, digests: Iterable[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return hash -> packs of the shards that a remote is believed to have."""
        rows = self._select(
            f"SELECT digest, packs FROM remote_shards WHERE remote = {remote:d} AND digest",
            digests,
        )
        return {digest: split_digests(packs) for digest, packs in rows}

    def add_root(self, remote: int, root: str, manifests: Iterable[Digest]) -> None:
        """Remember that a root on the remote names these manifests."""
        rows = [(remote, manifest, root) for manifest in manifests]
        with self._db:
            write_rows(self._db, "INSERT OR REPLACE INTO remote_roots VALUES (?,?,?)", rows)

    def root_names(self, remote: int) -> set[str]:
        """Return the ids of the roots of a remote that are known."""
        rows = self._db.execute("SELECT root FROM remote_roots WHERE remote = ?", (remote,))
        return {row[0] for row in rows}

    def rooted_manifests(self, remote: int) -> set[Digest]:
        """Return the manifests that a root of a remote is remembered to name."""
        rows = self._db.execute("SELECT manifest FROM remote_roots WHERE remote = ?", (remote,))
        return {row[0] for row in rows}

    def manifests_of_root(self, remote: int, root: str) -> set[Digest]:
        """Return the manifests for which this root is remembered."""
        rows = self._db.execute(
            "SELECT manifest FROM remote_roots WHERE remote = ? AND root = ?", (remote, root)
        )
        return {row[0] for row in rows}

    def roots(self, remote: int, manifests: Iterable[Digest]) -> dict[Digest, str]:
        """Return manifest -> id of the root that names it."""
        return dict(
            self._select(
                f"SELECT manifest, root FROM remote_roots WHERE remote = {remote:d} AND manifest",
                manifests,
            )
        )

    def add_recipes(self, remote: int, recipes: Mapping[Digest, Iterable[Digest]]) -> None:
        """Remember recipes as a remote states them; nothing here has verified them."""
        with self._db:
            self._add_recipes(remote, recipes)

    def recipes(self, remote: int, digests: Iterable[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return file -> chunks as the remote states them."""
        rows = self._select(
            f"SELECT digest, chunks FROM remote_recipes WHERE remote = {remote:d} AND digest",
            digests,
        )
        return {digest: split_digests(chunks) for digest, chunks in rows}

    def add_layout(
        self,
        remote: int,
        packs: Iterable[tuple[RemotePack, str]],
        recipes: Mapping[Digest, Iterable[Digest]],
    ) -> None:
        """Remember packs, each with its key, and recipes as a remote has them, in one go.

        Facts about a pack that is known already stay.
        """
        with self._db:
            for pack, key in packs:
                self._pack_number(remote, pack)
                self._db.execute(
                    "INSERT OR IGNORE INTO remote_objects VALUES (?,?,?,NULL)",
                    (remote, key, pack.size),
                )
            self._add_recipes(remote, recipes)

    def add_pushed_commits(self, remote: int, commits: Iterable[str]) -> None:
        """Remember commits whose manifests, and those of all commits before, a remote has."""
        with self._db:
            write_rows(
                self._db,
                "INSERT OR IGNORE INTO remote_commits VALUES (?, ?)",
                [(remote, commit) for commit in commits],
            )

    def pushed_commits(self, remote: int) -> list[str]:
        """Return the commits that were pushed to a remote from here."""
        rows = self._db.execute("SELECT id FROM remote_commits WHERE remote = ?", (remote,))
        return [row[0] for row in rows]

    def forget_pushed_commits(self, remote: int) -> None:
        """Forget which commits were pushed to a remote."""
        with self._db:
            self._db.execute("DELETE FROM remote_commits WHERE remote = ?", (remote,))

    def id_at(self, address: str) -> str | None:
        """Return the id of the remote that was at a place (a URL and endpoint) the last time."""
        row = self._db.execute("SELECT id FROM remote_ids WHERE place = ?", (address,)).fetchone()
        return str(row[0]) if row else None

    def set_id_at(self, address: str, remote_id: str | None) -> None:
        """Note, or with None forget, which remote is at a place; as `set_features`, if it can."""
        with contextlib.suppress(sqlite3.OperationalError), self._db:
            if remote_id is None:
                self._db.execute("DELETE FROM remote_ids WHERE place = ?", (address,))
            else:
                row = (address, remote_id)
                self._db.execute("INSERT OR REPLACE INTO remote_ids VALUES (?,?)", row)

    def features(self, address: str) -> str | None:
        """Return the features kept of the store at an address (URL and endpoint), as text."""
        rows = self._db.execute("SELECT text FROM remote_features WHERE place = ?", (address,))
        row = rows.fetchone()
        return str(row[0]) if row else None

    def set_features(self, address: str, text: str) -> None:
        """Keep the features found of the store at an address, unless the disk is full or the like.

        They are a hint, and no reason for a command to fail that has done its work.
        """
        row = (address, text)
        with contextlib.suppress(sqlite3.OperationalError), self._db:
            self._db.execute("INSERT OR REPLACE INTO remote_features VALUES (?,?)", row)

    # --- inside ---------------------------------------------------------------------------

    def _pack_number(self, remote: int, pack: RemotePack) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO remote_packs (remote, digest, size) VALUES (?, ?, ?)",
            (remote, pack.digest, pack.size),
        )
        row = self._db.execute(
            "SELECT id FROM remote_packs WHERE remote = ? AND digest = ?", (remote, pack.digest)
        ).fetchone()
        return int(row[0])

    def _add_recipes(self, remote: int, recipes: Mapping[Digest, Iterable[Digest]]) -> None:
        rows = sorted((remote, digest, b"".join(chunks)) for digest, chunks in recipes.items())
        write_rows(self._db, "INSERT OR REPLACE INTO remote_recipes VALUES (?,?,?)", rows)

    def _select(self, head: str, keys: Iterable[K]) -> Iterator[Row]:
        return select_in(self._db, self._path, head, keys)
