"""``dv check-overlap``: files and rows that are in more than one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text
from dvtool.errors import printable

if TYPE_CHECKING:
    from dvtool.verbs.overlap.check import OverlapReport, SharedPlace, SplitSize

SHOWN_MAX = 10


@command(
    "check-overlap",
    examples=(
        "dv check-overlap data/train data/val data/test",
        "dv check-overlap v1.0:data/test data/train   # an older test set",
        "dv check-overlap 'data/train/**/*.jpg' 'data/val/**/*.jpg'",
        "dv check-overlap --rows --key id train.csv test.parquet",
    ),
    exits=(4, 6, 7, 8),
    fails="failed; or something is in more than one split",
    answers_json=True,
)
@click.argument("splits", metavar="SPLIT...", nargs=-1, required=True)
@click.option("--rows", is_flag=True, help="Compare the rows of CSV, JSONL and Parquet files.")
@click.option(
    "--key",
    "keys",
    metavar="COLUMN",
    multiple=True,
    help="Rows are the same if this column is; repeatable. Implies --rows.",
)
@click.option("--no-header", is_flag=True, help="CSV files have no header. Implies --rows.")
def check_overlap(
    frame: Frame,
    splits: Sequence[str],
    rows: bool,
    keys: Sequence[str],
    no_header: bool,
    as_json: bool,
) -> None:
    """Find files that are in more than one split, such as training and test data.

    A SPLIT is a path or glob, of what is staged, or REV:PATH with a path from the top of the
    worktree. Files are compared by the hashes in the manifests, so their content need not be here.
    Empty files are left out. Ends with 1 if anything is in more than one split.

    With --rows, tables are read, row by row (.csv, .tsv and .jsonl, also with .gz, and .parquet,
    which needs pyarrow); all other files are compared as a whole. Values are compared as text.
    """
    screen = frame.screen
    with frame.repo() as repo:
        report = repo.reports.overlap(
            splits, rows=rows or no_header, keys=tuple(keys), header=not no_header
        )
        if as_json:
            screen.json(report)
        else:
            _show(screen, report, shown_max=None if frame.verbose else SHOWN_MAX)
    for size in report.splits:
        if size.keyless:
            was = "was" if size.keyless == 1 else "were"
            screen.warn(
                f"{printable(size.split)}: {count_text(size.keyless, 'row')} without any value "
                f"to compare by {was} passed over"
            )
    if report.overlap:
        raise click.exceptions.Exit(1)


def _show(screen: Screen, report: OverlapReport, *, shown_max: int | None) -> None:
    for size in report.splits:
        screen.done(f"{printable(size.split)}  {_size(size)}")
    if not report.overlap:
        screen.done("nothing is in more than one split")
        return
    for pair in report.pairs:
        if pair.shared:
            names = f"{printable(pair.first)} and {printable(pair.second)}"
            screen.line(screen.style(f"{names} share {pair.shared:,}:", "red"))
    listed = report.listed[:shown_max]
    for number, shared in enumerate(listed):
        if number:
            screen.line()
        for part in shared.splits:
            more = f" and {part.count - 1:,} more" if part.count > 1 else ""
            screen.line(f"  {printable(part.split)}: {_place(part.places[0])}{more}")
    if report.shared > len(listed):
        screen.line(f"… and {report.shared - len(listed):,} more (-v or --json list up to 1,000)")


def _size(size: SplitSize) -> str:
    rows = f", {count_text(size.rows, 'row')}" if size.rows else ""
    return count_text(size.files, "file") + rows


def _place(shared: SharedPlace) -> str:
    return printable(shared.path) + (f", row {shared.row:,}" if shared.row else "")
