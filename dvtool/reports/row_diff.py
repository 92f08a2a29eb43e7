"""Two tables compared by row, in bounded memory: all rows of both, sorted by key and content.

Rows that are the same on both sides lie side by side then, whatever their order in the files.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple

import msgspec

from dvtool.errors import UsageError, listing, printable
from dvtool.format.digest import DIGEST_SIZE_BYTES, digest_of
from dvtool.reports.cells import cell_text, cell_texts, decode_cells, encode_cells, plain
from dvtool.reports.row_files import RowTable
from dvtool.system.sorting import Sorter

EXAMPLES_MAX = 20
"""So many rows of each kind of change are shown, the first ones of the table."""
_ORDINAL_BYTES = 8
_OLD, _NEW = 0, 1


class ColumnChange(msgspec.Struct, frozen=True):
    """A column that came, went, or has another type."""

    column: str
    """Its name."""
    old_type: str | None
    """Its type before; null if it is new."""
    new_type: str | None
    """Its type now; null if it is gone."""


class ChangedCell(msgspec.Struct, frozen=True):
    """A cell that differs. Long values are cut, where they are alike first."""

    column: str
    """The column."""
    old: str | None
    """Its value before, as text; null for no value."""
    new: str | None
    """Its value now, as text; null for no value."""


class ChangedRow(msgspec.Struct, frozen=True):
    """A row that was added, removed or changed."""

    change: Literal["added", "removed", "changed"]
    """added, removed or changed."""
    old_row: int | None
    """Its number before, from 1; null if it is new."""
    new_row: int | None
    """Its number now, from 1; null if it is gone."""
    key: list[str | None]
    """The values of the key's columns; empty without a key."""
    cells: list[ChangedCell]
    """The cells that differ; of an added or removed row all of them."""


class TableDiff(msgspec.Struct):
    """The changes of one table."""

    path: str
    """The file, from the top of the worktree."""
    table: str | None
    """The table in the file, where it may have several (SQLite, annotations); else null."""
    change: Literal["added", "removed", "modified"]
    """Whether the table came, went or is on both sides."""
    key: list[str]
    """The columns by which rows are matched; empty if rows are only the same or not."""
    old_rows: int = 0
    """How many rows it had."""
    new_rows: int = 0
    """How many rows it has."""
    added: int = 0
    """How many rows are new."""
    removed: int = 0
    """How many rows went."""
    changed: int = 0
    """How many rows have the same key and other values."""
    unchanged: int = 0
    """How many rows are the same in the columns that both sides have."""
    repeated_keys: int = 0
    """How many keys stand in more than one row of a side."""
    columns: list[ColumnChange] = []
    """The columns that came, went, or have another type."""
    cells: dict[str, int] = {}
    """Column -> in how many changed rows it differs; of a key that is repeated 20 rows count."""
    rows: list[ChangedRow] = []
    """The first rows that were added, removed and changed, some of each."""


class _RowRecord(NamedTuple):
    side: int
    number: int
    data: bytes


@dataclass
class _Tally:
    """The counts of a comparison, and the first rows of each kind of change."""

    diff: TableDiff
    names: list[str]
    cells: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[tuple[int, int, ChangedRow]]] = field(default_factory=dict)

    def note(self, old: _RowRecord | None, new: _RowRecord | None) -> None:
        """Keep the example of a change if it is among the first; count the cells of a pair."""
        if old and new:
            for name, _, _ in self._differing(old, new):
                self.cells[name] += 1
        change: Literal["added", "removed", "changed"]
        change = "changed" if old and new else "removed" if old else "added"
        rank = -(new or old or _RowRecord(0, 0, b"")).number
        kept = self.first.setdefault(change, [])
        if len(kept) == EXAMPLES_MAX and rank <= kept[0][0]:
            return
        shown = [
            ChangedCell(name, *cell_texts(before, after))
            for name, before, after in self._differing(old, new)
        ]
        values = dict(zip(self.names, decode_cells((new or old).data), strict=True))  # type: ignore[union-attr]
        key = [cell_text(values[name]) for name in self.diff.key]
        row = ChangedRow(change, old and old.number, new and new.number, key, shown)
        push = heapq.heappush if len(kept) < EXAMPLES_MAX else heapq.heappushpop
        push(kept, (rank, len(kept), row))

    def _differing(
        self, old: _RowRecord | None, new: _RowRecord | None
    ) -> Iterator[tuple[str, Any, Any]]:
        nothing = [None] * len(self.names)
        before = decode_cells(old.data) if old else nothing
        after = decode_cells(new.data) if new else nothing
        for name, value, other in zip(self.names, before, after, strict=True):
            if value != other or type(value) is not type(other):
                yield name, value, other

    def finish(self) -> TableDiff:
        """Return the result."""
        self.diff.cells = dict(self.cells.most_common())
        self.diff.rows = [
            row
            for change in ("changed", "added", "removed")
            for *_, row in sorted(self.first.get(change, ()), key=lambda kept: -kept[0])
        ]
        return self.diff


