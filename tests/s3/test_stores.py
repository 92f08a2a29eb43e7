"""Stores that differ: what they refuse, forbid or ignore, and credentials that change."""

from __future__ import annotations

import contextlib
import datetime
import io
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dvtool.errors import ObjectMissing, RemoteError, RemoteForbidden, RemoteTransient
from dvtool.remotes.transports.base import Features
from dvtool.remotes.transports.retry import Retry
from dvtool.remotes.transports.s3.backend import S3Backend
from dvtool.remotes.transports.s3.options import S3Options
from tests.s3.hostile import Answer, Asked, hostile, listing, refusal
from tests.s3.proxy import CountingProxy, Fault, Guarded, Request
from tests.s3.servers import AWS_ENV, S3Server
from tests.scenario import Clone, Remote

BODY = bytes(range(256)) * 40


def denied(kind: str) -> Fault:
    return Fault(kind, status=403, code="AccessDenied")


def without_list(server: S3Server) -> Callable[[Request], Fault | None]:
    """As S3 answers who may not list: no listings, and 403 for what is not there."""

    def refuses(request: Request) -> Fault | None:
        if request.kind == "LIST":
            return denied("LIST")
        if request.kind not in ("GET", "HEAD"):
            return None
        bucket, _, key = request.path.strip("/").partition("/")
        with server.client() as client:
            there = client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
        return None if any(one["Key"] == key for one in there) else denied(request.kind)

    return refuses


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS_ENV.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def opened(url: str, bucket: str = "bucket", **options: object) -> Iterator[S3Backend]:
    s3 = S3Backend(bucket, "p", S3Options(endpoint_url=url, **options))  # type: ignore[arg-type]
    yield s3
    s3.close()


# Rights


