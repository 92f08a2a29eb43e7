"""store.db: the index of the local store, in SQLite.

It maps chunk -> pack and frame, file -> chunks, and remembers what each remote was seen to hold.
The first two can be made again from the packs; the last is a hint that every push checks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests
from dvtool.format.locations import ChunkPlaces, Located, PlaceRow, RemotePack
from dvtool.format.pack import ChunkRow, PackInfo, Placement, Recipe
from dvtool.store.remote_facts import RemoteFacts
from dvtool.store.schema import (
    QUERY_BATCH,
    ROW_TESTS,
    K,
    Row,
    add_chunk_rows,
    connect,
    connect_to_read,
    damaged,
    pack_rows,
    select_in,
    sorted_rows,
    write_rows,
)
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.store import place_columns, references
    from dvtool.store.place_columns import PlaceColumns
    from dvtool.store.references import References
else:
    place_columns = later("dvtool.store.place_columns")
    references = later("dvtool.store.references")

COMPLETE = int.from_bytes(b"dvtl")
SELECT_PLACES = "SELECT pack, digest, frame_offset, frame_size, start, size FROM chunks"
SCAN_MIN, SCAN_BATCH = 4_096, 8_192
SCANNED_PER_LOOKUP = 4
"""So many rows are read in turn in the time in which one is looked up."""
CHUNK_ROW_MIN_BYTES = 40
"""No row of `chunks` is smaller: its digest has 32 bytes."""
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


class Database:
    """One connection to store.db. Values in, values out; every write is one transaction.

    `remotes` has the tables about remotes.
    """

    def __init__(self, path: str, *, reading: bool = False) -> None:
        """Open or make the file; with `reading` it is only read, and may be missing."""
        self._path = path
        self._reading = reading
        self._references: References | None = None
        self._db = connect_to_read(path) if reading else connect(path)
        self.remotes = RemoteFacts(self._db, path)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
        if self._references is not None:
            self._references.close()
            self._references = None

    @property
    def references(self) -> References:
        """The contents that are known to be at a source; opened when they are first needed."""
        if self._references is None:
            folder = os.path.dirname(self._path)
            self._references = references.References(folder, reading=self._reading)
        return self._references

    @property
    def complete(self) -> bool:
        """Whether all packs that were there when the file was made have been indexed.

        A process that was killed meanwhile left it incomplete; the next process begins again.
        """
        return bool(self._db.execute("PRAGMA application_id").fetchone()[0] == COMPLETE)

    def set_complete(self) -> None:
        """Remember that every pack was indexed."""
        with self._db:
            self._db.execute(f"PRAGMA application_id = {COMPLETE:d}")

    # --- local content --------------------------------------------------------------------

    def add_packs(self, packs: Iterable[PackInfo]) -> None:
        """Index packs that are in place. Rows that are there already stay as they are."""
        with self._db:
            numbered = [(self._pack_number(info), info.index) for info in packs]
            # All in one order: a page of the index is then written once for all packs.
            rows = pack_rows(*numbered)
            add_chunk_rows(self._db, rows)
            self._add_recipes(recipe for _, index in numbered for recipe in index.recipes)

    def add_recipes(self, recipes: Iterable[Recipe]) -> None:
        """Remember how files are put together. Only recipes that were verified belong here."""
        with self._db:
            self._add_recipes(recipes)

    def is_empty(self) -> bool:
        """Whether no local pack has any chunk."""
        return self._is_empty("chunks")

    def held_chunks(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the chunks that a local pack has."""
        return {row[0] for row in self._chunk_rows("digest", digests)}

    def chunk_sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return chunk -> its size, for the chunks that a local pack has."""
        return dict(self._chunk_rows("digest, size", digests))

    def _chunk_rows(self, columns: str, digests: Iterable[Digest]) -> Iterator[Row]:
        """Yield columns, the digest first, of chunks: by a look at every row if many are wanted."""
        wanted = set(digests)
        if not wanted or self._is_empty("chunks"):
            return iter(())
        head = f"SELECT {columns} FROM chunks"
        if len(wanted) >= SCAN_MIN and self._rows_max() < SCANNED_PER_LOOKUP * len(wanted):
            return self._scanned(head, wanted)
        return self._select(f"{head} WHERE digest", wanted)

    def _scanned(self, head: str, wanted: set[Digest]) -> Iterator[Row]:
        rows = self._db.execute(head)
        while batch := rows.fetchmany(SCAN_BATCH):
            yield from [row for row in batch if row[0] in wanted]

    def _in_batches(self, statement: str, values: Sequence[bytes] = ()) -> Iterator[Row]:
        # No signal is heard within one call.
        rows = self._db.execute(statement, values)
        while batch := rows.fetchmany(SCAN_BATCH):
            yield from batch

    def _is_empty(self, table: str) -> bool:
        return self._db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None

    def _rows_max(self) -> int:
        """Return more than the number of chunks here, from the size of the file."""
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        size = self._db.execute("PRAGMA page_size").fetchone()[0]
        return int(pages * size) // CHUNK_ROW_MIN_BYTES

    def places(self, digests: Iterable[Digest]) -> dict[Digest, tuple[int, Placement]]:
        """Return chunk -> (number of its pack, placement) for the chunks that a local pack has."""
        rows = self._select(f"{SELECT_PLACES} WHERE digest", digests)
        return {row[1]: (row[0], Placement(*row[1:])) for row in rows}

    def placed_here(self, digests: Iterable[Digest]) -> dict[Digest, ChunkRow]:
        """Do as `places`, with rows, which take less time and memory than placements."""
        columns = "digest, pack, frame_offset, frame_size, start, size"
        return {row[0]: row for row in self._chunk_rows(columns, digests)}

    def pack_numbers(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return chunk -> number of its pack, for the chunks that a local pack has."""
        return dict(self._select("SELECT digest, pack FROM chunks WHERE digest", digests))

    def place_columns(self, joined: bytes) -> PlaceColumns:
        """Return where local packs have chunks, whose digests are end to end, as of one moment."""
        count = len(joined) // DIGEST_SIZE_BYTES
        scan = count >= SCAN_MIN and self._rows_max() < SCANNED_PER_LOOKUP * count
        head = f"SELECT {place_columns.COLUMNS_ROW} FROM chunks WHERE digest"

        def rows_of(digests: Collection[Digest], first: bytes, after: bytes) -> Iterator[Row]:
            if not scan:
                return self._select(head, digests)
            return self._in_batches(f"{head} >= ? AND digest < ?", (first, after))

        with self._db:
            self._db.execute("BEGIN")
            try:
                return place_columns.read_columns(joined, self.packs(), rows_of)
            except (OverflowError, TypeError) as error:  # a number that no place has
                raise damaged(self._path, error) from error

    def removals(self) -> int:
        """Return how often chunks were taken out of the index so far."""
        row = self._db.execute("SELECT count FROM removals WHERE id = 1").fetchone()
        return int(row[0]) if row else 0

    def held_shards(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the shards, of those given, whose contents were all found here and still are."""
        rows = self._select("SELECT digest, removals FROM held_shards WHERE digest", digests)
        now = self.removals()
        return {digest for digest, then in rows if then == now}

    def add_held_shards(self, digests: Iterable[Digest], removals: int) -> None:
        """Remember shards whose contents are all here, as seen after so many removals.

        A removal of chunks, of whatever shard, makes the index forget all such shards.
        """
        rows = sorted((digest, removals) for digest in digests)
        with self._db:
            write_rows(self._db, "INSERT OR REPLACE INTO held_shards VALUES (?, ?)", rows)

    def _count_removal(self) -> None:
        self._db.execute(
            "INSERT INTO removals VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET count = count + 1"
        )
        self._db.execute("DELETE FROM held_shards")

    def recipes(self, digests: Iterable[Digest]) -> dict[Digest, Recipe]:
        """Return the known recipes of these files."""
        if self._is_empty("recipes"):
            return {}
        rows = self._select("SELECT digest, size, chunks FROM recipes WHERE digest", digests)
        return {
            digest: Recipe(digest, size, split_digests(chunks)) for digest, size, chunks in rows
        }

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
        """Forget local packs; their chunks that are in `packs`, all in place, are read from these.

        `olds` gives all the chunks of each pack that goes. They are written down now for remotes
        that have the same pack, as they cannot be looked up in it any more.
        """
        with self._db:
            self._count_removal()
            for digest, places in olds.items():
                self._forget_pack(digest, places)
            for info in packs:
                rows = pack_rows((self._pack_number(info), info.index))
                add_chunk_rows(self._db, rows)

    def _forget_pack(self, digest: Digest, placements: Sequence[Placement]) -> None:
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return
        self.remotes.keep_places(digest, placements)
        write_rows(
            self._db,
            "DELETE FROM chunks WHERE digest = ? AND pack = ?",
            [(digest, row[0]) for digest in sorted(placement.digest for placement in placements)],
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
        """Return the faults of the file itself; none if all of it can be read.

        The types of columns are checked too: a flipped bit can make a text or a number of a digest.
        """
        try:
            rows = self._db.execute("PRAGMA integrity_check(10)").fetchall()
            wrong = [str(row[0]) for row in rows if row[0] != "ok"]
            for table, test in ROW_TESTS.items():
                row = self._db.execute(f"SELECT COUNT(*) FROM {table} WHERE NOT ({test})")
                if count := row.fetchone()[0]:
                    wrong.append(f"{count:,} rows of {table} are no such rows")
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return wrong

    def stray_chunks(self) -> list[Digest]:
        """Return the chunks whose row names a pack that is not in the index."""
        rows = self._db.execute(
            "SELECT digest FROM chunks WHERE pack NOT IN (SELECT id FROM packs)"
        )
        return [row[0] for row in rows]

    def every_recipe(self) -> Iterator[Recipe]:
        """Yield all recipes, in batches: the index may change meanwhile."""
        last = b""
        while rows := self._db.execute(
            "SELECT digest, size, chunks FROM recipes WHERE digest > ? ORDER BY digest LIMIT ?",
            (last, QUERY_BATCH),
        ).fetchall():
            yield from (
                Recipe(digest, size, split_digests(chunks)) for digest, size, chunks in rows
            )
            last = rows[-1][0]

    def rows_of(self, pack: Digest) -> list[Placement]:
        """Return the chunks that are read from the pack of this id, if it is known."""
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (pack,)).fetchone()
        return self.chunks_in(row[0]) if row else []

    def copy_to(self, path: str) -> None:
        """Write the whole database, as it is at one moment, to a new file."""
        self._db.execute("VACUUM INTO ?", (path,))

    def take_over(
        self, fresh: str, before: str, late: Callable[[set[Digest]], Iterable[PackInfo]]
    ) -> None:
        """Replace the rows of packs by those of the index at `fresh`, in one transaction.

        Packs keep their numbers, by which other processes go. `before` is a copy from before
        `fresh` was begun. Rows that others have added since stay: recipes, and the packs that
        `late` returns for those that `fresh` has. The rows about remotes stay too; recipes of files
        that no local pack makes any more move there, as the files are on a remote, if anywhere.
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
                    rows = pack_rows((self._pack_number(info), info.index))
                    add_chunk_rows(self._db, rows)
                gone = [(n,) for n, pack in self.packs().items() if pack.digest not in known]
                write_rows(self._db, "DELETE FROM main.packs WHERE id = ?", gone)
        finally:
            self._db.execute("DETACH before")
            self._db.execute("DETACH fresh")

    def forget_chunks(self, chunks: Iterable[Digest]) -> None:
        """Forget where chunks are."""
        with self._db:
            self._count_removal()
            write_rows(
                self._db, "DELETE FROM chunks WHERE digest = ?", [(digest,) for digest in chunks]
            )

    # --- what clones saw ------------------------------------------------------------------

    def add_seen(self, clone: str, manifests: Iterable[Digest]) -> None:
        """Remember manifests that a clone (its git folder) had in a commit of its own.

        Only what is remembered may be given up on a remote; so a disk that is full does no harm.
        """
        rows = [(clone, digest) for digest in sorted(set(manifests))]
        with contextlib.suppress(sqlite3.OperationalError), self._db:
            write_rows(self._db, "INSERT OR IGNORE INTO seen_manifests VALUES (?,?)", rows)

    def seen(self, clone: str) -> set[Digest]:
        """Return the manifests that a clone is known to have had in a commit."""
        rows = self._db.execute("SELECT manifest FROM seen_manifests WHERE clone = ?", (clone,))
        return {row[0] for row in rows}

    # --- with what is known of remotes ----------------------------------------------------

    def known_on(self, number: int, contents: Collection[Digest]) -> set[Digest]:
        """Return those of the contents that the remote of a number is known to have, as a hint."""
        lists = {file: recipe.chunks for file, recipe in self.recipes(contents).items()}
        lists |= self.remotes.recipes(number, contents)
        single = set(contents) - lists.keys()
        wanted = single.union(*lists.values())
        located = self.located(number, wanted).keys()
        whole = {file for file, chunks in lists.items() if located >= set(chunks)}
        return whole | (located & single)

    def located(self, remote: int, digests: Iterable[Digest]) -> dict[Digest, Located]:
        """Return chunk -> where a remote is believed to have it."""
        packs, rows = self.placed(remote, digests)
        return {
            digest: Located(packs[number], Placement(digest, *where))
            for digest, (number, _, *where) in rows.items()
        }

    def placed(self, remote: int, digests: Iterable[Digest]) -> ChunkPlaces:
        """Return where a remote is believed to have chunks, of packs that are here too or not.

        In the result packs that are here have their number, others theirs below zero.
        """
        wanted = set(digests)
        sizes = self.remotes.packs(remote)
        packs = {
            number: RemotePack(pack.digest, sizes[pack.digest])
            for number, pack in self.packs().items()
            if pack.digest in sizes
        }
        local = self._select(f"{SELECT_PLACES} WHERE digest", wanted) if packs else ()
        rows: dict[Digest, PlaceRow] = {row[1]: row for row in local if row[0] in packs}
        wanted.difference_update(rows)
        if sizes and wanted:
            listed = self.remotes.listed(remote, wanted)
            packs.update((-number, pack) for number, pack in listed.packs.items())
            rows.update((digest, (-row[0], *row[1:])) for digest, row in listed.rows.items())
        return ChunkPlaces(packs, rows)

    # --- inside ---------------------------------------------------------------------------

    def _pack_number(self, info: PackInfo) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO packs (digest, size) VALUES (?, ?)", (info.digest, info.size)
        )
        row = self._db.execute("SELECT id FROM packs WHERE digest = ?", (info.digest,)).fetchone()
        return int(row[0])

    def _add_recipes(self, recipes: Iterable[Recipe]) -> None:
        write_rows(
            self._db,
            "INSERT OR REPLACE INTO recipes VALUES (?, ?, ?)",
            sorted_rows((r.digest, r.size, b"".join(r.chunks)) for r in recipes),
        )

    def _select(self, head: str, keys: Iterable[K]) -> Iterator[Row]:
        return select_in(self._db, self._path, head, keys)
