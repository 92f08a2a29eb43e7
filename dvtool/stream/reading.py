"""Reading the samples of an epoch window by window, the next one beside the one in use."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from dvtool.errors import CorruptError, DvError, MissingError
from dvtool.stream.order import Order, Window
from dvtool.stream.samples import Sample, SampleSet

OnDamage = Literal["raise", "skip"]
"""A sample that is damaged, or nowhere, ends the epoch with an error or is left out and counted."""
EARLY_SAMPLES = 128
UNREADABLE = (CorruptError, MissingError)


class WindowPart:
    """Samples of one window that one reader wants, by number, in the order of the epoch."""

    __slots__ = ("numbers", "window")

    def __init__(self, window: Window, numbers: Sequence[int] = ()) -> None:
        self.window = window
        self.numbers: list[int] = list(numbers)


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


def start_early(wanted: Iterator[WindowPart]) -> Iterator[WindowPart]:
    """Cut the first part in two: the trainer has the first samples while the rest is read."""
    for part in itertools.islice(wanted, 1):
        yield WindowPart(part.window, part.numbers[:EARLY_SAMPLES])
        if part.numbers[EARLY_SAMPLES:]:
            yield WindowPart(part.window, part.numbers[EARLY_SAMPLES:])
    yield from wanted


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

    fetched: Window | None = None

    def read(part: WindowPart) -> list[Sample | None]:
        nonlocal fetched
        if part.window is not fetched:
            try:
                fetch(part.window)
            except UNREADABLE:
                if on_damage == "raise":
                    raise  # else reading tells which samples it is
            fetched = part.window
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
        read: list[Sample | None] = list(samples.read(ascending))
    except UNREADABLE:
        if on_damage == "raise":
            raise
        read = _read_sound(samples, ascending, skipped)
    held = dict(zip(ascending, read, strict=True))
    return [held[number] for number in numbers]


def _read_sound(
    samples: SampleSet, numbers: Sequence[int], skipped: Callable[[str, DvError], None]
) -> list[Sample | None]:
    """Read samples, None for each that cannot be read, which halving finds."""
    try:
        return list(samples.read(numbers))
    except UNREADABLE as error:
        if len(numbers) > 1:
            half = len(numbers) // 2
            first = _read_sound(samples, numbers[:half], skipped)
            return first + _read_sound(samples, numbers[half:], skipped)
        skipped(samples.key(numbers[0]), error)
        return [None]
