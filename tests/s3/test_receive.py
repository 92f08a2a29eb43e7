"""Receiving into memory of the caller: the same bytes and the same errors as when written."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from dvtool.errors import DvError, ObjectMissing, RemoteError, RemoteStalled, RemoteTransient
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from dvtool.remotes.transports.s3.quick_get import QuickRequest
from tests.contract import no_sleep
from tests.s3.hostile import Answer, Asked, hostile, refusal
from tests.s3.servers import S3Server
from tests.scenario import noise

BODY = noise(3 << 20, 5)
MD5 = hashlib.md5(BODY, usedforsecurity=False).digest()


class Room:
    """A sink with memory; `written` is what came by `write` instead."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.end = self.written = 0
        self.md5s: list[bytes | None] = []

    @property
    def data(self) -> bytes:
        return bytes(self.memory[: self.end])

    def write(self, data: bytes, /) -> None:
        self.written += len(data)
        self.room(len(data))[:] = data
        self.filled(len(data))

    def room(self, size: int, /) -> memoryview:
        return memoryview(self.memory)[self.end :][:size]

    def filled(self, size: int, /) -> None:
        self.end += size

    def stated(self, md5: bytes | None, /) -> None:
        self.md5s.append(md5)


def received(backend: S3Backend | Retry, offset: int = 0, size: int = len(BODY)) -> Room:
    room = Room(size)
    assert backend.read_into("k", room, offset=offset, size=size) == size
    assert room.data == BODY[offset : offset + size]
    return room


def test_what_is_received_is_what_is_there(s3_env: S3Server) -> None:
    options = S3Options(endpoint_url=s3_env.endpoint_url)
    backend = S3Backend(s3_env.new_bucket(), "p", options)
    backend.put("k", BODY)
    assert received(backend, 5, 100).written == 100  # the first in the usual way
    for offset, size in ((0, len(BODY)), (1, 1), (7, 2 << 20), (len(BODY) - 9, 9)):
        assert received(Retry(backend, sleep=no_sleep), offset, size).written == 0
    with pytest.raises(ObjectMissing):
        backend.read_into("other", Room(9), size=9)
    with pytest.raises(RemoteTransient):
        backend.read_into("k", Room(99), offset=len(BODY) - 9, size=99)
    backend.close()


def test_a_sink_hears_which_md5_the_store_states_of_the_whole(s3_env: S3Server) -> None:
    with contextlib.closing(
        S3Backend(s3_env.new_bucket(), "p", S3Options(endpoint_url=s3_env.endpoint_url))
    ) as backend:
        backend.put("k", BODY)
        for offset, size in ((5, 100), (0, len(BODY))):  # the usual way, then the quick one
            assert received(Retry(backend, sleep=no_sleep), offset, size).md5s == [MD5]


def in_range(asked: Asked, *, last: int | None = None) -> Answer:
    """Answer with the range that was asked for, or with the announcement of it and a part."""
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers["Range"])
    assert match is not None
    begin, end = int(match[1]), int(match[2]) + 1
    headers = {
        "Content-Range": f"bytes {begin}-{end - 1}/{len(BODY)}",
        "Content-Length": str(end - begin),
    }
    return Answer(206, BODY[begin : end if last is None else last], headers)


def trickle() -> Iterator[bytes]:
    yield BODY[:1000]
    threading.Event().wait(1.5)
    yield b"1"


ENCRYPTED = {
    "the store's key": {"x-amz-server-side-encryption": "AES256"},
    "a key of KMS": {"x-amz-server-side-encryption": "aws:kms"},
    "a customer's key": {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
}


@pytest.mark.parametrize("how", ENCRYPTED)
def test_what_is_encrypted_with_another_key_has_no_md5(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")

    def answer(asked: Asked) -> Answer:
        answered = in_range(asked)
        etag = {"ETag": f'"{MD5.hex()}"'}
        return Answer(206, answered.body, {**answered.headers, **etag, **ENCRYPTED[how]})

    with hostile(answer) as server:
        options = S3Options(endpoint_url=server.url, region="us-east-1")
        with contextlib.closing(S3Backend("bucket", options=options)) as backend:
            md5s = [received(backend).md5s for _ in range(2)]  # the usual way, then the quick one
    assert md5s == [[MD5 if how == "the store's key" else None]] * 2


FAULTS: dict[str, tuple[Callable[[Asked], Answer], type[DvError]]] = {
    "it breaks off": (lambda asked: in_range(asked, last=900_000), RemoteTransient),
    "it stops": (
        lambda asked: Answer(206, trickle(), in_range(asked).headers),
        RemoteStalled,
    ),
    "it is another range": (
        lambda asked: Answer(206, BODY[1:], {"Content-Range": f"bytes 1-9/{len(BODY)}"}),
        RemoteError,
    ),
    "it is packed": (
        lambda asked: Answer(206, BODY, in_range(asked).headers | {"Content-Encoding": "gzip"}),
        RemoteError,
    ),
    "it is gone": (lambda asked: refusal(404, "NoSuchKey"), ObjectMissing),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_is_wrong_is_no_success(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    answer, error = FAULTS[fault]
    with hostile(in_range) as server:
        options = S3Options(endpoint_url=server.url, region="us-east-1")
        backend = S3Backend("bucket", options=options, read_timeout_s=0.5)
        received(backend)
        server.answer = answer
        with pytest.raises(error):
            received(backend)
        backend.close()


def test_the_rest_is_asked_for_where_it_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with hostile(in_range) as server:
        options = S3Options(endpoint_url=server.url, region="us-east-1")
        backend = S3Backend("bucket", options=options)
        received(backend)
        cuts = iter([2_500_000, None])
        server.answer = lambda asked: in_range(asked, last=next(cuts))
        assert received(Retry(backend, sleep=no_sleep)).written == 0
        begins = [asked.headers["Range"] for asked in server.asked[1:]]
        assert begins[0].startswith("bytes=0-")
        assert begins[1:] == [f"bytes=2500000-{len(BODY) - 1}"]
        backend.close()


def test_connecting_that_fails_is_tried_once_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is not there lets each attempt wait for the whole limit of connecting."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with hostile(in_range) as server:
        options = S3Options(endpoint_url=server.url, region="us-east-1")
        backend = S3Backend("bucket", options=options)
        received(backend)  # the first in the usual way
        usual = backend._client()._endpoint.http_session
        tries: list[float | None] = []

        def hang(connecting: socket.socket, _address: object) -> None:
            tries.append(connecting.gettimeout())
            raise TimeoutError("timed out")

        monkeypatch.setattr(socket.socket, "connect", hang)
        usual._session._manager.clear()  # so that it connects anew, too
        with pytest.raises(RemoteTransient):
            received(backend)
        assert len(tries) == 1
        # Many at once are left to the usual way, which says of each what is wrong.
        assert not list(backend._quick.send_many([QuickRequest(0, "k", {})]))
        assert len(tries) == 2
        monkeypatch.undo()
        backend.close()
