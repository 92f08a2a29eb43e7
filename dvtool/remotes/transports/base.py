"""The operations that a remote must offer, and nothing more.

Plain S3 is enough: GET with Range, PUT, LIST v2, HEAD, DELETE. A backend moves bytes under keys.
It knows nothing of packs or manifests, verifies no hashes and prints nothing. Keys are ASCII,
``/``-separated and relative (``packs/ab/…``); the backend puts its own prefix in front.

Errors, of every method: `ObjectMissing` (no such key), `RemoteForbidden` (refused),
`RemoteTransient` (worth another attempt; `ObjectShort` if an object ended before the range that
was asked for), `RemoteError` (anything else).

A store may forbid listing. `list` is then `RemoteForbidden`, and the other methods keep their
contract: what is not there is missing, even where the store answers "forbidden" instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeGuard, runtime_checkable

from dvtool.errors import RemoteTransient


class ObjectShort(RemoteTransient):
    """An object ended before the range that was asked for: maybe it is shorter than believed."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features that a store was seen to have; None is not known yet. A hint: stores change.

    The rates are measured by `dv doctor`.
    """

    conditional_put: bool | None = None
    """Whether If-None-Match is honoured, rather than refused or passed over."""
    ranged_get: bool | None = None
    """Whether a range is answered with that range, rather than with the whole object."""
    content_md5: bool | None = None
    """Whether a PUT may state its Content-MD5."""
    md5_etag: bool | None = None
    """Whether the ETag of an object is its MD5."""
    list_allowed: bool | None = None
    """Whether these credentials may list."""
    delete_allowed: bool | None = None
    """Whether these credentials may delete."""
    latency_s: float | None = None
    """Seconds until a small request is answered."""
    down_bytes_per_s: float | None = None
    """Bytes a second when reading."""
    up_bytes_per_s: float | None = None
    """Bytes a second when writing."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """A store's statements about itself; None where it makes none or may not be asked.

    `clock_ahead_s` is by how much this machine's clock is ahead of the store's.
    """

    server: str | None = None
    clock_ahead_s: float | None = None
    versioning: bool | None = None
    object_lock: bool | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the remote itself describes it. `size` is in bytes.

    `md5` is set where the store gives the MD5 of what it holds (S3's ETag, unless the store
    encrypts with keys of its own or assembled the object from parts). It guards against damage,
    not against forgery, which the BLAKE3 in the names of objects does. `modified_s` is when the
    object was written, in seconds since 1970 by the store's own clock, where a listing says so.
    """

    key: str
    size: int
    md5: bytes | None = None
    modified_s: float | None = field(default=None, compare=False)


class Sink(Protocol):
    """The destination of downloaded bytes: any writable binary file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


class RoomySink(Sink, Protocol):
    """A sink that has memory for what comes, into which a backend may receive without a copy."""

    def room(self, size: int, /) -> memoryview:
        """Return memory for the next `size` bytes."""
        ...

    def filled(self, size: int, /) -> None:
        """Take the first `size` bytes of the last room, as if they had been written."""
        ...

    def stated(self, md5: bytes | None, /) -> None:
        """Hear, before the bytes of an answer, which MD5 the store states of the whole object.

        None if it states none. A backend whose store never states one need not call this.
        """
        ...


def has_room(sink: Sink) -> TypeGuard[RoomySink]:
    """Whether a sink is a `RoomySink`; `isinstance` of a protocol takes 50 times as long."""
    return hasattr(sink, "room")


class Backend(Protocol):
    """A place that holds objects under keys. Methods may be called from several threads."""

    @property
    def url(self) -> str:
        """The remote as the user wrote it, for messages."""
        ...

    @property
    def features(self) -> Features:
        """The known features of the store: those remembered, and those that answers have shown."""
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


@runtime_checkable
class SelfDescribing(Protocol):
    """A backend whose store can be asked about itself."""

    def facts(self) -> StoreFacts:
        """Ask the store about itself: a few requests. Fails as every method does."""
        ...


@runtime_checkable
class Copying(Protocol):
    """A backend whose objects the system can copy to files of this machine."""

    def copy_into(self, key: str, file: BinaryIO, *, size: int) -> bool:
        """Copy the first `size` bytes of an object to the start of an empty file.

        False, with the file as it was, if it cannot be done. Fails as `read_into` does.
        """
        ...


@runtime_checkable
class Sweeping(Protocol):
    """A backend where an interrupted write leaves a file behind."""

    def sweep_unfinished(self, *, older_than_s: float) -> int:
        """Remove unfinished files of at least that age; return how many bytes they had."""
        ...
