"""Requests and responses without a socket: signatures by botocore, hostile keys, conditions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from dvtool.errors import CorruptError, MissingError, RemoteTransient
from dvtool.serve import objects
from dvtool.serve.bucket import Bucket
from dvtool.serve.faults import S3Fault
from dvtool.serve.messages import Blocks, Request, Response
from dvtool.serve.revisions import KEPT_MAX, Revisions
from dvtool.serve.signature import Keys, require_signature
from dvtool.snapshots.snapshot import Snapshot
from tests.scenario import Clone, Remote, noise

KEYS = Keys("AK/with.slash", "s3cret/+ü")
HOST = "127.0.0.1:9000"
LARGE = noise(9 << 20, 5)
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
OUTSIDE = "outside.txt"


def signed(target: str, method: str = "GET", *, keys: Keys = KEYS, **headers: str) -> Request:
    """Return a request for a target, percent-encoded, signed by botocore."""
    request = AWSRequest(method, f"http://{HOST}{target}", headers=headers)
    S3SigV4Auth(Credentials(keys.access_key, keys.secret_key), "s3", "eu-west-7").add_auth(request)
    return _as_sent(request, target)


def presigned(target: str, *, expires_s: int = 60, keys: Keys = KEYS) -> Request:
    request = AWSRequest("GET", f"http://{HOST}{target}")
    credentials = Credentials(keys.access_key, keys.secret_key)
    S3SigV4QueryAuth(credentials, "s3", "eu-west-7", expires=expires_s).add_auth(request)
    parts = urlsplit(request.url)
    return _as_sent(request, f"{parts.path}?{parts.query}")


def _as_sent(request: Any, target: str) -> Request:
    path, _, query = target.partition("?")
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    return Request(request.method, path, query, {"host": HOST, **headers})


class Side:
    """A repository with its bucket; `snapshots` are the commits that were opened."""

    def __init__(self, clone: Clone, *revs: str) -> None:
        self.clone = clone
        self.repo = clone.repo()
        self.opened: list[str] = []
        self.reported: list[str] = []
        revisions = Revisions(self.repo._project.git, self._open, revs)
        self.bucket = Bucket(revisions, KEYS, self.reported.append)

    def _open(self, commit: str) -> Snapshot:
        self.opened.append(commit)
        return self.repo.snapshot(commit)

    def ask(self, target: str, method: str = "GET", **headers: str) -> Response:
        return self.bucket.answer(signed(target, method, **headers))

    def code(self, target: str, method: str = "GET", **headers: str) -> str:
        return code_of(self.ask(target, method, **headers))

    def listing(self, query: str) -> ElementTree.Element:
        response = self.ask("/dv?" + query.replace("/", "%2F"))
        assert response.status == 200, response
        return ElementTree.fromstring(bytes_of(response))


def bytes_of(response: Response) -> bytes:
    body = response.body
    if not isinstance(body, Blocks):
        return body
    parts = []
    while part := body.read():
        parts.append(part)
    body.close()
    return b"".join(parts)


def code_of(response: Response) -> str:
    match = re.search(rb"<Code>(\w+)</Code>", bytes_of(response))
    return match[1].decode() if match else str(response.status)


@pytest.fixture(scope="module")
def side(_isolated_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    clone = Clone.new(tmp_path_factory.mktemp("bucket") / "work")
    with clone.repo() as repo:
        repo.config.init()
    clone.write(OUTSIDE, b"not data")
    clone.write("data/a.txt", b"a")
    clone.write("data/sub/b.txt", b"b")
    clone.write("data/control\x01", b"c")
    clone.write("data/large", LARGE)
    clone.link("data/folder", "sub")
    clone.add("data")
    clone.git("add", "-A")
    clone.commit("first")
    clone.git("branch", "other/branch")
    made = Side(clone)
    yield made
    made.repo.close()


# --- signatures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/dv?list-type=2&prefix=a%20b%2B%25&delimiter=%2F",
        "/dv?list-type=2&delimiter=",
        "/dv/main/data/with%20space%2B%25%C3%BC%7E~",
        "/dv/main/" + quote("per%2Fcent;=,:@&"),
        "/dv//double//slash/",
        "/dv/%FF%00",
    ],
)
def test_the_signature_is_that_of_botocore(target: str) -> None:
    now = datetime.now(UTC)
    require_signature(signed(target, Range="bytes=0-1"), KEYS, now)
    require_signature(presigned(target), KEYS, now)
    for wrong in (KEYS._replace(secret_key="other"), KEYS._replace(access_key="other")):
        with pytest.raises(S3Fault) as fault:
            require_signature(signed(target, keys=wrong), KEYS, now)
        assert fault.value.status == 403
        with pytest.raises(S3Fault):
            require_signature(presigned(target, keys=wrong), KEYS, now)


def test_any_change_of_a_signed_request_is_noticed() -> None:
    request = signed("/dv/main/data/a.txt?x=1", Range="bytes=0-1")
    now = datetime.now(UTC)
    for changed in (
        request._replace(method="HEAD"),
        request._replace(path="/dv/main/data/b.txt"),
        request._replace(query="x=2"),
        request._replace(query="x=1&y="),
        request._replace(headers={**request.headers, "host": "other"}),
        request._replace(headers={**request.headers, "x-amz-date": "20200101T000000Z"}),
        request._replace(headers={**request.headers, "x-amz-content-sha256": "0" * 64}),
    ):
        with pytest.raises(S3Fault) as fault:
            require_signature(changed, KEYS, now)
        assert fault.value.status == 403


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AWS AK:c2lnbmF0dXJl",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request,SignedHeaders=host,Signature=zz",
        "Bearer \udcff",
    ],
)
def test_odd_authorizations_are_refused(side: Side, text: str) -> None:
    headers = {"host": HOST, "authorization": text, "x-amz-date": "20260101T000000Z"}
    response = side.bucket.answer(Request("GET", "/dv", "", headers))
    assert response.status in (400, 403)


def test_a_presigned_url_ends(side: Side) -> None:
    request = presigned("/dv/main/data/a.txt", expires_s=5)
    require_signature(request, KEYS, datetime.now(UTC))
    with pytest.raises(S3Fault, match="expired"):
        require_signature(request, KEYS, datetime.now(UTC) + timedelta(seconds=10))
    assert code_of(side.bucket.answer(presigned("/dv/main/data/a.txt", expires_s=700_000))) == (
        "AuthorizationQueryParametersError"
    )
    doubled = request._replace(query=request.query + "&X-Amz-Expires=600")
    assert side.bucket.answer(doubled).status == 400


# --- hostile keys -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        f"main/{OUTSIDE}",
        f"main/data/../{OUTSIDE}",
        f"main/data/%2e%2e/{OUTSIDE}",
        f"main/data/%252e%252e/{OUTSIDE}",
        "main/../main/data/a.txt",
        "main/./data/a.txt",
        "main//data/a.txt",
        "main/data//a.txt",
        "main/data/a.txt/",
        "main/data/a.txt%00",
        "main/data%2F..%2F..%2F..%2Fetc%2Fpasswd",
        "main/%2Fetc/passwd",
        "main/data/%C0%AE%C0%AE/" + OUTSIDE,
        "main/data/a.txt%0A",
        "/etc/passwd",
        "../etc/passwd",
        "main%00/data/a.txt",
        "main%0A/data/a.txt",
        "-h/data/a.txt",
        "--all/data/a.txt",
        "main..HEAD/data/a.txt",
        "^main/data/a.txt",
        "main:data/a.txt",
        "%FF/data/a.txt",
        "x" * 5_000 + "/data/a.txt",
        "main/" + "d/" * 3_000,
    ],
)
def test_nothing_else_is_reached(side: Side, key: str) -> None:
    for method in ("GET", "HEAD"):
        assert side.code(f"/dv/{key}", method) == "NoSuchKey"


def test_links_within_the_data_are_followed(side: Side) -> None:
    assert bytes_of(side.ask("/dv/main/data/folder/b.txt")) == b"b"


@pytest.mark.parametrize("target", ["/other", "/other/key", "/DV/main/data/a.txt", "/%64v%00"])
def test_there_is_one_bucket(side: Side, target: str) -> None:
    assert side.code(target) == "NoSuchBucket"


@pytest.mark.parametrize("query", ["acl", "uploads", "versions", "policy", "list-type=3", "x=1"])
def test_other_requests_are_not_taken_for_listings(side: Side, query: str) -> None:
    assert side.code(f"/dv?{query}") in ("NotImplemented", "InvalidArgument")
    assert side.code(f"/dv/main/data/a.txt?{query}") == "NotImplemented"


@pytest.mark.parametrize(
    "query",
    ["max-keys=-1", "max-keys=x", "max-keys=٣", "encoding-type=base64", "prefix=a&prefix=b",
     "list-type=2&continuation-token=AAAA", "list-type=2&continuation-token=%FF"],
)  # fmt: skip
def test_odd_questions_are_refused(side: Side, query: str) -> None:
    assert side.code(f"/dv?{quote(query, safe='=&%-')}") == "InvalidArgument"


# --- listings -----------------------------------------------------------------------------


def test_a_listing_of_everything_has_every_revision(side: Side) -> None:
    keys = [key.text for key in side.listing("encoding-type=url").iter(f"{NAMESPACE}Key")]
    assert keys == [
        f"{name}/data/{path}"
        for name in ("HEAD", "main", "other..branch")
        for path in ("a.txt", "control%01", "large", "sub/b.txt")
    ]


def test_a_revision_that_is_not_listed_is_found_by_its_name(side: Side) -> None:
    for name in ("main~0", "other..branch"):
        page = side.listing(f"list-type=2&delimiter=/&prefix={quote(name)}")
        assert [each[0].text for each in page.iter(f"{NAMESPACE}CommonPrefixes")] == [name + "/"]
    assert not list(side.listing("list-type=2&prefix=none/").iter(f"{NAMESPACE}Contents"))


def test_the_pages_of_a_branch_are_of_one_commit(side: Side, tmp_path: Path) -> None:
    clone = side.clone.clone(tmp_path / "clone", Remote(str(tmp_path / "remote")))
    moving = Side(clone, "main")
    page = moving.listing("list-type=2&prefix=main/&max-keys=1")
    token = page.findtext(f"{NAMESPACE}NextContinuationToken")
    assert token
    clone.git("rm", "-q", "data.dv.json")
    clone.commit("No data")
    assert not list(moving.listing("list-type=2&prefix=main/").iter(f"{NAMESPACE}Key"))
    query = f"list-type=2&prefix=main/&encoding-type=url&continuation-token={quote(token)}"
    keys = [key.text for key in moving.listing(query).iter(f"{NAMESPACE}Key")]
    assert keys == ["main/data/control%01", "main/data/large", "main/data/sub/b.txt"]
    assert (
        moving.code(f"/dv?{query.replace('prefix=main/', 'prefix=HEAD%2F')}") == "InvalidArgument"
    )
    moving.repo.close()


def test_given_revisions_alone_are_served(side: Side) -> None:
    given = Side(side.clone, "other/branch")
    assert bytes_of(given.ask("/dv/other..branch/data/a.txt")) == b"a"
    commit = side.clone.git("rev-parse", "HEAD")
    for name in ("main", "HEAD", commit, "other..branch~0", "refs..heads..other..branch"):
        assert given.code(f"/dv/{quote(name)}/data/a.txt") == "NoSuchKey"
        assert not list(given.listing(f"prefix={quote(name)}/").iter(f"{NAMESPACE}Key"))
    given.repo.close()


def test_few_snapshots_are_kept(side: Side) -> None:
    fresh = Side(side.clone)
    tree, last = side.clone.git("rev-parse", "HEAD^{tree}"), "HEAD"
    commits = []
    for number in range(KEPT_MAX + 2):
        last = side.clone.git("commit-tree", "-p", last, "-m", str(number), tree)
        commits.append(last)
    for commit in (*commits, commits[-1], commits[0]):
        assert bytes_of(fresh.ask(f"/dv/{commit}/data/a.txt")) == b"a"
    assert fresh.opened == [*commits, commits[0]]
    fresh.repo.close()


# --- objects ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-", 206, LARGE),
        ("bytes=1-", 206, LARGE[1:]),
        ("bytes=-99999999999", 206, LARGE),
        ("bytes=5-5", 206, LARGE[5:6]),
        ("bytes=9-3", 200, LARGE),
        ("bytes=0-1,5-6", 200, LARGE),
        ("bytes=-", 200, LARGE),
        ("lines=1-2", 200, LARGE),
        ("bytes=٣-", 200, LARGE),
        (f"bytes={len(LARGE)}-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9999999999999999999-", 416, None),
    ],
)
def test_ranges(side: Side, asked: str, status: int, expected: bytes | None) -> None:
    request = signed("/dv/main/data/large")
    response = side.bucket.answer(request._replace(headers={**request.headers, "range": asked}))
    assert response.status == status
    if expected is None:
        assert response.headers["Content-Range"] == f"bytes */{len(LARGE)}"
        assert code_of(response) == "InvalidRange"
    else:
        assert bytes_of(response) == expected
        assert response.headers["Content-Length"] == str(len(expected))


def test_more_whole_files_than_places_for_streams_are_read_all_the_same(side: Side) -> None:
    bodies = [side.ask("/dv/main/data/large") for _ in range(objects.STREAMS_MAX + 2)]
    assert all(hashlib.sha256(bytes_of(each)).digest() == DIGEST for each in reversed(bodies))
    left = side.ask("/dv/main/data/large").body
    assert isinstance(left, Blocks)
    left.close()
    assert objects._streams._value == objects.STREAMS_MAX  # type: ignore[attr-defined]


DIGEST = hashlib.sha256(LARGE).digest()


def test_a_condition_on_the_state_of_a_range(side: Side) -> None:
    etag = side.ask("/dv/main/data/a.txt", "HEAD").headers["ETag"]
    request = {"Range": "bytes=0-0", "If-Range": etag}
    assert side.ask("/dv/main/data/a.txt", **request).status == 206
    assert side.ask("/dv/main/data/a.txt", **{**request, "If-Range": '"other"'}).status == 200
    assert side.code("/dv/main/data/a.txt", **{"If-None-Match": f'"x", {etag}'}) == "304"
    assert side.code("/dv/main/data/a.txt", **{"If-None-Match": "*"}) == "304"
    assert side.code("/dv/main/data/a.txt", **{"If-Match": "*"}) == "200"
    assert side.code("/dv/main/data/a.txt", **{"If-Modified-Since": "no date"}) == "200"


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (MissingError("nowhere"), "InvalidObjectState", 403),
        (RemoteTransient("later"), "ServiceUnavailable", 503),
        (CorruptError("damaged"), "InternalError", 500),
    ],
)
def test_content_that_cannot_be_had_is_never_called_missing(
    side: Side, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, status: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Snapshot, "read", fail)
    response = side.ask("/dv/main/data/a.txt")
    assert (code_of(response), response.status) == (code, status)
    assert str(error) in side.reported[-1]
