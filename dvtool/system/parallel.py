"""Running transfers side by side, a bounded number of calls and of bytes at a time."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

from dvtool.system.calls import TELL_EVERY_S, Tally, here

TRANSFERS_MAX = 16
"""Threads for transfers; how many requests a remote gets at once, its `Pace` decides."""
IN_FLIGHT_MAX_BYTES = 128 << 20
"""Bound on the bytes of all transfers under way, and so on the bytes lost by an interruption."""
FAREWELL_S = 0.3
"""How long an interrupted caller waits for transfers that were told to stop."""

T = TypeVar("T")
R = TypeVar("R")
_FIRST = concurrent.futures.FIRST_COMPLETED
_NO_ITEM = object()


def run_bounded(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = TRANSFERS_MAX,
    size_of: Callable[[T], int] | None = None,
    budget_bytes: int = IN_FLIGHT_MAX_BYTES,
    tell: Callable[[int], None] | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield (item, result) as the calls end, at most `workers` under way.

    With `size_of`, which gives the bytes of an item, those under way and those whose result was
    not yet taken stay within `budget_bytes` together; a larger item goes alone. `tell`, which needs
    `size_of`, hears in the caller's thread of the bytes done, as soon as calls `count` them.
    `items` is read by the caller's thread, one item ahead of the calls. At the first error none
    begins any more, those under way are to stop (see `check_stopped`), the results of calls that
    end well all the same are yielded, and the error is raised.
    """
    left = iter(items)
    ahead = next(left, _NO_ITEM)
    running: dict[concurrent.futures.Future[R], tuple[T, int, Tally]] = {}
    stop = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(
        workers, "dv-transfer", initializer=setattr, initargs=(here, "stop", stop)
    )

    def begin(held_bytes: int) -> None:
        """Begin calls as far as they fit beside those under way and the result being taken."""
        nonlocal ahead
        while ahead is not _NO_ITEM and len(running) < workers:
            item = cast(T, ahead)
            size = size_of(item) if size_of else 0
            used = held_bytes + sum(each for _, each, _ in running.values())
            if used and used + size > budget_bytes:
                return
            tally = Tally()
            running[pool.submit(_counted, tally, work, item)] = (item, size, tally)
            ahead = next(left, _NO_ITEM)

    failed: Exception | None = None
    try:
        begin(0)
        while running:
            timeout_s = None if tell is None else TELL_EVERY_S
            done, _ = concurrent.futures.wait(running, timeout_s, _FIRST)
            _tell_of(running.values(), tell)
            for future in done:
                item, size, tally = running.pop(future)
                try:
                    result = future.result()
                except Exception as error:
                    # Results of calls that have ended well are yielded before the error is raised.
                    failed = failed or error
                    stop.set()
                    ahead = _NO_ITEM
                    continue
                tally.done_bytes = size
                _tell_of([(item, size, tally)], tell)
                begin(size)
                yield item, result
            begin(0)
        if failed is not None:
            raise failed
    finally:
        stop.set()
        pool.shutdown(wait=False)
        # Only an interrupted caller leaves calls under way, and does not wait for a stalled one.
        begun = [future for future in running if not future.cancel()]
        concurrent.futures.wait(begun, timeout=FAREWELL_S)


def _tell_of(calls: Iterable[tuple[T, int, Tally]], tell: Callable[[int], None] | None) -> None:
    """Tell of the bytes that calls, of so many bytes each, have done since the last time."""
    if tell is not None:
        for _, size, tally in calls:
            tell(tally.untold(size))


def _counted(tally: Tally, work: Callable[[T], R], item: T) -> R:
    here.tally = tally
    return work(item)
