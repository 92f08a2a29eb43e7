"""``dv push``: upload the data of commits, and prove that it arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command, remote_option, revisions_and_paths
from dvtool.cli.output import count_text, size_text
from dvtool.errors import UsageError, listing, printable

if TYPE_CHECKING:
    from dvtool.publishing import PushReport
    from dvtool.repo import Repo


@command(
    "push",
    examples=(
        "dv push                        # what HEAD and the commits behind it need",
        "dv push main v1.0              # what these revisions need",
        "dv push --all --remote backup  # all that git can reach, elsewhere",
        "dv push -- data/images         # one target only",
    ),
    exits=(4, 6, 7, 9),
    json_keys=(
        '{"remote", "manifests", "files", "packs", "bytes", "uncommitted", "warnings"}; packs '
        "and bytes were uploaded, files are proven to be there, uncommitted lists the targets "
        "whose manifests are not in HEAD."
    ),
    splits=True,
)
@click.argument("arguments", metavar="[REV]... [--] [PATH]...", nargs=-1, type=click.Path())
@remote_option
@click.option("--all", "every", is_flag=True, help="All refs of git, with their whole history.")
def push(
    frame: Frame, arguments: Sequence[str], remote: str | None, every: bool, as_json: bool
) -> None:
    """Upload the data that commits need and the remote lacks, and prove that it arrived.

    Without REV those are HEAD and the commits behind it; what an earlier push, from here or
    another clone, proved for those is not asked again. Ends with 0 only once the remote itself
    was seen to hold everything that HEAD, or REV, needs; a gap in the history behind it is a
    warning. What is not committed is not pushed. A PATH selects the targets that it lies in.
    """
    screen = frame.screen
    with frame.repo() as repo:
        revisions, paths = revisions_and_paths(repo, arguments)
        if every and revisions:
            raise UsageError("--all takes every revision; name none with it")
        report = repo.push(remote=remote, revs=revisions, every=every, paths=paths)
        for warning in report.warnings:
            screen.warn(warning)
        if as_json:
            screen.json(_as_json(report))
            return
        screen.done(_summary(report))
        _warn_uncommitted(frame, repo, report)


def _as_json(report: PushReport) -> dict[str, object]:
    pushed = report.pushed
    return {
        "remote": pushed.remote,
        "manifests": pushed.manifests,
        "files": pushed.files,
        "packs": pushed.packs,
        "bytes": pushed.bytes,
        "uncommitted": list(report.uncommitted),
        "warnings": list(report.warnings),
    }


def _summary(report: PushReport) -> str:
    pushed = report.pushed
    url, files = printable(pushed.remote), count_text(pushed.files, "file")
    if not pushed.manifests:
        return "nothing to push: these commits have no manifest"
    if not pushed.changed:
        return f"everything is on {url}, proven: {files}"
    uploaded = f"{count_text(pushed.packs, 'pack')}, {size_text(pushed.bytes)}"
    return f"pushed to {url}: {uploaded}; {files} proven there"


def _warn_uncommitted(frame: Frame, repo: Repo, report: PushReport) -> None:
    if report.uncommitted:
        names = listing(repo.paths.shown(target) for target in report.uncommitted)
        frame.screen.warn(f"not pushed, since git commit has not taken their manifests:\n{names}")
