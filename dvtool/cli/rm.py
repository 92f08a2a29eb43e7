"""``dv rm``: stop tracking targets, or entries in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import count_text, documents
from dvtool.cli.plans import plan_option
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.edit.remove import Removed


@command(
    "rm",
    examples=(
        "dv rm data/old                 # stop tracking; the files stay",
        "dv rm --data data/images/bad   # take entries out and remove the files",
    ),
    exits=(4, 5, 6, 8, 9),
    answers_json=True,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--data", is_flag=True, help="Remove the files from the workspace too.")
@click.option("--force", is_flag=True, help="With --data: also files that are saved nowhere.")
@plan_option
def rm(
    frame: Frame,
    paths: Sequence[str],
    data: bool,
    force: bool,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Stop tracking targets, or entries in them; the files stay unless --data is given.

    The changes to manifests and .gitignore are staged for git. Content stays in the store, and
    with it every commit that has it.
    """
    if force and not data:
        raise UsageError("--force is for --data: without it no file is removed")
    screen = frame.screen
    with frame.repo() as repo:
        removed = repo.rm(paths, data=data, force=force, plan_only=plan_only)
        if not plan_only:
            frame.set_up_git(repo)
        if as_json:
            screen.json(documents.RmDocument(removed))
            return
        for removal in removed:
            text = _text(repo, removal, data=data, plan_only=plan_only)
            (screen.line if plan_only else screen.done)(text)
    screen.note("nothing was changed" if plan_only else "next: git commit")


def _text(repo: Repo, removal: Removed, *, data: bool, plan_only: bool) -> str:
    name = printable(repo.shown(removal.target))
    would = " would be" if plan_only else ""
    entries = count_text(removal.entries, "file") + would
    tracked = "would not be tracked" if plan_only else "is not tracked any more"
    what = f"{name} {tracked}" if removal.whole else f"{entries} taken out of {name}"
    removed = f"{count_text(removal.files, 'file')}{would} removed"
    return f"{what}; {removed if data else 'the files stay'}"
