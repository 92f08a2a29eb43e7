"""``dv add``: snapshot files and folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.engines import engine_options, opened_engine
from dvtool.cli.frame import Frame, command
from dvtool.cli.output import Screen, count_text, documents, files_text, shell_word
from dvtool.cli.plans import plan_option
from dvtool.errors import UsageError, listing, printable, size_text

if TYPE_CHECKING:
    from dvtool.repo import Repo
    from dvtool.verbs.add.foresee import Added

LITTER_SHOWN_MAX = 5


@command(
    "add",
    examples=(
        "dv add data/images             # a folder, as one target",
        "dv add data/*.parquet          # several files, each a target",
        "dv add data/images/new.jpg     # only this file of the target data/images",
        "dv add -u                      # all changes of what is tracked; nothing new",
        "dv add 'data/2024-*.csv' -n    # what a glob would take; nothing is added",
        "dv add --untrack data/old.csv  # take over what git tracks",
    ),
    exits=(4, 6, 8, 9),
    answers_json=True,
)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path())
@click.option(
    "-u", "--update", is_flag=True, help="Only what is tracked, nothing new; all without a PATH."
)
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
@engine_options
@plan_option
def add(
    frame: Frame,
    paths: Sequence[str],
    update: bool,
    no_stage: bool,
    untrack: bool,
    dereference: bool,
    as_is: bool,
    ours: bool,
    jobs: int | None,
    engine: str | None,
    engine_address: str | None,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Snapshot files and folders: store their content and write their manifests.

    Each PATH becomes a target with a manifest PATH.dv.json beside it, which is staged for git
    with the line in .gitignore that keeps the data itself out of git. A PATH inside a target
    updates only that part of it. Paths that .dvignore names are left out. A PATH may be a glob, and
    `.` is the targets below a folder that holds some; new data is named by its own path.

    A file that did not change here, while git brought a newer entry for it, is outdated: its entry
    is left, and named. If both changed, nothing is added. --ours records the file in either case.

    With --engine the files are read by the workers of a cluster, which must see the workspace and
    the local store at the same paths: on a shared filesystem.
    """
    if not paths and not update:
        raise UsageError(
            "add what? Name files or folders, or every target with -u", hint="run: dv add --help"
        )
    screen = frame.screen
    with frame.repo() as repo:
        if not plan_only:
            frame.set_up_git(repo)
        with opened_engine(engine, engine_address) as cluster:
            results = repo.add(
                paths,
                update=update,
                untrack=untrack,
                stage=not no_stage,
                dereference=dereference,
                as_is=as_is,
                ours=ours,
                plan_only=plan_only,
                jobs=jobs,
                engine=cluster,
            )
        for result in results:
            for warning in result.warnings:
                screen.warn(warning)
            _warn_outdated(screen, repo, result)
        _warn_litter(screen, repo, results)
        if as_json:
            screen.json(documents.AddDocument(results))
            return
        for result in results:
            name = printable(repo.shown(result.target))
            if plan_only:
                screen.line(f"{name}  would have {_summary(result)}")
            else:
                screen.done(f"{name}  {_summary(result)}")
            _note_new(screen, repo, result)
        if not results:
            screen.done("no target is in the workspace; dv pull gets them, dv add PATH makes one")
    if plan_only:
        screen.note("nothing was added")
    else:
        _next_step(screen, results, staged=not no_stage)


def _warn_litter(screen: Screen, repo: Repo, results: Sequence[Added]) -> None:
    """Name what programs left behind and dv takes along, and the rules that keep it out."""
    names = [repo.shown_in(result.target, path) for result in results for path in result.litter]
    if not names:
        return
    lines = sorted({rule for result in results for rule in result.litter_rules})
    rules = "\n".join(f"  {printable(line)}" for line in lines)
    takes = "is taken too, and looks" if len(names) == 1 else "are taken too, and look"
    screen.warn(f"{count_text(len(names), 'path')} {takes} left behind:\n{listing(names)}")
    words = " ".join(shell_word(name) for name in names[:LITTER_SHOWN_MAX])
    words += " …" if len(names) > LITTER_SHOWN_MAX else ""
    screen.note(f"to keep them out: dv rm {words}; and these lines in .dvignore:\n{rules}")


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


def _note_new(screen: Screen, repo: Repo, result: Added) -> None:
    """Say what -u left, as it is new."""
    if result.left_new:
        count = count_text(len(result.left_new), "new path")
        word = shell_word(repo.shown(result.target))
        is_or_are = "is" if len(result.left_new) == 1 else "are"
        screen.note(f"{count} {is_or_are} left: to take what is new too: dv add {word}")


def _summary(result: Added) -> str:
    total = files_text(result.files, result.bytes)
    counts = {"added": result.added, "modified": result.modified, "removed": result.removed}
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    stored = f"; stored {size_text(result.stored_bytes)}" if result.stored_bytes else ""
    return f"{total}: {', '.join(parts) or 'unchanged'}{stored}"


def _next_step(screen: Screen, results: Sequence[Added], *, staged: bool) -> None:
    if any(result.changed for result in results):
        screen.note("next: git commit" if staged else "next: git add the manifests, git commit")
