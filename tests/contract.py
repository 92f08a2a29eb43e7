"""What every transport promises, as tests: one suite for all of them.

Run against the folder and a transport of the tests in unit/, against S3 servers in s3/.
"""

from __future__ import annotations

import errno
import hashlib
import io
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dvtool.errors import DvError, ObjectMissing, RemoteError, RemoteTransient
from dvtool.remotes.transports.base import Backend, ObjectInfo
from dvtool.remotes.transports.declaration import Transport
from dvtool.remotes.transports.local.declaration import FOLDER
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.declaration import S3
from tests.faulty import Faulty

PLACES: Mapping[str, Transport] = {"folder": FOLDER, "rclone": S3, "moto": S3}
"""Where the suite is run, and the transport that it tests there."""
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


class Contract:
    """The tests that every transport has to pass. A subclass has a fixture `plain`: a backend."""

    @pytest.fixture(params=["plain", "retry-over-faults"])
    def backend(self, request: pytest.FixtureRequest, plain: Backend) -> Backend:
        return plain if request.param == "plain" else failing_once_each(plain)

    @pytest.mark.parametrize("body", [b"", b"x", BODY, RANDOM], ids=["0", "1", "10k", "3m"])
    def test_put_then_get(self, backend: Backend, body: bytes) -> None:
        stored = backend.put("packs/ab/cd", body)
        assert backend.get("packs/ab/cd", size_max=len(body)) == body
        assert read(backend, "packs/ab/cd") == body
        assert backend.head("packs/ab/cd") == stored
        assert list(backend.list("")) == [stored]
        assert stored == ObjectInfo("packs/ab/cd", len(body), stored.md5)
        # Both S3 servers state the MD5 of what they hold, as most stores do; a folder does not.
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        assert stored.md5 == (None if backend.features.md5_etag is False else md5)

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
