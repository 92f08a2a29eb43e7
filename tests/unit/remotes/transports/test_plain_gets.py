"""GETs over connections that are kept: plain successes alone, and no connection half read."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from urllib3.exceptions import ProtocolError
from urllib3.util.wait import wait_for_read

from dvtool.remotes.transports.s3 import plain_gets
from dvtool.remotes.transports.s3.exchanges import NotPlain
from dvtool.remotes.transports.s3.plain_gets import PlainAnswer, PlainGets

HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nETag: x\r\n\r\n"


class Connection:
    """A connection whose far end has said beforehand what it answers, as urllib3's is one."""

    stall_s = 5.0

    def __init__(self, *answers: bytes) -> None:
        self.sock, self._far = socket.socketpair()
        self.sock.settimeout(0.5)
        self.asked: list[bytes] = []
        self.is_closed = False
        self._thread = threading.Thread(target=self._answer, args=(answers,))
        self._thread.start()

    def _answer(self, answers: tuple[bytes, ...]) -> None:
        for answer in answers:
            if not (text := self._far.recv(1 << 10)):
                return
            self.asked.append(text)
            self._far.sendall(answer)

    def hang_up(self) -> None:
        """Hang up once all was answered, or the near end is closed."""
        self._thread.join()
        self._far.close()

    @property
    def is_connected(self) -> bool:
        return not wait_for_read(self.sock, timeout=0.0)

    def close(self) -> None:
        self.is_closed = True
        self.sock.close()


class Lines:
    """Connections that are there to be had, and none after them."""

    def __init__(self) -> None:
        self.all: list[Connection] = []
        self._left: list[Connection] = []

    def gets(self, *connections: Connection) -> PlainGets:
        self.all += connections
        self._left += connections
        return PlainGets(lambda: self._left.pop(0) if self._left else None)


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines()
    yield made
    for connection in made.all:
        connection.close()
        connection.hang_up()


def body_of(answer: PlainAnswer | None, size: int = 1000) -> bytes:
    assert answer is not None
    body = bytearray()
    room = memoryview(bytearray(size))
    while count := answer.receive(room):
        body += room[:count]
    return bytes(body)


def test_a_connection_is_used_again_once_all_was_received(lines: Lines) -> None:
    bodies = [bytes([number]) * 9_999 for number in range(3)]
    connection = Connection(*(HEAD % len(body) + body for body in bodies))
    gets = lines.gets(connection)
    for number, body in enumerate(bodies):
        answer = gets.send(b"GET /%d" % number)
        assert answer is not None
        assert (answer.status, answer.headers["etag"]) == (206, "x")
        assert body_of(answer) == body
        answer.close()
    assert connection.asked == [b"GET /0", b"GET /1", b"GET /2"]
    assert not connection.is_closed
    gets.close()
    assert connection.is_closed
    assert gets.send(b"GET /3") is None


def test_a_connection_that_is_half_read_is_closed(lines: Lines) -> None:
    half = Connection(HEAD % 6 + b"abcdef")
    gets = lines.gets(half, Connection(HEAD % 1 + b"y"))
    answer = gets.send(b"GET /")
    assert answer is not None
    assert answer.read(2) == b"ab"
    answer.close()
    assert half.is_closed
    assert body_of(gets.send(b"GET /")) == b"y"


def test_a_connection_that_was_hung_up_is_not_used_again(lines: Lines) -> None:
    first = Connection(HEAD % 1 + b"x")
    gets = lines.gets(first, Connection(HEAD % 1 + b"y"))
    answer = gets.send(b"GET /")
    assert body_of(answer) == b"x"
    assert answer is not None
    answer.close()
    first.hang_up()
    assert body_of(gets.send(b"GET /")) == b"y"
    assert first.is_closed


def test_a_body_that_breaks_off_ends_early(lines: Lines) -> None:
    connection = Connection(HEAD % 9 + b"abc")
    answer = lines.gets(connection).send(b"GET /")
    connection.hang_up()
    assert answer is not None
    assert body_of(answer) == b"abc"
    answer.close()
    assert connection.is_closed


def test_a_standstill_fails_as_any_other(lines: Lines) -> None:
    connection = Connection(HEAD % 9 + b"abc")
    answer = lines.gets(connection).send(b"GET /")
    with pytest.raises(ProtocolError):
        body_of(answer)
    assert connection.is_closed
    silent = Connection(b"")
    with pytest.raises(ProtocolError):
        lines.gets(silent).send(b"GET /")
    assert silent.is_closed


