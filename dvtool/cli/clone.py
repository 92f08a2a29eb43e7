"""``dv clone``: git clone and dv pull in one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from msgspec import structs

from dvtool.cli.checkout import show_restored
from dvtool.cli.frame import Frame, behind_dashes, command
from dvtool.cli.output import shell_word
from dvtool.errors import DvError, UsageError, printable


@command(
    "clone",
    examples=(
        "dv clone git@example.org:team/vision.git",
        "dv clone URL work --rev v1.0              # as of a branch, tag or commit",
        "dv clone URL work data/images/cats        # only this data",
        "dv clone --remote /mnt/shared/bucket URL  # where the data is in a folder",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="URL [DIR] [--] [PATH]...", nargs=-1, type=click.Path())
@click.option("--rev", metavar="REV", help="A branch, tag or commit to check out.")
@click.option(
    "--remote", metavar="URL", help="Where the data is, set for this clone as remote origin."
)
def clone(
    frame: Frame, arguments: Sequence[str], rev: str | None, remote: str | None, as_json: bool
) -> None:
    """Clone a git repository and put its data, or only the PATHs of it, into the workspace.

    PATHs are from the top of the clone; to give them and leave DIR to git, put them behind `--`.
    A data remote that is a folder is not in .dvconfig and has to be named: --remote. If the data
    cannot be had, the clone stays, and dv pull in it goes on.
    """
    import dvtool

    behind = behind_dashes()
    # As with git: `dv clone -- URL` has its URL behind the dashes.
    before = list(arguments) or [behind.pop(0) for _ in behind[:1]]
    if not before:
        raise UsageError("clone what?", hint="run: dv clone URL")
    url, directory, paths = before[0], before[1] if len(before) > 1 else None, before[2:]
    with frame.showing_progress() as progress:
        folder = dvtool.clone(url, directory, cwd=frame.folder, rev=rev, progress=progress)
    _pull(frame, folder, [*paths, *behind], remote, as_json=as_json)


def _pull(
    frame: Frame, folder: str, paths: Sequence[str], remote: str | None, *, as_json: bool
) -> None:
    from dvtool import Restored

    screen, cwd = frame.screen, os.path.abspath(frame.folder)
    shown = os.path.relpath(folder, cwd)
    inside = structs.replace(frame, folder=folder)
    if not as_json:
        screen.done(f"cloned into {printable(shown)}")
    try:
        with inside.repo(required=False) as repo:
            if not repo.set_up:
                if as_json:
                    screen.json(Restored(()))
                screen.note("nothing in it is under dv; to begin: dv init")
                return
            if remote is not None:
                repo.config.clone_remote(remote, cwd=cwd)
            inside.trust_first_use(repo, falls_back=True)
            inside.set_up_git(repo, typed=True)
            restored = repo.pull(paths=paths)
            show_restored(inside, repo, restored, as_json=as_json)
    except DvError as error:
        words = " ".join(shell_word(path) for path in paths)
        steps = [f"cd {shell_word(shown)}", f"dv pull -- {words}" if words else "dv pull"]
        if remote is None and not _has_remote(inside):
            steps.insert(1, "dv remote add origin URL")
        error.hint = "\n".join(
            [
                *([error.hint] if error.hint else []),
                f"the clone is there; go on: {'; '.join(steps)}",
            ]
        )
        raise


def _has_remote(inside: Frame) -> bool:
    with inside.repo(required=False) as repo:
        return bool(repo.config.remotes())