def test_a_role_that_may_not_list(s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()
    with (
        Guarded(s3_env.endpoint_url, without_list(s3_env)) as proxy,
        opened(proxy.url, bucket) as s3,
    ):
        assert s3.head("k") is None
        assert s3.features.list_allowed is False
        # Whether HEAD itself is granted is not known yet, so that GET is tried too.
        assert proxy.counts == {"HEAD": 1, "LIST": 1, "GET": 1}
        assert s3.put_if_absent("dv.json", b"first") is True
        assert s3.put_if_absent("dv.json", b"second") is False
        s3.put("k", BODY)
        assert s3.head("k") is not None
        assert s3.get("k", size_max=len(BODY)) == BODY
        for attempt in (
            lambda: s3.get("nothing", size_max=1),
            lambda: s3.read_into("nothing", io.BytesIO(), offset=1, size=1),
        ):
            with pytest.raises(ObjectMissing, match="nothing"):
                attempt()
        with pytest.raises(RemoteForbidden, match="AccessDenied") as caught:
            list(s3.list(""))
        assert "s3:ListBucket" in (caught.value.hint or "")
        # That listing is refused is found out once, not for each object that is not there.
        assert proxy.counts["LIST"] == 2


def test_a_day_with_a_role_that_may_neither_list_nor_delete(
    s3_env: S3Server, tmp_path: Path
) -> None:
    rights = without_list(s3_env)

    def refuses(request: Request) -> Fault | None:
        return denied("DELETE") if request.kind == "DELETE" else rights(request)

    with Guarded(s3_env.endpoint_url, refuses) as proxy:
        remote = Remote(f"s3://{s3_env.new_bucket()}/p", proxy.url)
        mine = Clone.new(tmp_path / "mine", remote)
        for number in range(5):
            mine.write(f"data/{number}", BODY * (number + 1))
        mine.add("data")
        mine.commit("one")
        with mine.repo() as repo:
            repo.push()
        theirs = mine.clone(tmp_path / "theirs", remote)
        with theirs.repo() as repo:
            repo.pull()
        assert theirs.tree("data") == mine.tree("data")
        mine.write("data/more", b"more")
        mine.add("data")
        mine.commit("two")
        with mine.repo() as repo:
            assert repo.config.open_remote().backend.features.list_allowed is False
            assert repo.push().pushed.changed


def test_a_role_that_may_list_but_not_read(s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()

    def refuses(request: Request) -> Fault | None:
        return denied(request.kind) if request.kind in ("GET", "HEAD") else None

    with Guarded(s3_env.endpoint_url, refuses) as proxy, opened(proxy.url, bucket) as s3:
        s3.put("there", BODY)
        s3.put("there-too", BODY)
        with pytest.raises(RemoteForbidden):
            s3.head("there")
        with pytest.raises(RemoteForbidden):
            s3.get("there", size_max=len(BODY))
        # As with a policy that allows to list the prefix only: S3 then says 403 for 404.
        assert s3.head("ther") is None
        with pytest.raises(ObjectMissing):
            s3.get("ther", size_max=1)
        assert s3.features.list_allowed is True


@pytest.mark.parametrize(
    "said",
    [
        "User: u is not authorized to perform: s3:GetObject on resource: r",
        "User: u is not authorized to perform: kms:Decrypt on the resource",
    ],
)
def test_a_refusal_that_says_what_it_is_about(credentials: None, said: str) -> None:
    def answer(asked: Asked) -> Answer:
        return refusal(403, "AccessDenied", said)

    with hostile(answer) as server, opened(server.url) as s3:
        with pytest.raises(RemoteForbidden, match="not authorized"):
            s3.get("k", size_max=1)
        assert not any(asked.is_listing for asked in server.asked)


def test_a_role_that_may_not_delete(s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()

    def refuses(request: Request) -> Fault | None:
        return denied("DELETE") if request.kind == "DELETE" else None

    with Guarded(s3_env.endpoint_url, refuses) as proxy, opened(proxy.url, bucket) as s3:
        with pytest.raises(RemoteForbidden):
            s3.delete("k")
        assert s3.features.delete_allowed is False
    with opened(s3_env.endpoint_url, bucket) as s3:
        s3.delete("k")
        assert s3.features.delete_allowed is True


# What stores can do


def test_what_a_store_can_do_is_learned(s3_env: S3Server) -> None:
    with opened(s3_env.endpoint_url, s3_env.new_bucket()) as s3:
        assert s3.features == Features()
        assert s3.put_if_absent("dv.json", b"{}") is True
        assert s3.features.conditional_put is (s3_env.name == "moto")
        s3.put("k", BODY)
        s3.read_into("k", io.BytesIO(), offset=5, size=5)
        assert len(list(s3.list(""))) == 2
        assert s3.features == Features(
            conditional_put=s3_env.name == "moto",
            ranged_get=True,
            content_md5=True,
            md5_etag=True,
            list_allowed=True,
        )
        assert Retry(s3).features == s3.features


def test_what_is_remembered_is_not_asked_again(s3_env: S3Server) -> None:
    bucket = s3_env.new_bucket()
    with CountingProxy(s3_env.endpoint_url) as proxy:
        for known, puts in ((None, 2), (True, 1), (False, 1)):
            s3 = S3Backend(
                bucket,
                f"known-{known}",
                S3Options(endpoint_url=proxy.url),
                features=Features(conditional_put=known),
            )
            proxy.reset()
            assert s3.put_if_absent("dv.json", b"{}") is True
            assert proxy.counts["PUT"] == puts, known
            conditional = [r for r in proxy.requests if r.headers.get("If-None-Match")]
            assert len(conditional) == (0 if known is False else puts)
            s3.close()


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "InvalidDigest"), (400, "InvalidRequest"), (501, "NotImplemented"), (501, "")],
)
def test_a_store_that_refuses_content_md5(credentials: None, status: int, code: str) -> None:
    kept: dict[str, bytes] = {}

    def answer(asked: Asked) -> Answer:
        if asked.verb == "PUT" and "Content-MD5" in asked.headers:
            return refusal(status, code) if code else Answer(status)
        if asked.verb == "PUT":
            kept[asked.path] = asked.body
            return Answer(headers={"ETag": '"opaque-1"'})
        return Answer(404)

    with hostile(answer) as server, opened(server.url) as s3:
        info = s3.put("k", io.BytesIO(BODY))
        assert (info.size, info.md5) == (len(BODY), None)
        assert s3.features.content_md5 is False
        s3.put("k2", BODY)
        assert s3.put_if_absent("dv.json", b"{}") is True
        assert kept == {"/bucket/p/k": BODY, "/bucket/p/k2": BODY, "/bucket/p/dv.json": b"{}"}
        assert [asked.verb for asked in server.asked].count("PUT") == 3 + 2


