"""``dv show``: one commit, and which files it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.diff import show_targets, totals_of
from dvtool.cli.frame import Frame, command
from dvtool.cli.log import show_commit
from dvtool.cli.output import documents
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool import Repo, TargetDiff


@command(
    "show",
    examples=(
        "dv show                        # the last commit",
        "dv show v1.0 --stat            # in totals",
        "dv show v1.0:data/images       # only below a path",
    ),
    exits=(4, 6),
    answers_json=True,
)
@click.argument("rev", metavar="[REV]", default="HEAD")
@click.option("--stat", is_flag=True, help="Only totals for each target.")
def show(frame: Frame, rev: str, stat: bool, as_json: bool) -> None:
    """Show the commit REV, HEAD without one, and which files of the data it changed.

    It is compared with the commit before it; of a merge, with the first one. REV:PATH shows only
    what is at or below a path.
    """
    screen = frame.screen
    with frame.repo() as repo:
        revs, paths = repo.arguments.sort_arguments([rev], [])
        commit = repo.snapshot(revs[0]).commit
        changes = changes_of_commit(repo, commit, paths)
        changed = [target for target in changes if target.changes or not target.old]
        if as_json:
            screen.json(documents.DiffDocument(changed, totals_of(changed)))
            return
        last = next(iter(repo.log(rev=commit, limit=1)), None)
        if last is not None and last.commit == commit and (changed or not paths):
            show_commit(screen, last)
        else:
            names = (printable(repo.shown(repo.arguments.relative(path))) for path in paths)
            screen.line(" ".join([f"{commit}: changes no data", *(f"in {name}" for name in names)]))
            return
        show_targets(screen, repo, changed, stat=stat)


def changes_of_commit(repo: Repo, commit: str, paths: Sequence[str] = ()) -> list[TargetDiff]:
    """Return what a commit changed since the one before it; all is new in the first one."""
    try:
        return repo.diff(f"{commit}^", commit, paths)
    except UsageError:  # there is none before it
        return repo.diff("", commit, paths)
