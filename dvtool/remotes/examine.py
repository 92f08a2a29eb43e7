"""Tries out what one store can do and what it permits: for `dv doctor --remote`.

No object of the remote is changed. To try writing, an object of random name is written under
``probe/`` and removed again; none is written where it could not be removed, nor beside the objects
of others. Each operation is one attempt, so give a backend without `Retry`.
"""

from __future__ import annotations

import os
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from dvtool.errors import DvError
from dvtool.remotes.objects import MARK, Mark
from dvtool.remotes.remote import PROBES, RemoteStore
from dvtool.remotes.transports.base import Backend, Features, SelfDescribing, StoreFacts

HEADS = 5
UP_SIZE_BYTES = 4 << 20
DOWN_SIZE_MAX_BYTES = 8 << 20
NOTE_SIZE_BYTES = 64

Deed: TypeAlias = Literal["list", "write", "read", "delete"]


@dataclass(frozen=True, slots=True)
class Examination:
    """The result. `done` are the operations that worked, `refused` the others, and why.

    `stranger` is the key of an object of somebody else, in a place without a dv.json.
    """

    mark: Mark | None
    stranger: str | None
    facts: StoreFacts
    features: Features
    done: frozenset[Deed]
    refused: tuple[tuple[Deed, DvError], ...]


def examine(backend: Backend) -> Examination:
    """Try a store out; if the first request fails, its error: the store cannot be reached."""
    return _Trial(backend).run()


class _Trial:
    """One examination under way."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._rates: dict[str, float] = {}
        self._done: set[Deed] = set()
        self._refused: dict[Deed, DvError] = {}

    def run(self) -> Examination:
        mark = RemoteStore(self._backend).mark()
        facts = self._facts()
        self._rates["latency_s"] = self._latency_s()
        if mark is not None:
            self._done.add("read")
        pack, stranger = self._listed()
        stranger = stranger if mark is None else None
        if stranger is None:
            self._write(facts)
        if pack is not None:
            self._download(*pack)
        return Examination(
            mark,
            stranger,
            facts,
            self._features(),
            frozenset(self._done),
            tuple(self._refused.items()),
        )

    def _features(self) -> Features:
        deleted = "delete" in self._done
        return replace(
            self._backend.features,
            delete_allowed=deleted if deleted or "delete" in self._refused else None,
            latency_s=self._rates.get("latency_s"),
            down_bytes_per_s=self._rates.get("down_bytes_per_s"),
            up_bytes_per_s=self._rates.get("up_bytes_per_s"),
        )

    @contextmanager
    def _deed(self, deed: Deed) -> Iterator[None]:
        """Record whether the operation in the block works."""
        try:
            yield
        except DvError as error:
            self._refused[deed] = error
        else:
            self._done.add(deed)

    def _facts(self) -> StoreFacts:
        return self._backend.facts() if isinstance(self._backend, SelfDescribing) else StoreFacts()

    def _latency_s(self) -> float:
        took = []
        for _ in range(HEADS):
            begun = time.perf_counter()
            self._backend.head(MARK)
            took.append(time.perf_counter() - begun)
        return statistics.median(took)

    def _listed(self) -> tuple[tuple[str, int] | None, str | None]:
        """Return key and size of a pack to read, and the key of something that is no probe."""
        pack = other = None
        with self._deed("list"):
            for info in self._backend.list("packs/"):
                pack = info.key, info.size
                break
            for info in self._backend.list(""):
                if not info.key.startswith(PROBES):
                    other = info.key
                    break
        return pack, other

    def _write(self, facts: StoreFacts) -> None:
        key = f"{PROBES}{secrets.token_hex(16)}"
        with self._deed("delete"):
            self._backend.delete(key)  # an absent object is no error
        if "delete" not in self._done or facts.object_lock:
            return
        # Of nothing, even one who may not delete can be rid.
        self._done.discard("delete")
        try:
            note = os.urandom(NOTE_SIZE_BYTES)
            with self._deed("write"):
                self._backend.put_if_absent(key, note)
            if "write" in self._done:
                with self._deed("read"):
                    self._backend.read_into(key, _Nowhere(), offset=1, size=NOTE_SIZE_BYTES // 2)
                if not facts.versioning:  # else each run would leave an old version behind
                    self._upload(key)
        finally:
            with self._deed("delete") if "write" in self._done else suppress(DvError):
                self._backend.delete(key)

    def _upload(self, key: str) -> None:
        body = os.urandom(UP_SIZE_BYTES)
        with self._deed("write"):
            begun = time.perf_counter()
            self._backend.put(key, body)
            self._rates["up_bytes_per_s"] = len(body) / (time.perf_counter() - begun)
        if "write" in self._done:
            self._download(key, len(body))

    def _download(self, key: str, size: int) -> None:
        size = min(size, DOWN_SIZE_MAX_BYTES)
        with self._deed("read"):
            begun = time.perf_counter()
            read = self._backend.read_into(key, _Nowhere(), offset=0, size=size)
            self._rates["down_bytes_per_s"] = read / (time.perf_counter() - begun)


class _Nowhere:
    """A sink for bytes that are only timed."""

    def write(self, data: bytes, /) -> None:
        pass
