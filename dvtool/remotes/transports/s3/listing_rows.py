"""The rows of a listing without what botocore does for each of them, half of a long listing's work.

A page is parsed once here, by the parser that botocore uses, and botocore gets the rest of it. A
page with anything unusual is left to botocore whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_ROW_TAG = "Contents"
_WANTED = ("Key", "Size", "ETag", "LastModified")


def parse_rows_apart(client: S3Client) -> None:
    """Let the rows of listings by this client have key, size, ETag and time, as text, alone."""
    client.meta.events.register_first(
        "before-parse.s3.ListObjectsV2", _take_rows, unique_id="dv-rows"
    )


def _take_rows(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return
    if _name(root) != "ListBucketResult":
        return
    rows = [child for child in root if _name(child) == _ROW_TAG]
    try:
        parsed = [_plain_row(row) for row in rows]
    except (KeyError, ValueError):
        return
    if not parsed:
        return
    for row in rows:
        root.remove(row)
    response_dict["body"] = ElementTree.tostring(root, "utf-8")
    customized_response_dict[_ROW_TAG] = parsed


def _plain_row(row: ElementTree.Element) -> dict[str, Any]:
    """Return a row; KeyError or ValueError if it is unusual."""
    texts = {child.tag.rpartition("}")[2]: child.text or "" for child in row}
    if len(texts) < len(row):  # something is said twice
        raise ValueError
    fields: dict[str, Any] = {name: texts[name] for name in _WANTED if name in texts}
    if not fields["Key"]:
        raise KeyError
    if "Size" in fields:
        fields["Size"] = int(fields["Size"])
    return fields


def _name(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace, which says nothing to botocore."""
    return element.tag.rpartition("}")[2]
