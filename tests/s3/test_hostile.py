"""Answers that no honest store gives: each an error that names the object, and no more."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from dvtool.errors import DvError, RemoteError, RemoteTransient
from dvtool.remotes.transports.s3 import guard
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3.hostile import Answer, Asked, Hostile, hostile, listing, refusal
from tests.s3.servers import AWS_ENV

KEY = "packs/ab/abcd"
MEMORY_MAX_BYTES = 64 << 20


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session-token")


def backend(server: Hostile) -> S3Backend:
    return S3Backend("bucket", "p", S3Options(endpoint_url=server.url), read_timeout_s=5)


def attempts(s3: S3Backend) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: s3.get(KEY, size_max=1 << 20),
        "read": lambda: s3.read_into(KEY, io.BytesIO()),
        "range": lambda: s3.read_into(KEY, io.BytesIO(), offset=5, size=10),
        "put": lambda: s3.put(KEY, b"secret data"),
        "head": lambda: s3.head(KEY),
        "list": lambda: list(s3.list("packs/")),
        "delete": lambda: s3.delete(KEY),
    }


# Redirections


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("verb", ["get", "read", "range", "put", "head", "list", "delete"])
def test_a_redirection_elsewhere_is_not_followed(status: int, verb: str) -> None:
    with hostile(lambda _: Answer(body=b"stolen")) as thief:
        away = {"Location": f"{thief.url}/bucket/p/{KEY}", "x-amz-bucket-region": "eu-west-1"}
        with hostile(lambda _: Answer(status, headers=away)) as server:
            s3 = backend(server)
            with pytest.raises(RemoteError, match="redirects to") as caught:
                attempts(s3)[verb]()
            s3.close()
            for url in (server.url, thief.url):
                assert url.removeprefix("http://") in str(caught.value)
            assert not isinstance(caught.value, RemoteTransient)
        assert thief.asked == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("status", "place"), [(303, "{}/x"), (302, "http://[bad{}")])
def test_a_redirection_that_urllib3_stumbles_over(status: int, place: str) -> None:
    """It gives up in the middle of preparing to follow, and does not name the host."""
    with hostile(lambda _: Answer(body=b"stolen")) as thief:
        away = {"Location": place.format(thief.url)}
        with hostile(lambda _: Answer(status, headers=away)) as server:
            for attempt in attempts(backend(server)).values():
                with pytest.raises(RemoteError):
                    attempt()
        assert thief.asked == []
    gc.collect()  # so that what urllib3 leaves open is warned of here


def test_a_redirection_to_itself_ends() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(307, headers={"Location": asked.path, "x-amz-bucket-region": "eu-west-1"})

    with hostile(answer) as server:
        for attempt in attempts(backend(server)).values():
            with pytest.raises(RemoteError):
                attempt()
        assert len(server.asked) < 40


def test_a_bucket_in_another_region_is_named() -> None:
    region = {"x-amz-bucket-region": "eu-west-1"}
    with hostile(lambda _: refusal(301, "PermanentRedirect", **region)) as server:
        with pytest.raises(RemoteError, match="PermanentRedirect") as caught:
            list(backend(server).list(""))
        assert "--region eu-west-1" in (caught.value.hint or "")
    odd = {"x-amz-bucket-region": "x; rm -rf /"}
    with hostile(lambda _: refusal(301, "PermanentRedirect", **odd)) as server:
        with pytest.raises(RemoteError) as caught:
            list(backend(server).list(""))
        assert "rm -rf" not in (caught.value.hint or "")


# Listings


@pytest.mark.parametrize(
    "key",
    ["p/packs/../../etc/passwd", "p/packs/..", "p/./packs/x", "/p/packs/x", "p/packs/\x7fx"],
)
def test_a_listing_with_an_odd_key(key: str) -> None:
    found = listing("p/packs/aa", key)
    with hostile(lambda _: found) as server, pytest.raises(RemoteError, match="lists an object"):
        list(backend(server).list("packs/"))


def test_a_listing_with_control_characters() -> None:
    def answer(_: Asked) -> Answer:
        # As S3 sends them when it was asked for keys in the encoding of URLs.
        text = listing("p/packs/a%00%1B%5B31m").body
        assert isinstance(text, bytes)
        return Answer(
            body=text.replace(b"<IsTruncated>", b"<EncodingType>url</EncodingType><IsTruncated>")
        )

    with hostile(answer) as server:
        with pytest.raises(RemoteError, match="lists an object called") as caught:
            list(backend(server).list("packs/"))
        assert str(caught.value).isprintable()


def test_a_listing_with_a_key_too_long() -> None:
    with hostile(lambda _: listing("p/packs/" + "k" * 5000)) as server:
        with pytest.raises(RemoteError, match="lists an object called") as caught:
            list(backend(server).list("packs/"))
        assert len(str(caught.value)) < 1000


def test_a_listing_with_keys_of_others() -> None:
    keys = ("other/packs/x", "p/packs/", "p/packs/aa", "p/packs/ä 図", "p/shards/x", "packs/y")
    with hostile(lambda _: listing(*keys)) as server:
        found = [info.key for info in backend(server).list("packs/")]
    assert found == ["packs/aa", "packs/ä 図"]


@pytest.mark.parametrize(
    "body",
    [
        b"<Contents><Size>1</Size></Contents>",
        b"<Contents><Key>p/packs/x</Key></Contents>",
        b"<Contents><Key>p/packs/x</Key><Size>-1</Size></Contents>",
        b"<Contents><Key>p/packs/x</Key><Size>many</Size></Contents>",
        b"<Contents><Key>p/packs/x</Key><Size>1</Size><LastModified>never</LastModified></Contents>",
    ],
)
def test_a_listing_with_objects_half_described(body: bytes) -> None:
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated>" + body + b"</ListBucketResult>"
    with hostile(lambda _: Answer(body=page)) as server, pytest.raises(RemoteError):
        list(backend(server).list("packs/"))


def test_a_listing_out_of_order_or_with_duplicates() -> None:
    for second in ("p/b", "p/a"):
        pages = iter([listing("p/a", "p/b", token="1"), listing(second, token="2")])
        with (
            hostile(lambda _, pages=pages: next(pages)) as server,
            pytest.raises(RemoteError, match="twice or out of order"),
        ):
            list(backend(server).list(""))
    page = listing("p/b", "p/a", "p/a")
    with hostile(lambda _: page) as server, pytest.raises(RemoteError, match=r"lists a twice"):
        list(backend(server).list(""))


@pytest.mark.parametrize("tokens", [["same"], ["one", "two"], [f"t{n}" for n in range(200)]])
def test_a_listing_that_does_not_end(tokens: list[str]) -> None:
    source = itertools.cycle(tokens)
    with hostile(lambda _: listing(token=next(source))) as server:
        with pytest.raises(RemoteError, match="does not end"):
            list(backend(server).list(""))
        assert len(server.asked) <= 101


def test_a_listing_that_goes_in_circles() -> None:
    source = itertools.cycle([("p/a", "1"), ("p/b", "2")])

    def answer(_: Asked) -> Answer:
        key, token = next(source)
        return listing(key, token=token)

    with hostile(answer) as server:
        with pytest.raises(RemoteError, match="out of order"):
            list(backend(server).list(""))
        assert len(server.asked) == 3


# XML


def laughs() -> bytes:
    entities = "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol" * 100}">' for n in range(9)
    )
    return (
        f"<!DOCTYPE x [{entities}]><ListBucketResult><IsTruncated>false</IsTruncated>"
        "<Contents><Key>&l8;</Key></Contents></ListBucketResult>"
    ).encode()


def endless() -> Iterator[bytes]:
    yield b"<ListBucketResult><IsTruncated>false</IsTruncated>"
    while True:
        yield b"<Contents><Key>p/a</Key><Size>1</Size></Contents>" * 1000


BODIES: dict[str, Callable[[], bytes | Iterator[bytes]]] = {
    "laughs": laughs,
    "laughs-utf16": lambda: laughs().decode().encode("utf-16"),
    "endless": endless,
    "deep": lambda: b"<a>" * 1_000_000,
    "wide": lambda: b"<ListBucketResult>" + b"<a/>" * 1_000_000 + b"</ListBucketResult>",
    "html": lambda: b"<html><body><p>Welcome to the hotel's network<br></body></html>",
    "zeros": lambda: b"\0" * 100_000,
}


@pytest.mark.parametrize("kind", BODIES)
def test_xml_that_is_none_or_too_much(kind: str) -> None:
    with hostile(lambda _: Answer(body=BODIES[kind](), sized=False)) as server:
        s3 = backend(server)
        tracemalloc.start()
        try:
            with pytest.raises(RemoteError) as caught:
                list(s3.list("packs/"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert "packs/" in str(caught.value) or server.url in str(caught.value)
        assert peak < MEMORY_MAX_BYTES


@pytest.mark.parametrize("kind", ["laughs", "laughs-utf16", "endless", "html", "zeros"])
@pytest.mark.parametrize(("status", "transient"), [(503, True), (400, False), (418, False)])
def test_an_error_whose_text_is_too_much(kind: str, status: int, transient: bool) -> None:
    """The status says enough: a busy proxy's own page does not hide that it is busy."""
    with hostile(lambda _: Answer(status, BODIES[kind](), sized=False)) as server:
        for name, attempt in attempts(backend(server)).items():
            with pytest.raises(RemoteError) as caught:
                attempt()
            assert isinstance(caught.value, RemoteTransient) == transient, name


