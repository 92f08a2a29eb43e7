"""The HTTP server, which is uvicorn's, over a socket that listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from dvtool.serve.application import Application
from dvtool.serve.connections import ACCEPTED_AT_ONCE, LimitedProtocol, take_file_limit
from dvtool.serve.messages import Respond

HEAD_BYTES_MAX = 32 << 10
"""The head of a request may have so many bytes."""
IDLE_S = 30
WAITING_MAX = 4096
"""So many connections wait to be accepted: one that finds no room would wait without an answer."""


class _Server(uvicorn.Server):
    """Ends at Ctrl-C and SIGTERM without raising them once more: they are how a server ends."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, with more room than asyncio has, which accepts that many in one go."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING_MAX)


def run_server(listener: socket.socket, respond: Respond, report: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C or SIGTERM; connections are cut then, done or not."""

    def on_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # A connection that its client cut is no news.
        if not isinstance(error, ConnectionError):
            report(f"{context.get('message')}{f': {error}' if error else ''}")

    LimitedProtocol.refused_max = take_file_limit()

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(on_fault)
        await make_server(respond, report).serve(sockets=[listener])

    asyncio.run(run())


def make_server(respond: Respond, report: Callable[[str], None]) -> uvicorn.Server:
    """Return the server with its limits; its `should_exit` ends it from elsewhere."""
    config = uvicorn.Config(
        Application(respond, report),
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=0,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )
    return _Server(config)
