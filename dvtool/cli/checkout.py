"""``dv checkout``: put data into the workspace as the manifests or a commit have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, revisions_and_paths
from dvtool.cli.output import Screen, count_text, shell_word
from dvtool.cli.plans import plan_option
from dvtool.errors import printable, size_text

if TYPE_CHECKING:
    from dvtool.project.preserve import Saved
    from dvtool.repo import Repo
    from dvtool.verbs.checkout.restore import Restored
    from dvtool.verbs.fetch.request import Fetched

SAVED_SHOWN_MAX = 10


@command(
    "checkout",
    examples=(
        "dv checkout                         # after git checkout, git merge, git pull",
        "dv checkout v1.0 -- data/images     # one target as of a revision",
        "dv checkout -- 'data/images/*.jpg'  # some files; to undo changes: dv restore",
    ),
    exits=(4, 5, 6, 7, 8, 9),
    answers_json=True,
    splits=True,
)
@click.argument("arguments", metavar="[REV] [--] [PATH]...", nargs=-1, type=click.Path())
@click.option("--force", is_flag=True, help="Replace unsaved changes too, a copy is saved first.")
@click.option("--no-fetch", is_flag=True, help="Fail rather than fetch what is not here.")
@plan_option
def checkout(
    frame: Frame,
    arguments: Sequence[str],
    force: bool,
    no_fetch: bool,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Put data into the workspace as the manifests in the worktree, or of REV, have it.

    With REV its manifests come into the worktree too, staged. Nothing is done if content that is
    saved nowhere would be lost; --force saves it and says how to get it back. Missing content is
    fetched from the default remote.
    """
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments, revisions_max=1)
        rev = revisions[0] if revisions else None
        if not plan_only:
            frame.set_up_git(repo)
        restored = repo.checkout(rev, paths, force=force, fetch=not no_fetch, plan_only=plan_only)
        show_restored(frame, repo, restored, as_json=as_json, plan_only=plan_only)


def show_restored(
    frame: Frame, repo: Repo, restored: Restored, *, as_json: bool, plan_only: bool = False
) -> None:
    """Say what `dv checkout`, `dv restore` or `dv pull` did, or would do."""
    screen = frame.screen
    if as_json:
        screen.json(restored)
        return
    if restored.fetched is not None:
        warn_fetched(screen, restored.fetched)
        screen.done(fetched_text(restored.fetched))
    quiet = True
    would = " would be" if plan_only else ""
    for target in restored.targets:
        parts = []
        if target.written:
            parts.append(f"{count_text(target.written, 'file')}{would} written")
            parts[-1] += f", {size_text(target.written_bytes)}" if target.written_bytes else ""
        if target.removed:
            parts.append(f"{target.removed:,}{would} removed")
        if parts or frame.verbose:
            text = "; ".join(parts) or "as it should be"
            screen.done(f"{printable(repo.shown(target.target))}  {text}")
            quiet = False
    if quiet:
        screen.done("the workspace is as it should be" if restored.targets else "no targets here")
    _show_saved(screen, repo, restored.saved)
    if plan_only:
        screen.note("nothing was changed")


def warn_fetched(screen: Screen, fetched: Fetched) -> None:
    """Say which remotes lacked something that another one had."""
    for warning in fetched.warnings:
        screen.warn(warning)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def fetched_text(fetched: Fetched) -> str:
    """Return the result of a fetch, in a line."""
    url = " and ".join(map(printable, fetched.sources))
    if not fetched.files:
        return "nothing to fetch: the local store has it all"
    files = f"{count_text(fetched.files, 'file')}, {size_text(fetched.bytes)}"
    known = f"; {fetched.found:,} {_were(fetched.found)} here already" if fetched.found else ""
    return (
        f"fetched from {url}: {files} ({size_text(fetched.transferred_bytes)} transferred){known}"
    )


def _show_saved(screen: Screen, repo: Repo, saved: Sequence[Saved]) -> None:
    """Say how to get back what --force replaced; that is not for -q to hide."""
    if not saved:
        return
    screen.line(f"saved before it was replaced: {count_text(len(saved), 'file')}; to get it back:")
    for kept in saved[:SAVED_SHOWN_MAX]:
        screen.line(f"  dv cat --hash {kept.blake3} > {shell_word(repo.shown(kept.path))}")
    if len(saved) > SAVED_SHOWN_MAX:
        screen.line(f"  … and {len(saved) - SAVED_SHOWN_MAX:,} more")
    folder = printable(repo.saved_folder)
    screen.line(f"all names and hashes are in the newest file in {folder}")
