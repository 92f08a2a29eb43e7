"""``dv fetch``: download data into the local store."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.checkout import fetched_json, fetched_text
from dvtool.cli.frame import Frame, command, remote_option, revisions_and_paths


@command(
    "fetch",
    examples=(
        "dv fetch                             # what the manifests in the worktree name",
        "dv fetch v1.0 v2.0                   # what two revisions need",
        "dv fetch -- 'data/images/cats/*.jpg' # a part of a target",
    ),
    exits=(4, 6, 7),
    json_keys='{"remote", "files", "bytes", "transferred_bytes"}: what is here now and was not.',
    splits=True,
)
@click.argument("arguments", metavar="[REV]... [--] [PATH]...", nargs=-1, type=click.Path())
@remote_option
def fetch(frame: Frame, arguments: Sequence[str], remote: str | None, as_json: bool) -> None:
    """Download data into the local store; the workspace stays as it is.

    Takes what the manifests in the worktree, or those of each REV, name and the store lacks.
    """
    screen = frame.screen
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments)
        fetched = repo.fetch(remote=remote, revs=revisions, paths=paths)
        if as_json:
            screen.json(fetched_json(fetched))
        else:
            screen.done(fetched_text(fetched))
