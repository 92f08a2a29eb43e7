"""A GET of S3 without what botocore does around it, which takes 1 ms of a processor.

Of small objects that is most of the time. Here a request is signed and sent over the client's own
connections, guarded as all others. Everything but success is left to botocore: the caller asks
again in the usual way, which explains what is wrong. Signature: AWS Signature Version 4,
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_NO_BODY = hashlib.sha256(b"").hexdigest()
_SUCCESS = (200, 206)


class _Base(NamedTuple):
    """What the requests of one client to one bucket have in common."""

    client: S3Client
    url: str
    host: str
    path: str


class QuickGet:
    """Sends GETs to one bucket as the last usual request of its client was sent."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._base: _Base | None = None

    def learn(self, client: S3Client, key: str) -> None:
        """Learn from a request in the usual way, which is made next, where the bucket is."""

        def note(request: Any, **_: Any) -> None:
            quoted = quote(key, safe="/~")
            if request.url.endswith("/" + quoted) and "?" not in request.url:
                url = request.url[: -len(quoted)]
                parts = urlsplit(url)
                self._base = _Base(client, url, parts.netloc, parts.path)

        client.meta.events.register_first("before-send.s3.GetObject", note, unique_id="dv-quick")

    def knows(self, client: S3Client) -> bool:
        """Whether requests of this client can be sent quickly."""
        return self._base is not None and self._base.client is client

    def send(self, key: str, headers: Mapping[str, str]) -> Any:
        """Return the answer to a GET, its body unread; None if it is not success.

        Fails as botocore's own sending does.
        """
        base = self._base
        assert base is not None
        quoted = quote(key, safe="/~")
        all_headers = {name.lower(): value for name, value in headers.items()} | {"host": base.host}
        signer: Any = base.client._request_signer  # type: ignore[attr-defined]
        if signer._signature_version is not UNSIGNED and signer._credentials is not None:
            frozen = signer._credentials.get_frozen_credentials()
            all_headers |= _signature(frozen, signer._region_name, base.path + quoted, all_headers)
        request = AWSPreparedRequest("GET", base.url + quoted, cast(Any, all_headers), None, True)
        wire: Any = base.client._endpoint  # type: ignore[attr-defined]
        answer = wire.http_session.send(request)
        if answer.status_code in _SUCCESS:
            return answer
        answer.raw.drain_conn()
        answer.raw.close()
        return None


def _signature(
    credentials: Any, region: str, path: str, headers: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers that sign a GET without a query."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-content-sha256": _NO_BODY, "x-amz-date": now}
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    all_headers = sorted({**headers, **added}.items())
    lines = "".join(f"{name}:{value}\n" for name, value in all_headers)
    names = ";".join(name for name, _ in all_headers)
    canonical = f"GET\n{path}\n\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (now[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
    signed = hmac.new(key, text.encode(), "sha256").hexdigest()
    added["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signed}"
    )
    return added
