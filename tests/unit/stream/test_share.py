"""What each rank and worker reads: together every position once, in the same global order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from dvtool.errors import UsageError
from dvtool.stream.share import Share, Tail, positions, rank_length

WORLDS = st.sampled_from([1, 2, 3, 8])


def rank_order(
    total: int, place: int, rank: int, world: int, workers: int, batch: int, tail: Tail
) -> list[int]:
    """Return what a loader with workers gives: a batch of each worker in turn."""
    streams = [
        [list(r) for r in positions(total, place, Share(rank, world, w, workers, batch), tail)]
        for w in range(workers)
    ]
    turns = itertools.zip_longest(*streams, fillvalue=[])
    return [position for turn in turns for made in turn for position in made]


@given(st.integers(0, 70), st.integers(0, 70), WORLDS, st.integers(1, 4), st.integers(1, 5))
def test_any_worlds_and_workers_give_the_same_global_order(
    total: int, place: int, world: int, workers: int, batch: int
) -> None:
    ranks = [rank_order(total, place, r, world, workers, batch, "keep") for r in range(world)]
    merged = [p for step in itertools.zip_longest(*ranks) for p in step if p is not None]
    assert merged == list(range(place, total))


@given(st.integers(1, 70), WORLDS, st.integers(1, 3), st.integers(1, 5))
def test_dropping_and_padding_make_ranks_equally_long(
    total: int, world: int, workers: int, batch: int
) -> None:
    dropped = [rank_order(total, 0, r, world, workers, batch, "drop") for r in range(world)]
    assert {len(rank) for rank in dropped} == {total // world}
    padded = [rank_order(total, 0, r, world, workers, batch, "pad") for r in range(world)]
    assert {len(rank) for rank in padded} == {-(-total // world)}
    assert {p % total for rank in padded for p in rank} == set(range(total))


@given(st.integers(0, 70), st.integers(0, 70), WORLDS)
def test_the_length_of_a_rank_is_the_number_of_its_positions(
    total: int, place: int, world: int
) -> None:
    tails: tuple[Tail, ...] = ("keep", "drop", "pad")
    for tail, rank in itertools.product(tails, range(world)):
        read = rank_order(total, place, rank, world, 1, 4, tail)
        assert len(read) == rank_length(total, place, Share(rank, world), tail)


@pytest.mark.parametrize(
    ("rank", "world", "worker", "workers", "batch"),
    [(1, 1, 0, 1, 1), (-1, 2, 0, 1, 1), (0, 0, 0, 1, 1), (0, 1, 2, 2, 1), (0, 1, 0, 1, 0)],
)
def test_a_share_that_cannot_be_is_refused(
    rank: int, world: int, worker: int, workers: int, batch: int
) -> None:
    with pytest.raises(UsageError):
        Share(rank, world, worker, workers, batch)
