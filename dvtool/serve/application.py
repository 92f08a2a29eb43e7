"""The bucket as an ASGI application: threads read, the event loop sends, little is in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from dvtool.errors import DvError
from dvtool.serve.messages import Blocks, Request, Respond, Response

READERS_MAX = 16
"""So many threads read at once."""
SENT_AT_ONCE_BYTES = 256 << 10
"""So much is handed to a connection at once: it is gone before more is."""
UNREAD_MAX_BYTES = 16 << 20
"""So much of the body of a request is taken, so that its client gets to hear the refusal."""
UNREAD_MAX_S = 20.0

Message: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]


class Application:
    """An ASGI application that answers with `respond`; `report` gets what fails while it sends."""

    def __init__(self, respond: Respond, report: Callable[[str], None]) -> None:
        self._respond = respond
        self._report = report
        self._readers = ThreadPoolExecutor(READERS_MAX, "dv-serve")

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        request = _request(scope)
        is_taken = await _take_body(request, receive)
        loop = asyncio.get_running_loop()
        response = await loop.run_in_executor(self._readers, self._respond, request)
        body = response.body
        try:
            await send(_start(response, is_last=not is_taken))
            if isinstance(body, Blocks):
                await self._send_blocks(request, body, receive, send)
            else:
                await _send_bytes(body, send)
                await send({"type": "http.response.body"})
        finally:
            if isinstance(body, Blocks):
                self._readers.submit(body.close)

    async def _send_blocks(
        self, request: Request, blocks: Blocks, receive: Receive, send: Send
    ) -> None:
        """Send a body in blocks. If one cannot be had the response ends before its end.

        The client then sees that bytes are missing, since their number was announced.
        """
        gone = asyncio.ensure_future(receive())  # comes once the client goes away
        try:
            loop = asyncio.get_running_loop()
            sent = 0
            while not gone.done():
                block = await loop.run_in_executor(self._readers, blocks.read)
                if not block:
                    break
                await _send_bytes(block, send)
                sent += len(block)
        except DvError as error:
            self._report(f"{request.method} {request.path}: ends after {sent:,} bytes: {error}")
            return
        finally:
            gone.cancel()
        if not gone.done():
            await send({"type": "http.response.body"})


def _request(scope: Any) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("utf-8", "surrogateescape")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return Request(scope["method"], path, query, headers)


async def _take_body(request: Request, receive: Receive) -> bool:
    """Take and drop the body of a request; False if not all of it came.

    A client that waits to be told to send it is not told to.
    """
    taken, more = 0, True
    if "expect" in request.headers:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(UNREAD_MAX_S):
            while more and taken < UNREAD_MAX_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                more = message.get("more_body", False)
    return not more


def _start(response: Response, *, is_last: bool) -> Message:
    """Return the head of a response; after the last one the connection is closed.

    Behind a body that was not taken, nobody could tell where the next request begins.
    """
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]
    if is_last:
        headers.append((b"connection", b"close"))
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _send_bytes(data: bytes, send: Send) -> None:
    view = memoryview(data)
    for at in range(0, len(view), SENT_AT_ONCE_BYTES):
        part = bytes(view[at : at + SENT_AT_ONCE_BYTES])
        await send({"type": "http.response.body", "body": part, "more_body": True})
