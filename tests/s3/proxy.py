"""A reverse proxy that counts what a client asks of an S3 server, and can break answers.

The Host header passes unchanged, so the signature over it still holds behind the proxy.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

BLOCK_SIZE_BYTES = 1 << 16
UPSTREAM_TIMEOUT_S = 60.0
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
)


@dataclass(frozen=True)
class Request:
    """One request as the client made it. `kind` is the verb, or LIST for the GET of a listing."""

    kind: str
    path: str
    headers: Message
    sent: int

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


@dataclass(frozen=True)
class Fault:
    """What happens to one request of `kind` in place of, or in the middle of, its answer.

    `status` answers so without asking the server; `cut_after` closes the connection after so many
    bytes of the answer's body; `lost` lets the server do its work and then says nothing.
    """

    kind: str
    status: int | None = None
    code: str = "InternalError"
    cut_after: int | None = None
    lost: bool = False


class CountingProxy:
    """``with CountingProxy(endpoint_url) as proxy:`` and use `proxy.url` as the endpoint.

    `counts` holds GET, PUT, HEAD, DELETE, POST and LIST; a listing is not counted as GET.
    Each request waits `delay_s` before it goes on to the server.
    """

    def __init__(self, target_url: str, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        target = urlsplit(target_url)
        assert target.hostname is not None
        self.target = (target.hostname, target.port or 80)
        self.counts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.received = 0
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def total(self) -> int:
        return self.counts.total()

    def reset(self) -> None:
        with self._lock:
            self.counts.clear()
            self.requests.clear()
            self.received = 0

    def inject(self, *faults: Fault) -> None:
        """Let each fault happen once, in order, to the next request of its kind."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()

    def note(self, request: Request) -> Fault | None:
        with self._lock:
            self.counts[request.kind] += 1
            self.requests.append(request)
            for fault in self._faults:
                if fault.kind == request.kind:
                    self._faults.remove(fault)
                    return fault
        return None

    def note_received(self, size: int) -> None:
        with self._lock:
            self.received += size


class Guarded(CountingProxy):
    """A proxy that refuses what a rule says: it stands for the rights of an IAM role."""

    def __init__(self, target_url: str, refuses: Callable[[Request], Fault | None]) -> None:
        super().__init__(target_url)
        self._refuses = refuses

    def note(self, request: Request) -> Fault | None:
        return super().note(request) or self._refuses(request)


class _Server(ThreadingHTTPServer):
    proxy: CountingProxy
    daemon_threads = False  # so that server_close waits for them

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Wake the threads that wait for another request on a connection kept open."""
        with self._open_lock, contextlib.suppress(OSError):
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up is for its own test to notice


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # which makes the base class answer Expect: 100-continue
    disable_nagle_algorithm = True
    server: _Server

    def _forward(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        path = urlsplit(self.path)
        request = Request(
            _kind(self.command, path.path, path.query),
            unquote(path.path),
            self.headers,
            size,
        )
        fault = self.server.proxy.note(request)
        time.sleep(self.server.proxy.delay_s)
        if fault is not None and fault.status is not None:
            self._refuse(fault, size)
            return
        upstream = http.client.HTTPConnection(*self.server.proxy.target, timeout=UPSTREAM_TIMEOUT_S)
        try:
            self._ask(upstream, size)
            answer = upstream.getresponse()
            if fault is not None and fault.lost:
                answer.read()
                self.close_connection = True
                return
            self._answer(answer, None if fault is None else fault.cut_after)
        finally:
            upstream.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _forward

    def _ask(self, upstream: http.client.HTTPConnection, size: int) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            # Expect has been answered here already.
            if name.lower() not in HOP_BY_HOP and name.lower() != "expect":
                upstream.putheader(name, value)
        upstream.endheaders()
        for block in _blocks(self.rfile.read, size):
            upstream.send(block)

    def _answer(self, answer: http.client.HTTPResponse, cut_after: int | None) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        chunked = has_body and answer.getheader("Content-Length") is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if has_body:
            self._pass_body(answer, chunked, cut_after)

    def _pass_body(
        self, answer: http.client.HTTPResponse, chunked: bool, cut_after: int | None
    ) -> None:
        sent = 0
        while block := answer.read(BLOCK_SIZE_BYTES):
            if cut_after is not None:
                block = block[: cut_after - sent]
            # Counted before it is sent: the client may look as soon as it has the last byte.
            self.server.proxy.note_received(len(block))
            if block:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            sent += len(block)
            if sent == cut_after:
                self.close_connection = True
                return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, fault: Fault, size: int) -> None:
        for _ in _blocks(self.rfile.read, size):
            pass
        body = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
        assert fault.status is not None
        self.send_response_only(fault.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blocks(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        block = read(min(size, BLOCK_SIZE_BYTES))
        if not block:
            raise ConnectionError("the client hung up in the middle of its request")
        size -= len(block)
        yield block


def _kind(verb: str, path: str, query: str) -> str:
    in_bucket = "/" in path.strip("/")
    is_list = verb == "GET" and (not in_bucket or "list-type" in parse_qs(query))
    return "LIST" if is_list else verb
