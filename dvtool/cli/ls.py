"""``dv ls``: list tracked files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.diff import entry_json
from dvtool.cli.frame import Frame, command, paths_argument
from dvtool.cli.output import Screen
from dvtool.errors import printable, size_text

if TYPE_CHECKING:
    from dvtool.verbs.read import Listed

HASH_SHOWN_LENGTH = 12


@command(
    "ls",
    examples=(
        "dv ls",
        "dv ls -l 'data/images/cats/*.jpg'   # with sizes and hashes",
        "dv ls --rev v1.0 data               # as of a commit",
    ),
    exits=(4, 6, 7),
    json_keys=(
        '{"entries": [{"path", "target", "type", "size", "blake3", "exec", "symlink"}]}; path '
        "and target are from the top of the worktree, type is file, symlink or folder, and only "
        "the keys that the type has are there."
    ),
)
@paths_argument
@click.option("--rev", metavar="REV", help="List the manifests of a commit.")
@click.option("-l", "--long", is_flag=True, help="Show sizes and hashes; with -v whole hashes.")
def ls(frame: Frame, paths: Sequence[str], rev: str | None, long: bool, as_json: bool) -> None:
    """List tracked files, from the manifests in the worktree or of a commit.

    The files need not be in the workspace. A PATH is a target, something in one, or a glob.
    """
    screen = frame.screen
    with frame.repo() as repo:
        found = repo.ls(paths, rev=rev)
        if as_json:
            rows = ({"path": one.path, "target": one.target, **_fields(one)} for one in found)
            screen.json_rows("entries", rows)
            return
        for one in found:
            name = printable(repo.shown(one.path)) + ("/" if one.entry.dir else "")
            columns = _columns(screen, one, frame.verbose) if long else ""
            link = f" -> {printable(one.entry.symlink)}" if long and one.entry.symlink else ""
            screen.line(f"{columns}{name}{link}")


def _fields(one: Listed) -> dict[str, object]:
    return entry_json(one.entry) or {}


def _columns(screen: Screen, one: Listed, whole: bool) -> str:
    """Return kind, size and hash, as columns that stand in front of the name."""
    entry = one.entry
    kind = "l" if entry.symlink else "d" if entry.dir else "x" if entry.exec else "-"
    size = size_text(entry.size) if entry.is_file else ""
    length = 64 if whole else HASH_SHOWN_LENGTH
    return f"{kind} {size:>10}  {screen.style(f'{entry.blake3[:length]:{length}}', 'dim')}  "
