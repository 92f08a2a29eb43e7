"""What a remote must be able to do, and nothing more.

Plain S3 is enough: GET with Range, PUT, LIST v2, HEAD, DELETE. A backend moves bytes under keys.
It knows nothing of packs or manifests, verifies no hashes and prints nothing. Keys are ASCII,
``/``-separated and relative (``packs/ab/…``); the backend puts its own prefix in front.

Errors, of every method: `ObjectMissing` (no such key), `RemoteForbidden` (refused),
`RemoteTransient` (worth another attempt), `RemoteError` (anything else).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the remote itself describes it. `size` is in bytes.

    `md5` is set where the store gives the MD5 of what it holds (S3's ETag, unless the store
    encrypts with keys of its own or assembled the object from parts). It guards against damage,
    not against forgery, which the BLAKE3 in the names of objects does.
    """

    key: str
    size: int
    md5: bytes | None = None


class Sink(Protocol):
    """Where downloaded bytes go: any writable binary file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


class Backend(Protocol):
    """A place that holds objects under keys. Methods may be called from several threads."""

    @property
    def url(self) -> str:
        """The remote as the user wrote it, for messages."""
        ...

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or `size` bytes of it from `offset`, to `sink`; return how many.

        A body that is shorter or longer than `size` (or, without `size`, than the length the
        remote announced) is `RemoteTransient`. Bytes already written to `sink` stay written.
        """
        ...

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object; more than `size_max` bytes is a `RemoteError`."""
        ...

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object, replacing what was there, visible only when complete.

        A file body is read from position 0 to its end; it may be rewound and read again. Returns
        what was stored; `md5` only if the store's own answer confirmed it.
        """
        ...

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Store a small object unless the key exists; False if it was there.

        Where the store has no conditional PUT this is HEAD, then PUT: two clients may then both
        write, so callers use it only where either body will do.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the remote says of one key, None if it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, in order of key.

        Reads as it goes: a caller that stops early spares the remaining requests.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        ...
