"""The report as one page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

from dvtool.errors import size_text
from dvtool.format.compare import Difference
from dvtool.reports.bodies import body_markup
from dvtool.reports.gather import FileKind, Gathered, ShownFile
from dvtool.reports.markup import growth, table, text
from dvtool.reports.style import STYLE
from dvtool.verbs.diff import Total, Totals

PAGE_BYTES_MAX = 4_500_000
"""The page stays below 5 MB: what would go beyond is counted, not shown."""
FOLDERS_MAX = 100
FILES_LISTED_MAX = 500
TITLES = {
    "tables": "Tables",
    "pictures": "Images",
    "arrays": "Arrays",
    "sounds": "Audio",
    "texts": "Text",
}
CHANGES = ("added", "modified", "removed", "renamed")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class _Budget:
    """Bytes of the page's size that are left."""

    def __init__(self) -> None:
        self._left = PAGE_BYTES_MAX

    def take(self, markup: str) -> bool:
        """Whether a piece still fits; its size is taken then."""
        size = len(markup.encode())
        if size > self._left:
            return False
        self._left -= size
        return True


def page(report: Gathered) -> str:
    """Return the page. It has no script, and its policy forbids to load anything."""
    budget = _Budget()
    top = [_header(report), _folders_section(report), _files_section(report)]
    for piece in top:
        budget.take(piece)
    sections = [_kind_section(report, kind, budget) for kind in report.kinds]
    title = f"{text(report.old)} → {text(report.new)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Data: {title}</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#main">To the changes</a>'
        f'{top[0]}<main id="main">{top[1]}{"".join(sections)}{top[2]}</main></body></html>\n'
    )


def _header(report: Gathered) -> str:
    totals = report.totals
    chips = "".join(
        f'<li class="{change}"><b>{total.count:,}</b> {change} {_growth(change, total)}</li>'
        for change in CHANGES
        if (total := getattr(totals, change)).count
    )
    links = "".join(
        f'<li><a href="#{kind.name}">{TITLES[kind.name]} ({kind.total:,})</a></li>'
        for kind in report.kinds
    )
    return (
        f"<header><h1>Changes in the data</h1><p>{text(report.old)} → {text(report.new)}</p>"
        f'<ul class="chips">{chips or "<li>no file changed</li>"}</ul>'
        f'<nav aria-label="Sections"><ul><li><a href="#folders">Folders</a></li>{links}'
        '<li><a href="#files">All files</a></li></ul></nav></header>'
    )


def _growth(change: str, total: Total) -> str:
    return "" if change == "renamed" else f'<span class="soft">{growth(total.bytes)}</span>'


def _folders_section(report: Gathered) -> str:
    folders = report.folders()
    shown = sorted(folders, key=lambda name: -_change_count(folders[name]))[:FOLDERS_MAX]
    rows = [[text(name + "/"), *map(_total_cell, _totals(folders[name]))] for name in sorted(shown)]
    head = ["/folder", *(f"#{change}" for change in CHANGES)]
    note = ""
    if len(folders) > len(shown):
        note = f"the {len(shown)} folders with the most changes, of {len(folders):,}"
    listed = table("Folders", head, rows)
    return f'<section id="folders"><h2>Folders</h2>{_note(note)}{listed}</section>'


def _totals(totals: Totals) -> list[Total]:
    return [getattr(totals, change) for change in CHANGES]


def _change_count(totals: Totals) -> int:
    return sum(total.count for total in _totals(totals))


def _total_cell(total: Total) -> str:
    if not total.count:
        return ""
    size = f' <span class="soft">{growth(total.bytes)}</span>' if total.bytes else ""
    return f"{total.count:,}{size}"


def _files_section(report: Gathered) -> str:
    shown = report.changes[:FILES_LISTED_MAX]
    rows = [
        [_change_tag(change), _path_cell(path, change), *_sizes(change)] for path, change in shown
    ]
    note = ""
    if len(report.changes) > len(shown):
        note = f"the first {len(shown)} of {len(report.changes):,}, by target and path"
    listed = table("All files", [".change", "/path", "#before", "#now"], rows)
    return (
        f'<section id="files"><h2>All files</h2>{_note(note)}'
        f"<details{' open' if len(shown) <= 40 else ''}><summary>{len(shown):,} changed files"
        f"</summary>{listed}</details></section>"
    )


def _change_tag(change: Difference) -> str:
    return f'<span class="tag {change.change}">{change.change}</span>'


def _path_cell(path: str, change: Difference) -> str:
    if change.source is None:
        return text(path)
    return f'{text(path)} <span class="soft">from {text(change.source)}</span>'


def _sizes(change: Difference) -> list[str]:
    return [size_text(entry.bytes) if entry else "" for entry in (change.old, change.new)]


def _note(note: str) -> str:
    return f'<p class="note">{text(note)}</p>' if note else ""


def _kind_section(report: Gathered, kind: FileKind, budget: _Budget) -> str:
    cards = []
    for file in kind.files:
        card = _card(report, file)
        if budget.take(card):
            cards.append(card)
    notes = []
    if kind.total > len(kind.files):
        notes.append(f"{len(kind.files)} of {kind.total:,} are shown, spread evenly over the paths")
    if len(cards) < len(kind.files):
        left = len(kind.files) - len(cards)
        notes.append(f"{left} are left out, so that the page stays below 5 MB")
    return (
        f'<section id="{kind.name}"><h2>{TITLES[kind.name]}</h2>{_note("; ".join(notes))}'
        f'<div class="cards">{"".join(cards)}</div></section>'
    )


def _card(report: Gathered, file: ShownFile) -> str:
    old, new = _sizes(file.change)
    sizes = f"{old} → {new}" if old and new else old or new
    body = body_markup(file, (report.old, report.new)) if file.body is not None else ""
    notes = "".join(map(_note, file.notes))
    return (
        f'<article class="card"><header><h3>{text(file.path)}</h3>{_change_tag(file.change)}'
        f'<span class="soft">{sizes}</span></header>{body}{notes}</article>'
    )
