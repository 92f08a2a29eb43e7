"""Trouble of the AWS configuration, or on the way, is named and not blamed on the store."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from dvtool.errors import RemoteBusy, RemoteError, RemoteForbidden, RemoteTransient, UsageError
from dvtool.remotes.transports.registry import open_backend, transport_of
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.configuration import HINT_SERVICE
from dvtool.remotes.transports.s3.errors import (
    HINT_FULL,
    HINT_PAGE,
    HINT_PROXY,
    HINT_TOO_LARGE,
    NotAllowed,
)
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3.hostile import Answer, hostile, refusal
from tests.s3.servers import AWS_ENV
from tests.s3.test_stores import authority, opened

KEYS = "aws_access_key_id = x\naws_secret_access_key = y\n"
FAULTY_FILES = {
    "no section": ("[default\n", "cannot be read"),
    "not UTF-8": (b"[default]\naws_access_key_id = \xff\n", "cannot be read"),
    "a program that fails": ("[default]\ncredential_process = /bin/false\n", "custom-process"),
    "no such program": ("[default]\ncredential_process = /no/such\n", "/no/such"),
    "a program that prints no JSON": ("[default]\ncredential_process = echo no\n", "JSON"),
    "no such source": (
        "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = nope\n",
        "nope",
    ),
    "text for a section": (f"[default]\ns3 = garbage\n{KEYS}", "cannot be used"),
    "an unknown mode": (f"[default]\ndefaults_mode = foo\n{KEYS}", "foo"),
    "a key in Cyrillic": (
        f"[default]\n{KEYS}".replace("= x", "= \u043a\u043b\u044e\u0447"),
        "no key has",
    ),
    "half of the keys": ("[default]\naws_access_key_id = x\n", "aws_secret_access_key"),
}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without AWS's variables; its files are in `tmp_path`."""
    for name in AWS_ENV:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


