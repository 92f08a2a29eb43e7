"""The proxy that other tests count requests with does count, and changes nothing."""

from __future__ import annotations

import io
import random
from pathlib import Path

from dvtool.remotes.transports.s3.backend import S3Backend
from tests.contract import BODY, keys, read
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server


def test_counts_by_kind(proxied: S3Backend, proxy: CountingProxy) -> None:
    proxied.put("a/1", BODY)
    proxied.put("a/2", io.BytesIO(BODY))
    assert proxied.get("a/1", size_max=len(BODY)) == BODY
    assert read(proxied, "a/2", offset=10, size=100) == BODY[10:110]
    found = proxied.head("a/1")
    assert found is not None
    assert (found.key, found.size) == ("a/1", len(BODY))
    assert proxied.head("a/3") is None
    assert keys(proxied, "a/") == ["a/1", "a/2"]
    proxied.delete("a/1")
    assert proxy.counts == {"PUT": 2, "GET": 2, "HEAD": 2, "LIST": 1, "DELETE": 1}
    assert proxy.total == 8
    assert proxy.requests[3].range == "bytes=10-109"
    assert proxy.requests[0].sent == len(BODY)


def test_large_bodies(proxied: S3Backend, proxy: CountingProxy, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    body = random.Random(1).randbytes(64 << 20)
    path.write_bytes(body)
    with path.open("rb") as file:
        proxied.put("pack", file)
    assert read(proxied, "pack") == body
    assert proxy.counts == {"PUT": 1, "GET": 1}
    assert proxy.received >= len(body)


def test_a_bucket_that_is_named_goes_and_others_stay(s3_server: S3Server) -> None:
    bucket, other = s3_server.new_bucket(), s3_server.new_bucket()
    with s3_server.client() as client:
        client.put_object(Bucket=bucket, Key="a/b", Body=b"x")
        s3_server.drop_named(f"a page with {bucket} in it")
        names = {each["Name"] for each in client.list_buckets()["Buckets"]}
    assert bucket not in names
    assert other in names
    s3_server.drop_bucket(other)
