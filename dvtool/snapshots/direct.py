"""Contents read straight out of the files of packs, where these have them as they are.

A frame that is not compressed has the bytes of its chunks one after another. So a content is one
read of a file, or one for each chunk, into memory that was used just before. Nothing here needs to
be believed: the content's own hash tells whether the bytes are right. Content compressed, elsewhere
or damaged is read by `ContentSource`, which says what is wrong.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple, TypeAlias

import msgspec

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import EMPTY, Digest, digest_of, hasher
from dvtool.format.locations import Located
from dvtool.format.pack import RAW, Placement
from dvtool.project.ledger import note_reads
from dvtool.snapshots.cache import LOOK_BYTES, frame_begins
from dvtool.snapshots.contents import Contents
from dvtool.snapshots.layouts import IN_STORE, Layout
from dvtool.snapshots.local import PACK_FILES_MAX, PackFile
from dvtool.snapshots.places import ListedPlaces
from dvtool.snapshots.source import ContentSource, Slice
from dvtool.system.collecting import collector_put_off

ARRIVAL_PAUSE_S = 0.01
"""How often it is looked whether what is being fetched has come."""
SAMPLES_AT_ONCE = 1_024
"""Of so many contents it is found at once where they are: of a window often the first is absent."""
DIRECT_MIN_SHARE = 7 / 8
"""If a smaller share of the bytes can be read so, all are better read together."""

_Span: TypeAlias = tuple[int, int, int]
"""A descriptor, and offset and size of bytes in its file."""


class _Stretch(msgspec.Struct, gc=False):
    """The span of a content that is one, and its hash: no object that Python's collector counts."""

    fd: int
    offset: int
    size: int
    digest: Digest


class _Frames(NamedTuple):
    """A file of a pack, and which frames in it are known to be compressed or not."""

    file: PackFile
    is_raw: dict[int, bool]


class FetchedTogether(NamedTuple):
    """Contents that the readers of a machine get into the cache together, one of them for all."""

    name: bytes
    """The same, a hash, for all readers that want the same contents."""
    numbers: Callable[[], Sequence[int]]
    """Their numbers among all contents."""
    begins: bool = False
    """Whether a few of them are needed at once, and their readers do not wait for the others."""