class Room(io.BytesIO):
    """A sink with memory of its own, for which requests are sent in the quick way."""

    def room(self, size: int, /) -> memoryview:
        self.last = memoryview(bytearray(size))
        return self.last

    def filled(self, size: int, /) -> None:
        self.write(self.last[:size])

    def stated(self, md5: bytes | None, /) -> None:
        pass


@pytest.mark.parametrize("sized", [True, False])
def test_an_error_with_a_long_text_is_not_read_to_its_end(sized: bool) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(1 << 10):
            yield bytes(1 << 16)

    def answer(_: Asked) -> Answer:
        if len(server.asked) == 1:
            return Answer(206, b"0123456789", {"Content-Range": "bytes 5-14/100"})
        head = {"Content-Length": str(1 << 26)} if sized else {}
        return Answer(503, blocks(), head, sized=False)

    with hostile(answer) as server:
        s3 = backend(server)
        assert s3.read_into(KEY, Room(), offset=5, size=10) == 10
        with pytest.raises(RemoteTransient):
            s3.read_into(KEY, Room(), offset=5, size=10)
        s3.close()
        assert server.sent < 32 << 20


def test_the_text_of_an_error_cannot_play_tricks() -> None:
    text = "\x1b[31m" + "A" * 10_000
    message = "".join(f"&#{ord(c)};" if ord(c) == 27 else c for c in text)
    with hostile(lambda _: refusal(400, "Odd", message)) as server:
        for attempt in attempts(backend(server)).values():
            with pytest.raises(RemoteError) as caught:
                attempt()
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1000


