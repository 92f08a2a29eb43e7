"""Locks that keep other dvtool processes from changing worktrees meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import filelock

from dvtool.errors import BusyError
from dvtool.git import Git
from dvtool.project.parts import LOCK_WAIT_S
from dvtool.system.atomic import make_folders, share
from dvtool.workspace.gitignore import hide_unfinished


@contextlib.contextmanager
def all_worktrees_locked(git: Git) -> Iterator[None]:
    """Keep every command that relies on the store's content from running meanwhile.

    They write a manifest for it only at their end, so nobody could tell that they need it.
    """
    paths = {os.path.join(place, "dv", "worktree.lock") for place in git.worktree_git_dirs()}
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            make_folders(os.path.dirname(path))
            try:
                stack.enter_context(filelock.FileLock(path, timeout=LOCK_WAIT_S))
                share(path)
            except filelock.Timeout as error:
                raise BusyError(
                    f"another dv command has been changing a worktree for {LOCK_WAIT_S} s ({path})",
                    hint="wait for it to end, then repeat the command",
                ) from error
        hide_unfinished(git.common_dir)
        yield
