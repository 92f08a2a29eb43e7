"""``dv sparse``: which data this worktree takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import count_text, files_text
from dvtool.cli.plans import plan_option
from dvtool.errors import listing, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.sparse import SparseResult


@click.group("sparse", invoke_without_command=True)
@click.pass_context
def sparse(context: click.Context) -> None:
    """Say which data this worktree takes, as git sparse-checkout does for what git keeps.

    The rules stand until they are changed: pull, checkout and the hooks bring nothing that they
    leave out, and status does not miss it. A path that a command names comes all the same. The
    rules are of this worktree alone. Without a command, lists them.

    \b
    Examples:
      dv sparse set data/labels data/images/cats
      dv sparse set --exclude 'data/**/raw'
      dv sparse disable

    \b
    Exit codes: those of the commands below; see dv sparse COMMAND --help.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_rules, as_json=False)


_exclude_option = click.option(
    "--exclude", metavar="PATH", multiple=True, help="Leave this out; may be repeated."
)
_paths = click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())


@command("list", examples=("dv sparse list", "dv sparse list --json"), answers_json=True)
def list_rules(frame: Frame, as_json: bool) -> None:
    """List the rules; the last one that fits a path decides, and ``!`` leaves it out."""
    with frame.repo(required=False) as repo:
        result = repo.sparse.rules()
        if as_json:
            frame.screen.json(result)
            return
        for line in result.rules:
            frame.screen.line(printable(line))
        if not result.rules:
            frame.screen.note("no rules: this worktree takes all data (dv sparse set PATH…)")


@command(
    "set",
    examples=(
        "dv sparse set data/labels data/images/cats   # only these",
        "dv sparse set --exclude data/video           # all but that",
        "dv sparse set -n data/labels                 # what would go",
    ),
    exits=(4, 6, 8, 9),
    answers_json=True,
)
@_paths
@_exclude_option
@plan_option
def set_rules(
    frame: Frame, paths: Sequence[str], exclude: Sequence[str], plan_only: bool, as_json: bool
) -> None:
    """Take only the PATHs (paths or globs), without what --exclude says, from now on.

    A file that is left out is removed from the workspace, if it was not changed and the local
    store has it. dv pull gets files that are taken and not there.
    """
    with frame.repo() as repo:
        result = repo.sparse.set(paths, exclude=exclude, plan_only=plan_only)
        _show(frame, repo, result, plan_only=plan_only, as_json=as_json)


@command(
    "add",
    examples=("dv sparse add data/images/dogs", "dv sparse add --exclude data/images/dogs/raw"),
    exits=(4, 6, 8, 9),
    answers_json=True,
)
@_paths
@_exclude_option
@plan_option
def add_rules(
    frame: Frame, paths: Sequence[str], exclude: Sequence[str], plan_only: bool, as_json: bool
) -> None:
    """Add rules to those that there are; see dv sparse set."""
    with frame.repo() as repo:
        result = repo.sparse.set(paths, exclude=exclude, keep=True, plan_only=plan_only)
        _show(frame, repo, result, plan_only=plan_only, as_json=as_json)


@command("disable", examples=("dv sparse disable && dv pull",), exits=(9,), answers_json=True)
@plan_option
def disable(frame: Frame, plan_only: bool, as_json: bool) -> None:
    """Take all data again; it comes with dv pull."""
    with frame.repo() as repo:
        result = repo.sparse.disable(plan_only=plan_only)
        _show(frame, repo, result, plan_only=plan_only, as_json=as_json)


def _show(
    frame: Frame, repo: Repo, result: SparseResult, *, plan_only: bool, as_json: bool
) -> None:
    screen = frame.screen
    if as_json:
        screen.json(result)
        return
    if result.removed:
        would = "would be removed" if plan_only else "removed"
        screen.done(f"{files_text(result.removed, result.removed_bytes)} {would}")
    elif plan_only:
        screen.done("no file would be removed")
    else:
        screen.done("all data is taken" if not result.rules else "the rules are as they are asked")
    if result.kept:
        names = listing(repo.shown(path) for path in result.kept)
        why = "stay here, since they were changed or no store has them"
        if len(result.kept) == 1:
            why = "stays here, since it was changed or no store has it"
        count = count_text(len(result.kept), "file")
        screen.warn(f"{count} left out by the rules {why}:\n{names}")
    screen.note("nothing was changed" if plan_only else "to get what is taken: dv pull")


for _command in (list_rules, set_rules, add_rules, disable):
    sparse.add_command(_command)
