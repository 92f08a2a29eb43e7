"""``dv ls``: list tracked files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, paths_argument, revision_and_paths
from dvtool.cli.output import Screen
from dvtool.cli.urls import of_revision, snapshot_at, split_url
from dvtool.errors import printable, size_text

if TYPE_CHECKING:
    from dvtool.snapshots.listed import Listed

HASH_SHOWN_LENGTH = 12
_KINDS = {"symlink": "l", "folder": "d", "file": "-"}


@command(
    "ls",
    examples=(
        "dv ls",
        "dv ls -l 'data/images/cats/*.jpg'   # with sizes and hashes",
        "dv ls v1.0:data                     # as of a commit, as --rev v1.0",
        "dv ls git@example.org:team/vision.git data   # of another repository",
    ),
    exits=(4, 6, 7),
    answers_json=True,
)
@paths_argument
@click.option("--rev", metavar="REV", help="List the manifests of a commit.")
@click.option(
    "-l",
    "--long",
    is_flag=True,
    help="Show sizes and hashes; with -v whole hashes. Of referenced data also the source.",
)
def ls(frame: Frame, paths: Sequence[str], rev: str | None, long: bool, as_json: bool) -> None:
    """List tracked files, from the manifests in the worktree or of a commit.

    The files need not be in the workspace. A PATH is a target, something in one, or a glob. It may
    begin with a GIT-URL, for the files of a repository of which no clone is kept.
    """
    url, paths = split_url(paths, folder=frame.folder)
    if url is not None:

        def show(rev: str | None, paths: list[str]) -> None:
            with snapshot_at(url, rev) as snapshot:
                entries = itertools.chain.from_iterable(map(snapshot.entries, paths or [""]))
                _show(frame, entries, lambda path: path, long=long, as_json=as_json)

        of_revision(rev, paths, show)
        return
    with frame.repo() as repo:
        rev, paths = revision_and_paths(repo, rev, paths)
        _show(frame, repo.ls(paths, rev=rev), repo.shown, long=long, as_json=as_json)


def _show(
    frame: Frame,
    entries: Iterable[Listed],
    shown: Callable[[str], str],
    *,
    long: bool,
    as_json: bool,
) -> None:
    screen = frame.screen
    if as_json:
        screen.json_rows("entries", entries)
        return
    for entry in entries:
        name = printable(shown(entry.path)) + ("/" if entry.type == "folder" else "")
        columns = _columns(screen, entry, frame.verbose) if long else ""
        link = f" -> {printable(entry.symlink)}" if long and entry.symlink else ""
        source = f"  at {printable(entry.source)}" if long and entry.source else ""
        screen.line(f"{columns}{name}{link}{source}")


def _columns(screen: Screen, entry: Listed, whole: bool) -> str:
    """Return kind, size and hash, as columns in front of the name."""
    kind = "x" if entry.exec else _KINDS[entry.type]
    size = size_text(entry.size) if entry.size is not None else ""
    length = 64 if whole else HASH_SHOWN_LENGTH
    digest = entry.blake3 or ""
    return f"{kind} {size:>10}  {screen.style(f'{digest[:length]:{length}}', 'dim')}  "