@pytest.fixture
def keys(plain: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in AWS_ENV.items():
        plain.setenv(name, value)
    return plain


@pytest.mark.parametrize("name", FAULTY_FILES)
def test_a_faulty_file(plain: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    text, said = FAULTY_FILES[name]
    (tmp_path / "config").write_bytes(text if isinstance(text, bytes) else text.encode())
    with hostile(lambda _: Answer()) as server, opened(server.url) as s3:
        for ask in (lambda: s3.get("k", size_max=1), lambda: s3.head("k"), s3.facts):
            with pytest.raises(RemoteError) as caught:
                ask()
            assert said in str(caught.value)
            assert str(tmp_path / "config") in str(caught.value)
            assert not isinstance(caught.value, RemoteTransient)
            assert caught.value.hint
        assert server.asked == []


@pytest.mark.parametrize(
    ("variables", "said", "hint"),
    [
        ({"AWS_PROFILE": "nope"}, "no profile 'nope'", "AWS_PROFILE"),
        ({"AWS_DEFAULTS_MODE": "x"}, "defaults mode", "sts"),
        (
            {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such"},
            "/no/such",
            "path",
        ),
        (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/"},
            "example.org",
            "sts",
        ),
        ({}, "Unable to locate credentials", "AWS_"),
    ],
)
def test_faulty_variables(
    plain: pytest.MonkeyPatch, variables: dict[str, str], said: str, hint: str
) -> None:
    for name, value in variables.items():
        plain.setenv(name, value)
    with hostile(lambda _: Answer()) as server, opened(server.url) as s3:
        with pytest.raises(RemoteForbidden) as caught:
            s3.get("k", size_max=1)
        assert said in str(caught.value)
        assert hint in (caught.value.hint or "")
        assert server.asked == []


def test_a_profile_that_the_remote_names(keys: pytest.MonkeyPatch) -> None:
    with opened("http://127.0.0.1:9", profile="work") as s3:
        with pytest.raises(RemoteForbidden, match="no profile 'work'") as caught:
            s3.head("k")
        assert "dv remote set NAME --profile" in (caught.value.hint or "")


def test_a_role_whose_service_is_away_or_refuses(plain: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A refusal of STS must never read as one of the store, behind which objects may be missing."""
    token = tmp_path / "token"
    token.write_text("token")
    plain.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    plain.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    plain.setenv("AWS_DEFAULT_REGION", "us-east-1")
    plain.setenv("AWS_MAX_ATTEMPTS", "1")
    with (
        hostile(lambda _: Answer()) as store,
        hostile(lambda _: refusal(403, "AccessDenied", "not you")) as sts,
    ):
        for address in ("http://127.0.0.1:9", sts.url):
            plain.setenv("AWS_ENDPOINT_URL_STS", address)
            with opened(store.url) as s3:
                with pytest.raises(RemoteForbidden, match="no credentials for") as caught:
                    s3.head("k")
                assert caught.value.hint == HINT_SERVICE
        assert store.asked == []


@pytest.mark.parametrize("text", [None, "no certificate\n"])
def test_certificates_that_cannot_be_read(
    keys: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    certificate, secret = authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    keys.setenv("AWS_CA_BUNDLE", str(bundle))
    with hostile(lambda _: Answer(), tls=context) as server, opened(server.url) as s3:
        with pytest.raises(RemoteError, match=r"certificates to trust.*bundle\.pem") as caught:
            s3.head("k")
        assert not isinstance(caught.value, RemoteTransient)
        assert "AWS_CA_BUNDLE" in (caught.value.hint or "")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_does_not_answer(keys: pytest.MonkeyPatch, proxy: str) -> None:
    keys.setenv("HTTP_PROXY", proxy)
    keys.delenv("NO_PROXY", raising=False)
    keys.delenv("no_proxy", raising=False)
    with opened("http://store.invalid") as s3:
        with pytest.raises(RemoteError, match=r"127\.0\.0\.1:9.*was not reached") as caught:
            s3.head("k")
        assert caught.value.hint == HINT_PROXY
        assert not isinstance(caught.value, RemoteTransient)


PAGE = b"<html><head><title>%s</title></head><body><h1>no</h1></body></html>"


@pytest.mark.parametrize("body", [PAGE % b"404 Not Found", b"404 page not found"])
def test_a_web_server_in_the_place_of_a_store(keys: pytest.MonkeyPatch, body: bytes) -> None:
    with hostile(lambda _: Answer(404, body)) as server, opened(server.url) as s3:
        with pytest.raises(RemoteForbidden, match="does not list objects") as listed:
            list(s3.list(""))
        assert "endpoint" in (listed.value.hint or "")
        with pytest.raises(RemoteError, match="answers 404 to an upload") as put:
            s3.put("k", b"x")
        assert put.value.hint == HINT_PAGE


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (403, RemoteForbidden, HINT_PAGE),
        (405, NotAllowed, HINT_PAGE),
        (413, RemoteError, HINT_TOO_LARGE),
        (418, RemoteError, HINT_PAGE),
    ],
)
def test_a_page_for_a_refusal(
    keys: pytest.MonkeyPatch, status: int, kind: type[RemoteError], hint: str
) -> None:
    with (
        hostile(lambda _: Answer(status, PAGE % b"Blocked &amp; logged")) as server,
        opened(server.url) as s3,
    ):
        for ask in (lambda: s3.put("k", b"x"), lambda: s3.get("k", size_max=1)):
            with pytest.raises(kind, match=f"{status}, with a page that is not S3's") as caught:
                ask()
            assert "Blocked" in str(caught.value)
            assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull"), (507, "Other")]
)
def test_a_store_that_is_full(keys: pytest.MonkeyPatch, status: int, code: str) -> None:
    with hostile(lambda _: refusal(status, code)) as server, opened(server.url) as s3:
        with pytest.raises(RemoteError, match="full or a quota used up") as caught:
            s3.put("k", b"x")
        assert caught.value.hint == HINT_FULL


def test_503_to_head_means_slow_down(keys: pytest.MonkeyPatch) -> None:
    with hostile(lambda _: Answer(503)) as server, opened(server.url) as s3:
        with pytest.raises(RemoteBusy):
            s3.head("k")
        with pytest.raises(RemoteTransient) as caught:
            s3.get("k", size_max=1)
        assert not isinstance(caught.value, RemoteBusy)


@pytest.mark.parametrize(
    ("operation", "right"),
    [("put", "s3:PutObject"), ("delete", "s3:DeleteObject"), ("list", "s3:ListBucket")],
)
def test_the_right_that_is_missing(keys: pytest.MonkeyPatch, operation: str, right: str) -> None:
    with hostile(lambda _: refusal(403, "AccessDenied")) as server, opened(server.url) as s3:
        deeds = {
            "put": lambda: s3.put("k", b"x"),
            "delete": lambda: s3.delete("k"),
            "list": lambda: list(s3.list("")),
        }
        with pytest.raises(RemoteForbidden) as caught:
            deeds[operation]()
        assert f"may not {operation if operation != 'put' else 'write'} ({right})" in (
            caught.value.hint or ""
        )


def test_an_endpoint_that_names_the_bucket() -> None:
    options = {"endpoint_url": "https://account.example.org/bkt/"}
    with pytest.raises(UsageError, match="names the bucket") as caught:
        open_backend("s3://bkt/p", options)
    assert (caught.value.hint or "").endswith("--endpoint-url https://account.example.org")
    open_backend("s3://other/p", options)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("s3:/bkt/p", "s3://bkt/p"),
        ("s3:bkt/p", "s3://bkt/p"),
        ("gs:/bkt", "gs://bkt"),
        ("my-bucket/data", "s3://my-bucket/data"),
    ],
)
def test_half_a_url_is_no_folder(tmp_path: Path, url: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        transport_of(url).resolve(url, str(tmp_path))
    assert hint in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "my-bucket/data").mkdir(parents=True)
    for url in ("my-bucket/data", "./s3:/x", "word", "../up/x"):
        assert transport_of(url).resolve(url, str(tmp_path)).startswith("/")


def test_one_who_is_refused_head_is_answered_by_get(keys: pytest.MonkeyPatch) -> None:
    body = b"12345"

    def answer(asked: object) -> Answer:
        verb = asked.verb  # type: ignore[attr-defined]
        if verb == "HEAD":
            return Answer(405)
        if "gone" in asked.path:  # type: ignore[attr-defined]
            return refusal(404, "NoSuchKey")
        if "empty" in asked.path:  # type: ignore[attr-defined]
            return refusal(416, "InvalidRange")
        return Answer(206, body[:1], {"Content-Range": f"bytes 0-0/{len(body)}"})

    with hostile(answer) as server, opened(server.url) as s3:
        for key, size in (("k", 5), ("gone", None), ("empty", 0)):
            found = s3.head(key)
            assert (found and found.size) == size
        assert [asked.verb for asked in server.asked] == ["HEAD", "GET", "GET", "GET"]


def test_options_of_s3_reach_no_folder() -> None:
    with pytest.raises(UsageError, match="means nothing"):
        open_backend("/srv/data", {"region": "eu-central-1"})


def test_another_bucket_may_end_like_the_path() -> None:
    s3 = S3Backend("bucket", "p", S3Options(endpoint_url="http://127.0.0.1:9/s3"))
    assert s3.url == "s3://bucket/p"
