"""One contract for every backend, then what is particular to each."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dvtool.errors import (
    DvError,
    ObjectMissing,
    RemoteBusy,
    RemoteError,
    RemoteForbidden,
    RemoteTransient,
    UsageError,
)
from dvtool.remotes.transports import (
    Backend,
    LocalBackend,
    ObjectInfo,
    Retry,
    S3Options,
    open_backend,
    parse_url,
)
from dvtool.remotes.transports.pace import Pace
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.system.atomic import TEMP_PREFIX
from tests.faulty import Faulty
from tests.s3.proxy import CountingProxy, Fault
from tests.s3.servers import S3Server

OPERATIONS = ("read_into", "get", "put", "put_if_absent", "head", "list", "delete")
BODY = bytes(range(256)) * 40
RANDOM = random.Random(7).randbytes(3 << 20)


def no_sleep(seconds: float) -> None:
    pass


def read(backend: Backend, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
    sink = io.BytesIO()
    written = backend.read_into(key, sink, offset=offset, size=size)
    assert written == len(sink.getvalue())
    return sink.getvalue()


def keys(backend: Backend, prefix: str = "") -> list[str]:
    return [info.key for info in backend.list(prefix)]


def use(server: S3Server, patch: pytest.MonkeyPatch) -> None:
    for name, value in server.env.items():
        patch.setenv(name, value)


def failing_once_each(backend: Backend) -> Backend:
    """Let the first call of each operation fail, and the second break off or lose its answer."""
    for operation in OPERATIONS:
        if operation == "read_into":
            backend = Faulty(backend, on=operation, cut_at=100)
        elif operation == "list":
            backend = Faulty(backend, on=operation, cut_at=1)
        else:
            backend = Faulty(backend, on=operation, after=True)
        backend = Faulty(backend, on=operation)
    return Retry(backend, attempts=9, sleep=no_sleep)


@pytest.fixture(params=["local", "s3-rclone", "s3-moto"])
def plain(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Backend]:
    if request.param == "local":
        root = tmp_path / "remote"
        root.mkdir()
        yield LocalBackend(str(root))
        return
    server = request.getfixturevalue(f"{request.param.removeprefix('s3-')}_server")
    use(server, monkeypatch)
    s3 = S3Backend(server.new_bucket(), "team/data", S3Options(endpoint_url=server.endpoint_url))
    yield s3
    s3.close()


@pytest.fixture(params=["plain", "retry-over-faults"])
def backend(request: pytest.FixtureRequest, plain: Backend) -> Backend:
    return plain if request.param == "plain" else failing_once_each(plain)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "remote"
    path.mkdir()
    return path


@pytest.fixture
def local(root: Path) -> LocalBackend:
    return LocalBackend(str(root))


@pytest.fixture
def proxy(s3_env: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(s3_env.endpoint_url) as running:
        yield running


@pytest.fixture
def proxied(proxy: CountingProxy, s3_env: S3Server) -> Iterator[S3Backend]:
    s3 = S3Backend(s3_env.new_bucket(), "p", S3Options(endpoint_url=proxy.url))
    yield s3
    s3.close()


class TestContract:
    @pytest.mark.parametrize("body", [b"", b"x", BODY, RANDOM], ids=["0", "1", "10k", "3m"])
    def test_put_then_get(self, backend: Backend, body: bytes) -> None:
        stored = backend.put("packs/ab/cd", body)
        assert backend.get("packs/ab/cd", size_max=len(body)) == body
        assert read(backend, "packs/ab/cd") == body
        assert backend.head("packs/ab/cd") == stored
        assert list(backend.list("")) == [stored]
        assert stored == ObjectInfo("packs/ab/cd", len(body), stored.md5)
        # Both servers state the MD5 of what they hold, as most stores do; a folder does not.
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        assert stored.md5 == (None if "s3" not in backend.url else md5)

    def test_put_replaces(self, backend: Backend) -> None:
        backend.put("k", BODY)
        backend.put("k", b"shorter")
        assert backend.get("k", size_max=100) == b"shorter"

    def test_file_body_is_read_from_its_beginning(self, backend: Backend, tmp_path: Path) -> None:
        path = tmp_path / "body"
        path.write_bytes(RANDOM)
        with path.open("rb") as file:
            file.seek(1000)
            backend.put("f", file)
            assert not file.closed
        assert read(backend, "f") == RANDOM

    @pytest.mark.parametrize(
        ("offset", "size"),
        [(0, 1), (0, None), (0, 10240), (17, 5000), (17, None), (10239, 1), (10240, None), (5, 0)],
    )
    def test_ranges(self, backend: Backend, offset: int, size: int | None) -> None:
        backend.put("k", BODY)
        end = None if size is None else offset + size
        assert read(backend, "k", offset=offset, size=size) == BODY[offset:end]

    @pytest.mark.parametrize(
        ("offset", "size"), [(0, 10241), (10000, 241), (10241, None), (20000, 1)]
    )
    def test_range_past_the_end_is_an_error(
        self, backend: Backend, offset: int, size: int | None
    ) -> None:
        backend.put("k", BODY)
        with pytest.raises(RemoteError) as caught:
            read(backend, "k", offset=offset, size=size)
        # Without Retry, it is up to the wrapper to decide.
        assert isinstance(caught.value, RemoteTransient) != isinstance(backend, Retry)

    def test_empty_object_has_no_range(self, backend: Backend) -> None:
        backend.put("k", b"")
        assert read(backend, "k") == b""
        with pytest.raises(RemoteError):
            read(backend, "k", size=1)

    def test_get_is_bounded(self, backend: Backend) -> None:
        backend.put("k", BODY)
        with pytest.raises(RemoteError, match="10,240 bytes") as caught:
            backend.get("k", size_max=len(BODY) - 1)
        assert not isinstance(caught.value, RemoteTransient)

    def test_missing(self, backend: Backend) -> None:
        backend.put("packs/aa/1", b"x")
        for key in ("nothing", "packs/aa/2", "packs/zz/1", "packs", "packs/aa", "packs/aa/1/2"):
            assert backend.head(key) is None, key
            with pytest.raises(ObjectMissing) as caught:
                backend.get(key, size_max=1)
            assert caught.value.key == key
            with pytest.raises(ObjectMissing):
                read(backend, key)
            with pytest.raises(ObjectMissing):
                read(backend, key, offset=3, size=4)

    def test_list_is_in_order_and_holds_sizes(self, backend: Backend) -> None:
        # "-" and "." sort before "/", letters after it: folders are easy to sort wrongly.
        names = ["z/a", "z-a", "z.a", "z/b/c", "zz", "a", "z/b-", "Z", "z0/q"]
        for size, name in enumerate(names):
            backend.put(name, b"x" * size)
        expected = sorted((name, size) for size, name in enumerate(names))
        assert [(info.key, info.size) for info in backend.list("")] == expected

    def test_list_by_prefix(self, backend: Backend) -> None:
        for name in ("packs/aa/1", "packs/ab/2", "packs/ab/3", "packsab", "shards/ab/2"):
            backend.put(name, b"")
        assert keys(backend, "packs/") == ["packs/aa/1", "packs/ab/2", "packs/ab/3"]
        assert keys(backend, "packs") == ["packs/aa/1", "packs/ab/2", "packs/ab/3", "packsab"]
        assert keys(backend, "packs/ab/") == ["packs/ab/2", "packs/ab/3"]
        assert keys(backend, "packs/ab/3") == ["packs/ab/3"]
        assert keys(backend, "pac") == keys(backend, "packs")
        for nothing in ("packs/b", "packs/ab/2/", "nothing/at/all"):
            assert keys(backend, nothing) == []

    def test_list_of_an_empty_remote(self, backend: Backend) -> None:
        assert keys(backend) == []

    def test_delete(self, backend: Backend) -> None:
        backend.put("packs/aa/1", b"x")
        backend.put("packs/aa/2", b"y")
        backend.delete("packs/aa/1")
        assert backend.head("packs/aa/1") is None
        assert keys(backend) == ["packs/aa/2"]
        backend.delete("packs/aa/1")
        backend.delete("other/never/there")
        assert keys(backend) == ["packs/aa/2"]

    def test_put_if_absent(self, backend: Backend) -> None:
        assert backend.put_if_absent("dv.json", b"first") is True
        assert backend.put_if_absent("dv.json", b"second") is False
        assert backend.get("dv.json", size_max=10) == b"first"
        assert keys(backend) == ["dv.json"]

    def test_put_if_absent_does_not_replace_a_put(self, plain: Backend) -> None:
        plain.put("roots/x", b"same")
        assert plain.put_if_absent("roots/x", b"same") is False

    def test_errors_of_the_sink_stay_what_they_are(self, backend: Backend) -> None:
        backend.put("k", BODY)
        full = OSError(errno.ENOSPC, "No space left on device")

        class FullDisk:
            def write(self, data: bytes, /) -> None:
                raise full

        with pytest.raises(OSError, match="No space left") as caught:
            backend.read_into("k", FullDisk(), size=50)
        assert caught.value is full

    def test_errors_of_the_body_stay_what_they_are(self, backend: Backend) -> None:
        class Unreadable(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(OSError, match="Input/output error") as caught:
            backend.put("k", Unreadable(BODY))
        assert not isinstance(caught.value, DvError)
        assert backend.head("k") is None

    def test_many_threads(self, backend: Backend) -> None:
        # rclone's server answers 500 when it makes one folder for two clients at once.
        backend = Retry(backend, sleep=no_sleep)

        def cycle(number: int) -> bool:
            key, body = f"packs/{number % 4:02}/{number}", RANDOM[number : number + 50_000]
            backend.put(key, body)
            return read(backend, key, offset=100, size=900) == body[100:1000]

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(cycle, range(48)))
        assert len(keys(backend, "packs/")) == 48

    def test_url_names_the_remote(self, backend: Backend, plain: Backend) -> None:
        assert backend.url == plain.url
        with pytest.raises(ObjectMissing, match=plain.url):
            backend.get("nothing", size_max=1)


class TestLocal:
    def test_missing_root(self, tmp_path: Path) -> None:
        backend = LocalBackend(str(tmp_path / "nowhere"), url="file:///nowhere")
        attempts: list[Callable[[], object]] = [
            lambda: backend.get("k", size_max=1),
            lambda: backend.head("k"),
            lambda: backend.put("k", b""),
            lambda: backend.put_if_absent("k", b""),
            lambda: keys(backend),
            lambda: backend.delete("k"),
        ]
        for attempt in attempts:
            with pytest.raises(RemoteError, match="file:///nowhere does not exist") as caught:
                attempt()
            assert caught.value.hint
        assert not (tmp_path / "nowhere").exists()

    def test_create(self, tmp_path: Path) -> None:
        backend = LocalBackend(str(tmp_path / "deep" / "remote"))
        backend.create()
        backend.create()
        backend.put("a/b", b"x")
        assert (tmp_path / "deep" / "remote" / "a" / "b").read_bytes() == b"x"

    def test_root_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        backend = LocalBackend(str(tmp_path / "file"))
        with pytest.raises(RemoteError, match="is not a directory"):
            backend.head("k")
        with pytest.raises(RemoteError):
            backend.create()

    def test_root_may_be_a_link(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)
        LocalBackend(str(tmp_path / "link")).put("k", b"x")
        assert (root / "k").read_bytes() == b"x"

    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../k", "a/../k", "a//k", "a/", ".", "a/./k", "ä", "a\0b", "a\nb"],
    )
    def test_keys_cannot_leave_the_root(self, local: LocalBackend, key: str) -> None:
        for attempt in (
            lambda: local.put(key, b"x"),
            lambda: local.put_if_absent(key, b"x"),
            lambda: local.get(key, size_max=10),
            lambda: local.head(key),
            lambda: local.delete(key),
        ):
            with pytest.raises(RemoteError, match="is not a key"):
                attempt()

    def test_linked_folder_is_not_followed(
        self, local: LocalBackend, root: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "1").write_bytes(b"secret")
        (root / "packs").symlink_to(outside)
        for attempt in (
            lambda: local.put("packs/2", b"x"),
            lambda: local.put("packs/aa/2", b"x"),
            lambda: local.put_if_absent("packs/2", b"x"),
            lambda: local.get("packs/1", size_max=10),
            lambda: local.delete("packs/1"),
        ):
            with pytest.raises(RemoteError, match="is a symbolic link") as caught:
                attempt()
            assert "not followed" in (caught.value.hint or "")
        assert os.listdir(outside) == ["1"]
        assert keys(local) == []

    def test_linked_object_is_not_followed(
        self, local: LocalBackend, root: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"secret")
        (root / "k").symlink_to(outside)
        assert local.head("k") is None
        assert keys(local) == []
        with pytest.raises(ObjectMissing):
            local.get("k", size_max=10)
        with pytest.raises(ObjectMissing):
            read(local, "k")
        assert local.put_if_absent("k", b"new") is False
        local.put("k", b"new")
        assert outside.read_bytes() == b"secret"
        assert not (root / "k").is_symlink()
        assert local.get("k", size_max=10) == b"new"

    def test_dangling_link_is_not_written_through(
        self, local: LocalBackend, root: Path, tmp_path: Path
    ) -> None:
        (root / "k").symlink_to(tmp_path / "created-by-attack")
        local.put_if_absent("k", b"x")
        local.put("k", b"x")
        assert not (tmp_path / "created-by-attack").exists()

    def test_fifo_does_not_hang(self, local: LocalBackend, root: Path) -> None:
        os.mkfifo(root / "k")
        with pytest.raises(ObjectMissing):
            local.get("k", size_max=10)
        assert keys(local) == []

    def test_unfinished_files_are_never_seen(self, local: LocalBackend, root: Path) -> None:
        local.put("packs/1", b"x")
        (root / "packs" / f"{TEMP_PREFIX}1-abc").write_bytes(b"half")
        (root / f"{TEMP_PREFIX}dir").mkdir()
        (root / f"{TEMP_PREFIX}dir" / "k").write_bytes(b"half")
        assert keys(local) == ["packs/1"]
        with pytest.raises(RemoteError, match="unfinished"):
            local.get(f"packs/{TEMP_PREFIX}1-abc", size_max=10)

    def test_failed_put_leaves_what_was_there(self, local: LocalBackend, root: Path) -> None:
        local.put("packs/1", b"old")

        class Breaks(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 0:
                    raise KeyboardInterrupt
                return super().read(1000)

        with pytest.raises(KeyboardInterrupt):
            local.put("packs/1", Breaks(BODY))
        assert os.listdir(root / "packs") == ["1"]
        assert local.get("packs/1", size_max=10) == b"old"

    def test_put_if_absent_has_one_winner(self, local: LocalBackend, root: Path) -> None:
        for turn in range(20):
            barrier = threading.Barrier(8)

            def write(number: int, key: str, barrier: threading.Barrier) -> bool:
                barrier.wait()
                return local.put_if_absent(key, b"%d" % number * 1000)

            with ThreadPoolExecutor(8) as pool:
                futures = [pool.submit(write, n, f"k{turn}", barrier) for n in range(8)]
                winners = [n for n, future in enumerate(futures) if future.result()]
            assert len(winners) == 1
            assert (root / f"k{turn}").read_bytes() == b"%d" % winners[0] * 1000
        assert sorted(os.listdir(root)) == sorted(f"k{turn}" for turn in range(20))

    def test_put_if_absent_without_hard_links(
        self, local: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        assert local.put_if_absent("a/k", b"first") is True
        assert local.put_if_absent("a/k", b"second") is False
        assert local.get("a/k", size_max=10) == b"first"
        assert keys(local) == ["a/k"]

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_full_disk(
        self, local: LocalBackend, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(fd: int, data: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(RemoteError, match="disk is full") as caught:
            local.put("packs/1", BODY)
        assert not isinstance(caught.value, RemoteTransient)
        assert caught.value.hint
        assert os.listdir(root / "packs") == []

    def test_forbidden(self) -> None:
        # Outside of tmp_path, which belongs to one user: root must become another one here.
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o755)
            (folder / "packs").mkdir(mode=0o755)
            (folder / "packs" / "1").write_bytes(b"x")
            (folder / "packs" / "1").chmod(0o000)
            (folder / "packs").chmod(0o555)
            backend = LocalBackend(str(folder))
            with unprivileged():
                for attempt in (
                    lambda: backend.get("packs/1", size_max=10),
                    lambda: backend.put("packs/2", b"x"),
                    lambda: backend.put_if_absent("packs/2", b"x"),
                    lambda: backend.delete("packs/1"),
                ):
                    with pytest.raises(RemoteForbidden, match="Permission denied") as caught:
                        attempt()
                    assert caught.value.hint
        finally:
            (folder / "packs").chmod(0o755)
            shutil.rmtree(folder)

    def test_modes_follow_the_umask(self, local: LocalBackend, root: Path) -> None:
        before = os.umask(0o002)
        try:
            local.put("packs/1", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((root / "packs").stat().st_mode) == 0o775
        assert stat.S_IMODE((root / "packs" / "1").stat().st_mode) == 0o664

    def test_list_is_lazy(self, local: LocalBackend, root: Path) -> None:
        for name in ("a/1", "b/1"):
            local.put(name, b"")
        found = local.list("")
        assert next(found).key == "a/1"
        local.delete("b/1")
        (root / "b").rmdir()
        assert list(found) == []


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while if we are root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestS3:
    def test_prefixes_do_not_see_each_other(self, s3_env: S3Server) -> None:
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
        self, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use(moto_server, monkeypatch)
        bucket = moto_server.new_bucket()
        with moto_server.client() as client:
            for key in ("p/", "p/packs/", "p/packs/1"):
                client.put_object(Bucket=bucket, Key=key, Body=b"")
        assert keys(S3Backend(bucket, "p", S3Options(endpoint_url=moto_server.endpoint_url))) == [
            "packs/1"
        ]

    def test_listing_reads_as_it_goes(self, proxied: S3Backend, proxy: CountingProxy) -> None:
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
        self, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
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

    def test_only_plain_s3_is_asked_for(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        """No checksums but Content-MD5: many stores refuse the newer ones, or confuse them."""
        proxied.put("k", BODY)
        proxied.put_if_absent("k2", BODY)
        read(proxied, "k", offset=1, size=5)
        proxied.get("k", size_max=len(BODY))
        sent = {name.lower() for request in proxy.requests for name in request.headers}
        assert "content-md5" in sent
        assert not {name for name in sent if "checksum" in name or name == "x-amz-trailer"}

    def test_only_large_bodies_ask_before_they_come(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        for body, asks in ((BODY, False), (b"", False), (RANDOM, True), (io.BytesIO(RANDOM), True)):
            proxy.reset()
            proxied.put("k", body)
            assert ("Expect" in proxy.requests[0].headers) == asks
        assert proxied.put_if_absent("k2", BODY)
        assert "Expect" not in proxy.requests[-1].headers

    @pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    def test_wrong_credentials(
        self, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
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

    def test_no_credentials(self, rclone_server: S3Server) -> None:
        backend = S3Backend("bucket", options=S3Options(endpoint_url=rclone_server.endpoint_url))
        with pytest.raises(RemoteForbidden, match="no credentials for s3://bucket") as caught:
            backend.head("k")
        assert caught.value.hint

    def test_unknown_profile(self, rclone_server: S3Server) -> None:
        url = rclone_server.endpoint_url
        backend = S3Backend("bucket", options=S3Options(endpoint_url=url, profile="nobody"))
        with pytest.raises(RemoteForbidden, match="nobody"):
            backend.head("k")

    def test_profile_is_used(
        self, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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

    def test_missing_bucket(self, s3_env: S3Server) -> None:
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
    def test_busy_store_is_transient(
        self, proxied: S3Backend, proxy: CountingProxy, status: int
    ) -> None:
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
        self, proxied: S3Backend, proxy: CountingProxy, status: int, code: str
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
    def test_retry_after(
        self, s3_env: S3Server, value: str, low: float | None, high: float | None
    ) -> None:
        with web_server(b"", status=503, headers=f"Retry-After: {value}\r\n") as url:
            backend = S3Backend("bucket", options=S3Options(endpoint_url=url))
            with pytest.raises(RemoteBusy) as caught:
                backend.head("k")
        assert caught.value.retry_after_s == low == high

    def test_only_one_attempt_is_made(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        proxy.inject(*[Fault("GET", status=500)] * 2)
        with pytest.raises(RemoteTransient):
            read(proxied, "k")
        assert proxy.counts == {"GET": 1}

    @pytest.mark.parametrize("code", ["RequestTimeout", "IncompleteBody"])
    def test_timeouts_of_the_store_are_transient(
        self, proxied: S3Backend, proxy: CountingProxy, code: str
    ) -> None:
        proxy.inject(Fault("PUT", status=400, code=code))
        with pytest.raises(RemoteTransient, match=code):
            proxied.put("k", b"x")

    def test_access_denied(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        proxied.put("k", b"what is there and refused is not missing")
        for kind, attempt in every_request(proxied):
            proxy.inject(Fault(kind, status=403, code="AccessDenied"))
            with pytest.raises(RemoteForbidden, match="refused") as caught:
                attempt()
            assert "s3:ListBucket" in (caught.value.hint or "")

    def test_wrong_region(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        # Twice, since boto3 asks for the bucket's region and tries there once by itself.
        proxy.inject(*[Fault("PUT", status=400, code="IllegalLocationConstraintException")] * 2)
        with pytest.raises(RemoteError, match="IllegalLocation") as caught:
            proxied.put("k", b"x")
        assert "region" in (caught.value.hint or "")

    def test_other_refusals_are_final(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        proxy.inject(Fault("PUT", status=400, code="EntityTooLarge"))
        with pytest.raises(RemoteError, match="EntityTooLarge") as caught:
            proxied.put("k", b"x")
        assert not isinstance(caught.value, RemoteTransient)

    @pytest.mark.parametrize("cut_after", [0, 1, 2_000_000])
    def test_truncated_body_is_noticed(
        self, proxied: S3Backend, proxy: CountingProxy, cut_after: int
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

    def test_truncated_listing_is_noticed(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        proxied.put("k", b"")
        for cut_after in (0, 150):
            proxy.inject(Fault("LIST", cut_after=cut_after))
            with pytest.raises(RemoteTransient):
                keys(proxied)

    def test_resumed_read_asks_for_the_rest_only(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        proxied.put("k", RANDOM)
        proxy.reset()
        proxy.inject(Fault("GET", cut_after=2_000_000), Fault("GET", cut_after=500_000))
        assert read(Retry(proxied, sleep=no_sleep), "k") == RANDOM
        assert proxy.counts == {"GET": 3}
        assert proxy.received < len(RANDOM) + (1 << 20)  # at most what was in flight comes twice
        assert [request.range is None for request in proxy.requests] == [True, False, False]

    def test_lost_answers(self, proxied: S3Backend, proxy: CountingProxy) -> None:
        for kind, attempt in every_request(proxied):
            proxy.inject(Fault(kind, lost=True))
            with pytest.raises(RemoteTransient):
                attempt()

    def test_put_if_absent_after_a_lost_answer(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        proxy.inject(Fault("PUT", lost=True))
        assert Retry(proxied, sleep=no_sleep).put_if_absent("k", b"mine") is True
        assert proxied.get("k", size_max=10) == b"mine"

    @pytest.mark.parametrize("status", [400, 501])
    def test_put_if_absent_without_conditions(
        self, proxied: S3Backend, proxy: CountingProxy, status: int
    ) -> None:
        proxy.inject(Fault("PUT", status=status, code="NotImplemented"))
        assert proxied.put_if_absent("k", b"first") is True
        assert proxied.put_if_absent("k", b"second") is False
        assert proxied.get("k", size_max=10) == b"first"

    def test_put_if_absent_loses_a_race(self, proxied: S3Backend, proxy: CountingProxy) -> None:
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

    def test_conditional_put_is_used(
        self, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With HEAD blinded, a store that knows If-None-Match still does not overwrite."""
        use(moto_server, monkeypatch)
        with CountingProxy(moto_server.endpoint_url) as proxy:
            backend = S3Backend(moto_server.new_bucket(), options=S3Options(endpoint_url=proxy.url))
            backend.put("k", b"first")
            proxy.inject(Fault("HEAD", status=404))
            assert backend.put_if_absent("k", b"second") is False
            assert backend.get("k", size_max=10) == b"first"
            backend.close()

    def test_closed_port(self, s3_env: S3Server) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            backend = S3Backend(
                "bucket", options=S3Options(endpoint_url=f"http://127.0.0.1:{port}")
            )
            with pytest.raises(RemoteTransient, match=f"127.0.0.1:{port}"):
                backend.head("k")
            with pytest.raises(RemoteError, match=r"gave up after 3 attempts") as caught:
                Retry(backend, attempts=3, sleep=no_sleep).head("k")
        assert not isinstance(caught.value, RemoteTransient)

    def test_silent_server(self, s3_env: S3Server) -> None:
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

    def test_unknown_host(self, s3_env: S3Server) -> None:
        backend = S3Backend("bucket", options=S3Options(endpoint_url="http://no-such-host.invalid"))
        with pytest.raises(RemoteError, match=r"no-such-host\.invalid"):
            backend.head("k")

    def test_tls_to_a_plain_server(self, s3_env: S3Server) -> None:
        url = s3_env.endpoint_url.replace("http:", "https:")
        with pytest.raises(RemoteError, match=r"127\.0\.0\.1"):
            S3Backend("bucket", options=S3Options(endpoint_url=url)).head("k")

    @pytest.mark.parametrize("answer", ["<html><p>Welcome", "<html><p>Hi</p></html>", "{}", ""])
    def test_server_that_is_no_s3(self, s3_env: S3Server, answer: str) -> None:
        with web_server(answer.encode()) as url, pytest.raises(RemoteTransient):
            keys(S3Backend("bucket", options=S3Options(endpoint_url=url)))

    @pytest.mark.parametrize(
        ("offset", "size"), [(2, 5), (0, 10240), (10239, 1), (7, None), (10240, None)]
    )
    def test_store_that_ignores_ranges(
        self, s3_env: S3Server, offset: int, size: int | None
    ) -> None:
        with web_server(BODY) as url:
            backend = S3Backend("bucket", options=S3Options(endpoint_url=url))
            end = None if size is None else offset + size
            assert read(backend, "k", offset=offset, size=size) == BODY[offset:end]
            assert backend.features.ranged_get is False

    def test_store_that_ignores_ranges_and_has_too_little(self, s3_env: S3Server) -> None:
        with web_server(BODY) as url, pytest.raises(RemoteTransient, match="ends before"):
            read(S3Backend("b-1", options=S3Options(endpoint_url=url)), "k", offset=10240, size=1)

    def test_unusable_endpoint(self, s3_env: S3Server) -> None:
        with pytest.raises(RemoteError):
            S3Backend("bucket", options=S3Options(endpoint_url="nonsense")).head("k")


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


