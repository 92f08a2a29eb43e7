"""``dv fetch``: download data into the local store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.checkout import fetched_text, warn_fetched
from dvtool.cli.frame import Frame, command, remote_option, revisions_and_paths
from dvtool.cli.output import Screen
from dvtool.cli.plans import files_sentence, plan_document, plan_option, show_plan

if TYPE_CHECKING:
    from dvtool.remotes.estimate import Estimate
    from dvtool.verbs.fetch.request import Fetched


@command(
    "fetch",
    examples=(
        "dv fetch                             # what the manifests in the worktree name",
        "dv fetch v1.0 v2.0                   # what two revisions need",
        "dv fetch -- 'data/images/cats/*.jpg' # a part of a target",
        "dv fetch --plan                      # how much that is; nothing is fetched",
    ),
    exits=(4, 6, 7),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[REV]... [--] [PATH]...", nargs=-1, type=click.Path())
@remote_option
@plan_option
def fetch(
    frame: Frame, arguments: Sequence[str], remote: str | None, plan_only: bool, as_json: bool
) -> None:
    """Download data into the local store; the workspace stays as it is.

    Fetches the content that the manifests in the worktree, or those of each REV, name and the store
    lacks. Content that the default remote lacks is fetched from the other remotes, unless one is
    named.
    """
    screen = frame.screen
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, remotes="fetch")
        frame.trust_first_use(repo, falls_back=remote is None)
        if plan_only:
            would, estimate = repo.plans.fetch(remote=remote, revs=revisions, paths=paths)
            show_fetch_plan(screen, would, estimate, as_json=as_json)
            return
        fetched = repo.fetch(remote=remote, revs=revisions, paths=paths)
        if as_json:
            screen.json(fetched)
            return
        warn_fetched(screen, fetched)
        screen.done(fetched_text(fetched))


def show_fetch_plan(screen: Screen, would: Fetched, estimate: Estimate, *, as_json: bool) -> None:
    """Print what a fetch or a pull would take."""
    if as_json:
        screen.json(plan_document(would.remote, would.files, estimate))
        return
    sentence = "the local store has it all"
    if estimate.requests.total:
        verb = "a download from URL would bring"
        sentence = files_sentence(verb, would.remote, would.files, would.bytes)
        sentence += f"; {would.found:,} are here already" if would.found else ""
    show_plan(screen, sentence, would.remote, estimate)
