"""What goes up to a remote in which pack: local packs as they are, or new ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dvtool import pack
from dvtool.digest import Digest
from dvtool.manifest import Entries
from dvtool.pack import PackWriter, Placement, Recipe, read_index
from dvtool.project import workspace_path
from dvtool.shard import RemotePack, contents_of
from dvtool.store.local import ContentReader, LocalStore

WHOLE_PACK_MIN_BYTES = 8 << 20
"""Smaller local packs are joined into larger ones for the remote, unless there are only few."""
WHOLE_PACKS_MIN = 4


@dataclass(slots=True)
class Contents:
    """Contents to be on a remote: sizes, chunks, and one path of each for messages."""

    sizes: dict[Digest, int] = field(default_factory=dict)
    chunks: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    names: dict[Digest, str] = field(default_factory=dict)

    def take(self, target: str, entries: Entries) -> None:
        """Add what entries of a target name; which chunks make it is for the caller to add."""
        self.sizes.update(contents_of(entries))
        for path, entry in entries.items():
            if entry.size > 0:
                self.names.setdefault(entry.digest, workspace_path(target, path))

    def unlisted(self) -> list[Digest]:
        """Return the contents of which the chunks are not known."""
        return [digest for digest in self.sizes if digest not in self.chunks]

    def every_chunk(self) -> dict[Digest, None]:
        """Return the distinct chunks in the order of the manifests."""
        return dict.fromkeys(chunk for digest in self.sizes for chunk in self.chunks[digest])

    def recipes_completed(self, chunks: set[Digest]) -> list[Recipe]:
        """Return the recipes of the files of several chunks that these chunks complete."""
        return [
            Recipe(digest, self.sizes[digest], parts)
            for digest, parts in self.chunks.items()
            if len(parts) > 1 and not chunks.isdisjoint(parts)
        ]


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished pack on the local disk; `places` of its chunks if the local index has none."""

    path: str
    pack: RemotePack
    places: tuple[Placement, ...] = ()
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Chunks to upload: packs to send as they are, the rest to be assembled.

    `rest_bytes` is about what the rest will take, from the frames that it lies in now.
    """

    whole: tuple[Upload, ...] = ()
    rest: tuple[Digest, ...] = ()
    rest_bytes: int = 0

    @property
    def bytes(self) -> int:
        """About how many bytes the packs will have."""
        return self.rest_bytes + sum(upload.pack.size for upload in self.whole)

    @property
    def packs(self) -> int:
        """About how many packs there will be."""
        return len(self.whole) + -(-self.rest_bytes // pack.PACK_SIZE_AIM_BYTES)


def plan(store: LocalStore, chunks: Sequence[Digest]) -> Outgoing:
    """Say which local packs go up as they are, and which chunks are left for new ones.

    A local pack goes up as it is only if every chunk in it is needed: what was added and then
    dropped before it was committed is nobody else's business.
    """
    needed = set(chunks)
    places = store.db.places(chunks)
    packs = store.db.packs()
    whole: dict[int, Upload] = {}
    for number in dict.fromkeys(number for number, _ in places.values()):
        one = packs[number]
        path = store.pack_path(one.digest)
        if one.size >= WHOLE_PACK_MIN_BYTES or len(packs) <= WHOLE_PACKS_MIN:
            with open(path, "rb") as file:
                index = read_index(file, size=one.size, where=path)
            if needed.issuperset(index.chunk_digests):
                whole[number] = Upload(path, one)
    rest = tuple(digest for digest in chunks if places[digest][0] not in whole)
    return Outgoing(tuple(whole.values()), rest, _stored_bytes(places[digest] for digest in rest))


def _stored_bytes(places: Iterable[tuple[int, Placement]]) -> int:
    """Return about how much chunks take as they are stored: their part of each frame."""
    used: dict[tuple[int, int], int] = {}
    frames: dict[tuple[int, int], tuple[int, int]] = {}
    for number, place in places:
        frame = (number, place.frame_offset)
        used[frame] = used.get(frame, 0) + place.size
        end = max(frames.get(frame, (0, 0))[1], place.start + place.size)
        frames[frame] = (place.frame_size, end)
    return sum(size * used[frame] // max(raw, 1) for frame, (size, raw) in frames.items())


def assembled(store: LocalStore, chunks: Sequence[Digest], contents: Contents) -> Iterator[Upload]:
    """Yield new packs of chunks, in the order of the manifests; each is written when asked for.

    The files, in the store's folder for what is unfinished, are the caller's to remove.
    """
    recipes = contents.recipes_completed(set(chunks))
    with store.reader() as reader:
        reader.prepare_chunks(chunks)
        left = list(chunks)
        left.reverse()
        while left or recipes:
            path = store.temp_path()
            try:
                with open(path, "xb") as file:
                    writer = PackWriter(file)
                    _fill(writer, reader, left)
                    while not left and recipes and writer.fits_recipe(recipes[-1]):
                        writer.add_recipe(recipes.pop())
                    info = writer.finish()
            except BaseException:
                os.unlink(path)
                raise
            places = tuple(info.index.placements())
            yield Upload(path, RemotePack(info.digest, info.size), places, temporary=True)


def _fill(writer: PackWriter, reader: ContentReader, left: list[Digest]) -> None:
    """Move chunks, the last first, into the pack until it is full."""
    while left:
        data = reader.chunk(left[-1])
        if not writer.fits(len(data)):
            return
        writer.add(left.pop(), bytes(data))
