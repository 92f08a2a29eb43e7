"""Signature Version 4: whether a request was signed with the keys of this server.

Source: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API reference; both the
form with a header and the form with a query are taken, for any region. A body is not looked at,
since no request with one is carried out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

from dvtool.serve.faults import S3Fault
from dvtool.serve.messages import Pairs, Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
EXPIRES_MAX_S = 7 * 24 * 3600
_SIGNATURE = "X-Amz-Signature"
_PLAIN = "-_.~"
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")


class Keys(NamedTuple):
    """The one pair of keys that the server knows."""

    access_key: str
    secret_key: str


class _Claim(NamedTuple):
    """The signature of a request, as the request states it."""

    access_key: str
    scope: str
    signed_headers: Sequence[str]
    signature: str
    date: str
    payload: str


def require_signature(request: Request, keys: Keys, now: datetime) -> None:
    """Return if the request was signed with the keys; S3Fault otherwise."""
    pairs = request.pairs
    claim = _of_header(request) or _of_query(request, pairs, now)
    if claim is None:
        raise S3Fault("AccessDenied", "Requests are to be signed (AWS Signature Version 4).")
    if not _equal(claim.access_key, keys.access_key):
        raise S3Fault("InvalidAccessKeyId", "The access key is not the one of this server.")
    if "host" not in claim.signed_headers:
        raise S3Fault("AccessDenied", "The header host is to be signed.")
    # Most clients sign the path as they send it; some encode what a path need not have encoded.
    paths = dict.fromkeys((request.path, _encoded(request.key_path, "/")))
    matches = [
        _equal(_expected_signature(request, path, pairs, claim, keys.secret_key), claim.signature)
        for path in paths
    ]
    if not any(matches):
        raise S3Fault(
            "SignatureDoesNotMatch",
            "The signature does not match the request and the secret key of this server.",
        )


def _of_header(request: Request) -> _Claim | None:
    given = request.headers.get("authorization")
    if given is None:
        return None
    word, _, rest = given.strip().partition(" ")
    if word != ALGORITHM:
        raise S3Fault("InvalidRequest", f"The only way to sign a request here is {ALGORITHM}.")
    fields = (part.strip().partition("=") for part in rest.split(","))
    parts = {name: value for name, _, value in fields}
    if not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
        raise S3Fault("InvalidRequest", "The header Authorization is incomplete.")
    return _claim(
        parts["Credential"],
        parts["SignedHeaders"],
        parts["Signature"],
        request.headers.get("x-amz-date", ""),
        request.headers.get("x-amz-content-sha256", UNSIGNED),
    )


def _of_query(request: Request, pairs: Pairs, now: datetime) -> _Claim | None:
    query = dict(pairs)
    if _SIGNATURE not in query:
        return None
    if query.get("X-Amz-Algorithm") != ALGORITHM or len(query) < len(pairs):
        raise S3Fault("AuthorizationQueryParametersError", "The signature's query is malformed.")
    claim = _claim(
        query.get("X-Amz-Credential", ""),
        query.get("X-Amz-SignedHeaders", ""),
        query[_SIGNATURE],
        query.get("X-Amz-Date", ""),
        request.headers.get("x-amz-content-sha256", UNSIGNED),
    )
    expires = query.get("X-Amz-Expires", "")
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 0 < int(expires) <= EXPIRES_MAX_S:
        raise S3Fault("AuthorizationQueryParametersError", "X-Amz-Expires is 1 to 604800 seconds.")
    if now > _time_of(claim.date) + timedelta(seconds=int(expires)):
        raise S3Fault("AccessDenied", "Request has expired")
    return claim


def _claim(credential: str, signed: str, signature: str, date: str, payload: str) -> _Claim:
    access_key, *scope = credential.rsplit("/", 4)
    _time_of(date)
    if len(scope) != 4 or scope[0] != date[:8] or scope[2:] != ["s3", "aws4_request"]:
        raise S3Fault("AccessDenied", "The scope of the credential is malformed.")
    return _Claim(access_key, "/".join(scope), signed.split(";"), signature, date, payload)


def _time_of(date: str) -> datetime:
    try:
        if _DATE.fullmatch(date):
            return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise S3Fault("AccessDenied", "A signed request needs a valid X-Amz-Date.")


def _expected_signature(
    request: Request, path: str, pairs: Pairs, claim: _Claim, secret_key: str
) -> str:
    canonical = "\n".join(
        (
            request.method,
            path,
            _canonical_query(pairs),
            _canonical_headers(request.headers, claim.signed_headers),
            ";".join(claim.signed_headers),
            claim.payload,
        )
    )
    hashed = hashlib.sha256(_bytes(canonical)).hexdigest()
    text = "\n".join((ALGORITHM, claim.date, claim.scope, hashed))
    key = _bytes("AWS4" + secret_key)
    for part in claim.scope.split("/"):
        key = hmac.digest(key, _bytes(part), "sha256")
    return hmac.digest(key, _bytes(text), "sha256").hex()


def _canonical_query(pairs: Pairs) -> str:
    encoded = sorted(
        (_encoded(name), _encoded(value)) for name, value in pairs if name != _SIGNATURE
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def _canonical_headers(headers: Mapping[str, str], names: Sequence[str]) -> str:
    return "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)


def _encoded(text: str, kept: str = "") -> str:
    return quote(text, safe=_PLAIN + kept, errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _equal(expected: str, given: str) -> bool:
    """Compare in a time that does not tell how far two texts are alike."""
    return hmac.compare_digest(_bytes(expected), _bytes(given))
