"""`dv serve` as programs see it: boto3, rclone, pyarrow, polars, s5cmd, and hostile clients."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

pytest.importorskip("uvicorn")

from dvtool.serve.connections import SERVED_CONNECTIONS_MAX
from dvtool.serve.server import IDLE_S
from tests.s3.servers import _rclone_binary, _read_models_once
from tests.scenario import Clone, noise

LARGE = noise(9 << 20, 3)
ODD = ("with space", "plus+sign", "per%2Fcent", "ünïcödé 図", 'quo"te&<x>', "new\nline", "semi;=,")
ROWS = 1_000
CROWD = 10_000
PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


@dataclass(frozen=True)
class Served:
    """A running `dv serve`, the repository that it serves, and clients of it."""

    clone: Clone
    process: subprocess.Popen[bytes]
    said: Mapping[str, Any]
    s3: Any

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.said["endpoint_url"])
        assert parts.hostname is not None and parts.port is not None
        return parts.hostname, parts.port

    def rclone(self, *args: str) -> str:
        env = {
            **os.environ,
            "RCLONE_CONFIG_DV_TYPE": "s3",
            "RCLONE_CONFIG_DV_PROVIDER": "Other",
            "RCLONE_CONFIG_DV_ACCESS_KEY_ID": self.said["access_key"],
            "RCLONE_CONFIG_DV_SECRET_ACCESS_KEY": self.said["secret_key"],
            "RCLONE_CONFIG_DV_ENDPOINT": self.said["endpoint_url"],
        }
        command = [_rclone_binary(), "--config", os.devnull, "--retries", "1", *args]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def keys(self, **question: Any) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket="dv", **question)
        return [row["Key"] for page in pages for row in page.get("Contents", ())]

    def read(self, key: str, **options: Any) -> bytes:
        body = self.s3.get_object(Bucket="dv", Key=key, **options)["Body"]
        with contextlib.closing(body):
            data: bytes = body.read()
            return data


@contextlib.contextmanager
def serving(clone: Clone, *args: str) -> Iterator[Served]:
    """Run `dv serve` as a process; it has to end by Ctrl-C with 0."""
    command = [sys.executable, "-W", "error", "-m", "dvtool", "serve", "--json", *args]
    with subprocess.Popen(command, cwd=clone.path, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            _read_models_once()
            client = client_of(said)
            with contextlib.closing(client):
                yield Served(clone, process, said, client)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def client_of(said: Mapping[str, Any], **keys: str) -> Any:
    session = boto3.session.Session(
        aws_access_key_id=keys.get("access_key", said["access_key"]),
        aws_secret_access_key=keys.get("secret_key", said["secret_key"]),
        region_name=said["region"],
    )
    config = Config(signature_version="s3v4", retries={"total_max_attempts": 1})
    return session.client("s3", endpoint_url=said["endpoint_url"], config=config)


@pytest.fixture(scope="session")
def served(_isolated_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server of all tests here; `main` has two commits; `feature/x` and v1 are the first."""
    import pyarrow
    from pyarrow import parquet

    clone = Clone.new(tmp_path_factory.mktemp("serve") / "work")
    with clone.repo() as repo:
        repo.config.init()
    for number in range(2_500):
        clone.write(f"data/many/{number:05}.txt", f"{number}".encode())
    for name in ODD:
        clone.write(f"data/odd/{name}", name.encode())
    clone.write("data/large.bin", LARGE)
    clone.write("data/empty")
    clone.link("data/link", "large.bin")
    table = pyarrow.table({"n": range(ROWS), "text": [f"row {n}" for n in range(ROWS)]})
    parquet.write_table(table, clone.path / "data/table.parquet")
    (clone.path / "tables").mkdir()
    parquet.write_table(table, clone.path / "tables/part.parquet")
    clone.add("data", "tables")
    clone.write("code.py", b"secret = 1")
    clone.git("add", "-A")
    clone.commit("first")
    clone.git("tag", "v1")
    clone.git("branch", "feature/x")
    clone.write("data/many/00000.txt", b"changed")
    clone.add("data")
    clone.commit("second")
    with serving(clone) as server:
        yield server


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response: Any = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


# --- boto3 --------------------------------------------------------------------------------


