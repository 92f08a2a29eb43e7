"""A connection that stands still, however it does it, is noticed and the work redone."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dvtool.errors import RemoteStalled, RemoteTransient
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.remotes.transports.pace import REQUESTS_START
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3 import stalling
from tests.s3.servers import S3Server
from tests.s3.stalling import Door, Stall
from tests.scenario import noise

STALL_S = 1.5
"""Longer than a machine with too much to do lets anybody wait for his turn."""
GIVEN_UP_MAX_S = 60.0
"""Far more than it takes, and far less than what stalls here goes on for."""
BODY_SIZE_BYTES = 3 << 20
BODY = noise(BODY_SIZE_BYTES)


@pytest.fixture
def rclone_env(rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in rclone_server.env.items():
        monkeypatch.setenv(name, value)
    return rclone_server


@pytest.fixture
def door(rclone_env: S3Server) -> Iterator[Door]:
    with Door(rclone_env.endpoint_url) as opened:
        yield opened


@pytest.fixture
def plain(rclone_env: S3Server, door: Door) -> Iterator[S3Backend]:
    backend = _hasty(door.url, rclone_env.new_bucket())
    yield backend
    backend.close()


def _hasty(url: str, bucket: str) -> S3Backend:
    return S3Backend(
        bucket,
        options=S3Options(endpoint_url=url),
        connect_timeout_s=STALL_S,
        read_timeout_s=STALL_S,
    )


@pytest.fixture
def patient(rclone_env: S3Server, plain: S3Backend) -> Iterator[S3Backend]:
    """The same bucket, without a door before it and with time enough."""
    name = plain.url.removeprefix("s3://")
    backend = S3Backend(name, options=S3Options(endpoint_url=rclone_env.endpoint_url))
    yield backend
    backend.close()


@pytest.fixture
def filled(plain: S3Backend, patient: S3Backend) -> S3Backend:
    patient.put("k", BODY)
    return plain


def read(backend: Retry | S3Backend, size: int | None = None) -> bytes:
    sink = io.BytesIO()
    backend.read_into("k", sink, size=size)
    return sink.getvalue()


OPERATIONS: dict[str, Callable[[S3Backend], object]] = {
    "read_into": read,
    "get": lambda backend: backend.get("k", size_max=len(BODY)),
    "head": lambda backend: backend.head("k"),
    "list": lambda backend: list(backend.list("")),
    "put": lambda backend: backend.put("k", BODY),
    "put a file": lambda backend: backend.put("k", io.BytesIO(BODY)),
    "delete": lambda backend: backend.delete("k2"),
}
ANSWERED = ("read_into", "get", "list")
SENT = ("put", "put a file")

STALLS: dict[str, tuple[Stall, Sequence[str]]] = {
    "silence": (stalling.silent, tuple(OPERATIONS)),
    "a dripping head": (stalling.dripping_head, tuple(OPERATIONS)),
    "an answer that stops": (stalling.stalling_body(300), ANSWERED),
    "an answer that drips": (stalling.stalling_body(300, drip=True), ANSWERED),
    "a long answer that stops": (stalling.stalling_body(2_000_000), ("read_into",)),
    "a long answer that drips": (stalling.stalling_body(2_000_000, drip=True), ("read_into",)),
    "nothing is taken": (stalling.not_reading_at_all, SENT),
    "no body is taken": (stalling.not_reading, ("put a file",)),
    "a dripping interim answer": (stalling.dripping_continue, ("put a file",)),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_is_noticed_and_the_work_redone(rclone_env: S3Server, name: str) -> None:
    stall, operations = STALLS[name]
    # All at once, each at a door of its own, since all that takes time here is waiting.
    with ThreadPoolExecutor(len(operations)) as pool:
        for done in [pool.submit(stalled_once, rclone_env, stall, one) for one in operations]:
            done.result()


def stalled_once(server: S3Server, stall: Stall, operation: str) -> None:
    """Let the first connection for an operation stall, and see that it is done all the same."""
    work, bucket = OPERATIONS[operation], server.new_bucket()
    patient = S3Backend(bucket, options=S3Options(endpoint_url=server.endpoint_url))
    with contextlib.closing(patient), Door(server.endpoint_url) as door:
        patient.put("k", BODY)
        expected = work(patient)
        door.stalls.append(stall)
        with contextlib.closing(_hasty(door.url, bucket)) as hasty:
            began_s = time.monotonic()
            retry = Retry(hasty, sleep=lambda _: None)
            assert work(retry) == expected, operation  # type: ignore[arg-type]
            assert time.monotonic() - began_s < GIVEN_UP_MAX_S, operation
            assert not door.stalls, operation
            assert retry.pace.limit <= REQUESTS_START // 2, operation  # a stall was noticed


def test_an_interim_answer_that_breaks_off_is_an_error(filled: S3Backend, door: Door) -> None:
    """botocore itself would wait for the end of it for ever, with a processor busy."""
    door.stalls.append(stalling.broken_continue)
    with pytest.raises(RemoteTransient):
        filled.put("k", io.BytesIO(BODY))


def test_a_port_that_nobody_answers_at(rclone_env: S3Server) -> None:
    with stalling.deaf_port() as url:
        backend = S3Backend(
            "bucket", options=S3Options(endpoint_url=url), connect_timeout_s=STALL_S
        )
        began_s = time.monotonic()
        with pytest.raises(RemoteStalled):
            backend.head("k")
        assert time.monotonic() - began_s < GIVEN_UP_MAX_S


class Pauses:
    """Pauses that are shorter than a stall, unless the machine makes them longer."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    def pause(self, work: Callable[[], object]) -> None:
        began_s = time.monotonic()
        time.sleep(STALL_S / 4)
        work()
        self.longest_s = max(self.longest_s, time.monotonic() - began_s)