class DirectContents:
    """Contents of which it was looked up where they are; read by one thread at a time."""

    def __init__(self, source: ContentSource, contents: Contents) -> None:
        self._source = source
        self._contents = contents
        self._packs: dict[tuple[bool, Digest], _Frames] = {}
        self._in_store: dict[int, _Stretch] = {}
        self._in_cache: dict[int, _Stretch] = {}
        self._several: dict[int, list[_Span]] = {}
        """Contents of several chunks, wherever these are."""
        self._size = self._direct_size = 0
        """Of what is one chunk of the local store."""
        self._left: dict[int, Digest] = {}
        """All other contents."""
        self._layouts: dict[Digest, Layout] = {}

    def look_in_store(self, numbers: Sequence[int]) -> bool:
        """Find contents, by their numbers, in the local store alone; whether all are there."""
        digests = dict(zip(numbers, self._contents.digests_at(numbers), strict=True))
        placements = self._source.local.placements(set(digests.values()))
        for number, digest in digests.items():
            located = placements.get(digest)
            if located is None:
                self._left[number] = digest
                continue
            self._size += located.placement.size
            span = self._span(True, located.pack.digest, located.placement)
            if span is not None:
                self._in_store[number] = _Stretch(*span, digest)
                self._direct_size += located.placement.size
        named = set(self._left.values()) - {EMPTY}
        self._layouts = self._source.layouts_in_store(named)
        return len(self._layouts) == len(named)

    def has_all(self) -> bool:
        """Whether all that is not one chunk of the store, asked for where it is, is direct."""
        size, direct_size = self._look_up_left(all_of_it=True)
        return size == direct_size

    def look_up(self, listed: ListedPlaces | None = None) -> bool:
        """Find the rest, asking remotes where it is; False if all is better read together.

        `listed` is where the first remote has all of it, by its lists, if that was found before.
        """
        size, direct_size = self._look_up_left(listed)
        return self._direct_size + direct_size >= DIRECT_MIN_SHARE * (self._size + size)

    def _look_up_left(
        self, listed: ListedPlaces | None = None, *, all_of_it: bool = False
    ) -> tuple[int, int]:
        """Find the rest; return how many bytes it has, and how many of them are direct.

        With `all_of_it` the search ends at the first content that is not direct.
        """
        self._forget_cached()
        size = direct_size = 0
        others = dict(self._left)
        for number, chunk in self._on_remote(listed):
            placement = chunk.placement
            size += placement.size
            span = self._span(False, chunk.pack.digest, placement)
            if span is not None:
                self._in_cache[number] = _Stretch(*span, placement.digest)
                direct_size += placement.size
            elif all_of_it:
                return size, direct_size
            del others[number]
        contents = {number: self._contents[number] for number in others}
        absent = [content for content in contents.values() if content.digest not in self._layouts]
        layouts = self._layouts | (self._source.layouts(absent) if absent else {})
        for number, content in contents.items():
            layout = layouts.get(content.digest)
            pieces = layout.pieces if layout is not None else ()  # none of an empty file
            spans = [
                self._span(place == IN_STORE, located.pack.digest, located.placement)
                for place, located in pieces
            ]
            self._several[number] = held = [span for span in spans if span is not None]
            size += content.size
            if len(held) == len(spans):
                direct_size += content.size
        return size, direct_size

    def _on_remote(self, listed: ListedPlaces | None) -> Iterator[tuple[int, Located]]:
        """Yield what the first remote has as one chunk, by its lists.

        Most samples are so, and a window has thousands: none has objects that stay made for it.
        """
        left, layouts = self._left, self._layouts
        numbers = [number for number in left if left[number] not in layouts] if layouts else [*left]
        for begin in range(0, len(numbers), SAMPLES_AT_ONCE):
            some = numbers[begin : begin + SAMPLES_AT_ONCE]
            located = listed
            if located is None:
                located = self._source.listed_places(self._contents, some)
            for number in some if located else ():
                chunks = located.get(left[number], ())
                if len(chunks) == 1 and chunks[0].placement.digest == left[number]:
                    yield number, chunks[0]

    def _forget_cached(self) -> None:
        """Close files of the cache: of a pack more may have come since the last look."""
        self._in_cache, self._several = {}, {}
        self._packs = {key: frames for key, frames in self._packs.items() if key[0]}

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """Return contents by their numbers; errors are those of `Snapshot.read_contents`."""
        in_store, in_cache, pread = self._in_store, self._in_cache, os.pread
        results: list[bytes] = []
        others: list[int] = []
        for index, number in enumerate(numbers):
            at = in_store.get(number) or in_cache.get(number)
            if at is not None:
                digest = at.digest
                try:
                    data = pread(at.fd, at.size, at.offset)
                except OSError:  # as in `_joined_spans`
                    data = b""
            else:
                digest = self._contents.digest(number)
                data = _joined_spans(self._several.get(number, ()))
            if hasher(data).digest() != digest:
                others.append(index)
            results.append(data)
        if others:
            named = [self._contents[numbers[index]] for index in others]
            read = self._source.read([Slice(content, 0, content.size) for content in named])
            for index, data in zip(others, read, strict=True):
                results[index] = data
        note_reads(map(self._contents.__getitem__, numbers))
        return results

    def has_come(self) -> bool:
        """Whether all of the contents are where they can be read directly, with the right bytes."""
        return self.has_all() and all(
            digest_of(_joined_spans(spans)) == self._left[number]
            for number, spans in itertools.chain(
                self._several.items(),
                ((number, [(at.fd, at.offset, at.size)]) for number, at in self._in_cache.items()),
            )
        )

    def _span(self, in_store: bool, pack: Digest, at: Placement) -> _Span | None:
        """Return where the bytes of a chunk are; None if its frame is compressed, or not here."""
        if at.start + at.size + len(RAW) > at.frame_size:
            return None
        frames = self._packs.get((in_store, pack))
        if frames is None:
            file = self._open(in_store, pack) if len(self._packs) < PACK_FILES_MAX else None
            if file is None:
                return None
            frames = self._packs[in_store, pack] = _Frames(file, {})
        file, is_raw = frames
        raw = is_raw.get(at.frame_offset)
        if raw is None:
            try:
                # A hole in the cache begins as a raw frame does.
                begin = file.read(at.frame_offset, min(at.frame_size, LOOK_BYTES))
                raw = begin.startswith(RAW) and (
                    in_store
                    or begin.strip(b"\0") != b""
                    or frame_begins(file.fd, at.frame_offset, at.frame_size)
                )
            except OSError:
                if in_store:
                    raise
                raw = False  # what the cache cannot read is a miss
            is_raw[at.frame_offset] = raw
        return (file.fd, at.frame_offset + len(RAW) + at.start, at.size) if raw else None

    def _open(self, in_store: bool, pack: Digest) -> PackFile | None:
        if in_store:
            return self._source.local.opened(pack)
        cache = self._source.cache
        fd = cache.open_pack(pack) if cache is not None else None
        return PackFile(fd) if fd is not None else None


