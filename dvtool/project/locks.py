"""Locks of worktrees: one dv command at a time changes the targets of each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dvtool.git import Git
from dvtool.system import atomic
from dvtool.system.locking import locked
from dvtool.workspace.gitignore import hide_unfinished

LOCK_WAIT_S = 30


@contextlib.contextmanager
def worktree_lock(git: Git) -> Iterator[None]:
    """Keep other dvtool processes from changing the targets of git's worktree meanwhile.

    BusyError if another one does for longer than `LOCK_WAIT_S`.
    """
    message = f"another dv command has been changing this worktree for {LOCK_WAIT_S} s"
    with _locked(git.git_dir, message):
        hide_unfinished(git.common_dir)
        yield


@contextlib.contextmanager
def all_worktrees_locked(git: Git) -> Iterator[None]:
    """Keep every command that relies on the store's content from running meanwhile.

    Such a command writes the manifest for that content only at its end, so nobody else could tell
    that the content is needed.
    """
    with contextlib.ExitStack() as stack:
        for git_dir in sorted(git.worktree_git_dirs()):
            message = f"another dv command has been changing a worktree for {LOCK_WAIT_S} s"
            stack.enter_context(_locked(git_dir, f"{message} ({git_dir})"))
        hide_unfinished(git.common_dir)
        yield


@contextlib.contextmanager
def _locked(git_dir: str, message: str) -> Iterator[None]:
    path = os.path.join(git_dir, "dv", "worktree.lock")
    atomic.make_folders(os.path.dirname(path))
    with locked(path, wait_s=LOCK_WAIT_S, busy=message):
        yield
