"""The order of an epoch: every sample once, the same everywhere, and shuffled within windows."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from dvtool.stream.order import Order, Shuffle, cut_blocks, node_blocks, running_sizes

KEY = b"data"
SIZES = st.lists(st.integers(0, 50), max_size=60)
SHUFFLES = st.builds(
    Shuffle,
    seed=st.integers(-(2**63), 2**63),
    enabled=st.booleans(),
    window_bytes=st.integers(1, 400),
    block_bytes=st.integers(1, 120),
)


def order(sizes: list[int], shuffle: Shuffle, epoch: int = 0) -> list[int]:
    blocks = cut_blocks(running_sizes(sizes), shuffle.block_bytes)
    drawn = Order(blocks, KEY, shuffle, epoch)
    return [number for window in drawn.windows for number in drawn.samples(window)]


@given(SIZES, SHUFFLES, st.integers(0, 5))
def test_every_sample_comes_once(sizes: list[int], shuffle: Shuffle, epoch: int) -> None:
    assert sorted(order(sizes, shuffle, epoch)) == list(range(len(sizes)))


@given(SIZES, st.integers(1, 120))
def test_blocks_are_neighbours_and_all_but_the_last_are_full(sizes: list[int], full: int) -> None:
    blocks = cut_blocks(running_sizes(sizes), full)
    assert [n for b in blocks for n in range(b.first, b.end)] == list(range(len(sizes)))
    for block in blocks:
        assert block.size_bytes == sum(sizes[block.first : block.end])
    assert all(block.size_bytes >= full for block in blocks[:-1])
    assert all(sum(sizes[block.first : block.end - 1]) < full for block in blocks)


@given(SIZES, SHUFFLES)
def test_windows_follow_one_another_and_keep_their_bytes(
    sizes: list[int], shuffle: Shuffle
) -> None:
    windows = Order(cut_blocks(running_sizes(sizes), shuffle.block_bytes), KEY, shuffle, 1).windows
    assert [w.begin for w in windows] == [0, *(w.end for w in windows)][: len(windows)]
    for window in windows:
        size = sum(block.size_bytes for block in window.blocks)
        assert size <= shuffle.window_bytes or len(window.blocks) == 1


def test_an_epoch_begins_with_a_part_of_a_block_that_is_fetched_whole() -> None:
    sizes = [1] * 640
    blocks = cut_blocks(running_sizes(sizes), 64)
    windows = Order(blocks, KEY, Shuffle(3, window_bytes=256, block_bytes=64), 0).windows
    assert [w.end - w.begin for w in windows] == [4, 60, 128, 256, 192]
    assert windows[0].is_beginning and not any(w.is_beginning for w in windows[1:])
    assert windows[0].fetched == windows[1].fetched and windows[0].fetched[0] in blocks
    assert all(window.fetched == window.blocks for window in windows[2:])
    # Data of one block is shuffled whole, since neighbours are often alike.
    small = Order(blocks[:1], KEY, Shuffle(3, window_bytes=256, block_bytes=64), 0).windows
    assert [w.end for w in small] == [64] and not small[0].is_beginning


@given(SIZES, SHUFFLES)
def test_a_position_names_the_sample_that_comes_there(sizes: list[int], shuffle: Shuffle) -> None:
    drawn = Order(cut_blocks(running_sizes(sizes), shuffle.block_bytes), KEY, shuffle, 3)
    assert [drawn.sample_at(p) for p in range(len(drawn))] == order(sizes, shuffle, 3)


@given(SIZES, SHUFFLES, st.integers(1, 5))
def test_nodes_share_the_blocks_out_in_the_same_way_always(
    sizes: list[int], shuffle: Shuffle, nodes: int
) -> None:
    blocks = cut_blocks(running_sizes(sizes), shuffle.block_bytes)
    parts = node_blocks(blocks, KEY, nodes)
    assert sorted((b for part in parts for b in part), key=lambda b: b.first) == blocks
    assert parts == node_blocks(list(reversed(blocks)), KEY, nodes)
    counts = [sum(b.end - b.first for b in part) for part in parts]
    assert max(counts) - min(counts) <= max([b.end - b.first for b in blocks], default=0)


def test_seed_epoch_and_data_each_give_another_order() -> None:
    sizes = [1] * 500
    blocks = cut_blocks(running_sizes(sizes), 10)

    def drawn(key: bytes, seed: int, epoch: int) -> list[int]:
        made = Order(blocks, key, Shuffle(seed, window_bytes=100, block_bytes=10), epoch)
        return [n for window in made.windows for n in made.samples(window)]

    orders = [drawn(KEY, 0, 0), drawn(KEY, 0, 1), drawn(KEY, 1, 0), drawn(b"other", 0, 0)]
    assert len({tuple(one) for one in orders}) == 4
    assert drawn(KEY, 0, 0) == orders[0]


GOLDEN = [10, 11, 12, 9, 8, 13, 6, 2, 19, 18, 14, 3, 7, 15, 5, 17, 4, 16, 1, 0]


def test_the_order_is_the_one_that_earlier_versions_gave() -> None:
    """A run that is taken up after an update goes on in the same order."""
    assert order([5] * 20, Shuffle(7, window_bytes=40, block_bytes=10), 2) == GOLDEN


def test_without_shuffling_the_order_is_that_of_the_paths() -> None:
    assert order([3] * 30, Shuffle(enabled=False, block_bytes=7), 4) == list(range(30))


def test_a_window_over_everything_shuffles_everything() -> None:
    """Each half of an epoch has about half of its samples from each half of the data."""
    drawn = order([1] * 4000, Shuffle(1, window_bytes=1 << 30, block_bytes=4))
    early = sum(number < 2000 for number in drawn[2000:])
    assert early == pytest.approx(1000, abs=120)
