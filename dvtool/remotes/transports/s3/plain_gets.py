"""GETs over connections of their own, one after another on each: for large answers.

An answer is taken only in its plainest form: success, a length, and no encoding of the transfer.
Whatever else comes, the caller asks again in the usual way; a store whose success has another form
is not asked so again. Bytes are received into memory of the caller, and a standstill is noticed as
on any other connection.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util.connection import is_connection_dropped

from dvtool.remotes.transports.s3.connections import ReceivingBody, watched
from dvtool.remotes.transports.s3.exchanges import (
    HEAD_END,
    HEAD_SIZE_MAX_BYTES,
    SUCCESS,
    NotPlain,
    sized_headers,
)
from dvtool.remotes.transports.s3.guard import ERROR_SIZE_MAX_BYTES

IDLE_MAX = 32
"""So many connections are kept for the next request."""
KEPT_MAX_S = 20.0
"""A connection that nobody used for so long is not used again: what is between may forget it."""
_HEAD_READ_BYTES = 4 << 10
_ERROR_MIN = 400


class _OddSuccess(NotPlain):
    """A success of another form than the plain one."""


class _KeptConnection(NamedTuple):
    """A connection that is kept: since when, and of which process it is."""

    connection: Any
    since_s: float
    pid: int

    @property
    def is_good(self) -> bool:
        """Whether it may be used: a child has copies of its parent's, which are not the child's."""
        return self.pid == os.getpid() and time.monotonic() - self.since_s <= KEPT_MAX_S


_Idle = collections.deque[_KeptConnection]
"""The connection that was kept last comes last; threads take and put some without a lock."""


class PlainAnswer(ReceivingBody):
    """An answer: its status, its headers, names in lower case, and its body, received in order."""

    def __init__(self, connection: Any, idle: _Idle) -> None:
        self._connection: Any = connection
        self._idle = idle
        self._pid = os.getpid()
        self._received = watched(socket.SocketIO(connection.sock, "r"), connection.stall_s)
        head, self._first = self._split()
        self.status = int(head[9:12])
        try:
            self.headers: Mapping[str, str] = sized_headers(head)
        except NotPlain:
            raise _OddSuccess if 200 <= self.status < 300 else NotPlain from None
        self._left = int(self.headers["content-length"])
        if len(self._first) > self._left:
            raise NotPlain

    def _split(self) -> tuple[bytes, memoryview]:
        """Receive up to the end of the head; return that, and what came of the body with it."""
        buffer, piece = bytearray(), bytearray(_HEAD_READ_BYTES)
        while (end := buffer.find(HEAD_END)) < 0:
            size = self._received.readinto(piece)
            if not size or len(buffer) > HEAD_SIZE_MAX_BYTES:
                raise NotPlain
            buffer += piece[:size]
        return bytes(buffer[:end]), memoryview(bytes(buffer[end + len(HEAD_END) :]))

    def receive(self, memory: memoryview) -> int:
        """Receive the next bytes of the body; 0 at its end, and where it breaks off.

        Fails as an answer of urllib3 does.
        """
        room = memory[: self._left]
        if self._first:
            size = min(len(self._first), len(room))
            room[:size], self._first = self._first[:size], self._first[size:]
        else:
            try:
                size = self._received.readinto(room) or 0 if room else 0
            except OSError as error:
                self.close()
                _close_all(self._idle)
                raise ProtocolError(f"connection broken: {error}", error) from error
        self._left -= size
        return size

    def read(self, size: int) -> bytes:
        """Return the next bytes of the body, as `receive` does."""
        data = bytearray(min(size, self._left))
        return bytes(memoryview(data)[: self.receive(memoryview(data))])

    def close(self) -> None:
        """Keep the connection for another request if all was received; else close it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        reusable = not self._left and self.headers.get("connection", "").lower() != "close"
        if reusable and len(self._idle) < IDLE_MAX:
            self._idle.append(_KeptConnection(connection, time.monotonic(), self._pid))
        else:
            connection.close()
        _close_old(self._idle)

    def drain(self) -> None:
        """Receive a short rest of the body, so that the connection can be kept; close."""
        if self._left <= ERROR_SIZE_MAX_BYTES:
            while self.read(_HEAD_READ_BYTES):
                pass
        self.close()


class PlainGets:
    """Sends GETs over connections that `connect` opens; it returns None where there is none.

    A child of a fork opens its own, and lets its parent's be.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._idle = _Idle()
        self._is_plain = True
        self._close = weakref.finalize(self, _close_all, self._idle)

    def send(self, text: bytes) -> PlainAnswer | None:
        """Send a request, return its success; None if there is no connection to be had.

        NotPlain for another answer, or none; None if a success was not plain before. Fails as
        urllib3 does if too little comes for too long, as `connect` does if that fails.
        """
        connection = self._connected() if self._is_plain else None
        if connection is None:
            return None
        with contextlib.ExitStack() as unless_answered:
            unless_answered.callback(connection.close)
            try:
                connection.sock.sendall(text)
                answer = PlainAnswer(connection, self._idle)
            except TimeoutError as error:
                _close_all(self._idle)  # or each further attempt waits for another as dead
                raise ProtocolError(f"no answer: {error}", error) from error
            except (OSError, HTTPError, ValueError) as error:
                _close_all(self._idle)
                raise NotPlain from error
            except _OddSuccess:
                self._is_plain = False
                raise
            if answer.status not in SUCCESS and answer.status < _ERROR_MIN:
                raise NotPlain  # after some of these, such as 100, another answer comes
            unless_answered.pop_all()
        if answer.status >= _ERROR_MIN:
            answer.drain()
            raise NotPlain
        return answer

    def close(self) -> None:
        """Close the connections that no request uses."""
        _close_all(self._idle)

    def _connected(self) -> Any:
        for kept in _taken(self._idle):
            if kept.is_good and not is_connection_dropped(kept.connection):
                return kept.connection
            kept.connection.close()
        return self._connect()


def _taken(idle: _Idle) -> Iterator[_KeptConnection]:
    """Take connections, the last one first, while other threads take and put some, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield idle.pop()


def _close_old(idle: _Idle) -> None:
    """Close the connections that were kept first, if they are not to be used."""
    with contextlib.suppress(IndexError):
        while not (oldest := idle.popleft()).is_good:
            oldest.connection.close()
        idle.appendleft(oldest)


def _close_all(idle: _Idle) -> None:
    for kept in _taken(idle):
        with contextlib.suppress(Exception):
            kept.connection.close()
