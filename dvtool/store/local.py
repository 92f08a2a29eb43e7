"""The local store: packs and shards in the git common folder, shared by all worktrees.

Packs and shards are written under a temporary name, flushed, renamed, and only then indexed: a
crash leaves at most files that nothing refers to.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from dvtool.errors import BusyError, CorruptError, MissingError
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.manifest import Entries, ShardRef, ShardText, decode_shard
from dvtool.system.atomic import (
    is_temp_name,
    make_folders,
    share,
    sync_folder,
    temp_name,
    write_bytes,
)
from dvtool.system.lazy import later
from dvtool.workspace.opener import Stamp

if TYPE_CHECKING:
    import concurrent.futures as futures_of

    import filelock

    from dvtool.format import locations as shard_format
    from dvtool.format import pack as pack_format
    from dvtool.format import packing
    from dvtool.format.locations import RemotePack
    from dvtool.format.pack import PackInfo, Placement, Recipe
    from dvtool.format.packing import FinishedPack
    from dvtool.store import database as databases
    from dvtool.store.database import Database

    _Frame: TypeAlias = futures_of.Future[bytes | memoryview]
else:
    futures_of = later("concurrent.futures")
    filelock = later("filelock")
    pack_format = later("dvtool.format.pack")
    packing = later("dvtool.format.packing")
    shard_format = later("dvtool.format.locations")
    databases = later("dvtool.store.database")

PACKS, SHARDS, TEMP, DOOMED, ASIDE = "packs", "shards", "tmp", "doomed", "aside"
LOST = ".lost"
"""Suffix of a note in `ASIDE`: the chunks that were lost with a pack, digest after digest."""
LOCK_WAIT_S = 30
OPEN_PACKS_MAX = 32
AHEAD_MIN_BYTES = 16 << 20
AHEAD_CHUNKS = 6
PACKED_SHARE_MAX = 0.95
"""Files from this size on that became this small are unpacked ahead. With others there is too
little to do in a thread for what it costs."""
KEPT_ENTRIES_MAX = 32_768
"""About 10 MB of entries stay in memory between two looks at them."""
STALE_TEMP_S = 2 * 24 * 3600

ShardSource: TypeAlias = Callable[[Sequence[ShardRef]], None]
"""Brings shards into the store that are not here; raises a DvError if it cannot."""


class LocalStore:
    """Packs, shards and their index under one folder. Not shared between threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.shard_source: ShardSource | None = None
        """Asked for the shards that are needed and not here; without one they are missing."""
        self._database: Database | None = None
        self._inherited: Database | None = None
        self._shards_kept: dict[ShardRef, tuple[Stamp | None, Entries]] = {}
        """Those used last stand last."""

    def __enter__(self) -> LocalStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def db(self) -> Database:
        """The index, opened when it is first needed."""
        if self._database is None:
            fresh = not os.path.exists(self.database_path)
            for name in (PACKS, SHARDS, TEMP):
                make_folders(os.path.join(self.path, name))
            if fresh:
                sync_folder(os.path.dirname(self.path))  # a lock may have made ours before
            self._database = databases.Database(self.database_path)
            if not self._database.complete:
                self.reindex()
            self._forget_lost_packs(self._database)
        return self._database

    def _forget_lost_packs(self, database: Database) -> None:
        """Forget packs that are gone or cut short: what only they had must count as missing.

        Otherwise an add would rely on them, and a fetch would not bring their content back. What
        another pack has as well is found again by looking into every pack that is left.
        """
        lost = [
            pack.digest
            for pack in database.packs().values()
            if not _has_size(self.pack_path(pack.digest), pack.size)
        ]
        if lost:
            for digest in lost:
                with contextlib.suppress(OSError):
                    self.note_lost(digest, [row.digest for row in database.rows_of(digest)])
            database.forget_packs(lost)
            with contextlib.suppress(CorruptError):
                self.reindex()

    def note_lost(self, pack: Digest, chunks: Collection[Digest]) -> None:
        """Remember chunks that were lost with a pack, so that later checks still tell of them."""
        if chunks:
            folder = os.path.join(self.path, ASIDE)
            make_folders(folder)
            write_bytes(os.path.join(folder, pack.hex() + LOST), b"".join(sorted(chunks)))

    @property
    def database_path(self) -> str:
        """Where store.db is."""
        return os.path.join(self.path, "store.db")

    # --- packs ----------------------------------------------------------------------------

    def pack_path(self, digest: Digest) -> str:
        """Return where a pack of this id belongs."""
        name = digest.hex()
        return os.path.join(self.path, PACKS, name[:2], name)

    def temp_path(self) -> str:
        """Return a fresh path, on the same filesystem, for a file in the making."""
        return os.path.join(self.temp_folder(), temp_name())

    def temp_folder(self) -> str:
        """Return the folder, on the store's filesystem, for files in the making."""
        folder = os.path.join(self.path, TEMP)
        make_folders(folder)
        return folder

    def adopt(self, packs: Iterable[tuple[str, PackInfo]]) -> None:
        """Take finished packs, flushed to the disk under temporary paths, into the store.

        On an error those that are not in place are removed.
        """
        infos = []
        folders = set()
        every = list(packs)
        with _removing_on_error() as made:
            made.extend(temp for temp, _ in every)
            for temp, info in every:
                path = self.pack_path(info.digest)
                make_folders(os.path.dirname(path))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._doomed_path(info.digest))  # an unfinished drop; wanted again
                share(temp)
                os.replace(temp, path)
                folders.add(os.path.dirname(path))
                infos.append(info)
        for folder in folders | {os.path.join(self.path, PACKS)}:
            sync_folder(folder)
        self.db.add_packs(infos)

    def reindex(self) -> int:
        """Index every pack that lies in the store; return how many there are.

        CorruptError, once all others are indexed, if a pack is damaged.
        A pack may have come from elsewhere: its recipes are believed only once they were tried.
        """
        count = 0
        recipes: list[Recipe] = []
        damage: CorruptError | None = None
        for path, digest in self.files(PACKS):
            size = os.path.getsize(path)
            try:
                with open(path, "rb") as file:
                    index = pack_format.read_index(file, size=size, where=path)
            except CorruptError as error:
                damage = error
                continue
            recipes.extend(index.recipes)
            index.recipes = []
            self.db.add_packs([pack_format.PackInfo(digest, size, index)])
            count += 1
        self.add_tried(recipes)
        self.db.set_complete()
        if damage is not None:
            raise damage
        return count

    def make_index(self, path: str) -> None:
        """Make an index at `path` of the packs that can be read; ours stays closed."""
        self.close()
        self._database = databases.Database(path)
        try:
            with contextlib.suppress(CorruptError):
                self.reindex()
        finally:
            self.close()

    def packs_besides(self, known: Collection[Digest]) -> Iterator[PackInfo]:
        """Yield the packs that lie here, can be read and are not known, without their recipes."""
        for path, digest in self.files(PACKS):
            if digest not in known:
                size = os.path.getsize(path)
                with contextlib.suppress(CorruptError), open(path, "rb") as file:
                    index = pack_format.read_index(file, size=size, where=path)
                    index.recipes = []
                    yield pack_format.PackInfo(digest, size, index)

    def add_tried(self, recipes: Iterable[Recipe]) -> set[Digest]:
        """Remember the recipes that do make their file; return the files they make.

        Recipes whose chunks are not all here are passed over; one that makes another file than
        it says is not believed.
        """
        proven: list[Recipe] = []
        with self.reader() as reader:
            for recipe in recipes:
                with contextlib.suppress(MissingError, CorruptError):
                    reader.prepare_recipe(recipe)
                    if sum(map(len, reader.read(recipe.digest))) == recipe.size:
                        proven.append(recipe)
        self.db.add_recipes(proven)
        return {recipe.digest for recipe in proven}

    # --- giving space back ----------------------------------------------------------------

    def drop_chunks(self, chunks: Collection[Digest]) -> int:
        """Give up chunks; return by how many bytes the packs became smaller.

        See `rewrite_packs`: each pack that has any of them is written anew without.
        """
        with self.drop_lock():
            self.finish_drops()
            gone = set(chunks)
            numbers = {number for number, _ in self.db.places(gone).values()}
            return sum(self.rewrite_packs([number], gone) for number in sorted(numbers))

    def finish_drops(self) -> None:
        """Remove the packs that an interrupted drop or gc had already taken off the index."""
        folder = os.path.join(self.path, DOOMED)
        if not os.path.isdir(folder) or not os.listdir(folder):
            return
        indexed = {pack.digest for pack in self.db.packs().values()}
        for name in os.listdir(folder):
            with contextlib.suppress(ValueError, FileNotFoundError):
                digest = bytes.fromhex(name)
                if digest not in indexed:
                    os.unlink(self.pack_path(digest))
            os.unlink(os.path.join(folder, name))

    def rewrite_packs(self, numbers: Iterable[int], gone: Collection[Digest]) -> int:
        """Put what some packs have, without the chunks `gone`, into new packs in their place.

        Return by how many bytes that is less. Hold the `drop_lock`. It goes in steps (what is
        kept, durable and indexed; a marker; the index; the files), so that a crash loses no chunk
        that was to stay; `finish_drops` then frees what it left.
        """
        packs = self.db.packs()
        olds = {packs[number].digest: packs[number].size for number in numbers}
        places: dict[Digest, list[Placement]] = {}
        kept: dict[Digest, None] = {}
        recipes: dict[Digest, Recipe] = {}
        for digest, size in olds.items():
            path = self.pack_path(digest)
            with open(path, "rb") as file:
                index = pack_format.read_index(file, size=size, where=path)
            places[digest] = list(index.placements())
            kept |= self._kept_of(packs, digest, places[digest], gone)
            recipes |= {one.digest: one for one in self._recipes_kept(index.recipes, gone)}
        written_s = max((os.path.getmtime(self.pack_path(digest)) for digest in olds), default=0)
        fresh = self._rewritten(list(kept), recipes.values())
        for temp, _ in fresh:
            os.utime(temp, (written_s, written_s))  # what it holds did not become any younger
        self.adopt(fresh)
        infos = [info for _, info in fresh]
        self._remove_packs(
            {d: p for d, p in places.items() if d not in {i.digest for i in infos}}, infos
        )
        return sum(olds.values()) - sum(info.size for info in infos)

    def _kept_of(
        self,
        packs: Mapping[int, RemotePack],
        pack: Digest,
        places: Iterable[Placement],
        gone: Collection[Digest],
    ) -> dict[Digest, None]:
        """Return, in order, the chunks that are read from this pack and are to stay."""
        order = [place.digest for place in places]
        owners = self.db.places(order)
        return {
            digest: None
            for digest in order
            if digest not in gone and digest in owners and packs[owners[digest][0]].digest == pack
        }

    def _remove_packs(
        self, olds: Mapping[Digest, Sequence[Placement]], infos: Sequence[PackInfo]
    ) -> None:
        make_folders(os.path.join(self.path, DOOMED))
        for digest in olds:
            write_bytes(self._doomed_path(digest), b"")
        self.db.replace_packs(olds, infos)
        for digest in olds:
            os.unlink(self.pack_path(digest))
            os.unlink(self._doomed_path(digest))

    def _recipes_kept(self, recipes: Iterable[Recipe], gone: Collection[Digest]) -> list[Recipe]:
        """Return the recipes of files that stay here whole."""
        every = list(recipes)
        held = self.db.held_chunks(chunk for recipe in every for chunk in recipe.chunks)
        return [recipe for recipe in every if (held - set(gone)).issuperset(recipe.chunks)]

    def _rewritten(self, chunks: Sequence[Digest], recipes: Iterable[Recipe]) -> list[FinishedPack]:
        """Write chunks and recipes into new packs under temporary paths, flushed.

        On an error none is left behind.
        """
        with self.reader() as reader:
            reader.prepare_chunks(chunks)
            data = ((digest, bytes(reader.chunk(digest))) for digest in chunks)
            return list(packing.write_packs(self.temp_path, data, recipes))

    def _doomed_path(self, digest: Digest) -> str:
        return os.path.join(self.path, DOOMED, digest.hex())

    @contextlib.contextmanager
    def drop_lock(self) -> Iterator[None]:
        """Keep a second drop or gc, from another worktree, out of the same packs."""
        make_folders(self.path)
        try:
            lock = os.path.join(self.path, "drop.lock")
            with filelock.FileLock(lock, timeout=LOCK_WAIT_S):
                share(lock)
                yield
        except filelock.Timeout as error:
            raise BusyError(
                f"another dv drop or dv gc has been at work in this store for {LOCK_WAIT_S} s",
                hint="wait for it to end, then repeat the command",
            ) from error

    def sweep_temp(self) -> None:
        """Remove what interrupted commands left unfinished some days ago."""
        folder = os.path.join(self.path, TEMP)
        names = os.listdir(folder) if os.path.isdir(folder) else ()
        remove_unfinished(os.path.join(folder, name) for name in names)

    def sweep_unfinished(self) -> int:
        """Remove unfinished files everywhere in the store; return how many bytes they had."""
        found = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.path)
            for name in names
            if is_temp_name(name)
        ]
        return remove_unfinished(found)

    def shards_there(self) -> Iterator[tuple[str, Digest]]:
        """Yield path and hash of every shard here."""
        yield from self.files(SHARDS)

    def files(self, kind: str) -> Iterator[tuple[str, Digest]]:
        """Yield path and name of every pack (`PACKS`) or shard (`SHARDS`) that lies here."""
        top = os.path.join(self.path, kind)
        for folder in sorted(os.listdir(top)) if os.path.isdir(top) else ():
            for name in sorted(os.listdir(os.path.join(top, folder))):
                with contextlib.suppress(ValueError):
                    yield os.path.join(top, folder, name), bytes.fromhex(name)

    # --- contents -------------------------------------------------------------------------

    def lacking(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the file contents of which at least one chunk is not here."""
        wanted = set(digests) - {EMPTY}
        wanted -= self.db.held_chunks(wanted)
        if not wanted:
            return set()
        recipes = self.db.recipes(wanted)
        chunks = {chunk for recipe in recipes.values() for chunk in recipe.chunks}
        held = self.db.held_chunks(chunks)
        whole = {recipe.digest for recipe in recipes.values() if held.issuperset(recipe.chunks)}
        return wanted - whole

    def chunk_lists(self, digests: Iterable[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return file -> its chunks for the files whose chunks are known here.

        A file of one chunk, which has the file's own hash, needs no recipe.
        """
        wanted = set(digests)
        single = self.db.held_chunks(wanted)
        lists: dict[Digest, tuple[Digest, ...]] = {digest: (digest,) for digest in single}
        for recipe in self.db.recipes(wanted - single).values():
            lists[recipe.digest] = recipe.chunks
        return lists

    def separate(self) -> None:
        """In a process just forked: use an index opened anew, and let the inherited one be.

        SQLite's connections must not be used, nor closed, by another process than their own.
        """
        self._inherited = self._database
        self._database = None

    def reader(self) -> ContentReader:
        """Return a reader of file contents; use it as a context manager."""
        return ContentReader(self)

    # --- shards ---------------------------------------------------------------------------

    def shard_path(self, digest: Digest) -> str:
        """Return where the shard of this hash belongs."""
        name = digest.hex()
        return os.path.join(self.path, SHARDS, name[:2], name)

    def put_shards(self, shards: Iterable[ShardText]) -> None:
        """Keep the entries of shards, durably."""
        for shard in shards:
            self.put_shard_text(shard.ref.digest, shard.text)

    def put_shard_text(self, digest: Digest, text: bytes) -> None:
        """Keep the canonical text of one shard, which must have this hash."""
        if digest_of(text) != digest:
            raise CorruptError(f"shard {digest.hex()}: its bytes are not what its name says")
        with contextlib.suppress(MissingError, CorruptError):
            if self.shard_text(digest) == text:
                return
        path = self.shard_path(digest)
        make_folders(os.path.dirname(path))
        write_bytes(path, shard_format.encode_object(text, None))
        sync_folder(os.path.join(self.path, SHARDS))

    def has_shard(self, digest: Digest) -> bool:
        """Whether the entries of a shard are here."""
        return os.path.exists(self.shard_path(digest))

    def shard_text(self, digest: Digest) -> bytes:
        """Return the canonical text of a shard, unchecked; MissingError if it is not here."""
        path = self.shard_path(digest)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError as error:
            raise MissingError(
                f"the list of files {digest.hex()[:12]}… (a shard of a large manifest) is not here",
                hint="run: dv fetch",
            ) from error
        return shard_format.split_object(data, path)[0]

    def need_shards(self, refs: Iterable[ShardRef]) -> None:
        """See that these shards are here, got from the source, all at once, where they are not."""
        absent = {ref.digest: ref for ref in refs if not self.has_shard(ref.digest)}
        if absent and self.shard_source is not None:
            self.shard_source(list(absent.values()))

    def load_shard(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked; one that is not here comes from the source."""
        self.need_shards([ref])
        stamp = self._shard_stamp(ref)
        kept = self._shards_kept.get(ref)
        if stamp is None or kept is None or kept[0] != stamp:
            kept = (stamp, self.held_shard(ref))
        self._keep_shard(ref, *kept)
        return kept[1]

    def keep_shard(self, ref: ShardRef, entries: Entries) -> None:
        """Keep the checked entries of a shard, which is here, in memory for the next `load_shard`.

        They are shared by all who ask, so nobody changes them. Of large targets the last ones stay.
        """
        self._keep_shard(ref, self._shard_stamp(ref), entries)

    def _keep_shard(self, ref: ShardRef, stamp: Stamp | None, entries: Entries) -> None:
        self._shards_kept.pop(ref, None)
        self._shards_kept[ref] = (stamp, entries)
        while sum(one.files for one in self._shards_kept) > KEPT_ENTRIES_MAX:
            self._shards_kept.pop(next(iter(self._shards_kept)))

    def _shard_stamp(self, ref: ShardRef) -> Stamp | None:
        """Return what tells whether a shard's file was changed, so that its damage is noticed."""
        try:
            found = os.stat(self.shard_path(ref.digest))
        except OSError:
            return None
        return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    def held_shard(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked; MissingError, at once, if it is not here."""
        return decode_shard(self.shard_text(ref.digest), ref)


class ContentReader:
    """Reads file contents out of packs; what it yields was checked against the file's hash."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._packs: dict[int, RemotePack] | None = None
        self._files: dict[int, BinaryIO] = {}
        self._frame: tuple[int, int] = (-1, -1)
        self._where = ""
        self._raw: bytes | memoryview = b""
        self._places: dict[Digest, tuple[int, Placement]] = {}
        self._chunks: dict[Digest, tuple[Digest, ...]] = {}
        self._ahead: tuple[tuple[int, int], _Frame] | None = None
        """Which frame was last begun to be read in a thread."""

    def __enter__(self) -> ContentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the packs that were read."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def prepare(self, digests: Iterable[Digest]) -> list[Digest]:
        """Look up many contents at once; return them in the order in which they lie on the disk.

        MissingError if one is not here.
        """
        wanted = set(digests) - {EMPTY}
        db = self._store.db
        # A file of one chunk, which has the file's own hash, needs no recipe.
        self._places = places = db.places(wanted)
        self._chunks = {digest: (digest,) for digest in places}
        for digest, recipe in db.recipes(wanted - places.keys()).items():
            self._chunks[digest] = recipe.chunks
        parts = {chunk for chunks in self._chunks.values() if len(chunks) > 1 for chunk in chunks}
        places.update(db.places(parts - places.keys()))
        for digest in wanted:
            chunks = self._chunks.get(digest)
            if chunks is None or any(chunk not in places for chunk in chunks):
                raise _missing(digest)
        self._packs = db.packs()
        return sorted(wanted, key=self._position)

    def separate(self) -> None:
        """Make this copy of a prepared reader, in a process just forked, fit to be used there."""
        self._store.separate()

    def prepare_recipe(self, recipe: Recipe) -> None:
        """Look up a file by a recipe that the index does not have yet."""
        if len(recipe.chunks) < 2:
            raise CorruptError(f"the recipe of {recipe.digest.hex()} has too few chunks for one")
        self._chunks[recipe.digest] = recipe.chunks
        self._places.update(self._store.db.places(recipe.chunks))
        if any(chunk not in self._places for chunk in recipe.chunks):
            raise _missing(recipe.digest)

    def prepare_chunks(self, chunks: Iterable[Digest]) -> None:
        """Look up chunks that `chunk` will then return; MissingError if one is not here."""
        wanted = set(chunks)
        self._places.update(self._store.db.places(wanted))
        for digest in wanted:
            if digest not in self._places:
                raise _missing(digest)

    def _position(self, digest: Digest) -> tuple[int, int, int]:
        pack, place = self._places[self._chunks[digest][0]]
        return pack, place.frame_offset, place.start

    def size(self, digest: Digest) -> int:
        """Return the size of a prepared file as the index has it, in bytes."""
        return sum(self._places[chunk][1].size for chunk in self._chunks.get(digest, ()))

    def read(self, digest: Digest) -> Iterator[memoryview]:
        """Yield the bytes of a prepared file. The last comes only when the whole was verified.

        CorruptError, naming the pack, if the bytes do not have the hash.
        """
        if digest == EMPTY:
            return
        chunks = self._chunks[digest]
        if len(chunks) == 1:
            yield self.chunk(digest)
            return
        whole = hasher()
        previous: memoryview | None = None
        for raw, place in self._in_order(chunks):
            if previous is not None:
                yield previous
            previous = memoryview(raw)[place.start :][: place.size]
            whole.update(previous)
        if whole.digest() != digest:
            self._name_damage(digest)
        if previous is not None:
            yield previous

    def _in_order(self, chunks: Sequence[Digest]) -> Iterator[tuple[bytes | memoryview, Placement]]:
        """Yield the unpacked frame that each chunk is in, and its place there.

        Those of a large file that was compressed are unpacked in a thread, ahead of the caller.
        """
        size = sum(self._places[chunk][1].size for chunk in chunks)
        stored = {
            (pack, place.frame_offset): place.frame_size
            for pack, place in (self._places[chunk] for chunk in chunks)
        }
        packed = sum(stored.values()) < PACKED_SHARE_MAX * size
        if size < AHEAD_MIN_BYTES or not packed or not hasattr(os, "pread"):
            for chunk in chunks:
                yield self._found(chunk)[:2]
            return
        left = iter(chunks)
        self._ahead = None
        with futures_of.ThreadPoolExecutor(1) as pool:
            ahead = deque(self._begin_all(pool, islice(left, AHEAD_CHUNKS)))
            while ahead:
                chunk, place, frame = ahead.popleft()
                ahead.extend(self._begin_all(pool, islice(left, 1)))
                yield self._found(chunk)[:2] if frame is None else (frame.result(), place)

    def _begin_all(
        self, pool: futures_of.ThreadPoolExecutor, chunks: Iterable[Digest]
    ) -> Iterator[tuple[Digest, Placement, _Frame | None]]:
        """Begin to read the frames of chunks; None for one whose pack is gone."""
        for chunk in chunks:
            pack, place = self._places[chunk]
            try:
                path = self._store.pack_path(self._pack(pack).digest)
                file = self._open(pack, path)
            except MissingError:
                yield chunk, place, None
                continue
            where = (pack, place.frame_offset)
            if self._ahead is None or self._ahead[0] != where:
                self._ahead = where, pool.submit(_read_frame, file, path, place)
            yield chunk, place, self._ahead[1]

    def chunk(self, digest: Digest) -> memoryview:
        """Return one prepared chunk, verified."""
        raw, place, _ = self._found(digest)
        return pack_format.chunk_in(raw, place.start, place.size, digest, where=self._where)

    def _found(self, digest: Digest) -> tuple[bytes | memoryview, Placement, int]:
        """Return the unpacked frame that a chunk is in, its place there, and the pack's number."""
        pack, place = self._places[digest]
        try:
            return self._unpacked(pack, place), place, pack
        except MissingError:
            # A gc or drop may have put it into another pack since it was looked up.
            now = self._store.db.places([digest])
            if digest not in now or now[digest][0] == pack:
                raise
            self._places[digest] = pack, place = now[digest]
            return self._unpacked(pack, place), place, pack

    def _name_damage(self, digest: Digest) -> None:
        for chunk in self._chunks[digest]:
            self.chunk(chunk)
        raise CorruptError(
            f"the chunks known for file {digest.hex()} do not make that file",
            hint="run: dv fetch",
        )

    def _unpacked(self, pack: int, place: Placement) -> bytes | memoryview:
        if self._frame != (pack, place.frame_offset):
            digest = self._pack(pack).digest
            path = self._store.pack_path(digest)
            self._raw = _read_frame(self._open(pack, path), path, place)
            self._frame = (pack, place.frame_offset)
            self._where = f"pack {digest.hex()}"
        return self._raw

    def _open(self, pack: int, path: str) -> BinaryIO:
        file = self._files.pop(pack, None)
        if file is None:
            if len(self._files) >= OPEN_PACKS_MAX:
                oldest = next(iter(self._files))
                self._files.pop(oldest).close()
            try:
                file = open(path, "rb", buffering=0)
            except FileNotFoundError as error:
                raise MissingError(
                    f"{path} is gone, which the index still names", hint="run: dv fetch"
                ) from error
        self._files[pack] = file  # last, so that it is closed after those not used for longer
        return file

    def _pack(self, number: int) -> RemotePack:
        if self._packs is None or number not in self._packs:
            self._packs = self._store.db.packs()
        if number not in self._packs:
            raise MissingError("a pack went while it was being read", hint="repeat the command")
        return self._packs[number]


def _read_frame(file: BinaryIO, path: str, place: Placement) -> bytes | memoryview:
    stored = _read_at(file, place.frame_offset, place.frame_size)
    if len(stored) != place.frame_size:
        raise CorruptError(f"{path} is shorter than the index says")
    return pack_format.unpack_frame(stored, where=path)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        # One call in place of two, and no position that forked processes would share.
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    return file.read(size)


def remove_unfinished(paths: Iterable[str]) -> int:
    """Remove those of these files that are some days old; return how many bytes they had."""
    size = 0
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if found.st_mtime < time.time() - STALE_TEMP_S:
                os.unlink(path)
                size += found.st_size
    return size


def _missing(digest: Digest) -> MissingError:
    return MissingError(
        f"content {digest.hex()[:12]}… is not in the local store", hint="run: dv fetch"
    )


@contextlib.contextmanager
def _removing_on_error() -> Iterator[list[str]]:
    """Yield a list for paths of unfinished files, which are removed if the block raises."""
    made: list[str] = []
    try:
        yield made
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


def _has_size(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False
