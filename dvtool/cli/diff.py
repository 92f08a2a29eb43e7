"""``dv diff``: which files changed, between commits or in the workspace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dvtool.cli.frame import Frame, behind_dashes, command, revisions_and_paths
from dvtool.cli.output import Screen, documents, growth_text
from dvtool.cli.row_diff import show_rows
from dvtool.errors import UsageError, printable, size_text

if TYPE_CHECKING:
    from dvtool import Report
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
        "dv diff v1.0..v2.0 --stat      # two revisions, in totals",
        "dv diff HEAD~3 -- data/images  # the workspace against a commit, one target",
        "dv diff main...topic           # topic against where it left main",
        "dv diff v1.0 v2.0 --rows --key id -- data/labels.csv  # which rows changed",
        "dv diff main HEAD --html page.html  # images, tables, audio, in one page",
    ),
    exits=(4, 6, 7, 8),
    fails="failed; or, with --exit-code, something differs",
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
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page to look at."
)
@click.option("--markdown", is_flag=True, help="Print a comment for a pull request.")
@click.option(
    "--repo", "url", metavar="URL", help="Compare two revisions of a repository by its git URL."
)
@click.option("--exit-code", is_flag=True, help="End with 1 if anything differs.")
def diff(frame: Frame, arguments: Sequence[str], keys: Sequence[str], **options: Any) -> None:
    """Show which files changed from A to B: added, removed, modified or renamed.

    Without B, from A to the workspace; without A too, from HEAD to the workspace. A..B is the same
    as A B, A...B begins where B left A. A file that is gone and a new one with the same content are
    one rename; so is a target that dv mv gave another name. PATHs may be globs.

    --rows compares CSV, TSV, Parquet, Feather, JSON and SQLite tables, and the annotations of COCO
    and Label Studio, by row. --html and --markdown show tables, images, audio, arrays and
    text.
    """
    form = _Form(**options)
    _refuse_mixed(form, keys)
    with ExitStack() as held:
        repo, revisions, paths = _compared(frame, arguments, form.url, held)
        old, new = [*revisions, None, None][:2]
        if form.rows:
            changed = repo.reports.rows(old, new, paths, key=keys)
            frame.screen.json(changed) if form.as_json else show_rows(frame.screen, changed)
            differs = bool(changed.tables or changed.unread)
        elif form.html is not None or form.markdown:
            report = repo.reports.changes(old, new, paths, key=keys)
            _hand_out(frame.screen, report, form)
            differs = report.files > 0
        else:
            differs = _show_files(frame.screen, repo, repo.diff(old, new, paths), form)
    if form.exit_code and differs:
        raise click.exceptions.Exit(1)


class _Form(NamedTuple):
    """In which form the difference is shown."""

    stat: bool
    name_only: bool
    rows: bool
    html: str | None
    markdown: bool
    url: str | None
    exit_code: bool
    as_json: bool


def _refuse_mixed(form: _Form, keys: Sequence[str]) -> None:
    report = form.html is not None or form.markdown
    if form.stat + form.name_only + form.rows + report > 1:
        raise UsageError("--name-only, --stat, --rows and --html or --markdown exclude each other")
    if form.as_json and (form.name_only or report):
        raise UsageError("--json goes with neither --name-only, --html nor --markdown")
    if keys and not (form.rows or report):
        raise UsageError(
            "--key is for --rows, --html and --markdown", hint="dv diff A B --rows --key COLUMN"
        )


def _compared(
    frame: Frame, arguments: Sequence[str], url: str | None, held: ExitStack
) -> tuple[Repo, list[str], list[str]]:
    """Open the repository; return it, the revisions, and the paths."""
    if url is None:
        repo = held.enter_context(frame.repo())
        revisions, paths = revisions_and_paths(repo, arguments, revisions_max=2, ranges=True)
        return repo, revisions, paths
    from dvtool import Repo, snapshot

    paths = behind_dashes()
    if len(arguments) != 2:
        raise UsageError(
            "--repo needs two revisions", hint="dv diff A B --repo URL --html FILE -- [PATH]..."
        )
    snapshots = [held.enter_context(snapshot(rev, url)) for rev in arguments]
    repo = held.enter_context(Repo.open(snapshots[0].git_dirs[1]))
    return repo, [opened.commit for opened in snapshots], paths


def _hand_out(screen: Screen, report: Report, form: _Form) -> None:
    if form.html is not None:
        report.write_html(form.html)
        screen.note(f"written: {printable(form.html)} ({size_text(len(report.html.encode()))})")
    if form.markdown:
        screen.line(report.markdown.rstrip("\n"))


def _show_files(screen: Screen, repo: Repo, targets: Sequence[TargetDiff], form: _Form) -> bool:
    """Print which files changed; return whether any did."""
    changed = [target for target in targets if target.changes or _appears(target)]
    if form.as_json:
        screen.json(_document(changed, stat=form.stat))
    elif form.name_only:
        for target in changed:
            for change in target.changes:
                screen.line(_name(repo, target.target, change.path))
    else:
        show_targets(screen, repo, changed, stat=form.stat)
    return bool(changed)


def _appears(target: TargetDiff) -> bool:
    """Whether the target itself came, went or got another name, be it with no file in it."""
    return (target.old is None) != (target.new is None) or target.renamed_from is not None


# --- JSON -----------------------------------------------------------------------------------


def _document(changed: Sequence[TargetDiff], *, stat: bool) -> object:
    if not stat:
        return documents.DiffDocument(changed, totals_of(changed))
    targets = [documents.TargetTotals(target.target, target.totals) for target in changed]
    return documents.DiffStatDocument(targets, totals_of(changed))


def totals_of(targets: Sequence[TargetDiff]) -> Totals:
    """Return the changes of all targets, added up."""
    from dvtool import Totals

    return Totals.of(change for target in targets for change in target.changes)


# --- text -----------------------------------------------------------------------------------


def show_targets(screen: Screen, repo: Repo, targets: Sequence[TargetDiff], *, stat: bool) -> None:
    """Print which files changed in targets, or with `stat` the totals."""
    for target in targets:
        state = _state_text(repo, target)
        name = screen.style(printable(repo.shown(target.target)), "bold")
        if stat:
            screen.line(f"{name}{state}: {totals_text(target.totals)}")
            continue
        screen.line(f"{name}{state}")
        for line in _lines(screen, repo, target):
            screen.line(line)
    if not targets:
        screen.line("no difference")
    elif len(targets) > 1 or not stat:
        screen.line(f"total: {totals_text(totals_of(targets))}")


def _state_text(repo: Repo, target: TargetDiff) -> str:
    if target.renamed_from is not None:
        return f" (renamed from {printable(repo.shown(target.renamed_from))})"
    return (
        " (new target)" if target.old is None else " (target removed)" if target.new is None else ""
    )


def _lines(screen: Screen, repo: Repo, target: TargetDiff) -> Iterator[str]:
    for change in target.changes:
        mark, colour = _MARKS[change.change]
        name = _name(repo, target.target, change.path)
        if change.source is not None:
            source = target.renamed_from or target.target
            name = f"{_name(repo, source, change.source)} -> {name}"
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


def totals_text(totals: Totals) -> str:
    """Return counts of changes with the bytes by which the data grew."""
    parts = []
    for what in _MARKS:
        total: Total = getattr(totals, what)
        if total.count:
            size = "" if what == "renamed" else f" ({growth_text(total.bytes)})"
            parts.append(f"{total.count:,} {what}{size}")
    return ", ".join(parts) or "no file changed"


def _name(repo: Repo, target: str, path: str) -> str:
    return printable(repo.shown_in(target, path))
