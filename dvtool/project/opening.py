"""Opening a repository: its parts, from the folder around which it is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dvtool.git import Git
from dvtool.project.parts import Project
from dvtool.project.settings import load_config
from dvtool.project.shards import ShardSource
from dvtool.store.local import LocalStore
from dvtool.system.progress import Progress
from dvtool.workspace.files import Workspace
from dvtool.workspace.statcache import StatCache

NO_WORKTREE = "no-worktree"
STORE_NOTE = "store-path"
"""The file, in git's folder, that says where `store.path` led when the store was used last."""


def open_project(cwd: str, environ: Mapping[str, str], progress: Progress) -> tuple[Project, str]:
    """Open the repository around the folder `cwd`; return the folder that paths are relative to.

    Settings `DV_*` are taken from `environ`. No remote is asked for shards that are missing.
    """
    git = Git.discover(cwd)
    try:
        root = git.worktree
        if root is None:
            # Paths still need a top to be relative to: one that has no files, and gets none.
            root = cwd = os.path.join(git.git_dir, "dv", NO_WORKTREE)
        config = load_config(git, root, environ)
        folder, note = config.text("store.path"), None
        if folder is None:
            folder = os.path.join(git.common_dir, "dv")
        else:
            note = os.path.join(git.common_dir, "dv", STORE_NOTE)
        store = LocalStore(os.path.join(root, os.path.expanduser(folder)), note=note)
        project = Project(
            git=git,
            config=config,
            workspace=Workspace(root),
            store=store,
            statcache=StatCache(os.path.join(git.git_dir, "dv", "statcache.db")),
            shards=ShardSource(store),
            progress=progress,
        )
    except BaseException:
        git.close()
        raise
    return project, cwd


def close_project(project: Project) -> None:
    """Release files and processes."""
    project.workspace.close()
    project.store.close()
    project.statcache.close()
    project.git.close()
