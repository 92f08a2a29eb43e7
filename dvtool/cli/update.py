"""``dv update``: bring imported targets to what their sources have now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, paths_argument
from dvtool.cli.import_ import show_imported
from dvtool.cli.output import documents
from dvtool.cli.plans import plan_option
from dvtool.cli.status_report import source_text
from dvtool.errors import UsageError

if TYPE_CHECKING:
    from dvtool.repo import Repo


@command(
    "update",
    examples=(
        "dv update                     # all that was imported",
        "dv update data/scans          # one target",
        "dv update --trust data/scans  # in a clone: yes, ask that source",
        "dv update -n                  # only ask what is new",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
)
@paths_argument
@click.option("--trust", is_flag=True, help="Approve the sources of these PATHs from now on.")
@click.option("-j", "--jobs", metavar="N", type=click.IntRange(min=1), help="Worker processes.")
@plan_option
def update(
    frame: Frame,
    paths: Sequence[str],
    trust: bool,
    jobs: int | None,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Ask the sources of imported targets, and bring here what is new there.

    Only what changed is read. Entries and files of what vanished at the source are removed, and
    named. A file that was edited here and changed there is kept, and nothing is changed then.

    A manifest may come from anybody. So a source is asked only if it was imported in this clone,
    or --trust said so: it prints address and query first.
    """
    if trust and not paths:
        raise UsageError("--trust needs a PATH", hint="name what you trust: dv update --trust PATH")
    if trust and plan_only:
        raise UsageError(
            "--trust approves sources, and --dry-run changes nothing",
            hint="leave one of them out; --trust asks nothing that it does not print first",
        )
    screen = frame.screen
    with frame.repo() as repo:
        if plan_only:
            _plan(frame, repo, paths, as_json=as_json)
            return
        for approved in repo.imports.trust(paths) if trust else ():
            screen.note(f"from now on this clone asks {approved}")
        frame.set_up_git(repo)
        done = repo.imports.update(paths, jobs=jobs)
        if as_json:
            screen.json(documents.UpdateDocument(done))
            return
        for each in done:
            show_imported(screen, repo, each, as_json=False)
        if not done:
            screen.done("nothing was imported here (dv import SOURCE OUT)")
        elif any(each.changed for each in done):
            screen.note("next: git commit")


def _plan(frame: Frame, repo: Repo, paths: Sequence[str], *, as_json: bool) -> None:
    screen = frame.screen
    asked = repo.imports.plan_update(paths)
    if as_json:
        screen.json(documents.UpdatePlanDocument(asked))
        return
    for target in asked:
        screen.line(source_text(repo, target))
    screen.note("nothing was changed" if asked else "nothing was imported here")
