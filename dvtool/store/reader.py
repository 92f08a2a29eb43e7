"""Reads file contents out of the packs of the local store, and checks them by their hashes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, TypeAlias

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import EMPTY, Digest, hasher
from dvtool.format.locations import RemotePack
from dvtool.format.pack import ChunkRow, Recipe, chunk_in, unpack_frame
from dvtool.store.database import Database
from dvtool.store.place_columns import PlaceColumns
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from concurrent import futures

    _Frame: TypeAlias = futures.Future[bytes | memoryview]
else:
    futures = later("concurrent.futures")

OPEN_PACKS_MAX = 32
AHEAD_MIN_BYTES = 16 << 20
AHEAD_CHUNKS = 6
PACKED_SHARE_MAX = 0.95
"""Files of `AHEAD_MIN_BYTES`, compressed to at most this share, are unpacked ahead. For others a
thread costs more than it saves."""

_position_of = itemgetter(1, 2, 4)
"""A row's pack, frame offset and start: where its chunk is on the disk."""


class IndexedPacks(Protocol):
    """Packs on the disk with their index; the local store."""

    @property
    def db(self) -> Database:
        """The index."""

    def pack_path(self, digest: Digest) -> str:
        """Return where a pack of this id is."""


class Whereabouts(NamedTuple):
    """Where contents are in a store: packs by number, each chunk's row, chunks by content.

    It pickles. A content of one chunk has that chunk's name, and needs no more. A chunk whose pack
    was written anew since is looked up in the index.
    """

    packs: dict[int, RemotePack]
    rows: list[ChunkRow]
    chunks: dict[Digest, tuple[Digest, ...]]


