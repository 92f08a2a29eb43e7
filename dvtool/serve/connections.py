"""Connections of the server, which uvicorn keeps: how many there may be, how slow one may be."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from dvtool.serve.answers import fault_document
from dvtool.serve.faults import S3Fault

SERVED_CONNECTIONS_MAX = 128
"""So many connections are served at once."""
REFUSED_MAX = 8_192
"""So many more are open at once that were told so; then the one told first is closed."""
ACCEPTED_AT_ONCE = 128
"""So many connections are accepted before the next of them is looked at."""
_FILES_KEPT = 512
"""So many open files are left to reading: packs, indexes, git, a remote's connections."""
REQUEST_S = 20.0
"""The head of a request must have come within this time."""
HEAD_PIECE_BYTES = 1 << 10
"""The head of a request is looked at in pieces of this size."""
REFUSED_S = 1.0
STALLED_S = 60.0
"""A client must have taken what is under way, 320 KiB at most, within this time."""

_told: dict[LimitedProtocol, None] = {}
"""The connections that were refused and are still open, in the order in which they came."""


def take_file_limit() -> int:
    """Let this process open as many files as it may; return how many refused ones may be open.

    A system's usual limit, 1,024 or 256, is less than the clients that may come.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = _FILES_KEPT + SERVED_CONNECTIONS_MAX + 2 * ACCEPTED_AT_ONCE
    wanted = REFUSED_MAX + others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(OSError, ValueError):  # a system may have less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return (
        max(1, min(REFUSED_MAX, soft - others)) if soft != resource.RLIM_INFINITY else REFUSED_MAX
    )


class LimitedProtocol(H11Protocol):
    """The connection of one client, ended if it is one too many or lets the server wait."""

    refused_max = REFUSED_MAX
    """How many that were refused may be open at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_refused = False
        self._request_due: asyncio.TimerHandle | None = None
        self._taking_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        if len(self.connections) >= SERVED_CONNECTIONS_MAX:
            self._refuse(transport)
            return
        super().connection_made(transport)
        self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Take what came; a request has to be whole in time."""
        if self._is_refused:
            return
        # The head's limit holds for what came so far: a long one must not come as a whole.
        step = len(data) if self._is_answering else HEAD_PIECE_BYTES
        for begin in range(0, len(data), step):
            if self.transport.is_closing():
                return
            super().data_received(data[begin : begin + step])
        self._watch_request()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        super().on_response_complete()
        self._watch_request()

    def pause_writing(self) -> None:
        """Wait for the client, but not for ever."""
        super().pause_writing()
        self._taking_due = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on to send."""
        super().resume_writing()
        _cancel(self._taking_due)
        self._taking_due = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _cancel(self._request_due)
        self._request_due = None
        _cancel(self._taking_due)
        self._taking_due = None
        if self._is_refused:
            _told.pop(self, None)
        else:
            super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_request(self) -> None:
        """Have a time limit unless a request is being answered, whatever trickles in meanwhile."""
        if self._is_answering:
            _cancel(self._request_due)
            self._request_due = None
        elif self._request_due is None and not self.transport.is_closing():
            limit_s = max(REQUEST_S, self.timeout_keep_alive)
            self._request_due = self.loop.call_later(limit_s, self.transport.abort)

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._is_refused = True
        self.transport = transport
        while len(_told) >= self.refused_max:
            oldest = next(iter(_told))
            del _told[oldest]
            oldest.transport.abort()
        _told[self] = None
        transport.write(_TOO_MANY)
        with contextlib.suppress(OSError):  # the client is gone already
            transport.write_eof()
        # Closed at once, with a request unread, the client would get a reset and not the answer.
        self._request_due = self.loop.call_later(REFUSED_S, transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _too_many() -> bytes:
    fault = S3Fault("SlowDown", f"More than {SERVED_CONNECTIONS_MAX} connections are open.")
    document = fault_document(fault, "", "")
    head = (
        f"HTTP/1.1 {fault.status} Service Unavailable\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(document)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + document


_TOO_MANY = _too_many()
