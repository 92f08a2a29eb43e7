"""Contents read straight out of the files of packs, where these have them as they are.

A frame that is not compressed has the bytes of its chunks one after another. So a content is one
read of a file, or one for each chunk, into memory that was used just before. Nothing here needs to
be believed: the content's own hash tells whether the bytes are right. Content compressed, elsewhere
or damaged is read by `ContentSource`, which says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import Digest, hasher
from dvtool.format.pack import RAW, Placement
from dvtool.project.ledger import note_reads
from dvtool.snapshots.contents import Contents
from dvtool.snapshots.layouts import IN_STORE
from dvtool.snapshots.local import PACK_FILES_MAX, PackFile
from dvtool.snapshots.source import ContentSource, Slice

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


class DirectContents:
    """Contents of which it was looked up where they are; read by one thread at a time."""

    def __init__(self, source: ContentSource, contents: Contents) -> None:
        self._source = source
        self._contents = contents
        self._packs: dict[tuple[bool, Digest], _Frames] = {}
        self._one: dict[int, _Stretch] = {}
        self._several: dict[int, list[_Span]] = {}

    def look_up(self, numbers: Sequence[int]) -> bool:
        """Find contents by their numbers; False if they are better read all together."""
        contents = self._contents
        digests = {number: contents.digest(number) for number in numbers}
        placements = self._source.local.placements(set(digests.values()))
        several: list[int] = []
        size = direct_size = 0
        for number, digest in digests.items():
            placed = placements.get(digest)
            if placed is None:
                several.append(number)
                continue
            placement = placed.placement
            size += placement.size
            span = self._span(True, placed.pack.digest, placement)
            if span is not None:
                self._one[number] = _Stretch(*span, digest)
                direct_size += placement.size
        layouts = self._source.layouts([contents[number] for number in several])
        for number in several:
            layout = layouts.get(digests[number])
            if layout is None:  # an empty file
                self._several[number] = []
                continue
            size += layout.ends[-1]
            spans = [
                self._span(place == IN_STORE, located.pack.digest, located.placement)
                for place, located in layout.pieces
            ]
            self._several[number] = whole = [span for span in spans if span is not None]
            if len(whole) == len(spans):
                direct_size += layout.ends[-1]
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
            raw = is_raw[at.frame_offset] = file.read(at.frame_offset, len(RAW)) == RAW
        return (file.fd, at.frame_offset + len(RAW) + at.start, at.size) if raw else None

    def _open(self, in_store: bool, pack: Digest) -> PackFile | None:
        if in_store:
            return self._source.local.opened(pack)
        cache = self._source.cache
        fd = cache.open_pack(pack) if cache is not None else None
        return PackFile(fd) if fd is not None else None


def find_direct(
    source: ContentSource, contents: Contents, numbers: Sequence[int]
) -> DirectContents | None:
    """Look up contents by their numbers; None if they are better read all together.

    Of what is damaged or nowhere nothing is said: reading does.
    """
    if not hasattr(os, "pread"):
        return None
    found = DirectContents(source, contents)
    try:
        return found if found.look_up(numbers) else None
    except (MissingError, CorruptError):
        return None
