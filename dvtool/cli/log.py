"""``dv log``: the commits that changed a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, files_text
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
    json_keys=(
        '{"commits": [{"commit", "author", "date", "subject", "blake3", "files", "bytes", '
        '"added", "modified", "removed", "renamed"}]}, newest first; blake3 is the manifest '
        "hash, null where the commit removed the target; the counts are null where the lists "
        "to compare are not here (dv fetch COMMIT)."
    ),
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
            screen.json({"commits": [_as_json(one) for one in found]})
            return
        for one in found:
            _show(screen, one)


def _as_json(one: LogEntry) -> dict[str, object]:
    return {
        "commit": one.commit.id,
        "author": one.commit.author,
        "date": one.commit.date_iso,
        "subject": one.commit.subject,
        "blake3": one.digest,
        "files": one.manifest.files if one.manifest else 0,
        "bytes": one.manifest.bytes if one.manifest else 0,
        **{what: getattr(one, what) for what in _CHANGES},
    }


def _show(screen: Screen, one: LogEntry) -> None:
    commit = one.commit
    date = commit.date_iso[:16].replace("T", " ")
    short = screen.style(commit.id[:HASH_SHOWN_LENGTH], "yellow")
    screen.line(f"{short} {date} {printable(commit.author)}")
    screen.line(f"    {printable(commit.subject)}")
    counts = [f"{getattr(one, what):,} {what}" for what in _CHANGES if getattr(one, what)]
    changes = ", ".join(counts) if one.added is not None else "changes not known here (dv fetch)"
    total = files_text(one.manifest.files, one.manifest.bytes) if one.manifest else "removed"
    screen.line(screen.style(f"    {total}" + (f": {changes}" if changes else ""), "dim"))