def undisturbed(door: Door, slow: Callable[[Pauses], Stall], act: Callable[[], object]) -> object:
    """Return what `act` does by one slow connection; a try with a pause that was longer is none."""
    until_s = time.monotonic() + GIVEN_UP_MAX_S
    while True:
        pauses = Pauses()
        door.connections = 0
        door.stalls.append(slow(pauses))
        try:
            result = act()
        except RemoteStalled:
            if pauses.longest_s < STALL_S / 2 or time.monotonic() > until_s:
                raise
        else:
            assert door.connections == 1
            return result


def test_slow_is_not_stalled(filled: S3Backend, door: Door) -> None:
    """Pauses shorter than a stall, in an answer of several times its length, do no harm."""

    def slow(pauses: Pauses) -> Stall:
        def answer(door: Door, client: socket.socket) -> None:
            server = door.connect()
            server.sendall(stalling.read_head(client))
            for _ in range(12):
                pauses.pause(lambda: door.pass_on(server, client, most=8_000))
            door.pass_on(server, client)

        return answer

    assert undisturbed(door, slow, lambda: read(filled)) == BODY


def test_a_reader_that_takes_its_time_is_no_stall(filled: S3Backend) -> None:
    class SlowDisk(io.BytesIO):
        def write(self, data: object, /) -> int:
            if self.tell() == 0:
                time.sleep(STALL_S * 1.5)
            return super().write(data)  # type: ignore[arg-type]

    sink = SlowDisk()
    filled.read_into("k", sink)
    assert sink.getvalue() == BODY


def test_a_large_body_may_take_longer_than_the_timeout_of_a_socket(
    filled: S3Backend, door: Door
) -> None:
    """Bytes are handed over in blocks: what counts is that each of them goes."""

    def slow(pauses: Pauses) -> Stall:
        def take(door: Door, client: socket.socket) -> None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            server = door.connect()
            threading.Thread(target=door.pass_on, args=(server, client)).start()
            for _ in range(12):
                pauses.pause(lambda: door.pass_on(client, server, most=BODY_SIZE_BYTES // 12))
            door.pass_on(client, server)

        return take

    began_s = time.monotonic()
    info = undisturbed(door, slow, lambda: filled.put("k", BODY))
    assert isinstance(info, ObjectInfo)
    assert info.size == len(BODY)
    assert time.monotonic() - began_s > 2 * STALL_S
