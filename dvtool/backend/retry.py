"""Trying again what fails for a moment: one wrapper for every backend.

The backends say what is worth another attempt (`RemoteTransient`); here it is decided how often
and how late. Waiting grows exponentially with full jitter, so that many clients that were turned
away together do not come back together
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from dvtool.backend.base import Backend, Features, ObjectInfo, Sink
from dvtool.errors import ObjectMissing, RemoteError, RemoteTransient

ATTEMPTS = 5
DEADLINE_S = 900.0
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 20.0

T = TypeVar("T")


class Retry:
    """`backend`, each operation tried up to `attempts` times while it fails with RemoteTransient.

    No attempt begins later than `deadline_s` seconds after the first. When all fail, the error is
    a plain RemoteError that says how many there were. `rng(low, high)` chooses the pauses.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        attempts: int = ATTEMPTS,
        deadline_s: float = DEADLINE_S,
        sleep: Callable[[float], object] = time.sleep,
        rng: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        self._backend = backend
        self._attempts = attempts
        self._deadline_s = deadline_s
        self._sleep = sleep
        self._rng = rng
        self._clock = clock

    @property
    def url(self) -> str:
        """The remote as the user wrote it, for messages."""
        return self._backend.url

    @property
    def features(self) -> Features:
        """What is known of the store by now."""
        return self._backend.features

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; each attempt goes on where the last ended.

        An object that is replaced between two attempts would come out mixed: read the few objects
        that are ever replaced with `get`, which starts afresh.
        """
        counted = _CountingSink(sink)

        def attempt() -> None:
            rest = None if size is None else size - counted.written
            if rest == 0:
                return
            self._backend.read_into(key, counted, offset=offset + counted.written, size=rest)

        self._repeat(attempt)
        return counted.written

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object."""
        return self._repeat(lambda: self._backend.get(key, size_max=size_max))

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object; a file body is rewound for each attempt."""

        def attempt() -> ObjectInfo:
            if not isinstance(body, bytes):
                body.seek(0)
            return self._backend.put(key, body)

        return self._repeat(attempt)

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

        return self._repeat(attempt)

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the remote says of one key, None if it is not there."""
        return self._repeat(lambda: self._backend.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, in order of key, each once.

        A listing that breaks off is begun again and what was yielded is passed over; each object
        further renews the attempts, since a long listing is many requests.
        """
        last = ""
        budget = self._budget()
        while True:
            try:
                for info in self._backend.list(prefix):
                    if info.key > last:
                        last = info.key
                        budget = self._budget()
                        yield info
                return
            except RemoteTransient as error:
                budget.wait_or_give_up(error)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        self._repeat(lambda: self._backend.delete(key))

    def _is(self, key: str, body: bytes) -> bool:
        found = self._backend.head(key)
        if found is None or found.size != len(body):
            return False
        try:
            return self._backend.get(key, size_max=len(body)) == body
        except ObjectMissing:
            return False

    def _repeat(self, call: Callable[[], T]) -> T:
        budget = self._budget()
        while True:
            try:
                return call()
            except RemoteTransient as error:
                budget.wait_or_give_up(error)

    def _budget(self) -> _Budget:
        return _Budget(self._attempts, self._deadline_s, self._sleep, self._rng, self._clock)


class _Budget:
    """The attempts and the time that one operation has left."""

    def __init__(
        self,
        attempts: int,
        deadline_s: float,
        sleep: Callable[[float], object],
        rng: Callable[[float, float], float],
        clock: Callable[[], float],
    ) -> None:
        self._attempts = attempts
        self._sleep = sleep
        self._rng = rng
        self._clock = clock
        self._failed = 0
        self._latest_s = clock() + deadline_s

    def wait_or_give_up(self, error: RemoteTransient) -> None:
        """Count a failed attempt and wait before the next, or raise if there is none left."""
        self._failed += 1
        pause_max_s = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** (self._failed - 1))
        pause_s = self._rng(0.0, pause_max_s)
        if self._failed >= self._attempts or self._clock() + pause_s > self._latest_s:
            times = "1 attempt" if self._failed == 1 else f"{self._failed} attempts"
            raise RemoteError(
                f"{error} (gave up after {times})",
                hint=error.hint or "check the network and the remote, then run the command again",
            ) from error
        self._sleep(pause_s)


class _CountingSink:
    """A sink that knows how many bytes it has taken."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.written = 0

    def write(self, data: bytes, /) -> None:
        self._sink.write(data)
        self.written += len(data)