def test_a_store_that_refuses_everything_is_not_believed_to_lack_a_header(
    credentials: None,
) -> None:
    with (
        hostile(lambda _: refusal(400, "InvalidArgument", "no such key")) as server,
        opened(server.url, sse="aws:kms", sse_kms_key_id="nope") as s3,
    ):
        with pytest.raises(RemoteError, match="InvalidArgument"):
            s3.put("k", BODY)
        assert s3.features.content_md5 is None
        assert len(server.asked) == 2


# Options


def noted(**options: object) -> list[Asked]:
    """Return the requests that each operation makes with these options."""

    def answer(asked: Asked) -> Answer:
        if asked.is_listing:
            return listing("p/k")
        if asked.verb == "GET":
            return Answer(body=b"x")
        return Answer(headers={"ETag": '"opaque"'})

    with hostile(answer) as server, opened(server.url, **options) as s3:
        s3.put("small", b"x")
        s3.put("large", bytes(128 << 10))
        s3.get("k", size_max=1)
        s3.head("k")
        list(s3.list(""))
        s3.delete("k")
        return server.asked


def test_options_of_requests(credentials: None) -> None:
    asked = noted()
    for name in ("x-amz-request-payer", "x-amz-storage-class", "x-amz-server-side-encryption"):
        assert not any(name in one.headers for one in asked)
    assert all("Authorization" in one.headers for one in asked)
    assert all(
        one.headers["x-amz-request-payer"] == "requester" for one in noted(requester_pays=True)
    )
    puts = [one for one in noted(storage_class="STANDARD_IA") if one.verb == "PUT"]
    assert [one.headers.get("x-amz-storage-class") for one in puts] == [None, "STANDARD_IA"]
    puts = [one for one in noted(sse="aws:kms", sse_kms_key_id="key-1") if one.verb == "PUT"]
    for put in puts:
        assert put.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert put.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"


def test_anonymous_reads_need_no_credentials() -> None:
    asked = noted(anonymous=True)
    assert not any("Authorization" in one.headers for one in asked)


