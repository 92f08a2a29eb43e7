"""The report as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re

from dvtool.errors import printable, size_text
from dvtool.format.compare import Difference
from dvtool.reports.gather import (
    ArrayChange,
    Gathered,
    PictureChange,
    ShownFile,
    SoundChange,
    TableChange,
    TextChange,
)
from dvtool.reports.markup import growth
from dvtool.reports.row_diff import ChangedRow, TableDiff
from dvtool.verbs.diff import Total

CHARACTERS_MAX = 64_000
"""A comment on GitHub may have 65,536 characters."""
_ENDING_MAX = 200
_FOLDERS_MAX = 40
_FILES_MAX = 100
_ROWS_MAX = 8
_LINES_MAX = 40
_CODE_LENGTH_MAX = 120
_COUNTED = ("added", "modified", "removed", "renamed")


def code(foreign: str) -> str:
    """Return text of others as code, in which nothing is markup, a link, a picture or a mention."""
    shown = printable(foreign.encode("utf-8", "backslashreplace").decode())
    if len(shown) > _CODE_LENGTH_MAX:
        shown = shown[: _CODE_LENGTH_MAX - 1] + "…"
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    room = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{room}{shown or ' '}{room}{fence}".replace("|", "\\|")


def comment(report: Gathered) -> str:
    """Return the report in Markdown, below 65,000 characters; it says what was left out."""
    blocks = [_head(report), _folder_table(report), _file_list(report)]
    for kind in report.kinds:
        if kind.total > len(kind.files):
            blocks.append(
                f"*{kind.name}: {len(kind.files)} of {kind.total:,}, spread evenly over the paths*"
            )
        blocks.extend(_block(file) for file in kind.files)
    kept: list[str] = []
    used = 0
    for number, block in enumerate(blocks):
        used += len(block) + 2
        if used > CHARACTERS_MAX - _ENDING_MAX:
            left = len(blocks) - number
            kept.append(f"*… {left:,} more parts are left out: a comment may not be longer.*")
            break
        kept.append(block)
    return "\n\n".join(kept) + "\n"


def _head(report: Gathered) -> str:
    totals = report.totals
    counts = [
        f"**{total.count:,}** {change}"
        + ("" if change == "renamed" else f" ({growth(total.bytes)})")
        for change in _COUNTED
        if (total := getattr(totals, change)).count
    ]
    names = f"{code(report.old)} → {code(report.new)}"
    return f"### Changes in the data: {names}\n\n{', '.join(counts) or 'No file changed.'}"


def _folder_table(report: Gathered) -> str:
    folders = report.folders()
    lines = [f"| folder | {' | '.join(_COUNTED)} |", "|---|--:|--:|--:|--:|"]
    for name, totals in list(folders.items())[:_FOLDERS_MAX]:
        cells = " | ".join(_total(getattr(totals, change)) for change in _COUNTED)
        lines.append(f"| {code(name + '/')} | {cells} |")
    left = len(folders) - _FOLDERS_MAX
    return "\n".join(lines) + (f"\n\n*{left:,} more folders*" if left > 0 else "")


def _total(total: Total) -> str:
    if not total.count:
        return ""
    return f"{total.count:,} ({growth(total.bytes)})" if total.bytes else f"{total.count:,}"


def _file_list(report: Gathered) -> str:
    lines = [f"- {_file(path, change)}" for path, change in report.changes[:_FILES_MAX]]
    left = len(report.changes) - _FILES_MAX
    if left > 0:
        lines.append(f"- … {left:,} more")
    listed = "\n".join(lines)
    return f"<details><summary>Files</summary>\n\n{listed}\n\n</details>"


def _file(path: str, change: Difference) -> str:
    source = f" from {code(change.source)}" if change.source is not None else ""
    sizes = [size_text(entry.bytes) for entry in (change.old, change.new) if entry]
    return f"{change.change} {code(path)}{source} ({' → '.join(sizes)})"


def _block(file: ShownFile) -> str:
    parts = [f"**{code(file.path)}** {file.change.change}"]
    body = file.body
    if isinstance(body, TableChange):
        parts.extend(_table_comment(diff) for diff in body.diffs)
    elif isinstance(body, PictureChange):
        parts.append(_picture_comment(body))
    elif isinstance(body, TextChange):
        parts.append(_text_comment(body))
    elif isinstance(body, SoundChange):
        sounds = [sound for sound in (body.old, body.new) if sound]
        parts.append(" → ".join(f"{sound.seconds:.2f} s, {sound.rate_hz:,} Hz" for sound in sounds))
    elif isinstance(body, ArrayChange):
        parts.append(_arrays_comment(body))
    parts.extend(code(note) for note in file.notes)
    return "\n\n".join(part for part in parts if part)


def _picture_comment(body: PictureChange) -> str:
    sizes = [
        f"{picture.width:,} × {picture.height:,}" for picture in (body.old, body.new) if picture
    ]
    share = body.difference and _share_text(body.difference.share)
    return " → ".join(sizes) + (share or "")


def _share_text(share: float) -> str:
    return f": {100 * share:.1f} % of the pixels differ" if share else ": no pixel differs visibly"


def _arrays_comment(body: ArrayChange) -> str:
    lines = ["| array | side | shape | dtype | mean |", "|---|---|---|---|--:|"]
    for side, arrays in (("before", body.old), ("now", body.new)):
        for array in arrays[:_ROWS_MAX]:
            shape = " × ".join(map(str, array.shape))
            mean = f"{array.statistics.mean:.5g}" if array.statistics else ""
            name = code(array.name or "the array")
            cells = f"{name} | {side} | {shape} | {code(array.dtype)} | {mean}"
            lines.append(f"| {cells} |")
    return "\n".join(lines)


def _text_comment(body: TextChange) -> str:
    lines = [printable(line) for line in body.lines[:_LINES_MAX]]
    fence = "`" * max(
        3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    )
    more = len(body.lines) - len(lines)
    ending = f"\n*{more} more lines*" if more > 0 else ""
    return f"{fence}diff\n" + "\n".join(lines) + f"\n{fence}{ending}" if lines else ""


def _table_comment(diff: TableDiff) -> str:
    name = f"{code(diff.table)}: " if diff.table is not None else ""
    counts = [
        f"{getattr(diff, change):,} {change}"
        for change in ("added", "removed", "changed", "unchanged")
        if getattr(diff, change)
    ]
    lines = [f"{name}{diff.old_rows:,} → {diff.new_rows:,} rows: {', '.join(counts) or 'none'}"]
    for column in diff.columns[:20]:
        types = f"{code(column.old_type or 'none')} → {code(column.new_type or 'none')}"
        lines.append(f"- column {code(column.column)}: {types}")
    if diff.rows:
        lines += ["", "| change | row | key | cells |", "|---|--:|---|---|"]
        for change in ("changed", "added", "removed"):
            rows = [row for row in diff.rows if row.change == change]
            lines.extend(map(_row, rows[:_ROWS_MAX]))
    return "\n".join(lines)


def _row(row: ChangedRow) -> str:
    key = ", ".join(code(value or "") for value in row.key)
    cells = []
    for cell in row.cells[:6]:
        old, new = (code("none" if value is None else value) for value in (cell.old, cell.new))
        sides = {"changed": f"{old} → {new}", "added": new, "removed": old}
        cells.append(f"{code(cell.column)} {sides[row.change]}")
    return f"| {row.change} | {row.new_row or row.old_row:,} | {key} | {'; '.join(cells)} |"
