"""Opening a repository, and what it is: its parts, its settings, its targets, its paths."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from dvtool.errors import SetupError
from dvtool.git import Git
from dvtool.project.arguments import Arguments
from dvtool.project.links import read_links
from dvtool.project.parts import Project
from dvtool.project.settings import Settings, load_config
from dvtool.project.shards import ShardSource
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later
from dvtool.system.progress import SILENT, Progress
from dvtool.workspace.files import Workspace
from dvtool.workspace.statcache import StatCache

if TYPE_CHECKING:
    from dvtool.project import candidates, preserve
else:
    candidates = later("dvtool.project.candidates")
    preserve = later("dvtool.project.preserve")

NO_WORKTREE = "no-worktree"
STORE_NOTE = "store-path"
"""The file, in git's folder, that says where `store.path` led when the store was used last."""


def open_project(
    cwd: str,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    reading: bool = False,
    bare: bool = False,
) -> tuple[Project, str]:
    """Open the repository around the folder `cwd`; return the folder that paths are relative to.

    Settings `DV_*` are taken from `environ`. No remote is asked for shards that are missing. With
    `reading` the local store is only read, and nothing is made in it. With `bare` the folder is
    known to be a bare repository, wherever it lies.
    """
    _require_utf8_names()
    git = Git(worktree=None, git_dir=cwd, common_dir=cwd) if bare else Git.discover(cwd)
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
        store = LocalStore(folder, note=note, clone=clone, reading=reading)
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


def reopen_project(project: Project, cwd: str) -> tuple[Project, str]:
    """Open anew, for reading, what the parent of this process has open; see `open_project`.

    Its settings are taken over, so git is asked nothing. `cwd` is the folder that it was found by.
    """
    git, workspace, store = project.git, project.workspace, project.store.to_read()
    anew = Project(
        git=Git(worktree=git.worktree, git_dir=git.git_dir, common_dir=git.common_dir),
        config=project.config,
        workspace=Workspace(workspace.root, modes=project.config.modes, links=workspace.links),
        store=store,
        statcache=StatCache(os.path.join(git.git_dir, "dv", "statcache.db")),
        shards=ShardSource(store),
        progress=SILENT,
    )
    return anew, cwd if git.worktree is not None else workspace.root


def environment(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return where settings `DV_*` are taken from: as given, else the environment as it is now."""
    return os.environ if environ is None else environ


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


class OpenRepository:
    """A repository that is open. Use as a context manager, or `close` it.

    `config` has its settings and remotes. Paths are given as a user types them, relative to the
    folder in which the repository was opened: one, or several, as text or as `Path`.
    """

    def __init__(self, project: Project, cwd: str, *, environ: Mapping[str, str]) -> None:
        self.config = Settings(project, cwd, environ)
        self._project = project
        self.arguments = self._arguments = Arguments(project, cwd)
        self._environ = environ

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        environ: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Self:
        """Open the repository around a folder.

        Settings `DV_*` are taken from `environ`; without it, from the environment of this process,
        as the command does. With `environ={}` there are none.
        """
        environ = environment(environ)
        project, cwd = open_project(os.path.abspath(path), environ, progress)
        return cls(project, cwd, environ=environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was learned of remotes; release files and processes."""
        self.config.remember_features()
        close_project(self._project)

    @staticmethod
    def _environment(given: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return the environment of a program to start: as given, or that of this process."""
        return os.environ if given is None else given

    @property
    def set_up(self) -> bool:
        """Whether `init` was run here or where this was cloned from, or there are targets."""
        return self.config.initialised or bool(self.targets())

    def targets(self) -> list[str]:
        """Return the targets whose manifests are in the worktree, sorted."""
        return self._project.targets()

    @property
    def saved_folder(self) -> str:
        """The folder of the lists of what `--force` replaced, from the top of the worktree."""
        return os.path.relpath(preserve.saved_folder(self._project), self._project.root)

    def shown(self, path: str) -> str:
        """Return a path from the top of the worktree as the user would type it here."""
        return self._arguments.shown(path)

    def shown_in(self, target: str, path: str) -> str:
        """Return the path of an entry of a target as the user would type it here."""
        return self._arguments.shown_in(target, path)

    def candidates(self, begun: str, *, rev: str | None = None) -> list[str]:
        """Return what paths may follow what was typed so far, here or in a revision."""
        return candidates.path_candidates(self._project, self._arguments, begun, rev=rev)

    def revisions(self) -> list[str]:
        """Return HEAD and the names of branches and tags."""
        return candidates.revision_candidates(self._project)