def keep(gets: PlainGets, count: int) -> None:
    """Use so many connections at once, so that all are kept, the first one longest."""
    answers = [gets.send(b"GET /") for _ in range(count)]
    for answer in answers:
        assert body_of(answer) == b"x"
        assert answer is not None
        answer.close()


def test_after_a_standstill_no_connection_that_was_kept_is_used(lines: Lines) -> None:
    """What is between forgets all of them alike: else each attempt waits for another one."""
    kept = [Connection(HEAD % 1 + b"x", b"") for _ in range(3)]
    gets = lines.gets(*kept, Connection(HEAD % 1 + b"y"))
    keep(gets, 3)
    with pytest.raises(ProtocolError):
        gets.send(b"GET /")
    assert all(connection.is_closed for connection in kept)
    assert body_of(gets.send(b"GET /")) == b"y"


def test_after_a_standstill_in_a_body_no_connection_that_was_kept_is_used(lines: Lines) -> None:
    kept = [Connection(HEAD % 1 + b"x"), Connection(HEAD % 1 + b"x", HEAD % 9 + b"abc")]
    gets = lines.gets(*kept, Connection(HEAD % 1 + b"y"))
    keep(gets, 2)
    with pytest.raises(ProtocolError):
        body_of(gets.send(b"GET /"))
    assert all(connection.is_closed for connection in kept)
    assert body_of(gets.send(b"GET /")) == b"y"


def test_a_connection_that_was_kept_for_long_is_closed(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [Connection(HEAD % 1 + b"x", HEAD % 1 + b"z") for _ in range(2)]
    gets = lines.gets(*kept, Connection(HEAD % 1 + b"x"), Connection(HEAD % 1 + b"y"))
    keep(gets, 2)
    answer = gets.send(b"GET /")  # over the one that was kept last
    assert body_of(answer) == b"z"
    assert not kept[0].is_closed
    monkeypatch.setattr(plain_gets, "KEPT_MAX_S", -1.0)
    assert answer is not None
    answer.close()
    assert all(connection.is_closed for connection in kept)
    assert body_of(gets.send(b"GET /")) == b"x"


def test_a_connection_that_became_old_is_not_used(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Connection(HEAD % 1 + b"x", HEAD % 1 + b"z")
    gets = lines.gets(old, Connection(HEAD % 1 + b"y"))
    keep(gets, 1)
    monkeypatch.setattr(plain_gets, "KEPT_MAX_S", -1.0)
    assert body_of(gets.send(b"GET /")) == b"y"
    assert old.asked == [b"GET /"]


def test_a_child_does_not_use_the_connections_of_its_parent(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_parent = Connection(HEAD % 1 + b"x", HEAD % 1 + b"z")
    gets = lines.gets(of_parent, Connection(HEAD % 1 + b"x"), Connection(HEAD % 1 + b"y"))
    keep(gets, 1)
    underway = gets.send(b"GET /")
    assert body_of(underway) == b"z"
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert underway is not None
    underway.close()
    keep(gets, 1)
    assert of_parent.asked == [b"GET /"] * 2


def test_an_error_with_a_short_body_leaves_the_connection(lines: Lines) -> None:
    error = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
    connection = Connection(error, HEAD % 1 + b"x")
    gets = lines.gets(connection)
    with pytest.raises(NotPlain):
        gets.send(b"GET /")
    assert not connection.is_closed
    assert body_of(gets.send(b"GET /")) == b"x"


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_store_whose_success_is_not_plain_is_not_asked_so_again(
    lines: Lines, text: bytes
) -> None:
    first, second = Connection(text), Connection(HEAD % 1 + b"x")
    gets = lines.gets(first, second)
    with pytest.raises(NotPlain):
        gets.send(b"GET /")
    assert first.is_closed
    assert gets.send(b"GET /") is None
    assert not second.asked


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 65537\r\n\r\n",
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 301 Moved\r\nLocation: http://else.where/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (80 << 10),
        b"HTTP/1.1 2",
    ],
)
def test_what_is_no_plain_success_is_left_to_the_usual_way(lines: Lines, text: bytes) -> None:
    connection = Connection(text)
    gets = lines.gets(connection)
    threading.Timer(0.1, connection.hang_up).start()
    with pytest.raises(NotPlain):
        gets.send(b"GET /")
    assert connection.is_closed