# Bodies


def test_a_body_that_is_larger_than_any_of_ours() -> None:
    def endless_zeros() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)

    head = {"Content-Length": str(1 << 40)}
    with hostile(lambda _: Answer(body=endless_zeros(), headers=head)) as server:
        with pytest.raises(RemoteError, match=f"object {KEY} has 1,099,511,627,776 bytes"):
            backend(server).get(KEY, size_max=1 << 20)
        assert server.sent < 16 << 20


@pytest.mark.parametrize("length", [None, "-5", "soon", ""])
def test_a_body_of_no_known_length(length: str | None) -> None:
    head = {} if length is None else {"Content-Length": length}
    with hostile(lambda _: Answer(body=iter([b"abc"]), headers=head, sized=False)) as server:
        for name in ("get", "read", "range"):
            with pytest.raises(RemoteError, match=KEY):
                attempts(backend(server))[name]()


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-9/100", "bytes 6-15/100", "bytes */100", "nonsense", "bytes 5-1000000/1000001"],
)
def test_a_wrong_range(content_range: str) -> None:
    body = b"0123456789" if "1000000" not in content_range else b"0" * 999_996
    head = {"Content-Range": content_range}
    with hostile(lambda _: Answer(206, body, head)) as server:
        sink = io.BytesIO()
        with pytest.raises(RemoteError, match=KEY):
            backend(server).read_into(KEY, sink, offset=5, size=10)
        assert sink.getvalue() == b""


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    head = {"Content-Encoding": "gzip", "ETag": '"x"'}
    with hostile(lambda _: Answer(body=bomb, headers=head)) as server:
        for name in ("get", "read"):
            with pytest.raises(RemoteError, match="encoded as 'gzip'") as caught:
                attempts(backend(server))[name]()
            assert KEY in str(caught.value)
        with pytest.raises(RemoteError):
            list(backend(server).list(""))


def test_whole_objects_for_ranges_are_read_as_far_as_needed() -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(1 << 10):
            yield b"0123456789abcdef" * (1 << 12)

    head = {"Content-Length": str(64 << 20)}
    with hostile(lambda _: Answer(body=blocks(), headers=head)) as server:
        s3, sink = backend(server), io.BytesIO()
        assert s3.read_into(KEY, sink, offset=65536 + 3, size=20) == 20
        assert sink.getvalue() == b"3456789abcdef0123456"
        assert s3.features.ranged_get is False
        assert server.sent < 32 << 20


def test_everything_fails_with_an_error_of_ours() -> None:
    """Answers picked by kind of request, in all combinations that are cheap to try."""
    answers = [
        Answer(204),
        Answer(body=b"x"),
        Answer(206, b"x", {"Content-Range": "bytes 5-5/9"}),
        Answer(304),
        Answer(300, b"", {"Location": "::::"}),
        Answer(599, b"<Error/>"),
        Answer(200, b"<Error><Code>InternalError</Code></Error>"),
        Answer(200, b"", {"ETag": "\xff", "x-amz-meta-x": "y" * 5000}),
    ]
    for answer in answers:
        with hostile(lambda _, answer=answer: answer) as server:
            for attempt in attempts(backend(server)).values():
                with contextlib.suppress(DvError):
                    attempt()


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle() -> Iterator[bytes]:
        yield b"<ListBucketResult>"
        while True:
            time.sleep(0.02)
            yield b" "

    monkeypatch.setattr(guard, "ANSWER_TIME_MAX_S", 0.3)
    trickling = hostile(lambda _: Answer(body=trickle(), sized=False))
    with trickling as server, pytest.raises(RemoteError, match="did not end within"):
        list(backend(server).list("packs/"))
