"""A reverse proxy that counts what a client asks of an S3 server, and can break answers.

The Host header passes unchanged, so the signature over it still holds behind the proxy.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self
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

    A position in a body is a number of bytes, or as a float below 1 a share of the body.
    """

    kind: str
    status: int | None = None
    """Answer so without asking the server, with `code` and, if given, Retry-After."""
    code: str = "InternalError"
    retry_after_s: int | None = None
    unread: bool = False
    """With `status`: answer before the request's body was read, then hang up."""
    delay_s: float = 0.0
    lost: bool = False
    """Let the server do its work, then hang up without an answer."""
    cut_after: float | None = None
    """Hang up in the answer's body."""
    cut_sent_after: float | None = None
    """Hang up in the request's body; the server gets no more of it than that."""
    reset: bool = False
    """With `lost` and the cuts: hang up by a reset, which may overtake what was sent."""
    lies: bool = False
    """With `cut_after`: announce the length of the stump and end there in good order."""
    flip_at: float | None = None
    """Change one bit in the answer's body, unless that says what failed."""
    flip_sent_at: float | None = None
    """Change one bit in the request's body."""
    replay: bool = False
    """Let the server do its work twice; the second answer counts."""


class Policy(Protocol):
    """Chooses a fault for a request, or none; called from many threads."""

    def choose(self, request: Request) -> Fault | None: ...


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
        self.sent = 0
        """Bytes of request bodies, as they come: also of requests that break off."""
        self.received = 0
        self.policy: Policy | None = None
        """Asked for a fault where none was injected."""
        self.faults = 0
        self._faults: deque[Fault] = deque()
        self._alarm: tuple[Callable[[CountingProxy], bool], Callable[[], object]] | None = None
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
            self.sent = 0
            self.received = 0
            self.faults = 0

    def inject(self, *faults: Fault) -> None:
        """Let each fault happen once, in order, to the next request of its kind."""
        with self._lock:
            self._faults.extend(faults)

    @property
    def moved(self) -> int:
        return self.sent + self.received

    def call_when(self, due: Callable[[CountingProxy], bool], call: Callable[[], object]) -> None:
        """Call once, from within, as soon as it is due by what was counted.

        No other byte is passed on until it returns; it must not ask the proxy for anything.
        """
        with self._lock:
            self._alarm = (due, call)

    def ring(self) -> None:
        with self._lock:
            if self._alarm is None or not self._alarm[0](self):
                return
            call = self._alarm[1]
            self._alarm = None
            call()

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
                    self.faults += 1
                    return fault
            fault = self.policy.choose(request) if self.policy else None
            self.faults += fault is not None
            return fault

    def note_moved(self, *, sent: int = 0, received: int = 0) -> None:
        with self._lock:
            self.sent += sent
            self.received += received
        self.ring()


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
        self._to_reset: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
            is_reset = request in self._to_reset
            self._to_reset.discard(request)
        if is_reset:
            self.close_request(request)  # without a shutdown, which would say goodbye first
        else:
            super().shutdown_request(request)

    def reset(self, request: socket.socket) -> None:
        """Let this connection end with RST in place of FIN."""
        # Lingering for 0 s means: drop what is unsent and reset.
        request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._open_lock:
            self._to_reset.add(request)

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
        fault = self.server.proxy.note(request) or Fault(request.kind)
        self.server.proxy.ring()
        time.sleep(self.server.proxy.delay_s + fault.delay_s)
        if fault.status is not None:
            self._refuse(fault, size)
            return
        body = self._body(fault, size)
        if fault.replay:
            whole = b"".join(body)
            self._exchange([whole], None)
            body = [whole]
        self._exchange(body, fault)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _forward

    def _body(self, fault: Fault, size: int) -> Iterable[bytes]:
        """Yield the request's body as the server is to get it."""
        flip = None if fault.flip_sent_at is None else _position(fault.flip_sent_at, size)
        end = size if fault.cut_sent_after is None else _position(fault.cut_sent_after, size)
        at = 0
        for block in _blocks(self.rfile.read, size):
            self.server.proxy.note_moved(sent=len(block))
            if at + len(block) > end:
                yield block[: end - at]
                raise _Cut
            yield _flipped(block, flip, at)
            at += len(block)

    def _exchange(self, body: Iterable[bytes], fault: Fault | None) -> None:
        """Ask the server; without a `fault`, which most often is an empty one, drop its answer."""
        upstream = http.client.HTTPConnection(*self.server.proxy.target, timeout=UPSTREAM_TIMEOUT_S)
        try:
            self._ask(upstream, body)
            answer = upstream.getresponse()
            if fault is None:
                answer.read()
            elif fault.lost:
                answer.read()
                self._hang_up(fault)
            else:
                self._answer(answer, fault)
        except _Cut:
            assert fault is not None
            self._hang_up(fault)
        finally:
            upstream.close()

    def _hang_up(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.reset:
            self.server.reset(self.connection)

    def _ask(self, upstream: http.client.HTTPConnection, body: Iterable[bytes]) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            # Expect has been answered here already.
            if name.lower() not in HOP_BY_HOP and name.lower() != "expect":
                upstream.putheader(name, value)
        upstream.endheaders()
        for block in body:
            upstream.send(block)

    def _answer(self, answer: http.client.HTTPResponse, fault: Fault) -> None:
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        announced = answer.getheader("Content-Length")
        blocks = iter(lambda: answer.read(BLOCK_SIZE_BYTES), b"")
        if announced is None and (fault.lies or isinstance(fault.cut_after, float)):
            whole = answer.read()  # a listing, whose length is not known otherwise
            announced, blocks = str(len(whole)), iter([whole])
        size = int(announced or 0)
        cut = None if fault.cut_after is None or not has_body else _position(fault.cut_after, size)
        flip = None
        if fault.flip_at is not None and answer.status < 300:
            flip = _position(fault.flip_at, size)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        if announced is not None:
            self.send_header(
                "Content-Length", str(size if cut is None or not fault.lies else min(cut, size))
            )
        chunked = has_body and announced is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if has_body:
            whole_sent = self._pass_body(blocks, flip, cut, chunked)
            if not whole_sent:
                self._hang_up(fault)

    def _pass_body(
        self, blocks: Iterable[bytes], flip: int | None, cut: int | None, chunked: bool
    ) -> bool:
        """Send the answer's body; return False if it was cut."""
        at = 0
        for block in blocks:
            part = _flipped(block, flip, at)[: None if cut is None else cut - at]
            # Counted before it is sent: the client may look as soon as it has the last byte.
            self.server.proxy.note_moved(received=len(part))
            if part:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            at += len(part)
            if at == cut:
                return False
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        return True

    def _refuse(self, fault: Fault, size: int) -> None:
        if fault.unread:
            self.close_connection = True
        else:
            for block in _blocks(self.rfile.read, size):
                self.server.proxy.note_moved(sent=len(block))
        body = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
        assert fault.status is not None
        self.send_response_only(fault.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        if fault.retry_after_s is not None:
            self.send_header("Retry-After", str(fault.retry_after_s))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Cut(Exception):
    """The request's body ends here, by the fault's wish."""


def _position(share: float, size: int) -> int:
    return int(share * size) if isinstance(share, float) else share


def _flipped(block: bytes, flip: int | None, at: int) -> bytes:
    """Return a block that begins at `at`, with one bit changed if position `flip` lies in it."""
    if flip is None or not at <= flip < at + len(block):
        return block
    changed = bytearray(block)
    changed[flip - at] ^= 0x10
    return bytes(changed)


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
