"""``dv export``: the data of a commit as ordinary files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.engines import engine_options, opened_engine
from dvtool.cli.frame import Frame, command, revision_and_paths
from dvtool.cli.output import files_text
from dvtool.cli.plans import plan_option
from dvtool.cli.remote_options import remote_options
from dvtool.errors import UsageError, listing, printable
from dvtool.project.keys import REMOTE_OPTIONS

if TYPE_CHECKING:
    from dvtool.verbs.export.entries import Exported


@command(
    "export",
    examples=(
        "dv export data/images --to /tmp/images           # as of HEAD",
        "dv export v1.0 data --to tar:- | zstd > v1.tar.zst",
        "dv export main data --to s3://plain-bucket/data  # an object for each file",
        "dv export data --to /mnt/data -n    # how much; nothing is written",
    ),
    exits=(4, 5, 6, 7, 8),
    answers_json=True,
)
@click.argument("arguments", metavar="[REV] PATH", nargs=-1, required=True)
@click.option(
    "--to",
    "destination",
    metavar="PLACE",
    required=True,
    help="A folder, tar:FILE, tar:- or s3://BUCKET/PREFIX.",
)
@click.option("--force", is_flag=True, help="Replace files or objects that have other content.")
@click.option("--rev", metavar="REV", help="The data as of a commit, as REV before PATH.")
@engine_options
@remote_options(REMOTE_OPTIONS)
@plan_option
def export(
    frame: Frame,
    arguments: Sequence[str],
    destination: str,
    force: bool,
    rev: str | None,
    engine: str | None,
    engine_address: str | None,
    plan_only: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Write the data at or below PATH of a commit as ordinary files under ordinary names.

    Content comes from the local store or the remote; every byte is checked. A file that is there
    with this content is kept, so that after an interruption it goes on. REV is HEAD unless given;
    it may be written REV:PATH.

    With --engine the workers of a cluster do it, which must see the repository, and a folder that
    they write to, at the same paths.
    """
    if len(arguments) > 2:
        raise UsageError("name one PATH, and before it REV if it is not HEAD")
    path = arguments[-1]
    if len(arguments) == 2 and rev not in (None, arguments[0]):
        raise UsageError(f"REV is {printable(arguments[0])} and --rev {printable(rev or '')}")
    rev = arguments[0] if len(arguments) == 2 else rev
    with frame.repo() as repo, opened_engine(engine, engine_address) as cluster:
        rev, (path,) = revision_and_paths(repo, rev, [path])
        result = repo.export(
            path,
            destination,
            rev=rev,
            options={name: value for name, value in options.items() if value is not None},
            force=force,
            out=sys.stdout.buffer,
            plan_only=plan_only,
            engine=cluster,
        )
    show_exported(frame, result, destination, plan_only=plan_only, as_json=as_json)


def show_exported(
    frame: Frame, result: Exported, destination: str, *, plan_only: bool, as_json: bool
) -> None:
    """Print the result of an export, beside an archive that has standard output."""
    screen = frame.screen
    to_output = destination == "tar:-" and not plan_only
    if as_json and not to_output:
        screen.json(result)
        return
    if result.left_out:
        screen.warn(
            "symlinks and empty folders cannot be objects, and were left out:\n"
            + listing(result.left_out)
        )
    files, shown = files_text(result.files, result.bytes), printable(destination)
    kept = f", {result.kept:,} of them were there" if result.kept else ""
    text = f"{files}{kept} in {shown}"
    if plan_only:
        verb = "is" if result.kept == 1 else "are"
        already = f"; {result.kept:,} of them {verb} there already" if result.kept else ""
        text = f"{files} would be in {shown}{already}"
    if to_output:
        screen.note(text)
    else:
        screen.done(text)
    if plan_only:
        screen.note("nothing was written")
