"""clone: a git repository cloned, and a revision of it checked out."""

from __future__ import annotations

import os

from dvtool.git import Git
from dvtool.system.progress import SILENT, Progress


def clone(
    url: str,
    directory: str | None = None,
    *,
    cwd: str = ".",
    rev: str | None = None,
    progress: Progress = SILENT,
) -> str:
    """Clone a git repository; return the folder, absolute, in which it now is.

    With `rev` that revision is checked out: a branch of the origin as a branch, a tag or a commit
    detached. No data is fetched: open the clone and `pull`.
    """
    progress.start(f"cloning {url}")

    def show(stage: str, done: int, whole: int) -> None:
        share = f": {100 * done // whole}%" if whole else ""
        progress.note(f"cloning {url}: git is {stage} {done:,} objects{share}")

    told = None if progress is SILENT else show
    parent = os.path.abspath(cwd)
    folder = Git.clone(url, directory, cwd=parent, checkout=rev is None, progress=told)
    if rev is not None:
        with Git.discover(folder) as git:
            git.switch_fresh(rev)
    progress.finish()
    return folder
