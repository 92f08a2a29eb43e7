"""``dv run``: run a command from committed code and data, and record it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, behind_dashes, command
from dvtool.cli.output import Screen, count_text, shell_word, stderr_number
from dvtool.errors import UsageError, printable

if TYPE_CHECKING:
    from dvtool.verbs.record.records import RunRecord


@command(
    "run",
    examples=(
        "dv run -- python train.py --epochs 10",
        "dv run --out models/resnet -- python train.py   # and dv add it",
        "dv run --allow-dirty -- ./experiment.sh",
    ),
    exits=(4, 6, 8, 9),
    fails="failed; or code or data are not committed; or as COMMAND ended",
    answers_json=True,
    splits=True,
)
@click.option("--allow-dirty", is_flag=True, help="Keep what is not committed, and run with it.")
@click.option(
    "--out",
    "out",
    metavar="PATH",
    multiple=True,
    type=click.Path(),
    help="Add PATH with dv add if COMMAND succeeds; repeatable.",
)
@click.option(
    "--record",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the record there instead of below .dv-runs.",
)
@click.argument("more", metavar="-- COMMAND...", nargs=-1, type=click.Path())
def run(
    frame: Frame,
    allow_dirty: bool,
    out: Sequence[str],
    record: str | None,
    more: Sequence[str],
    as_json: bool,
) -> None:
    """Run COMMAND from committed code and data, and write a record of it to .dv-runs.

    The record has the commit, the data ids, the command, the packages of its Python, the start and
    the end, the exit status, which entries it read through dvtool, and what it wrote. COMMAND gets
    DV_COMMIT, DV_DATA_ID and DV_RUN_ID, and the terminal and streams of dv itself.

    If code or data are not committed, nothing is run, unless --allow-dirty says to keep in a commit
    on no branch what is not. Files that git ignores do not count.

    With --json, standard output has the record alone: what COMMAND writes there goes to standard
    error.

    Ends as COMMAND does: with its exit code, with 128+N if signal N ended it, with 127 if there is
    no such command. Before COMMAND was started, the exit codes below are those of dv.
    """
    words = behind_dashes()
    outputs = [*out, *more] if out else list(out)
    if not words or (more and not out):
        raise UsageError(
            "no command is given" if not words else f"what is {printable(more[0])} for?",
            hint="put it behind `--`: dv run -- " + " ".join(map(shell_word, more or ["COMMAND"])),
        )
    screen = frame.screen
    with frame.repo() as repo:
        done = repo.run(
            words,
            out=outputs,
            allow_dirty=allow_dirty,
            record=record,
            environ=frame.environ_given(),
            stdout=stderr_number() if as_json else None,
        )
        if as_json:
            screen.json(done)
        _report(screen, done, record or os.path.join(repo.shown(".dv-runs"), done.id + ".json"))
    raise click.exceptions.Exit(done.exit_status or 0)


def _report(screen: Screen, done: RunRecord, path: str) -> None:
    """Say on standard error what came of it: standard output is the command's."""
    if done.problem:
        screen.error(printable(done.problem))
    for output in done.outputs:
        screen.note(f"added {printable(output.target)}: {count_text(output.files, 'file')}")
    kept = f"; not committed, kept by {done.ref}" if done.ref else ""
    screen.note(
        f"run {done.id}: exit code {done.exit_status}, {count_text(done.reads.count, 'entry')} "
        f"read; recorded in {printable(path)}{kept}"
    )
    if done.outputs:
        screen.note("next: git commit")
