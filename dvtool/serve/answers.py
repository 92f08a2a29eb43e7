"""The XML documents of S3, as text; the names of elements are those of the S3 API reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

from dvtool.serve.faults import S3Fault
from dvtool.serve.options import BUCKET

XML_TYPE = "application/xml"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SPECIAL = re.compile(r"[&<>\"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_OWNER = "<Owner><ID>dv</ID><DisplayName>dv</DisplayName></Owner>"

Encode: TypeAlias = Callable[[str], str]


class ListedObject(NamedTuple):
    """One object of a listing."""

    key: str
    etag: str
    size: int
    modified: int


class ListedPage(NamedTuple):
    """The answer to a listing: rows, and elements that say what was asked and how it goes on."""

    rows: Sequence[ListedObject]
    prefixes: Sequence[str]
    elements: Sequence[tuple[str, str]]
    url_encoded: bool
    with_owner: bool


def encoder(*, url_encoded: bool) -> Encode:
    """Return how keys are written: for XML, or percent-encoded if the client asked for that."""
    return url_text if url_encoded else xml_text


def xml_text(text: str) -> str:
    """Return text for XML.

    A character that XML cannot hold is written by its number, as S3 does: a parser refuses that,
    and reads no other name. A client that meets such names asks for ``encoding-type=url``.
    """
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0], f"&#{ord(match[0])};"), text)


def url_text(text: str) -> str:
    """Return text percent-encoded, as keys are for ``encoding-type=url``."""
    return quote(text, safe="/-_.~", errors="surrogateescape")


def http_date(seconds: int) -> str:
    """Return a time, in seconds since 1970, as HTTP has it."""
    return formatdate(seconds, usegmt=True)


def iso_date(seconds: int) -> str:
    """Return a time, in seconds since 1970, as listings have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def fault_document(fault: S3Fault, resource: str, request_id: str) -> bytes:
    """Return the document of an error."""
    elements = (
        ("Code", fault.code),
        ("Message", str(fault)),
        ("Resource", resource),
        ("RequestId", request_id),
    )
    return _document("Error", _elements_text(elements, xml_text), namespace="")


def buckets_document(created: int) -> bytes:
    """Return the list of buckets, which is one."""
    bucket = f"<Name>{BUCKET}</Name><CreationDate>{iso_date(created)}</CreationDate>"
    return _document(
        "ListAllMyBucketsResult", f"{_OWNER}<Buckets><Bucket>{bucket}</Bucket></Buckets>"
    )


def location_document() -> bytes:
    """Return the location of the bucket; empty is the region us-east-1."""
    return _document("LocationConstraint", "")


def versioning_document() -> bytes:
    """Return that the bucket has no versions of S3's kind."""
    return _document("VersioningConfiguration", "")


def page_document(page: ListedPage) -> bytes:
    """Return a page of a listing, in the form of both versions of the request."""
    encode = encoder(url_encoded=page.url_encoded)
    owner = _OWNER if page.with_owner else ""
    rows = "".join(
        f"<Contents><Key>{encode(row.key)}</Key>"
        f"<LastModified>{iso_date(row.modified)}</LastModified>"
        f"<ETag>{xml_text(row.etag)}</ETag><Size>{row.size}</Size>{owner}"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for row in page.rows
    )
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>{encode(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    )
    return _document("ListBucketResult", _elements_text(page.elements, str) + rows + prefixes)


def _elements_text(elements: Iterable[tuple[str, str]], encode: Encode) -> str:
    return "".join(f"<{name}>{encode(text)}</{name}>" for name, text in elements)


def _document(name: str, inner: str, *, namespace: str = _NAMESPACE) -> bytes:
    space = f' xmlns="{namespace}"' if namespace else ""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}{space}>{inner}</{name}>'
    return text.encode("utf-8", "backslashreplace")