def _joined_spans(spans: Sequence[_Span]) -> bytes:
    """Return the bytes of spans; none if a disk cannot read them.

    Then the hash differs, and `ContentSource` reads the content: in the cache such bytes are a
    miss, and of the local store the error comes again.
    """
    try:
        return b"".join([os.pread(fd, size, offset) for fd, offset, size in spans])
    except OSError:
        return b""


def find_direct(
    source: ContentSource,
    contents: Contents,
    numbers: Sequence[int],
    together: FetchedTogether | None = None,
) -> DirectContents | None:
    """Look up contents by their numbers; None if they are better read all together.

    If some are not in the local store, all of `together` is got into the cache before, with the
    errors of `ContentSource.prefetch`, unless another process did. Of what else is damaged or
    nowhere nothing is said: reading does.
    """
    direct = DirectContents(source, contents) if hasattr(os, "pread") else None
    with collector_put_off():
        in_store = direct is not None and direct.look_in_store(numbers)
    listed: ListedPlaces | None = None
    try:
        if together is not None and source.cache is not None and not in_store:
            if direct is not None and together.begins:
                return _as_it_comes(source, contents, direct, together)
            with source.cache.turn(together.name):
                if direct is not None and direct.has_all():
                    return direct
                listed = source.fetch_absent(contents, together.numbers())
        return direct if direct is not None and direct.look_up(listed) else None
    except (MissingError, CorruptError):
        if together is not None:
            raise
        return None


def _as_it_comes(
    source: ContentSource, contents: Contents, direct: DirectContents, together: FetchedTogether
) -> DirectContents | None:
    """Return what reads contents as soon as they are in the cache, with the right bytes.

    Meanwhile all of `together` is fetched, here or by another process, and that goes on.
    """
    cache = source.cache
    assert cache is not None
    came = threading.Event()

    def fetch() -> None:
        with cache.turn(together.name):
            if not came.is_set():
                source.fetch_absent(contents, together.numbers())

    if direct.has_come():
        return direct
    executor = ThreadPoolExecutor(1, thread_name_prefix="dv-stream-begin")
    fetching = executor.submit(fetch)
    executor.shutdown(wait=False)
    while not wait([fetching], ARRIVAL_PAUSE_S).done:
        if direct.has_come():
            came.set()
            return direct
    fetching.result()
    return direct if direct.look_up() else None
