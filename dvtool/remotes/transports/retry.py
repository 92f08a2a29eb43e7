"""Retries of requests that fail for a moment: one wrapper for every backend.

The backends say what is worth another attempt (`RemoteTransient`); here it is decided how often
and how late. Waiting grows exponentially with full jitter, so that many clients that were turned
away together do not come back together
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). How many requests are
under way at once is up to the `Pace`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from dvtool.errors import ObjectMissing, RemoteBusy, RemoteError, RemoteTransient
from dvtool.remotes.transports.base import Backend, Features, ObjectInfo, RoomySink, Sink, has_room
from dvtool.remotes.transports.pace import Pace
from dvtool.system.calls import pause
from dvtool.system.logs import Log, Watch

ATTEMPTS = 5
BUSY_ATTEMPTS = 30
"""A busy remote is no broken one: it is asked more often, for as long as the deadline allows."""
DEADLINE_S = 900.0
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 20.0
PROGRESS_MIN_BYTES = 64 << 10
"""An attempt that received so many bytes renews the number of attempts."""
PROGRESS_BYTES_PER_S = 2 << 10
"""Received bytes put off the deadline as if they had come at this rate; less is a stall."""
ASK_FIRST_MIN_BYTES = 256 << 10
"""Before a body of this size is sent again, the remote is asked whether it arrived after all."""

T = TypeVar("T")
_LOG = Log("remotes")


class Attempts:
    """How often and how late something is tried again; see `Retry` for what the values mean."""

    def __init__(
        self,
        *,
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
        pace: Pace | None = None,
        sleep: Callable[[float], object] = pause,
        rng: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        self.pace = pace or Pace()
        self._attempts = attempts
        self._deadline_s = deadline_s
        self._sleep = sleep
        self._rng = rng

    def run(
        self, request: str, call: Callable[[], T], *, progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Return what `call` returns, tried again while it fails with RemoteTransient.

        `progress` says how many bytes came in all attempts together.
        """
        budget, watch = self.budget(request), Watch()
        while True:
            try:
                with self.pace.turn():
                    result = call()
                _LOG.note("%s: done in %s", request, watch)
                return result
            except RemoteTransient as error:
                budget.wait_or_give_up(error, received=progress())

    def budget(self, request: str) -> Budget:
        """Return the attempts and the time for one operation."""
        clock = self.pace.clock
        deadline_s = clock() + self._deadline_s
        return Budget(request, self._attempts, deadline_s, self._sleep, self._rng, clock)


