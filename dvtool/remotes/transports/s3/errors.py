"""Translates all that boto3, botocore and the network can raise into the errors of `dvtool.errors`.

Every answer that is not success, and every way in which no answer comes, gets its meaning here:
worth another attempt, refused, missing, or wrong for good; with the next step.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3.exceptions
from botocore import exceptions
from botocore.parsers import ResponseParserError

from dvtool.errors import (
    ObjectMissing,
    RemoteBusy,
    RemoteError,
    RemoteForbidden,
    RemoteStalled,
    RemoteTransient,
    printable,
)
from dvtool.remotes.transports.base import ObjectShort
from dvtool.remotes.transports.s3.guard import PAGE_CODE, Refused

RETRY_AFTER_MAX_S = 60.0
MESSAGE_LENGTH_MAX = 300

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
_UNSUPPORTED_CODES = frozenset(
    {
        "501",
        "InvalidArgument",
        "InvalidDigest",
        "InvalidRequest",
        "NotImplemented",
        "NotSupported",
        "UnsupportedHeader",
        "UnsupportedOperation",
    }
)
"""How stores refuse a header that they do not know; some of these codes have other reasons too."""
_DENIED_CODES = frozenset({"401", "403", "AccessDenied", "Forbidden", "Unauthorized"})
_CREDENTIALS_CODES = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
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
        "TemporaryRedirect",
    }
)
_FULL_CODES = frozenset(
    {
        "InsufficientCapacity",
        "InsufficientStorage",
        "QuotaExceeded",
        "QuotaExceededException",
        "StorageQuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)
_RIGHTS = {
    "GetObject": "read (s3:GetObject)",
    "HeadObject": "read (s3:GetObject)",
    "ListObjectsV2": "list (s3:ListBucket)",
    "PutObject": "write (s3:PutObject)",
    "DeleteObject": "delete (s3:DeleteObject)",
}
_ADDRESSING_CODES = frozenset({"PathStyleDomainForbidden", "SecondLevelDomainForbidden"})
_OTHER_PERMISSION = re.compile(r"s3:GetObject|\bkms\b", re.IGNORECASE)
_REGION_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.NoAuthTokenError,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
    exceptions.ProfileNotFound,
    exceptions.ConfigParseError,
    exceptions.ConfigNotFound,
)
_NETWORK = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    urllib3.exceptions.HTTPError,
)
_TIMEOUTS = (
    TimeoutError,
    exceptions.ConnectTimeoutError,
    exceptions.ReadTimeoutError,
    urllib3.exceptions.TimeoutError,
)

HINT_CREDENTIALS = "check the credentials that are in force: AWS_* variables, ~/.aws, profile"
HINT_PERMISSIONS = (
    "check the credentials, and that they may list, read and write there"
    " (without s3:ListBucket, S3 refuses to say that an object is absent)"
)
HINT_PAGE = (
    "a web server, proxy or firewall seems to have answered in the store's place: check host, port"
    " and path of the remote's endpoint, and what is between"
)
HINT_LISTING = (
    "check the remote's endpoint; dv push and dv pull work without listing, dv gc --remote and"
    " dv fsck --remote do not"
)
HINT_TOO_LARGE = (
    "a proxy in front of the store refuses bodies of this size: let it take 64 MiB and more"
    " (nginx: client_max_body_size), or use an endpoint without it"
)
HINT_FULL = "free space there or have the quota raised, then repeat the command: it goes on"
HINT_PROXY = (
    "check HTTPS_PROXY, HTTP_PROXY and the remote's proxy (dv remote set NAME --proxy URL);"
    " NO_PROXY names hosts that need none"
)
HINT_BUCKET = (
    "create the bucket, or correct its name or the endpoint: dv remote set NAME,"
    " or --endpoint-url of an import"
)
HINT_ENDPOINT = "check the endpoint: dv remote list, or --endpoint-url of an import"
HINT_ADDRESSING = "set the remote's addressing to virtual: dv remote set NAME --addressing virtual"
HINT_REGION = "set the remote's region to the bucket's"
HINT_TLS = (
    "check that the endpoint speaks https; a private authority is named by"
    " dv remote set NAME --ca-bundle FILE, or AWS_CA_BUNDLE"
)


class AlreadyThere(RemoteError):
    """412: the condition of a conditional PUT did not hold."""


class WriteConflict(RemoteTransient):
    """409: a conditional PUT met another write or a delete of the same key."""


class Unsupported(RemoteError):
    """The store may not know a header that went along, and says so."""


class NotAllowed(RemoteError):
    """405: the server does not know this kind of request."""


class NoListing(RemoteForbidden):
    """The store does not list objects as LIST v2 does, whoever asks."""


class Denied(RemoteForbidden):
    """403 without a reason, or because of a permission: a missing object may hide behind it."""


class Unexplained(RemoteError):
    """400 without a body, as a HEAD gets it; expired credentials may be behind it."""


class RangeBeyondEnd(ObjectShort):
    """416: the object is shorter than the range begins (as short a read as any other)."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Turns errors of boto3 and the network about one remote into ours.

    `renew` reads credentials anew, and tells whether they differ from the refused ones.
    """

    url: str
    bucket: str
    endpoint_url: str | None
    renew: Callable[[], bool]

    @contextlib.contextmanager
    def about(self, key: str) -> Iterator[None]:
        """Turn whatever boto3 raises about `key` into one of our errors."""
        try:
            yield
        except exceptions.ClientError as error:
            raise self._from_answer(key, error) from error
        except Refused as error:
            raise RemoteError(f"{self.what(key)}: {text_of(error)}", hint=HINT_ENDPOINT) from error
        except ResponseParserError as error:
            raise RemoteTransient(
                f"{self.what(key)}: {self.place()} did not answer as S3 does", hint=HINT_ENDPOINT
            ) from error
        except _NO_CREDENTIALS as error:
            raise RemoteForbidden(
                f"no credentials for {self.url}: {text_of(error)}", hint=HINT_CREDENTIALS
            ) from error
        except _NETWORK as error:
            raise self._from_network(key, error) from error
        except (exceptions.BotoCoreError, ValueError) as error:
            # ValueError: what botocore raises for an endpoint url that it cannot use.
            raise RemoteError(f"{self.what(key)}: {text_of(error)}", hint=HINT_ENDPOINT) from error

    def _from_answer(self, key: str, error: exceptions.ClientError) -> RemoteError | ObjectMissing:
        """Return the error for an answer of the store that is not success."""
        answer = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(answer.get("Code", status))
        said = text_of(f"{code}: {answer['Message']}" if answer.get("Message") else code)
        is_page = code == PAGE_CODE
        if is_page:
            code = str(status)
            said = f"{status}, with a page that is not S3's: {text_of(answer.get('Message', ''))}"
        subject = self.what(key)
        if code == "NoSuchBucket":
            return RemoteError(
                f"there is no bucket {self.bucket!r} at {self.place()}", hint=HINT_BUCKET
            )
        if code in _MISSING_CODES:
            return ObjectMissing(key, self.url)
        if code in _EXISTS_CODES:
            return AlreadyThere(f"{subject}: {said}")
        if code in _UNSUPPORTED_CODES:
            return Unsupported(f"{subject}: {said}")
        if code == "ConditionalRequestConflict":
            return WriteConflict(f"{subject}: {said}")
        if status == 416:
            return RangeBeyondEnd(f"{subject} ends before the range that was asked for ({said})")
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        # An answer to HEAD has no body, so that it cannot say SlowDown.
        slow_head = status == 503 and error.operation_name == "HeadObject"
        if slow_head or _asks_for_less(status, code, headers):
            return RemoteBusy(f"{subject}: {said}", retry_after_s=_retry_after_s(headers))
        if code in _FULL_CODES or status == 507:
            return RemoteError(
                f"{subject}: the store is full or a quota used up ({said})", hint=HINT_FULL
            )
        if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
            return RemoteTransient(f"{subject}: {said}")
        if code in _CREDENTIALS_CODES:
            return self._refused_credentials(said)
        if code in _REGION_CODES:
            return RemoteError(f"{subject}: {said}", hint=_region_hint(error))
        if code == "RequestTimeTooSkewed":
            return RemoteForbidden(f"{subject}: {said}", hint=_clock_hint(error))
        if is_page:
            return _refused_by_page(subject, said, status)
        return self._refusal(subject, code, said, status, error.operation_name)

    def _refused_credentials(self, said: str) -> RemoteError:
        if self.renew():
            return RemoteTransient(
                f"{self.place()} refuses the credentials ({said}); there are new ones",
                hint=HINT_CREDENTIALS,
            )
        return RemoteForbidden(
            f"{self.place()} refuses the credentials ({said})", hint=HINT_CREDENTIALS
        )

    def _refusal(
        self, subject: str, code: str, said: str, status: int, operation: str
    ) -> RemoteError:
        if code in _ADDRESSING_CODES:
            return RemoteError(f"{subject}: {said}", hint=HINT_ADDRESSING)
        if code == "InvalidObjectState":
            return RemoteError(f"{subject}: {said}", hint="restore it from the archive tier first")
        if status in (401, 403):
            plain = code in _DENIED_CODES and not _OTHER_PERMISSION.search(said)
            kind = Denied if plain else RemoteForbidden
            return kind(f"{subject}: access refused ({said})", hint=_permission_hint(operation))
        if status == 405:
            return NotAllowed(f"{subject}: the server refuses this kind of request ({said})")
        if status == 413:
            return RemoteError(f"{subject}: {said}", hint=HINT_TOO_LARGE)
        if code == "400":
            return Unexplained(f"{subject}: {said}")
        return RemoteError(f"{subject}: {said}")

    def _from_network(self, key: str, error: Exception) -> RemoteError:
        """Return the error for a request that got no answer, or part of one."""
        causes = _chain(error)
        text = text_of(causes[-1])
        through = _proxy_fault(causes)
        if through is not None:
            return RemoteError(f"{through}; {self.place()} was not reached", hint=HINT_PROXY)
        if any(isinstance(cause, exceptions.SSLError) for cause in causes) and (
            "CERTIFICATE_VERIFY_FAILED" in text or "WRONG_VERSION_NUMBER" in text
        ):
            return RemoteError(f"no trusted connection to {self.place()}: {text}", hint=HINT_TLS)
        for cause in causes:
            if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
                return RemoteError(
                    f"cannot find the host of {self.place()}: {text}", hint=HINT_ENDPOINT
                )
        stalled = any(isinstance(cause, _TIMEOUTS) for cause in causes)
        kind = RemoteStalled if stalled else RemoteTransient
        return kind(f"{self.what(key)}: no complete answer from {self.place()}: {text}")

    def what(self, key: str) -> str:
        """Return how a message names an object, or the remote as a whole."""
        return f"{self.url}: {printable(key)}" if key else self.url

    def place(self) -> str:
        """Return how a message names the service."""
        return printable(self.endpoint_url) if self.endpoint_url else f"AWS ({self.url})"


def _refused_by_page(subject: str, said: str, status: int) -> RemoteError:
    """Return the error for a refusal that some server in front of the store wrote."""
    if status in (401, 403):
        # Not `Denied`: no object is taken for missing because a firewall hides it.
        return RemoteForbidden(f"{subject}: access refused ({said})", hint=HINT_PAGE)
    if status == 405:
        return NotAllowed(
            f"{subject}: the server refuses this kind of request ({said})", hint=HINT_PAGE
        )
    if status == 413:
        return RemoteError(f"{subject}: {said}", hint=HINT_TOO_LARGE)
    return RemoteError(f"{subject}: {said}", hint=HINT_PAGE)


def _permission_hint(operation: str) -> str:
    right = _RIGHTS.get(operation)
    return f"these credentials may not {right}; {HINT_PERMISSIONS}" if right else HINT_PERMISSIONS


def _proxy_fault(causes: list[BaseException]) -> str | None:
    """Say subject is wrong with the proxy on the way, None if it is not to blame."""
    for cause in causes:
        if isinstance(cause, exceptions.ProxyConnectionError):
            proxy = text_of(cause.kwargs.get("proxy_url", "a proxy"))
            return f"the proxy {proxy} does not answer ({text_of(causes[-1])})"
        if isinstance(cause, urllib3.exceptions.ProxySchemeUnknown):
            return f"the proxy cannot be used: {text_of(cause)}"
        if isinstance(cause, exceptions.InvalidProxiesConfigError):
            return f"the proxy cannot be used: {text_of(cause)}"
    return None


def _asks_for_less(status: int, code: str, headers: Mapping[str, str]) -> bool:
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


def clock_ahead_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return by how much this clock is ahead of the one that an answer's Date is from."""
    try:
        return now_s - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _headers_of(error: exceptions.ClientError) -> Mapping[str, str]:
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _clock_hint(error: exceptions.ClientError) -> str:
    ahead_s = clock_ahead_s(_headers_of(error), time.time())
    if ahead_s is None:
        return "set this machine's clock"
    side = "ahead of" if ahead_s > 0 else "behind"
    return f"set this machine's clock: it is {abs(ahead_s):,.0f} s {side} the store's"


def _region_hint(error: exceptions.ClientError) -> str:
    answer: Mapping[str, Any] = error.response.get("Error", {})
    region = _headers_of(error).get("x-amz-bucket-region") or str(answer.get("Region", ""))
    if not _REGION_NAME.fullmatch(region):
        return HINT_REGION
    return f"set the remote's region to the bucket's: dv remote set NAME --region {region}"


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


def text_of(error: object) -> str:
    """Return the text of an error or a store, on one line, short and fit for a terminal."""
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text[:MESSAGE_LENGTH_MAX])
