"""``dv pull``: download data and put it into the workspace."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.checkout import show_restored
from dvtool.cli.fetch import show_fetch_plan
from dvtool.cli.frame import Frame, command, remote_option, revisions_and_paths
from dvtool.cli.plans import plan_option


@command(
    "pull",
    examples=(
        "dv pull                          # after git clone or git pull",
        "dv pull -- data/images/cats      # a part of a target",
        "dv pull v1.0 -- data/images      # as of a revision",
        "dv pull --plan                   # how much that is; nothing is fetched",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[REV] [--] [PATH]...", nargs=-1, type=click.Path())
@click.option("--force", is_flag=True, help="Replace unsaved changes too, a copy is saved first.")
@remote_option
@plan_option
def pull(
    frame: Frame,
    arguments: Sequence[str],
    force: bool,
    remote: str | None,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Download what the workspace lacks and put it there: dv fetch, then dv checkout.

    Nothing is done if content that is saved nowhere would be lost. Content that the default remote
    lacks is fetched from the other remotes, unless one is named.
    """
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, revisions_max=1, remotes="pull")
        rev = revisions[0] if revisions else None
        frame.trust_first_use(repo, falls_back=remote is None)
        if plan_only:
            would, estimate = repo.plans.pull(remote=remote, rev=rev, paths=paths, force=force)
            show_fetch_plan(frame.screen, would, estimate, as_json=as_json)
            return
        frame.set_up_git(repo)
        restored = repo.pull(remote=remote, rev=rev, paths=paths, force=force)
        show_restored(frame, repo, restored, as_json=as_json)
