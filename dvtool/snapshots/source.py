"""Reading ranges of contents: from the local store first, then from remotes, every chunk checked.

Ranges of one call are joined: a frame is read once for all of them, neighbouring frames of a
remote's pack by one request.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dvtool.errors import CorruptError, DvError, MissingError, ObjectMissing
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.locations import RemotePack
from dvtool.format.pack import Placement, chunk_in, unpack_frame
from dvtool.format.references import ReferenceDiffers, ReferenceLost
from dvtool.snapshots.cache import FrameCache, NewMemory
from dvtool.snapshots.contents import Content, Contents, not_the_content
from dvtool.snapshots.layouts import (
    IN_STORE,
    Layout,
    PackPieces,
    PlacedChunk,
    chunks_by_pack,
    layout_of,
    pieces_by_pack,
)
from dvtool.snapshots.local import CheckedChunk, LocalChunks
from dvtool.snapshots.places import ListedPlaces
from dvtool.system.collecting import collector_put_off
from dvtool.system.logs import Log

if TYPE_CHECKING:
    from dvtool.snapshots.remote import RemoteChunks

_LOG = Log("snapshots")
LAYOUTS_KEPT_CHUNKS = 65_536
"""Of so many chunks it stays in memory where they are: about 500 bytes each."""
FRAMES_KEPT_BYTES = 16 << 20
FRAME_KEPT_MAX_BYTES = 256 << 10
"""Unpacked frames of small files stay in memory, since their neighbours are often read next."""
CACHED_AT_ONCE_BYTES = 8 << 20
"""So much is read from the cache before it is taken: more than a window of a file."""
LOOKS_MAX = 4
"""A pack may go between the look at the index and the read, and damage is looked for elsewhere."""

Take: TypeAlias = Callable[[Digest, memoryview], None]
"""Takes the name and the checked bytes of a chunk, which may be other bytes after the call."""
_FRAME_KEY, _POSITION = attrgetter("frame_key"), attrgetter("position")
_FrameKey: TypeAlias = tuple[int, Digest, int]
_WantedFrame: TypeAlias = tuple[_FrameKey, list[PlacedChunk]]


class Slice(NamedTuple):
    """The bytes `start` up to `end` of a content; both are within it."""

    content: Content
    start: int
    end: int

    @property
    def whole(self) -> bool:
        """Whether it is all of the content."""
        return self.start == 0 and self.end == self.content.size


class ChunkFaults(Exception):
    """Chunks that the local store should have and does not give, each with the reason."""

    def __init__(self, errors: dict[Digest, DvError]) -> None:
        super().__init__()
        self.errors = errors


class _Stretch(NamedTuple):
    """Bytes `low` up to `high` of a chunk, which belong at `at` of a result."""

    result: bytearray
    at: int
    low: int
    high: int


class ContentSource:
    """Reads contents; several threads of one process may."""

    def __init__(
        self,
        local: LocalChunks,
        open_remote: Callable[[], RemoteChunks],
        cache: FrameCache | None,
    ) -> None:
        """Take the parts; `open_remote` is called when content is not in the local store."""
        self._cache = cache
        self._local = local
        self._open_remote = open_remote
        self._lock = threading.Lock()
        self._layouts: OrderedDict[Digest, Layout] = OrderedDict()
        self._chunks_kept = 0
        self._frames: OrderedDict[_FrameKey, bytes | memoryview] = OrderedDict()
        self._frames_bytes = 0

    @property
    def local(self) -> LocalChunks:
        """The chunks of the local store."""
        return self._local

    @property
    def cache(self) -> FrameCache | None:
        """The cache of what came from remotes."""
        return self._cache

    @cached_property
    def _remote(self) -> RemoteChunks:
        return self._open_remote()

    # --- slices ---------------------------------------------------------------------------

    def read(self, slices: Sequence[Slice]) -> list[bytes]:
        """Return the bytes of each slice; see `trying` for the errors."""
        results: list[bytes | bytearray] = [b""] * len(slices)
        contents = [cut.content for cut in slices]

        def fill(layouts: dict[Digest, Layout]) -> None:
            self._fill(slices, results, layouts)

        self.trying(contents, fill)
        return [result if type(result) is bytes else bytes(result) for result in results]

    def trying(
        self, contents: Sequence[Content], work: Callable[[dict[Digest, Layout]], None]
    ) -> None:
        """Do a work that reads contents, again where chunks turn out to be elsewhere or damaged.

        MissingError if content is nowhere, CorruptError if it is damaged everywhere, SetupError or
        RemoteError if the remote that may have it cannot be asked.
        """
        without: set[Digest] = set()
        first: DvError | None = None
        for attempt in range(LOOKS_MAX):
            try:
                work(self.layouts(contents, without))
                return
            except ChunkFaults as fault:
                first = first or next(iter(fault.errors.values()))
                _LOG.note(
                    "%d chunks of the local store cannot be read: %s", len(fault.errors), first
                )
                # A pack that is gone may have been written anew: the index is asked once more.
                without.update(
                    chunk
                    for chunk, error in fault.errors.items()
                    if attempt or isinstance(error, CorruptError)
                )
                self.forget(contents)
            except (ObjectMissing, ReferenceLost, ReferenceDiffers) as error:
                elsewhere = isinstance(error, ObjectMissing) and self._remote.are_several
                if first is not None and not elsewhere:
                    raise first from error
                first = first or error
                self.forget(contents)
                self._remote.forget()
            except DvError as error:
                if first is None:
                    raise
                raise first from error
        assert first is not None
        raise first

    def _fill(
        self,
        slices: Sequence[Slice],
        results: list[bytes | bytearray],
        layouts: dict[Digest, Layout],
    ) -> None:
        parts: dict[Digest, list[_Stretch]] = {}
        untried: list[int] = []
        """Results of which only a remote said which chunks make them."""
        whole: dict[Digest, list[int]] = {}
        """Results that are one chunk each: most, and they are copied once."""
        pieces: dict[Digest, PlacedChunk] = {}
        for index, cut in enumerate(slices):
            if cut.start < cut.end:
                digest = cut.content.digest
                layout = layouts[digest]
                if len(layout.pieces) == 1 and cut.whole and layout.pieces[0].chunk == digest:
                    pieces[digest] = layout.pieces[0]
                    whole.setdefault(digest, []).append(index)
                    continue
                if cut.whole and not layout.proven:
                    untried.append(index)
                result = bytearray(cut.end - cut.start)
                results[index] = result
                for number in layout.numbers(cut.start, cut.end):
                    piece, begin = layout.pieces[number], layout.begin(number)
                    low = max(cut.start - begin, 0)
                    high = min(cut.end - begin, piece.located.placement.size)
                    at = begin + low - cut.start
                    pieces[piece.chunk] = piece
                    parts.setdefault(piece.chunk, []).append(_Stretch(result, at, low, high))

        def take(chunk: Digest, data: memoryview) -> None:
            if chunk in whole:
                content = bytes(data)
                for index in whole[chunk]:
                    results[index] = content
            if chunk in parts:
                for result, at, low, high in parts[chunk]:
                    result[at : at + high - low] = data[low:high]

        self.chunks(pieces.values(), take)
        for index in untried:
            made = slices[index].content
            if digest_of(results[index]) != made.digest:
                raise not_the_content(made)
            self.set_proven(made.digest)

    def prefetch(self, contents: Sequence[Content]) -> int:
        """Get what is on remotes only into the cache; return how many bytes came.

        Of several processes that want the same contents, one gets them and the others wait.
        """
        absent = self._not_in_store(contents) if self._cache is not None else []
        if self._cache is None or not absent:
            return 0
        with self._cache.turn(hasher(b"".join(content.digest for content in absent)).digest()):
            return self._fetch(absent)

    def fetch_absent(self, contents: Contents, numbers: Sequence[int]) -> ListedPlaces | None:
        """Get contents, by number, as `prefetch` does, into a cache, for one whose turn it is.

        Return where they are on the first remote, if all were found by its lists.
        """
        digests = set(contents.digests_at(numbers)) - {EMPTY}
        located = self.listed_places(contents, numbers)
        if len(located) == len(digests):
            with contextlib.suppress(ObjectMissing):  # a gc has moved it: lists are read anew
                chunks = self._local.lacking(c for held in located.values() for c in held)
                self._get_uncached(chunks_by_pack(0, chunks))
                return located
            self._remote.forget()
        self._fetch(self._not_in_store([contents[number] for number in numbers]))
        return None

    def listed_places(self, contents: Contents, numbers: Sequence[int]) -> ListedPlaces:
        """Return where the first remote has contents, by its lists, which may be out of date."""
        return self._remote.listed_places(contents, numbers) if numbers else {}

    def _fetch(self, absent: Sequence[Content]) -> int:
        size = 0

        def read(layouts: dict[Digest, Layout]) -> None:
            nonlocal size
            pieces = {
                piece.chunk: piece
                for layout in layouts.values()
                for piece in layout.pieces
                if piece.place != IN_STORE
            }
            size += self._get_uncached(pieces_by_pack(pieces.values()))

        self.trying(absent, read)
        return size

    def _get_uncached(self, packs: PackPieces) -> int:
        """Fetch the chunks whose frames the cache has not even begun to hold."""
        assert self._cache is not None
        uncached: dict[tuple[int, RemotePack], Collection[Placement]] = {}
        for key, placements in packs.items():
            frames = {at.frame_offset: at.frame_size for at in placements}
            if absent := self._cache.absent(key[1].digest, frames):
                uncached[key] = [at for at in placements if at.frame_offset in absent]
        return self._remote.fetch(uncached) if uncached else 0

    def _not_in_store(self, contents: Sequence[Content]) -> list[Content]:
        held = self.layouts_in_store([content.digest for content in contents if content.size])
        return [content for content in contents if content.size and content.digest not in held]

    def layouts_in_store(self, contents: Collection[Digest]) -> dict[Digest, Layout]:
        """Return how contents that the local store has whole are put together; asks no remote."""
        unknown = [digest for digest in contents if digest not in self._layouts]
        fresh = self._local.layouts(unknown) if unknown else {}
        with self._lock:
            for digest, layout in fresh.items():
                self._keep_layout(digest, layout)
            layouts = {d: self._layouts[d] for d in contents if d in self._layouts} | fresh
        return {digest: layout for digest, layout in layouts.items() if layout.in_store}

    # --- chunks ---------------------------------------------------------------------------

    def chunks(
        self, pieces: Iterable[PlacedChunk], take: Take, memory: NewMemory = bytearray
    ) -> None:
        """Hand the chunks, checked, to `take`, each once and in any order; see `trying`.

        Chunks that are not in the store come in what `memory` returns, or in memory of their own.
        """
        remote: list[PlacedChunk] = []
        local: list[PlacedChunk] = []
        for piece in pieces:
            (local if piece.place == IN_STORE else remote).append(piece)
        if len(local) > 1:
            local.sort(key=_POSITION)
        faults: dict[Digest, DvError] = {}
        checked = self._local.checked(local) if len(local) > 1 else map(self._local_chunk, local)
        for name, data in checked:
            if isinstance(data, DvError):
                faults[name] = data
            else:
                take(name, data)
        if faults:
            raise ChunkFaults(faults)
        if remote:
            self._remote_chunks(remote, take, memory)

    def _remote_chunks(self, pieces: list[PlacedChunk], take: Take, memory: NewMemory) -> None:
        pieces.sort(key=_POSITION)
        frames = [(key, list(group)) for key, group in groupby(pieces, key=_FRAME_KEY)]
        absent: list[PlacedChunk] = []
        for some in _divided(frames):
            cached = self._cached_frames(some, memory)
            if not cached and not self._frames:
                absent.extend(chunk for _, chunks in some for chunk in chunks)
                continue
            for key, chunks in some:
                if not self._take_kept(key, chunks, cached.get(key), take):
                    absent.extend(chunks)
        for frame in self._remote.read(absent, memory) if absent else ():
            key = frame.place, frame.pack.digest, frame.offset
            if len(frame.raw) != frame.placements[0].size:
                self._keep_frame(key, frame.raw, frame.placements[0])
            view = memoryview(frame.raw)
            for chunk in frame.placements:
                take(chunk.digest, view[chunk.start : chunk.start + chunk.size])

    def _cached_frames(
        self, frames: Iterable[_WantedFrame], memory: NewMemory
    ) -> dict[_FrameKey, memoryview]:
        """Return the frames that the cache has, packed and unchecked; it is asked once a pack."""
        if self._cache is None:
            return {}
        cached: dict[_FrameKey, memoryview] = {}
        for (place, pack), some in groupby(frames, key=lambda frame: frame[0][:2]):
            wanted = [
                (key[2], chunks[0].located.placement.frame_size)
                for key, chunks in some
                if key not in self._frames
            ]
            for offset, stored in self._cache.get_frames(pack, wanted, memory).items():
                cached[place, pack, offset] = stored
        return cached

    def _take_kept(
        self,
        key: _FrameKey,
        chunks: Sequence[PlacedChunk],
        cached: memoryview | None,
        take: Take,
    ) -> bool:
        """Take chunks of one frame from memory or the cache; False if they are not sound there."""
        raw = self._frames.get(key)
        try:
            if raw is None:
                if cached is None:
                    return False
                raw = unpack_frame(cached, where="the cache")
            taken = [
                (chunk.chunk, chunk_in(raw, at.start, at.size, at.digest, where="the cache"))
                for chunk in chunks
                for at in [chunk.located.placement]
            ]
        except CorruptError:
            return False
        self._keep_frame(key, raw, chunks[0].located.placement)
        for chunk, data in taken:
            take(chunk, data)
        return True

    def _local_chunk(self, piece: PlacedChunk) -> CheckedChunk:
        """Read one chunk; its frame stays in memory, since what is read next is often in it."""
        at = piece.located.placement
        key = (IN_STORE, piece.located.pack.digest, at.frame_offset)
        try:
            raw = self._frames.get(key)
            if raw is None:
                raw = self._local.frame(piece.located)
                self._keep_frame(key, raw, at)
            where = self._local.where(piece.located)
            return at.digest, chunk_in(raw, at.start, at.size, at.digest, where=where)
        except (MissingError, CorruptError) as error:
            return at.digest, error

    def _keep_frame(self, key: _FrameKey, raw: bytes | memoryview, read: Placement) -> None:
        """Keep the frame that a chunk was read from, if other chunks are in it."""
        if len(raw) > FRAME_KEPT_MAX_BYTES or len(raw) == read.size:
            return
        with self._lock:
            if key not in self._frames:
                # A copy: a view would keep all that was read with it in memory.
                self._frames[key] = bytes(raw)
                self._frames_bytes += len(raw)
            while self._frames_bytes > FRAMES_KEPT_BYTES:
                self._frames_bytes -= len(self._frames.popitem(last=False)[1])

    # --- layouts --------------------------------------------------------------------------

    def layouts(
        self, contents: Sequence[Content], without: Collection[Digest] = ()
    ) -> dict[Digest, Layout]:
        """Return how contents are put together; chunks `without` are not taken from the store."""
        layouts: dict[Digest, Layout] = {}
        absent: dict[Digest, Content] = {}
        for content in contents:
            if content.size:
                layout = self._layouts.get(content.digest)
                if layout is None:
                    absent[content.digest] = content
                else:
                    layouts[content.digest] = layout
        if not absent:
            return layouts
        with collector_put_off():
            fresh = self._local.layouts(absent.keys(), without)
        for digest in fresh:
            del absent[digest]
        if absent:
            # With the collector on: a remote may take minutes to answer, or never do so.
            located = self._remote.locate(list(absent.values()))
            with collector_put_off():
                fresh |= self._remote_layouts(located, absent, without)
        with self._lock:
            for digest, layout in fresh.items():
                self._keep_layout(digest, layout)
        return layouts | fresh

    def _remote_layouts(
        self,
        located: dict[Digest, list[PlacedChunk]],
        absent: dict[Digest, Content],
        without: Collection[Digest],
    ) -> dict[Digest, Layout]:
        # The store was asked for the contents themselves just now; most are one chunk.
        several = [digest for digest, pieces in located.items() if len(pieces) != 1]
        named = {piece.chunk for pieces in located.values() for piece in pieces} - absent.keys()
        here = self._local.pieces(named - set(without)) if named else {}
        recipes = self._local.recipes(several) if several else {}
        layouts: dict[Digest, Layout] = {}
        for digest, pieces in located.items():
            layout = layout_of([here.get(piece.chunk, piece) for piece in pieces], proven=False)
            if not layout.pieces or layout.ends[-1] != absent[digest].size:
                raise not_the_content(absent[digest])
            recipe = recipes.get(digest)
            if recipe is not None and recipe.chunks == layout.chunks:
                layout = layout._replace(proven=True)
            layouts[digest] = layout
        return layouts

    def _keep_layout(self, digest: Digest, layout: Layout) -> None:
        before = self._layouts.pop(digest, None)
        self._chunks_kept += len(layout.pieces) - (len(before.pieces) if before else 0)
        self._layouts[digest] = layout
        while self._chunks_kept > LAYOUTS_KEPT_CHUNKS and len(self._layouts) > 1:
            self._chunks_kept -= len(self._layouts.popitem(last=False)[1].pieces)

    def set_proven(self, digest: Digest) -> None:
        """Remember that the chunks of a content were seen to make it."""
        with self._lock:
            layout = self._layouts.get(digest)
            if layout is not None:
                self._layouts[digest] = layout._replace(proven=True)

    def forget(self, contents: Iterable[Content]) -> None:
        """Look contents up anew the next time."""
        self._local.forget()
        with self._lock:
            for content in contents:
                layout = self._layouts.pop(content.digest, None)
                self._chunks_kept -= len(layout.pieces) if layout else 0


def _divided(frames: Iterable[_WantedFrame]) -> Iterator[list[_WantedFrame]]:
    """Divide frames into those that are read from the cache at once."""
    some: list[_WantedFrame] = []
    size = 0
    for frame in frames:
        more = frame[1][0].located.placement.frame_size
        if some and size + more > CACHED_AT_ONCE_BYTES:
            yield some
            some, size = [], 0
        some.append(frame)
        size += more
    if some:
        yield some
