"""How many requests at once: halved once for a busy remote, then one more a round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dvtool.errors import RemoteBusy, RemoteError, RemoteStalled, RemoteTransient
from dvtool.remotes.transports.pace import Pace
from dvtool.system.parallel import run_bounded


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def use(pace: Pace, error: Exception | None = None) -> None:
    """Take all turns that there are at once; each fails with `error`, if given."""
    barrier = threading.Barrier(pace.limit)

    def one() -> None:
        with pace.turn():
            barrier.wait(60)
            if error is not None:
                raise error
            # Nobody leaves before all came, and the first to leave still saw a full house.
            barrier.wait(60)

    with ThreadPoolExecutor(pace.limit) as pool:
        done = [pool.submit(one) for _ in range(pace.limit)]
    for future in done:
        assert future.exception() is error


def test_no_more_turns_than_the_limit() -> None:
    pace = Pace(start=3, most=3)
    under_way, highest, lock = 0, 0, threading.Lock()

    def one(_: int) -> None:
        nonlocal under_way, highest
        with pace.turn():
            with lock:
                under_way += 1
                highest = max(highest, under_way)
            time.sleep(0.002)
            with lock:
                under_way -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(60)))
    assert highest <= 3
    use(pace)  # and so many there are


@pytest.mark.parametrize("error", [RemoteBusy("slow down"), RemoteStalled("nothing came")])
def test_a_round_of_refusals_halves_once(error: Exception) -> None:
    pace = Pace(start=8, pause_s=0.0, clock=Clock())
    use(pace, error)
    assert pace.limit == 4
    use(pace, error)
    assert pace.limit == 2
    for _ in range(5):
        use(pace, error)
    assert pace.limit == 1


@pytest.mark.parametrize(
    "error", [RemoteTransient("500"), RemoteError("403"), ValueError("of another kind")]
)
def test_other_failures_do_not_slow_down(error: Exception) -> None:
    pace = Pace(start=8, clock=Clock())
    use(pace, error)
    assert pace.limit == 8


def test_a_round_of_successes_adds_one() -> None:
    pace = Pace(start=1, most=4, clock=Clock())
    limits = []
    for _ in range(12):
        with pace.turn():
            pass
        limits.append(pace.limit)
    # One turn at a time fills a pace of one, and no other: what is not used is not raised.
    assert limits == [2] * 12


def test_the_pace_grows_to_its_limit_again() -> None:
    pace = Pace(start=2, most=5, clock=Clock())
    for _ in range(200):
        use(pace)
    assert 3 <= pace.limit <= 5


def test_turns_that_do_not_count_change_nothing() -> None:
    pace = Pace(start=1, clock=Clock())
    for _ in range(10):
        with pace.turn(counts=False):
            pass
    assert pace.limit == 1


@pytest.mark.parametrize(
    ("after_s", "least_s"), [(None, 0.2), (0.4, 0.4), (0.0, 0.0)], ids=["unsaid", "said", "at once"]
)
def test_nobody_begins_before_the_remote_wants_more(after_s: float | None, least_s: float) -> None:
    pace = Pace(pause_s=0.2)
    refused_s = time.monotonic()  # before it, so that a slow machine makes the wait no shorter
    with pytest.raises(RemoteBusy), pace.turn():
        raise RemoteBusy("slow down", retry_after_s=after_s)
    with ThreadPoolExecutor(4) as pool:
        began: list[float] = list(pool.map(lambda _: begin(pace), range(4)))
    assert min(began) - refused_s >= least_s


def begin(pace: Pace) -> float:
    with pace.turn():
        return time.monotonic()


def test_those_who_wait_get_the_turns_that_come_free() -> None:
    pace = Pace(start=8, pause_s=0.0)

    def work(number: int) -> int:
        busy: Callable[[], bool] = lambda: number % 5 == 0  # noqa: E731
        try:
            with pace.turn():
                if busy():
                    raise RemoteBusy("slow down")
        except RemoteBusy:
            pass
        return number

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(500), timeout=60)) == list(range(500))


def test_who_waits_for_a_turn_can_be_stopped() -> None:
    pace = Pace(start=1, most=1)
    entered = threading.Event()

    def work(number: int) -> None:
        if number:
            entered.wait(60)
            raise ValueError("the other one failed")
        entered.set()
        with pace.turn():
            raise AssertionError("there was no turn to have")

    with pace.turn(), pytest.raises(ValueError, match="the other one"):
        list(run_bounded(work, [0, 1]))


@pytest.mark.parametrize(("start", "most"), [(0, 4), (5, 4)])
def test_a_pace_must_be_possible(start: int, most: int) -> None:
    with pytest.raises(ValueError, match="none"):
        Pace(start=start, most=most)
