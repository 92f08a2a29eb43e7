"""How many windows are got ready before they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dvtool.stream import Stream, stream as streams
from dvtool.stream.order import Order, Shuffle, Window, cut_blocks, running_sizes
from dvtool.stream.reading import AHEAD_MAX, PartReader, parts
from dvtool.stream.samples import ReadSamples, Sample
from tests.scenario import Clone, Remote

SAMPLES, SIZE, IN_BLOCK, PATIENCE_S = 60, 10, 8, 30


class Noting:
    """Samples of which it is noted when their windows are asked for; two of these must meet."""

    def __init__(self, met: threading.Barrier) -> None:
        self.sizes = running_sizes([SIZE] * SAMPLES)
        self.data_key = b"samples"
        self.begun: list[Window] = []
        self.ahead: list[int] = []
        """For each window that was read, how many others were begun by then."""
        self._met = met

    def key(self, number: int) -> str:
        return str(number)

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        return [Sample(str(number), b"") for number in numbers]

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> ReadSamples:
        assert window is not None
        self.begun.append(window)
        if len(self.begun) > 1 and window.begin < 2 * IN_BLOCK:
            self._met.wait(PATIENCE_S)

        def read(wanted: Sequence[int]) -> list[Sample]:
            self.ahead.append(len(self.begun) - len(self.ahead) - 1)
            return self.read(wanted)

        return read


def _windows() -> tuple[Order, Iterator[Any]]:
    blocks = cut_blocks(running_sizes([SIZE] * SAMPLES), IN_BLOCK * SIZE)
    order = Order(blocks, b"samples", Shuffle(0, True, IN_BLOCK * SIZE), 0)
    return order, parts(order, [range(SAMPLES)])


def test_two_windows_are_got_ready_at_once_and_no_more() -> None:
    samples = Noting(threading.Barrier(AHEAD_MAX))
    order, wanted = _windows()
    assert [w.begin for w in order.windows[:4]] == [0, 1, IN_BLOCK, 2 * IN_BLOCK]
    reader = PartReader(samples, "raise", lambda key, error: None, AHEAD_MAX)
    read = [sample.key for sample in reader.read(wanted, unfetched=False) if sample is not None]
    assert read == [str(order.sample_at(position)) for position in range(SAMPLES)]
    assert len(samples.ahead) == len(order.windows) and max(samples.ahead) <= AHEAD_MAX


def test_a_small_cache_has_one_window_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead: list[int] = []

    class Noted(PartReader):
        def __init__(self, *args: Any) -> None:
            ahead.append(args[-1])
            super().__init__(*args)

    clone = Clone.new(tmp_path / "mine", Remote(str(tmp_path / "remote")))
    clone.write("data/a", b"a")
    clone.add("data")
    clone.commit("data")
    monkeypatch.setattr(streams, "PartReader", Noted)
    for size in (4 << 20, (4 << 20) - 1, 0):
        with clone.repo() as repo:
            repo.config.set("cache.size", str(size))
        next(Stream("", repo=clone.path, window=1 << 20).epoch(0))
    assert ahead == [2, 1, 1]
