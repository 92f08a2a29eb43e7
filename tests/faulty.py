"""A backend that fails on demand, for tests: real parts and a faulty wrapper, no mocks."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from dvtool.errors import RemoteTransient
from dvtool.remotes.transports.base import Backend, Features, ObjectInfo, Sink

T = TypeVar("T")


def injected() -> RemoteTransient:
    return RemoteTransient("injected")


class Faulty:
    """`backend`, whose operation `on` fails `times` times (None: always) after `skip` good calls.

    `after`: the work is done first and only its answer is lost. `cut_at`: so many bytes of a
    read, or objects of a listing, arrive before the failure. `calls` counts every operation.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        on: str,
        times: int | None = 1,
        skip: int = 0,
        after: bool = False,
        cut_at: int | None = None,
        error: Callable[[], BaseException] = injected,
    ) -> None:
        self.backend = backend
        self.calls: Counter[str] = Counter()
        self._on = on
        self._times = times
        self._skip = skip
        self._after = after
        self._cut_at = cut_at
        self._error = error
        self._lock = threading.Lock()
        self._good = 0
        self._quiet = threading.Condition(self._lock)

    @property
    def url(self) -> str:
        return self.backend.url

    @property
    def features(self) -> Features:
        return self.backend.features

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        fails = self._fails("read_into")
        if fails and self._cut_at is None and not self._after:
            raise self._error()
        if not fails or self._after:
            written = self.backend.read_into(key, sink, offset=offset, size=size)
            if fails:
                raise self._error()
            return written
        whole = io.BytesIO()
        self.backend.read_into(key, whole, offset=offset, size=size)
        sink.write(whole.getvalue()[: self._cut_at])
        raise self._error()

    def get(self, key: str, *, size_max: int) -> bytes:
        return self._call("get", lambda: self.backend.get(key, size_max=size_max))

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        return self._call("put", lambda: self.backend.put(key, body))

    def put_if_absent(self, key: str, body: bytes) -> bool:
        return self._call("put_if_absent", lambda: self.backend.put_if_absent(key, body))

    def head(self, key: str) -> ObjectInfo | None:
        return self._call("head", lambda: self.backend.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        fails = self._fails("list")
        if fails and not self._cut_at:
            raise self._error()
        for number, info in enumerate(self.backend.list(prefix)):
            if fails and number == self._cut_at:
                raise self._error()
            yield info

    def delete(self, key: str) -> None:
        self._call("delete", lambda: self.backend.delete(key))

    def _call(self, name: str, call: Callable[[], T]) -> T:
        fails = self._fails(name)
        if fails and not self._after:
            # A failure ends what is under way beside it. The good calls come first, as they say.
            with self._quiet:
                assert self._quiet.wait_for(lambda: not self._good, timeout=60)
            raise self._error()
        try:
            result = call()
        finally:
            if not fails:
                with self._quiet:
                    self._good -= name == self._on
                    self._quiet.notify_all()
        if fails:
            raise self._error()
        return result

    def _fails(self, name: str) -> bool:
        with self._lock:
            self.calls[name] += 1
            if name != self._on:
                return False
            number = self.calls[name] - self._skip
            fails = number > 0 and (self._times is None or number <= self._times)
            self._good += not fails and name not in ("read_into", "list")
            return fails
