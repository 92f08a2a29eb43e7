"""A remote in S3, or in anything that speaks its plain subset: GET, PUT, LIST v2, HEAD, DELETE.

The only module that knows boto3. What boto3, botocore and the network can raise is translated
here, in `_translated` and below, into the errors of `dvtool.errors`; nothing of theirs leaves
this module. Credentials come from the AWS chain (environment, configuration files, instance role).
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import hashlib
import io
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO, Literal

import boto3
import urllib3.exceptions
from botocore import exceptions as aws
from botocore.config import Config
from botocore.parsers import ResponseParserError

from dvtool import __version__
from dvtool.backend.base import ObjectInfo, Sink
from dvtool.backend.connections import expect_only_for_large, watch
from dvtool.errors import (
    ObjectMissing,
    RemoteBusy,
    RemoteError,
    RemoteForbidden,
    RemoteStalled,
    RemoteTransient,
    printable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

BLOCK_SIZE_BYTES = 1 << 20
CONNECTIONS_MAX = 64
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Without progress for so long, in either direction, a connection is given up."""
RETRY_AFTER_MAX_S = 60.0
MESSAGE_LENGTH_MAX = 300

Addressing = Literal["auto", "path", "virtual"]

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # Content-MD5 did not match: the body was damaged on its way
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "XAmzContentSHA256Mismatch",
    }
)
_BUSY_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "ThrottledException",
    }
)
_BUSY_PREFIXES = ("RequestThrottled", "SlowDown", "Throttling", "TooManyRequests")
_MISSING_CODES = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_EXISTS_CODES = frozenset({"412", "PreconditionFailed"})
_UNCONDITIONAL_CODES = frozenset({"501", "NotImplemented"})
_CREDENTIALS_CODES = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_REGION_CODES = frozenset(
    {
        "301",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
    }
)
_MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')
_NO_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.NoAuthTokenError,
    aws.TokenRetrievalError,
    aws.SSOError,
    aws.ProfileNotFound,
    aws.ConfigParseError,
    aws.ConfigNotFound,
)
_NETWORK = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.IncompleteReadError,
    urllib3.exceptions.HTTPError,
)
_TIMEOUTS = (
    TimeoutError,
    aws.ConnectTimeoutError,
    aws.ReadTimeoutError,
    urllib3.exceptions.TimeoutError,
)

HINT_CREDENTIALS = "check the credentials that are in force: AWS_* variables, ~/.aws, profile"
HINT_PERMISSIONS = (
    "check the credentials, and that they may list, read and write there"
    " (without s3:ListBucket, S3 refuses to say that an object is absent)"
)
HINT_BUCKET = "create the bucket, or correct the remote's url or endpoint"
HINT_ENDPOINT = "check the remote's endpoint"
HINT_REGION = "set the remote's region to the bucket's"
HINT_TLS = "check that the endpoint speaks https; AWS_CA_BUNDLE names a private authority"


