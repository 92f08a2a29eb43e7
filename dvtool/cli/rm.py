"""``dv rm``: stop tracking targets, or entries in them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import count_text, documents
from dvtool.errors import UsageError, printable


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
def rm(frame: Frame, paths: Sequence[str], data: bool, force: bool, as_json: bool) -> None:
    """Stop tracking targets, or entries in them; the files stay unless --data is given.

    The changes to manifests and .gitignore are staged for git. Content stays in the store, and
    with it every commit that has it.
    """
    if force and not data:
        raise UsageError("--force is for --data: without it no file is removed")
    screen = frame.screen
    with frame.repo() as repo:
        removed = repo.rm(paths, data=data, force=force)
        frame.set_up_git(repo)
        if as_json:
            screen.json(documents.RmDocument(removed))
            return
        for one in removed:
            name = printable(repo.shown(one.target))
            what = (
                f"{name} is not tracked any more"
                if one.whole
                else f"{count_text(one.entries, 'file')} taken out of {name}"
            )
            files = f"{count_text(one.files, 'file')} removed" if data else "the files stay"
            screen.done(f"{what}; {files}")
    screen.note("next: git commit")
