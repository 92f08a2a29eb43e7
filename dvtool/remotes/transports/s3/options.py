"""The options of an S3 store as the backend has them, and whether they go together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from dvtool.errors import UsageError, printable

Addressing: TypeAlias = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class S3Options:
    """How an S3 store is spoken to. Nothing here is a secret; credentials are never options.

    `addressing` is where the bucket's name stands in a URL: ``auto`` is the path for an
    `endpoint_url` and what the AWS configuration says for AWS itself. `sse` is the value of
    x-amz-server-side-encryption. `storage_class` is for objects of `STORAGE_CLASS_MIN_BYTES` and
    more. `ca_bundle` is the path of a file, `proxy` the URL of an HTTP proxy.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: Addressing = "auto"
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    anonymous: bool = False
    requester_pays: bool = False
    ca_bundle: str | None = None
    proxy: str | None = None


PLAIN_S3 = S3Options()
STORAGE_CLASS_MIN_BYTES = 128 << 10
"""Smaller objects stay in the default class: the cheaper ones are billed for 128 KiB at least."""


def checked_options(values: Mapping[str, Any]) -> S3Options:
    """Return the options by their names; UsageError if they make no sense, alone or together."""
    options = S3Options(**values)
    _check_options(options)
    return options


def check_bucket_once(bucket: str, options: S3Options) -> None:
    """UsageError for an endpoint that names the bucket too, as consoles of stores show it."""
    endpoint = (options.endpoint_url or "").rstrip("/")
    if options.addressing != "virtual" and urlsplit(endpoint).path.endswith(f"/{bucket}"):
        raise UsageError(
            f"the endpoint {printable(endpoint)} names the bucket, which the url names already:"
            f" objects would go to {bucket}/{bucket}",
            hint="leave it out: dv remote set NAME --endpoint-url"
            f" {printable(endpoint.removesuffix(f'/{bucket}'))}",
        )


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
