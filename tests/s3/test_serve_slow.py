"""Clients that let `dv serve` wait, against its server with short limits, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import pytest

pytest.importorskip("uvicorn")

from dvtool.errors import CorruptError
from dvtool.serve import connections, server
from dvtool.serve.connections import LimitedProtocol
from dvtool.serve.messages import Blocks, Request, Response

WAIT_S = 60.0
SIZE = 256 << 20


@dataclass
class Watched:
    """A server that answers each request with a long body; it says when a connection is gone."""

    address: tuple[str, int]
    lost: threading.Event = field(default_factory=threading.Event)
    reported: list[str] = field(default_factory=list)
    given_up: threading.Event = field(default_factory=threading.Event)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=WAIT_S)

    def respond(self, request: Request) -> Response:
        blocks = Blocks(self._blocks(damaged=request.path == "/damaged"))
        return Response(200, {"Content-Length": str(SIZE)}, blocks)

    def _blocks(self, *, damaged: bool) -> Generator[bytes]:
        try:
            for number in range(SIZE >> 20):
                if damaged and number == 2:
                    raise CorruptError("damaged")
                yield bytes(1 << 20)
        finally:
            self.given_up.set()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    monkeypatch.setattr(connections, "STALLED_S", 0.2)
    monkeypatch.setattr(server, "IDLE_S", 0)
    lose = LimitedProtocol.connection_lost
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watched = Watched(listener.getsockname())

        def connection_lost(self: LimitedProtocol, error: Exception | None) -> None:
            lose(self, error)
            watched.lost.set()

        monkeypatch.setattr(LimitedProtocol, "connection_lost", connection_lost)
        running = server.make_server(watched.respond, watched.reported.append)
        thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])))
        thread.start()
        yield watched
        running.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_client_that_does_not_ask_is_cut_off(watched: Watched, begun: bytes) -> None:
    with watched.connect() as client:
        client.sendall(begun)
        with contextlib.suppress(ConnectionError):
            while begun and not watched.lost.wait(0.02):
                client.sendall(b"x")  # a byte now and then is no request
        assert watched.lost.wait(WAIT_S)
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b""


def test_a_client_that_takes_nothing_is_cut_off(watched: Watched) -> None:
    with watched.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert watched.lost.wait(WAIT_S)
        assert watched.given_up.wait(WAIT_S)


def test_a_client_that_goes_away_is_read_for_no_longer(watched: Watched) -> None:
    with watched.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000)
    assert watched.given_up.wait(WAIT_S)
    assert watched.reported == []


def test_a_body_that_turns_out_damaged_ends_early(watched: Watched) -> None:
    with watched.connect() as client:
        client.sendall(b"GET /damaged HTTP/1.1\r\nHost: x\r\n\r\n")
        got = 0
        while part := client.recv(1 << 20):
            got += len(part)
    assert 0 < got < SIZE
    assert watched.reported == ["GET /damaged: ends after 2,097,152 bytes: damaged"]
