"""Running transfers side by side, a bounded number of calls and of bytes at a time."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

TRANSFERS_MAX = 8
IN_FLIGHT_MAX_BYTES = 128 << 20
"""What transfers under way may amount to: so much an interruption costs at most."""

T = TypeVar("T")
R = TypeVar("R")
_NOTHING = object()


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
    not yet taken stay within `budget_bytes` together; an item larger than that goes alone.
    `items` is read by the caller's thread, at most one ahead of what was begun. At the first error
    no further item is begun, those under way are waited for, and it is raised.
    """
    left = iter(items)
    ahead = next(left, _NOTHING)
    running: dict[concurrent.futures.Future[R], tuple[T, int]] = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:

        def begin(held_bytes: int) -> None:
            """Begin what fits beside what is under way and the result that is being taken."""
            nonlocal ahead
            while ahead is not _NOTHING and len(running) < workers:
                item = cast(T, ahead)
                size = size_of(item) if size_of else 0
                used = held_bytes + sum(each for _, each in running.values())
                if used and used + size > budget_bytes:
                    return
                running[pool.submit(work, item)] = (item, size)
                ahead = next(left, _NOTHING)

        try:
            begin(0)
            while running:
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    item, size = running.pop(future)
                    result = future.result()
                    begin(size)
                    yield item, result
                begin(0)
        finally:
            for future in running:
                future.cancel()
