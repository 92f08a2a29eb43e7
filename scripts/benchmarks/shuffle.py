"""How well an epoch is shuffled against the size of its windows: a table, and a plot as SVG.

The measure is from how many blocks the samples of a batch come, on average over an epoch. A block
has neighbours by path, which are often alike: frames of one film, images of one class.

Usage: python -m benchmarks.shuffle [PLOT.svg]     (with PYTHONPATH=scripts)
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Sequence

from dvtool.stream.order import Order, Shuffle, cut_blocks, running_sizes

BLOCKS, SAMPLES_A_BLOCK, BATCH = 1000, 100, 64
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, BLOCKS)


def blocks_a_batch(numbers: Sequence[int]) -> float:
    """Return from how many blocks a batch has samples, on average."""
    batches = (numbers[first : first + BATCH] for first in range(0, len(numbers) - BATCH, BATCH))
    return statistics.mean(len({n // SAMPLES_A_BLOCK for n in batch}) for batch in batches)


def measures() -> Iterator[tuple[int, float]]:
    """Yield the size of a window in blocks, and the measure."""
    sizes = running_sizes([1] * (BLOCKS * SAMPLES_A_BLOCK))
    blocks = cut_blocks(sizes, SAMPLES_A_BLOCK)
    for window in WINDOWS:
        shuffle = Shuffle(0, True, window * SAMPLES_A_BLOCK, SAMPLES_A_BLOCK)
        order = Order(blocks, b"shuffle", shuffle, 0)
        yield window, blocks_a_batch([n for w in order.windows for n in order.samples(w)])


def full_shuffle() -> float:
    """Return the measure of a shuffle of everything."""
    numbers = list(range(BLOCKS * SAMPLES_A_BLOCK))
    random.Random(0).shuffle(numbers)
    return blocks_a_batch(numbers)


def plot(path: str, values: Sequence[tuple[int, float]], full: float) -> None:
    """Draw the measure against the size of a window."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot([w for w, _ in values], [m for _, m in values], marker="o", label="stream")
    axes.axhline(full, linestyle="--", color="gray", label="full shuffle")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("window, in blocks")
    axes.set_ylabel(f"blocks in a batch of {BATCH}")
    axes.set_ylim(0)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table, and draw the plot if a path is given."""
    values, full = list(measures()), full_shuffle()
    print(f"| window, in blocks | blocks in a batch of {BATCH} |\n|---|---|")
    for window, measure in values:
        print(f"| {window:,} | {measure:.1f} |")
    print(f"| full shuffle | {full:.1f} |")
    if len(sys.argv) > 1:
        plot(sys.argv[1], values, full)


if __name__ == "__main__":
    main()
