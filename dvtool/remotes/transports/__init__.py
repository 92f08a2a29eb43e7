"""Places that hold objects under keys, and how a remote's URL becomes one.

`open_backend` is the only door: it reads the URL, chooses the backend and wraps it in `Retry`
where the network can fail. boto3 is loaded only when an S3 remote is opened.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from dvtool.errors import UsageError, printable
from dvtool.remotes.transports.base import PLAIN_S3, Backend, Features, ObjectInfo, S3Options, Sink
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.remotes.transports.pace import REQUESTS_START
from dvtool.remotes.transports.retry import Retry

__all__ = [
    "PLAIN_S3",
    "REQUESTS_START",
    "Backend",
    "Features",
    "LocalBackend",
    "ObjectInfo",
    "RemoteUrl",
    "Retry",
    "S3Options",
    "Sink",
    "open_backend",
    "open_plain",
    "parse_url",
]

SUPPORTED = "a directory (/path or file:///path) or S3 (s3://bucket/prefix)"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A remote's URL, taken apart. `path` is set for a directory, `bucket` and `prefix` for S3."""

    scheme: Literal["file", "s3"]
    text: str
    """The URL as the user wrote it."""
    path: str = ""
    bucket: str = ""
    prefix: str = ""


def open_backend(
    url: str, options: S3Options = PLAIN_S3, *, features: Features | None = None
) -> Backend:
    """Return the backend for a remote's URL; nothing is contacted before the first operation.

    The options concern S3 only. `features` is what is remembered of the store. UsageError if URL
    or options make no sense.
    """
    backend = open_plain(url, options, features=features)
    return backend if isinstance(backend, LocalBackend) else Retry(backend)


def open_plain(
    url: str, options: S3Options = PLAIN_S3, *, features: Features | None = None
) -> Backend:
    """Return what `open_backend` does without `Retry`: each operation is one attempt."""
    remote = parse_url(url)
    if remote.scheme == "file":
        return LocalBackend(remote.path, url=remote.text, features=features)
    _check_options(options)
    from dvtool.remotes.transports.s3.backend import S3Backend

    return S3Backend(remote.bucket, remote.prefix, options, features=features)


def _check_options(options: S3Options) -> None:
    """Raise UsageError for options that make no sense, by themselves or together."""
    if options.endpoint_url is not None:
        _check_endpoint(options.endpoint_url)
    if options.sse_kms_key_id and not (options.sse or "").startswith("aws:kms"):
        raise UsageError(
            "a KMS key is named, but not that it is to be used",
            hint="set the remote's sse to aws:kms as well",
        )
    if options.anonymous and options.requester_pays:
        raise UsageError(
            "requests that are not signed cannot be charged to anybody",
            hint="set either anonymous or requesterpays of the remote, not both",
        )
    if options.ca_bundle is not None and not os.path.isfile(options.ca_bundle):
        raise UsageError(
            f"there is no file {printable(options.ca_bundle)}",
            hint="correct the remote's cabundle: an absolute path of a file with certificates",
        )


def parse_url(url: str) -> RemoteUrl:
    """Take a remote's URL apart; UsageError says what is wrong with it."""
    if not url or not url.isprintable():
        raise UsageError(f"not a remote's url: {printable(url)!r}", hint=f"a remote is {SUPPORTED}")
    match = _SCHEME.fullmatch(url)
    if match is None:
        return _parse_path(url, url)
    scheme, rest = match[1].lower(), match[2]
    if scheme == "s3":
        return _parse_s3(url, rest)
    if scheme == "file":
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise UsageError(
                f"{url}: a file url names no host", hint=f"write three slashes: file:///{rest}"
            )
        return _parse_path(url, unquote(slash + path, errors="surrogateescape"))
    raise UsageError(
        f"remotes of the kind {scheme}:// are not supported", hint=f"a remote is {SUPPORTED}"
    )


def _parse_path(url: str, path: str) -> RemoteUrl:
    if not os.path.isabs(path) or "\0" in path:
        raise UsageError(
            f"the path of a remote must be absolute: {url}", hint=f"a remote is {SUPPORTED}"
        )
    return RemoteUrl("file", url, path=path)


def _parse_s3(url: str, rest: str) -> RemoteUrl:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        # Not repeated in the message: what stands there may be a secret.
        raise UsageError(
            "credentials do not belong in a remote's url",
            hint="use the AWS configuration or environment, and write s3://bucket/prefix",
        )
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"{url}: an S3 url has no ? and no #",
            hint="endpoint, region and profile are settings of their own",
        )
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{url}: {bucket!r} is not a bucket", hint="write s3://bucket/prefix")
    prefix = prefix.strip("/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise UsageError(f"{url}: the prefix has an empty part, '.' or '..'")
    return RemoteUrl("s3", url, bucket=bucket, prefix=prefix)


def _check_endpoint(endpoint_url: str) -> None:
    hint = "an endpoint looks like https://s3.example.org or http://127.0.0.1:9000"
    try:
        parts = urlsplit(endpoint_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"not an endpoint url: {printable(endpoint_url)}", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise UsageError("credentials do not belong in an endpoint url", hint=hint)
