"""S3 as a remote: its URLs, and the options of a remote that is a bucket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dvtool.errors import UsageError
from dvtool.remotes.transports.declaration import (
    HOLDS_CREDENTIALS,
    Option,
    RequestPrices,
    Transport,
    Value,
    check_web_address,
    endpoint_is_exposed,
    host_of,
    matching,
)
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.remotes.transports.base import Features
    from dvtool.remotes.transports.s3 import backend, options
else:
    backend = later("dvtool.remotes.transports.s3.backend")
    options = later("dvtool.remotes.transports.s3.options")

# Patterns as text: they are compiled only where something is set.
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}"
_BUCKET_TO_SET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"
_STORAGE_CLASS = r"[A-Z][A-Z0-9_]{0,63}"
_ARCHIVES = frozenset({"ARCHIVE", "COLD_ARCHIVE", "DEEP_ARCHIVE", "DEEP_COLD_ARCHIVE", "GLACIER"})
ARN_FAULT = "an ARN is not the name of a bucket"
_REGION = r"[A-Za-z0-9-]{1,64}"


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without slashes at its ends, that an S3 URL names.

    UsageError says what is wrong with it.
    """
    rest = url.partition("://")[2]
    bucket, _, prefix = rest.partition("/")
    if bucket.startswith("arn:"):
        raise UsageError(f"{url}: {ARN_FAULT}", hint=_alias_hint(rest))
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
    if not re.fullmatch(_BUCKET, bucket):
        raise UsageError(
            f"{url}: {bucket!r} is not a bucket: a name has three letters or digits and more, of "
            "ASCII, with dots and hyphens between them",
            hint="write s3://bucket/prefix",
        )
    prefix = prefix.strip("/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        parts = [part for part in prefix.split("/") if part not in {"", ".", ".."}]
        raise UsageError(
            f"{url}: the prefix has an empty part, '.' or '..'",
            hint=f"write s3://{'/'.join((bucket, *parts))}",
        )
    return bucket, prefix


def _alias_hint(arn: str) -> str:
    """Say what to write instead of an ARN: of a bucket its name, of an access point its alias."""
    resource = arn.split(":", 5)[-1]
    if arn.split(":")[2:3] == ["s3"] and resource and not resource.startswith("accesspoint"):
        return f"write s3://{resource}"
    name = resource.split("/")[1] if "/" in resource else "NAME"
    return (
        "an access point has an alias, which is the name of a bucket: write s3://ALIAS/PREFIX "
        f"(aws s3control get-access-point --account-id ACCOUNT --name {name} says it)"
    )


def _open_bucket(
    url: str, values: Mapping[str, Value], features: Features | None
) -> backend.S3Backend:
    bucket, prefix = bucket_and_prefix(url)
    checked = options.checked_options(values)
    options.check_bucket_once(bucket, checked)
    return backend.S3Backend(bucket, prefix, checked, features=features)


def _resolve(url: str, folder: str) -> str:
    bucket, prefix = bucket_and_prefix(url)
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"


def _check_setting(url: str) -> None:
    if host_of(url).startswith("arn"):
        raise ValueError(ARN_FAULT)
    if not {"@", ":"}.isdisjoint(host_of(url)):
        raise ValueError(HOLDS_CREDENTIALS)
    rest = url.partition("://")[2]
    if url.startswith("s3://") and (
        not re.fullmatch(_BUCKET_TO_SET, host_of(url)) or re.search(r"[?#\\]", rest)
    ):
        raise ValueError("is not of the form s3://BUCKET or s3://BUCKET/PREFIX")


def _may_be_committed(url: str, root: str | None) -> bool:
    return url.startswith("s3://")


def _check_storage_class(name: str) -> None:
    if name in _ARCHIVES:
        raise ValueError(
            "is an archive, from which reading takes hours; dvtool reads parts of packs at any time"
        )
    if not re.fullmatch(_STORAGE_CLASS, name):
        raise ValueError("is not a storage class such as STANDARD_IA")


OPTIONS = (
    Option(
        name="endpoint_url",
        description="The S3 service, if it is not Amazon's.",
        help="The S3 service, if not Amazon's.",
        metavar="URL",
        committed=True,
        locates=True,
        addresses=True,
        at_init=True,
        check=check_web_address,
        exposed=endpoint_is_exposed,
    ),
    Option(
        name="region",
        description="The S3 region of the bucket.",
        help="The S3 region of the bucket.",
        metavar="REGION",
        committed=True,
        addresses=True,
        at_init=True,
        check=matching(_REGION, "is not a region such as eu-central-1"),
    ),
    Option(
        name="profile",
        description="The profile of your AWS configuration to use.",
        help="The profile of your AWS configuration.",
        metavar="NAME",
        committed=False,
    ),
    Option(
        name="addressing",
        kind="choice",
        description="Where the bucket's name stands in requests: in the path, in the host "
        "(virtual), or auto.",
        help="Of the bucket: auto, path or virtual.",
        metavar="HOW",
        committed=True,
        addresses=True,
        default="auto",
        choices=("auto", "path", "virtual"),
    ),
    Option(
        name="storage_class",
        description="The S3 storage class of large objects.",
        help="For packs, such as STANDARD_IA.",
        metavar="CLASS",
        committed=True,
        check=_check_storage_class,
        of_writing=True,
    ),
    Option(
        name="sse",
        kind="choice",
        description="How the store encrypts: as the bucket says (default), AES256, aws:kms or "
        "aws:kms:dsse.",
        help="How the store encrypts: default, AES256 or aws:kms.",
        metavar="HOW",
        committed=True,
        default="default",
        choices=("default", "AES256", "aws:kms", "aws:kms:dsse"),
        no_value="default",
        of_writing=True,
    ),
    Option(
        name="sse_kms_key_id",
        description="The KMS key to encrypt with, for aws:kms.",
        help="The KMS key, with --sse aws:kms.",
        metavar="KEY",
        committed=False,
        of_writing=True,
    ),
    Option(
        name="anonymous",
        kind="bool",
        description="Read a public bucket: sign no request.",
        help="true: sign no request, to read a public bucket.",
        metavar="BOOL",
        committed=True,
        addresses=True,
        default=False,
    ),
    Option(
        name="requester_pays",
        kind="bool",
        description="Pay for requests to another's bucket.",
        help="true: pay for requests to somebody else's bucket.",
        metavar="BOOL",
        committed=False,
        default=False,
    ),
    Option(
        name="ca_bundle",
        kind="path",
        description="A file with the certificates to trust.",
        help="The certificates to trust.",
        metavar="FILE",
        committed=False,
    ),
    Option(
        name="proxy",
        description="The HTTP proxy to go through.",
        help="The HTTP proxy to go through.",
        metavar="URL",
        committed=False,
        check=check_web_address,
    ),
)

S3 = Transport(
    noun="in S3",
    schemes=("s3",),
    url_form="S3 (s3://bucket/prefix)",
    committed_form="an s3:// URL",
    options=OPTIONS,
    open=_open_bucket,
    resolve=_resolve,
    check_setting=_check_setting,
    may_be_committed=_may_be_committed,
    # S3 Standard in us-east-1: a PUT or LIST, and a GET or HEAD; see aws.amazon.com/s3/pricing.
    # Traffic out of the region costs besides, by the byte.
    prices=RequestPrices(0.005 / 1000, 0.0004 / 1000, "Amazon's price for S3 Standard"),
)
