"""``dv diff``: which files changed, between commits or in the workspace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, revisions_and_paths
from dvtool.cli.output import Screen, documents, growth_text
from dvtool.cli.row_diff import show_rows
from dvtool.errors import UsageError, printable, size_text

if TYPE_CHECKING:
    from dvtool.format.compare import Difference
    from dvtool.repo import Repo
    from dvtool.verbs.diff import TargetDiff, Total, Totals

_MARKS = {
    "added": ("A", "green"),
    "modified": ("M", "yellow"),
    "removed": ("D", "red"),
    "renamed": ("R", "cyan"),
}


@command(
    "diff",
    examples=(
        "dv diff                        # the workspace against HEAD",
        "dv diff v1.0 v2.0 --stat       # two revisions, in totals",
        "dv diff HEAD~3 -- data/images  # the workspace against a commit, one target",
        "dv diff v1.0 v2.0 --rows --key id -- data/labels.csv  # which rows changed",
    ),
    exits=(4, 6, 7, 8),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[A [B]] [--] [PATH]...", nargs=-1, type=click.Path())
@click.option("--stat", is_flag=True, help="Only totals for each target.")
@click.option("--name-only", is_flag=True, help="Only the names of changed files, one a line.")
@click.option("--rows", is_flag=True, help="The rows of tables that changed.")
@click.option(
    "--key",
    "keys",
    metavar="COLUMN",
    multiple=True,
    help="With --rows: match rows by this column; several make one key.",
)
def diff(
    frame: Frame,
    arguments: Sequence[str],
    stat: bool,
    name_only: bool,
    rows: bool,
    keys: Sequence[str],
    as_json: bool,
) -> None:
    """Show which files changed from A to B: added, removed, modified or renamed.

    Without B, from A to the workspace; without A too, from HEAD to the workspace. A file that is
    gone and a new one with the same content are one rename. PATHs may be globs.

    --rows compares CSV, TSV, Parquet, Feather, JSON lines and SQLite tables, and the annotations of
    COCO and Label Studio, by row.
    """
    if stat + name_only + rows + as_json > 1 and not ((stat or rows) and as_json):
        raise UsageError("--name-only, --stat and --rows exclude each other")
    if keys and not rows:
        raise UsageError("--key is for --rows", hint="dv diff A B --rows --key COLUMN")
    screen = frame.screen
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, revisions_max=2)
        old, new = [*revisions, None, None][:2]
        if rows:
            changed = repo.diff_rows(old, new, paths, key=keys)
            screen.json(changed) if as_json else show_rows(screen, changed)
            return
        found = [one for one in repo.diff(old, new, paths) if one.changes or _appears(one)]
        if as_json:
            screen.json(_document(found, stat=stat))
        elif name_only:
            for one in found:
                for change in one.changes:
                    screen.line(_name(repo, one.target, change.path))
        else:
            _show(screen, repo, found, stat=stat)


def _appears(one: TargetDiff) -> bool:
    """Whether the target itself came or went, be it with no file in it."""
    return (one.old is None) != (one.new is None)


# --- JSON -----------------------------------------------------------------------------------


def _document(found: Sequence[TargetDiff], *, stat: bool) -> object:
    if not stat:
        return documents.DiffDocument(found, _totals(found))
    targets = [documents.TargetTotals(one.target, one.totals) for one in found]
    return documents.DiffStatDocument(targets, _totals(found))


def _totals(found: Sequence[TargetDiff]) -> Totals:
    """Return the changes of all targets, added up."""
    from dvtool import Totals

    return Totals.of(change for one in found for change in one.changes)


# --- text -----------------------------------------------------------------------------------


def _show(screen: Screen, repo: Repo, found: Sequence[TargetDiff], *, stat: bool) -> None:
    for one in found:
        state = " (new target)" if one.old is None else " (target removed)" if not one.new else ""
        name = screen.style(printable(repo.shown(one.target)), "bold")
        if stat:
            screen.line(f"{name}{state}: {_totals_text(one.totals)}")
            continue
        screen.line(f"{name}{state}")
        for line in _lines(screen, repo, one):
            screen.line(line)
    if not found:
        screen.line("no difference")
    elif len(found) > 1 or not stat:
        screen.line(f"total: {_totals_text(_totals(found))}")


def _lines(screen: Screen, repo: Repo, one: TargetDiff) -> Iterator[str]:
    for change in one.changes:
        mark, colour = _MARKS[change.change]
        name = _name(repo, one.target, change.path)
        if change.source is not None:
            name = f"{_name(repo, one.target, change.source)} -> {name}"
        size = f"{_size_text(change):>12}"
        note = " (executable bit)" if _only_mode(change) else ""
        yield f"  {screen.style(mark, colour)} {size}  {name}{note}"


def _size_text(change: Difference) -> str:
    if change.change == "renamed" and change.new is not None:
        return size_text(change.new.bytes)
    return growth_text(change.growth)


def _only_mode(change: Difference) -> bool:
    old, new = change.old, change.new
    return bool(old and new and old.is_file and old.blake3 == new.blake3 and old.exec != new.exec)


def _totals_text(totals: Totals) -> str:
    parts = []
    for what in _MARKS:
        total: Total = getattr(totals, what)
        if total.count:
            size = "" if what == "renamed" else f" ({growth_text(total.bytes)})"
            parts.append(f"{total.count:,} {what}{size}")
    return ", ".join(parts) or "no file changed"


def _name(repo: Repo, target: str, path: str) -> str:
    return printable(repo.shown_in(target, path))
