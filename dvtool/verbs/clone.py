"""clone: a git repository cloned, and a revision of it checked out."""

from __future__ import annotations

import os

from dvtool.git import Git


def clone(url: str, directory: str | None = None, *, cwd: str = ".", rev: str | None = None) -> str:
    """Clone a git repository; return the folder, absolute, in which it now is.

    With `rev` that revision is checked out: a branch of the origin as a branch, a tag or a commit
    detached. No data is fetched: open the clone and `pull`.
    """
    folder = Git.clone(url, directory, cwd=os.path.abspath(cwd), checkout=rev is None)
    if rev is not None:
        with Git.discover(folder) as git:
            git.switch_fresh(rev)
    return folder
