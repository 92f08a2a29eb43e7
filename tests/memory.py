"""A third transport, for tests: objects in this process's memory. One entry registers it.

``memory://NAME`` is the same place for everybody in the process. It has an option that is shared
with nobody, and one that is a secret.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO

from dvtool.errors import ObjectMissing, RemoteError, UsageError
from dvtool.remotes.transports.base import Features, ObjectInfo, ObjectShort, Sink, has_room
from dvtool.remotes.transports.declaration import (
    Option,
    RequestPrices,
    Transport,
    Value,
    matching,
    refuse_credentials,
)

NAMES: dict[str, dict[str, bytes]] = {}
"""What each place holds."""
OPENED: list[Mapping[str, Value]] = []
"""The options with which a place was opened, each time."""


class MemoryBackend:
    """Objects in `objects`, a dictionary that others may share."""

    def __init__(
        self, url: str, objects: dict[str, bytes], *, features: Features | None = None
    ) -> None:
        self._url = url
        self._objects = objects
        self._lock = threading.Lock()
        self._features = replace(
            features or Features(), conditional_put=True, ranged_get=True, md5_etag=True
        )

    @property
    def url(self) -> str:
        return self._url

    @property
    def features(self) -> Features:
        return self._features

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        body = self._body(key)
        end = len(body) if size is None else offset + size
        if offset > len(body) or end > len(body):
            raise ObjectShort(f"{self._url}: object {key} ends at {len(body):,} bytes")
        if has_room(sink):
            sink.stated(self._info(key, body).md5)
        sink.write(body[offset:end])
        return end - offset

    def get(self, key: str, *, size_max: int) -> bytes:
        body = self._body(key)
        if len(body) > size_max:
            raise RemoteError(f"{self._url}: object {key} has {len(body):,} bytes")
        return body

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        content = self._read(body)
        with self._lock:
            self._objects[key] = content
        return self._info(key, content)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = body
        return True

    def head(self, key: str) -> ObjectInfo | None:
        body = self._objects.get(key)
        return None if body is None else self._info(key, body)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            objects = sorted(self._objects.items())
        for key, body in objects:
            if key.startswith(prefix):
                yield self._info(key, body)

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)

    def _body(self, key: str) -> bytes:
        body = self._objects.get(key)
        if body is None:
            raise ObjectMissing(key, self._url)
        return body

    @staticmethod
    def _read(body: bytes | BinaryIO) -> bytes:
        if isinstance(body, bytes):
            return body
        body.seek(0)
        content = io.BytesIO()
        while block := body.read(1 << 20):
            content.write(block)
        return content.getvalue()

    @staticmethod
    def _info(key: str, body: bytes) -> ObjectInfo:
        return ObjectInfo(key, len(body), hashlib.md5(body, usedforsecurity=False).digest())


def _name_of(url: str) -> str:
    name = url.partition("://")[2]
    if not name.isalnum():
        raise UsageError(f"{url}: a place in memory has a name of letters and digits")
    return name


def _open(url: str, values: Mapping[str, Value], features: Features | None) -> MemoryBackend:
    OPENED.append(values)
    return MemoryBackend(url, NAMES.setdefault(_name_of(url), {}), features=features)


def _resolve(url: str, folder: str) -> str:
    _name_of(url)
    return url


def _may_be_committed(url: str, root: str | None) -> bool:
    return url.startswith("memory://")


MEMORY = Transport(
    noun="in memory",
    schemes=("memory",),
    url_form="in memory (memory://NAME)",
    committed_form="a memory:// URL",
    options=(
        Option(
            name="shelf",
            description="The shelf of the memory.",
            help="The shelf of the memory.",
            metavar="SHELF",
            committed=True,
            check=matching("[a-z]+", "is not a shelf"),
        ),
        Option(
            name="pass_word",
            description="What opens the memory.",
            help="What opens the memory.",
            metavar="WORD",
            committed=False,
            secret=True,
        ),
    ),
    open=_open,
    resolve=_resolve,
    check_setting=refuse_credentials,
    may_be_committed=_may_be_committed,
    prices=RequestPrices(1.0, 0.5, "the price of memories"),
)
