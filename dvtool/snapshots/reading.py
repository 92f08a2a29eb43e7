"""`dvtool.snapshot`, `open`, `read` and `ls`: the data of a revision, of any repository."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from typing import IO, Literal, overload

from dvtool.errors import UsageError, printable
from dvtool.git.listing import OBJECT_ID
from dvtool.git.refs import head_unasked
from dvtool.project.ledger import commit_of_run
from dvtool.project.opening import close_project, environment, open_project
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.snapshots.cache import cache_of
from dvtool.snapshots.file import SnapshotFile
from dvtool.snapshots.foreign import cached_clone, is_url, require_folder, without_password
from dvtool.snapshots.git_bar import git_bar
from dvtool.snapshots.listed import Listed
from dvtool.snapshots.opened import Handle, OpenedRepository
from dvtool.snapshots.snapshot import Snapshot, SnapshotPath, read_manifests
from dvtool.system.progress import SILENT


def snapshot(
    rev: str | None = None,
    repo: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Snapshot:
    """Return the data of a revision, to be read without a checkout.

    Without one it is HEAD; in a command of `dv run`, of its own repository, the commit of the run.

    `repo` is a folder of the repository, or any git URL; without it the repository is the one
    around the current folder. Of a URL a clone without files is made in the user's cache folder,
    with a progress bar on a terminal or in a notebook, and refreshed unless `rev` is a full
    commit id. Settings `DV_*` are taken from `environ`; without it, from the environment of this
    process. UsageError for a revision that is unknown, SetupError where there is no repository.
    """
    used = environment(environ)
    name = os.fspath(repo) if repo is not None else os.curdir
    url = name if is_url(name) else None
    if url is not None:
        with git_bar(f"cloning {without_password(url)}") as progress:
            folder = cached_clone(url, rev, used, progress)
    else:
        folder = require_folder(name)
    project, cwd = open_project(folder, used, SILENT, reading=True, bare=url is not None)
    try:
        of_run = commit_of_run(project.git.worktree, used) if rev is None else None
        commit = project.git.resolve((of_run or "HEAD") if rev is None else rev)
        manifests = read_manifests(project, commit)
    except BaseException as error:
        close_project(project)
        if url is not None and isinstance(error, UsageError):
            error.hint = (
                f"see its branches and tags: git ls-remote {printable(without_password(url))}"
            )
        raise
    settings, cache = Settings(project, cwd, used), cache_of(project, used)
    opened = OpenedRepository(project, settings, commit, cache=cache, owned=True, url=url)
    top = project.git.worktree or project.git.git_dir
    return Snapshot(Handle(top, commit, environ, opened, url=url), manifests)


def snapshot_of(
    project: Project, rev: str | None = None, *, environ: Mapping[str, str] | None = None
) -> Snapshot:
    """Return the data of a revision of a repository that is open; it opens its own connections."""
    return snapshot(rev, project.git.worktree or project.git.git_dir, environ=environ)


def read(
    path: SnapshotPath, *, rev: str | None = None, repo: str | os.PathLike[str] | None = None
) -> bytes:
    """Return the bytes of a file of a revision; see `snapshot` and `Snapshot.read`.

    A branch of a `repo` that is a URL is looked up at its origin every 30 seconds at most.
    """
    return _recent_snapshot(rev, repo).read(path)


def ls(
    path: SnapshotPath = "",
    *,
    rev: str | None = None,
    repo: str | os.PathLike[str] | None = None,
) -> list[Listed]:
    """Return what is directly in a folder of a revision; see `snapshot` and `Snapshot.ls`.

    A branch of a `repo` that is a URL is looked up at its origin every 30 seconds at most.
    """
    return _recent_snapshot(rev, repo).ls(path)


@overload
def open(
    path: SnapshotPath,
    mode: Literal["r", "rt", "tr"] = ...,
    *,
    rev: str | None = ...,
    repo: str | os.PathLike[str] | None = ...,
    buffering: int = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    newline: str | None = ...,
) -> io.TextIOWrapper: ...
@overload
def open(
    path: SnapshotPath,
    mode: Literal["rb", "br"],
    *,
    rev: str | None = ...,
    repo: str | os.PathLike[str] | None = ...,
) -> io.BufferedReader[SnapshotFile]: ...
@overload
def open(
    path: SnapshotPath,
    mode: str,
    *,
    rev: str | None = ...,
    repo: str | os.PathLike[str] | None = ...,
    buffering: int = ...,
    encoding: str | None = ...,
    errors: str | None = ...,
    newline: str | None = ...,
) -> IO[str] | IO[bytes] | SnapshotFile: ...


def open(
    path: SnapshotPath,
    mode: str = "r",
    *,
    rev: str | None = None,
    repo: str | os.PathLike[str] | None = None,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> IO[str] | IO[bytes] | SnapshotFile:
    """Open a file of a revision for reading, as `open` opens one of the disk.

    `rev` and `repo` are those of `snapshot`; `path` is from the top of the repository. A branch of
    a `repo` that is a URL is looked up at its origin every 30 seconds at most. Of many
    files take `snapshot` once: it need not look for the repository each time.
    """
    return _recent_snapshot(rev, repo).open(
        path, mode, buffering=buffering, encoding=encoding, errors=errors, newline=newline
    )


_KEPT_MAX = 8
_snapshots: dict[tuple[str, str | None, str], Snapshot] = {}
"""The snapshots that `open`, `read` and `ls` used last, by folder, GIT_DIR and commit."""
_of_urls: dict[tuple[str, str | None], tuple[float, Snapshot]] = {}
"""When the snapshots of URLs that were used last were looked up, by URL and revision."""
LOOK_UP_EVERY_S = 30.0
_known: dict[tuple[str, str | None], tuple[str, str, str]] = {}
"""Of the repositories used last: the git folder, the one that all worktrees share, and the top."""


def _recent_snapshot(rev: str | None, repo: str | os.PathLike[str] | None) -> Snapshot:
    """Return a snapshot as `snapshot` does; one of the same commit that was used before, if any."""
    name = os.fspath(repo) if repo is not None else os.curdir
    if is_url(name):
        return _recent_of_url(rev, name)
    folder = os.path.abspath(name)
    git_dir = environment(None).get("GIT_DIR")
    commit = _commit_unasked(rev, _known.get((folder, git_dir)))
    kept = _snapshots.pop((folder, git_dir, commit), None) if commit is not None else None
    if kept is None:
        while len(_snapshots) >= _KEPT_MAX:
            _snapshots.popitem()
            _known.clear()
        kept = snapshot(rev, folder)
        _known[folder, git_dir] = (*kept.git_dirs, kept.repo)
    _snapshots[folder, git_dir, kept.commit] = kept
    return kept


def _recent_of_url(rev: str | None, url: str) -> Snapshot:
    """Return a snapshot of a URL; a branch that was looked up a moment ago is not looked up again.

    Else each of many reads would wait for the network.
    """
    now = time.monotonic()
    kept = _of_urls.get((url, rev))
    if kept is None or (kept[0] < now - LOOK_UP_EVERY_S and kept[1].commit != rev):
        kept = now, snapshot(rev, url)
        while len(_of_urls) >= _KEPT_MAX:
            _of_urls.popitem()
        _of_urls[url, rev] = kept
    return kept[1]


def _commit_unasked(rev: str | None, known: tuple[str, str, str] | None) -> str | None:
    """Return the commit of a revision if that takes no git: a full id, HEAD, or that of a run."""
    if known is None:
        return None
    git_dir, common_dir, top = known
    if rev is not None and OBJECT_ID.fullmatch(rev):
        return rev
    if rev not in (None, "HEAD"):
        return None
    of_run = commit_of_run(top, environment(None)) if rev is None else None
    return of_run or head_unasked(git_dir, common_dir)
