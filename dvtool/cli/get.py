"""``dv get``: data of a repository, without a clone that stays."""

from __future__ import annotations

import click

from dvtool.cli.export import show_exported
from dvtool.cli.frame import Frame, command
from dvtool.cli.plans import plan_option
from dvtool.cli.urls import get_from


@command(
    "get",
    examples=(
        "dv get git@example.org:team/vision.git data/images/cats",
        "dv get https://example.org/vision.git data --rev v1.0 -o vision-data",
        "dv get git@example.org:team/vision.git data --plan   # how much that is",
    ),
    exits=(4, 5, 6, 7, 8),
    answers_json=True,
)
@click.argument("url", metavar="GIT-URL")
@click.argument("path", metavar="PATH")
@click.option("--rev", metavar="REV", help="A branch, tag or commit (default: the default branch).")
@click.option("-o", "--output", metavar="OUT", help="The folder to write to, else PATH's name.")
@click.option("--force", is_flag=True, help="Replace files that have other content.")
@plan_option
def get(
    frame: Frame,
    url: str,
    path: str,
    rev: str | None,
    output: str | None,
    force: bool,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Write the data at or below PATH of a git repository into a folder; no clone is kept.

    PATH is from the top of that repository. A file goes into OUT under its own name.
    """
    with frame.progress() as progress:
        result = get_from(
            url,
            path,
            output,
            cwd=frame.folder,
            rev=rev,
            force=force,
            plan_only=plan_only,
            progress=progress,
        )
    folder = output or path.rstrip("/").rpartition("/")[2] or "."
    show_exported(frame, result, folder, plan_only=plan_only, as_json=as_json)