class TestRetry:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_gives_up_with_a_count(self, local: LocalBackend, operation: str) -> None:
        faulty = Faulty(local, on=operation, times=None)
        backend = Retry(faulty, attempts=4, sleep=no_sleep)
        attempts: dict[str, Callable[[], object]] = {
            "read_into": lambda: read(backend, "k"),
            "get": lambda: backend.get("k", size_max=1),
            "put": lambda: backend.put("k", b""),
            "put_if_absent": lambda: backend.put_if_absent("k", b""),
            "head": lambda: backend.head("k"),
            "list": lambda: keys(backend),
            "delete": lambda: backend.delete("k"),
        }
        with pytest.raises(RemoteError, match=r"injected \(gave up after 4 attempts\)") as caught:
            attempts[operation]()
        assert not isinstance(caught.value, RemoteTransient)
        assert caught.value.hint
        assert faulty.calls[operation] == 4

    @pytest.mark.parametrize(
        "error",
        [ObjectMissing("k", "here"), RemoteForbidden("no"), RemoteError("broken"), OSError("disk")],
    )
    def test_other_errors_pass_at_once(self, local: LocalBackend, error: Exception) -> None:
        faulty = Faulty(local, on="get", times=None, error=lambda: error)
        with pytest.raises(type(error)) as caught:
            Retry(faulty, sleep=no_sleep).get("k", size_max=1)
        assert caught.value is error
        assert faulty.calls["get"] == 1

    def test_pauses_grow_and_have_full_jitter(self, local: LocalBackend) -> None:
        ranges: list[tuple[float, float]] = []
        pauses: list[float] = []

        def middle(low: float, high: float) -> float:
            ranges.append((low, high))
            return (low + high) / 2

        backend = Retry(
            Faulty(local, on="head", times=None), attempts=9, sleep=pauses.append, rng=middle
        )
        with pytest.raises(RemoteError):
            backend.head("k")
        assert all(low == 0 for low, _ in ranges)
        assert [high for _, high in ranges][:8] == [0.5, 1, 2, 4, 8, 16, 20, 20]
        assert pauses == [0.25, 0.5, 1, 2, 4, 8, 10, 10]

    def test_no_attempt_after_the_deadline(self, local: LocalBackend) -> None:
        now = 100.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        faulty = Faulty(local, on="head", times=None)
        backend = Retry(
            faulty,
            attempts=50,
            deadline_s=10,
            sleep=sleep,
            rng=lambda low, high: high,
            pace=Pace(clock=lambda: now),
        )
        with pytest.raises(RemoteError, match="gave up after 5 attempts"):
            backend.head("k")
        assert now == 107.5  # 0.5 + 1 + 2 + 4; another 8 would be too late

    @pytest.mark.parametrize(("offset", "size"), [(0, None), (0, 10240), (7, 9000), (7, None)])
    def test_read_goes_on_where_it_broke_off(
        self, local: LocalBackend, offset: int, size: int | None
    ) -> None:
        local.put("k", BODY)
        faulty = Faulty(local, on="read_into", times=3, cut_at=1000)
        end = None if size is None else offset + size
        sink = Once()
        wanted = BODY[offset:end]
        written = Retry(faulty, sleep=no_sleep).read_into("k", sink, offset=offset, size=size)
        assert b"".join(sink.blocks) == wanted
        assert written == len(wanted)
        assert [len(block) for block in sink.blocks] == [1000, 1000, 1000, len(wanted) - 3000]

    @pytest.mark.parametrize("size", [None, len(BODY)])
    def test_read_that_failed_after_its_last_byte(
        self, local: LocalBackend, size: int | None
    ) -> None:
        local.put("k", BODY)
        faulty = Faulty(local, on="read_into", after=True)
        assert read(Retry(faulty, sleep=no_sleep), "k", size=size) == BODY

    def test_put_rewinds_for_each_attempt(self, local: LocalBackend) -> None:
        faulty = Faulty(local, on="put", times=2, after=True)
        body = io.BytesIO(BODY)
        body.seek(50)
        Retry(faulty, sleep=no_sleep).put("k", body)
        assert faulty.calls["put"] == 3
        assert local.get("k", size_max=len(BODY)) == BODY

    def test_put_if_absent_recognises_its_own_object(self, local: LocalBackend) -> None:
        faulty = Faulty(local, on="put_if_absent", after=True)
        assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is True
        assert faulty.calls["put_if_absent"] == 2

    def test_put_if_absent_without_failure_claims_nothing(self, local: LocalBackend) -> None:
        local.put("k", b"same")
        assert Retry(local, sleep=no_sleep).put_if_absent("k", b"same") is False

    def test_put_if_absent_when_the_check_fails_too(self, local: LocalBackend) -> None:
        faulty = Faulty(Faulty(local, on="put_if_absent", after=True), on="get")
        assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is True

    @pytest.mark.parametrize("theirs", [b"them", b"other size"])
    @pytest.mark.parametrize("after", [True, False])
    def test_put_if_absent_does_not_claim_others(
        self, local: LocalBackend, theirs: bytes, after: bool
    ) -> None:
        local.put("k", theirs)
        faulty = Faulty(local, on="put_if_absent", after=after)
        assert Retry(faulty, sleep=no_sleep).put_if_absent("k", b"mine") is False
        assert local.get("k", size_max=100) == theirs

    def test_listing_goes_on_where_it_broke_off(self, local: LocalBackend) -> None:
        names = [f"k{number:02}" for number in range(20)]
        for name in names:
            local.put(name, b"")
        faulty = Faulty(Faulty(local, on="list", times=3, cut_at=7), on="list", skip=1, cut_at=12)
        assert keys(Retry(faulty, attempts=5, sleep=no_sleep)) == names

    def test_progress_renews_the_attempts(self, local: LocalBackend) -> None:
        """A link that breaks every 100 kB still brings 3 MiB, in 32 attempts of five in a row."""
        local.put("k", RANDOM)
        faulty = Faulty(local, on="read_into", times=31, cut_at=100_000)
        assert read(Retry(faulty, sleep=no_sleep), "k", size=len(RANDOM)) == RANDOM
        assert faulty.calls["read_into"] == 32

    def test_next_to_no_progress_does_not(self, local: LocalBackend) -> None:
        local.put("k", RANDOM)
        faulty = Faulty(local, on="read_into", times=None, cut_at=10)
        with pytest.raises(RemoteError, match="gave up after 5 attempts"):
            read(Retry(faulty, sleep=no_sleep), "k", size=len(RANDOM))

    def test_progress_puts_off_the_deadline_by_what_it_is_worth(self, local: LocalBackend) -> None:
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += 40.0

        local.put("k", RANDOM)
        for cut_at, attempts in ((100_000, 32), (70_000, 6)):
            # 100 kB are worth 48.8 seconds, 70 kB 34.2: only the first keep up with 40 a time.
            faulty = Faulty(local, on="read_into", times=31, cut_at=cut_at)
            backend = Retry(faulty, deadline_s=45.0, pace=Pace(clock=lambda: now), sleep=sleep)
            if attempts == 32:
                assert read(backend, "k", size=len(RANDOM)) == RANDOM
            else:
                with pytest.raises(RemoteError, match="gave up"):
                    read(backend, "k", size=len(RANDOM))
            assert faulty.calls["read_into"] >= attempts

    def test_a_busy_remote_gets_more_attempts(self, local: LocalBackend) -> None:
        local.put("k", BODY)
        pauses: list[float] = []
        faulty = Faulty(
            local, on="get", times=20, error=lambda: RemoteBusy("slow down", retry_after_s=0.01)
        )
        backend = Retry(faulty, attempts=3, sleep=pauses.append)
        assert backend.get("k", size_max=len(BODY)) == BODY
        assert len(pauses) == 20
        assert min(pauses) >= 0.01
        assert backend.pace.limit == 2  # one, and one more for the success

    def test_a_remote_that_stays_busy_is_given_up(self, local: LocalBackend) -> None:
        faulty = Faulty(
            local, on="head", times=None, error=lambda: RemoteBusy("slow down", retry_after_s=0.0)
        )
        with pytest.raises(RemoteError, match=r"slow down \(gave up after 30 attempts\)"):
            Retry(faulty, sleep=no_sleep).head("k")

    def test_busy_answers_do_not_use_up_the_attempts(self, local: LocalBackend) -> None:
        busy = lambda: RemoteBusy("slow down", retry_after_s=0.0)  # noqa: E731
        faulty = Faulty(Faulty(local, on="head", times=2), on="head", times=6, error=busy)
        assert Retry(faulty, attempts=3, sleep=no_sleep).head("k") is None
        assert faulty.calls["head"] == 9

    def test_get_starts_afresh_so_that_versions_are_never_mixed(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        old, new = RANDOM, RANDOM[::-1]
        proxied.put("shard", old)
        proxy.inject(Fault("GET", cut_after=2_000_000))
        backend = Retry(proxied, sleep=lambda _: proxied.put("shard", new))
        assert backend.get("shard", size_max=len(new)) == new

    def test_a_large_body_that_arrived_is_not_sent_twice(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        for body in (RANDOM, io.BytesIO(RANDOM)):
            proxied.delete("k")
            proxy.reset()
            proxy.inject(Fault("PUT", lost=True))
            stored = Retry(proxied, sleep=no_sleep).put("k", body)
            assert proxy.counts == {"PUT": 1, "HEAD": 1}
            assert stored == proxied.head("k")

    def test_other_bytes_under_the_key_do_not_pass_for_the_body(
        self, proxied: S3Backend, proxy: CountingProxy
    ) -> None:
        proxied.put("k", RANDOM[::-1])
        proxy.reset()
        proxy.inject(Fault("PUT", status=500))
        Retry(proxied, sleep=no_sleep).put("k", RANDOM)
        assert proxy.counts == {"PUT": 2, "HEAD": 1}
        assert proxied.get("k", size_max=len(RANDOM)) == RANDOM

    def test_attempts_must_be_possible(self, local: LocalBackend) -> None:
        with pytest.raises(ValueError, match="attempts"):
            Retry(local, attempts=0)


class Once:
    """A sink that keeps the blocks as they came."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self.blocks.append(bytes(data))


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("/srv/data", "/srv/data"),
            ("file:///srv/data", "/srv/data"),
            ("FILE:///srv/data", "/srv/data"),
            ("file://localhost/srv/data", "/srv/data"),
            ("file:///srv/my%20data%25", "/srv/my data%"),
            ("/srv/my%20data", "/srv/my%20data"),
            ("/srv/ä ö", "/srv/ä ö"),
        ],
    )
    def test_directories(self, url: str, path: str) -> None:
        remote = parse_url(url)
        assert (remote.scheme, remote.path, remote.text) == ("file", path, url)
        backend = open_backend(url)
        assert isinstance(backend, LocalBackend)
        assert backend.url == url

    @pytest.mark.parametrize(
        ("url", "bucket", "prefix"),
        [
            ("s3://bucket", "bucket", ""),
            ("s3://bucket/", "bucket", ""),
            ("s3://my.bucket-1/a/b/", "my.bucket-1", "a/b"),
            ("S3://bucket/a%20b", "bucket", "a%20b"),
        ],
    )
    def test_buckets(self, url: str, bucket: str, prefix: str) -> None:
        remote = parse_url(url)
        assert (remote.scheme, remote.bucket, remote.prefix) == ("s3", bucket, prefix)
        backend = open_backend(url, S3Options(endpoint_url="http://127.0.0.1:9"))
        assert isinstance(backend, Retry)
        assert backend.url == f"s3://{bucket}/{prefix}".rstrip("/")

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "data",
            "./data",
            "~/data",
            "file://host/data",
            "file:data",
            "file://",
            "file:///a%00b",
            "s3://",
            "s3:///prefix",
            "s3://b ucket/x",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "s3://bucket/x?endpoint=y",
            "s3://bucket/x#y",
            "gs://bucket/x",
            "http://host/x",
            "s3:/bucket",
            "/srv/\x1b[31m",
        ],
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse_url(url)
        assert str(caught.value).isprintable()

    def test_unknown_scheme_says_what_is_supported(self) -> None:
        with pytest.raises(UsageError, match="gs://") as caught:
            parse_url("gs://bucket/x")
        assert "s3://" in (caught.value.hint or "")
        assert "file:///" in (caught.value.hint or "")

    def test_credentials_in_a_url_are_refused_and_not_repeated(self) -> None:
        with pytest.raises(UsageError) as caught:
            parse_url("s3://KEY:hush@bucket/x")
        assert "hush" not in str(caught.value)
        with pytest.raises(UsageError) as caught:
            open_backend("s3://bucket/x", S3Options(endpoint_url="https://KEY:hush@host"))
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize("endpoint", ["host:9000", "ftp://host", "http://", "http://host:x"])
    def test_endpoints_are_checked(self, endpoint: str) -> None:
        with pytest.raises(UsageError, match="endpoint"):
            open_backend("s3://bucket/x", S3Options(endpoint_url=endpoint))

    def test_opening_s3(self, s3_env: S3Server) -> None:
        url = f"s3://{s3_env.new_bucket()}/some/prefix"
        backend = open_backend(
            url, S3Options(endpoint_url=s3_env.endpoint_url, region="eu-central-1")
        )
        backend.put("k", b"x")
        assert keys(backend) == ["k"]

    def test_boto3_is_loaded_for_s3_only(self) -> None:
        code = (
            "import sys; from dvtool.remotes.transports import open_backend;"
            "open_backend('/srv'); assert 'boto3' not in sys.modules;"
            "open_backend('s3://bucket'); assert 'boto3' in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestCounting:
    """The proxy that other tests count requests with does count, and changes nothing."""

    def test_counts_by_kind(self, proxied: S3Backend, proxy: CountingProxy) -> None:
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

    def test_large_bodies(self, proxied: S3Backend, proxy: CountingProxy, tmp_path: Path) -> None:
        path = tmp_path / "pack"
        body = random.Random(1).randbytes(64 << 20)
        path.write_bytes(body)
        with path.open("rb") as file:
            proxied.put("pack", file)
        assert read(proxied, "pack") == body
        assert proxy.counts == {"PUT": 1, "GET": 1}
        assert proxy.received >= len(body)

    def test_reset_of_a_server(self, s3_server: S3Server) -> None:
        bucket = s3_server.new_bucket()
        with s3_server.client() as client:
            client.put_object(Bucket=bucket, Key="a/b", Body=b"x")
            s3_server.reset()
            assert client.list_buckets()["Buckets"] == []


# --- copying by the system ------------------------------------------------------------------

LARGE = bytes(range(256)) * 4096 * 3


@pytest.mark.parametrize("able", [True, False])
def test_a_file_goes_to_a_folder_and_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr("dvtool.remotes.transports.local.backend.COPY_STEP_BYTES", 1_000_000)
    calls = []
    real = getattr(os, "copy_file_range", None)

    def copy(*args: int, **options: int) -> int:
        calls.append(args)
        if not able and len(calls) % 2 == 0:
            raise OSError(errno.EXDEV, "injected")
        assert real is not None
        return int(real(*args, **options))

    monkeypatch.setattr(os, "copy_file_range", copy, raising=False)
    if real is None:
        pytest.skip("this system copies nothing by itself")
    backend = LocalBackend(str(tmp_path))
    (tmp_path / "body").write_bytes(LARGE)
    with open(tmp_path / "body", "rb") as body:
        body.seek(5)
        assert backend.put("packs/ab", body).size == len(LARGE)
    assert (tmp_path / "packs/ab").read_bytes() == LARGE
    with open(tmp_path / "back", "xb") as file:
        assert backend.copy_into("packs/ab", file, size=len(LARGE)) == able
        if not able:
            assert os.fstat(file.fileno()).st_size == 0
            backend.read_into("packs/ab", file)
    assert (tmp_path / "back").read_bytes() == LARGE
    assert calls


def test_an_object_that_is_too_short_is_not_copied(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path))
    backend.put("k", b"short")
    with open(tmp_path / "back", "xb") as file:
        with pytest.raises(RemoteTransient):
            backend.copy_into("k", file, size=6)
        with pytest.raises(ObjectMissing):
            backend.copy_into("none", file, size=6)
    assert (tmp_path / "back").read_bytes() == b""
