"""The packs to upload: local packs as they are, or new ones."""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO, TypeAlias

from dvtool.errors import CorruptError
from dvtool.format import pack
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, digest_of_file, split_digests
from dvtool.format.locations import RemotePack
from dvtool.format.pack import GROUPED_SIZE_MAX_BYTES, PackIndex, Placement, read_index
from dvtool.format.packing import Frame, RollingPacks
from dvtool.store.local import LocalStore
from dvtool.verbs.push import contents as columns
from dvtool.verbs.push.contents import PushedContents

WHOLE_PACK_MIN_BYTES = 4 << 20
"""Smaller local packs are joined into larger ones for the remote, unless there are only few."""
WHOLE_PACKS_MIN = 4
WHOLE_PACK_MIN_CHUNKS = 16_384
"""A pack of so many chunks is no small one: to join it takes longer than to send it by itself."""

JoinedDigests: TypeAlias = bytes | memoryview
"""Digests end to end."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished pack on the local disk; its `index` if the local store's has nothing of it."""

    path: str
    pack: RemotePack
    index: PackIndex | None = None

    @property
    def temporary(self) -> bool:
        """Whether the file is only there to be uploaded."""
        return self.index is not None

    def places(self) -> Iterable[Placement]:
        """Return the places of its chunks, if the local store's index does not give them."""
        return () if self.index is None else self.index.placements()


