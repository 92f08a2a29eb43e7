"""Progress where there is no terminal: a line every ten seconds; and the timer of all progress."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from dvtool.errors import printable, size_text
from dvtool.system.heard import hear_signals
from dvtool.system.progress import Progress

LINE_EVERY_S = 10.0
"""How often a line is written where there is no terminal."""


class Ticker:
    """Calls a function now and then, in the main thread, by a timer of the system.

    A thread would do as well, but workers cannot begin as copies of a process that has several.
    Where there is no such timer, or another thread asks, nothing is called.
    """

    def __init__(
        self, every_s: float, call: Callable[[], None], *, first_s: float | None = None
    ) -> None:
        self._call = call
        self._before: Any = None
        self._on = False
        main = threading.current_thread() is threading.main_thread()
        if (
            main
            and hasattr(signal, "setitimer")
            and signal.getsignal(signal.SIGALRM)
            in (
                signal.SIG_DFL,
                signal.SIG_IGN,
            )
        ):
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, first_s or every_s, every_s)
            self._on = True
            hear_signals(True)

    def _ring(self, *_: object) -> None:
        # Whatever is wrong with a bar, the work goes on; a write that is under way is not entered.
        with contextlib.suppress(Exception):
            self._call()

    def stop(self) -> None:
        """Call it no more."""
        if self._on:
            self._on = False
            hear_signals(False)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)


class Lines(Progress):
    """A line every ten seconds, for logs: what is done, and how far it is."""

    def __init__(self, stream: TextIO, *, waiting: str = "working") -> None:
        self._stream = stream
        self._waiting = waiting
        self._what: str | None = None
        self._total: int | None = None
        self._done = 0
        self._since = self._said_s = time.monotonic()
        self._ticker: Ticker | None = None

    def begin(self) -> None:
        """Write lines from now on, until `end`."""
        self._ticker = Ticker(LINE_EVERY_S / 10, self._tick)

    def end(self) -> None:
        """Write no more."""
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        """Begin a phase."""
        self._what, self._total, self._done = printable(what), total_bytes, 0
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Say text in the place of bytes."""
        if self._what is not None:
            self._what = printable(text)

    def advance(self, size: int) -> None:
        """Take note of bytes that are done."""
        self._done += size

    def finish(self) -> None:
        """The phase is over."""
        self._what = None
        self._since = time.monotonic()

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._said_s < LINE_EVERY_S:
            return
        self._said_s = now
        self._stream.write(self.line(now - self._since) + "\n")
        self._stream.flush()

    def line(self, elapsed_s: float) -> str:
        """Return what is to be said after so many seconds of the phase."""
        what = self._what or self._waiting
        if self._what is None or not self._done:
            return f"{what}: {elapsed_s:.0f} s"
        rate = f"{size_text(int(self._done / max(elapsed_s, 1e-3)))}/s"
        if self._total is None:
            return f"{what}: {size_text(self._done)}, {rate}"
        share = 100 * self._done // max(self._total, 1)
        return f"{what}: {share}%, {size_text(self._done)} of {size_text(self._total)}, {rate}"
