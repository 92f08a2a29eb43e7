"""Running transfers side by side, a bounded number at a time."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

TRANSFERS_MAX = 8

T = TypeVar("T")
R = TypeVar("R")


def run_bounded(
    work: Callable[[T], R], items: Iterable[T], *, workers: int = TRANSFERS_MAX
) -> Iterator[tuple[T, R]]:
    """Yield (item, result) as the calls end, at most `workers` under way.

    At the first error no further item is begun, those under way are waited for, and it is raised.
    """
    left = iter(items)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(work, item): item for item in islice(left, workers)}
        try:
            while running:
                done, _ = concurrent.futures.wait(
                    running, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    item = running.pop(future)
                    result = future.result()
                    for following in islice(left, 1):
                        running[pool.submit(work, following)] = following
                    yield item, result
        finally:
            for future in running:
                future.cancel()
