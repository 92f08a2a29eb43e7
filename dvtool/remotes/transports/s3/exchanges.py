"""Many small requests side by side in one thread, each with the least that HTTP/1.1 asks for.

An answer is taken only in its plainest form: success, a length, and no encoding. Whatever else
comes, the connection is closed and nothing is said of it: the caller asks again in the usual way.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dvtool.system.logs import Log

_LOG = Log("remotes.s3")
EXCHANGES_AT_ONCE = 24
ANSWER_WITHIN_S = 30.0
"""A small answer that takes longer is left to the usual way, which tells slow from stalled."""
LATE_LOOK_EVERY_S = 1.0
HEAD_SIZE_MAX_BYTES = 64 << 10
QUICK_ANSWER_MAX_BYTES = 4 << 20
RECEIVED_AT_ONCE_BYTES = 256 << 10
SUCCESS = (200, 206)
HEAD_END = b"\r\n\r\n"
_WAIT = (BlockingIOError, InterruptedError)


class QuickAnswer(NamedTuple):
    """An answer: its headers, names in lower case, and its whole body."""

    headers: Mapping[str, str]
    body: bytes


class NotPlain(Exception):
    """An answer that is not of the plainest form."""


class _Exchange:
    """One connection, and the answer that comes over it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.sock = connection.sock
        self.sock.setblocking(False)
        self.number = -1
        self.until_s = 0.0
        self._received = bytearray()
        self._head: dict[str, str] | None = None
        self._end = 0

    def begin(self, number: int, text: bytes) -> bool:
        """Send a request; False if the connection does not take it."""
        self.number, self.until_s = number, time.monotonic() + ANSWER_WITHIN_S
        self._received, self._head = bytearray(), None
        try:
            return bool(self.sock.send(text) == len(text))
        except OSError:
            return False

    def go_on(self) -> QuickAnswer | None:
        """Read what has come; return the answer once it is whole. NotPlain, or an OSError."""
        while True:
            try:
                data = self.sock.recv(RECEIVED_AT_ONCE_BYTES)
            except _WAIT:
                return None
            except OSError as error:
                if type(error).__name__ == "SSLWantReadError":
                    return None
                raise
            if not data:
                raise NotPlain
            self._received += data
            answer = self._whole()
            if answer is not None:
                return answer
            if len(data) < RECEIVED_AT_ONCE_BYTES and not hasattr(self.sock, "pending"):
                return None  # of a plain socket, that was all that has come

    def _whole(self) -> QuickAnswer | None:
        if self._head is None:
            end = self._received.find(HEAD_END)
            if end < 0:
                if len(self._received) > HEAD_SIZE_MAX_BYTES:
                    raise NotPlain
                return None
            self._head = plain_headers(bytes(self._received[:end]))
            del self._received[: end + len(HEAD_END)]
            self._end = int(self._head["content-length"])
            if self._end > QUICK_ANSWER_MAX_BYTES:
                raise NotPlain
        if len(self._received) > self._end:
            raise NotPlain
        if len(self._received) < self._end:
            return None
        return QuickAnswer(self._head, bytes(self._received))

    @property
    def stays_open(self) -> bool:
        """Whether another request can follow the answer."""
        return self._head is not None and self._head.get("connection", "").lower() != "close"

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.close()


def plain_headers(head: bytes) -> dict[str, str]:
    """Return the headers of a plain success, names in lower case; NotPlain for all else."""
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")):
        raise NotPlain
    return sized_headers(head)


def sized_headers(head: bytes) -> dict[str, str]:
    """Return the headers of an answer that states its length, as `plain_headers` does."""
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 "):
        raise NotPlain
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise NotPlain
        name = name.lower()
        if name == "content-length" and name in headers:
            raise NotPlain
        headers[name] = value.strip()
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
        raise NotPlain
    return headers


class Exchanges:
    """Sends requests over connections that `connect` opens; it returns None where there is none.

    `texts` are the requests, by number; they are read as connections become free.
    """

    def __init__(self, connect: Callable[[], Any], texts: Iterable[tuple[int, bytes]]) -> None:
        self._connect = connect
        self._left = iter(texts)
        self._underway: set[_Exchange] = set()
        self._selector = selectors.DefaultSelector()

    def run(self) -> Iterator[tuple[int, QuickAnswer]]:
        """Yield number and answer of each request that had a plain success, as they come."""
        try:
            while len(self._underway) < EXCHANGES_AT_ONCE and self._add():
                pass
            while self._underway:
                for key, _ in self._selector.select(LATE_LOOK_EVERY_S):
                    number = key.data.number
                    answer = self._answer(key.data)
                    if answer is not None:
                        yield number, answer
                now_s = time.monotonic()
                for exchange in [each for each in self._underway if each.until_s < now_s]:
                    self._replace(exchange)
        finally:
            self._selector.close()
            for exchange in self._underway:
                exchange.close()

    def _answer(self, exchange: _Exchange) -> QuickAnswer | None:
        """Return the answer of a connection that has some, if it is whole, and send the next."""
        try:
            answer = exchange.go_on()
        except (NotPlain, OSError, ValueError) as error:
            _LOG.note("a GET side by side: %r", error)
            self._replace(exchange)
            return None
        if answer is None:
            return None
        if not exchange.stays_open:
            self._replace(exchange)
            return answer
        following = next(self._left, None)
        if following is None:
            self._drop(exchange)
        elif not exchange.begin(*following):
            self._replace(exchange)
        return answer

    def _add(self) -> bool:
        """Open a connection and send the next request over it; False if there is none to have."""
        following = next(self._left, None)
        connection = None if following is None else self._connect()
        if following is None or connection is None:
            return False
        exchange = _Exchange(connection)
        if not exchange.begin(*following):
            exchange.close()
            return False
        self._underway.add(exchange)
        self._selector.register(exchange.sock, selectors.EVENT_READ, exchange)
        return True

    def _replace(self, exchange: _Exchange) -> None:
        self._drop(exchange)
        self._add()

    def _drop(self, exchange: _Exchange) -> None:
        self._selector.unregister(exchange.sock)
        self._underway.discard(exchange)
        exchange.close()
