"""A GET of S3 without what botocore does around it, which takes 1 ms of a processor.

Of small objects that is most of the time. Here a request is signed and sent over the client's own
connections, guarded as all others. Everything but success is left to botocore: the caller asks
again in the usual way, which explains what is wrong. Signature: AWS Signature Version 4,
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError

from dvtool.remotes.transports.s3.exchanges import SUCCESS, Exchanges, NotPlain, QuickAnswer
from dvtool.remotes.transports.s3.guard import ERROR_SIZE_MAX_BYTES
from dvtool.remotes.transports.s3.plain_gets import PlainAnswer, PlainGets
from dvtool.system.logs import Log, Watch

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_LOG = Log("remotes.s3")
_NO_BODY = hashlib.sha256(b"").hexdigest()
_HEADERS = {"Range": "range", "RequestPayer": "x-amz-request-payer"}
_NAMES = {
    "ContentEncoding": "content-encoding",
    "ContentRange": "content-range",
    "ETag": "etag",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
}


class _Base(NamedTuple):
    """The part that the requests of one client to one bucket have in common."""

    client: S3Client
    url: str
    host: str
    path: str
    gets: PlainGets


class QuickRequest(NamedTuple):
    """One GET of many: its number, the key, and headers besides host and signature."""

    number: int
    key: str
    headers: Mapping[str, str]


class QuickGet:
    """Sends GETs to one bucket as the last usual request of its client was sent."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._base: _Base | None = None

    def learn(self, client: S3Client) -> None:
        """Learn from requests in the usual way, of which one is made next, where the bucket is."""
        asked = threading.local()  # a request is made and sent by one thread

        def note_key(params: Mapping[str, Any], **_: Any) -> None:
            asked.key = params.get("Key") or ""

        def note_url(request: Any, **_: Any) -> None:
            # By the key of this very request: that of another may end alike.
            quoted = quote(getattr(asked, "key", ""), safe="/~")
            if quoted and request.url.endswith("/" + quoted) and "?" not in request.url:
                url = request.url[: -len(quoted)]
                parts = urlsplit(url)
                if self._base is None or self._base[:2] != (client, url):
                    wire: Any = client._endpoint  # type: ignore[attr-defined]
                    gets = PlainGets(lambda: wire.http_session.connection(url))
                    self._base = _Base(client, url, parts.netloc, parts.path, gets)

        for event, note in (("before-parameter-build", note_key), ("before-send", note_url)):
            name = f"{event}.s3.GetObject"
            client.meta.events.register_first(name, note, unique_id=f"dv-quick-{event}")

    def knows(self, client: S3Client) -> bool:
        """Whether requests of this client can be sent quickly."""
        return self._base is not None and self._base.client is client

    def send(self, key: str, headers: Mapping[str, str]) -> Any:
        """Return the answer to a GET, its body unread; None if it is not success.

        Fails as botocore's own sending does.
        """
        base = self._known()
        quoted = quote(key, safe="/~")
        signed = cast(Any, self._signed(base, base.path + quoted, headers))
        request = AWSPreparedRequest("GET", base.url + quoted, signed, None, True)
        wire: Any = base.client._endpoint  # type: ignore[attr-defined]
        answer = wire.http_session.send(request)
        if answer.status_code in SUCCESS:
            return answer
        length = answer.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) <= ERROR_SIZE_MAX_BYTES:
            answer.raw.drain_conn()  # so that the connection is used again
        answer.raw.close()
        return None

    def get_object(
        self, client: S3Client, key: str, arguments: Mapping[str, str]
    ) -> GetObjectOutputTypeDef | None:
        """Return what the client's own `get_object` does of a GET that has success.

        `arguments` are `Range` and `RequestPayer`. None if the caller is to ask in the usual way,
        from which the next request learns.
        """
        if not self.knows(client):
            self.learn(client)
            return None
        headers = {_HEADERS[name]: value for name, value in arguments.items()}
        try:
            answer = self._send_plain(key, headers)
        except NotPlain:
            return None
        if answer is not None:
            return _as_usual(answer.status, answer.headers, answer)
        sent = self.send(key, headers)  # over a proxy, or from a store that is never plain
        return _as_usual(sent.status_code, sent.headers, sent.raw) if sent is not None else None

    def _send_plain(self, key: str, headers: Mapping[str, str]) -> PlainAnswer | None:
        base, watch = self._known(), Watch()
        answer = base.gets.send(self._text(base, base.path + quote(key, safe="/~"), headers))
        if answer is not None:
            size = answer.headers["content-length"]
            _LOG.note("GET %s%s: %s in %s, %s bytes", base.url, key, answer.status, watch, size)
        return answer

    def close(self) -> None:
        """Close the connections that no request uses; the next request opens others."""
        if self._base is not None:
            self._base.gets.close()

    def send_many(self, requests: Iterable[QuickRequest]) -> Iterator[tuple[int, QuickAnswer]]:
        """Yield the answers to many GETs of small objects, in any order, by number.

        For what had no success, or cannot be had so, nothing is yielded: the caller asks for these
        in the usual way. `requests` is read as connections become free.
        """
        base = self._known()
        wire: Any = base.client._endpoint  # type: ignore[attr-defined]
        texts = (
            (number, self._text(base, base.path + quote(key, safe="/~"), headers))
            for number, key, headers in requests
        )

        def connect() -> Any:
            with contextlib.suppress(BotoCoreError):
                return wire.http_session.connection(base.url)
            return None

        return Exchanges(connect, texts).run()

    def _known(self) -> _Base:
        assert self._base is not None
        return self._base

    def _signed(self, base: _Base, path: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a request, and those that sign it."""
        all_headers = {name.lower(): value for name, value in headers.items()} | {"host": base.host}
        signer: Any = base.client._request_signer  # type: ignore[attr-defined]
        if signer._signature_version is not UNSIGNED and signer._credentials is not None:
            frozen = signer._credentials.get_frozen_credentials()
            all_headers |= _signature(frozen, signer._region_name, path, all_headers)
        return all_headers

    def _text(self, base: _Base, path: str, headers: Mapping[str, str]) -> bytes:
        """Return a request as it goes over the wire."""
        signed = self._signed(base, path, headers).items()
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed)
        return f"GET {path} HTTP/1.1\r\n{lines}accept-encoding: identity\r\n\r\n".encode("ascii")


def _as_usual(status: int, headers: Mapping[str, str], body: Any) -> GetObjectOutputTypeDef:
    """Return an answer in the form in which botocore's clients give it."""
    named = {name: headers[header] for name, header in _NAMES.items() if header in headers}
    length = headers.get("content-length", "")
    size = {"ContentLength": int(length)} if length.isascii() and length.isdigit() else {}
    facts = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    made: Any = {**named, **size, "Body": body, "ResponseMetadata": facts}
    return cast("GetObjectOutputTypeDef", made)


def _signature(
    credentials: Any, region: str, path: str, headers: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers that sign a GET without a query."""
    now = _signing_time(int(time.time()))
    added = {"x-amz-content-sha256": _NO_BODY, "x-amz-date": now}
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    all_headers = sorted({**headers, **added}.items())
    lines = "".join(f"{name}:{value}\n" for name, value in all_headers)
    names = ";".join(name for name, _ in all_headers)
    canonical = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = _signing_key(credentials.secret_key, now[:8], region)
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
    signed = hmac.digest(key, text.encode(), "sha256").hex()
    added["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signed}"
    )
    return added


@functools.lru_cache(maxsize=4)
def _signing_time(now_s: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


@functools.lru_cache(maxsize=4)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