def test_addressing(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(addressing="path")[0].path.startswith("/bucket/p/")
    assert noted(addressing="auto")[0].path.startswith("/bucket/p/")
    # Names under localhost are this machine, with most resolvers; so a proxy stands for them.
    with hostile(lambda _: Answer(headers={"ETag": '"x"'})) as server:
        port = server.url.rpartition(":")[2]
        options = S3Options(
            endpoint_url=f"http://s3.invalid:{port}", addressing="virtual", proxy=server.url
        )
        s3 = S3Backend("bucket", "p", options)
        s3.put("k", b"x")
        s3.close()
        (asked,) = server.asked
        assert asked.headers["Host"] == f"bucket.s3.invalid:{port}"
        assert asked.path == "/p/k"


def authority(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that nobody knows; return its file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "ca.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


def test_a_private_authority(credentials: None, tmp_path: Path) -> None:
    certificate, secret = authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    with hostile(lambda _: Answer(headers={"ETag": '"x"'}), tls=context) as server:
        with opened(server.url) as s3:
            with pytest.raises(RemoteError, match="no trusted connection") as caught:
                s3.put("k", b"x")
            assert "--ca-bundle" in (caught.value.hint or "")
        assert server.asked == []
        with opened(server.url, ca_bundle=str(certificate)) as s3:
            s3.put("k", b"x")
        assert len(server.asked) == 1


# Credentials


def shared_file(path: Path, key: str, token: str = "") -> None:
    lines = ["[default]", f"aws_access_key_id = {key}", "aws_secret_access_key = s"]
    path.write_text("\n".join([*lines, *([f"aws_session_token = {token}"] if token else [])]))


class Expiring:
    """A store that lets in who has the access key `valid`."""

    def __init__(self, code: str, status: int = 400) -> None:
        self.valid = "OLD"
        self.code = code
        self.status = status
        self.refused = threading.Event()

    def __call__(self, asked: Asked) -> Answer:
        if f"Credential={self.valid}/" not in asked.headers["Authorization"]:
            self.refused.set()
            return refusal(self.status, self.code, "the token has expired")
        if asked.is_listing:
            return listing("p/k")
        if asked.verb == "GET":
            return Answer(body=b"x")
        return Answer(headers={"ETag": '"x"'})


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    shared_file(path, "OLD")
    return path


def operations(s3: S3Backend | Retry) -> list[Callable[[], object]]:
    return [
        lambda: s3.get("k", size_max=1),
        lambda: s3.read_into("k", io.BytesIO()),
        lambda: s3.put("k", io.BytesIO(BODY)),
        lambda: s3.head("k"),
        lambda: list(s3.list("")),
        lambda: s3.delete("k"),
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ExpiredToken", 400),
        ("InvalidToken", 400),
        ("RequestExpired", 400),
        ("InvalidAccessKeyId", 403),
    ],
)
def test_credentials_that_are_replaced_meanwhile(file: Path, code: str, status: int) -> None:
    store = Expiring(code, status)
    with hostile(store) as server, opened(server.url) as s3:
        for number, operation in enumerate(operations(s3)):
            operation()
            store.valid = f"NEW{number}"
            with pytest.raises(RemoteForbidden, match="refuses the credentials") as caught:
                operation()
            assert not isinstance(caught.value, RemoteTransient)
            assert "~/.aws" in (caught.value.hint or "")
            shared_file(file, store.valid, "token")
            with pytest.raises(RemoteTransient, match="there are new ones"):
                operation()
            operation()
        calm = Retry(s3, sleep=lambda _: None)
        for number, operation in enumerate(operations(calm)):
            store.valid = f"NEWER{number}"
            shared_file(file, store.valid)
            operation()


def test_many_threads_meet_the_end_of_the_credentials(file: Path) -> None:
    store = Expiring("ExpiredToken")
    errors: list[BaseException] = []
    with hostile(store) as server, opened(server.url) as s3:
        calm = Retry(s3, sleep=lambda _: None)
        calm.get("k", size_max=1)

        def work() -> None:
            try:
                for number in range(100_000):
                    calm.get("k", size_max=1)
                    if number >= 30 and store.refused.is_set():
                        break
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        shared_file(file, "NEW")
        store.valid = "NEW"
        for thread in threads:
            thread.join()
        assert store.refused.is_set()
    assert errors == []


def test_credentials_of_the_environment_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Expiring("ExpiredToken")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with hostile(store) as server, opened(server.url) as s3:
        s3.put("k", b"x")
        store.valid = "NEW"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
        Retry(s3, sleep=lambda _: None).put("k", b"x")


def test_a_clock_that_is_off_is_said_by_how_much(credentials: None) -> None:
    date = {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    with (
        hostile(lambda _: refusal(403, "RequestTimeTooSkewed", **date)) as server,
        opened(server.url) as s3,
        pytest.raises(RemoteForbidden) as caught,
    ):
        s3.put("k", b"x")
    assert "s ahead of the store's" in (caught.value.hint or "")


def test_facts_of_a_store(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto_server.env.items():
        monkeypatch.setenv(name, value)
    plain = moto_server.new_bucket()
    with moto_server.client() as client:
        client.create_bucket(Bucket=f"{plain}-lock", ObjectLockEnabledForBucket=True)
    with opened(moto_server.endpoint_url, plain) as s3:
        facts = s3.facts()
        assert (facts.versioning, facts.object_lock) == (False, False)
        assert abs(facts.clock_ahead_s or 99) < 10
        assert "erkzeug" in (facts.server or "")
    with opened(moto_server.endpoint_url, f"{plain}-lock") as s3:
        assert (s3.facts().versioning, s3.facts().object_lock) == (True, True)
        # Such a bucket wants a checksum with each PUT: Content-MD5 is one.
        assert s3.put("k", BODY).size == len(BODY)


def test_a_server_that_is_asked_in_vain_for_facts(credentials: None) -> None:
    with hostile(lambda _: Answer(403)) as server, opened(server.url) as s3:
        facts = s3.facts()
    assert (facts.versioning, facts.object_lock) == (None, None)


def test_hostile_servers_are_told_apart(credentials: None) -> None:
    """A request never goes to another host than the remote's, whatever made it try."""
    with hostile(lambda _: Answer(200)) as server, opened(server.url) as s3:
        s3.put("k", b"x")
        client = s3._client()
        client.meta.events.register(
            "before-sign.s3",
            lambda request, **_: setattr(request, "url", "http://elsewhere.invalid/bucket/p/k"),
        )
        with pytest.raises(RemoteError, match=r"elsewhere\.invalid was held back"):
            s3.put("k", b"x")
