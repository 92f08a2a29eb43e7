"""Repositories named by a git URL: bare clones without files, in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit, urlunsplit

from dvtool.errors import DvError, UsageError, printable
from dvtool.format.digest import digest_of
from dvtool.git import Git
from dvtool.git.listing import OBJECT_ID
from dvtool.git.process import ShowProgress
from dvtool.project.opening import close_project, open_project
from dvtool.project.settings import Settings
from dvtool.snapshots.cache import default_folder, write_tag
from dvtool.system.atomic import make_folders
from dvtool.system.locking import locked
from dvtool.system.progress import SILENT

REPOSITORIES = "repositories"
CLONE_WAIT_S = 600.0
"""A clone by another process may take long."""
_SCP_LIKE = re.compile(r"(?:[\w.+-]+@)?[\w.-]+:(?!/?/)[^:].*|(?:[\w.+-]+@)[\w.-]+:.+")
_UNFINISHED = ".unfinished"
_NOT_GIVEN = "promisor remote"
"""Git's words where a server leaves files out of a clone, and does not give them later.

One does that which speaks the old protocol, as over an ssh that hands on no GIT_PROTOCOL.
"""


def is_url(repo: str) -> bool:
    """Tell a git URL from the path of a folder: one that exists is a folder."""
    if "://" in repo:
        return True
    return not os.path.exists(repo) and _SCP_LIKE.fullmatch(repo) is not None


def without_password(url: str) -> str:
    """Return a URL without a password in it; the user's name stays."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host))


def cache_folder(environ: Mapping[str, str]) -> str:
    """Return the cache folder where no repository's settings say another."""
    given = environ.get("DV_CACHE_PATH")
    return os.path.abspath(os.path.expanduser(given)) if given else default_folder(environ)


def clone_folder(url: str, environ: Mapping[str, str]) -> str:
    """Return where the clone of a URL belongs."""
    name = digest_of(without_password(url).encode("utf-8", "surrogateescape")).hex()[:32]
    return os.path.join(cache_folder(environ), REPOSITORIES, f"{name}.git")


def cached_clone(
    url: str, rev: str | None, environ: Mapping[str, str], progress: ShowProgress | None
) -> str:
    """Return the folder of the clone of a URL that has a revision, made or refreshed if need be.

    A branch or tag is looked up at its origin each time, a full commit id that is here is not. The
    remotes that `.dvconfig` names when the clone is made are trusted then: who typed the URL asked
    for this repository's data (decision 049).
    """
    folder = clone_folder(url, environ)
    with _cloning_alone(folder):
        if not os.path.isdir(folder):
            _clone(url, folder, environ, progress)
            fresh = True
        else:
            fresh = False
        with Git(worktree=None, git_dir=folder, common_dir=folder) as git:
            exact = rev is not None and OBJECT_ID.fullmatch(rev) is not None
            if exact and rev is not None:
                if not git.has_commit(rev) and not git.fetch_commit(rev):
                    git.refresh(progress=progress)
            elif not fresh:
                _refresh(git, url, progress)
    return folder


def _refresh(git: Git, url: str, progress: ShowProgress | None) -> None:
    try:
        git.refresh(progress=progress)
    except DvError as error:
        error.hint = error.hint or (
            f"see that {printable(without_password(url))} can be reached; what is here already can "
            "be read by a full commit id"
        )
        raise


def _clone(
    url: str, folder: str, environ: Mapping[str, str], progress: ShowProgress | None
) -> None:
    """Clone beside, and rename: a clone that was interrupted is none.

    Each begins in a folder of its own: git goes on for a while after its caller was killed.
    """
    for left in _unfinished(folder):
        shutil.rmtree(left, ignore_errors=True)
    beside = f"{folder}{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        Git.clone_bare(url, beside, cwd=os.getcwd(), progress=progress)
        try:
            _trust(beside, environ)
        except DvError as error:
            if _NOT_GIVEN not in str(error):
                raise
            shutil.rmtree(beside, ignore_errors=True)
            Git.clone_bare(url, beside, cwd=os.getcwd(), progress=progress, whole=True)
            _trust(beside, environ)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, DvError) and "://" not in url and "@" not in url:
            host = printable(url.partition(":")[0])
            error.hint = (
                f"{host} is taken for a host, as there is no revision of that name here: "
                "git log --oneline --all"
            )
        raise
    os.rename(beside, folder)


def _unfinished(folder: str) -> list[str]:
    """Return the folders in which a clone was begun that was not ended."""
    above, name = os.path.split(folder)
    begun = name + _UNFINISHED
    return [os.path.join(above, each) for each in os.listdir(above) if each.startswith(begun)]


def _trust(folder: str, environ: Mapping[str, str]) -> None:
    project, cwd = open_project(folder, environ, SILENT, reading=True, bare=True)
    try:
        Settings(project, cwd, environ).trust_first_use()
    finally:
        close_project(project)


@contextlib.contextmanager
def _cloning_alone(folder: str, *, wait_s: float = CLONE_WAIT_S) -> Iterator[None]:
    above = os.path.dirname(folder)
    make_folders(above)
    write_tag(os.path.dirname(above))
    with locked(
        folder + ".lock", wait_s=wait_s, busy=f"another process is cloning into {printable(folder)}"
    ):
        yield


def clones(folder: str) -> Iterator[tuple[str, int]]:
    """Yield the path and the size in bytes of each clone in a cache folder."""
    top = os.path.join(folder, REPOSITORIES)
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path = os.path.join(top, name)
        if os.path.isdir(path) and not os.path.islink(path):
            yield path, _folder_size(path)


def remove_clones(folder: str) -> int:
    """Remove all clones of a cache folder; return how many. BusyError if one is being made."""
    count = 0
    for path, _ in list(clones(folder)):
        with _cloning_alone(path.partition(_UNFINISHED)[0], wait_s=0):
            shutil.rmtree(path, ignore_errors=True)
            count += 1
    return count


def _folder_size(path: str) -> int:
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size


def require_folder(repo: str) -> str:
    """Return the absolute path of a folder; UsageError if there is none."""
    folder = os.path.abspath(repo)
    if not os.path.isdir(folder):
        raise UsageError(
            f"there is no folder {printable(repo)}, nor is that a git URL",
            hint="a URL is https://HOST/PATH, ssh://HOST/PATH, USER@HOST:PATH or file:///PATH",
        )
    return folder
