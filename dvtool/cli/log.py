"""``dv log``: the commits that changed a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.diff import totals_text
from dvtool.cli.frame import Frame, behind_dashes, command
from dvtool.cli.output import Screen, documents, files_text
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.log import LogEntry

HASH_SHOWN_LENGTH = 10
_CHANGES = ("added", "modified", "removed", "renamed")


@command(
    "log",
    examples=(
        "dv log                         # the commits that changed any data",
        "dv log data/images",
        "dv log --max-count 5 main -- data/images",
        "dv log v1.0..v2.0              # between two revisions",
        "dv log v1.0:data/images        # that target, up to a revision",
    ),
    exits=(4, 6),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[REV] [--] [PATH]", nargs=-1, type=click.Path())
@click.option(
    "--max-count", "limit", metavar="N", type=click.IntRange(min=1), help="At most N commits."
)
@click.option("-n", "habit", metavar="N", type=click.IntRange(min=1), hidden=True, help="As git.")
@click.option("--stat", is_flag=True, help="With the bytes by which the data grew.")
def log(
    frame: Frame,
    arguments: Sequence[str],
    limit: int | None,
    habit: int | None,
    stat: bool,
    as_json: bool,
) -> None:
    """Show the commits that changed the target PATH, or any, newest first, with counts of files.

    Starts at REV, or at HEAD; REV may be a range, A..B. A target that dv mv gave another name is
    followed by the name it had before.
    """
    screen = frame.screen
    with frame.repo() as repo:
        rev, path = _revision_and_path(repo, arguments)
        entries = list(repo.log(path, rev=rev, limit=limit or habit))
        if as_json:
            screen.json(documents.LogDocument(entries))
            return
        for number, entry in enumerate(entries):
            again = number > 0 and entries[number - 1].commit == entry.commit
            if not again:
                show_commit(screen, entry)
            _show_target(screen, repo, entry, named=path is None, stat=stat)


def _revision_and_path(repo: Repo, arguments: Sequence[str]) -> tuple[str | None, str | None]:
    """Tell revision from path, whichever comes first."""
    behind = behind_dashes()
    words = list(arguments)
    if not behind and len(words) == 1:
        rev, path = repo.arguments.split_revision(words[0])
        if rev is not None:
            return rev, path
    if not behind and words and not repo.arguments.is_revision(words[0]):
        behind = [words.pop(0)]
    if not behind and len(words) > 1:
        behind = [words.pop(1)]
    if len(words) > 1 or len(behind) > 1:
        raise UsageError(
            "one revision and one target at most",
            hint="for two revisions: dv log A..B; without a target all are shown",
        )
    return (words[0] if words else None), (behind[0] if behind else None)


def _stat_text(repo: Repo, entry: LogEntry) -> str:
    """Return what a commit changed in a target, with bytes."""
    from dvtool import Totals
    from dvtool.cli.show import changes_of_commit

    changed = changes_of_commit(repo, entry.commit, [repo.shown(entry.target)])
    return totals_text(Totals.of(change for target in changed for change in target.changes))


def show_commit(screen: Screen, entry: LogEntry) -> None:
    """Print the id, time, author and subject of a commit."""
    date = entry.date[:16].replace("T", " ")
    short = screen.style(entry.commit[:HASH_SHOWN_LENGTH], "yellow")
    screen.line(f"{short} {date} {printable(entry.author)}")
    screen.line(f"    {printable(entry.subject)}")


def _show_target(screen: Screen, repo: Repo, entry: LogEntry, *, named: bool, stat: bool) -> None:
    """Show a target that a commit changed; with `stat` the bytes too."""
    counts = [f"{getattr(entry, what):,} {what}" for what in _CHANGES if getattr(entry, what)]
    if counts and stat:
        counts = [_stat_text(repo, entry)]
    if entry.renamed_from is not None:
        counts.append(f"target renamed from {printable(repo.shown(entry.renamed_from))}")
    short = entry.commit[:HASH_SHOWN_LENGTH]
    unknown = f"changes not known here (dv show {short} brings their lists)"
    changes = ", ".join(counts) if entry.added is not None else unknown
    total = files_text(entry.files, entry.bytes) if entry.blake3 else "removed"
    name = f"{printable(repo.shown(entry.target))}  " if named else ""
    screen.line(screen.style(f"    {name}{total}" + (f": {changes}" if changes else ""), "dim"))
