"""Reading the samples of an epoch: windows are fetched and looked up beside the one in use."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

from dvtool.errors import CorruptError, DvError, MissingError, printable
from dvtool.stream.order import Order, Window
from dvtool.stream.samples import ReadSamples, Sample, SampleSet

OnDamage = Literal["raise", "skip"]
"""A sample that is damaged, or nowhere, ends the epoch with an error or is left out and counted."""
EARLY_SAMPLES = 128
PIECE_BYTES = 1 << 20
"""So much is read ahead of what can be read one by one: memory that is used again and again."""
EARLY_PIECES = 2
"""The next window is looked up once these are there: the trainer waits for the first batch."""
AHEAD_MAX = 2
"""So many windows are fetched beside the one in use: while one comes, the next is looked up."""
UNREADABLE = (CorruptError, MissingError)
DAMAGE_HINT = "dv fsck says what is damaged; Stream(on_damage='skip') leaves such samples out"


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
    """Cut the first part in two: the trainer has the first samples while the rest is looked up.

    The beginning of an epoch is a small window already, and stays whole.
    """
    for part in itertools.islice(wanted, 1):
        cut = len(part.numbers) if part.window.is_beginning else EARLY_SAMPLES
        yield WindowPart(part.window, part.numbers[:cut])
        if part.numbers[cut:]:
            yield WindowPart(part.window, part.numbers[cut:])
    yield from wanted


class _Ready(NamedTuple):
    """Samples whose content is near, and what reads them one by one, if anything does."""

    numbers: Sequence[int]
    read: ReadSamples | None


class PartReader:
    """Reads the samples of parts for one reader of an epoch, ahead of who takes them.

    `skipped` is told keys and errors of the samples that were left out. Windows are got ready as
    many as `ahead` before they are read.
    """

    def __init__(
        self,
        samples: SampleSet,
        on_damage: OnDamage,
        skipped: Callable[[str, DvError], None],
        ahead: int = 1,
    ) -> None:
        self._ahead = ahead
        self._samples = samples
        self._raises = on_damage == "raise"
        self._skipped = skipped
        self._fetched: Window | None = None

    def read(self, wanted: Iterator[WindowPart], *, unfetched: bool) -> Iterator[Sample | None]:
        """Yield the samples of parts in order, None for one that was skipped.

        Windows are fetched while one before them is in use. Of a window that is near, some
        megabytes are read ahead; if it is compressed, all that is wanted of it. With `unfetched`
        the first samples do not wait for their window, and are read by themselves.
        """
        reading = ThreadPoolExecutor(1, thread_name_prefix="dv-stream")
        fetching = ThreadPoolExecutor(self._ahead, thread_name_prefix="dv-stream-fetch")
        try:
            pieces = self._pieces(start_early(wanted), fetching, unfetched)
            following = reading.submit(next, pieces, None)
            while (piece := following.result()) is not None:
                following = reading.submit(next, pieces, None)
                yield from piece
        finally:
            for executor in (reading, fetching):
                executor.shutdown(wait=False, cancel_futures=True)

    def _pieces(
        self, wanted: Iterator[WindowPart], fetching: ThreadPoolExecutor, unfetched: bool
    ) -> Iterator[list[Sample | None]]:
        """Yield the samples of parts: some at a time, or all of a part."""

        following: deque[Future[_Ready]] = deque()

        def begin(count: int) -> None:
            for part in itertools.islice(wanted, max(count - len(following), 0)):
                following.append(fetching.submit(self._get_ready, part, self._unfetched(part)))

        early = next(wanted, None)
        if early is None:
            return
        first = _Ready(early.numbers, self._samples.direct(early.numbers)) if unfetched else None
        first = first or self._get_ready(early, self._unfetched(early))
        pieces = self._read(first)
        if early.window.is_beginning:  # which is near now, so what is read first takes no time
            yield from itertools.islice(pieces, EARLY_PIECES)
        begin(1)  # others would come in the way of the first samples
        yield from pieces
        begin(self._ahead)
        while following:
            ready = following.popleft().result()
            begin(self._ahead)
            yield from self._read(ready)

    def _unfetched(self, part: WindowPart) -> Window | None:
        """Return the window of a part, None if that of the part before it is the same."""
        window = part.window if part.window is not self._fetched else None
        self._fetched = part.window
        return window

    def _get_ready(self, part: WindowPart, window: Window | None) -> _Ready:
        """Fetch a window, if one is given, and look up the samples of a part of it."""
        try:
            return _Ready(part.numbers, self._samples.direct(part.numbers, window))
        except UNREADABLE:
            return _Ready(part.numbers, None)  # reading tells which samples it is

    def _read(self, ready: _Ready) -> Iterator[list[Sample | None]]:
        if ready.read is None:
            yield self._read_together(ready.numbers)
            return
        for numbers in self._in_pieces(ready.numbers):
            try:
                piece: list[Sample | None] = list(ready.read(numbers))
            except UNREADABLE:
                piece = self._read_together(numbers)
            yield piece

    def _in_pieces(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        """Cut samples, given by number, into pieces of about `PIECE_BYTES`."""
        ends = self._samples.sizes.ends
        begin = size = 0
        for index, number in enumerate(numbers, 1):
            size += ends[number] - (ends[number - 1] if number else 0)
            if size >= PIECE_BYTES or index == len(numbers):
                yield numbers[begin:index]
                begin, size = index, 0

    def _read_together(self, numbers: Sequence[int]) -> list[Sample | None]:
        """Read samples, given in any order and perhaps several times; return them in that order."""
        ascending = sorted(set(numbers))
        try:
            read: list[Sample | None] = list(self._samples.read(ascending))
        except UNREADABLE:
            read = self._read_sound(ascending)
        held = dict(zip(ascending, read, strict=True))
        return [held[number] for number in numbers]

    def _read_sound(self, numbers: Sequence[int]) -> list[Sample | None]:
        """Read samples; one that cannot be read, which halving finds, is raised or None."""
        try:
            return list(self._samples.read(numbers))
        except UNREADABLE as error:
            if len(numbers) > 1:
                half = len(numbers) // 2
                return self._read_sound(numbers[:half]) + self._read_sound(numbers[half:])
            key = self._samples.key(numbers[0])
            if self._raises:
                error.args = (f"sample {printable(key)} cannot be read: {error}",)
                error.hint = error.hint or DAMAGE_HINT
                raise
            self._skipped(key, error)
            return [None]
