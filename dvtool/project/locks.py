"""The lock of a worktree: one dv command at a time changes its targets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dvtool.errors import BusyError
from dvtool.git import Git
from dvtool.system import atomic
from dvtool.system.lazy import later
from dvtool.workspace.gitignore import hide_unfinished

if TYPE_CHECKING:
    import filelock
else:
    filelock = later("filelock")

LOCK_WAIT_S = 30


@contextlib.contextmanager
def worktree_lock(git: Git) -> Iterator[None]:
    """Keep other dvtool processes from changing the targets of git's worktree meanwhile.

    BusyError if another one does for longer than `LOCK_WAIT_S`.
    """
    path = os.path.join(git.git_dir, "dv", "worktree.lock")
    atomic.make_folders(os.path.dirname(path))
    try:
        with filelock.FileLock(path, timeout=LOCK_WAIT_S):
            atomic.share(path)
            hide_unfinished(git.common_dir)
            yield
    except filelock.Timeout as error:
        raise BusyError(
            f"another dv command has been changing this worktree for {LOCK_WAIT_S} s",
            hint="wait for it to end, then repeat the command",
        ) from error