class S3Backend:
    """Objects in `bucket`, under `prefix` (neither leading nor trailing slash; may be empty).

    `endpoint_url` is for stores other than AWS; buckets are then addressed in the path, unless
    `addressing` says otherwise. The client is made at the first operation. One attempt is made
    for each: wrap in `Retry`.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        addressing: Addressing | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint_url = endpoint_url
        self._region = region
        self._profile = profile
        self._read_timeout_s = read_timeout_s
        self._config = _config(
            addressing or ("path" if endpoint_url else None), connect_timeout_s, read_timeout_s
        )
        self._lock = threading.Lock()
        self._made: S3Client | None = None

    @property
    def url(self) -> str:
        """The remote as a URL, for messages."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        """Write an object, or a range of it, to `sink`; a `size` of 0 asks for nothing."""
        if size == 0:
            return 0
        try:
            with self._translated(key):
                answer = self._get(key, offset, size)
        except _RangeBeyondEnd:
            found = self.head(key)
            if found is not None and found.size == offset and size is None:
                return 0
            raise
        with contextlib.closing(answer["Body"]):
            expected = self._check_range(key, answer, offset, size)
            return self._copy(key, answer, sink, expected)

    def get(self, key: str, *, size_max: int) -> bytes:
        """Return a whole small object."""
        with self._translated(key):
            answer = self._get(key, 0, None)
        with contextlib.closing(answer["Body"]):
            size = self._announced(key, answer)
            if size > size_max:
                raise RemoteError(
                    f"{self.url}: object {printable(key)} has {size:,} bytes,"
                    f" at most {size_max:,} make sense"
                )
            sink = io.BytesIO()
            self._copy(key, answer, sink, size)
            return sink.getvalue()

    def put(self, key: str, body: bytes | BinaryIO) -> ObjectInfo:
        """Store a whole object; S3 shows it only when complete. Its Content-MD5 goes along."""
        md5, size = _md5_and_size(body)
        if not isinstance(body, bytes):
            body.seek(0)
        with self._translated(key):
            answer = self._client().put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=body, ContentMD5=_base64(md5)
            )
        # An ETag that is not the MD5 says nothing: many stores make it otherwise.
        return ObjectInfo(key, size, md5 if _md5_of_etag(answer.get("ETag")) == md5 else None)

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Store a small object unless the key exists.

        HEAD comes first even where PUT could decide alone: some stores accept ``If-None-Match``
        and pay no heed to it, and would overwrite.
        """
        if self.head(key) is not None:
            return False
        try:
            with self._translated(key):
                self._client().put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    Body=body,
                    ContentMD5=_base64(_md5_and_size(body)[0]),
                    IfNoneMatch="*",
                )
        except _AlreadyThere:
            return False
        except _NoConditions:
            self.put(key, body)
        except _Conflict:
            # Another write or a delete was under way. If it was a write, it has won.
            if self.head(key) is None:
                raise
            return False
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """Return the size of one object, None if it is not there (or the bucket is not)."""
        try:
            with self._translated(key):
                answer = self._client().head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ObjectMissing:
            return None
        encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256"
        if encrypted or "SSECustomerAlgorithm" in answer:
            # The ETag then has the form of an MD5 and is none.
            return ObjectInfo(key, self._announced(key, answer))
        return ObjectInfo(key, self._announced(key, answer), _md5_of_etag(answer.get("ETag")))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with `prefix`, a request for each thousand."""
        with self._translated(prefix):
            pages = iter(
                self._client()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            )
        while True:
            with self._translated(prefix):
                page = next(pages, None)
            if page is None:
                return
            if "IsTruncated" not in page:
                # A body that was cut to nothing reads like an empty listing; it is none.
                raise RemoteTransient(
                    f"{self._place()} answered with no listing", hint=HINT_ENDPOINT
                )
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._prefix)
                # A store that is loose about prefixes, or a folder marker: not an object of ours.
                if not found["Key"].startswith(self._prefix + prefix) or key.endswith("/"):
                    continue
                if key:
                    yield ObjectInfo(key, found["Size"], _md5_of_etag(found.get("ETag")))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        with contextlib.suppress(ObjectMissing), self._translated(key):
            self._client().delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def close(self) -> None:
        """Close idle connections; the next operation opens new ones."""
        with self._lock:
            client, self._made = self._made, None
        if client is not None:
            client.close()

    def _client(self) -> S3Client:
        # Using a client from several threads is safe, making one is not.
        with self._lock:
            if self._made is None:
                session = boto3.session.Session(
                    profile_name=self._profile, region_name=self._region
                )
                self._made = session.client(
                    "s3", endpoint_url=self._endpoint_url, config=self._config
                )
                self._made.meta.events.register_last("before-call.s3", expect_only_for_large)
                # No public way leads to the connections; a test holds that this one does.
                http = self._made._endpoint.http_session  # type: ignore[attr-defined]
                watch(http._pool_classes_by_scheme, self._read_timeout_s)
            return self._made

    def _get(self, key: str, offset: int, size: int | None) -> GetObjectOutputTypeDef:
        client, name = self._client(), self._prefix + key
        if offset == 0 and size is None:
            return client.get_object(Bucket=self._bucket, Key=name)
        last = "" if size is None else str(offset + size - 1)
        return client.get_object(Bucket=self._bucket, Key=name, Range=f"bytes={offset}-{last}")

    def _check_range(
        self, key: str, answer: GetObjectOutputTypeDef, offset: int, size: int | None
    ) -> int:
        """Return the length of the body that follows, having checked that it is what we asked."""
        announced = self._announced(key, answer)
        if offset or size is not None:
            match = re.match(r"bytes (\d+)-", answer.get("ContentRange", ""))
            if match is None or int(match[1]) != offset:
                raise RemoteError(
                    f"{self.url}: the store does not answer a request for a range of"
                    f" {printable(key)} with that range",
                    hint=HINT_ENDPOINT,
                )
        if size is not None and announced != size:
            raise RemoteTransient(
                f"{self.url}: asked for {size:,} bytes of {printable(key)} from {offset:,},"
                f" the store announces {announced:,}"
            )
        return announced

    def _announced(self, key: str, answer: GetObjectOutputTypeDef | HeadObjectOutputTypeDef) -> int:
        # Without a length, a body that breaks off could not be told from a whole one.
        size = answer.get("ContentLength")
        if size is None:
            raise RemoteTransient(f"{self.url}: the store announces no size for {printable(key)}")
        return size

    def _copy(self, key: str, answer: GetObjectOutputTypeDef, sink: Sink, expected: int) -> int:
        body = answer["Body"]
        written = 0
        while True:
            # The sink is written outside: its errors are the local disk's, not the remote's.
            with self._translated(key):
                data = body.read(BLOCK_SIZE_BYTES)
            if not data:
                break
            if written + len(data) > expected:
                raise RemoteTransient(
                    f"{self.url}: more than the {expected:,} bytes announced for {printable(key)}"
                )
            sink.write(data)
            written += len(data)
        if written != expected:
            raise RemoteTransient(
                f"{self.url}: {printable(key)} broke off after {written:,} of {expected:,} bytes"
            )
        return written

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turn whatever boto3 raises about `key` into one of our errors."""
        try:
            yield
        except aws.ClientError as error:
            raise self._from_answer(key, error) from error
        except ResponseParserError as error:
            raise RemoteTransient(
                f"{self._place()} did not answer as S3 does", hint=HINT_ENDPOINT
            ) from error
        except _NO_CREDENTIALS as error:
            raise RemoteForbidden(
                f"no credentials for {self.url}: {_text(error)}", hint=HINT_CREDENTIALS
            ) from error
        except _NETWORK as error:
            raise self._from_network(error) from error
        except (aws.BotoCoreError, ValueError) as error:
            # ValueError: what botocore raises for an endpoint url that it cannot use.
            raise RemoteError(f"{self.url}: {_text(error)}", hint=HINT_ENDPOINT) from error

    def _from_answer(self, key: str, error: aws.ClientError) -> RemoteError | ObjectMissing:
        """Return the error for an answer of the store that is not success."""
        answer = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(answer.get("Code", status))
        said = _text(f"{code}: {answer['Message']}" if answer.get("Message") else code)
        what = f"{self.url}: {printable(key)}" if key else self.url
        if code == "NoSuchBucket":
            return RemoteError(
                f"there is no bucket {self._bucket!r} at {self._place()}", hint=HINT_BUCKET
            )
        if code in _MISSING_CODES:
            return ObjectMissing(key, self.url)
        if code in _EXISTS_CODES:
            return _AlreadyThere(f"{what}: {said}")
        if code in _UNCONDITIONAL_CODES:
            return _NoConditions(f"{what}: {said}")
        if code == "ConditionalRequestConflict":
            return _Conflict(f"{what}: {said}")
        if status == 416:
            return _RangeBeyondEnd(f"{what} ends before the range that was asked for ({said})")
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if _is_busy(status, code, headers):
            return RemoteBusy(f"{what}: {said}", retry_after_s=_retry_after_s(headers))
        if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
            return RemoteTransient(f"{what}: {said}")
        return self._refusal(what, code, said, status)

    def _refusal(self, what: str, code: str, said: str, status: int) -> RemoteError:
        if code in _CREDENTIALS_CODES:
            return RemoteForbidden(
                f"{self._place()} refuses the credentials ({said})", hint=HINT_CREDENTIALS
            )
        if code == "RequestTimeTooSkewed":
            return RemoteForbidden(f"{what}: {said}", hint="set this machine's clock")
        if code in _REGION_CODES:
            return RemoteError(f"{what}: {said}", hint=HINT_REGION)
        if code == "InvalidObjectState":
            return RemoteError(f"{what}: {said}", hint="restore it from the archive tier first")
        if status in (401, 403):
            return RemoteForbidden(f"{what}: access refused ({said})", hint=HINT_PERMISSIONS)
        return RemoteError(f"{what}: {said}")

    def _from_network(self, error: Exception) -> RemoteError:
        """Return the error for a request that got no answer, or part of one."""
        causes = _chain(error)
        text = _text(causes[-1])
        if any(isinstance(cause, aws.SSLError) for cause in causes) and (
            "CERTIFICATE_VERIFY_FAILED" in text or "WRONG_VERSION_NUMBER" in text
        ):
            return RemoteError(f"no trusted connection to {self._place()}: {text}", hint=HINT_TLS)
        for cause in causes:
            if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
                return RemoteError(
                    f"cannot find the host of {self._place()}: {text}", hint=HINT_ENDPOINT
                )
        stalled = any(isinstance(cause, _TIMEOUTS) for cause in causes)
        kind = RemoteStalled if stalled else RemoteTransient
        return kind(f"no complete answer from {self._place()}: {text}")

    def _place(self) -> str:
        return printable(self._endpoint_url) if self._endpoint_url else f"AWS ({self.url})"


