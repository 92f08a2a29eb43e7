"""``dv describe``: print what identifies the code and data that are here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, files_text
from dvtool.cli.urls import describe_at, split_url
from dvtool.errors import UsageError, listing, printable

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.describe import Description

HASH_SHOWN_LENGTH = 16


@command(
    "describe",
    examples=(
        "dv describe --json > run/data.json   # into an experiment's record",
        "dv describe v1.0",
        "dv describe git@example.org:team/vision.git v1.0   # of another repository",
        "dv describe --check && python train.py",
    ),
    exits=(4, 6, 8),
    fails="failed; or, with --check, code or data differ from HEAD",
    answers_json=True,
)
@click.argument("arguments", metavar="[GIT-URL] [REV]", nargs=-1)
@click.option("--rev", metavar="REV", help="The commit, as REV behind GIT-URL or alone.")
@click.option("--check", is_flag=True, help="End with 1 if code or data differ from HEAD.")
def describe(
    frame: Frame, arguments: Sequence[str], rev: str | None, check: bool, as_json: bool
) -> None:
    """Print the git commit and the hash of every manifest: what fixes code and data.

    Of REV, or of the worktree. Of the repository of a GIT-URL, of which no clone is kept, it is the
    default branch or REV. The worktree is dirty if a file that git tracks, a manifest or the data
    differs from HEAD.
    """
    url, revs = split_url(arguments)
    named_revs = [*revs, *([rev] if rev is not None else ())]
    if len(named_revs) > 1:
        raise UsageError("name one REV")
    rev = named_revs[0] if named_revs else None
    if check and (rev is not None or url is not None):
        raise UsageError("--check is about the worktree; it takes no REV")
    screen = frame.screen
    if url is not None:
        description = describe_at(url, rev)
        if as_json:
            screen.json(description)
        else:
            _show(screen, description, whole=frame.verbose)
        return
    with frame.repo() as repo:
        named, path = repo.arguments.split_revision(rev) if rev is not None else (None, "")
        if named is not None:
            shown = printable(repo.shown(repo.arguments.relative(path)))
            raise UsageError(
                f"{printable(rev or '')} is a path in a revision, and all data of one is described",
                hint=f"run: dv describe {printable(named)}; of the path: dv ls {printable(named)}:"
                f"{shown}",
            )
        description = repo.describe(rev)
        if as_json:
            screen.json(description)
        else:
            _show(screen, description, whole=frame.verbose)
        if check and description.dirty:
            screen.error(_reasons(repo, description))
            raise click.exceptions.Exit(1)


def _show(screen: Screen, description: Description, *, whole: bool) -> None:
    what = {"code": description.code_dirty, "data": description.data_dirty}
    dirty = " and ".join(name for name, differs in what.items() if differs)
    state = screen.style(f" (dirty: {dirty})", "yellow") if dirty else ""
    screen.line(f"commit  {description.commit or 'none yet'}{state}")
    if description.branch is not None:
        screen.line(f"branch  {printable(description.branch)}")
    screen.line(f"data    {description.data_id}")
    length = None if whole else HASH_SHOWN_LENGTH
    for target in description.targets:
        total = files_text(target.files, target.bytes)
        source = f"  at {printable(target.source)}" if target.reference and target.source else ""
        screen.line(
            f"        {target.blake3[:length]}  {printable(target.target)}  {total}{source}"
        )


def _reasons(repo: Repo, description: Description) -> str:
    """Say what differs from HEAD."""
    reasons = []
    if description.commit is None:
        reasons.append("there is no commit yet")
    elif description.code_dirty:
        reasons.append("files that git tracks differ from HEAD (git status names them)")
    if description.data_dirty:
        names = listing(target.target for target in repo.status() if not target.clean)
        reasons.append(f"data or its manifests differ from HEAD (dv status says how):\n{names}")
    return "; ".join(reasons)
