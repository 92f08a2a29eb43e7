"""``dv add``: snapshot files and folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, documents, files_text, shell_word
from dvtool.errors import listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.add.publish import Added


@command(
    "add",
    examples=(
        "dv add data/images             # a folder, as one target",
        "dv add data/*.parquet          # several files, each a target",
        "dv add data/images/new.jpg     # only this file of the target data/images",
        "dv add --untrack data/old.csv  # take over what git tracks",
    ),
    exits=(4, 6, 8, 9),
    answers_json=True,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("--no-stage", is_flag=True, help="Leave it to you to stage manifests for git.")
@click.option("--untrack", is_flag=True, help="Take what git tracks out of git's index.")
@click.option("--dereference", is_flag=True, help="Keep what symlinks point to, not the links.")
@click.option("--as-is", is_flag=True, help="Add pointers of git-lfs, and what DVC keeps, too.")
@click.option("--ours", is_flag=True, help="Record files here over newer entries, too.")
@click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    help="Worker processes; one for each core if not given.",
)
def add(
    frame: Frame,
    paths: Sequence[str],
    no_stage: bool,
    untrack: bool,
    dereference: bool,
    as_is: bool,
    ours: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Snapshot files and folders: store their content and write their manifests.

    Each PATH becomes a target with a manifest PATH.dv.json beside it, which is staged for git
    with the line in .gitignore that keeps the data itself out of git. A PATH inside a target
    updates only that part of it. Paths that .dvignore names are left out.

    A file that did not change here, while git brought a newer entry for it, is outdated: its entry
    is left, and named. If both changed, nothing is added. --ours records the file in either case.
    """
    screen = frame.screen
    with frame.repo() as repo:
        frame.set_up_git(repo)
        results = repo.add(
            paths,
            untrack=untrack,
            stage=not no_stage,
            dereference=dereference,
            as_is=as_is,
            ours=ours,
            jobs=jobs,
        )
        for result in results:
            for warning in result.warnings:
                screen.warn(warning)
            _warn_outdated(screen, repo, result)
        if as_json:
            screen.json(documents.AddDocument(results))
            return
        for result in results:
            screen.done(f"{printable(repo.shown(result.target))}  {_summary(result)}")
    _next_step(screen, results, staged=not no_stage)


def _warn_outdated(screen: Screen, repo: Repo, result: Added) -> None:
    if not result.outdated:
        return
    count = count_text(len(result.outdated), "file")
    is_or_are = "is" if len(result.outdated) == 1 else "are"
    names = listing(repo.shown_in(result.target, path) for path in result.outdated)
    screen.warn(
        f"{count} {is_or_are} older than the manifest, which keeps the newer entries:\n{names}"
    )
    word = shell_word(repo.shown(result.target))
    screen.note(f"to get those: dv pull {word}; to record the files here: dv add --ours {word}")


def _summary(result: Added) -> str:
    total = files_text(result.files, result.bytes)
    counts = {"added": result.added, "modified": result.modified, "removed": result.removed}
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    stored = f"; stored {size_text(result.stored_bytes)}" if result.stored_bytes else ""
    return f"{total}: {', '.join(parts) or 'unchanged'}{stored}"


def _next_step(screen: Screen, results: Sequence[Added], *, staged: bool) -> None:
    if any(result.changed for result in results):
        screen.note("next: git commit" if staged else "next: git add the manifests, git commit")