@dataclass(frozen=True, slots=True)
class PackPart:
    """Chunks of a local pack that go into new packs: end to end, in the order of the manifests."""

    pack: RemotePack
    chunks: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Chunks to upload: packs to send as they are, the rest to be assembled.

    `rest_bytes` is about the size of the rest, by the frames that it is in now. Chunks
    that are `absent` are not here; if there are any, nothing is said of the others.
    """

    whole: tuple[Upload, ...] = ()
    rest: tuple[PackPart, ...] = ()
    rest_bytes: int = 0
    absent: frozenset[Digest] = frozenset()

    @property
    def bytes(self) -> int:
        """About how many bytes the packs will have."""
        return self.rest_bytes + sum(upload.pack.size for upload in self.whole)

    @property
    def packs(self) -> int:
        """About how many packs there will be."""
        return len(self.whole) + -(-self.rest_bytes // pack.PACK_SIZE_AIM_BYTES)


def plan_packs(
    store: LocalStore, chunks: Mapping[int, list[JoinedDigests]], seen: Mapping[int, RemotePack]
) -> Outgoing:
    """Say which local packs go up as they are, and which chunks are left for new ones.

    `chunks` gives them, end to end, by the number of the local pack that was `seen` to have them,
    in the order of the manifests; 0 stands for none. It is taken over.
    A local pack goes up as it is only if every chunk in it is needed: what was added and then
    dropped before it was committed is nobody else's business.
    """
    packs = store.db.packs()
    # A gc may have removed a pack since, and another one may have got its number.
    still = {number for number, pack in packs.items() if seen.get(number) == pack}
    by_pack, absent = _by_local_pack(store, chunks, still)
    if absent:
        return Outgoing(absent=frozenset(absent))
    packs = store.db.packs()
    whole: list[Upload] = []
    rest: list[PackPart] = []
    rest_bytes = 0
    for number, joined in by_pack.items():
        part = PackPart(packs[number], b"".join(joined))
        large = part.pack.size >= WHOLE_PACK_MIN_BYTES or len(packs) <= WHOLE_PACKS_MIN
        index = _index_of(store, part.pack, required=large)
        if index is not None and (large or len(index.chunk_digests) >= WHOLE_PACK_MIN_CHUNKS):
            others = set(index.chunk_digests).difference(split_digests(part.chunks))
            if _are_all_in(others, by_pack.values()):
                whole.append(Upload(store.pack_path(part.pack.digest), part.pack))
                continue
        rest.append(part)
        # Only about, if the index is damaged; reading the chunks tells of damage that matters.
        rest_bytes += len(part.chunks) if index is None else _part_bytes(index, part.chunks)
    return Outgoing(tuple(whole), tuple(rest), rest_bytes)


def _by_local_pack(
    store: LocalStore, chunks: Mapping[int, list[JoinedDigests]], still: Collection[int]
) -> tuple[dict[int, list[JoinedDigests]], set[Digest]]:
    """Return the chunks by the number of the pack that has them, and those that none has.

    Those of packs that are not there `still` are looked up anew.
    """
    by_pack = {number: joined for number, joined in chunks.items() if number in still}
    absent: set[Digest] = set()
    looked_up: dict[int, bytearray] = {}
    for unsure in (joined for number, joined in chunks.items() if number not in still):
        for run in _runs_of(b"".join(unsure)):
            known = store.db.pack_numbers(run)
            for digest in run:
                if digest in known:
                    looked_up.setdefault(known[digest], bytearray()).extend(digest)
                else:
                    absent.add(digest)
    for number, digests in looked_up.items():
        by_pack.setdefault(number, []).append(bytes(digests))
    return by_pack, absent


def _are_all_in(digests: set[Digest], packs: Collection[list[JoinedDigests]]) -> bool:
    """Whether all of these digests are among those that are joined end to end."""
    # Mostly none of them is, which a search for one shows before anything is taken apart.
    if digests and not any(next(iter(digests)) in b"".join(joined) for joined in packs):
        return False
    for joined in packs if digests else ():
        digests.difference_update(split_digests(b"".join(joined)))
    return not digests


def _index_of(store: LocalStore, info: RemotePack, *, required: bool) -> PackIndex | None:
    """Return the index of a local pack; None, unless it is `required`, if it cannot be read."""
    path = store.pack_path(info.digest)
    try:
        with open(path, "rb") as file:
            return read_index(file, size=info.size, where=path)
    except (CorruptError, FileNotFoundError):
        if required:
            raise
        return None


def runs(digests: Iterable[Digest]) -> Iterator[list[Digest]]:
    """Cut digests into runs, each as many as are held in memory with all that is known of them."""
    left = iter(digests)
    while run := list(islice(left, columns.RUN_CONTENTS_MAX)):
        yield run


def _runs_of(joined: bytes) -> Iterator[tuple[Digest, ...]]:
    """Yield digests that are joined end to end, each once in a run of them."""
    step = columns.RUN_CONTENTS_MAX * DIGEST_SIZE_BYTES
    for at in range(0, len(joined), step):
        yield tuple(dict.fromkeys(split_digests(joined[at : at + step])))


def _part_bytes(index: PackIndex, chunks: bytes) -> int:
    """Return about how much chunks take as they are stored: their part of each frame."""
    wanted = set(split_digests(chunks))
    used, raw = (array("Q", bytes(8 * len(index.frame_sizes))) for _ in range(2))
    for digest, size, frame in zip(
        index.chunk_digests, index.chunk_sizes, index.chunk_frames, strict=True
    ):
        raw[frame] += size
        if digest in wanted:
            used[frame] += size
    frames = zip(index.frame_sizes, used, raw, strict=True)
    return sum(size * needed // max(every, 1) for size, needed, every in frames)


def assembled(
    store: LocalStore, parts: Sequence[PackPart], contents: PushedContents
) -> Iterator[Upload]:
    """Yield new packs of parts of others, pack by pack; each is written when asked for.

    The files, in the store's folder for what is unfinished, are the caller's to remove.
    """
    chunks = chain.from_iterable(split_digests(part.chunks) for part in parts)
    recipes = reversed(contents.recipes_completed(chunks))
    with (
        RollingPacks(store.temp_path, durable=False) as packs,
        contextlib.closing(_read_parts(store, parts)) as read,
    ):
        for path, info in packs.fill(read, recipes):
            yield Upload(path, RemotePack(info.digest, info.size), info.index)
        for path, info in packs.finish():
            yield Upload(path, RemotePack(info.digest, info.size), info.index)


def _read_parts(
    store: LocalStore, parts: Iterable[PackPart]
) -> Generator[tuple[Digest, bytes] | Frame, None, None]:
    """Yield what is wanted of packs: frames as they are, where all of one is, then the rest."""
    for part in parts:
        left = dict.fromkeys(split_digests(part.chunks))
        try:
            file = open(store.pack_path(part.pack.digest), "rb")
        except FileNotFoundError:  # a gc or drop moved its chunks; the reader finds them
            file = None
        if file is not None:
            with file:
                yield from _whole_frames(file, part.pack, left)
        yield from _read_chunks(store, left)


def _whole_frames(file: BinaryIO, info: RemotePack, wanted: dict[Digest, None]) -> Iterator[Frame]:
    """Yield the frames of a pack of which all is wanted, and take their chunks out of `wanted`.

    Small frames are left to be joined, and all frames of a pack that is not what its name says:
    there each chunk is checked by itself.
    """
    try:
        index = read_index(file, size=info.size, where=info.digest.hex())
    except CorruptError:
        return
    frames = []
    end = 0
    counts = Counter(index.chunk_frames)
    for number, (offset, size) in enumerate(
        zip(index.frame_offsets(), index.frame_sizes, strict=True)
    ):
        begin, end = end, end + counts[number]
        raw_size = sum(index.chunk_sizes[begin:end])
        digests = index.chunk_digests[begin:end]
        if raw_size >= GROUPED_SIZE_MAX_BYTES and all(map(wanted.__contains__, digests)):
            frames.append((offset, size, begin, end))
    file.seek(0)
    if not frames or digest_of_file(file) != info.digest:
        return
    for offset, size, begin, end in frames:
        file.seek(offset)
        chunks = zip(index.chunk_digests[begin:end], index.chunk_sizes[begin:end], strict=True)
        yield Frame(file.read(size), list(chunks))
        for digest in index.chunk_digests[begin:end]:
            wanted.pop(digest, None)


def _read_chunks(
    store: LocalStore, chunks: Iterable[Digest]
) -> Generator[tuple[Digest, bytes], None, None]:
    """Yield chunks of the local store with their bytes, looked up a run at a time."""
    for run in runs(chunks):
        with store.reader() as reader:
            reader.prepare_chunks(run)
            for digest in run:
                yield digest, bytes(reader.chunk(digest))