def test_buckets_and_revisions(served: Served) -> None:
    s3 = served.s3
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["dv"]
    s3.head_bucket(Bucket="dv")
    assert s3.get_bucket_location(Bucket="dv")["LocationConstraint"] is None
    top = s3.list_objects_v2(Bucket="dv", Delimiter="/")
    prefixes = [each["Prefix"] for each in top["CommonPrefixes"]]
    assert prefixes == ["HEAD/", "feature..x/", "main/", "v1/"]
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket="other")
    assert code_of(error) == ("404", 404)


def test_every_revision_is_a_prefix(served: Served) -> None:
    commit = served.clone.git("rev-parse", "HEAD")
    for name in ("main", "HEAD", commit, commit[:8], "main@{0}", "refs..heads..main"):
        assert served.read(f"{name}/data/many/00000.txt") == b"changed"
    for name in ("v1", "HEAD~1", "main^", "feature..x", "v1^{commit}"):
        assert served.read(f"{name}/data/many/00000.txt") == b"0"
        page = served.s3.list_objects_v2(Bucket="dv", Prefix=f"{name}/data/many/", MaxKeys=1)
        assert [row["Key"] for row in page["Contents"]] == [f"{name}/data/many/00000.txt"]


def test_a_branch_that_moves_is_followed(served: Served) -> None:
    served.clone.git("branch", "moving", "HEAD~1")
    assert served.read("moving/data/many/00000.txt") == b"0"
    served.clone.git("branch", "-f", "moving", "HEAD")
    assert served.read("moving/data/many/00000.txt") == b"changed"
    served.clone.git("branch", "-D", "moving")
    with pytest.raises(ClientError) as error:
        served.read("moving/data/many/00000.txt")
    assert code_of(error) == ("NoSuchKey", 404)


def test_listings_of_both_kinds_have_every_key_once(served: Served) -> None:
    snapshot_keys = sorted(
        [f"main/data/{name}" for name in ("empty", "large.bin", "table.parquet")]
        + [f"main/data/many/{number:05}.txt" for number in range(2_500)]
        + [f"main/data/odd/{name}" for name in ODD]
        + ["main/tables/part.parquet"]
    )
    assert served.keys(Prefix="main/") == snapshot_keys
    first = served.s3.get_paginator("list_objects").paginate(Bucket="dv", Prefix="main/")
    assert [row["Key"] for page in first for row in page["Contents"]] == snapshot_keys
    assert (
        served.keys(Prefix="main/", StartAfter="main/data/odd/") == snapshot_keys[-len(ODD) - 2 :]
    )
    assert served.keys(
        Prefix="main/data/many/", PaginationConfig={"PageSize": 7, "MaxItems": 30}
    ) == [f"main/data/many/{number:05}.txt" for number in range(30)]


def test_folders_are_common_prefixes(served: Served) -> None:
    answer = served.s3.list_objects_v2(Bucket="dv", Prefix="v1/data/", Delimiter="/")
    assert [each["Prefix"] for each in answer["CommonPrefixes"]] == [
        "v1/data/many/",
        "v1/data/odd/",
    ]
    assert [row["Key"] for row in answer["Contents"]] == [
        "v1/data/empty",
        "v1/data/large.bin",
        "v1/data/table.parquet",
    ]
    assert answer["KeyCount"] == 5
    assert not answer["IsTruncated"]


def test_objects_say_what_they_are(served: Served) -> None:
    head = served.s3.head_object(Bucket="dv", Key="main/data/large.bin")
    with served.clone.repo() as repo, repo.snapshot() as snapshot:
        blake3, time_s = snapshot.info("data/large.bin").blake3, snapshot.commit_time
    assert head["ContentLength"] == len(LARGE)
    assert head["ETag"] == f'"{blake3}-1"'
    assert head["Metadata"] == {"blake3": blake3}
    assert head["LastModified"].timestamp() == time_s
    assert head["AcceptRanges"] == "bytes"
    (row,) = served.s3.list_objects_v2(Bucket="dv", Prefix="main/data/large.bin")["Contents"]
    assert (row["Size"], row["ETag"]) == (len(LARGE), head["ETag"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-99", slice(5, 100)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=1000000-", slice(1_000_000, None)),
        ("bytes=100-99999999", slice(100, None)),
    ],
)
def test_ranges(served: Served, asked: str, expected: slice) -> None:
    answer = served.s3.get_object(Bucket="dv", Key="main/data/large.bin", Range=asked)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert answer["Body"].read() == LARGE[expected]
    begin, end, _ = expected.indices(len(LARGE))
    assert answer["ContentRange"] == f"bytes {begin}-{end - 1}/{len(LARGE)}"


