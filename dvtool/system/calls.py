"""The exchange with a call that runs in another thread: whether to stop, and how far it is."""

from __future__ import annotations

import threading

TELL_EVERY_S = 0.1
"""How often who waits for calls hears of the bytes that they have done."""
here = threading.local()
"""Of the thread: `stop`, an event, and `tally`, of the call of `run_bounded` that runs there."""


class Tally:
    """The bytes that one call has done so far: added by its own thread, told by the caller's."""

    __slots__ = ("done_bytes", "told_bytes")

    def __init__(self) -> None:
        self.done_bytes = 0
        self.told_bytes = 0

    def untold(self, size: int) -> int:
        """Return the bytes done since the last time, of `size` in all: never more than these.

        A negative number if something has to be done again.
        """
        told = min(self.done_bytes, size)
        new, self.told_bytes = told - self.told_bytes, told
        return new


class Stopped(Exception):
    """A transfer was given up, since nobody waits for its result any more."""


def count(size: int) -> None:
    """Say in a call of `run_bounded` that so many bytes more are done, or (negative) undone."""
    tally = getattr(here, "tally", None)
    if tally is not None:
        tally.done_bytes += size


def check_stopped() -> None:
    """Raise `Stopped` in a transfer that `run_bounded` no longer waits for."""
    stop = getattr(here, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def pause(seconds: float) -> None:
    """Sleep, but raise `Stopped` at once in a transfer that is no longer waited for."""
    stop = getattr(here, "stop", None)
    if stop is None:
        threading.Event().wait(seconds)
    elif stop.wait(seconds):
        raise Stopped
