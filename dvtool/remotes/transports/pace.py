"""How many requests a remote gets at once: fewer as soon as it says that it is busy.

The number grows by one for each round of successes and is halved when the remote is busy
(additive increase, multiplicative decrease), as TCP finds its share of a link that it does not
know: D. Chiu and R. Jain, "Analysis of the increase and decrease algorithms", 1989.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from dvtool.errors import RemoteBusy, RemoteStalled
from dvtool.system.calls import check_stopped
from dvtool.system.logs import Log

_LOG = Log("remotes")
REQUESTS_START = 8
REQUESTS_MAX = 16
PAUSE_S = 0.5
"""The pause after the remote said that it is busy, unless it names a time."""

LOOK_EVERY_S = 0.5
"""How often a waiting request looks whether its caller still waits for it."""


class Pace:
    """The requests that all users of one remote may have under way together.

    `start` of them at first, at most `most`. One Pace serves any number of threads.
    """

    def __init__(
        self,
        *,
        start: int = REQUESTS_START,
        most: int = REQUESTS_MAX,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= start <= most:
            raise ValueError(f"a pace of {start} of at most {most} requests is none")
        self.clock = clock
        self._most = most
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._limit = start
        self._under_way = 0
        self._successes = 0
        self._slowed_s = self._resumes_s = float("-inf")

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return self._limit

    @contextlib.contextmanager
    def turn(self, *, counts: bool = True) -> Iterator[None]:
        """Wait until one more request may begin; how it ends sets the pace of the next ones.

        RemoteBusy and RemoteStalled slow down, other errors tell nothing about the pace. Without
        `counts`, neither does success: what is done in this turn may need no request.
        """
        began_s = self._begin()
        try:
            yield
        except RemoteBusy as error:
            after_s = error.retry_after_s
            self._slow_down(began_s, self._pause_s if after_s is None else after_s)
            raise
        except RemoteStalled:
            self._slow_down(began_s, 0.0)
            raise
        else:
            if counts:
                self._speed_up()
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def _begin(self) -> float:
        with self._changed:
            while True:
                now_s = self.clock()
                wait_s = self._resumes_s - now_s
                if wait_s <= 0 and self._under_way < self._limit:
                    self._under_way += 1
                    return now_s
                check_stopped()
                self._changed.wait(min(wait_s, LOOK_EVERY_S) if wait_s > 0 else LOOK_EVERY_S)

    def _slow_down(self, began_s: float, pause_s: float) -> None:
        with self._changed:
            now_s = self.clock()
            self._resumes_s = max(self._resumes_s, now_s + pause_s)
            # A request that was under way when the pace was halved says nothing about the new pace.
            if began_s > self._slowed_s:
                self._slowed_s = now_s
                self._limit = max(1, self._limit // 2)
                _LOG.note("at most %d requests at once from now on: it is too busy", self._limit)
                self._successes = 0

    def _speed_up(self) -> None:
        with self._changed:
            # A pace counts as borne by the remote only if it was fully used.
            if self._under_way < self._limit or self._limit == self._most:
                return
            self._successes += 1
            if self._successes >= self._limit:
                self._successes = 0
                self._limit += 1
                self._changed.notify()
