"""A door before an S3 server that lets some connections in and then lets them stand."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self
from urllib.parse import urlsplit

BLOCK_SIZE_BYTES = 1 << 16
DRIPS = 2_400
"""Single bytes, one every 0.05 seconds: longer than a test may last, and not for ever."""

Stall = Callable[["Door", socket.socket], None]
"""What happens to a connection in place of being let in. It ends when the client hangs up."""


class Door:
    """``with Door(endpoint_url) as door:`` and use `door.url`; one connection for each in `stalls`.

    Connections beyond those are passed to the server, byte for byte.
    """

    def __init__(self, target_url: str, *stalls: Stall) -> None:
        target = urlsplit(target_url)
        assert target.hostname is not None
        self.target = (target.hostname, target.port or 80)
        self.stalls = deque(stalls)
        self.connections = 0
        self.hung_up = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def connect(self) -> socket.socket:
        """Return a connection to the server, as for a stall that breaks off later."""
        server = socket.create_connection(self.target)
        self._open.append(server)
        return server

    def pass_on(self, source: socket.socket, sink: socket.socket, *, most: int = 1 << 62) -> int:
        """Pass bytes until the source ends or `most` went through; return how many did."""
        passed = 0
        while passed < most and (data := source.recv(min(BLOCK_SIZE_BYTES, most - passed))):
            sink.sendall(data)
            passed += len(data)
        return passed

    def until_hung_up(self, client: socket.socket, *, drip: bytes = b"") -> None:
        """Hold the connection, sending a byte of `drip` now and then, until the client goes."""
        client.settimeout(0.05)
        rest = list(drip)
        while not self._closing:
            try:
                if not client.recv(BLOCK_SIZE_BYTES):
                    break
            except TimeoutError:
                if rest:
                    client.sendall(bytes([rest.pop(0)]))
        self.hung_up += 1

    def relay(self, client: socket.socket) -> None:
        server = self.connect()
        back = self._start(self._pass_and_end, server, client)
        self._pass_and_end(client, server)
        back.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self.connections += 1
                if self.stalls:
                    self._start(self.stalls.popleft(), self, client)
                else:
                    self._start(self.relay, client)

    def _pass_and_end(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.pass_on(source, sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _start(self, work: Callable[..., None], *args: object) -> threading.Thread:
        def run() -> None:
            with contextlib.suppress(OSError):
                work(*args)

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()
        return thread


def read_head(client: socket.socket) -> bytes:
    """Read a request up to the end of its headers; return what came, which may be more."""
    head = b""
    while b"\r\n\r\n" not in head and (data := client.recv(BLOCK_SIZE_BYTES)):
        head += data
    return head


def silent(door: Door, client: socket.socket) -> None:
    """Accept, read what comes, and answer nothing."""
    door.until_hung_up(client)


def dripping_head(door: Door, client: socket.socket) -> None:
    """Answer with headers that never end, a byte at a time."""
    read_head(client)
    door.until_hung_up(client, drip=b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * DRIPS)


def dripping_continue(door: Door, client: socket.socket) -> None:
    """Drip an interim answer that never ends."""
    read_head(client)
    door.until_hung_up(client, drip=b"HTTP/1.1 100 Continue\r\nX-Slow: " + b"a" * DRIPS)


def broken_continue(door: Door, client: socket.socket) -> None:
    """Begin an interim answer and hang up in the middle of it."""
    read_head(client)
    client.sendall(b"HTTP/1.1 100 Continue\r\n")
    client.shutdown(socket.SHUT_RDWR)


def stalling_body(after: int, *, drip: bool = False) -> Stall:
    """Let the request through and `after` bytes of the answer, then nothing or single bytes."""

    def stall(door: Door, client: socket.socket) -> None:
        server = door.connect()
        server.sendall(read_head(client))
        door.pass_on(server, client, most=after)
        rest = server.recv(DRIPS) if drip else b""
        door.until_hung_up(client, drip=rest)

    return stall


def not_reading(door: Door, client: socket.socket) -> None:
    """Ask for the body and never take it."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    read_head(client)
    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    _wait_unread(door, client)


def not_reading_at_all(door: Door, client: socket.socket) -> None:
    """Take nothing, not even headers."""
    _wait_unread(door, client)


def _wait_unread(door: Door, client: socket.socket) -> None:
    """Wait until the client has given up, which shows as a reset once its bytes are lost."""
    for _ in range(DRIPS):
        time.sleep(0.05)
        if door._closing or _is_gone(client):
            break
    door.hung_up += 1


def _is_gone(client: socket.socket) -> bool:
    # Linux's tcp_info begins with the state; 1 is established.
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1


@contextlib.contextmanager
def deaf_port() -> Iterator[str]:
    """A port whose queue of connections is full: connecting to it takes for ever."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
