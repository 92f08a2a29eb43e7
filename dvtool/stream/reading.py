"""Reading the samples of an epoch window by window, the next one beside the one in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.stream.order import Order, Window
from dvtool.stream.samples import Sample, SampleSet

OnDamage = Literal["raise", "skip"]
"""A sample that is damaged, or nowhere, ends the epoch with an error or is left out and counted."""
UNREADABLE = (CorruptError, MissingError)


class WindowPart:
    """Samples of one window that one reader wants, by number, in the order of the epoch."""

    __slots__ = ("numbers", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.numbers: list[int] = []


def parts(order: Order, spans: Iterable[range]) -> Iterator[WindowPart]:
    """Yield the samples at positions, given as ranges, in parts that need one window each.

    A position at or above the length of the order stands for the position modulo that length.
    """
    total = len(order)
    part: WindowPart | None = None
    numbers: Sequence[int] = ()
    for span in spans:
        position, step = span.start, span.step
        while position < span.stop:
            real = position % total
            if part is None or not part.window.begin <= real < part.window.end:
                if part is not None and part.numbers:
                    yield part
                part = WindowPart(order.windows[order.window_at(real)])
                numbers = order.samples(part.window)
            offset = real - part.window.begin
            within = -(-(part.window.end - real) // step)
            count = min(within, -(-(span.stop - position) // step))
            part.numbers += numbers[offset : offset + (count - 1) * step + 1 : step]
            position += count * step
    if part is not None and part.numbers:
        yield part


def read_parts(
    samples: SampleSet,
    wanted: Iterator[WindowPart],
    *,
    fetch: Callable[[Window], None],
    on_damage: OnDamage,
    skipped: Callable[[str, DvError], None],
) -> Iterator[Sample | None]:
    """Yield the samples of parts in order, None for one that was skipped.

    One part more than the one in use is held in memory, read by a thread. `fetch` is called in it,
    before a window is read; `skipped` is told keys and errors of the samples that were left out.
    """

    def read(part: WindowPart) -> list[Sample | None]:
        fetch(part.window)
        return _read_samples(samples, part.numbers, on_damage, skipped)

    executor = ThreadPoolExecutor(1, thread_name_prefix="dv-stream")
    try:
        following: Future[list[Sample | None]] | None = None
        for part in wanted:
            ready, following = following, executor.submit(read, part)
            if ready is not None:
                yield from ready.result()
                del ready
        if following is not None:
            yield from following.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _read_samples(
    samples: SampleSet,
    numbers: Sequence[int],
    on_damage: OnDamage,
    skipped: Callable[[str, DvError], None],
) -> list[Sample | None]:
    """Read samples, given in any order and perhaps several times; return them in that order."""
    ascending = sorted(set(numbers))
    try:
        held: dict[int, Sample | None] = dict(zip(ascending, samples.read(ascending), strict=True))
    except UNREADABLE:
        if on_damage == "raise":
            raise
        held = {number: _read_sample(samples, number, skipped) for number in ascending}
    return [held[number] for number in numbers]


def _read_sample(
    samples: SampleSet, number: int, skipped: Callable[[str, DvError], None]
) -> Sample | None:
    try:
        return samples.read([number])[0]
    except UNREADABLE as error:
        skipped(samples.key(number), error)
        return None
