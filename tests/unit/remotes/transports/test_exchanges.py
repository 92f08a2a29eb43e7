"""Requests side by side: plain successes are taken, all else is left to the usual way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from dvtool.remotes.transports.s3.exchanges import Exchanges

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: "a"\r\n\r\nabc'


class Ends:
    """Connections whose far ends have said beforehand what they answer, and then hang up."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = iter(answers)
        self.closed = 0
        self._far: list[socket.socket] = []

    def connect(self) -> Connection | None:
        answer = next(self._answers, None)
        if answer is None:
            return None
        near, far = socket.socketpair()
        far.sendall(answer)
        far.shutdown(socket.SHUT_WR)
        self._far.append(far)
        return Connection(self, near)

    def received(self) -> list[bytes]:
        return [far.recv(1 << 16) for far in self._far]

    def close(self) -> None:
        for far in self._far:
            far.close()


class Connection:
    def __init__(self, ends: Ends, sock: socket.socket) -> None:
        self._ends = ends
        self.sock = sock

    def close(self) -> None:
        self._ends.closed += 1
        self.sock.close()


@pytest.fixture
def made() -> Iterator[list[Ends]]:
    made: list[Ends] = []
    yield made
    for ends in made:
        ends.close()


def answers(made: list[Ends], count: int, *texts: bytes) -> tuple[Ends, dict[int, bytes]]:
    ends = Ends(*texts)
    made.append(ends)
    requests = ((number, b"GET /%d" % number) for number in range(count))
    return ends, {number: each.body for number, each in Exchanges(ends.connect, requests).run()}


def test_a_connection_serves_one_request_after_the_other(made: list[Ends]) -> None:
    ends = Ends()
    made.append(ends)
    near, far = socket.socketpair()
    connections = iter([Connection(ends, near)])

    def answer() -> None:
        while request := far.recv(1 << 10):
            body = request.removeprefix(b"GET /")
            far.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % len(body))
            far.sendall(b"\r\n" + body)
        far.close()

    answering = threading.Thread(target=answer)
    answering.start()
    requests = ((number, b"GET /%d" % number) for number in range(12))
    got = list(Exchanges(lambda: next(connections, None), requests).run())
    answering.join()
    # The second connection was not to be had, so one request was left out.
    assert [number for number, _ in got] == [0, *range(2, 12)]
    assert all(each.body == b"%d" % number for number, each in got)
    assert ends.closed == 1


def test_what_was_not_asked_for_ends_a_connection(made: list[Ends]) -> None:
    ends, got = answers(made, 1, OK + OK)
    assert (got, ends.closed) == ({}, 1)


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (70 << 10),
        b"",
    ],
)
def test_what_is_no_plain_success_is_left_out(made: list[Ends], text: bytes) -> None:
    ends, got = answers(made, 1, text)
    assert not got
    assert ends.closed == 1
    assert ends.received() == [b"GET /0"]


def test_a_connection_that_breaks_is_replaced(made: list[Ends]) -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    ends, got = answers(made, 40, *[b""] * 24, *[closing] * 16)
    assert sorted(got) == list(range(24, 40))
    assert set(got.values()) == {b"abc"}
    assert ends.closed == 40


def test_without_a_connection_nothing_is_had(made: list[Ends]) -> None:
    assert answers(made, 3)[1] == {}
