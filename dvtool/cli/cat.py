"""``dv cat``: write the content of a tracked file to standard output."""

from __future__ import annotations

import sys

import click

from dvtool.cli.frame import Frame, command, revision_and_paths
from dvtool.cli.output import hide_progress
from dvtool.errors import UsageError


@command(
    "cat",
    examples=(
        "dv cat data/table.csv | head",
        "dv cat v1.0:data/images/cats/1.jpg > old.jpg   # as of a revision",
        "dv cat --hash 9a41…7c > back.jpg   # content in the local store, by its BLAKE3",
    ),
    exits=(4, 6, 7),
)
@click.argument("path", metavar="[PATH]", required=False, type=click.Path())
@click.option("--rev", metavar="REV", help="The file as of a commit.")
@click.option("--hash", "blake3", metavar="HEX", help="Content in the local store, by its BLAKE3.")
def cat(frame: Frame, path: str | None, rev: str | None, blake3: str | None) -> None:
    """Write the content of a tracked file to standard output, bytes as they are.

    REV:PATH is the file as of a commit, as --rev. The content is read from the local store, or else
    from the default remote, never from the workspace. The hash is checked before the last bytes are
    written.
    """
    if (path is None) == (blake3 is None):
        raise UsageError("name one file to write, or its --hash", hint="see what there is: dv ls")
    if blake3 is not None and rev is not None:
        raise UsageError("a --hash says all; --rev does not go with it")
    with frame.repo(required=False) as repo:
        if path is not None:
            rev, (path,) = revision_and_paths(repo, rev, [path])
        content = repo.cat_content(blake3) if blake3 is not None else repo.cat(path or "", rev=rev)
        out = sys.stdout.buffer
        for data in content:
            hide_progress()
            out.write(data)
        out.flush()
