"""Connections that notice a standstill, in both directions.

A socket's own timeout does not: it begins anew with each byte, so a store that sends one every
twenty seconds holds a thread for ever, and urllib3 sends with the timeout that is meant for
connecting. Here a connection that moves less than `RATE_MIN_BYTES_PER_S` over `stall_s` seconds
fails with TimeoutError, which urllib3 takes for a timeout like any other.
"""

from __future__ import annotations

import contextlib
import functools
import io
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from http.client import HTTPResponse
from typing import Any, BinaryIO

from urllib3.connection import HTTPConnection

RATE_MIN_BYTES_PER_S = 2 << 10
SEND_SIZE_BYTES = 64 << 10
"""A body is handed to the socket in pieces of this size: each must go within `stall_s`."""
UNSENT_MAX_BYTES = 128 << 10
EXPECT_MIN_BYTES = 1 << 20


def expect_only_for_large(params: MutableMapping[str, Any], **_: Any) -> None:
    """Let small bodies go without asking whether they may: a handler of botocore's before-call.

    Asking takes a round trip, and a second where a store does not answer. It is worth that only
    where a store may refuse a body of many megabytes.
    """
    body = params.get("body")
    if isinstance(body, io.BytesIO) and body.getbuffer().nbytes < EXPECT_MIN_BYTES:
        params["headers"].pop("Expect", None)


def watch(pools: MutableMapping[str, Any], stall_s: float) -> None:
    """Replace classes of urllib3's connection pools, by scheme, by ones that notice a stall."""
    for scheme, pool in pools.items():
        name = f"Watched{pool.ConnectionCls.__name__}"
        connection = type(name, (_WatchedConnection, pool.ConnectionCls), {"stall_s": stall_s})
        pools[scheme] = type(f"Watched{pool.__name__}", (pool,), {"ConnectionCls": connection})


class ReceivingBody:
    """A body that receives into memory by itself."""

    def receive(self, memory: memoryview) -> int:
        """Receive the next bytes; return how many, 0 at the end and where it breaks off."""
        raise NotImplementedError


def receiver_of(body: Any) -> Callable[[memoryview], int] | None:
    """Return a call that receives the next bytes of an answer into memory.

    It copies nothing, fails as the answer's own `read` does, and returns 0 at the end. None if
    this urllib3 is built otherwise, or its answer has no length.
    """
    if isinstance(body, ReceivingBody):
        return body.receive
    catch, plain = getattr(body, "_error_catcher", None), getattr(body, "_fp", None)
    if catch is None or not isinstance(plain, HTTPResponse):
        return None
    if plain.length is None or plain.chunked:
        return None

    def receive(memory: memoryview) -> int:
        with catch():  # which gives the connection back at the end, and closes it at an error
            return plain.readinto(memory)

    return receive


class _WatchedConnection(HTTPConnection):
    """Comes before botocore's connection class, which says when each method is called."""

    stall_s: float

    def connect(self) -> None:
        super().connect()
        self.blocksize = SEND_SIZE_BYTES
        self.timeout = self.stall_s
        self.sock.settimeout(self.stall_s)
        # A full send buffer of some MiB takes a slow link minutes, in which it looks stalled: the
        # kernel takes no more of a body until what it has not sent yet is less than this.
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None:
            with contextlib.suppress(OSError, AttributeError):
                self.sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_MAX_BYTES)

    def request(self, *args: Any, **kwargs: Any) -> None:
        # A connection that was used before still has the timeout for connecting.
        if self.sock is not None:
            self.timeout = self.stall_s
        super().request(*args, **kwargs)

    def getresponse(self) -> Any:
        plain = self.response_class
        self.response_class = functools.partial(  # type: ignore[assignment]
            _respond, plain, self.stall_s
        )
        try:
            return super().getresponse()
        finally:
            self.response_class = plain

    def _handle_expect_response(self, message_body: Any) -> None:
        """Read the answers that came instead of, or before, the answer to Expect: 100-continue."""
        sock, late = self.sock, threading.Event()

        def hang_up() -> None:
            late.set()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.stall_s, hang_up)
        timer.daemon = True
        timer.start()
        try:
            super()._handle_expect_response(message_body)  # type: ignore[misc]
        except ConnectionError:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError("an interim answer came too slowly")

    def _consume_headers(self, fp: BinaryIO) -> None:
        """Skip to the end of an interim answer; botocore's own loops for ever if none comes."""
        while (line := fp.readline()) not in (b"\r\n", b"\n"):
            if not line:
                raise ConnectionResetError("closed in the middle of an interim answer")


def _respond(kind: Callable[..., HTTPResponse], stall_s: float, *args: Any, **kw: Any) -> Any:
    """Make an answer that reads status, headers and body through `_WatchedRaw`."""
    response = kind(*args, **kw)
    response.fp = io.BufferedReader(watched(response.fp.detach(), stall_s))
    return response


def watched(raw: io.RawIOBase, stall_s: float) -> io.RawIOBase:
    """Return the receiving end of a socket, for one answer, that notices a standstill."""
    return _WatchedRaw(raw, stall_s)


class _WatchedRaw(io.RawIOBase):
    """The receiving end of a socket: TimeoutError if too little comes for too long.

    Only the time spent waiting counts, not what the reader does in between. The wait for the
    first byte is apart, left to the timeout of the socket: a store may think before it answers.
    """

    def __init__(self, raw: Any, stall_s: float) -> None:
        self._raw = raw
        self._stall_s = stall_s
        self._began = False
        self._waited_s = 0.0
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        began_s = time.monotonic()
        size: int | None = self._raw.readinto(buffer)
        if not self._began:
            self._began = True
            return size
        self._waited_s += time.monotonic() - began_s
        self._received += size or 0
        if self._received >= RATE_MIN_BYTES_PER_S * self._stall_s:
            self._waited_s, self._received = 0.0, 0
        elif size and self._waited_s > self._stall_s:
            raise TimeoutError(
                f"only {self._received:,} bytes came within {self._waited_s:.0f} seconds"
            )
        return size

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()
