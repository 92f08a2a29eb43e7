"""``dv cat``: write the content of a tracked file to standard output."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial

import click

from dvtool.cli.frame import Frame, command, revision_and_paths
from dvtool.cli.output import hide_progress
from dvtool.cli.urls import of_revision, snapshot_at, split_url
from dvtool.errors import UsageError, printable

COPIED_BYTES = 1 << 20


@command(
    "cat",
    examples=(
        "dv cat data/table.csv | head",
        "dv cat v1.0:data/images/cats/1.jpg > old.jpg   # as of a revision",
        "dv cat git@example.org:team/vision.git data/table.csv",
        "dv cat --hash 9a41…7c > back.jpg   # content in the local store, by its BLAKE3",
    ),
    exits=(4, 6, 7),
)
@click.argument("arguments", metavar="[GIT-URL] [PATH]", nargs=-1, type=click.Path())
@click.option("--rev", metavar="REV", help="The file as of a commit.")
@click.option("--hash", "blake3", metavar="HEX", help="Content in the local store, by its BLAKE3.")
def cat(frame: Frame, arguments: Sequence[str], rev: str | None, blake3: str | None) -> None:
    """Write the content of a tracked file to standard output, bytes as they are.

    REV:PATH is the file as of a commit, as --rev. The content is read from the local store, or else
    from the default remote, never from the workspace. Of the repository of a GIT-URL no clone is
    kept. The hash is checked before the last bytes are written.
    """
    url, paths = split_url(arguments, folder=frame.folder)
    if url and not paths and "://" not in url:
        name, _, path = url.partition(":")
        raise UsageError(
            f"{printable(name)} is no revision here; as a git URL, {printable(url)} needs a PATH",
            hint=f"see the revisions: git log --oneline --all; then dv cat REV:{printable(path)}",
        )
    if len(paths) + (blake3 is not None) != 1 or (url and blake3):
        raise UsageError("name one file to write, or its --hash", hint="see what there is: dv ls")
    if blake3 is not None and rev is not None:
        raise UsageError("a --hash says all; --rev does not go with it")
    if url is not None:
        of_revision(rev, paths, partial(_write_from, url))
        return
    with frame.repo(required=False) as repo:
        rev, paths = revision_and_paths(repo, rev, paths)
        content = repo.cat_content(blake3) if blake3 is not None else repo.cat(paths[0], rev=rev)
        out = sys.stdout.buffer
        for data in content:
            hide_progress()
            out.write(data)
        out.flush()


def _write_from(url: str, rev: str | None, paths: list[str]) -> None:
    """Write a file of a repository of which no clone is kept."""
    with snapshot_at(url, rev) as snapshot, snapshot.open(paths[0]) as file:
        shutil.copyfileobj(file, sys.stdout.buffer, COPIED_BYTES)
        sys.stdout.buffer.flush()