def test_whole_files_and_odd_names(served: Served, tmp_path: Path) -> None:
    assert served.read("main/data/large.bin") == LARGE
    assert served.read("main/data/link") == LARGE
    assert served.read("main/data/empty") == b""
    for name in ODD:
        assert served.read(f"main/data/odd/{name}") == name.encode()
    served.s3.download_file("dv", "main/data/large.bin", str(tmp_path / "large"))
    assert (tmp_path / "large").read_bytes() == LARGE


def test_conditions(served: Served) -> None:
    key = "main/data/large.bin"
    etag = served.s3.head_object(Bucket="dv", Key=key)["ETag"]
    assert len(served.read(key, IfMatch=etag, Range="bytes=0-9")) == 10
    for options, code in (
        ({"IfNoneMatch": etag}, ("304", 304)),
        ({"IfModifiedSince": time.time() + 60}, ("304", 304)),
        ({"IfMatch": '"0123"'}, ("PreconditionFailed", 412)),
        ({"IfUnmodifiedSince": 1_000_000}, ("PreconditionFailed", 412)),
        ({"Range": f"bytes={len(LARGE)}-"}, ("InvalidRange", 416)),
    ):
        with pytest.raises(ClientError) as error:
            served.read(key, **options)
        assert code_of(error) == code


@pytest.mark.parametrize(
    "key", ["main/data/none", "main/data", "main/data/", "none/x", "main", "main/code.py"]
)
def test_what_is_no_file_of_the_data_is_no_key(served: Served, key: str) -> None:
    with pytest.raises(ClientError) as error:
        served.read(key)
    assert code_of(error) == ("NoSuchKey", 404)


def test_writes_are_refused(served: Served) -> None:
    s3, key = served.s3, {"Bucket": "dv", "Key": "main/data/empty"}
    acts = [
        lambda: s3.put_object(**key, Body=b"x" * 100_000),
        lambda: s3.delete_object(**key),
        lambda: s3.delete_objects(Bucket="dv", Delete={"Objects": [{"Key": key["Key"]}]}),
        lambda: s3.create_multipart_upload(**key),
        lambda: s3.copy_object(**key, CopySource="dv/main/data/large.bin"),
        lambda: s3.create_bucket(Bucket="new"),
        lambda: s3.delete_bucket(Bucket="dv"),
    ]
    for act in acts:
        with pytest.raises(ClientError) as error:
            act()
        assert code_of(error) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as error:
        s3.get_object_acl(**key)
    assert code_of(error) == ("NotImplemented", 501)


def test_wrong_keys_are_refused(served: Served) -> None:
    for keys, code in (
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key": "wrong"}, "InvalidAccessKeyId"),
    ):
        with contextlib.closing(client_of(served.said, **keys)) as s3:
            with pytest.raises(ClientError) as error:
                s3.list_objects_v2(Bucket="dv")
            assert code_of(error) == (code, 403)


def test_presigned_urls(served: Served) -> None:
    url = served.s3.generate_presigned_url(
        "get_object", {"Bucket": "dv", "Key": "main/data/odd/with space"}, ExpiresIn=60
    )
    target = url.partition(served.said["endpoint_url"])[2]
    assert plain(served, target) == (200, b"with space")
    assert plain(served, target.replace("with%20space", "new%0Aline"))[0] == 403
    assert plain(served, target.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))[0] == 403


# --- other programs -----------------------------------------------------------------------


def test_rclone(served: Served, tmp_path: Path) -> None:
    assert served.rclone("lsf", "DV:dv").split() == ["HEAD/", "feature..x/", "main/", "v1/"]
    assert sorted(served.rclone("lsf", "DV:dv/feature..x/data").split()) == sorted(
        ["empty", "large.bin", "many/", "odd/", "table.parquet"]
    )
    assert served.rclone("cat", "DV:dv/feature..x/data/many/00000.txt") == "0"
    served.rclone("copy", "DV:dv/HEAD~1/data/odd", str(tmp_path / "odd"))
    assert {path.name for path in (tmp_path / "odd").iterdir()} == set(ODD)
    served.rclone("copyto", "DV:dv/main/data/large.bin", str(tmp_path / "large"))
    assert (tmp_path / "large").read_bytes() == LARGE


