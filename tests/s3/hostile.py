"""A server that answers whatever a test wants, to see how a client takes it."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    verb: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def is_listing(self) -> bool:
        return "list-type" in self.query


@dataclass(frozen=True)
class Answer:
    """What is answered. Without `sized`, no Content-Length is sent and the connection closed."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    sized: bool = True


class Hostile:
    """A server at `url`; `asked` are the requests that came."""

    def __init__(
        self, answer: Callable[[Asked], Answer], tls: ssl.SSLContext | None = None
    ) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.sent = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hostile = self
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            # Shaking hands is for the thread of each connection: it may fail, or take its time.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"


@contextlib.contextmanager
def hostile(
    answer: Callable[[Asked], Answer], *, tls: ssl.SSLContext | None = None
) -> Iterator[Hostile]:
    """Run a server that answers as `answer` says."""
    running = Hostile(answer, tls)
    thread = threading.Thread(target=running._server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield running
    finally:
        running._server.shutdown()
        thread.join()
        running._server.server_close()


class _Server(ThreadingHTTPServer):
    hostile: Hostile
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what most tests are about


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # which makes the base class answer Expect: 100-continue
    server: _Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(
            self.command,
            unquote(parts.path),
            parse_qs(parts.query, keep_blank_values=True),
            self.headers,
            body,
        )
        self.server.hostile.asked.append(asked)
        answer = self.server.hostile.answer(asked)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if (
            isinstance(answer.body, bytes)
            and answer.sized
            and "Content-Length" not in answer.headers
        ):
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            for block in [answer.body] if isinstance(answer.body, bytes) else answer.body:
                self.wfile.write(block)
                self.server.hostile.sent += len(block)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve


def listing(*keys: str, token: str | None = None, size: int = 1) -> Answer:
    """A page of a listing; with `token` it says that there is more."""
    objects = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>" for key in keys
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{more}{objects}"
        "</ListBucketResult>"
    )
    return Answer(body=text.encode(), headers={"Content-Type": "application/xml"})


def refusal(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """An error as S3 writes it."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml", **headers})
