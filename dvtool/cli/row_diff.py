"""``dv diff --rows``: which rows of tables changed, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dvtool.cli.output import Screen, count_text
from dvtool.errors import cut_alike, printable

if TYPE_CHECKING:
    from dvtool import ChangedCell, ChangedRow, ColumnChange, RowDiff, TableDiff

ROWS_SHOWN_MAX = 5
"""So many rows of each kind of change are printed; --json has more of them."""
CELLS_SHOWN_MAX = 6
_TEXT_LENGTH_MAX = 32
_KEY_START_LENGTH = 8
_MARKS = {"changed": ("M", "yellow"), "added": ("A", "green"), "removed": ("D", "red")}


def show_rows(screen: Screen, changed: RowDiff) -> None:
    """Print the difference of tables."""
    for table in changed.tables:
        for line in _table_lines(screen, table):
            screen.line(line)
    for unread in changed.unread:
        screen.warn(unread.reason)
    if not changed.tables and not changed.unread:
        screen.line("no table changed")


def _table_lines(screen: Screen, table: TableDiff) -> Iterator[str]:
    name = screen.style(printable(table.path), "bold")
    inner = "" if table.table is None else f" [{printable(table.table)}]"
    state = {"added": " (new)", "removed": " (gone)"}.get(table.change, "")
    yield f"{name}{inner}{state}"
    yield f"  rows {table.old_rows:,} -> {table.new_rows:,}: {_counts_text(table)}"
    if table.repeated_keys:
        keys = count_text(table.repeated_keys, "key")
        yield f"  {keys} in more than one row: these are matched by content, then in order"
    for column in table.columns:
        yield f"  {_column_text(column)}"
    if table.cells:
        cells = ", ".join(f"{printable(name)} {n:,}" for name, n in table.cells.items())
        yield f"  cells that differ: {cells}"
    for change in _MARKS:
        rows = [row for row in table.rows if row.change == change]
        for row in rows[:ROWS_SHOWN_MAX]:
            yield _row_text(screen, row)
        left = getattr(table, change) - len(rows[:ROWS_SHOWN_MAX])
        if left:
            yield f"    … {left:,} more {change}"


def _counts_text(table: TableDiff) -> str:
    counts = [
        f"{getattr(table, change):,} {change}"
        for change in ("added", "removed", "changed", "unchanged")
        if getattr(table, change)
    ]
    return ", ".join(counts) or "none"


def _column_text(column: ColumnChange) -> str:
    name = printable(column.column)
    if column.old_type is None:
        return f"column {name} added ({printable(column.new_type or '')})"
    if column.new_type is None:
        return f"column {name} removed ({printable(column.old_type)})"
    return f"column {name}: {printable(column.old_type)} -> {printable(column.new_type)}"


def _row_text(screen: Screen, row: ChangedRow) -> str:
    mark, colour = _MARKS[row.change]
    number = row.new_row if row.new_row is not None else row.old_row
    label = f"row {number:,}"
    if row.key:
        label += f" ({', '.join(map(_key_text, row.key))})"
    cells = [_cell_text(row, cell) for cell in row.cells[:CELLS_SHOWN_MAX]]
    if len(row.cells) > CELLS_SHOWN_MAX:
        cells.append("…")
    return f"  {screen.style(mark, colour)} {label}: {', '.join(cells)}"


def _cell_text(row: ChangedRow, cell: ChangedCell) -> str:
    name = printable(cell.column)
    if row.change == "changed":
        old, new = cut_alike(_whole_text(cell.old), _whole_text(cell.new), _TEXT_LENGTH_MAX)
        return f"{name} {old} -> {new}"
    return f"{name} {_value_text(cell.new if row.change == 'added' else cell.old)}"


def _value_text(value: str | None) -> str:
    text = _whole_text(value)
    return text if len(text) <= _TEXT_LENGTH_MAX else text[: _TEXT_LENGTH_MAX - 1] + "…"


def _key_text(value: str | None) -> str:
    """Return the value of a key; of a long one, as a path is, the end says most."""
    text = _whole_text(value)
    if len(text) <= _TEXT_LENGTH_MAX:
        return text
    return f"{text[:_KEY_START_LENGTH]}…{text[_KEY_START_LENGTH + 1 - _TEXT_LENGTH_MAX :]}"


def _whole_text(value: str | None) -> str:
    return "(none)" if value is None else printable(value) or "''"
