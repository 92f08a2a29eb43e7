"""What is particular to S3: its errors, its answers, and what is sent."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dvtool.errors import (
    RemoteBusy,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
)
from dvtool.remotes.transports.base import Backend
from dvtool.remotes.transports.registry import open_backend
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.contract import BODY, RANDOM, keys, no_sleep, read
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy, Fault
from tests.s3.servers import S3Server


def test_prefixes_do_not_see_each_other(s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()
    url = s3_env.endpoint_url
    whole = S3Backend(bucket, options=S3Options(endpoint_url=url))
    short = S3Backend(bucket, "a", S3Options(endpoint_url=url))
    long = S3Backend(bucket, "ab/c", S3Options(endpoint_url=url))
    short.put("k", b"1")
    long.put("k", b"2")
    whole.put("top", b"3")
    assert keys(short) == ["k"]
    assert keys(long) == ["k"]
    assert keys(whole) == ["a/k", "ab/c/k", "top"]
    assert (whole.url, long.url) == (f"s3://{bucket}", f"s3://{bucket}/ab/c")


def test_folder_markers_are_not_objects(
    moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = moto_server.new_bucket()
    with moto_server.client() as client:
        for key in ("p/", "p/packs/", "p/packs/1"):
            client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert keys(S3Backend(bucket, "p", S3Options(endpoint_url=moto_server.endpoint_url))) == [
        "packs/1"
    ]


def test_listing_reads_as_it_goes(proxied: S3Backend, proxy: CountingProxy) -> None:
    names = [f"packs/{number % 16:x}/{number:04}" for number in range(1010)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: proxied.put(name, b""), names))
    proxy.reset()
    listing = proxied.list("packs/")
    assert next(listing).key == "packs/0/0000"
    assert proxy.counts == {"LIST": 1}
    assert [info.key for info in listing] == sorted(names)[1:]
    assert proxy.counts == {"LIST": 2}


def test_damaged_upload_is_refused(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Content-MD5 that goes along is a real one: a server that checks it accepts it."""
    use(rclone_server, monkeypatch)
    bucket = rclone_server.new_bucket()
    backend = S3Backend(bucket, options=S3Options(endpoint_url=rclone_server.endpoint_url))

    class Changing(io.BytesIO):
        """A file that changes between the reading for the checksum and the upload."""

        rewinds = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            if offset == 0 and whence == 0:
                self.rewinds += 1
                if self.rewinds == 2:
                    super().seek(10)
                    self.write(b"changed")
            return super().seek(offset, whence)

    with pytest.raises(RemoteTransient, match="BadDigest"):
        backend.put("k", Changing(BODY))
    assert backend.head("k") is None


def test_only_plain_s3_is_asked_for(proxied: S3Backend, proxy: CountingProxy) -> None:
    """No checksums but Content-MD5: many stores refuse the newer ones, or confuse them."""
    proxied.put("k", BODY)
    proxied.put_if_absent("k2", BODY)
    read(proxied, "k", offset=1, size=5)
    proxied.get("k", size_max=len(BODY))
    sent = {name.lower() for request in proxy.requests for name in request.headers}
    assert "content-md5" in sent
    assert not {name for name in sent if "checksum" in name or name == "x-amz-trailer"}


def test_only_large_bodies_ask_before_they_come(proxied: S3Backend, proxy: CountingProxy) -> None:
    for body, asks in ((BODY, False), (b"", False), (RANDOM, True), (io.BytesIO(RANDOM), True)):
        proxy.reset()
        proxied.put("k", body)
        assert ("Expect" in proxy.requests[0].headers) == asks
    assert proxied.put_if_absent("k2", BODY)
    assert "Expect" not in proxy.requests[-1].headers


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bucket = rclone_server.new_bucket()
    use(rclone_server, monkeypatch)
    monkeypatch.setenv(name, "WRONG0123456789")
    backend = S3Backend(bucket, options=S3Options(endpoint_url=rclone_server.endpoint_url))
    attempts: list[Callable[[], object]] = [
        lambda: backend.get("k", size_max=1),
        lambda: backend.put("k", b""),
        lambda: keys(backend),
        lambda: backend.delete("k"),
        # A HEAD has no body to say why it is refused: a listing of the key is asked.
        lambda: backend.head("k"),
        lambda: backend.put_if_absent("k", b""),
    ]
    for attempt in attempts:
        with pytest.raises(RemoteForbidden, match="refuses the credentials") as caught:
            attempt()
        assert "AWS_" in (caught.value.hint or "")
        assert "WRONG0123456789" not in str(caught.value)


