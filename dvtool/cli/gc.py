"""``dv gc``: give back space that nothing needs, here or on a remote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, documents
from dvtool.cli.plans import plan_option, reading_text, say_reading
from dvtool.errors import UsageError, printable, size_text

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.gc.local import GcResult
    from dvtool.verbs.gc.remote import RemoteGcResult

_AGE = re.compile(r"(\d+)(d|h|m|s|)")
_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "": 86_400}
GRACE = "14d"
COMMITS_SHOWN_MAX = 5


def age_text(age_s: float) -> str:
    """Return an age for people: ``13 days``, ``5 hours``, ``now``."""
    if age_s <= 0:
        return "now"
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if age_s >= seconds:
            return count_text(round(age_s / seconds), unit)
    return "a minute"


def _grace_s(_context: click.Context, _option: click.Parameter, value: str) -> float:
    match = _AGE.fullmatch(value)
    if match is None:
        raise UsageError(
            f"not an age: {printable(value)}", hint="write days, hours or minutes: 14d, 12h, 30m"
        )
    return float(int(match[1]) * _UNITS_S[match[2]])


@command(
    "gc",
    examples=(
        "dv gc                     # here: what a remote has and nothing needs",
        "dv gc --dry-run           # say what would go",
        "dv gc --unpushed          # also what no remote has",
        "dv gc --remote            # on the default remote: what no root names",
        "dv gc --remote --expire   # and what no commit needs any more",
        "dv gc --remote --undo     # take back what was buried there",
    ),
    exits=(4, 6, 7, 9),
    answers_json=True,
)
@click.option(
    "--remote",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    default=None,
    help="Free a remote instead: the default one, or NAME.",
)
@plan_option
@click.option(
    "--unpushed", is_flag=True, help="Free also what no remote has, if nothing here needs it."
)
@click.option(
    "--expire",
    is_flag=True,
    help="With --remote: expire what was pushed and no commit here or on git's remotes needs.",
)
@click.option("--undo", is_flag=True, help="With --remote: take back what is buried there.")
@click.option(
    "--grace",
    "grace_s",
    metavar="AGE",
    default=GRACE,
    show_default=True,
    callback=_grace_s,
    help="How long what is dead stays: 14d, 12h, 30m.",
)
def gc(
    frame: Frame,
    remote: str | None,
    plan_only: bool,
    unpushed: bool,
    expire: bool,
    undo: bool,
    grace_s: float,
    as_json: bool,
) -> None:
    """Free space: in the local store, or with --remote on a remote.

    The local store keeps data that any commit, stash, reflog, index or worktree of this repository
    names, and data that no remote provably holds. A remote keeps what any repository ever pushed
    there; unneeded objects are first buried under a tombstone, and removed by the first gc after
    the grace period, unless somebody came to need them meanwhile.
    """
    _refuse_mixture(remote, unpushed=unpushed, expire=expire, undo=undo, plan_only=plan_only)
    with frame.repo() as repo:
        if remote is None:
            done = repo.gc(
                unpushed=unpushed,
                dry_run=plan_only,
                grace_s=grace_s,
                announce=lambda read: say_reading(frame.screen, read),
            )
            if as_json:
                frame.screen.json(done)
            else:
                _show_local(frame.screen, done, plan_only=plan_only, unpushed=unpushed)
        elif undo:
            _undo(frame.screen, repo, remote or None, as_json=as_json)
        else:
            freed = repo.remotes.gc(
                remote or None, expire=expire, dry_run=plan_only, grace_s=grace_s
            )
            _show_remote(frame.screen, freed, plan_only=plan_only, as_json=as_json)


def _refuse_mixture(
    remote: str | None, *, unpushed: bool, expire: bool, undo: bool, plan_only: bool
) -> None:
    if remote is None and (expire or undo):
        raise UsageError(
            f"--{'expire' if expire else 'undo'} is about a remote",
            hint="add --remote, or --remote=NAME",
        )
    if remote is not None and unpushed:
        raise UsageError("--unpushed is about the local store", hint="leave --remote out")
    if undo and (expire or plan_only):
        raise UsageError("--undo goes with neither --expire nor --dry-run")


def _undo(screen: Screen, repo: Repo, remote: str | None, *, as_json: bool) -> None:
    count = repo.remotes.undo_gc(remote)
    if as_json:
        screen.json(documents.UndoneDocument(count))
    elif count:
        screen.done(f"took back {count_text(count, 'tombstone')}; nothing there is buried now")
    else:
        screen.done("nothing was buried there")


def _show_local(screen: Screen, done: GcResult, *, plan_only: bool, unpushed: bool) -> None:
    plan = done.plan
    for text in done.warnings:
        screen.warn(text)
    if plan_only:
        if plan.empty:
            screen.line("nothing to free")
        else:
            count = sum(map(len, plan.groups))
            screen.line(
                f"would free {size_text(plan.bytes)} in {count_text(len(plan.chunks), 'chunk')}, "
                f"and write {count_text(count, 'pack')} anew ({plan.merged:,} to merge small ones)"
            )
        for read in done.read_back:
            screen.line(reading_text(read))
        _show_losing(screen, done.losing, done.unread)
    elif plan.empty and not done.temp_bytes:
        screen.done("nothing to free")
    else:
        screen.done(
            f"freed {size_text(done.freed_bytes)}; "
            f"{count_text(done.packs, 'pack')} removed or written anew"
        )
    if done.kept_unpushed_bytes:
        why = "to free them when they are old enough: dv gc --unpushed"
        if unpushed:
            why = "they are younger than --grace, or in packs of which more is needed"
        screen.note(
            f"{size_text(done.kept_unpushed_bytes)} that nothing here needs are on no remote and "
            f"stay; {why}"
        )


def _show_losing(screen: Screen, commits: Sequence[str], unread: Sequence[str]) -> None:
    if unread:
        screen.warn(
            f"{count_text(len(unread), 'commit')} that nothing refers to cannot be read in full; "
            f"whether they would lose data is not known: {_names(unread)}"
        )
        screen.note("git fsck says what git has lost")
    if not commits:
        screen.line(f"no commit{' that can be read' if unread else ''} would lose data")
        return
    screen.line(
        f"{count_text(len(commits), 'commit')} that nothing refers to would lose data which no "
        f"remote has: {_names(commits)}"
    )


def _names(commits: Sequence[str]) -> str:
    names = ", ".join(commit[:10] for commit in commits[:COMMITS_SHOWN_MAX])
    more = f" and {len(commits) - COMMITS_SHOWN_MAX:,} more" * (len(commits) > COMMITS_SHOWN_MAX)
    return names + more


def _show_remote(screen: Screen, done: RemoteGcResult, *, plan_only: bool, as_json: bool) -> None:
    plan = done.plan
    if as_json:
        screen.json(done)
        return
    for text in done.warnings:
        screen.warn(text)
    if done.swept:
        count = sum(sweep.removed for sweep in done.swept)
        spared = sum(sweep.spared for sweep in done.swept)
        also = f"; {count_text(spared, 'object')} needed again stay" if spared else ""
        screen.done(f"removed {count_text(count, 'object')}, {size_text(done.removed_bytes)}{also}")
    verb = "would bury" if plan_only else "buried"
    say = screen.line if plan_only else screen.done
    if plan.move:
        would = "would move" if plan_only else "moved"
        say(f"{would} {size_text(plan.move_bytes)} out of {count_text(len(plan.move), 'pack')}")
    if plan.replace:
        names = f"{count_text(len(plan.keep), 'manifest')} in 1 root"
        would = "would gather" if plan_only else "gathered"
        say(f"{would} {names} in place of {count_text(len(plan.replace), 'root')}")
    for root in plan.expired:
        say(f"  expired: {printable(root.target)} {root.manifest[:12]}, which no commit names")
    if plan.unseen:
        manifests = count_text(plan.unseen, "manifest")
        say(f"  {manifests} of this repository that no commit here ever had: left to other clones")
    if plan.empty:
        say("nothing is dead" + (" that is not buried already" if done.waiting else ""))
    else:
        count = len(plan.dead) + len(plan.move)
        say(f"{verb} {count_text(count, 'object')}, {size_text(plan.freed_bytes)}")
    if plan_only:
        but = " but for what is expired" if plan.expired else ""
        screen.line(f"all that was pushed there stays whole{but}")
    _show_waiting(screen, done)


def _show_waiting(screen: Screen, done: RemoteGcResult) -> None:
    for grave in done.waiting:
        screen.line(f"waiting: {count_text(grave.keys, 'object')}, due {_due(grave.due_in_s)}")
    if done.waiting or not done.plan.empty:
        screen.note("to take it back: dv gc --remote --undo")


def _due(due_in_s: float) -> str:
    return "now" if due_in_s <= 0 else f"in {age_text(due_in_s)}"
