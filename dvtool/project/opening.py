"""Opening a repository: its parts, from the folder around which it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from dvtool.errors import SetupError
from dvtool.git import Git
from dvtool.project.links import read_links
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
    _require_utf8_names()
    git = Git.discover(cwd)
    try:
        root = git.worktree
        if root is None:
            # Paths still need a top to be relative to: one that has no files, and gets none.
            root = cwd = os.path.join(git.git_dir, "dv", NO_WORKTREE)
        config = load_config(git, root, environ)
        own = os.path.join(git.common_dir, "dv")
        folder = os.path.join(root, os.path.expanduser(config.text("store.path") or own))
        elsewhere = os.path.realpath(folder) != os.path.realpath(own)
        clone = os.path.realpath(git.common_dir) if elsewhere else None
        note = os.path.join(own, STORE_NOTE) if config.text("store.path") is not None else None
        store = LocalStore(folder, note=note, clone=clone)
        project = Project(
            git=git,
            config=config,
            workspace=Workspace(root, modes=config.modes, links=read_links(git.git_dir)),
            store=store,
            statcache=StatCache(os.path.join(git.git_dir, "dv", "statcache.db")),
            shards=ShardSource(store),
            progress=progress,
        )
    except BaseException:
        git.close()
        raise
    return project, cwd


def _require_utf8_names() -> None:
    """SetupError where names of files are not read as UTF-8: manifests would have other names."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise SetupError(
            f"Python reads names of files as {encoding} here (the locale says so), and manifests "
            "have them as UTF-8",
            hint="set PYTHONUTF8=1 before Python starts, or a locale: LC_ALL=C.UTF-8",
        )


def close_project(project: Project) -> None:
    """Release files and processes."""
    project.workspace.close()
    project.store.close()
    project.statcache.close()
    project.git.close()