def test_no_credentials(rclone_server: S3Server) -> None:
    backend = S3Backend("bucket", options=S3Options(endpoint_url=rclone_server.endpoint_url))
    with pytest.raises(RemoteForbidden, match="no credentials for s3://bucket") as caught:
        backend.head("k")
    assert caught.value.hint


def test_unknown_profile(rclone_server: S3Server) -> None:
    url = rclone_server.endpoint_url
    backend = S3Backend("bucket", options=S3Options(endpoint_url=url, profile="nobody"))
    with pytest.raises(RemoteForbidden, match="nobody"):
        backend.head("k")


def test_profile_is_used(
    rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"
    env = rclone_server.env
    path.write_text(
        f"[team]\naws_access_key_id = {env['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {env['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    bucket = rclone_server.new_bucket()
    backend = S3Backend(
        bucket, options=S3Options(endpoint_url=rclone_server.endpoint_url, profile="team")
    )
    backend.put("k", b"x")
    assert backend.get("k", size_max=1) == b"x"


def test_missing_bucket(s3_env: S3Server) -> None:
    backend = S3Backend("no-such-bucket", "p", S3Options(endpoint_url=s3_env.endpoint_url))
    attempts: list[Callable[[], object]] = [
        lambda: backend.get("k", size_max=1),
        lambda: read(backend, "k", offset=1, size=1),
        lambda: backend.put("k", b""),
        lambda: backend.put_if_absent("k", b""),
        lambda: keys(backend),
        lambda: backend.delete("k"),
    ]
    for attempt in attempts:
        with pytest.raises(RemoteError, match="no bucket 'no-such-bucket'") as caught:
            attempt()
        assert not isinstance(caught.value, RemoteTransient | RemoteForbidden)
        assert "create the bucket" in (caught.value.hint or "")
    assert backend.head("k") is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_store_is_transient(proxied: S3Backend, proxy: CountingProxy, status: int) -> None:
    for kind, attempt in every_request(proxied):
        proxy.inject(Fault(kind, status=status, code="SlowDown"))
        with pytest.raises(RemoteTransient, match="503|SlowDown|" + str(status)):
            attempt()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "TooManyRequests"),
        (503, "SlowDown"),
        (503, "SlowDownRead"),
        (400, "Throttling"),
        (400, "ThrottlingException"),
        (503, "RequestLimitExceeded"),
    ],
)
def test_a_store_that_is_busy_is_told_from_one_that_failed(
    proxied: S3Backend, proxy: CountingProxy, status: int, code: str
) -> None:
    proxy.inject(Fault("PUT", status=status, code=code))
    with pytest.raises(RemoteBusy, match=code):
        proxied.put("k", b"x")
    for other in (500, 502, 503):
        proxy.inject(Fault("PUT", status=other, code="ServiceUnavailable"))
        with pytest.raises(RemoteTransient) as caught:
            proxied.put("k", b"x")
        assert not isinstance(caught.value, RemoteBusy)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("999999999", 60, 60),
        ("1e99", 60, 60),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60, 60),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 0, 0),
        ("-5", None, None),
        ("nan", None, None),
        ("tomorrow", None, None),
        ("", None, None),
    ],
)
def test_retry_after(s3_env: S3Server, value: str, low: float | None, high: float | None) -> None:
    with web_server(b"", status=503, headers=f"Retry-After: {value}\r\n") as url:
        backend = S3Backend("bucket", options=S3Options(endpoint_url=url))
        with pytest.raises(RemoteBusy) as caught:
            backend.head("k")
    assert caught.value.retry_after_s == low == high


