"""Where the contents of a shard are on a remote, in few bytes for each, as long as it is known."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from dvtool.format.digest import Digest
from dvtool.format.file_places import FilePlaces
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Placement
from dvtool.system.collecting import collector_put_off

ListedPlaces: TypeAlias = dict[Digest, list[Located]]
"""Content -> its chunks, in order, where one remote has them by its lists."""
PLACES_KEPT_BYTES = 64 << 20
"""So much memory may be taken by where contents are: those of some 350,000 files of one chunk."""
CONTENT_BYTES = 150
"""About so much a content of one chunk takes here: its name, an index entry and five numbers."""
CHUNK_BYTES = 350
"""About so much each chunk of the other contents takes."""


class ShardPlaces:
    """The chunks of the contents of one shard, by digest; never changed.

    Most contents are one chunk with the content's own name. These are rows of numbers, and their
    `Located` are made when somebody asks.
    """

    __slots__ = ("_columns", "_packs", "_rows", "_several", "size_bytes")

    def __init__(self, locations: Mapping[Digest, list[Located]]) -> None:
        """Take the chunks of contents, as a decoded shard object has them."""
        several: ListedPlaces = {}
        packs: dict[RemotePack, int] = {}
        singles: list[Digest] = []
        rows: list[tuple[int, int, int, int, int]] = []
        for digest, chunks in locations.items():
            if len(chunks) != 1 or chunks[0].placement.digest != digest:
                several[digest] = chunks
                continue
            pack, at = chunks[0].pack, chunks[0].placement
            number = packs.setdefault(pack, len(packs))
            singles.append(digest)
            rows.append((number, at.frame_offset, at.frame_size, at.start, at.size))
        self._several, self._packs = several, list(packs)
        self._rows = dict(zip(singles, range(len(singles)), strict=True))
        self._columns = [array("I", column) for column in zip(*rows, strict=True)]
        chunks_of_several = sum(map(len, several.values()))
        self.size_bytes = CONTENT_BYTES * len(singles) + CHUNK_BYTES * chunks_of_several
        """About how much memory this takes."""

    def held(self, contents: Iterable[Digest]) -> ListedPlaces:
        """Return the chunks, in order, of those of the contents that are of this shard."""
        rows, several, packs = self._rows, self._several, self._packs
        numbers, offsets, frame_sizes, starts, sizes = self._columns or [array("I")] * 5
        held: ListedPlaces = {}
        for digest in contents:
            row = rows.get(digest)
            if row is not None:
                placement = Placement(
                    digest, offsets[row], frame_sizes[row], starts[row], sizes[row]
                )
                held[digest] = [Located(packs[numbers[row]], placement)]
            elif digest in several:
                held[digest] = several[digest]
        return held


PlacesOfShard: TypeAlias = ShardPlaces | FilePlaces
"""Where the contents of a shard are."""


class KnownPlaces:
    """Where remotes have contents, by the shards that were read; several threads may use it.

    The shards used last stay. Remotes have numbers, as in `PlacedChunk`.
    """

    def __init__(self, before_fork: KnownPlaces | None) -> None:
        """Know what the parent of this process did, whose lock may be held for ever."""
        self._lock = threading.Lock()
        self._shards: dict[tuple[int, Digest], PlacesOfShard] = {}
        if before_fork is not None:
            self._shards.update(before_fork._shards)
        self._kept_bytes = sum(places.size_bytes for places in self._shards.values())

    def keep(
        self, number: int, shard: Digest, locations: Mapping[Digest, list[Located]]
    ) -> PlacesOfShard:
        """Remember and return what a shard says, as a remote has it."""
        places: PlacesOfShard
        if isinstance(locations, FilePlaces):
            places = locations
        else:
            with collector_put_off():
                places = ShardPlaces(locations)
        with self._lock:
            before = self._shards.pop((number, shard), None)
            self._shards[number, shard] = places
            self._kept_bytes += places.size_bytes - (before.size_bytes if before else 0)
            while len(self._shards) > 1 and self._kept_bytes > PLACES_KEPT_BYTES:
                self._kept_bytes -= self._shards.pop(next(iter(self._shards))).size_bytes
        return places

    def get(self, number: int, shard: Digest) -> PlacesOfShard | None:
        """Return what a shard says, None if that is not known."""
        with self._lock:
            places = self._shards.pop((number, shard), None)
            if places is not None:
                self._shards[number, shard] = places
            return places

    def clear(self) -> None:
        """Forget all: a gc may have moved contents."""
        with self._lock:
            self._shards.clear()
            self._kept_bytes = 0
