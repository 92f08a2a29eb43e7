"""Chunks in the local store: where they are, and reading the frames that have them.

Nothing in the store is written. Several threads may read; each holds the pack that it reads open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.format.digest import Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Recipe, chunk_in, unpack_frame
from dvtool.format.references import Reference
from dvtool.snapshots.layouts import IN_STORE, Layout, PlacedChunk, layout_of
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.remotes import known as knowledge
else:
    knowledge = later("dvtool.remotes.known")

PACK_FILES_MAX = 32
RUN_MAX_BYTES = 1 << 20
"""Frames that lie together are read at once, so many bytes of them: what a processor's cache holds.
A single frame may be larger."""
GAP_MAX_BYTES = 16 << 10
"""It is cheaper to read over so many bytes between two frames than to begin a read anew."""

CheckedChunk: TypeAlias = tuple[Digest, memoryview | DvError]
"""The name of a chunk, and its checked bytes or why they cannot be read."""


class PackFile:
    """A file with frames of a pack, open for reading as long as somebody holds this."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on; fewer at the end of the file."""
        return os.pread(self.fd, size, offset)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill a buffer from an offset on; return how many bytes there were."""
        return os.preadv(self.fd, [buffer], offset)

    def __del__(self) -> None:
        os.close(self.fd)


class LocalChunks:
    """The chunks of the local store, for several threads of one process."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._packs: dict[int, RemotePack] = {}
        self._open: dict[Digest, PackFile] = {}
        self._paths: dict[Digest, str] = {}

    def forget(self) -> None:
        """Look up anew, from now on, which packs there are."""
        with self._lock:
            self._packs = {}
            self._open = {}

    def pieces(self, chunks: Collection[Digest]) -> dict[Digest, PlacedChunk]:
        """Return where chunks are, of those that are here."""
        return {
            chunk: PlacedChunk(IN_STORE, located)
            for chunk, located in self.placements(chunks).items()
        }

    def placements(self, chunks: Collection[Digest]) -> dict[Digest, Located]:
        """Return the packs of chunks and where they are in them, of those that are here."""
        if self._has_no_packs():
            return {}
        with self._lock:
            places = self._store.db.places(chunks)
            if any(number not in self._packs for number, _ in places.values()):
                self._packs = self._store.db.packs()
            packs = self._packs
            return {
                chunk: Located(packs[number], placement)
                for chunk, (number, placement) in places.items()
                if number in packs
            }

    def lacking(self, chunks: Iterable[Located]) -> Collection[Located]:
        """Return the chunks that are not here, each once."""
        lacking = {chunk.placement.digest: chunk for chunk in chunks}
        for digest in self.placements(lacking):
            del lacking[digest]
        return lacking.values()

    def _has_no_packs(self) -> bool:
        """Whether nothing is here now: then a look for each of many contents is spared."""
        with self._lock:
            self._packs = self._packs or self._store.db.packs()
            return not self._packs

    def recipes(self, contents: Collection[Digest]) -> dict[Digest, Recipe]:
        """Return how contents are put together, of those that were tried here."""
        with self._lock:
            return self._store.db.recipes(contents)

    def references(self, contents: Collection[Digest]) -> dict[Digest, list[Reference]]:
        """Return which objects at sources have contents, as far as is known here."""
        with self._lock:
            return self._store.db.references.find(contents)

    def layouts(
        self, contents: Collection[Digest], without: Collection[Digest] = ()
    ) -> dict[Digest, Layout]:
        """Return the layouts of the contents that are here whole, chunks `without` set aside."""
        if self._has_no_packs():
            return {}
        pieces = self._sound_pieces(contents, without)
        layouts = {content: layout_of([piece], proven=True) for content, piece in pieces.items()}
        if len(layouts) == len(contents):
            return layouts
        recipes = self.recipes([content for content in contents if content not in layouts])
        chunks = {chunk for recipe in recipes.values() for chunk in recipe.chunks}
        pieces = self._sound_pieces(chunks, without)
        for content, recipe in recipes.items():
            if all(chunk in pieces for chunk in recipe.chunks):
                chosen = [pieces[chunk] for chunk in recipe.chunks]
                layouts[content] = layout_of(chosen, proven=True)
        return layouts

    def _sound_pieces(
        self, chunks: Collection[Digest], without: Collection[Digest]
    ) -> dict[Digest, PlacedChunk]:
        if not without:
            return self.pieces(chunks)
        return self.pieces([chunk for chunk in chunks if chunk not in without])

    def on_remote(
        self, remote_id: str, contents: Collection[Digest]
    ) -> dict[Digest, list[Located]]:
        """Return where a remote is believed to have contents, from earlier use of it here."""
        with self._lock:
            known = knowledge.Known(self._store.db, remote_id, reading=True)
            lists = known.chunk_lists(contents)
            chunks = known.located({chunk for parts in lists.values() for chunk in parts})
        return {
            content: [chunks[chunk] for chunk in parts]
            for content, parts in lists.items()
            if all(chunk in chunks for chunk in parts)
        }

    def frame(self, located: Located) -> bytes | memoryview:
        """Return the unpacked frame of a chunk; MissingError if its pack is gone."""
        placement, path = located.placement, self.where(located)
        stored = self.opened(located.pack.digest).read(placement.frame_offset, placement.frame_size)
        raw = _unpacked(memoryview(stored), placement.frame_size, path)
        if isinstance(raw, DvError):
            raise raw
        return raw

    def checked(self, pieces: Iterable[PlacedChunk]) -> Iterator[CheckedChunk]:
        """Yield the chunks of pieces, given in the order of packs; neighbours are read at once.

        The bytes of a chunk stay as they are until the next is asked for: memory that was used
        just now is faster than new memory.
        """
        buffer = bytearray()
        for run in _runs_of_pieces(pieces):
            first, last = run[0].located, run[-1].located.placement
            begin, path = first.placement.frame_offset, self.where(first)
            try:
                pack = self.opened(first.pack.digest)
            except MissingError as error:
                yield from ((piece.chunk, error) for piece in run)
                continue
            size = last.frame_offset + last.frame_size - begin
            if len(buffer) < size:
                buffer = bytearray(max(size, RUN_MAX_BYTES))
            stored = memoryview(buffer)[:size]
            yield from _chunks_of_run(run, stored[: pack.read_into(stored, begin)], begin, path)

    def where(self, located: Located) -> str:
        """Return the path of a chunk's pack, for messages."""
        return self._path(located.pack.digest)

    def _path(self, digest: Digest) -> str:
        path = self._paths.get(digest)
        if path is None:
            path = self._paths[digest] = self._store.pack_path(digest)
        return path

    def opened(self, digest: Digest) -> PackFile:
        """Return a pack, opened; MissingError if it is gone."""
        path = self._path(digest)
        with self._lock:
            pack = self._open.pop(digest, None)
            if pack is None:
                while len(self._open) >= PACK_FILES_MAX:
                    self._open.pop(next(iter(self._open)))
                try:
                    pack = PackFile(os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))
                except OSError as error:
                    raise MissingError(
                        f"{path} cannot be read ({error.strerror}), but the index names it",
                        hint="run: dv fetch",
                    ) from error
            self._open[digest] = pack  # put last: the pack not used for longest goes first
            return pack


