"""Which positions of an epoch a rank, and a worker of its loader, reads.

Rank k of W has the positions k, k + W, k + 2W, … after the place where the epoch is taken up. A
loader asks its n workers for batches in turn, so worker w makes the batches w, w + n, …
of the rank. The order of samples that a trainer sees is then the same for every W and n.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from dvtool.errors import UsageError

Tail = Literal["keep", "drop", "pad"]
"""The end of an epoch whose samples do not divide among the ranks.

`keep` leaves some ranks with one sample fewer, `drop` leaves the last samples out, and `pad` gives
samples of the epoch's beginning once more.
"""


class Share(msgspec.Struct, frozen=True):
    """One reader among those of an epoch: its rank, and its place among the workers of the rank."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"rank {self.rank} of {self.world_size} is none: ranks are 0 to world_size - 1"
            )
        if self.workers < 1 or not 0 <= self.worker < self.workers:
            raise UsageError(
                f"worker {self.worker} of {self.workers} is none: workers are 0 to workers - 1"
            )
        if self.batch_size < 1:
            raise UsageError(f"a batch has at least one sample, not {self.batch_size}")


def rank_length(total: int, place: int, share: Share, tail: Tail) -> int:
    """Return how many samples a rank reads of an epoch of `total` samples, from `place` on."""
    left = max(total - place, 0)
    even, more = divmod(left, share.world_size)
    if tail == "drop" or not more:
        return even
    if tail == "pad":
        return even + 1
    return even + (share.rank < more)


def positions(total: int, place: int, share: Share, tail: Tail) -> Iterator[range]:
    """Yield the positions of a share in the order of reading: a range for each batch of a worker.

    With `pad`, positions from `total` on stand for those from 0 on: take them modulo `total`.
    """
    count = rank_length(total, place, share, tail)
    first = place + share.rank
    if share.workers == 1:
        if count:
            yield range(first, first + count * share.world_size, share.world_size)
        return
    for begin in range(share.worker * share.batch_size, count, share.workers * share.batch_size):
        end = min(begin + share.batch_size, count)
        yield range(
            first + begin * share.world_size, first + end * share.world_size, share.world_size
        )


def drop_first(spans: Iterator[range], count: int) -> Iterator[range]:
    """Yield positions without the first `count` of them."""
    for span in spans:
        if count < len(span):
            yield span[count:] if count else span
        count = max(count - len(span), 0)
