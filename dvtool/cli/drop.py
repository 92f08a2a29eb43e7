"""``dv drop``: free the space of data that the remote provably holds."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.frame import Frame, command, remote_option
from dvtool.cli.output import files_text
from dvtool.cli.plans import plan_option, reading_text, say_reading
from dvtool.errors import printable, size_text


@command(
    "drop",
    examples=(
        "dv drop data/images           # files and stored copy; dv pull undoes it",
        "dv drop 'data/images/raw/**'  # a part of a target",
        "dv drop --store data/images   # the stored copy only, the files stay",
        "dv drop --plan data/images    # say what would go; drop nothing",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--store", "store_only", is_flag=True, help="Free the local store; the files stay.")
@plan_option
@remote_option
def drop(
    frame: Frame,
    paths: Sequence[str],
    store_only: bool,
    plan_only: bool,
    remote: str | None,
    as_json: bool,
) -> None:
    """Free workspace and local store of data that the remote provably holds.

    The remote is asked, now, for every object that the files need; if one is missing or damaged, or
    a file was changed, nothing is dropped and the files are named. A remote that does not state
    what it holds, such as a folder, is read back; --plan says how much that is. Manifests stay as
    they are: dropped files are absent, not deleted. Content that other targets or unpushed commits
    need stays in the store.
    """
    screen = frame.screen
    with frame.repo() as repo:
        dropped = repo.drop(
            paths,
            remote=remote,
            workspace=not store_only,
            plan_only=plan_only,
            announce=lambda read: say_reading(screen, read),
        )
        if not plan_only:
            frame.set_up_git(repo)
        if as_json:
            screen.json(dropped)
            return
        if plan_only:
            for target in dropped.targets if not store_only else ():
                name = printable(repo.shown(target.target))
                screen.line(f"{name}  {files_text(target.files, target.bytes)} would be removed")
            screen.line(f"{size_text(dropped.store_bytes)} would go from the local store")
            screen.line(reading_text(dropped.read_back))
            return
        for target in dropped.targets:
            if not store_only:
                name = printable(repo.shown(target.target))
                screen.done(f"{name}  {files_text(target.files, target.bytes)} removed")
        freed = size_text(dropped.freed_bytes)
        store = f"{size_text(dropped.store_bytes)} of it in the local store"
        screen.done(f"freed {freed}, {store}; {printable(dropped.remote)} has it all")
    screen.note("to get it back: dv pull")