class ContentReader:
    """Reads file contents out of packs, and checks them against the file's hash."""

    def __init__(self, store: IndexedPacks) -> None:
        self._store = store
        self._packs: dict[int, RemotePack] | None = None
        self._files: dict[int, BinaryIO] = {}
        self._frame: tuple[int, int] = (-1, -1)
        self._where = ""
        self._raw: bytes | memoryview = b""
        self._places: dict[Digest, ChunkRow] = {}
        self._chunks: dict[Digest, tuple[Digest, ...]] = {}
        """The chunks of each content that has several."""
        self._ahead: tuple[tuple[int, int], _Frame] | None = None
        """The frame that a thread began to read last."""

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
        """Look up many contents at once; return them in the order of their places on the disk.

        MissingError if one of them is not here.
        """
        wanted = set(digests) - {EMPTY}
        # A file of one chunk, which has the file's own hash, needs no recipe.
        return self._prepare(wanted, self._store.db.placed_here(wanted))

    def look_up(self, joined: bytes) -> PlaceColumns:
        """Look up where contents of one chunk are, whose digests are end to end."""
        return self._store.db.place_columns(joined)

    def prepare_from(
        self, columns: PlaceColumns, first: int, digests: Sequence[Digest]
    ) -> list[Digest]:
        """Do as `prepare`, of contents that were looked up in this order, from position `first` on.

        Contents of several chunks are looked up now, and what is in another pack since.
        """
        packs = self._store.db.packs()
        # The number of a pack that went may be that of another one by now.
        same = {number for number, pack in columns.packs.items() if packs.get(number) == pack}
        places = columns.rows(first, digests, same)
        rest = set(digests) - places.keys() - {EMPTY}
        if rest:
            places.update(self._store.db.placed_here(rest))
        return self._prepare(set(digests) - {EMPTY}, places)

    def _prepare(self, wanted: set[Digest], places: dict[Digest, ChunkRow]) -> list[Digest]:
        """Take over the places of contents, and look up those of the chunks of all others."""
        db = self._store.db
        self._places = places
        self._chunks = {}
        rows = list(places.values())
        rest = wanted - places.keys()
        if rest:
            recipes = db.recipes(rest)
            self._chunks.update((digest, recipe.chunks) for digest, recipe in recipes.items())
            parts = {chunk for recipe in recipes.values() for chunk in recipe.chunks}
            places.update(db.placed_here(parts - places.keys()))
            for digest in rest:
                chunks = self._chunks.get(digest)
                if chunks is None or any(chunk not in places for chunk in chunks):
                    raise _missing(digest)
                first = places[chunks[0]]
                rows.append((digest, *first[1:]))
        self._packs = db.packs()
        rows.sort(key=_position_of)
        return [row[0] for row in rows]

    def prepared_size(self, digest: Digest) -> int:
        """Return the size of a prepared content as the index has it, in bytes."""
        row = self._places.get(digest)
        if row is not None and digest not in self._chunks:
            return row[5]
        return sum([self._places[chunk][5] for chunk in self._chunks.get(digest, ())])

    def whereabouts(self, digests: Iterable[Digest]) -> Whereabouts:
        """Return where prepared contents are, for a reader of the same store in any process."""
        wanted = list(digests)
        rows = [row for row in map(self._places.get, wanted) if row is not None]
        chunks = {digest: self._chunks[digest] for digest in wanted if digest in self._chunks}
        rows += [self._places[chunk] for parts in chunks.values() for chunk in parts]
        packs = {number: self._pack(number) for number in {row[1] for row in rows}}
        return Whereabouts(packs, rows, chunks)

    def know(self, whereabouts: Whereabouts) -> None:
        """Take over contents that another reader of this store prepared; no index is asked."""
        self._packs, rows, self._chunks = whereabouts
        self._places = {row[0]: row for row in rows}

    def prepare_recipe(self, recipe: Recipe) -> None:
        """Look up a file by a recipe that the index does not have yet."""
        if len(recipe.chunks) < 2:
            raise CorruptError(f"the recipe of {recipe.digest.hex()} has too few chunks for one")
        self._chunks[recipe.digest] = recipe.chunks
        self._places.update(self._store.db.placed_here(recipe.chunks))
        if any(chunk not in self._places for chunk in recipe.chunks):
            raise _missing(recipe.digest)

    def prepare_chunks(self, chunks: Iterable[Digest]) -> None:
        """Look up chunks, for `chunk` to return; MissingError if one of them is not here."""
        wanted = set(chunks)
        self._places.update(self._store.db.placed_here(wanted))
        for digest in wanted:
            if digest not in self._places:
                raise _missing(digest)

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return content -> its size as the index has it, in bytes; MissingError if not all here.

        Nothing is prepared, so this takes less time than `prepare`.
        """
        wanted = set(digests) - {EMPTY}
        db = self._store.db
        sizes = db.chunk_sizes(wanted)
        rest = wanted - sizes.keys()
        recipes = db.recipes(rest) if rest else {}
        parts = db.chunk_sizes({chunk for recipe in recipes.values() for chunk in recipe.chunks})
        for digest in rest:
            recipe = recipes.get(digest)
            if recipe is None or any(chunk not in parts for chunk in recipe.chunks):
                raise _missing(digest)
            sizes[digest] = sum(parts[chunk] for chunk in recipe.chunks)
        return sizes

    def read(self, digest: Digest) -> Iterator[memoryview]:
        """Yield the bytes of a prepared file, the last of them only once the whole is verified.

        CorruptError, naming the pack, if the bytes do not have the hash.
        """
        if digest == EMPTY:
            return
        chunks = self._chunks.get(digest)
        if chunks is None:
            yield self.chunk(digest)
            return
        whole = hasher()
        previous: memoryview | None = None
        for raw, row in self._in_order(chunks):
            if previous is not None:
                yield previous
            start, size = row[4:]
            previous = memoryview(raw)[start:][:size]
            whole.update(previous)
        if whole.digest() != digest:
            self._name_damage(digest)
        if previous is not None:
            yield previous

    def _in_order(self, chunks: Sequence[Digest]) -> Iterator[tuple[bytes | memoryview, ChunkRow]]:
        """Yield the unpacked frame of each chunk, and the chunk's row.

        The frames of a large compressed file are unpacked in a thread, ahead of the caller.
        """
        rows = [self._places[chunk] for chunk in chunks]
        size = sum(row[5] for row in rows)
        stored = {(row[1], row[2]): row[3] for row in rows}
        packed = sum(stored.values()) < PACKED_SHARE_MAX * size
        if size < AHEAD_MIN_BYTES or not packed or not hasattr(os, "pread"):
            for chunk in chunks:
                yield self._found(chunk)
            return
        left = iter(chunks)
        self._ahead = None
        with futures.ThreadPoolExecutor(1) as pool:
            ahead = deque(self._begin_all(pool, islice(left, AHEAD_CHUNKS)))
            while ahead:
                chunk, row, frame = ahead.popleft()
                ahead.extend(self._begin_all(pool, islice(left, 1)))
                yield self._found(chunk) if frame is None else (frame.result(), row)

    def _begin_all(
        self, pool: futures.ThreadPoolExecutor, chunks: Iterable[Digest]
    ) -> Iterator[tuple[Digest, ChunkRow, _Frame | None]]:
        """Begin to read the frames of chunks; None for a frame whose pack is gone."""
        for chunk in chunks:
            row = self._places[chunk]
            pack, offset, frame_size = row[1:4]
            try:
                path = self._store.pack_path(self._pack(pack).digest)
                file = self._open(pack, path)
            except MissingError:
                yield chunk, row, None
                continue
            where = (pack, offset)
            if self._ahead is None or self._ahead[0] != where:
                self._ahead = where, pool.submit(_read_frame, file, path, offset, frame_size)
            yield chunk, row, self._ahead[1]

    def chunk(self, digest: Digest) -> memoryview:
        """Return one prepared chunk, verified."""
        raw, (*_, start, size) = self._found(digest)
        return chunk_in(raw, start, size, digest, where=self._where)

    def _found(self, digest: Digest) -> tuple[bytes | memoryview, ChunkRow]:
        """Return the unpacked frame of a chunk, and the chunk's row."""
        row = self._places[digest]
        try:
            return self._unpacked(row), row
        except MissingError:
            # A gc or drop may have moved the chunk into another pack since it was looked up.
            now = self._store.db.placed_here([digest])
            if digest not in now or now[digest][1] == row[1]:
                raise
            self._places[digest] = row = now[digest]
            return self._unpacked(row), row

    def _name_damage(self, digest: Digest) -> None:
        for chunk in self._chunks[digest]:
            self.chunk(chunk)
        raise CorruptError(
            f"the chunks known for file {digest.hex()} do not make that file",
            hint="run: dv fetch",
        )

    def _unpacked(self, row: ChunkRow) -> bytes | memoryview:
        pack, offset, frame_size = row[1:4]
        if self._frame != (pack, offset):
            digest = self._pack(pack).digest
            path = self._store.pack_path(digest)
            self._raw = _read_frame(self._open(pack, path), path, offset, frame_size)
            self._frame = (pack, offset)
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
                    f"{path} is gone, but the index still names it", hint="run: dv fetch"
                ) from error
        self._files[pack] = file  # put last: the pack not used for longest is closed first
        return file

    def _pack(self, number: int) -> RemotePack:
        if self._packs is None or number not in self._packs:
            self._packs = self._store.db.packs()
        if number not in self._packs:
            raise MissingError(
                "a pack was removed while it was being read", hint="repeat the command"
            )
        return self._packs[number]


def _read_frame(file: BinaryIO, path: str, offset: int, size: int) -> bytes | memoryview:
    stored = _read_at(file, offset, size)
    if len(stored) != size:
        raise CorruptError(f"{path} is shorter than the index says")
    return unpack_frame(stored, where=path)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        # pread is one call, not two, and has no position that forked processes would share.
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    return file.read(size)


def _missing(digest: Digest) -> MissingError:
    return MissingError(
        f"content {digest.hex()[:12]}… is not in the local store", hint="run: dv fetch"
    )