def _runs_of_pieces(pieces: Iterable[PlacedChunk]) -> Iterator[list[PlacedChunk]]:
    """Divide pieces, given in the order of packs, into those that one read gets."""
    run: list[PlacedChunk] = []
    pack: Digest | None = None
    begin = end = 0
    for piece in pieces:
        located = piece.located
        offset, size = located.placement.frame_offset, located.placement.frame_size
        if (
            located.pack.digest != pack
            or offset > end + GAP_MAX_BYTES
            or (offset + size > begin + RUN_MAX_BYTES and offset + size > end)
        ):
            if run:
                yield run
            run, pack, begin = [], located.pack.digest, offset
        run.append(piece)
        end = offset + size
    if run:
        yield run


def _chunks_of_run(
    run: Iterable[PlacedChunk], stored: memoryview, begin: int, path: str
) -> Iterator[CheckedChunk]:
    """Yield the chunks of a run, of which the bytes from `begin` of the pack on were read."""
    unpacked = -1
    raw: bytes | memoryview | DvError = b""
    for piece in run:
        at = piece.located.placement
        if at.frame_offset != unpacked:
            unpacked, low = at.frame_offset, at.frame_offset - begin
            raw = _unpacked(stored[low : low + at.frame_size], at.frame_size, path)
        if isinstance(raw, DvError):
            yield at.digest, raw
            continue
        try:
            yield at.digest, chunk_in(raw, at.start, at.size, at.digest, where=path)
        except CorruptError as error:
            yield at.digest, error


def _unpacked(stored: memoryview, size: int, path: str) -> bytes | memoryview | DvError:
    """Return the bytes of a frame, or the error if it is damaged."""
    try:
        if len(stored) != size:
            raise CorruptError(
                f"{path} is shorter than the index says", hint="run: dv fsck --repair"
            )
        return unpack_frame(stored, where=path)
    except CorruptError as error:
        return error
