"""The local store: packs and shards in the git common folder, shared by all worktrees.

Packs and shards are written under a temporary name, flushed, renamed, and only then indexed: a
crash leaves at most files that nothing refers to.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from dvtool.errors import CorruptError, MissingError, SetupError, printable
from dvtool.format.digest import EMPTY, Digest, digest_of
from dvtool.format.manifest import Entries, ShardRef, ShardText, decode_shard
from dvtool.system.atomic import (
    flush_file,
    make_folders,
    share,
    sync_folder,
    sync_folders,
    temp_name,
    write_all,
    write_bytes,
)
from dvtool.system.lazy import later
from dvtool.system.stat import Stamp

if TYPE_CHECKING:
    from dvtool.format import locations, pack
    from dvtool.format.pack import PackInfo, Recipe
    from dvtool.format.packing import FinishedPack
    from dvtool.store import clones, database, lock, reader, schema
    from dvtool.store.database import Database
    from dvtool.store.reader import ContentReader
else:
    pack = later("dvtool.format.pack")
    locations = later("dvtool.format.locations")
    database = later("dvtool.store.database")
    reader = later("dvtool.store.reader")
    schema = later("dvtool.store.schema")
    clones = later("dvtool.store.clones")
    lock = later("dvtool.store.lock")

PACKS, SHARDS, TEMP, DOOMED, ASIDE = "packs", "shards", "tmp", "doomed", "aside"
LOST = ".lost"
"""Suffix of a note in `ASIDE`: the chunks that were lost with a pack, digest after digest."""
SHARDS_FLUSHED_AT_ONCE = 64
SHARDS_FLUSHED_MAX_BYTES = 8 << 20
"""So many shards at most wait for the disk together, until their texts are that long."""
KEPT_ENTRIES_MAX = 73_728
"""About 25 MB of entries stay in memory between two looks at them: those of a group of shards that
are fetched together, and of some before it."""


class LocalStore:
    """Packs, shards and their index under one folder. Not shared between threads.

    `note`, if given, is a file that says where a store was in use before: one that is there no
    more is refused, since its disk may be away, and not made again empty. `clone` is the git folder
    of the clone that uses the store, if the store is not in that git folder.
    """

    def __init__(
        self,
        path: str,
        *,
        note: str | None = None,
        clone: str | None = None,
        reading: bool = False,
    ) -> None:
        """Take the folder; with `reading` nothing in it is ever made, changed or mended."""
        self.path = path
        self._reading = reading
        self._note = note
        self._clone = clone
        self._database: Database | None = None
        self._shards_kept: dict[ShardRef, tuple[Stamp | None, Entries]] = {}
        """Ordered from least to most recently used."""

    def to_read(self) -> LocalStore:
        """Return the same store, with nothing opened, only to be read."""
        return LocalStore(self.path, note=self._note, clone=self._clone, reading=True)

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
            self.refuse_if_away()
            if self._reading:
                self._database = database.Database(self.database_path, reading=True)
                return self._database
            if not schema.is_read_only(self.path):
                self._make_folders()
                if self._clone is not None:
                    clones.register(self.path, self._clone)
            self._database = database.Database(self.database_path)
            if not self._database.complete:
                self.reindex()
            self._forget_lost_packs(self._database)
            self._note_place()
        return self._database

    def refuse_if_away(self) -> None:
        """Raise a SetupError if the store was here and nothing of it is."""
        if self._noted_place() != os.fsencode(self.path) or os.path.exists(self.database_path):
            return
        packs = os.path.join(self.path, PACKS)
        if not os.path.isdir(packs):
            raise SetupError(
                f"store.path: the local store was in {printable(self.path)}, where nothing is now",
                hint="mount the disk that it is on; or set another place: dv config --local "
                f"store.path DIR; or begin an empty store: mkdir -p {shlex.quote(packs)}",
            )

    def _noted_place(self) -> bytes | None:
        if self._note is None:
            return None
        try:
            with open(self._note, "rb") as file:
                return file.read()
        except OSError:
            return None

    def _note_place(self) -> None:
        """Note that the store is in use here; a repository that cannot be written needs no note."""
        if self._note is not None and self._noted_place() != os.fsencode(self.path):
            with contextlib.suppress(OSError):
                make_folders(os.path.dirname(self._note))
                write_bytes(self._note, os.fsencode(self.path))

    def _make_folders(self) -> None:
        fresh = not os.path.exists(self.database_path)
        for name in (PACKS, SHARDS, TEMP):
            make_folders(os.path.join(self.path, name))
        if fresh:
            sync_folder(os.path.dirname(self.path))  # a lock may have made ours before

    def used(self, *, alone: bool = False) -> contextlib.AbstractContextManager[None]:
        """Work in the store as `lock.used` says, if it is not one clone's alone."""
        self.refuse_if_away()
        if self._clone is not None:
            clones.register(self.path, self._clone)
        elif not clones.is_shared(self.path):
            return contextlib.nullcontext()
        return lock.used(self.path, alone=alone)

    def _forget_lost_packs(self, database: Database) -> None:
        """Forget packs that are gone or cut short: what only they had must count as missing.

        Otherwise an add would rely on them, and a fetch would not get their content again. Chunks
        that another pack has too are found again by indexing every pack that is left.
        """
        lost = [
            info.digest
            for info in database.packs().values()
            if not _has_size(self.pack_path(info.digest), info.size)
        ]
        if lost:
            for digest in lost:
                with contextlib.suppress(OSError):
                    self.note_lost(digest, [row.digest for row in database.rows_of(digest)])
            database.forget_packs(lost)
            with contextlib.suppress(CorruptError):
                self.reindex()

    def note_lost(self, digest: Digest, chunks: Collection[Digest]) -> None:
        """Remember chunks that were lost with a pack, so that later checks still report them."""
        if chunks:
            folder = os.path.join(self.path, ASIDE)
            make_folders(folder)
            write_bytes(os.path.join(folder, digest.hex() + LOST), b"".join(sorted(chunks)))

    @property
    def database_path(self) -> str:
        """Where store.db is."""
        return os.path.join(self.path, "store.db")

    # --- packs ----------------------------------------------------------------------------

    def pack_path(self, digest: Digest) -> str:
        """Return where a pack of this id belongs."""
        name = digest.hex()
        return os.path.join(self.path, PACKS, name[:2], name)

    def doomed_path(self, digest: Digest) -> str:
        """Return the path of the marker that this pack is to go: see `dvtool.store.freeing`."""
        return os.path.join(self.path, DOOMED, digest.hex())

    def temp_path(self) -> str:
        """Return a fresh path, on the same filesystem, for a file in the making."""
        return os.path.join(self.temp_folder(), temp_name())

    def temp_folder(self) -> str:
        """Return the folder, on the store's filesystem, for files in the making."""
        folder = os.path.join(self.path, TEMP)
        make_folders(folder)
        return folder

    def adopt(self, packs: Iterable[FinishedPack], *, flushed: bool = True) -> None:
        """Take finished packs, under temporary paths, into the store.

        They are flushed to the disk, or not yet `flushed`. On an error the packs that are not in
        place are removed.
        """
        infos = []
        folders = set()
        all_packs = list(packs)
        with _removing_on_error() as made:
            made.extend(temp for temp, _ in all_packs)
            for temp in () if flushed else made:
                flush_file(temp)
            for temp, info in all_packs:
                path = self.pack_path(info.digest)
                make_folders(os.path.dirname(path))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.doomed_path(info.digest))  # an unfinished drop; wanted again
                share(temp)
                os.replace(temp, path)
                folders.add(os.path.dirname(path))
                infos.append(info)
        for folder in folders | {os.path.join(self.path, PACKS)}:
            sync_folder(folder)
        self.db.add_packs(infos)

    def reindex(self) -> int:
        """Index every pack in the store; return how many there are.

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
                    index = pack.read_index(file, size=size, where=path)
            except CorruptError as error:
                damage = error
                continue
            recipes.extend(index.recipes)
            index.recipes = []
            self.db.add_packs([pack.PackInfo(digest, size, index)])
            count += 1
        self.add_tried(recipes)
        self.db.set_complete()
        if damage is not None:
            raise damage
        return count

    def make_index(self, path: str) -> None:
        """Make an index at `path` of the packs that can be read; store.db stays closed."""
        self.close()
        self._database = database.Database(path)
        try:
            with contextlib.suppress(CorruptError):
                self.reindex()
        finally:
            self.close()

    def packs_besides(self, known: Collection[Digest]) -> Iterator[PackInfo]:
        """Yield the packs here that can be read and are not known, without their recipes."""
        for path, digest in self.files(PACKS):
            if digest not in known:
                size = os.path.getsize(path)
                with contextlib.suppress(CorruptError), open(path, "rb") as file:
                    index = pack.read_index(file, size=size, where=path)
                    index.recipes = []
                    yield pack.PackInfo(digest, size, index)

    def add_tried(self, recipes: Iterable[Recipe]) -> set[Digest]:
        """Remember the recipes that do make their file; return these files.

        Recipes whose chunks are not all here are passed over, as are recipes that make another
        file than they say.
        """
        proven: list[Recipe] = []
        with self.reader() as contents:
            for recipe in recipes:
                with contextlib.suppress(MissingError, CorruptError):
                    contents.prepare_recipe(recipe)
                    if sum(map(len, contents.read(recipe.digest))) == recipe.size:
                        proven.append(recipe)
        self.db.add_recipes(proven)
        return {recipe.digest for recipe in proven}

    def shards_there(self) -> Iterator[tuple[str, Digest]]:
        """Yield path and hash of every shard here."""
        yield from self.files(SHARDS)

    def files(self, kind: str) -> Iterator[tuple[str, Digest]]:
        """Yield path and name of every pack (`PACKS`) or shard (`SHARDS`) here."""
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

    def reader(self) -> ContentReader:
        """Return a reader of file contents; use it as a context manager."""
        return reader.ContentReader(self)

    # --- shards ---------------------------------------------------------------------------

    def shard_path(self, digest: Digest) -> str:
        """Return where the shard of this hash belongs."""
        name = digest.hex()
        return os.path.join(self.path, SHARDS, name[:2], name)

    def put_shards(self, shards: Iterable[ShardText]) -> None:
        """Keep the entries of shards, durably; some at a time are taken, and held, as they come."""
        group: dict[Digest, tuple[bytes, bytes | None]] = {}
        size = 0
        for shard in shards:
            group[shard.ref.digest] = shard.text, shard.stored
            size += len(shard.text)
            if len(group) == SHARDS_FLUSHED_AT_ONCE or size >= SHARDS_FLUSHED_MAX_BYTES:
                self._put_group(group)
                group, size = {}, 0
        self._put_group(group)

    def put_shard_text(self, digest: Digest, text: bytes) -> None:
        """Keep the canonical text of one shard, which must have this hash."""
        self._put_group({digest: (text, None)})

    def _put_group(self, texts: Mapping[Digest, tuple[bytes, bytes | None]]) -> None:
        contents = []
        for digest, (text, stored) in texts.items():
            if digest_of(text) != digest:
                raise CorruptError(f"shard {digest.hex()}: its bytes are not what its name says")
            with contextlib.suppress(MissingError, CorruptError):
                if self.shard_text(digest) == text:
                    continue
            contents.append(
                (self.shard_path(digest), stored or locations.encode_object(text, None))
            )
        if not texts:
            return
        shards_folder = os.path.join(self.path, SHARDS)
        make_folders(shards_folder)
        folders = {os.path.dirname(self.shard_path(digest)) for digest in texts}
        for folder in folders:
            # Durable with all others below; `make_folders` would wait for the disk for each.
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                share(folder)
        write_all(contents)
        # A shard that was found may have its name from a command that was killed before this.
        sync_folders({shards_folder, *folders} - {os.path.dirname(path) for path, _ in contents})

    def has_shard(self, digest: Digest) -> bool:
        """Whether the entries of a shard are here."""
        return os.path.exists(self.shard_path(digest))

    def shard_text(self, digest: Digest) -> bytes:
        """Return the canonical text of a shard, unchecked; MissingError if it is not here."""
        return locations.split_object(self.shard_object(digest), self.shard_path(digest))[0]

    def shard_object(self, digest: Digest) -> bytes:
        """Return a shard as it is kept, unchecked; MissingError if it is not here."""
        try:
            with open(self.shard_path(digest), "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise MissingError(
                f"shard {digest.hex()[:12]}… of a large manifest is not here",
                hint="run: dv fetch",
            ) from error

    def load_shard(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked, and keep them; MissingError if it is not here.

        All callers share them, so nobody changes them.
        """
        stamp = self._shard_stamp(ref)
        kept = self._shards_kept.get(ref)
        if stamp is None or kept is None or kept[0] != stamp:
            kept = (stamp, self.held_shard(ref))
        self._keep_shard(ref, *kept)
        return kept[1]

    def keep_shard(self, ref: ShardRef, entries: Entries) -> None:
        """Keep the checked entries of a shard, which is here, in memory for the next `load_shard`.

        All callers share them, so nobody changes them. The least recently used ones go first.
        """
        self._keep_shard(ref, self._shard_stamp(ref), entries)

    def _keep_shard(self, ref: ShardRef, stamp: Stamp | None, entries: Entries) -> None:
        self._shards_kept.pop(ref, None)
        self._shards_kept[ref] = (stamp, entries)
        while sum(kept.files for kept in self._shards_kept) > KEPT_ENTRIES_MAX:
            self._shards_kept.pop(next(iter(self._shards_kept)))

    def _shard_stamp(self, ref: ShardRef) -> Stamp | None:
        """Return the stamp of a shard's file, by which a later change or damage is noticed."""
        try:
            stats = os.stat(self.shard_path(ref.digest))
        except OSError:
            return None
        return Stamp(stats.st_mtime_ns, stats.st_ctime_ns, stats.st_size, stats.st_ino)

    def held_shard(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked; MissingError, at once, if it is not here."""
        return decode_shard(self.shard_text(ref.digest), ref)


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