class _AlreadyThere(RemoteError):
    """412: the condition of a conditional PUT did not hold."""


class _Conflict(RemoteTransient):
    """409: a conditional PUT met another write or a delete of the same key."""


class _NoConditions(RemoteError):
    """The store does not know conditional PUT, and says so."""


class _RangeBeyondEnd(RemoteTransient):
    """416: the object is shorter than the range begins (as short a read as any other)."""


def _config(addressing: Addressing | None, connect_s: float, read_s: float) -> Config:
    return Config(
        # Newer defaults add checksums to every request and check them on every answer; many
        # stores refuse the first, and answer ranged reads with the checksum of the whole object.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Unset for AWS itself, so that the user's own AWS configuration decides.
        s3={"addressing_style": addressing} if addressing else None,
        # `Retry` tries again, and knows how to go on in the middle of a body.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=CONNECTIONS_MAX,
        tcp_keepalive=True,
        user_agent_extra=f"dvtool/{__version__}",
    )


def _is_busy(status: int, code: str, headers: Mapping[str, str]) -> bool:
    """Whether the store asks for fewer requests, rather than having failed at one."""
    if status == 429 or code in _BUSY_CODES or code.startswith(_BUSY_PREFIXES):
        return True
    return status == 503 and "retry-after" in headers


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks for, within reason; None if it says nothing."""
    text = headers.get("retry-after", "").strip()
    try:
        after_s = float(text) if text[:1].isdigit() else _seconds_until(text)
    except (ValueError, OverflowError):
        return None
    return min(max(after_s, 0.0), RETRY_AFTER_MAX_S)


def _seconds_until(date: str) -> float:
    when = email.utils.parsedate_to_datetime(date)
    return (when - datetime.datetime.now(when.tzinfo)).total_seconds()


def _md5_and_size(body: bytes | BinaryIO) -> tuple[bytes, int]:
    # A transfer checksum that every store knows; content is named and proven by BLAKE3.
    md5 = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes):
        md5.update(body)
        return md5.digest(), len(body)
    size = 0
    body.seek(0)
    while block := body.read(BLOCK_SIZE_BYTES):
        md5.update(block)
        size += len(block)
    return md5.digest(), size


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _md5_of_etag(etag: str | None) -> bytes | None:
    """Return the MD5 that an ETag states; None for one of another form (as of a multipart)."""
    match = _MD5_ETAG.fullmatch(etag or "")
    return bytes.fromhex(match[1]) if match else None


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what caused it, outermost first."""
    causes = [error]
    while len(causes) < 10:
        # botocore keeps what it wraps as a keyword argument; others chain.
        inner = getattr(causes[-1], "kwargs", {}).get("error") or causes[-1].__cause__
        inner = inner or causes[-1].__context__
        if not isinstance(inner, BaseException) or inner in causes:
            break
        causes.append(inner)
    return causes


def _text(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text[:MESSAGE_LENGTH_MAX])
