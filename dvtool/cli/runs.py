"""``dv runs``: the runs that were recorded, and running one again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, files_text, shell_word, stderr_number
from dvtool.errors import UsageError, listing, printable

if TYPE_CHECKING:
    from dvtool.verbs.record.records import RunRecord
    from dvtool.verbs.record.reproduce import Reproduction

COMMIT_SHOWN_LENGTH = 10
SHOWN_MAX = 10


class _Runs(click.Group):
    """The group: a word that is no command of it is the ID of a run to show."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group("runs", cls=_Runs, invoke_without_command=True)
@click.pass_context
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def runs(context: click.Context, as_json: bool) -> None:
    """List the runs that dv run recorded, show one, or run one again.

    Without a command, lists them; dv runs ID shows one.

    \b
    Examples:
      dv runs
      dv runs last
      dv runs reproduce 20260314T0926

    \b
    Exit codes: those of the commands below; see dv runs COMMAND --help.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_runs, as_json=as_json)
    elif as_json:
        name = context.invoked_subcommand
        raise UsageError("--json belongs behind the command", hint=f"dv runs {name} --json")


@command("list", examples=("dv runs list", "dv runs list --json"), answers_json=True)
def list_runs(frame: Frame, as_json: bool) -> None:
    """List the runs that have a record in .dv-runs, newest first."""
    screen = frame.screen
    with frame.repo() as repo:
        recorded = repo.runs.list()
    if as_json:
        screen.json(recorded)
    else:
        for record in recorded.runs:
            commit = record.commit[:COMMIT_SHOWN_LENGTH] + ("+" if record.ref else " ")
            screen.line(f"{record.id}  {commit}  {_ending(record):>12}  {_command(record)}")
        if not recorded.runs:
            screen.note("no run is recorded here; to record one: dv run -- COMMAND")
    for problem in recorded.damaged:
        screen.warn(problem)


@command(
    "show",
    examples=(
        "dv runs show last",
        "dv runs show 20260314T0926      # the beginning of an id",
        "dv runs show --json record.json # a record in another place",
    ),
    exits=(6,),
    answers_json=True,
)
@click.argument("run", metavar="ID")
def show(frame: Frame, run: str, as_json: bool) -> None:
    """Show what a run started with, what it read, and what came of it.

    ID is that of a run, the beginning of it, `last`, or the path of a record.
    """
    screen = frame.screen
    with frame.repo() as repo:
        record = repo.runs.show(run)
    if as_json:
        screen.json(record)
    else:
        _show(screen, record)


def _show(screen: Screen, record: RunRecord) -> None:
    screen.line(f"run       {record.id}")
    screen.line(f"command   {_command(record)}")
    if record.folder:
        screen.line(f"folder    {printable(record.folder)}")
    kept = f" (not committed; kept by {printable(record.ref)})" if record.ref else ""
    screen.line(f"commit    {printable(record.commit)}{kept}")
    screen.line(f"data      {printable(record.data_id)}")
    for target in record.targets:
        total = files_text(target.files, target.bytes)
        screen.line(
            f"          {printable(target.blake3[:16])}  {printable(target.target)}  {total}"
        )
    screen.line(f"start     {printable(record.start)}")
    took = f" after {record.seconds:,.1f} s" if record.seconds is not None else ""
    screen.line(f"end       {_ending(record)}{took}")
    if record.problem:
        screen.line(f"problem   {printable(record.problem)}")
    reads = record.reads
    root = f", root {printable(reads.root[:16])}" if reads.root else ""
    screen.line(f"read      {count_text(reads.count, 'entry')}{root}")
    for output in record.outputs:
        total = files_text(output.files, output.bytes)
        screen.line(
            f"wrote     {printable(output.blake3[:16])}  {printable(output.target)}  {total}"
        )
    if record.packages is not None:
        count = count_text(len(record.packages.distributions), "package")
        screen.line(f"python    {printable(record.packages.python)}, {count}")


@command(
    "reproduce",
    examples=(
        "dv runs reproduce last",
        "dv runs reproduce 20260314T0926 --worktree ../again",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    fails="failed; or something differs",
    answers_json=True,
)
@click.argument("run", metavar="ID")
@click.option(
    "--worktree",
    metavar="FOLDER",
    type=click.Path(),
    help="Where the worktree goes; beside this one if not given.",
)
def reproduce(frame: Frame, run: str, worktree: str | None, as_json: bool) -> None:
    """Run a run again, in a new git worktree with its code and data, and say what differs.

    Compared are the exit code, the hashes of what it wrote and which entries it read. The command
    is that of the record, with the Python and the packages that are here now. The worktree stays:
    git worktree remove FOLDER. With --json, what the command writes goes to standard error. ID is
    as for dv runs show.
    """
    screen = frame.screen
    with frame.repo() as repo:
        folder = os.path.abspath(os.path.join(frame.folder, worktree)) if worktree else None
        record = repo.runs.show(run)
        screen.note(f"running again: {_command(record)}")
        stdout = stderr_number() if as_json else None
        reproduction = repo.runs.reproduce(
            run, worktree=folder, environ=frame.environ_given(), stdout=stdout
        )
    if as_json:
        screen.json(reproduction)
    else:
        _show_reproduction(screen, reproduction)
    if not reproduction.same:
        raise click.exceptions.Exit(1)


def _show_reproduction(screen: Screen, reproduction: Reproduction) -> None:
    if reproduction.packages:
        screen.warn(
            "packages have other versions now:\n"
            + listing(reproduction.packages, shown_max=SHOWN_MAX)
        )
    before, now = reproduction.exit_statuses
    if before != now:
        screen.line(f"exit code   {before} -> {now}")
    root, root_now = reproduction.roots
    if root != root_now:
        screen.line(f"entries read  {printable(str(root))} -> {printable(str(root_now))}")
    for output in reproduction.outputs:
        if not output.same:
            screen.line(
                f"{printable(output.target)}  {printable(str(output.before)[:16])} -> "
                f"{printable(str(output.now)[:16])}"
            )
            for change in output.changes[:SHOWN_MAX]:
                screen.line(f"  {change.change} {printable(change.path)}")
    word = shell_word(reproduction.worktree)
    verdict = "the same" if reproduction.same else "not the same"
    screen.done(f"run {reproduction.run}: {verdict}; its worktree is {word}")


def _ending(record: RunRecord) -> str:
    if record.state == "running":
        return "not ended"
    return "not started" if record.exit_status is None else f"exit {record.exit_status}"


def _command(record: RunRecord) -> str:
    return " ".join(map(shell_word, record.command))


for _command_of_group in (list_runs, show, reproduce):
    runs.add_command(_command_of_group)
