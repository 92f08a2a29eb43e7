"""Which frames of packs a shard needs, without an object for each of its files."""

from __future__ import annotations

from collections import Counter

import msgspec

from dvtool.format.columns import Columns
from dvtool.format.locations import LOCATION_COUNTS, RemotePack, StoredPlaces


class PacksUse(msgspec.Struct, frozen=True):
    """The need of a shard for packs.

    `frames` has pack number (`NO_PACK`: at its source), offset and size of each frame, and how many
    chunks of it are needed; `in_parts` says whether some file has several chunks.
    """

    packs: tuple[RemotePack, ...]
    frames: Counter[tuple[int, int, int]]
    in_parts: bool


def packs_use(places: StoredPlaces, name: str) -> PacksUse:
    """Return what locations, whose form was checked when they were decoded once, say of packs."""
    raw = places.unpack(name)
    packs, files, chunks, named = LOCATION_COUNTS.unpack_from(raw)
    columns = Columns(raw, LOCATION_COUNTS.size)
    digests = columns.digests(packs)
    table = tuple(map(RemotePack, digests, columns.numbers("I", packs)))
    columns.numbers("I", files)
    numbers, offsets, sizes = (columns.numbers("I", chunks) for _ in range(3))
    return PacksUse(table, Counter(zip(numbers, offsets, sizes, strict=True)), named > 0)
