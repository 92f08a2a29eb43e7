"""How contents are put together: their chunks, and where each of these is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from dvtool.format.digest import Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Placement

IN_STORE = -1
"""The number of the local store among the places that chunks are read from."""
AT_SOURCE = -2
"""The number of the sources of references. Each object counts as a pack, each chunk as a frame."""


class PlacedChunk(NamedTuple):
    """A chunk of a content: `place` is `IN_STORE`, `AT_SOURCE` or the number of a remote."""

    place: int
    located: Located

    @property
    def chunk(self) -> Digest:
        """The name of the chunk."""
        return self.located.placement.digest

    @property
    def frame_key(self) -> tuple[int, Digest, int]:
        """The frame that has the chunk: the same for all chunks in it."""
        return self.place, self.located.pack.digest, self.located.placement.frame_offset

    @property
    def position(self) -> tuple[int, Digest, int, int]:
        """Where the chunk is in the order of places, packs, frames and bytes in them."""
        return *self.frame_key, self.located.placement.start


PackPieces: TypeAlias = Mapping[tuple[int, RemotePack], Collection[Placement]]
"""Chunks by their place, as in `PlacedChunk`, and pack."""


def pieces_by_pack(pieces: Iterable[PlacedChunk]) -> dict[tuple[int, RemotePack], list[Placement]]:
    """Return chunks by their place and pack."""
    packs: dict[tuple[int, RemotePack], list[Placement]] = {}
    for place, located in pieces:
        packs.setdefault((place, located.pack), []).append(located.placement)
    return packs


def chunks_by_pack(
    place: int, chunks: Iterable[Located]
) -> dict[tuple[int, RemotePack], list[Placement]]:
    """Return chunks by their pack, all of one place; of very many faster than `pieces_by_pack`."""
    placements: dict[Digest, list[Placement]] = {}
    packs: dict[Digest, RemotePack] = {}
    for chunk in chunks:
        pack = chunk.pack
        held = placements.get(pack.digest)
        if held is None:
            held = placements[pack.digest] = []
            packs[pack.digest] = pack
        held.append(chunk.placement)
    return {(place, packs[digest]): held for digest, held in placements.items()}


class Layout(NamedTuple):
    """The chunks of a content in order; `ends` is where each ends in it, in bytes.

    `proven` says that these chunks make the content: there is one, or they were tried.
    """

    pieces: tuple[PlacedChunk, ...]
    ends: tuple[int, ...]
    proven: bool

    def begin(self, number: int) -> int:
        """Return where a piece begins in the content."""
        return self.ends[number - 1] if number else 0

    def numbers(self, start: int, end: int) -> range:
        """Return the numbers of the pieces that have bytes `start` up to `end`, a stretch."""
        return range(bisect_right(self.ends, start), bisect_left(self.ends, end) + 1)

    @property
    def in_store(self) -> bool:
        """Whether all chunks are in the local store."""
        return all(piece.place == IN_STORE for piece in self.pieces)

    @property
    def chunks(self) -> tuple[Digest, ...]:
        """The names of the chunks."""
        return tuple(piece.chunk for piece in self.pieces)


def layout_of(pieces: Sequence[PlacedChunk], *, proven: bool) -> Layout:
    """Return the layout of a content with these chunks."""
    ends = tuple(accumulate(piece.located.placement.size for piece in pieces))
    return Layout(tuple(pieces), ends, proven or len(pieces) == 1)