def test_rclone_mount(served: Served, tmp_path: Path) -> None:
    """Any commit is a folder."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None:
        pytest.skip("needs /dev/fuse and Debian's package fuse3")
    top = tmp_path / "top"
    top.mkdir()
    odd = top / "data/odd"
    asked = ("--read-only", "--use-server-modtime", "--daemon", "--vfs-cache-mode", "off")
    served.rclone("mount", "DV:dv/HEAD~1", str(top), *asked)
    try:
        assert (top / "data/many/00000.txt").read_bytes() == b"0"
        assert (top / "data/large.bin").read_bytes() == LARGE
        names = {each.name.replace("\N{SYMBOL FOR LINE FEED}", "\n") for each in odd.iterdir()}
        assert names == set(ODD)
        with pytest.raises(OSError, match="Read-only"):
            (top / "data/new").write_bytes(b"")
    finally:
        subprocess.run(["fusermount3", "-u", str(top)], check=True)


PYARROW = """\
import json, sys
from pyarrow import fs, parquet

said, rows = json.loads(sys.argv[1]), int(sys.argv[2])
s3 = fs.S3FileSystem(
    access_key=said["access_key"],
    secret_key=said["secret_key"],
    endpoint_override=said["endpoint_url"],
    region=said["region"],
)
table = parquet.read_table("dv/main/data/table.parquet", filesystem=s3)
assert table["n"].to_pylist() == list(range(rows))
names = {info.base_name for info in s3.get_file_info(fs.FileSelector("dv/feature..x/data"))}
assert names == {"empty", "large.bin", "many", "odd", "table.parquet"}
"""


def in_a_process(code: str, *arguments: str) -> None:
    """Run a client with native threads, which may outlive its test, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pyarrow(served: Served) -> None:
    in_a_process(PYARROW, json.dumps(served.said), str(ROWS))


def test_polars(served: Served) -> None:
    """The block of docs/serve.md, with the address and the keys of this server."""
    said = served.said
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    block = block.replace("http://127.0.0.1:9000", said["endpoint_url"])
    block = block.replace('"…"', repr(said["access_key"]), 1)
    block = block.replace('"…"', repr(said["secret_key"]), 1)
    read = (
        block,
        block.replace("/main/", "/feature..x/"),
        block.replace("/main/data/table.", "/HEAD~1/tables/*."),  # Polars encodes it twice
    )
    assert len(set(read)) == 3
    counted = f'assert frame["n"].sum() == {sum(range(ROWS))}\n'
    in_a_process("import polars\n" + "".join(code + counted for code in read))


