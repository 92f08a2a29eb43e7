"""``dv hooks``: let git carry the data along."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, shared_hooks_text
from dvtool.cli.hook_work import do_hook
from dvtool.cli.output import Screen, documents
from dvtool.cli.plans import plan_option
from dvtool.errors import printable

if TYPE_CHECKING:
    from dvtool.hooks.install import Hook, HookPlan


@click.group("hooks", invoke_without_command=True)
@click.pass_context
def hooks(context: click.Context) -> None:
    """Let git carry the data along: install or remove its hooks.

    With the hooks, git commit checks what is staged, git push uploads the data first, and git
    checkout, merge, pull and rebase are followed by the data. Hooks that are there go on running.
    Without a command, shows which are in place.

    \b
    Examples:
      dv hooks install
      dv hooks status

    \b
    Exit codes: those of the commands below; see dv hooks COMMAND --help.
    """
    if context.invoked_subcommand is None:
        context.invoke(status, as_json=False)


@command(
    "install",
    examples=(
        "dv hooks install             # dv init does this, unless --no-hooks",
        "dv hooks install --dry-run   # say what would be done",
    ),
)
@plan_option
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, also if git has other hooks.")
def install(frame: Frame, plan_only: bool, yes: bool) -> None:
    """Install the git hooks and the merge and diff drivers, or newer versions of them.

    The hooks go where git looks for hooks (core.hooksPath is honoured). A hook that is there is
    kept as NAME.dv-kept, and runs first. If your own settings name a folder of hooks for all your
    repositories, that is left as it is, and you are asked.
    """
    with frame.repo() as repo:
        screen = frame.screen
        plan = repo.hooks.install(dry_run=True)
        if not plan_only:
            if plan.shared and not yes and not frame.agrees_to_override(plan.shared):
                screen.done("nothing was installed")
                return
            plan = repo.hooks.install()
        would = "would be " if plan_only else ""
        for name in plan.keep:
            screen.done(f"{name}: the hook that is there {would or 'is '}kept, and runs first")
        if plan.shared:
            screen.warn(shared_hooks_text(plan.shared, plan.folder))
        if plan.write:
            screen.done(f"{would}installed in {_folder(plan.folder)}: {' '.join(plan.write)}")
        elif not plan.left:
            screen.done(f"all hooks are in place, in {_folder(plan.folder)}")
        _warn_left(screen, plan)


def _warn_left(screen: Screen, plan: HookPlan) -> None:
    for name in plan.left:
        screen.warn(
            f"{name}: another hook was put over the one of dvtool, and is left as it is; to have "
            f'both, let it run: dv hooks run {name} "$@"'
        )


def _folder(path: str) -> str:
    return printable(os.path.relpath(path)) if path.startswith(os.getcwd()) else printable(path)


@command(
    "uninstall",
    examples=(
        "dv hooks uninstall",
        "dv hooks uninstall --dry-run   # say what would be done",
    ),
)
@plan_option
def uninstall(frame: Frame, plan_only: bool) -> None:
    """Take the git hooks and drivers out, and put back the hooks that were there before.

    Sets hooks.install to false in .git/config, so that they do not come back in this clone;
    dv hooks install takes that back.
    """
    with frame.repo(required=False) as repo:
        plan = repo.hooks.uninstall(dry_run=plan_only)
        screen = frame.screen
        would = "would be " if plan_only else ""
        if plan.remove:
            screen.done(f"{would}removed: {' '.join(plan.remove)}")
        if plan.restore:
            screen.done(f"{would}put back as before: {' '.join(plan.restore)}")
        if plan.shared:
            screen.warn(
                f"the hooks in {printable(plan.shared)} serve other repositories too, and are left"
            )
        elif plan.empty:
            screen.done("there are no hooks of dvtool to remove")
        _warn_left(screen, plan)


_STATES = {
    "installed": "installed",
    "outdated": "of another version: dv hooks install",
    "absent": "not installed",
    "other": "not installed; there is another hook",
    "replaced": "not in use: another hook was put over it",
    "called": "installed, and run by the hook over it",
}


@command(
    "status",
    examples=("dv hooks status", "dv hooks status --json"),
    fails="failed; or not all hooks are in place",
    answers_json=True,
)
def status(frame: Frame, as_json: bool) -> None:
    """Show which git hooks are in place. Ends with 1 unless all are."""
    with frame.repo(required=False) as repo:
        placed = repo.hooks.status()
        drivers = repo.hooks.drivers_installed()
        screen = frame.screen
        if as_json:
            screen.json(
                documents.HooksDocument(placed.folder, placed.complete, drivers, placed.hooks)
            )
        else:
            screen.line(f"hooks in {_folder(placed.folder)}:")
            width = max(len(hook.name) for hook in placed.hooks)
            for hook in placed.hooks:
                screen.line(f"  {hook.name:<{width}}  {_state(hook)}")
            screen.line(f"merge and diff drivers: {'' if drivers else 'not '}installed")
    if not placed.complete:
        raise click.exceptions.Exit(1)


def _state(hook: Hook) -> str:
    kept = " (the hook from before runs first)" if hook.kept and hook.state == "installed" else ""
    return _STATES[hook.state] + kept


@command(
    "run",
    examples=('dv hooks run pre-commit "$@"   # in a hook of your own',),
    exits=(9,),
    fails="failed; or git is to stop",
)
@click.argument("name", metavar="NAME")
@click.argument("arguments", metavar="[ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
def run(frame: Frame, name: str, arguments: Sequence[str]) -> None:
    """Do the work of the git hook NAME, with the arguments and the input that git gives it.

    The installed hooks run this. Call it from a hook of your own to have both.
    """
    if not do_hook(frame, name, arguments):
        raise click.exceptions.Exit(1)


run.hidden = True


for _one in (install, uninstall, status, run):
    hooks.add_command(_one)
