"""``dv status``: what differs between workspace, manifests and HEAD."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.frame import Frame, command, paths_argument
from dvtool.cli.status_report import show_status


@command(
    "status",
    examples=(
        "dv status",
        "dv status data/images 'data/audio/*.wav'",
        "dv status --sources                         # is anything new at the sources?",
        "dv status --exit-code || echo 'not clean'   # in a script",
    ),
    exits=(4, 6, 8),
    fails="failed; or, with --exit-code, something is not clean",
    answers_json=True,
)
@paths_argument
@click.option("--exit-code", is_flag=True, help="End with 1 unless everything is clean.")
@click.option("--sources", is_flag=True, help="Ask the sources of imported data what is new.")
def status(
    frame: Frame, paths: Sequence[str], exit_code: bool, sources: bool, as_json: bool
) -> None:
    """Show what differs between workspace, manifests and HEAD, and what was not pushed.

    Files whose size and times are unchanged are not read. With -v, all names, the clean targets
    and the manifest hashes are shown. Files that were never fetched are absent, which is not a
    change.

    No remote is asked: a target is not pushed if no push from this clone proved it on the default
    remote and no branch of git's remotes has it. dv push --check asks the remote.
    """
    clean = show_status(frame, paths, sources=sources, as_json=as_json)
    if exit_code and not clean:
        raise click.exceptions.Exit(1)