def compare_tables(path: str, old: RowTable, new: RowTable, key: Sequence[str]) -> TableDiff:
    """Compare two tables by the values of the columns that both have, in whatever order.

    Rows are matched by `key`; without one a row is the same or not. Rows of which several have one
    key are matched by content first, then one for one. It takes some 64 MiB of memory, and room
    for the rows of both as JSON in temporary files. UsageError if a column of the key is missing.
    """
    names = [name for name in new.columns if name in old.columns]
    for table, side in ((old, "before"), (new, "now")):
        _require(path, side, table, key)
    diff = TableDiff(path, new.name, "modified", list(key), columns=schema_changes(old, new))
    tally = _Tally(diff, names)
    with Sorter() as sorter:
        diff.old_rows = _feed(sorter, _OLD, old, names, key)
        diff.new_rows = _feed(sorter, _NEW, new, names, key)
        for _, records in groupby(sorter, key=lambda record: record[:DIGEST_SIZE_BYTES]):
            _compare_group(tally, records)
    return tally.finish()


def whole_table(path: str, table: RowTable, change: Literal["added", "removed"]) -> TableDiff:
    """Return the difference of a table that only one side has, with its first rows."""
    count, is_new = table.count(), change == "added"
    rows = []
    for number, values in enumerate(islice(table.rows(), EXAMPLES_MAX), start=1):
        shown = [cell_text(plain(value)) for value in values]
        cells = [
            ChangedCell(name, None if is_new else value, value if is_new else None)
            for name, value in zip(table.columns, shown, strict=True)
            if value is not None
        ]
        old_row, new_row = (None, number) if is_new else (number, None)
        rows.append(ChangedRow(change, old_row, new_row, [], cells))
    if is_new:
        return TableDiff(path, table.name, change, [], new_rows=count, added=count, rows=rows)
    return TableDiff(path, table.name, change, [], old_rows=count, removed=count, rows=rows)


def schema_changes(old: RowTable, new: RowTable) -> list[ColumnChange]:
    """Return the columns that came, went, or have another type."""
    return [
        ColumnChange(name, old.columns.get(name), new.columns.get(name))
        for name in {**new.columns, **old.columns}
        if old.columns.get(name) != new.columns.get(name)
    ]


def _require(path: str, side: str, table: RowTable, key: Sequence[str]) -> None:
    for name in key:
        if name not in table.columns:
            raise UsageError(
                f"{printable(path)} has no column {printable(name)} {side}; it has:\n"
                f"{listing(table.columns)}",
                hint="name a column of all tables that are compared, and those behind `--`: "
                "dv diff A B --rows --key COLUMN -- PATH",
            )


def _feed(
    sorter: Sorter, side: int, table: RowTable, names: Sequence[str], key: Sequence[str]
) -> int:
    """Hand the rows of one side to the sorter; return their number.

    A record is: hash of the key, hash of the content, side, number, content.
    """
    positions = {name: at for at, name in enumerate(table.columns)}
    wanted = [positions[name] for name in names]
    key_at = [positions[name] for name in key]
    number = 0
    for number, row in enumerate(table.rows(), start=1):
        data = encode_cells([row[at] for at in wanted])
        digest = digest_of(data)
        group = digest_of(encode_cells([row[at] for at in key_at])) if key_at else digest
        ordinal = number.to_bytes(_ORDINAL_BYTES, "big")
        sorter.add(b"".join((group, digest, bytes((side,)), ordinal, data)))
    return number


def _parsed_record(record: bytes) -> _RowRecord:
    at = 2 * DIGEST_SIZE_BYTES
    number = int.from_bytes(record[at + 1 : at + 1 + _ORDINAL_BYTES], "big")
    return _RowRecord(record[at], number, record[at + 1 + _ORDINAL_BYTES :])


def _compare_group(tally: _Tally, records: Iterator[bytes]) -> None:
    """Count the rows of one key: equal ones, then pairs, then what is left of one side.

    Of what is left over only the first rows are held: a table may have one key in all its rows.
    """
    left, counts = [0, 0], [0, 0]
    first: list[list[_RowRecord]] = [[], []]
    content = slice(DIGEST_SIZE_BYTES, 2 * DIGEST_SIZE_BYTES)
    for _, same in groupby(records, key=lambda record: record[content]):
        held = [0, 0]
        last: list[deque[bytes]] = [deque(maxlen=EXAMPLES_MAX) for _ in held]
        for record in same:
            side = record[2 * DIGEST_SIZE_BYTES]
            held[side] += 1
            last[side].append(record)
        equal = min(held)
        tally.diff.unchanged += equal
        for side in (_OLD, _NEW):
            counts[side] += held[side]
            more = held[side] - equal
            left[side] += more
            room = EXAMPLES_MAX - len(first[side])
            excess = list(last[side])[-more:] if more else []
            first[side].extend(map(_parsed_record, excess[:room]))
    _count_left(tally, left, first)
    tally.diff.repeated_keys += bool(tally.diff.key) and max(counts) > 1


def _count_left(tally: _Tally, left: Sequence[int], first: Sequence[Sequence[_RowRecord]]) -> None:
    pairs = min(left) if tally.diff.key else 0
    tally.diff.changed += pairs
    tally.diff.removed += left[_OLD] - pairs
    tally.diff.added += left[_NEW] - pairs
    for old, new in zip(first[_OLD][:pairs], first[_NEW][:pairs], strict=False):
        tally.note(old, new)
    for old in first[_OLD][pairs:]:
        tally.note(old, None)
    for new in first[_NEW][pairs:]:
        tally.note(None, new)
