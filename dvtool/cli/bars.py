"""Progress bars on a terminal: bytes, rate and time left."""

from __future__ import annotations

import threading
from typing import Any, TextIO

from tqdm import tqdm

from dvtool.errors import size_text
from dvtool.system.progress import Progress

DELAY_S = 0.3
"""Small work that ends sooner shows no bar."""
LARGE_MIN_BYTES = 64 << 20
"""The names of work that shows its bar at once: its first step may take long."""
_WITH_TOTAL = "{desc} {percentage:3.0f}% |{bar}| {done} of {whole}, {speed}, {remaining} left"
_WITHOUT_TOTAL = "{desc} {done}, {speed}"

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
        return fields


class Bars(Progress):
    """One bar for each phase of the work, gone when the phase is over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: _Bar | None = None

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        """Put up a bar, unless there is nothing to do."""
        self.finish()
        if total_bytes == 0:
            return
        large = total_bytes is not None and total_bytes >= LARGE_MIN_BYTES
        self._bar = _Bar(
            desc=what,
            total=total_bytes,
            file=self._stream,
            leave=False,
            delay=0 if large else DELAY_S,
            dynamic_ncols=True,
            bar_format=_WITHOUT_TOTAL if total_bytes is None else _WITH_TOTAL,
        )

    def advance(self, size: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(size)

    def finish(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
