"""Rows of a listing that are parsed apart are what botocore makes of them, or left to it."""

from __future__ import annotations

from typing import Any

import pytest

from dvtool.remotes.transports.s3.listing_rows import _take_rows

NAMES = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ROW = (
    "<Contents{}><Key>{}</Key><LastModified>2020-01-01T00:00:00Z</LastModified><ETag>e</ETag>"
    "<Size>3</Size><Owner><ID>x</ID></Owner></Contents>"
)


def taken(*rows: str) -> tuple[list[str] | None, str]:
    """Return the keys taken out of a page, None if it was left whole, and what is left of it."""
    text = f"<ListBucketResult {NAMES}><Name>b</Name>{''.join(rows)}</ListBucketResult>"
    response: dict[str, Any] = {"status_code": 200, "body": text.encode()}
    apart: dict[str, Any] = {}
    _take_rows(response, apart)
    found = apart.get("Contents")
    return None if found is None else [row["Key"] for row in found], response["body"].decode()


def test_the_rows_of_a_page_are_taken_out_of_it() -> None:
    keys, rest = taken(ROW.format("", "a"), ROW.format("", "b%2Bc"))
    assert keys == ["a", "b%2Bc"]
    assert "Key" not in rest
    assert ">b<" in rest


def test_rows_of_another_namespace_are_rows_for_botocore_and_here() -> None:
    keys, rest = taken(ROW.format("", "a"), ROW.format(' xmlns="other"', "b"))
    assert keys == ["a", "b"]
    assert "Key" not in rest


@pytest.mark.parametrize("key", ["", "a</Key><Key>b"])
def test_a_page_with_an_unusual_row_is_left_whole(key: str) -> None:
    keys, rest = taken(ROW.format("", "a"), ROW.format("", key))
    assert keys is None
    assert rest.count("<Contents>") == 2