class Retry:
    """`backend`, each operation tried up to `attempts` times while it fails with RemoteTransient.

    RemoteBusy is not counted among those; there may be `BUSY_ATTEMPTS` of it. No attempt begins
    later than `deadline_s` seconds after the first, or than what a read received puts that off.
    When all fail, the error is a plain RemoteError that says how many there were. `rng(low, high)`
    chooses the pauses, which end with `Stopped` if nobody waits for the transfer any more; `pace`
    has the clock.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
        pace: Pace | None = None,
        sleep: Callable[[float], object] = pause,
        rng: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._attempts = Attempts(
            attempts=attempts, deadline_s=deadline_s, pace=pace, sleep=sleep, rng=rng
        )
        self.pace = self._attempts.pace
        self._backend = backend
        self._repeat = self._attempts.run
        self._budget = self._attempts.budget

    @property
    def url(self) -> str:
        """The remote as the user wrote it, for messages."""
        return self._backend.url

    @property
    def features(self) -> Features:
        """The known features of the store."""
        return self._backend.features

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; each attempt goes on where the last ended.

        An object that is replaced between two attempts would come out mixed: read the few objects
        that are ever replaced with `get`, which starts afresh.
        """
        counted = _CountingRoom(sink) if has_room(sink) else _CountingSink(sink)

        def attempt() -> None:
            rest = None if size is None else size - counted.written
            if rest == 0:
                return
            self._backend.read_into(key, counted, offset=offset + counted.written, size=rest)

        self._repeat(f"read {key}", attempt, progress=lambda: counted.written)
        return counted.written

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object, read in one attempt from its first byte to its last."""
        return self._repeat(f"get {key}", lambda: self._backend.get(key, size_max=size_max))

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object; a file body is rewound for each attempt.

        When the answer to an attempt was lost, the remote is asked for the object before a large
        body is sent again: if it states the body's own MD5 and size, the first one did arrive.
        """
        lost = False

        def attempt() -> ObjectInfo:
            nonlocal lost
            arrived = self._arrived(key, body) if lost else None
            if arrived is not None:
                return arrived
            if not isinstance(body, bytes):
                body.seek(0)
            try:
                return self._backend.put(key, body)
            except RemoteBusy:
                raise
            except RemoteTransient:
                lost = True
                raise

        return self._repeat(f"put {key}", attempt)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Store a small object unless the key exists.

        When the answer to an attempt was lost, the next one may meet the object that it wrote
        itself. So after a failed attempt, an object with exactly our bytes counts as ours (True).
        Another client that wrote the same bytes in that moment cannot be told apart, which is
        harmless: callers learn that what is there is what they wanted there.
        """
        failed = False

        def attempt() -> bool:
            nonlocal failed
            try:
                return self._backend.put_if_absent(key, body) or (failed and self._is(key, body))
            except RemoteTransient:
                failed = True
                raise

        return self._repeat(f"put {key} if it is absent", attempt)

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the remote says of one key, None if it is not there."""
        return self._repeat(f"head {key}", lambda: self._backend.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, in order of key, each once.

        A listing that breaks off is begun again and what was yielded is passed over; each object
        further renews the attempts, since a long listing is many requests.
        """
        last, request = "", f"list {prefix}"
        budget = self._budget(request)
        while True:
            try:
                for info in self._paced(self._backend.list(prefix)):
                    if info.key > last:
                        last = info.key
                        budget = self._budget(request)
                        yield info
                return
            except RemoteTransient as error:
                budget.wait_or_give_up(error)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        self._repeat(f"delete {key}", lambda: self._backend.delete(key))

    def _arrived(self, key: str, body: bytes | BinaryIO) -> ObjectInfo | None:
        """Return what the remote says of `key` if that can be nothing but `body`."""
        size = len(body) if isinstance(body, bytes) else body.seek(0, os.SEEK_END)
        if size < ASK_FIRST_MIN_BYTES:
            return None
        try:
            info = self._backend.head(key)
        except RemoteTransient:
            raise
        except RemoteError:
            return None  # these credentials may not ask, but may write
        if info is None or info.md5 is None or info.size != size:
            return None
        return info if info.md5 == _md5_of(body) else None

    def _is(self, key: str, body: bytes) -> bool:
        info = self._backend.head(key)
        if info is None or info.size != len(body):
            return False
        try:
            return self._backend.get(key, size_max=len(body)) == body
        except ObjectMissing:
            return False

    def _paced(self, listing: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Yield what `listing` yields; a turn is taken for reading on, not while it is used."""
        while True:
            # Most objects were in the same answer as the one before.
            with self.pace.turn(counts=False):
                info = next(listing, None)
            if info is None:
                return
            yield info


class Budget:
    """The attempts and the time that one operation has left."""

    def __init__(
        self,
        request: str,
        attempts: int,
        deadline_s: float,
        sleep: Callable[[float], object],
        rng: Callable[[float, float], float],
        clock: Callable[[], float],
    ) -> None:
        self._request = request
        self._attempts = attempts
        self._deadline_s = deadline_s
        self._sleep = sleep
        self._rng = rng
        self._clock = clock
        self._count = self._failed = self._busy = 0
        self._received = 0

    def wait_or_give_up(self, error: RemoteTransient, *, received: int = 0) -> None:
        """Count a failed attempt and wait before the next, or raise if there is none left.

        `received` is how many bytes came in all attempts together.
        """
        self._count += 1
        if received >= self._received + PROGRESS_MIN_BYTES:
            self._received = received
            self._failed = self._busy = 0
        least_s = 0.0
        if isinstance(error, RemoteBusy):
            self._busy += 1
            least_s = error.retry_after_s or 0.0
        else:
            self._failed += 1
        doublings = min(self._failed + self._busy - 1, 10)
        pause_s = least_s + self._rng(0.0, min(PAUSE_MAX_S, PAUSE_FIRST_S * 2**doublings))
        latest_s = self._deadline_s + received / PROGRESS_BYTES_PER_S
        spent = self._failed >= self._attempts or self._busy >= BUSY_ATTEMPTS
        if spent or self._clock() + pause_s > latest_s:
            times = "1 attempt" if self._count == 1 else f"{self._count} attempts"
            _LOG.note("%s: given up after %s: %s", self._request, times, error)
            raise RemoteError(
                f"{error} (gave up after {times})",
                hint=error.hint or "check the network and the remote, then run the command again",
            ) from error
        _LOG.note("%s: waits %.1f s and tries again, since %s", self._request, pause_s, error)
        self._sleep(pause_s)


class _CountingSink:
    """A sink that knows how many bytes it has taken."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.written = 0

    def write(self, data: bytes, /) -> None:
        self._sink.write(data)
        self.written += len(data)


class _CountingRoom(_CountingSink):
    """The same of a sink that has memory for what comes."""

    _sink: RoomySink

    def room(self, size: int, /) -> memoryview:
        return self._sink.room(size)

    def filled(self, size: int, /) -> None:
        self._sink.filled(size)
        self.written += size

    def stated(self, md5: bytes | None, /) -> None:
        self._sink.stated(md5)


def _md5_of(body: bytes | BinaryIO) -> bytes:
    md5 = hashlib.md5(usedforsecurity=False)
    file = io.BytesIO(body) if isinstance(body, bytes) else body
    file.seek(0)
    while block := file.read(1 << 20):
        md5.update(block)
    return md5.digest()
