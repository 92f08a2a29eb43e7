"""``dv restore``: undo changes to files."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dvtool.cli.checkout import show_restored
from dvtool.cli.frame import Frame, command, revision_and_paths
from dvtool.cli.plans import plan_option


@command(
    "restore",
    examples=(
        "dv restore data/images/a.jpg            # as the manifest has it",
        "dv restore 'data/images/*.jpg'          # each that matches, deleted ones too",
        "dv restore --source v1.0 data/images    # the files of a revision",
        "dv restore -n .                         # what would be undone",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("-s", "--source", "--rev", "source", metavar="REV", help="The files as of a commit.")
@plan_option
def restore(
    frame: Frame, paths: Sequence[str], source: str | None, plan_only: bool, as_json: bool
) -> None:
    """Undo changes to files: as the manifests in the worktree, or those of a revision, have them.

    As git restore does, with data: the manifests stay as they are, files that were deleted come
    back, new files stay. A copy of what is replaced and saved nowhere is put into the local store
    first, and the hash that brings it back is printed.
    """
    with frame.repo() as repo:
        source, paths = revision_and_paths(repo, source, paths)
        if not plan_only:
            frame.set_up_git(repo)
        restored = repo.restore(paths, source=source, plan_only=plan_only)
        show_restored(frame, repo, restored, as_json=as_json, plan_only=plan_only)
