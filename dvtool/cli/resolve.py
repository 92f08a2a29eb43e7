"""``dv resolve``: settle what a merge left in conflict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click

from dvtool.cli.frame import Frame, command, paths_argument
from dvtool.cli.output import Screen, count_text, documents, shell_word
from dvtool.cli.plans import plan_option
from dvtool.errors import UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.checkout.follow import Followed
    from dvtool.verbs.resolve.settle import Settled, Side


@command(
    "resolve",
    examples=(
        "dv resolve                                # what does not truly conflict",
        "dv resolve --theirs                       # all, for the other side",
        "dv resolve --both data/images/cat.jpg     # keeps cat.theirs.jpg too",
        "dv resolve --ours 'data/images/dogs/*'    # some entries, by a glob",
        "dv resolve -n                             # what is in conflict, and stays",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    fails="failed; or conflicts are left",
    answers_json=True,
)
@paths_argument
@click.option("--ours", is_flag=True, help="Settle for our side.")
@click.option("--theirs", is_flag=True, help="Settle for the other side.")
@click.option("--both", is_flag=True, help="Keep the other side beside ours: cat.theirs.jpg.")
@plan_option
def resolve(
    frame: Frame, paths: Sequence[str], plan_only: bool, as_json: bool, **sides_given: bool
) -> None:
    """Settle what a merge, rebase, cherry-pick or stash pop left in conflict.

    Without a side, settles only what does not truly conflict, as when git merged without the
    driver of dv. A target with no conflict left is staged for git, and its files follow; what
    has unsaved changes is never overwritten.

    Sides are git's: in a merge, ours is the branch you are on and theirs the one merged; in a
    rebase, ours is the branch you rebase onto and theirs your own commit; in a cherry-pick or
    stash pop, theirs is what is picked or popped.
    """
    sides = [name for name in ("ours", "theirs", "both") if sides_given[name]]
    if len(sides) > 1:
        raise UsageError("--ours, --theirs and --both exclude each other")
    screen = frame.screen
    with frame.repo() as repo:
        side = cast("Side", sides[0]) if sides else None
        done = repo.resolve(paths, side=side, plan_only=plan_only)
        if as_json:
            screen.json(documents.ResolveDocument(done))
        else:
            for settlement in done:
                (_show_plan if plan_only else _show)(screen, repo, settlement)
            if not done:
                screen.done("nothing to resolve")
            elif plan_only:
                screen.note("nothing was changed")
            elif not any(settlement.resolved.left for settlement in done):
                screen.note("next: git commit, or git rebase --continue and the like")
    if any(settlement.resolved.left for settlement in done):
        raise click.exceptions.Exit(1)


def _show_plan(screen: Screen, repo: Repo, settlement: Settled) -> None:
    resolved = settlement.resolved
    name = printable(repo.shown(resolved.target))
    settled = f"{count_text(len(resolved.settled), 'conflict')} would be settled"
    left = f"{count_text(len(resolved.left), 'conflict')} would be left"
    parts = [
        text for text, paths in ((settled, settlement.settled), (left, settlement.left)) if paths
    ]
    screen.done(f"{name}  {'; '.join(parts) or 'no true conflict: it would be staged'}")
    paths = [
        repo.shown_in(resolved.target, path) for path in (*settlement.settled, *settlement.left)
    ]
    if paths:
        screen.line(listing(paths))


def _show(screen: Screen, repo: Repo, settlement: Settled) -> None:
    resolved = settlement.resolved
    name = printable(repo.shown(resolved.target))
    settled = f"{count_text(len(resolved.settled), 'conflict')} settled"
    parts = [settled] if resolved.settled else []
    if resolved.left:
        parts.append(f"{count_text(len(resolved.left), 'conflict')} left")
    else:
        parts.append("staged" if resolved.after is not None else "its removal is staged")
    for step in settlement.stepped:
        if step.written:
            files = count_text(step.written, "file")
            parts.append(f"{files} written, {size_text(step.written_bytes)}")
        if step.removed:
            parts.append(f"{step.removed:,} removed")
    screen.done(f"{name}  {'; '.join(parts)}")
    if resolved.kept is not None:
        screen.done(f"{printable(repo.shown(resolved.kept))}  keeps the other side")
    if resolved.left:
        left = [repo.shown_in(resolved.target, path) for path in resolved.left]
        screen.line(listing(left))
        word = shell_word(repo.shown(resolved.target))
        screen.note(f"choose: dv resolve --ours, --theirs or --both {word}")
    for step in settlement.stepped:
        _warn(screen, repo, step)


def _warn(screen: Screen, repo: Repo, step: Followed) -> None:
    if step.unsaved:
        names = listing(repo.shown(path) for path in step.unsaved)
        screen.warn(
            f"these have changes that are saved nowhere, and were left as they are:\n{names}"
        )
    if step.missing:
        names = listing(repo.shown(path) for path in step.missing)
        size = size_text(step.missing_bytes)
        screen.warn(f"the content of these ({size}) is not here; dv pull gets it:\n{names}")
