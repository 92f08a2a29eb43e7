"""``dv get``: data of a repository, without a clone that stays."""

from __future__ import annotations

import click

from dvtool.cli.export import show_exported
from dvtool.cli.frame import Frame, command
from dvtool.cli.urls import get_from


@command(
    "get",
    examples=(
        "dv get git@example.org:team/vision.git data/images/cats",
        "dv get https://example.org/vision.git data --rev v1.0 -o vision-data",
    ),
    exits=(4, 5, 6, 7, 8),
    answers_json=True,
)
@click.argument("url", metavar="GIT-URL")
@click.argument("path", metavar="PATH")
@click.option("--rev", metavar="REV", help="A branch, tag or commit (default: the default branch).")
@click.option("-o", "--output", metavar="OUT", help="The folder to write to, else PATH's name.")
@click.option("--force", is_flag=True, help="Replace files that have other content.")
def get(
    frame: Frame,
    url: str,
    path: str,
    rev: str | None,
    output: str | None,
    force: bool,
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
            progress=progress,
        )
    show_exported(frame, result, output or path.rstrip("/").rpartition("/")[2], as_json=as_json)
