"""GETs over connections of their own, one after another on each: for large answers.

An answer is taken only in its plainest form: success, a length, and no encoding of the transfer.
Whatever else comes, the connection is closed, and the caller asks again in the usual way. Bytes
are received into memory of the caller, and a standstill is noticed as on any other connection.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util.connection import is_connection_dropped

from dvtool.remotes.transports.s3.connections import ReceivingBody, watched
from dvtool.remotes.transports.s3.exchanges import (
    HEAD_END,
    HEAD_SIZE_MAX_BYTES,
    NotPlain,
    plain_headers,
)

IDLE_MAX = 32
"""So many connections are kept for the next request."""
_HEAD_READ_BYTES = 4 << 10


class PlainAnswer(ReceivingBody):
    """A success: its status, its headers, names in lower case, and its body, received in order."""

    def __init__(self, connection: Any, idle: list[Any]) -> None:
        self._connection: Any = connection
        self._idle = idle
        self._received = watched(socket.SocketIO(connection.sock, "r"), connection.stall_s)
        head, self._first = self._split()
        self.status = int(head[9:12])
        self.headers: Mapping[str, str] = plain_headers(head)
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
            self._idle.append(connection)
        else:
            connection.close()


class PlainGets:
    """Sends GETs over connections that `connect` opens; it returns None where there is none."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._idle: list[Any] = []
        self._close = weakref.finalize(self, _close_all, self._idle)

    def send(self, text: bytes) -> PlainAnswer | None:
        """Send a request, return its answer; None if there is no connection to be had.

        NotPlain for an answer of another form, or none. Fails as urllib3 does if too little comes
        for too long.
        """
        connection = self._connected()
        if connection is None:
            return None
        with contextlib.ExitStack() as unless_answered:
            unless_answered.callback(connection.close)
            try:
                connection.sock.sendall(text)
                answer = PlainAnswer(connection, self._idle)
            except TimeoutError as error:
                raise ProtocolError(f"no answer: {error}", error) from error
            except (OSError, HTTPError, ValueError) as error:
                raise NotPlain from error
            unless_answered.pop_all()
            return answer

    def close(self) -> None:
        """Close the connections that no request uses."""
        _close_all(self._idle)

    def _connected(self) -> Any:
        for connection in _taken(self._idle):
            if not is_connection_dropped(connection):
                return connection
            connection.close()
        return self._connect()


def _taken(connections: list[Any]) -> Iterator[Any]:
    """Take connections out of a list, of which other threads may take and put some, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield connections.pop()


def _close_all(connections: list[Any]) -> None:
    for connection in _taken(connections):
        with contextlib.suppress(Exception):
            connection.close()
