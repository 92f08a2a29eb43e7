"""``dv hooks``: let git carry the data along."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from dvtool.cli.frame import Frame, command, shared_hooks_text
from dvtool.cli.output import Screen, count_text, documents, shell_word
from dvtool.cli.plans import plan_option
from dvtool.errors import DvError, UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.hooks.commit_check import CommitCheck
    from dvtool.hooks.events import Synced
    from dvtool.hooks.install import Hook, HookPlan

FILES_NAMED_MAX = 5


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


# --- the work of the hooks --------------------------------------------------------------------


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
    work = _WORK.get(name)
    if work is None:
        raise UsageError(
            f"no hook of dvtool: {printable(name)}", hint=f"one of: {', '.join(_WORK)}"
        )
    work(frame, arguments or _of_framework(name))


run.hidden = True


def _of_framework(name: str) -> list[str]:
    """Return the arguments that the pre-commit framework hands on as variables."""
    variable = {
        "post-checkout": "PRE_COMMIT_FROM_REF",
        "post-rewrite": "PRE_COMMIT_REWRITE_COMMAND",
    }.get(name)
    value = os.environ.get(variable) if variable else None
    return [value] if value else []


def _pre_commit(frame: Frame, _: Sequence[str]) -> None:
    screen = frame.screen
    try:
        with frame.repo(required=False) as repo:
            checked = repo.for_git.check_commit()
            _show_check(screen, checked)
    except DvError as error:
        # Other commands report problems of the repository: git commit goes on, and
        # git push is stopped if data would be missing.
        screen.warn(f"the commit was not checked: {error}")
        return
    if checked.refused:
        raise click.exceptions.Exit(1)


def _show_check(screen: Screen, staged: CommitCheck) -> None:
    for message in staged.damaged:
        screen.error(message, hint="mend it: dv resolve, or dv add the target again")
    if staged.conflicted:
        screen.error(
            f"a merge left conflicts in the manifests of:\n{listing(staged.conflicted)}",
            hint="settle them: dv resolve (dv status lists them)",
        )
    if staged.missing:
        screen.error(
            f"the content of {count_text(len(staged.missing), 'file')} to be committed is not in "
            f"the store:\n{listing(sorted(staged.missing))}",
            hint="bring it there: dv add PATH, or dv fetch",
        )
    for path, size in staged.large:
        screen.error(
            f"{printable(path)} has {size_text(size)}: too large for git (the limit is "
            f"{size_text(staged.size_max_bytes)})",
            hint=f"put it under dv: dv add --untrack {shell_word(path)}\n"
            f"or allow it: dv config hooks.maxfilesize {-(-size >> 20)}MiB",
        )
    if staged.inside:
        screen.error(
            f"{count_text(len(staged.inside), 'staged file')} of git would be the data of a "
            f"target, which dv keeps:\n{listing(sorted(staged.inside))}",
            hint="take them out of git's index: git rm -r --cached PATH",
        )
    for sentence in staged.attributes:
        screen.error(sentence, hint="then stage the manifest again: git add")
    if staged.refuse_changed and staged.changed:
        screen.error(
            f"data has changed since dv add:\n{listing(map(printable, staged.changed))}",
            hint="take the changes over: dv add PATH; or: dv config hooks.changeddata warn",
        )
    if staged.refused:
        screen.note("nothing was committed (git commit --no-verify leaves out this check)")
    for target in staged.exposed:
        screen.warn(
            f"no line in .gitignore keeps {printable(target)} out of git "
            f"(dv add {shell_word(target)} writes one)"
        )
    if staged.unlooked:
        names = listing(map(printable, staged.unlooked))
        screen.warn(f"there was no time to see whether these changed since dv add:\n{names}")
    for target in () if staged.refuse_changed else staged.changed:
        screen.warn(
            f"{printable(target)} has changed since dv add; the commit has it as it was then "
            f"(dv add {shell_word(target)} takes the change over)"
        )


def _pre_push(frame: Frame, _: Sequence[str]) -> None:
    lines = _input_lines()
    ours, theirs = (os.environ.get(f"PRE_COMMIT_{end}_REF") for end in ("TO", "FROM"))
    if not lines and ours:
        # The pre-commit framework reads the lines itself, and hands on the first.
        lines = [f"- {ours} - {theirs or '0'}"]
    refs = parse_refs(lines)
    if not refs.new:
        return
    with frame.repo(required=False) as repo:
        report = repo.for_git.push_refs(refs.new, refs.old)
        if report is None:
            return
        for warning in report.warnings:
            frame.screen.warn(warning)
        pushed = report.pushed
        if pushed.changed:
            frame.screen.note(
                f"dv: uploaded {size_text(pushed.bytes)} to {printable(pushed.remote)}; "
                f"{count_text(pushed.files, 'file')} proven there"
            )


# --- what git writes to a hook ---------------------------------------------------------------


class Refs(NamedTuple):
    """The objects that `git push` is about to send: their ids, and those of the other side."""

    new: tuple[str, ...]
    old: tuple[str, ...]


def parse_refs(lines: Iterable[str]) -> Refs:
    """Read what git gives a pre-push hook: ``local-ref local-id remote-ref remote-id`` a line.

    Deletions, with an id of zeros, send nothing.
    """
    new: list[str] = []
    old: list[str] = []
    for line in lines:
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise DvError(f"git gave the hook a line that means nothing: {printable(line)!r}")
        if fields[1].strip("0"):
            new.append(fields[1])
            if fields[3].strip("0"):
                old.append(fields[3])
    return Refs(tuple(dict.fromkeys(new)), tuple(dict.fromkeys(old)))


def _input_lines() -> list[str]:
    return sys.stdin.read().splitlines() if sys.stdin is not None else []


def _post_checkout(frame: Frame, arguments: Sequence[str]) -> None:
    old = arguments[0] if arguments else ""
    _sync(frame, fresh=bool(old) and not old.strip("0"))


def _post_event(frame: Frame, _: Sequence[str]) -> None:
    _sync(frame)


def _post_rewrite(frame: Frame, arguments: Sequence[str]) -> None:
    if list(arguments[:1]) != ["amend"]:
        _sync(frame)


def _sync(frame: Frame, *, fresh: bool = False) -> None:
    """Follow git, and report on standard error; what git has done cannot be stopped here."""
    screen = frame.screen
    try:
        with frame.repo(required=False) as repo:
            _show_sync(screen, repo.for_git.sync(fresh=fresh))
    except DvError as error:
        screen.warn(f"the data was not brought in step: {error}")
        screen.note(f"then run: dv checkout{f' ({error.hint})' if error.hint else ''}")


def _show_sync(screen: Screen, synced: Synced) -> None:
    if synced.written or synced.removed:
        parts = [
            f"{count_text(count, 'file')} {what}"
            for count, what in ((synced.written, "written"), (synced.removed, "removed"))
            if count
        ]
        screen.note(f"dv: data in step with the manifests: {', '.join(parts)}")
    if synced.kept:
        screen.warn(
            f"{count_text(len(synced.kept), 'file')} changed here and in the manifests; yours "
            f"{'is' if len(synced.kept) == 1 else 'are'} kept:\n{listing(sorted(synced.kept))}"
        )
        screen.note(
            "yours: dv add --ours PATH; the manifest's (yours is saved): dv checkout --force"
        )
    if synced.missing_files:
        screen.warn(
            f"{count_text(synced.missing_files, 'file')} ({size_text(synced.missing_bytes)}) "
            "of the manifests are not in the local store; to get them: dv pull"
        )
    if synced.unlisted_files:
        screen.warn(
            f"some of {count_text(synced.unlisted_files, 'file')} changed, whose shard is not "
            "here yet; to get it and them: dv pull"
        )
    for target, why in synced.failed:
        screen.warn(f"{printable(target)}: {why}" if target else why)


_WORK = {
    "pre-commit": _pre_commit,
    "pre-push": _pre_push,
    "post-checkout": _post_checkout,
    "post-commit": _post_event,
    "post-merge": _post_event,
    "post-rewrite": _post_rewrite,
    "post-index-change": _post_event,
}

for _one in (install, uninstall, status, run):
    hooks.add_command(_one)
