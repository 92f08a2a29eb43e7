"""A look at the folders of large targets that begins while a command is still being loaded.

Loading takes half as long as the look, on one core. So a copy of this process looks meanwhile, at
the folders that the statcache remembers as agreeing with a manifest: see `agreement`. Whether they
are asked for is not known yet; if they are not, the copy was for nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Mapping

from dvtool.store.rooted import database_uri
from dvtool.workspace.folder_state import SharedLook, looking_early, may_fork

REMEMBERED_MIN_BYTES = 300_000
"""The statcache of some 4,000 files: with fewer, a second process costs more than it saves."""
_MOVING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR")
"""Variables by which the repository is elsewhere than the current folder says."""


def early_look(environ: Mapping[str, str]) -> contextlib.AbstractContextManager[None]:
    """Return a block in which folders below the current one's worktree are looked at early.

    Nothing is done for small targets, or where it is not plain which repository is meant: one with
    its own `.git` folder, which belongs to this user.
    """
    root = None if any(name in environ for name in _MOVING) else _plain_root()
    if root is None or not may_fork():
        return contextlib.nullcontext()
    folders = _agreed_before(os.path.join(root, ".git", "dv", "statcache.db"))
    return looking_early(SharedLook(root, folders)) if folders else contextlib.nullcontext()


def _plain_root() -> str | None:
    try:
        path = os.getcwd()
        while True:
            try:
                folder = os.lstat(os.path.join(path, ".git"))
            except FileNotFoundError:
                above = os.path.dirname(path)
                if above == path:
                    return None
                path = above
            else:
                own = stat.S_ISDIR(folder.st_mode) and folder.st_uid == os.geteuid()
                return path if own else None
    except OSError:
        return None


def _agreed_before(path: str) -> list[str]:
    """Return the folders that agree with a manifest, sorted; none if they cannot be read now."""
    try:
        if os.stat(path).st_size < REMEMBERED_MIN_BYTES:
            return []
        with contextlib.closing(sqlite3.connect(database_uri(path), uri=True, timeout=0)) as db:
            return sorted(str(row[0]) for row in db.execute("SELECT path FROM agreed"))
    except (OSError, sqlite3.Error, UnicodeError):
        return []
