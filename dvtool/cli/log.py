"""``dv log``: the commits that changed a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, documents, files_text
from dvtool.errors import printable

if TYPE_CHECKING:
    from dvtool.verbs.log import LogEntry

HASH_SHOWN_LENGTH = 10
_CHANGES = ("added", "modified", "removed", "renamed")


@command(
    "log",
    examples=(
        "dv log data/images",
        "dv log data/images -n 5 main   # the last five on branch main",
    ),
    exits=(4, 6),
    answers_json=True,
)
@click.argument("path", metavar="PATH", type=click.Path())
@click.argument("rev", metavar="[REV]", required=False)
@click.option(
    "-n", "--max-count", "limit", metavar="N", type=click.IntRange(min=1), help="At most N commits."
)
def log(frame: Frame, path: str, rev: str | None, limit: int | None, as_json: bool) -> None:
    """Show the commits that changed the target PATH, newest first, with counts of files.

    Starts at REV, or at HEAD.
    """
    screen = frame.screen
    with frame.repo() as repo:
        found = list(repo.log(path, rev=rev, limit=limit))
        if as_json:
            screen.json(documents.LogDocument(found))
            return
        for one in found:
            _show(screen, one)


def _show(screen: Screen, one: LogEntry) -> None:
    date = one.date[:16].replace("T", " ")
    short = screen.style(one.commit[:HASH_SHOWN_LENGTH], "yellow")
    screen.line(f"{short} {date} {printable(one.author)}")
    screen.line(f"    {printable(one.subject)}")
    counts = [f"{getattr(one, what):,} {what}" for what in _CHANGES if getattr(one, what)]
    changes = ", ".join(counts) if one.added is not None else "changes not known here (dv fetch)"
    total = files_text(one.files, one.bytes) if one.blake3 else "removed"
    screen.line(screen.style(f"    {total}" + (f": {changes}" if changes else ""), "dim"))