def test_duckdb(served: Served) -> None:
    """The block of docs/serve.md, with the address and the keys of this server."""
    import duckdb

    wheel = pytest.importorskip(
        "duckdb_extension_httpfs", reason="the wheel duckdb-extension-httpfs is not installed"
    )
    kept = Path(wheel.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    library = kept / "httpfs.duckdb_extension"
    if not library.is_file():
        pytest.skip(f"the wheel duckdb-extension-httpfs is not for DuckDB {duckdb.__version__}")
    (block,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    block = block.replace("INSTALL httpfs; LOAD httpfs;", f"LOAD '{library}';")
    block = block.replace("127.0.0.1:9000", served.said["endpoint_url"].removeprefix("http://"))
    block = block.replace("KEY_ID '…'", f"KEY_ID '{served.said['access_key']}'")
    block = block.replace("SECRET '…'", f"SECRET '{served.said['secret_key']}'")
    block = block.replace("/v1.0/", "/v1/")
    asked = [
        block,
        *(
            f"SELECT count(*) FROM 's3://dv/{name}/data/*.parquet'"
            for name in ("HEAD~1", "feature..x")
        ),
    ]
    in_a_process(
        "import json, sys, duckdb\n"
        "connection = duckdb.connect()\n"
        "for query in json.loads(sys.argv[1]):\n"
        "    assert connection.execute(query).fetchall() == [(int(sys.argv[2]),)], query\n",
        json.dumps(asked),
        str(ROWS),
    )


def test_s5cmd(served: Served) -> None:
    program = shutil.which("s5cmd")
    if program is None:
        pytest.skip("s5cmd is not installed")
    env = {
        **os.environ,
        "S3_ENDPOINT_URL": served.said["endpoint_url"],
        "AWS_ACCESS_KEY_ID": served.said["access_key"],
        "AWS_SECRET_ACCESS_KEY": served.said["secret_key"],
        "AWS_REGION": served.said["region"],
    }
    command = [program, "cat"]
    done = subprocess.run(
        [*command, "s3://dv/main/data/many/00000.txt"], env=env, capture_output=True, check=True
    )
    assert done.stdout == b"changed"


# --- hostile clients ----------------------------------------------------------------------


def plain(served: Served, target: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Send a request as it stands, unsigned; return status and body."""
    connection = http.client.HTTPConnection(*served.address, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()


def exchange(served: Served, data: bytes) -> bytes:
    """Send bytes; return all that comes until the server closes the connection."""
    with served.connect() as client:
        client.sendall(data)
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65_536):
                parts.append(part)
        return b"".join(parts)


def is_well(served: Served) -> bool:
    return served.read("main/data/many/00001.txt") == b"1"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_nothing_is_told_without_a_signature(served: Served, method: str) -> None:
    for target in ("/", "/dv", "/dv/main/data/empty", "/dv/%2e%2e/%2e%2e/etc/passwd", "/%00"):
        assert plain(served, target, method)[0] == 403


def test_a_huge_head_is_refused(served: Served) -> None:
    answer = exchange(served, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (1 << 20))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert exchange(served, b"\x16\x03\x01\x02 what is this\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    for size, status in ((24 << 10, b" 403 "), (40 << 10, b" 400 "), (100 << 10, b" 400 ")):
        long = b"X-Long: " + b"x" * size
        head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + long + b"\r\n\r\n"
        assert exchange(served, head)[8:13] == status
    assert is_well(served)


@dataclass
class Crowd:
    """Many clients at once that connect and ask nothing, in this one process."""

    address: tuple[str, int]
    answers: list[bytes] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    """How long each of those waited that were closed without an answer."""

    async def come(self, count: int) -> None:
        """Connect all; wait until no more than the server serves have heard nothing."""
        clients = [asyncio.create_task(self._wait()) for _ in range(count)]
        until_s = time.monotonic() + 120
        while len(self.answers) + len(self.waited_s) < count - SERVED_CONNECTIONS_MAX:
            assert time.monotonic() < until_s, f"{len(self.answers)} were answered"
            await asyncio.sleep(0.02)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _wait(self) -> None:
        begun_s = time.monotonic()
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            if answer := await reader.read():
                self.answers.append(answer)
            else:
                self.waited_s.append(time.monotonic() - begun_s)
        finally:
            writer.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD + 1_000:
        pytest.skip(f"this process may open {hard:,} files alone")
    resource.setrlimit(resource.RLIMIT_NOFILE, (CROWD + 1_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_connections_beyond_the_limit_are_refused_politely(served: Served) -> None:
    crowd = Crowd(served.address)
    asyncio.run(crowd.come(CROWD))
    for answer in set(crowd.answers):
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"<Code>SlowDown</Code>" in answer and answer.endswith(b"</Error>")
    assert len(crowd.answers) > CROWD / 2
    # One that is served and asks nothing is closed, but is given the time to ask.
    assert all(waited_s > 0.9 * IDLE_S for waited_s in crowd.waited_s)
    for _ in range(100):  # until the server has seen that they are gone
        with contextlib.suppress(ClientError):
            assert is_well(served)
            break
        time.sleep(0.1)
    else:
        pytest.fail("the server does not recover")


def test_ctrl_c_cuts_what_is_under_way(served: Served) -> None:
    with serving(served.clone, "v1", "--access-key", "mine", "--secret-key", "s3cret") as server:
        assert (server.said["access_key"], server.said["secret_key"]) == ("mine", "s3cret")
        assert server.read("v1/data/many/00000.txt") == b"0"
        top = server.s3.list_objects_v2(Bucket="dv", Delimiter="/")
        assert [each["Prefix"] for each in top["CommonPrefixes"]] == ["v1/"]
        commit = server.clone.git("rev-parse", "v1")
        for name in ("main", "HEAD", commit, "v1~0"):
            with pytest.raises(ClientError) as error:
                server.read(f"{name}/data/many/00000.txt")
            assert code_of(error) == ("NoSuchKey", 404)
            assert server.keys(Prefix=f"{name}/") == []
        body = server.s3.get_object(Bucket="dv", Key="v1/data/large.bin")["Body"]
        assert body.read(10) == LARGE[:10]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        body.close()
