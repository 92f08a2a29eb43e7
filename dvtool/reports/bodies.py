"""The parts of the page that show one file, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dvtool.errors import count_text
from dvtool.reports.arrays import ArrayFacts
from dvtool.reports.distributions import Distribution
from dvtool.reports.gather import (
    ArrayChange,
    PictureChange,
    ShownFile,
    SoundChange,
    TableChange,
    TextChange,
)
from dvtool.reports.markup import table, text
from dvtool.reports.pictures import Picture, PictureDifference
from dvtool.reports.plots import distribution_plot, legend, waveform
from dvtool.reports.row_diff import ChangedCell, ChangedRow, TableDiff
from dvtool.reports.sounds import Sound

CELLS_MAX = 8
ROWS_EACH_MAX = 5
ARRAYS_SHOWN_MAX = 60
_ROW_CHANGES = ("changed", "added", "removed")


def body_markup(file: ShownFile, names: tuple[str, str]) -> str:
    """Return what is shown of a file; `names` are those of the revisions."""
    render: Callable[[Any, ShownFile, tuple[str, str]], str] = _RENDERERS[type(file.body)]
    return render(file.body, file, names)


# --- pictures and sounds --------------------------------------------------------------------


def _pictures(body: PictureChange, file: ShownFile, names: tuple[str, str]) -> str:
    pairs = zip((body.old, body.new), ("before", "now"), strict=True)
    figures = [_one_picture(picture, side, file) for picture, side in pairs if picture is not None]
    if body.difference is not None:
        figures.append(_difference(body.difference))
    elif body.old and body.new:
        figures.append(
            "<figure><figcaption>no difference view: the sizes differ</figcaption></figure>"
        )
    three = " three" if len(figures) == 3 else ""
    return f'<div class="pair{three}">{"".join(figures)}</div>'


def _difference(difference: PictureDifference) -> str:
    if not difference.share:
        reason = "in this size no pixel differs visibly: colours, metadata or compression may"
        return f"<figure><figcaption>{reason}</figcaption></figure>"
    share = f"{100 * difference.share:.1f} % of the pixels differ"
    return (
        f'<figure><img class="difference" src="{difference.uri}" alt="difference">'
        f"<figcaption>difference, × 3: {share}</figcaption></figure>"
    )


def _one_picture(picture: Picture, side: str, file: ShownFile) -> str:
    return (
        f'<figure><img src="{picture.uri}" alt="{text(file.path)}, {side}" decoding="async">'
        f"<figcaption>{side}, {picture.width:,} × {picture.height:,}</figcaption></figure>"
    )


def _sounds(body: SoundChange, file: ShownFile, names: tuple[str, str]) -> str:
    sides = (("old", "before", body.old), ("new", "now", body.new))
    figures = [
        _one_sound(sound, colour, side) for colour, side, sound in sides if sound is not None
    ]
    return f'<div class="pair">{"".join(figures)}</div>'


def _one_sound(sound: Sound, colour: str, side: str) -> str:
    channels = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels")
    facts = f"{sound.seconds:.2f} s, {sound.rate_hz:,} Hz, {channels}, {sound.bits} bit"
    return f"<figure>{waveform(sound, colour)}<figcaption>{side}: {facts}</figcaption></figure>"


# --- arrays ---------------------------------------------------------------------------------


def _arrays_markup(body: ArrayChange, file: ShownFile, names: tuple[str, str]) -> str:
    old = {array.name: array for array in body.old}
    new = {array.name: array for array in body.new}
    every = sorted(old.keys() | new.keys(), key=lambda name: (old.get(name) == new.get(name), name))
    rows = []
    for name in every[:ARRAYS_SHOWN_MAX]:
        before, after = old.get(name), new.get(name)
        if before == after and before is not None:
            rows.append([text(name or "the array"), "unchanged", *_facts(before)])
            continue
        sides = ("before", "now") if before and after else (_tagged("removed"), _tagged("added"))
        for array, side in zip((before, after), sides, strict=True):
            if array is not None:
                rows.append([text(name or "the array"), side, *_facts(array)])
    head = ["/array", ".", ".shape", "dtype", "#min", "#max", "#mean", "#std", "#NaN, inf"]
    left = len(every) - ARRAYS_SHOWN_MAX
    more = f'<p class="note">{left:,} more arrays are not shown</p>' if left > 0 else ""
    return table(f"Arrays of {file.path}", head, rows) + more


def _tagged(change: str) -> str:
    return f'<span class="tag {change}">{change}</span>'


def _facts(array: ArrayFacts) -> list[str]:
    shape = text(" × ".join(map(str, array.shape)) or "one value")
    facts = array.statistics
    if facts is None:
        return [shape, text(array.dtype), "", "", "", "", ""]
    mark = "~" if facts.sampled else ""
    numbers = (facts.low, facts.high, facts.mean, facts.deviation)
    shown = [f"{mark}{number:.5g}" for number in numbers]
    return [shape, text(array.dtype), *shown, f"{mark}{facts.not_finite:,}"]


# --- text -----------------------------------------------------------------------------------

_LINE_CLASSES = {"+": "plus", "-": "minus", "@": "at"}


def _text_markup(body: TextChange, file: ShownFile, names: tuple[str, str]) -> str:
    lines = "".join(
        f'<span class="{_LINE_CLASSES.get(line[:1], "same")}">{text(line) or " "}</span>'
        for line in body.lines
    )
    return f'<pre tabindex="0" aria-label="{text(file.path)}">{lines}</pre>' if lines else ""


# --- tables ---------------------------------------------------------------------------------


def _tables_markup(body: TableChange, file: ShownFile, names: tuple[str, str]) -> str:
    parts = [_table_diff(diff) + _plots(body.plots.get(diff.table, ())) for diff in body.diffs]
    return "".join(parts or map(_plots, body.plots.values()))


def _plots(plots: Sequence[Distribution]) -> str:
    if not plots:
        return ""
    drawn = "".join(map(distribution_plot, plots))
    return f'{legend(("before", "now"))}<div class="plots">{drawn}</div>'


def _table_diff(diff: TableDiff) -> str:
    name = f"<b>{text(diff.table)}</b>: " if diff.table is not None else ""
    counts = ", ".join(
        f'<span class="{change}">{getattr(diff, change):,} {change}</span>'
        for change in ("added", "removed", "changed", "unchanged")
        if getattr(diff, change)
    )
    keyed = f" · by {text(', '.join(diff.key))}" if diff.key else ""
    if not diff.key and diff.added and diff.removed:
        keyed = " · without a key; <code>--key COLUMN</code> shows which cells changed"
    head = f"<p class=table>{name}{diff.old_rows:,} → {diff.new_rows:,} rows: {counts or 'none'}"
    head += f'<span class="soft">{keyed}</span></p>'
    columns = "".join(
        f"<li>column <b>{text(c.column)}</b> "
        + (
            f'<span class="added">added</span> ({text(c.new_type or "")})'
            if c.old_type is None
            else f'<span class="removed">removed</span> ({text(c.old_type)})'
            if c.new_type is None
            else f"<del>{text(c.old_type)}</del> → <ins>{text(c.new_type)}</ins>"
        )
        + "</li>"
        for c in diff.columns[:40]
    )
    schema = f"<ul>{columns}</ul>" if columns else ""
    return head + schema + _cell_counts(diff) + _rows(diff)


def _cell_counts(diff: TableDiff) -> str:
    counts = [f"{text(name)} {count:,}" for name, count in list(diff.cells.items())[:20]]
    return f'<p class="soft">cells that differ: {", ".join(counts)}</p>' if counts else ""


def _rows(diff: TableDiff) -> str:
    rows = [
        row
        for change in _ROW_CHANGES
        for row in [changed for changed in diff.rows if changed.change == change][:ROWS_EACH_MAX]
    ]
    if not rows:
        return ""
    body = [
        [
            _tagged(row.change),
            f"{row.new_row or row.old_row:,}",
            *([text(", ".join(value or "(none)" for value in row.key))] if diff.key else []),
            _cells(row),
        ]
        for row in rows
    ]
    total = diff.added + diff.removed + diff.changed
    head = ["change", "#row", *(["key"] if diff.key else []), "cells"]
    label = f"{len(rows):,} of {total:,} rows, the first of each kind"
    if len(rows) == total:
        label = count_text(total, "row")
    elif diff.change != "modified":
        label = f"the first {len(rows):,} of {total:,} rows"
    shown = table(f"Rows of {diff.path}", head, body, stacks=True)
    return f"<details open><summary>{label}</summary>{shown}</details>"


def _cells(row: ChangedRow) -> str:
    cells = "; ".join(_cell(row, cell) for cell in row.cells[:CELLS_MAX])
    more = len(row.cells) - CELLS_MAX
    return cells + (f"; {more} more" if more > 0 else "")


def _cell(row: ChangedRow, cell: ChangedCell) -> str:
    name = f'<span class="soft">{text(cell.column)}</span>'
    old, new = _value(cell.old), _value(cell.new)
    if row.change == "changed":
        return f"{name} <del>{old}</del> → <ins>{new}</ins>"
    return f"{name} {new if row.change == 'added' else old}"


def _value(value: str | None) -> str:
    return "<i>none</i>" if value is None else text(value)


_RENDERERS: dict[type, Callable[[Any, ShownFile, tuple[str, str]], str]] = {
    PictureChange: _pictures,
    SoundChange: _sounds,
    ArrayChange: _arrays_markup,
    TextChange: _text_markup,
    TableChange: _tables_markup,
}
