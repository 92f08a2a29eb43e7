"""Buckets that break, refuse, lie in their listings, or keep versions, as sources of an import."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import Work
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy, Fault, Guarded, Request
from tests.s3.servers import S3Server
from tests.s3.test_import import Bucket, files, moto, nothing_recorded, work

__all__ = ["moto", "work"]


def test_a_server_that_dies_in_the_middle(moto: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvtool.remotes.transports import retry

    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.001)
    moto.put({f"{number:03}": b"%d" % number for number in range(24)})
    with CountingProxy(moto.server.endpoint_url) as proxy:
        proxy.policy = Dying(proxy, answers=8)
        options = ("--endpoint-url", proxy.url)
        ran = moto.work.dv("import", moto.url, "out", *options, code=7)
        assert f"s3://{moto.name}" in ran.err
        assert "gave up after 5 attempts" in ran.err
        left = {path.name for path in moto.work.root.iterdir()}
        assert "out" not in left and "out.dv.json" not in left
        assert moto.work.git("status", "--porcelain") == ""
        assert not list((moto.work.root / ".git/dv/tmp").iterdir())
        proxy.policy = None
        assert moto.work.dv("import", moto.url, "out", *options, "--json").json["added"] == 24
    assert len(files(moto.work.root / "out")) == 24


class Dying:
    """A proxy's policy: the server answers so many GETs, and then nothing any more."""

    def __init__(self, proxy: CountingProxy, *, answers: int) -> None:
        self.proxy = proxy
        self.answers = answers

    def choose(self, request: Request) -> Fault | None:
        dead = self.proxy.counts["GET"] > self.answers
        return Fault(request.kind, lost=True) if dead else None


LISTED = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><KeyCount>2</KeyCount>
<Contents><Key>data/fine</Key><Size>1</Size><ETag>"e"</ETag></Contents>
<Contents><Key>{key}</Key><Size>{size}</Size><ETag>"e"</ETag></Contents></ListBucketResult>"""


@pytest.mark.parametrize(
    ("key", "size", "says"),
    [
        ("data/big.tar", (1 << 40) + 1, "data/big.tar has 1.0 TiB, more than the 1 TiB"),
        ("data/a%00b", 1, "data/a\\x00b has a NUL in it"),
        ("data/%2E%2E/%2E%2E/x", 1, "data/../../x has an empty, '.' or '..' component"),
        ("data//x", 1, "data//x is absolute"),
    ],
)
def test_keys_that_no_server_here_would_list(
    work: Work, monkeypatch: pytest.MonkeyPatch, key: str, size: int, says: str
) -> None:
    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = LISTED.format(key=key, size=size).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        source = ("s3://bucket/data", "out", "--region", "us-east-1", "--endpoint-url", url)
        ran = work.dv("import", *source, code=8)
        server.shutdown()
        thread.join()
    assert says in ran.err
    assert "--exclude GLOB" in ran.err
    assert "data/fine" not in ran.err
    nothing_recorded(work)


def test_a_bucket_that_may_not_be_listed(work: Work, moto_server: S3Server) -> None:
    def refuses(request: Request) -> Fault | None:
        denied = Fault(request.kind, status=403, code="AccessDenied")
        return denied if request.kind == "LIST" else None

    with pytest.MonkeyPatch.context() as patch, moto_server.client() as client:
        use(moto_server, patch)
        bucket = moto_server.new_bucket()
        client.put_object(Bucket=bucket, Key="data/a.txt", Body=b"one")
        with Guarded(moto_server.endpoint_url, refuses) as proxy:
            options = ("--endpoint-url", proxy.url)
            ran = work.dv("import", f"s3://{bucket}/data/", "out", *options, code=7)
            assert f"s3://{bucket}/data/ cannot be listed" in ran.err
            assert "s3:ListBucket" in ran.err
            nothing_recorded(work)
            # Who may not list may still be granted a key.
            work.dv("import", f"s3://{bucket}/data/a.txt", "a.txt", *options)
    assert work.read("a.txt") == b"one"


def test_the_version_that_was_described_is_read(moto: Bucket) -> None:
    work = moto.work
    with moto.server.client() as client:
        client.put_bucket_versioning(
            Bucket=moto.name, VersioningConfiguration={"Status": "Enabled"}
        )
    moto.put({"a.txt": b"first", "b.txt": b"b"})
    swapped: list[Request] = []
    with CountingProxy(moto.server.endpoint_url) as proxy:

        class Swap:
            """Another version comes between the question about an object and its bytes."""

            def choose(self, request: Request) -> Fault | None:
                if request.kind == "GET" and not swapped:
                    swapped.append(request)
                    moto.put({"a.txt": b"second"})
                return None

        proxy.policy = Swap()
        options = ("--endpoint-url", proxy.url)
        work.dv("import", f"{moto.url}/a.txt", "a.txt", *options)
        assert work.read("a.txt") == b"first"
        assert swapped
        proxy.reset()
        standing = work.dv("status", "--sources", "--json").json["sources"][0]["standing"]
        assert standing == "behind"
        work.dv("update")
        assert work.read("a.txt") == b"second"
        # A prefix is taken as its newest versions are; a mark of deletion is no object.
        work.dv("import", moto.url, "out", *options)
        moto.delete("data/a.txt")
        moto.put({"b.txt": b"newer"})
        done = work.dv("update", "out", "--json").json["targets"][0]
        assert (done["removed"], done["modified"], done["read"]) == (["a.txt"], 1, 1)
        assert files(work.root / "out") == {"b.txt": b"newer"}
        assert "there is nothing to take" in work.dv("update", "a.txt", code=4).err
        assert work.read("a.txt") == b"second"
