"""Reading an object of an origin to its end, whatever the network does in between."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from dvtool.errors import CorruptError, RemoteTransient, printable
from dvtool.remotes.origins.base import SIZE_UNKNOWN, Body, Origin, OriginObject
from dvtool.remotes.transports.retry import Attempts

READ_AT_ONCE_BYTES = 128 << 10
"""So much is read at once; a piece in which an answer breaks off is asked for again."""
T = TypeVar("T")


class ObjectReader(io.RawIOBase):
    """An object, or a range of it, as a file that goes on where an attempt broke off.

    Each attempt asks for the state that was listed, so the bytes are never of two states. Bytes
    that are more or fewer than the size that was listed are an error. `tell` is called with the
    number of bytes that came. `span` is the offset and the size of the range to read; it asks for
    all of an object without.
    """

    def __init__(
        self,
        origin: Origin,
        described: OriginObject,
        attempts: Attempts,
        tell: Callable[[int], object] | None = None,
        *,
        span: tuple[int, int] | None = None,
    ) -> None:
        self._origin = origin
        self._span = span
        self._described = described
        self._budget = attempts.budget(f"read {described.key}")
        self._tell = tell
        self._at = 0
        self._opened = contextlib.ExitStack()
        self._body: Body | None = None
        self.version = described.version
        """The version that the bytes are of, once some came, where the origin keeps versions."""
        self.settled_s: int | None = None
        """When the object had last been written, long enough before the bytes came that they are
        of no later state; 0 if the origin does not say so. None before the first bytes."""
        self._check = origin.content_check(described)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Fill a buffer with the next bytes; return how many, 0 at the end."""
        data = self._next(min(len(buffer), READ_AT_ONCE_BYTES))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        while True:
            try:
                data = self._attempt(size)
            except RemoteTransient as error:
                self._drop()
                self._budget.wait_or_give_up(error, received=self._at)
                continue
            self._at += len(data)
            self._look_at(data)
            if data and self._tell is not None:
                self._tell(len(data))
            return data

    def _look_at(self, data: bytes) -> None:
        """Take the next bytes into the check of the content; CorruptError if that fails."""
        if self._check is None:
            return
        self._check.update(data)
        if self._at == self._described.size or not data:
            check, self._check = self._check, None
            if not check.holds():
                raise CorruptError(
                    f"{self._origin.url}: {printable(self._described.key)} is not the content that "
                    f"its hash names ({self._described.tag})",
                    hint="the source is damaged there; see whether another copy of it is whole",
                )

    def _attempt(self, size: int) -> bytes:
        expected = self._described.size if self._span is None else self._span[1]
        if self._at == expected:
            if self._body is not None and self._body.read(1):  # its end gives the connection back
                raise self._broke_off(1)
            return b""
        if self._body is None:
            begin, length = self._span or (0, None)
            size_left = None if length is None else length - self._at
            opening = self._origin.open(self._described, offset=begin + self._at, size=size_left)
            self._body = self._opened.enter_context(opening)
            self.version = getattr(self._body, "version", "")
            settled_s = getattr(self._body, "settled_s", 0)
            self.settled_s = settled_s if self.settled_s in (None, settled_s) else 0
        data = self._body.read(size)
        if expected == SIZE_UNKNOWN:
            return data
        if not data or self._at + len(data) > expected:
            raise self._broke_off(len(data))
        return data

    def _broke_off(self, more: int) -> RemoteTransient:
        expected = self._described.size if self._span is None else self._span[1]
        return RemoteTransient(
            f"{self._origin.url}: {printable(self._described.key)} ended after "
            f"{self._at + more:,} of {expected:,} bytes"
        )

    def _drop(self) -> None:
        self._body = None
        with contextlib.suppress(Exception):
            self._opened.close()

    def close(self) -> None:
        """Close the connection, if bytes are left to come."""
        if not self.closed:
            self._drop()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_whole(origin: Origin, described: OriginObject, attempts: Attempts) -> bytes:
    """Return all bytes of a small object."""
    with ObjectReader(origin, described, attempts) as reader:
        return b"".join(iter(lambda: reader._next(READ_AT_ONCE_BYTES), b""))


def read_at_most(
    origin: Origin, described: OriginObject, attempts: Attempts, size_max: int
) -> bytes | None:
    """Return all bytes of an object; None if it has more than `size_max`."""
    blocks: list[bytes] = []
    size = 0
    with ObjectReader(origin, described, attempts) as reader:
        while block := reader._next(READ_AT_ONCE_BYTES):
            size += len(block)
            if size > size_max:
                return None
            blocks.append(block)
    return b"".join(blocks)
