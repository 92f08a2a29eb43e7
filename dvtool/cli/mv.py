"""``dv mv``: rename a target, or entries in one."""

from __future__ import annotations

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.plans import plan_option
from dvtool.errors import printable


@command(
    "mv",
    examples=(
        "dv mv data/images data/photos",
        "dv mv data/images/cats data/images/felines   # inside a target",
        "dv mv -n data/images archive                 # where it would go",
    ),
    exits=(4, 6, 8, 9),
    answers_json=True,
)
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.argument("destination", metavar="DESTINATION", type=click.Path())
@plan_option
def mv(frame: Frame, source: str, destination: str, plan_only: bool, as_json: bool) -> None:
    """Rename a target with its data, or entries in one, and stage that for git.

    A DESTINATION that is a folder takes the SOURCE into it.
    """
    screen = frame.screen
    with frame.repo() as repo:
        moved = repo.mv(source, destination, plan_only=plan_only)
        if not plan_only:
            frame.set_up_git(repo)
        if as_json:
            screen.json(moved)
            return
        names = (printable(repo.shown(path)) for path in (moved.source, moved.destination))
        screen.done(" -> ".join(names))
    screen.note("nothing was changed" if plan_only else "next: git commit")
