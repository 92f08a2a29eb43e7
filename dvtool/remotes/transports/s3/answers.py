"""Reading the answers of a store: bodies, their sizes and ranges, listings and checksums.

A store is foreign: each answer is checked to be one to the request that was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from dvtool.errors import RemoteError, RemoteTransient, printable
from dvtool.remotes.transports.base import ObjectInfo, ObjectShort, RoomySink, Sink, has_room
from dvtool.remotes.transports.s3.connections import receiver_of
from dvtool.remotes.transports.s3.errors import (
    HINT_ENDPOINT,
    RangeBeyondEnd,
    Translation,
    text_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

BODY_BLOCK_BYTES = 1 << 20
KEY_SIZE_MAX_BYTES = 1024
"""The longest key that S3 allows."""
_RANGE = re.compile(r"bytes (\d+)-")
_ODD_KEY = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.\.?(?:/|$)|^/")
# Some stores keep "aws-chunked", which says how an upload was sent, as a property of the object.
_ENCODINGS = frozenset({"", "identity", "aws-chunked"})
_MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Reads the answers of the store at `url`, where all our keys begin with `key_prefix`."""

    url: str
    key_prefix: str
    errors: Translation

    def objects_of(self, page: ListObjectsV2OutputTypeDef, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects of a page; RemoteError for a key that nobody should use."""
        for row in page.get("Contents", ()):
            name, size = row.get("Key"), row.get("Size", -1)
            if name is None or size < 0:
                raise RemoteError(
                    f"{self.url}: the store lists {printable(name or 'an object')!r} without"
                    f" {'a size' if name else 'a key'}",
                    hint=HINT_ENDPOINT,
                )
            if _ODD_KEY.search(name) or len(name.encode("utf-8", "replace")) > KEY_SIZE_MAX_BYTES:
                raise RemoteError(
                    f"{self.url}: the store lists an object called {text_of(name)!r}",
                    hint="remove it, or use a prefix of its own for dvtool",
                )
            key = name.removeprefix(self.key_prefix)
            # Not an object of ours: a folder marker, or a store that is loose about prefixes.
            if name.startswith(self.key_prefix + prefix) and key and not key.endswith("/"):
                written = row.get("LastModified")
                written_s = None if written is None else written.timestamp()
                yield ObjectInfo(key, size, md5_of_etag(row.get("ETag")), modified_s=written_s)

    def check_encoding(self, key: str, answer: GetObjectOutputTypeDef) -> None:
        """RemoteError for a body that would have to be unpacked."""
        encoding = answer.get("ContentEncoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            # Unpacking could make any amount of bytes of a few. Objects of ours have no encoding.
            raise RemoteError(
                f"{self.url}: the store sends {printable(key)} encoded as {text_of(encoding)!r},"
                " which was not asked for",
                hint=HINT_ENDPOINT,
            )

    def check_range(
        self, key: str, answer: GetObjectOutputTypeDef, offset: int, size: int | None
    ) -> int:
        """Return the length of the body that follows, having checked that it is what we asked."""
        announced = self.announced(key, answer)
        if offset or size is not None:
            match = _RANGE.match(answer.get("ContentRange", ""))
            if match is None or int(match[1]) != offset:
                raise RemoteError(
                    f"{self.url}: the store does not answer a request for a range of"
                    f" {printable(key)} with that range",
                    hint=HINT_ENDPOINT,
                )
        if size is not None and announced != size:
            kind = ObjectShort if announced < size else RemoteTransient
            raise kind(
                f"{self.url}: asked for {size:,} bytes of {printable(key)} from {offset:,},"
                f" the store announces {announced:,}"
            )
        return announced

    def announced(self, key: str, answer: GetObjectOutputTypeDef | HeadObjectOutputTypeDef) -> int:
        """Return the size of the body, in bytes; RemoteTransient if the store does not say it."""
        # Without a length, a body that breaks off could not be told from a whole one.
        size = answer.get("ContentLength")
        if size is None or size < 0:
            raise RemoteTransient(f"{self.url}: the store announces no size for {printable(key)}")
        return size

    def copy_part(
        self,
        key: str,
        answer: GetObjectOutputTypeDef,
        sink: Sink,
        offset: int,
        size: int | None,
    ) -> int:
        """Write a range of an object of which the whole is coming; return how many bytes."""
        announced = self.announced(key, answer)
        wanted = announced - offset if size is None else size
        if wanted < 0 or offset + wanted > announced:
            raise RangeBeyondEnd(
                f"{self.url}: {printable(key)} has {announced:,} bytes and ends before the range"
                " that was asked for"
            )
        window = _Window(sink, offset, wanted)
        with contextlib.suppress(_Enough):
            self.copy(key, answer, window, announced)
        return wanted

    def copy(self, key: str, answer: GetObjectOutputTypeDef, sink: Sink, expected: int) -> int:
        """Write a whole body of `expected` bytes; RemoteTransient if it has another length."""
        body = answer["Body"]
        if has_room(sink) and (receive := receiver_of(body)) is not None:
            return self._receive(key, receive, sink, expected)
        written = 0
        while True:
            # The sink is written outside: its errors are the local disk's, not the remote's.
            with self.errors.about(key):
                data = body.read(BODY_BLOCK_BYTES)
            if not data:
                break
            if written + len(data) > expected:
                raise RemoteTransient(
                    f"{self.url}: more than the {expected:,} bytes announced for {printable(key)}"
                )
            sink.write(data)
            written += len(data)
        if written != expected:
            raise self._broke_off(key, written, expected)
        return written

    def _receive(
        self, key: str, receive: Callable[[memoryview], int], sink: RoomySink, expected: int
    ) -> int:
        written = 0
        while written < expected:
            room = sink.room(min(BODY_BLOCK_BYTES, expected - written))
            with self.errors.about(key):
                size = receive(room)
            if not size:
                raise self._broke_off(key, written, expected)
            sink.filled(size)
            written += size
        return written

    def _broke_off(self, key: str, written: int, expected: int) -> RemoteTransient:
        return RemoteTransient(
            f"{self.url}: {printable(key)} broke off after {written:,} of {expected:,} bytes"
        )


class _Enough(Exception):
    """A window is full."""


class _Window:
    """Passes the `size` bytes from `offset` of its input on to `sink`, then raises _Enough."""

    def __init__(self, sink: Sink, offset: int, size: int) -> None:
        self._sink = sink
        self._skip = offset
        self._left = size

    def write(self, data: bytes, /) -> None:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        part = data[skipped : skipped + self._left]
        if part:
            self._sink.write(part)
            self._left -= len(part)
        if not self._left:
            raise _Enough


def is_whole(answer: GetObjectOutputTypeDef) -> bool:
    """Tell whether a request for a range was answered with the whole object."""
    return (
        answer["ResponseMetadata"]["HTTPStatusCode"] == 200 and answer.get("ContentRange") is None
    )


def md5_and_size(body: bytes | BinaryIO) -> tuple[bytes, int]:
    """Return MD5 and size of a body; of a file, read from its start to its end."""
    # A transfer checksum that every store knows; content is named and proven by BLAKE3.
    md5 = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes):
        md5.update(body)
        return md5.digest(), len(body)
    size = 0
    body.seek(0)
    while block := body.read(BODY_BLOCK_BYTES):
        md5.update(block)
        size += len(block)
    return md5.digest(), size


def is_encrypted(answer: Mapping[str, Any]) -> bool:
    """Whether the store encrypts with keys of its own: ETags then look like an MD5 and are none."""
    return (
        answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    )


def md5_of_etag(etag: str | None) -> bytes | None:
    """Return the MD5 that an ETag states; None for one of another form (as of a multipart)."""
    match = _MD5_ETAG.fullmatch(etag or "")
    return bytes.fromhex(match[1]) if match else None
