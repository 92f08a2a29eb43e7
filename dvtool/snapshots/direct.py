"""Contents read straight out of the files of packs, where these have them as they are.

A frame that is not compressed has the bytes of its chunks one after another. So a content is one
read of a file, or one for each chunk, into memory that was used just before. Nothing here needs to
be believed: the content's own hash tells whether the bytes are right. Content compressed, elsewhere
or damaged is read by `ContentSource`, which says what is wrong.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NamedTuple, TypeAlias

import msgspec

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import Digest, digest_of, hasher
from dvtool.format.pack import RAW, Placement
from dvtool.project.ledger import note_reads
from dvtool.snapshots.cache import frame_begins
from dvtool.snapshots.contents import Content, Contents
from dvtool.snapshots.layouts import IN_STORE, Layout
from dvtool.snapshots.local import PACK_FILES_MAX, PackFile
from dvtool.snapshots.source import ContentSource, Slice
from dvtool.system.collecting import collector_put_off

LOOK_EVERY_S = 0.01
"""How often it is looked whether what is being fetched has come."""
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
    contents: Callable[[], Sequence[Content]]
    begins: bool = False
    """Whether a few of them are needed at once, and their readers do not wait for the others."""


class DirectContents:
    """Contents of which it was looked up where they are; read by one thread at a time."""

    def __init__(self, source: ContentSource, contents: Contents) -> None:
        self._source = source
        self._contents = contents
        self._packs: dict[tuple[bool, Digest], _Frames] = {}
        self._one: dict[int, _Stretch] = {}
        self._several: dict[int, list[_Span]] = {}
        self._size = self._direct_size = 0
        self._left: list[tuple[int, Content]] = []
        """Contents that are not one chunk of the local store."""
        self._layouts: dict[Digest, Layout] = {}

    def look_in_store(self, numbers: Sequence[int]) -> bool:
        """Find contents, by their numbers, in the local store alone; whether all are there."""
        contents = self._contents
        digests = {number: contents.digest(number) for number in numbers}
        placements = self._source.local.placements(set(digests.values()))
        for number, digest in digests.items():
            placed = placements.get(digest)
            if placed is None:
                self._left.append((number, contents[number]))
                continue
            placement = placed.placement
            self._size += placement.size
            span = self._span(True, placed.pack.digest, placement)
            if span is not None:
                self._one[number] = _Stretch(*span, digest)
                self._direct_size += placement.size
        self._layouts = self._source.layouts_in_store([content for _, content in self._left])
        return all(not content.size or content.digest in self._layouts for _, content in self._left)

    @property
    def is_whole(self) -> bool:
        """Whether all of the contents, asked for where they are, can be read directly."""
        size = direct_size = 0
        for number, content in self._left:
            size += content.size
            direct_size += sum(span[2] for span in self._several.get(number, ()))
        return size == direct_size

    def look_up(self) -> bool:
        """Find the rest, asking remotes where it is; False if all is better read together."""
        asked = [content for _, content in self._left if content.digest not in self._layouts]
        layouts = self._layouts | self._source.layouts(asked)
        size, direct_size = self._size, self._direct_size
        # Of packs in the cache more may have come since the last look.
        self._packs = {key: frames for key, frames in self._packs.items() if key[0]}
        for number, content in self._left:
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
        return direct_size >= DIRECT_MIN_SHARE * size

    def read(self, numbers: Sequence[int]) -> list[bytes]:
        """Return contents by their numbers; errors are those of `Snapshot.read_contents`."""
        one, pread = self._one, os.pread
        results: list[bytes] = []
        others: list[int] = []
        for index, number in enumerate(numbers):
            at = one.get(number)
            if at is not None:
                digest = at.digest
                data = pread(at.fd, at.size, at.offset)
            else:
                digest = self._contents.digest(number)
                spans = self._several.get(number, ())
                data = b"".join([pread(fd, size, offset) for fd, offset, size in spans])
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
        if not (self.look_up() and self.is_whole):
            return False
        return all(
            digest_of(b"".join([os.pread(fd, size, offset) for fd, offset, size in spans]))
            == self._contents.digest(number)
            for number, spans in self._several.items()
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
            # A hole in the cache begins as a raw frame does.
            raw = file.read(at.frame_offset, len(RAW)) == RAW and (
                in_store or frame_begins(file.fd, at.frame_offset, at.frame_size)
            )
            is_raw[at.frame_offset] = raw
        return (file.fd, at.frame_offset + len(RAW) + at.start, at.size) if raw else None

    def _open(self, in_store: bool, pack: Digest) -> PackFile | None:
        if in_store:
            return self._source.local.opened(pack)
        cache = self._source.cache
        fd = cache.open_pack(pack) if cache is not None else None
        return PackFile(fd) if fd is not None else None


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
    try:
        if together is not None and source.cache is not None and not in_store:
            if direct is not None and together.begins:
                return _as_it_comes(source, direct, together)
            with source.cache.turn(together.name):
                if direct is not None and direct.look_up() and direct.is_whole:
                    return direct
                source.fetch_absent(together.contents())
        return direct if direct is not None and direct.look_up() else None
    except (MissingError, CorruptError):
        if together is not None:
            raise
        return None


def _as_it_comes(
    source: ContentSource, direct: DirectContents, together: FetchedTogether
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
                source.fetch_absent(together.contents())

    if direct.has_come():
        return direct
    executor = ThreadPoolExecutor(1, thread_name_prefix="dv-stream-begin")
    fetching = executor.submit(fetch)
    executor.shutdown(wait=False)
    while not wait([fetching], LOOK_EVERY_S).done:
        if direct.has_come():
            came.set()
            return direct
    fetching.result()
    return direct if direct.look_up() else None