def test_only_one_attempt_is_made(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxy.inject(*[Fault("GET", status=500)] * 2)
    with pytest.raises(RemoteTransient):
        read(proxied, "k")
    assert proxy.counts == {"GET": 1}


@pytest.mark.parametrize("code", ["RequestTimeout", "IncompleteBody"])
def test_timeouts_of_the_store_are_transient(
    proxied: S3Backend, proxy: CountingProxy, code: str
) -> None:
    proxy.inject(Fault("PUT", status=400, code=code))
    with pytest.raises(RemoteTransient, match=code):
        proxied.put("k", b"x")


def test_access_denied(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxied.put("k", b"what is there and refused is not missing")
    proxied.head("k")  # so that it is known that HEAD itself is granted
    for kind, attempt in every_request(proxied):
        proxy.inject(Fault(kind, status=403, code="AccessDenied"))
        with pytest.raises(RemoteForbidden, match="refused") as caught:
            attempt()
        assert "s3:ListBucket" in (caught.value.hint or "")


def test_wrong_region(proxied: S3Backend, proxy: CountingProxy) -> None:
    # Twice, since boto3 asks for the bucket's region and tries there once by itself.
    proxy.inject(*[Fault("PUT", status=400, code="IllegalLocationConstraintException")] * 2)
    with pytest.raises(RemoteError, match="IllegalLocation") as caught:
        proxied.put("k", b"x")
    assert "region" in (caught.value.hint or "")


def test_other_refusals_are_final(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxy.inject(Fault("PUT", status=400, code="EntityTooLarge"))
    with pytest.raises(RemoteError, match="EntityTooLarge") as caught:
        proxied.put("k", b"x")
    assert not isinstance(caught.value, RemoteTransient)


@pytest.mark.parametrize("cut_after", [0, 1, 2_000_000])
def test_truncated_body_is_noticed(
    proxied: S3Backend, proxy: CountingProxy, cut_after: int
) -> None:
    proxied.put("k", RANDOM)
    for attempt in (
        lambda sink: proxied.read_into("k", sink),
        lambda sink: proxied.read_into("k", sink, offset=5, size=2_500_000),
        lambda sink: sink.write(proxied.get("k", size_max=len(RANDOM))),
    ):
        proxy.inject(Fault("GET", cut_after=cut_after))
        sink = io.BytesIO()
        with pytest.raises(RemoteTransient):
            attempt(sink)
        assert len(sink.getvalue()) <= cut_after


def test_truncated_listing_is_noticed(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxied.put("k", b"")
    for cut_after in (0, 150):
        proxy.inject(Fault("LIST", cut_after=cut_after))
        with pytest.raises(RemoteTransient):
            keys(proxied)


def test_lost_answers(proxied: S3Backend, proxy: CountingProxy) -> None:
    for kind, attempt in every_request(proxied):
        proxy.inject(Fault(kind, lost=True))
        with pytest.raises(RemoteTransient):
            attempt()


@pytest.mark.parametrize("status", [400, 501])
def test_put_if_absent_without_conditions(
    proxied: S3Backend, proxy: CountingProxy, status: int
) -> None:
    proxy.inject(Fault("PUT", status=status, code="NotImplemented"))
    assert proxied.put_if_absent("k", b"first") is True
    assert proxied.put_if_absent("k", b"second") is False
    assert proxied.get("k", size_max=10) == b"first"


def test_put_if_absent_loses_a_race(proxied: S3Backend, proxy: CountingProxy) -> None:
    """HEAD saw nothing, but the conditional PUT says that another client was faster."""
    proxy.inject(Fault("PUT", status=412, code="PreconditionFailed"))
    assert proxied.put_if_absent("k", b"x") is False
    proxy.inject(Fault("PUT", status=409, code="ConditionalRequestConflict"))
    with pytest.raises(RemoteTransient):  # a delete was under way: nothing is there now
        proxied.put_if_absent("k", b"x")
    proxied.put("k", b"other")
    proxy.inject(
        Fault("HEAD", status=404), Fault("PUT", status=409, code="ConditionalRequestConflict")
    )
    assert proxied.put_if_absent("k", b"x") is False


def test_conditional_put_is_used(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HEAD blinded, a store that knows If-None-Match still does not overwrite."""
    use(moto_server, monkeypatch)
    with CountingProxy(moto_server.endpoint_url) as proxy:
        backend = S3Backend(moto_server.new_bucket(), options=S3Options(endpoint_url=proxy.url))
        backend.put("k", b"first")
        proxy.inject(Fault("HEAD", status=404))
        assert backend.put_if_absent("k", b"second") is False
        assert backend.get("k", size_max=10) == b"first"
        backend.close()


def test_closed_port(s3_env: S3Server) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        backend = S3Backend("bucket", options=S3Options(endpoint_url=f"http://127.0.0.1:{port}"))
        with pytest.raises(RemoteTransient, match=f"127.0.0.1:{port}"):
            backend.head("k")
        with pytest.raises(RemoteError, match=r"gave up after 3 attempts") as caught:
            Retry(backend, attempts=3, sleep=no_sleep).head("k")
    assert not isinstance(caught.value, RemoteTransient)


def test_silent_server(s3_env: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        backend = S3Backend(
            "bucket",
            options=S3Options(endpoint_url=f"http://127.0.0.1:{port}"),
            read_timeout_s=0.2,
        )
        with pytest.raises(RemoteTransient, match=r"(?i)timed? ?out"):
            backend.head("k")
        backend.close()


def test_unknown_host(s3_env: S3Server) -> None:
    backend = S3Backend("bucket", options=S3Options(endpoint_url="http://no-such-host.invalid"))
    with pytest.raises(RemoteError, match=r"no-such-host\.invalid"):
        backend.head("k")


def test_tls_to_a_plain_server(s3_env: S3Server) -> None:
    url = s3_env.endpoint_url.replace("http:", "https:")
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1"):
        S3Backend("bucket", options=S3Options(endpoint_url=url)).head("k")


@pytest.mark.parametrize("answer", ["<html><p>Welcome", "<html><p>Hi</p></html>", "{}", ""])
def test_server_that_is_no_s3(s3_env: S3Server, answer: str) -> None:
    with web_server(answer.encode()) as url, pytest.raises(RemoteTransient):
        keys(S3Backend("bucket", options=S3Options(endpoint_url=url)))


@pytest.mark.parametrize(
    ("offset", "size"), [(2, 5), (0, 10240), (10239, 1), (7, None), (10240, None)]
)
def test_store_that_ignores_ranges(s3_env: S3Server, offset: int, size: int | None) -> None:
    with web_server(BODY) as url:
        backend = S3Backend("bucket", options=S3Options(endpoint_url=url))
        end = None if size is None else offset + size
        assert read(backend, "k", offset=offset, size=size) == BODY[offset:end]
        assert backend.features.ranged_get is False


def test_store_that_ignores_ranges_and_has_too_little(s3_env: S3Server) -> None:
    with web_server(BODY) as url, pytest.raises(RemoteTransient, match="ends before"):
        read(S3Backend("b-1", options=S3Options(endpoint_url=url)), "k", offset=10240, size=1)


def test_unusable_endpoint(s3_env: S3Server) -> None:
    with pytest.raises(RemoteError):
        S3Backend("bucket", options=S3Options(endpoint_url="nonsense")).head("k")


def test_opening_s3(s3_env: S3Server) -> None:
    url = f"s3://{s3_env.new_bucket()}/some/prefix"
    backend = open_backend(url, {"endpoint_url": s3_env.endpoint_url, "region": "eu-central-1"})
    backend.put("k", b"x")
    assert keys(backend) == ["k"]


def every_request(backend: Backend) -> list[tuple[str, Callable[[], object]]]:
    """The kind of request that each operation makes, and the operation."""
    return [
        ("GET", lambda: backend.get("k", size_max=1)),
        ("GET", lambda: read(backend, "k")),
        ("PUT", lambda: backend.put("k", b"x")),
        ("PUT", lambda: backend.put("k", io.BytesIO(BODY))),
        ("HEAD", lambda: backend.head("k")),
        ("LIST", lambda: keys(backend)),
        ("DELETE", lambda: backend.delete("k")),
    ]


@contextlib.contextmanager
def web_server(answer: bytes, *, status: int = 200, headers: str = "") -> Iterator[str]:
    """A server that answers one request, whatever it is, with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(answer)}\r\n\r\n"
                connection.sendall(head.encode() + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()
