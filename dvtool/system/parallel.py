"""Running transfers side by side, a bounded number of calls and of bytes at a time."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

TRANSFERS_MAX = 16
"""Threads for transfers; how many requests a remote gets at once, its `Pace` decides."""
IN_FLIGHT_MAX_BYTES = 128 << 20
"""Bound on the bytes of all transfers under way, and so on the bytes lost by an interruption."""
FAREWELL_S = 2.0
"""How long an interrupted caller waits for transfers that were told to stop."""

T = TypeVar("T")
R = TypeVar("R")
_NO_ITEM = object()
_thread = threading.local()


class Stopped(Exception):
    """A transfer was given up, since nobody waits for its result any more."""


def run_bounded(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = TRANSFERS_MAX,
    size_of: Callable[[T], int] | None = None,
    budget_bytes: int = IN_FLIGHT_MAX_BYTES,
) -> Iterator[tuple[T, R]]:
    """Yield (item, result) as the calls end, at most `workers` under way.

    With `size_of`, which gives the bytes of an item, those under way and those whose result was
    not yet taken stay within `budget_bytes` together; a larger item goes alone.
    `items` is read by the caller's thread, at most one item ahead of the calls. At the first error
    no further call begins, calls under way are asked to stop (see `check_stopped`), the results
    of calls that end well all the same are yielded, and the error is raised.
    """
    left = iter(items)
    ahead = next(left, _NO_ITEM)
    running: dict[concurrent.futures.Future[R], tuple[T, int]] = {}
    stop = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(
        workers, "dv-transfer", initializer=setattr, initargs=(_thread, "stop", stop)
    )

    def begin(held_bytes: int) -> None:
        """Begin calls as far as they fit beside those under way and the result being taken."""
        nonlocal ahead
        while ahead is not _NO_ITEM and len(running) < workers:
            item = cast(T, ahead)
            size = size_of(item) if size_of else 0
            used = held_bytes + sum(each for _, each in running.values())
            if used and used + size > budget_bytes:
                return
            running[pool.submit(work, item)] = (item, size)
            ahead = next(left, _NO_ITEM)

    failed: Exception | None = None
    try:
        begin(0)
        while running:
            done, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                item, size = running.pop(future)
                try:
                    result = future.result()
                except Exception as error:
                    # Results of calls that have ended well are yielded before the error is raised.
                    failed = failed or error
                    stop.set()
                    ahead = _NO_ITEM
                    continue
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


def check_stopped() -> None:
    """Raise `Stopped` in a transfer that `run_bounded` no longer waits for."""
    stop = getattr(_thread, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def pause(seconds: float) -> None:
    """Sleep, but raise `Stopped` at once in a transfer that is no longer waited for."""
    stop = getattr(_thread, "stop", None)
    if stop is None:
        threading.Event().wait(seconds)
    elif stop.wait(seconds):
        raise Stopped
