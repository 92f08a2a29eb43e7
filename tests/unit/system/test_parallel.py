"""Transfers side by side: bounded in number and in bytes, and what an error leaves running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dvtool.system import parallel
from dvtool.system.calls import Stopped, check_stopped, count, pause
from dvtool.system.parallel import run_bounded


class Gauge:
    """How many bytes and calls are under way, and the most there ever were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bytes = self.calls = self.bytes_max = self.calls_max = 0

    def work(self, size: int) -> int:
        with self.lock:
            self.bytes += size
            self.calls += 1
            self.bytes_max = max(self.bytes_max, self.bytes)
            self.calls_max = max(self.calls_max, self.calls)
        time.sleep(0.005)
        with self.lock:
            self.bytes -= size
            self.calls -= 1
        return size


def size_of(size: int) -> int:
    return size


def test_every_item_comes_back_with_its_result() -> None:
    assert sorted(run_bounded(lambda n: n * n, range(50))) == [(n, n * n) for n in range(50)]
    assert list(run_bounded(lambda n: n, [])) == []


def test_no_more_calls_than_workers_are_under_way() -> None:
    gauge = Gauge()
    assert sum(size for size, _ in run_bounded(gauge.work, [1] * 40, workers=3)) == 40
    assert gauge.calls_max <= 3


def test_as_many_calls_as_workers_are_under_way() -> None:
    barrier = threading.Barrier(3)
    assert len(list(run_bounded(lambda _: barrier.wait(60), range(9), workers=3))) == 9


def test_no_more_bytes_than_the_budget_are_under_way() -> None:
    gauge = Gauge()
    sizes = [3, 4, 2, 5, 1, 1, 4, 6, 2] * 5
    done = [s for s, _ in run_bounded(gauge.work, sizes, size_of=size_of, budget_bytes=7)]
    assert sorted(done) == sorted(sizes)
    assert 5 <= gauge.bytes_max <= 7


def test_an_item_above_the_budget_goes_alone() -> None:
    gauge = Gauge()
    done = [s for s, _ in run_bounded(gauge.work, [1, 100, 1], size_of=size_of, budget_bytes=7)]
    assert sorted(done) == [1, 1, 100]
    assert gauge.bytes_max == 100


def test_results_not_yet_taken_count_as_bytes_under_way() -> None:
    begun: list[int] = []
    two_begun = threading.Event()

    def work(size: int) -> None:
        begun.append(size)
        if len(begun) == 2:
            two_begun.set()

    results = run_bounded(work, [5, 5, 5, 5], size_of=size_of, budget_bytes=10)
    next(results)
    assert two_begun.wait(60)
    time.sleep(0.05)  # in which a third one would begin
    assert len(begun) == 2
    assert len(list(results)) == 3


def test_items_are_read_only_as_they_are_needed() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = run_bounded(lambda n: n, items(), workers=2)
    next(results)
    assert len(read) <= 5


def test_an_error_stops_what_was_not_begun_and_is_raised() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        list(run_bounded(work, range(1000), workers=2))
    assert len(begun) < 20


def test_transfers_under_way_are_told_to_stop_after_an_error() -> None:
    stopped: list[int] = []
    all_begun = threading.Barrier(3)

    def work(number: int) -> None:
        all_begun.wait(60)
        if number == 0:
            raise ValueError("zero")
        try:
            while True:
                pause(60)
        except Stopped:
            stopped.append(number)
            raise

    with pytest.raises(ValueError, match="zero"):
        list(run_bounded(work, range(3), workers=3))
    assert sorted(stopped) == [1, 2]
    check_stopped()  # concerns transfers only


def test_an_interruption_does_not_wait_for_what_cannot_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "FAREWELL_S", 0.05)
    release = threading.Event()
    results = run_bounded(lambda n: n or release.wait(60), range(2), workers=2)
    try:
        with pytest.raises(KeyboardInterrupt):
            for _ in results:
                raise KeyboardInterrupt
        results.close()
        assert not release.is_set()
    finally:
        release.set()


def test_bytes_are_told_while_calls_are_under_way_and_each_once() -> None:
    told: list[int] = []
    heard = threading.Event()

    def work(size: int) -> int:
        count(size // 2)
        assert heard.wait(60)  # the caller hears of a half before the call has ended
        count(-1)
        count(10 * size)
        return size

    def tell(size: int) -> None:
        told.append(size)
        if sum(told) >= 10:
            heard.set()

    list(run_bounded(work, [10, 10], workers=2, size_of=lambda size: size, tell=tell))
    assert sum(told) == 20
    count(1)  # concerns calls only
