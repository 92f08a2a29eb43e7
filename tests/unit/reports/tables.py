"""Small tables to compare, as files in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import ExitStack

from dvtool import TableDiff
from dvtool.reports.row_diff import compare_tables
from dvtool.reports.tables import tables_of

Counts = tuple[int, int, int, int]


def compare(path: str, old: bytes, new: bytes, *key: str) -> TableDiff:
    with ExitStack() as held:
        (before,) = tables_of(path, io.BytesIO(old), held)
        (after,) = tables_of(path, io.BytesIO(new), held)
        return compare_tables(path, before, after, key)


def counts(diff: TableDiff) -> Counts:
    return diff.added, diff.removed, diff.changed, diff.unchanged


def json_lines(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
