"""Runs real code of several processes over one store in memory, one request at a time, in an order
that the test chooses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from dvtool.errors import DvError, ObjectMissing
from dvtool.remotes.transports.base import Features, ObjectInfo, Sink


class Memory:
    """Objects in a dictionary; each method is one atomic request, as of a store."""

    url = "memory"
    features = Features()

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        self.written_s = {key: time.time() for key in self.objects}

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        data = self._data(key)[offset:] if size is None else self._data(key)[offset : offset + size]
        sink.write(data)
        return len(data)

    def get(self, key: str, *, size_max: int) -> bytes:
        return self._data(key)

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        if not isinstance(body, bytes):
            body.seek(0)
            body = body.read()
        self.objects[key] = body
        self.written_s[key] = time.time()
        return ObjectInfo(key, len(body))

    def put_if_absent(self, key: str, body: bytes) -> bool:
        if key in self.objects:
            return False
        self.put(key, body)
        return True

    def head(self, key: str) -> ObjectInfo | None:
        return ObjectInfo(key, len(self.objects[key])) if key in self.objects else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = sorted(key for key in self.objects if key.startswith(prefix))
        return iter(
            [
                ObjectInfo(key, len(self.objects[key]), modified_s=self.written_s[key])
                for key in found
            ]
        )

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def _data(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissing(key, self.url)
        return self.objects[key]


class Killed(BaseException):
    """The process ends here, as by SIGKILL: nothing in it runs on."""


@dataclass
class Schedule:
    """Grants requests to processes, by name; keeps a record of what each asked for."""

    memory: Memory
    record: list[tuple[str, str, str]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiting: dict[str, int] = field(default_factory=dict)
    _granted: dict[str, threading.Semaphore] = field(default_factory=dict)
    _kill: set[str] = field(default_factory=set)
    results: dict[str, str] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, work: Callable[[Turns], str]) -> None:
        self._waiting[name] = 0
        self._granted[name] = threading.Semaphore(0)

        def run() -> None:
            try:
                result = work(Turns(self, name))
            except Killed:
                result = "killed"
            except DvError as error:
                result = f"{type(error).__name__}: {error}"
            with self._changed:
                self.results[name] = result
                self._changed.notify_all()

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()
        self._settle(name)

    def ended(self, name: str) -> bool:
        return name in self.results

    def grant(self, name: str) -> None:
        """Let a process make one request, and run on until it asks for another."""
        with self._changed:
            self._waiting[name] -= 1
        self._granted[name].release()
        self._settle(name)

    def kill(self, name: str) -> None:
        """End a process at its next request, which is not made."""
        self._kill.add(name)
        while not self.ended(name):
            self.grant(name)

    def finish(self, names: Sequence[str]) -> None:
        for name in names:
            while not self.ended(name):
                self.grant(name)

    def _settle(self, name: str) -> None:
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._waiting[name] > 0 or name in self.results, timeout=60
            )
        assert done, f"{name} hangs"

    def turn(self, name: str, kind: str, key: str) -> None:
        with self._changed:
            self._waiting[name] += 1
            self._changed.notify_all()
        self._granted[name].acquire()
        if name in self._kill:
            raise Killed
        self.record.append((name, kind, key))


class Turns:
    """The memory as one process sees it: every request waits for its turn."""

    url = "memory"
    features = Features()

    def __init__(self, schedule: Schedule, name: str) -> None:
        self._schedule = schedule
        self._name = name
        self._memory = schedule.memory

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        self._turn("read", key)
        return self._memory.read_into(key, sink, offset=offset, size=size)

    def get(self, key: str, *, size_max: int) -> bytes:
        self._turn("get", key)
        return self._memory.get(key, size_max=size_max)

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        self._turn("put", key)
        return self._memory.put(key, body)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        self._turn("put", key)
        return self._memory.put_if_absent(key, body)

    def head(self, key: str) -> ObjectInfo | None:
        self._turn("head", key)
        return self._memory.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._turn("list", prefix)
        return self._memory.list(prefix)

    def delete(self, key: str) -> None:
        self._turn("delete", key)
        self._memory.delete(key)

    def _turn(self, kind: str, key: str) -> None:
        self._schedule.turn(self._name, kind, key)
