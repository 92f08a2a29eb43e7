"""Progress bars on a terminal: bytes, rate and time left."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from typing import Any, TextIO

from tqdm import tqdm

from dvtool.cli.lines import Ticker
from dvtool.cli.output import progress_is_held, shown_beside
from dvtool.errors import printable, size_text
from dvtool.system.progress import Progress

DELAY_S = 0.3
"""A command that ends sooner shows nothing."""
TICK_S = 0.2
"""How often what is shown is drawn anew, also while nothing is heard of the work."""
SOON_S = 0.001
"""The least time to the first tick: a timer that is set to none is off."""
COLUMNS = 80
ROWS = 24
BAR_COLUMNS = 64
"""So many columns are left to all that is not the name of the work, where there is a bar."""
NUMBERS_COLUMNS = 52
"""So many where there are numbers alone, since the terminal has too few for name and bar."""
_WITH_TOTAL = "{desc} {percentage:3.0f}% |{bar}| {done} of {whole}, {speed}, {remaining} left"
_NARROW = "{desc} {percentage:3.0f}%, {done} of {whole}, {speed}, {remaining} left"
_WITHOUT_TOTAL = "{desc} {done}{speed}{elapsed}"

# tqdm's monitor is a thread, and its default lock a semaphore shared with child processes:
# neither is safe beside workers that are forked while a bar is up.
tqdm.monitor_interval = 0
tqdm.set_lock(threading.RLock())


class _Bar(tqdm):  # type: ignore[type-arg]
    """A tqdm whose sizes read as everywhere else in dv."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return tqdm's fields and, for `bar_format`, `done`, `whole` and `speed`."""
        fields: dict[str, Any] = dict(super().format_dict)
        rate = fields["rate"] or (fields["n"] / fields["elapsed"] if fields["elapsed"] else 0)
        fields["done"] = size_text(int(fields["n"]))
        fields["whole"] = size_text(int(fields["total"] or 0))
        fields["speed"] = f"{size_text(int(rate))}/s"
        if fields["total"] is None:
            fields["elapsed"] = 0  # tqdm's own formatting of it is not used
            fields["speed"] = f", {fields['speed']}" if fields["n"] else ""
            if not fields["n"]:
                fields["done"] = ""
        return fields


class Bars(Progress):
    """One bar for each phase of the work, gone when the phase is over.

    Between phases, and in those of which no bytes are known, the seconds are counted.
    `began_s` is when the command began, by `time.monotonic`; None stands for now.
    """

    def __init__(
        self, stream: TextIO, *, waiting: str = "working", began_s: float | None = None
    ) -> None:
        self._stream = stream
        self._waiting = waiting
        self._bar: _Bar | None = None
        self._shown = False
        self._since = time.monotonic()
        self._due_s = (self._since if began_s is None else began_s) + DELAY_S
        self._ticker: Ticker | None = None
        self._columns = COLUMNS
        self._note = ""

    def begin(self) -> None:
        """Show from now on that something is under way, until `end`."""
        shown_beside(self._hide)
        until_due_s = max(self._due_s - time.monotonic(), SOON_S)
        self._ticker = Ticker(TICK_S, self._tick, first_s=until_due_s)

    def end(self) -> None:
        """Show nothing any more."""
        self.finish()
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self._hide()
        shown_beside(None)

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        """Put up a bar, unless there is nothing to do."""
        self.finish()
        if total_bytes == 0:
            return
        self._columns = shutil.get_terminal_size((COLUMNS, ROWS)).columns
        if self._stream.isatty():
            with contextlib.suppress(OSError, ValueError):
                # Terminals that `script`, Docker and CI services make may say that they have none.
                said = os.get_terminal_size(self._stream.fileno()).columns
                self._columns = said or self._columns
        layout, used = _WITHOUT_TOTAL, 30
        if total_bytes is not None:
            wide = len(printable(what)) <= self._columns - BAR_COLUMNS
            layout, used = (_WITH_TOTAL, BAR_COLUMNS) if wide else (_NARROW, NUMBERS_COLUMNS)
        room = max(self._columns - used, 12)
        self._hide()
        self._since, self._note = time.monotonic(), ""
        self._bar = _Bar(
            desc=shortened(printable(what), room),
            total=total_bytes,
            file=self._stream,
            leave=False,
            delay=max(self._due_s - time.monotonic(), SOON_S),
            ncols=self._columns,
            nrows=ROWS,
            bar_format=layout,
        )

    def note(self, text: str) -> None:
        """Show text in the place of bytes."""
        if self._bar is not None:
            self._note = shortened(printable(text), max(self._columns - 12, 12))

    def advance(self, size: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(size)

    def finish(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.close()
            self._stream.write("\r")
            self._stream.flush()
            self._since, self._note = time.monotonic(), ""

    def _tick(self) -> None:
        now = time.monotonic()
        if progress_is_held() or now < self._due_s:
            return
        bar = self._bar
        if bar is not None and (bar.total is not None or bar.n):
            bar.refresh()
            return
        what = bar.desc.removesuffix(": ") if bar is not None else self._waiting
        what = self._note or what
        self._stream.write(f"\r{what} … {now - self._since:.0f} s\x1b[K")
        self._stream.flush()
        self._shown = True

    def _hide(self) -> None:
        """Wipe the line, so that something else can be printed there."""
        bar = self._bar
        if bar is None:
            self._since = time.monotonic()  # what is printed shows that something goes on
        if self._shown:
            self._shown = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        if bar is not None:
            bar.clear()


def shortened(text: str, columns: int) -> str:
    """Return a text of at most so many characters, without its middle if it was longer."""
    if len(text) <= columns:
        return text
    head = columns // 3
    return f"{text[:head]}…{text[len(text) - (columns - head - 1) :]}"
