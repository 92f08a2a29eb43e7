"""``dv push``: upload the data of commits, and prove that it arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, revisions_and_paths
from dvtool.cli.output import Answered, count_text, documents
from dvtool.cli.plans import files_sentence, plan_document, plan_option, show_plan
from dvtool.errors import DvError, MissingError, UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.push.commits import PushPlan, PushReport


@command(
    "push",
    examples=(
        "dv push                        # what HEAD and the commits behind it need",
        "dv push main v1.0              # what these revisions need",
        "dv push --all --remote backup  # all that git can reach, elsewhere",
        "dv push --remote a --remote b  # to both",
        "dv push --plan                 # how much that is; nothing is sent",
        "dv push --check || exit 1      # in a script: is HEAD's data there?",
        "dv push -- data/images         # one target only",
    ),
    exits=(4, 6, 7, 9),
    fails="failed; or, with --check, the remote lacks data of HEAD or REV",
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[REV]... [--] [PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--remote",
    "remotes",
    metavar="NAME",
    multiple=True,
    help="The remote to use instead of the default one; may be repeated.",
)
@click.option("--all", "every", is_flag=True, help="All refs of git, with their whole history.")
@click.option(
    "--new-remote",
    is_flag=True,
    help="Begin anew if another remote was at the address the last time, or none is now.",
)
@click.option("--check", is_flag=True, help="End with 1 if data is lacking there; send nothing.")
@plan_option
def push(
    frame: Frame,
    arguments: Sequence[str],
    remotes: Sequence[str],
    every: bool,
    new_remote: bool,
    check: bool,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Upload the data that commits need and the remote lacks, and prove that it arrived.

    Without REV the commits are HEAD and those behind it; data of the latter that an earlier push,
    from here or another clone, proved is not asked again. Ends with 0 only once the remote itself
    was seen to hold everything that HEAD, or REV, needs; a gap in the history behind it is a
    warning. Uncommitted data is not pushed. A PATH selects the targets that it is in.

    A remote that lost something which was proven is named, and all that this clone pushed is
    proven anew. A folder or bucket that is not the remote which it was the last time is refused.

    With several remotes each is pushed to, even if others fail.
    """
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, remotes="push")
        if every and revisions:
            raise UsageError("--all takes every revision; name none with it")
        frame.trust_first_use(repo, falls_back=False)
        names: Sequence[str | None] = list(dict.fromkeys(remotes)) or [None]

        def push_one(name: str | None) -> PushReport:
            return repo.push(remote=name, revs=revisions, every=every, paths=paths, anew=new_remote)

        def plan_one(name: str | None) -> PushPlan:
            return repo.plans.push(
                remote=name, revs=revisions, every=every, paths=paths, tips_only=check
            )

        if check:
            _check(frame, repo, names, plan_one, as_json=as_json)
        elif plan_only:
            _show_plans(frame, repo, [plan_one(name) for name in names], as_json=as_json)
        else:
            _push_all(frame, repo, names, push_one, as_json=as_json)


def _check(
    frame: Frame,
    repo: Repo,
    names: Sequence[str | None],
    plan_one: Callable[[str | None], PushPlan],
    *,
    as_json: bool,
) -> None:
    """Say which remotes have all the data; end with 1 if one has not."""
    try:
        plans = [plan_one(name) for name in names]
    except MissingError as error:  # what the remote lacks is not here either: the answer is no
        if as_json:
            raise
        frame.screen.error(str(error), hint=error.hint)
        raise click.exceptions.Exit(1) from error
    lacking = [plan for plan in plans if plan.estimate.requests.total]
    if as_json:
        _show_plans(frame, repo, plans, as_json=True)
    else:
        for plan in plans:
            for warning in plan.warnings:
                frame.screen.warn(warning)
            url, files = printable(plan.would.remote), count_text(plan.would.files, "file")
            if plan in lacking:
                objects = count_text(plan.estimate.objects, "object")
                size = size_text(plan.estimate.bytes)
                frame.screen.line(f"{url} lacks {objects}, about {size}, of {files}")
            else:
                frame.screen.line(f"everything is on {url}: {files}")
        _warn_uncommitted(frame, repo, plans[-1].uncommitted)
    if lacking:
        raise click.exceptions.Exit(1)


def _push_all(
    frame: Frame,
    repo: Repo,
    names: Sequence[str | None],
    push_one: Callable[[str | None], PushReport],
    *,
    as_json: bool,
) -> None:
    """Push to one remote after the other; the first error is raised once all were tried."""
    screen = frame.screen
    reports: list[PushReport] = []
    errors: list[DvError] = []
    failed = []
    for name in names:
        try:
            report = push_one(name)
        except DvError as error:
            errors.append(error)
            failed.append(documents.FailedPush(name, str(error), error.hint, error.exit_code))
            continue
        reports.append(report)
        for warning in report.warnings:
            screen.warn(warning)
        if not as_json:
            screen.done(_summary(report))
    if reports and as_json:
        pushes = [report.pushed for report in reports]
        screen.json(documents.PushDocument(pushes, failed, reports[-1].uncommitted))
    elif reports:
        _warn_uncommitted(frame, repo, reports[-1].uncommitted)
    for other in errors[1:]:
        screen.warn(str(other))
    if errors and reports and as_json:
        raise Answered from errors[0]
    if errors:
        raise errors[0]


def _summary(report: PushReport) -> str:
    pushed = report.pushed
    url, files = printable(pushed.remote), count_text(pushed.files, "file")
    if not pushed.manifests:
        return "nothing to push: these commits have no manifest"
    if not pushed.changed:
        return f"everything is on {url}, proven: {files}"
    uploaded = f"{count_text(pushed.packs, 'pack')}, {size_text(pushed.bytes)}"
    if pushed.resumed_packs:
        size = size_text(pushed.resumed_bytes)
        resumed = f"{count_text(pushed.resumed_packs, 'pack')}, {size}"
        uploaded += f", besides {resumed}, that an interrupted push had brought"
    return f"pushed to {url}: {uploaded}; {files} proven there"


def _warn_uncommitted(frame: Frame, repo: Repo, targets: Sequence[str]) -> None:
    if targets:
        names = listing(repo.shown(target) for target in targets)
        frame.screen.warn(f"not pushed, since git commit has not taken their manifests:\n{names}")


def _show_plans(frame: Frame, repo: Repo, plans: Sequence[PushPlan], *, as_json: bool) -> None:
    screen = frame.screen
    uncommitted = plans[-1].uncommitted
    for plan in plans:
        for warning in plan.warnings:
            screen.warn(warning)
    if as_json:
        rows = [plan_document(plan.would.remote, plan.would.files, plan.estimate) for plan in plans]
        screen.json(documents.PushPlanDocument(rows, uncommitted))
        return
    for plan in plans:
        sentence = files_sentence("everything is on URL:", plan.would.remote, plan.would.files)
        if plan.estimate.requests.total:
            sentence = files_sentence(
                "a push to URL would prove", plan.would.remote, plan.would.files
            )
            if plan.would.resumed_packs:
                sentence += f"; {count_text(plan.would.resumed_packs, 'pack')} are there already"
        show_plan(screen, sentence, plan.would.remote, plan.estimate)
    _warn_uncommitted(frame, repo, uncommitted)
