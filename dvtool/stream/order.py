"""The order of samples: a pure function of data, seed and epoch, with every place in it one number.

Samples have numbers, 0 to n - 1, in the order of their paths. Neighbours form *blocks* of about one
pack's bytes, since neighbours were added together and are stored together. An epoch visits the
blocks in an order of its own. Consecutive blocks form a *window*, whose samples are shuffled among
each other. So an epoch reads each block once and in one piece, however large the windows are. The
first window is only the beginning of a block, so that training begins while the rest is fetched.

Permutations sort by a keyed hash (XXH3 of the number, seeded by BLAKE3 of data, seed and epoch).
The order is then the same on every machine and in every version of Python, where `random` promises
neither.
"""

from __future__ import annotations

import bisect
import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import starmap

import blake3
import msgspec
import xxhash

BLOCK_BYTES = 64 << 20
"""How many bytes of content make a block: those of a pack whose content does not compress."""
WINDOW_BYTES = 256 << 20
"""How many bytes of content are shuffled among each other, unless a stream says otherwise."""
FIRST_SHARE = 16
"""The first window of an epoch has this part of the samples of its first block: 1/16."""
DOMAIN = b"dvtool stream order 2\0"


class Sizes(msgspec.Struct, frozen=True):
    """How large the samples of a stream are, in the order of their numbers."""

    ends: Sequence[int]
    """For each sample, how many bytes it and all before it have."""

    def __len__(self) -> int:
        return len(self.ends)


class Block(msgspec.Struct, frozen=True):
    """Samples `first` to `end` - 1, and how many bytes they have."""

    first: int
    end: int
    size_bytes: int


class Window(msgspec.Struct, frozen=True):
    """Blocks whose samples are shuffled among each other, and their place in the epoch."""

    begin: int
    """The position in the epoch of the first sample of this window."""
    end: int
    blocks: tuple[Block, ...]
    fetched: tuple[Block, ...]
    """The blocks that are fetched with it: its own, or the one that it is a part of."""

    @property
    def is_beginning(self) -> bool:
        """Whether it begins the epoch and is a part of what is fetched with it."""
        return not self.begin and self.blocks != self.fetched


class Shuffle(msgspec.Struct, frozen=True):
    """How an epoch is shuffled: from which seed, in windows of how many bytes; or not at all."""

    seed: int = 0
    enabled: bool = True
    window_bytes: int = WINDOW_BYTES
    block_bytes: int = BLOCK_BYTES


def running_sizes(sizes: Sequence[int]) -> Sizes:
    """Return the sizes of samples, in bytes, as the running total that an order is made from."""
    return Sizes(list(itertools.accumulate(sizes)))


def cut_blocks(sizes: Sizes, block_bytes: int) -> list[Block]:
    """Cut the samples into blocks: each ends with the sample that fills `block_bytes`."""
    blocks: list[Block] = []
    first, before = 0, 0
    while first < len(sizes.ends):
        full = bisect.bisect_left(sizes.ends, before + block_bytes, lo=first)
        end = min(full + 1, len(sizes.ends))
        blocks.append(Block(first, end, sizes.ends[end - 1] - before))
        first, before = end, sizes.ends[end - 1]
    return blocks


def node_blocks(blocks: Sequence[Block], data_key: bytes, nodes: int) -> list[list[Block]]:
    """Divide the blocks among nodes, the same way in every epoch, with about as many samples each.

    The largest blocks are given away first, each to the node with the fewest samples so far.
    """
    key = _hash_seed(data_key, b"nodes", nodes)
    drawn = sorted(blocks, key=lambda b: (b.first - b.end, _hash(b.first, key)))
    parts: list[list[Block]] = [[] for _ in range(nodes)]
    counts = [0] * nodes
    for block in drawn:
        node = counts.index(min(counts))
        parts[node].append(block)
        counts[node] += block.end - block.first
    return [sorted(part, key=lambda b: b.first) for part in parts]


class Order:
    """The samples of one epoch, or of one node's part of it, by position."""

    def __init__(
        self, blocks: Sequence[Block], data_key: bytes, shuffle: Shuffle, epoch: int
    ) -> None:
        self._enabled = shuffle.enabled
        self._key = _hash_seed(data_key, b"samples", shuffle.seed, epoch)
        if shuffle.enabled:
            key = _hash_seed(data_key, b"blocks", shuffle.seed, epoch)
            blocks = sorted(blocks, key=lambda b: (_hash(b.first, key), b.first))
        self.windows = list(_join_windows(blocks, shuffle.window_bytes))
        self._ends = [window.end for window in self.windows]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def window_at(self, position: int) -> int:
        """Return the number of the window that has this position, which must be in the epoch."""
        return bisect.bisect_right(self._ends, position)

    def samples(self, window: Window) -> list[int]:
        """Return the numbers of a window's samples in the order in which the epoch has them."""
        numbers = [n for block in window.blocks for n in range(block.first, block.end)]
        if self._enabled:
            numbers.sort()  # so that numbers of one hash, if there are any, stay in order
            digest = partial(xxhash.xxh3_64_intdigest, seed=self._key)
            packed = struct.iter_unpack("8s", struct.pack(f"<{len(numbers)}Q", *numbers))
            hashes = dict(zip(numbers, starmap(digest, packed), strict=True))
            numbers.sort(key=hashes.__getitem__)
        return numbers

    def sample_at(self, position: int) -> int:
        """Return the number of the sample at a position. A loop over positions uses `samples`."""
        window = self.windows[self.window_at(position)]
        return self.samples(window)[position - window.begin]


def _join_windows(blocks: Sequence[Block], window_bytes: int) -> Iterator[Window]:
    """Join blocks to windows of at most `window_bytes`, but of one block at least.

    Of several blocks the first is cut in two: an epoch begins when its first window is there. Each
    window after these may have twice the blocks of the one before it.
    """
    begin, blocks_max, index = 0, 1, 0
    if len(blocks) > 1 and blocks[0].end - blocks[0].first > 1:
        first, begin, blocks_max, index = blocks[0], blocks[0].end - blocks[0].first, 2, 1
        early, rest = _cut_beginning(first)
        yield Window(0, early.end - early.first, (early,), (first,))
        yield Window(early.end - early.first, begin, (rest,), (first,))
    while index < len(blocks):
        end, size = index + 1, blocks[index].size_bytes
        while (
            end < len(blocks)
            and end - index < blocks_max
            and size + blocks[end].size_bytes <= window_bytes
        ):
            size += blocks[end].size_bytes
            end += 1
        held = tuple(blocks[index:end])
        samples = sum(block.end - block.first for block in held)
        yield Window(begin, begin + samples, held, held)
        begin, index, blocks_max = begin + samples, end, blocks_max * 2


def _cut_beginning(block: Block) -> tuple[Block, Block]:
    """Cut a block of several samples in two, the first with `FIRST_SHARE` of them."""
    samples = block.end - block.first
    early = max(samples // FIRST_SHARE, 1)
    size = block.size_bytes * early // samples
    return (
        Block(block.first, block.first + early, size),
        Block(block.first + early, block.end, block.size_bytes - size),
    )


def _hash_seed(data_key: bytes, purpose: bytes, *numbers: int) -> int:
    values = b"".join(number.to_bytes(16, "little", signed=True) for number in numbers)
    digest = blake3.blake3(DOMAIN + purpose + b"\0" + data_key + values).digest(length=8)
    return int.from_bytes(digest, "little")


def _hash(number: int, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(number.to_bytes(8, "little"), seed)
