"""How each tool does each step of the same story. A tool leaves out what it has no command for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Bench, Command

SETUP = "setup"
COMMIT = "commit"
COMMIT_EDIT = "commit edit"
SETTLE = "settle"
"""Steps that are not measured."""

ADD = "add"
STATUS = "status"
ADD_AGAIN = "add again"
PUSH = "push"
PUSH_AGAIN = "push again"
PULL = "clone and pull"
PULL_AGAIN = "pull again"
FETCH_AGAIN = "fetch again"
CHECKOUT_AGAIN = "checkout again"
ADD_EDIT = "add the edit"
PUSH_EDIT = "push the edit"
BACK = "switch back"
FORTH = "switch forth"
BACKUP = "add and push"
BACKUP_AGAIN = "add and push again"
BACKUP_EDIT = "add and push the edit"
SUMS = {
    BACKUP: (ADD, PUSH),
    BACKUP_AGAIN: (ADD_AGAIN, PUSH_AGAIN),
    BACKUP_EDIT: (ADD_EDIT, PUSH_EDIT),
}
"""One step for restic and git-annex's like; for others the sum of two."""

STEPS = (
    *(ADD, STATUS, ADD_AGAIN, PUSH, BACKUP, PUSH_AGAIN, BACKUP_AGAIN, PULL, PULL_AGAIN),
    *(FETCH_AGAIN, CHECKOUT_AGAIN, ADD_EDIT, PUSH_EDIT, BACKUP_EDIT, BACK, FORTH),
)
"""In the order in which tables show them."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one run of the story."""

    top: Path

    @property
    def repo(self) -> Path:
        return self.top / "repo"

    @property
    def clone(self) -> Path:
        return self.top / "clone"

    @property
    def remote(self) -> Path:
        """Where the tool puts content for others."""
        return self.top / "remote"

    @property
    def bare(self) -> Path:
        """A bare repository, for tools that need git's own push."""
        return self.top / "bare.git"


Steps = Mapping[str, tuple[Command, ...]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its steps at a place, and where it keeps what."""

    name: str
    title: str
    steps: Callable[[Place], Steps]
    version: tuple[str, ...]
    kept: str = ""
    """The folder in a repository that holds content for this machine."""
    remote: Callable[[Place], Path] = lambda place: place.remote
    note: str = ""


def run(cwd: Path, *argv: str | Path) -> Command:
    """A command that is measured."""
    return Command(tuple(str(one) for one in argv), cwd)


def aside(cwd: Path, *argv: str | Path) -> Command:
    """A command that is needed but not measured."""
    return Command(tuple(str(one) for one in argv), cwd, timed=False)


def committed(repo: Path, message: str) -> tuple[Command, ...]:
    """git's part, which is the same for all and not measured."""
    return (aside(repo, "git", "add", "-A"), aside(repo, "git", "commit", "-q", "-m", message))


def in_git(place: Place) -> dict[str, tuple[Command, ...]]:
    """What all tools that live in a git repository do alike."""
    repo = place.repo
    return {
        COMMIT: (*committed(repo, "before"), aside(repo, "git", "branch", "before")),
        COMMIT_EDIT: committed(repo, "after"),
    }


def git_clone(place: Place, source: str | Path) -> Command:
    return run(place.top, "git", "clone", "-q", source, place.clone)


def dv(place: Place) -> Steps:
    repo, clone = place.repo, place.clone
    return in_git(place) | {
        SETUP: (
            aside(place.top, "git", "init", "-q", repo),
            aside(repo, "dv", "init", "--remote", place.remote),
        ),
        ADD: (run(repo, "dv", "add", "data"),),
        SETTLE: (aside(repo, "dv", "status"),),
        STATUS: (run(repo, "dv", "status"),),
        ADD_AGAIN: (run(repo, "dv", "add", "data"),),
        PUSH: (run(repo, "dv", "push"),),
        PUSH_AGAIN: (run(repo, "dv", "push"),),
        PULL: (
            git_clone(place, repo),
            aside(clone, "dv", "init", "--remote", place.remote),
            run(clone, "dv", "pull"),
        ),
        PULL_AGAIN: (run(clone, "dv", "pull"),),
        FETCH_AGAIN: (run(clone, "dv", "fetch"),),
        CHECKOUT_AGAIN: (run(clone, "dv", "checkout"),),
        ADD_EDIT: (run(repo, "dv", "add", "data"),),
        PUSH_EDIT: (run(repo, "dv", "push"),),
        # The hook that `dv init` put in place brings the data in step.
        BACK: (run(repo, "git", "checkout", "-q", "before"),),
        FORTH: (run(repo, "git", "checkout", "-q", "main"),),
    }


def dvc(place: Place) -> Steps:
    repo, clone = place.repo, place.clone
    return in_git(place) | {
        SETUP: (
            aside(place.top, "git", "init", "-q", repo),
            aside(repo, "dvc", "init", "-q"),
            aside(repo, "dvc", "config", "core.analytics", "false"),
            aside(repo, "dvc", "config", "core.check_update", "false"),
            aside(repo, "dvc", "remote", "add", "-q", "-d", "origin", place.remote),
        ),
        ADD: (run(repo, "dvc", "add", "data"),),
        SETTLE: (aside(repo, "dvc", "status"),),
        STATUS: (run(repo, "dvc", "status"),),
        ADD_AGAIN: (run(repo, "dvc", "add", "data"),),
        PUSH: (run(repo, "dvc", "push"),),
        PUSH_AGAIN: (run(repo, "dvc", "push"),),
        PULL: (git_clone(place, repo), run(clone, "dvc", "pull")),
        PULL_AGAIN: (run(clone, "dvc", "pull"),),
        FETCH_AGAIN: (run(clone, "dvc", "fetch"),),
        CHECKOUT_AGAIN: (run(clone, "dvc", "checkout"),),
        ADD_EDIT: (run(repo, "dvc", "add", "data"),),
        PUSH_EDIT: (run(repo, "dvc", "push"),),
        BACK: (run(repo, "git", "checkout", "-q", "before"), run(repo, "dvc", "checkout")),
        FORTH: (run(repo, "git", "checkout", "-q", "main"), run(repo, "dvc", "checkout")),
    }


def lfs(place: Place) -> Steps:
    repo, clone = place.repo, place.clone
    return in_git(place) | {
        SETUP: (
            aside(place.top, "git", "init", "-q", "--bare", place.bare),
            aside(place.top, "git", "init", "-q", repo),
            aside(repo, "git", "remote", "add", "origin", f"file://{place.bare}"),
            aside(repo, "git", "lfs", "track", "data/**"),
            aside(repo, "git", "add", ".gitattributes"),
        ),
        ADD: (run(repo, "git", "add", "data"),),
        SETTLE: (aside(repo, "git", "status"),),
        STATUS: (run(repo, "git", "status"),),
        ADD_AGAIN: (run(repo, "git", "add", "data"),),
        PUSH: (
            run(repo, "git", "lfs", "push", "origin", "main"),
            aside(repo, "git", "push", "-q", "-u", "origin", "main"),
        ),
        PUSH_AGAIN: (run(repo, "git", "lfs", "push", "origin", "main"),),
        PULL: (git_clone(place, f"file://{place.bare}"),),
        PULL_AGAIN: (run(clone, "git", "lfs", "pull"),),
        FETCH_AGAIN: (run(clone, "git", "lfs", "fetch"),),
        CHECKOUT_AGAIN: (run(clone, "git", "lfs", "checkout"),),
        ADD_EDIT: (run(repo, "git", "add", "-A", "data"),),
        PUSH_EDIT: (
            run(repo, "git", "lfs", "push", "origin", "main"),
            aside(repo, "git", "push", "-q", "origin", "main"),
        ),
        BACK: (run(repo, "git", "checkout", "-q", "before"),),
        FORTH: (run(repo, "git", "checkout", "-q", "main"),),
    }


def annex(place: Place) -> Steps:
    repo, clone = place.repo, place.clone
    directory = ("type=directory", f"directory={place.remote}", "encryption=none")
    get = ("git", "annex", "get", "-q", "--jobs=cpus", "--from", "store", "data")
    copy = ("git", "annex", "copy", "-q", "--jobs=cpus", "--to", "store", "data")
    return in_git(place) | {
        SETUP: (
            aside(place.top, "git", "init", "-q", repo),
            aside(repo, "git", "annex", "init", "-q", "repo"),
            aside(place.top, "mkdir", place.remote),
            aside(repo, "git", "annex", "initremote", "-q", "store", *directory),
        ),
        ADD: (run(repo, "git", "annex", "add", "-q", "--jobs=cpus", "data"),),
        SETTLE: (aside(repo, "git", "status"),),
        STATUS: (run(repo, "git", "status"),),
        ADD_AGAIN: (run(repo, "git", "annex", "add", "-q", "--jobs=cpus", "data"),),
        PUSH: (run(repo, *copy),),
        PUSH_AGAIN: (run(repo, *copy),),
        PULL: (
            git_clone(place, repo),
            aside(clone, "git", "annex", "init", "-q", "clone"),
            aside(clone, "git", "annex", "enableremote", "-q", "store", directory[1]),
            aside(clone, "git", "config", "remote.store.annex-verified", "verified"),
            run(clone, *get),
        ),
        PULL_AGAIN: (run(clone, *get),),
        ADD_EDIT: (run(repo, "git", "annex", "add", "-q", "--jobs=cpus", "data"),),
        PUSH_EDIT: (run(repo, *copy),),
        BACK: (run(repo, "git", "checkout", "-q", "before"),),
        FORTH: (run(repo, "git", "checkout", "-q", "main"),),
    }


def restic(place: Place) -> Steps:
    backup = run(place.repo, "restic", "-q", "-r", place.remote, "backup", "data")
    return {
        SETUP: (
            aside(place.top, "mkdir", place.repo),
            aside(place.top, "restic", "-q", "-r", place.remote, "init"),
        ),
        BACKUP: (backup,),
        BACKUP_AGAIN: (backup,),
        PULL: (
            run(
                place.top,
                *("restic", "-q", "-r", place.remote, "restore", "latest", "--target", place.clone),
            ),
        ),
        BACKUP_EDIT: (backup,),
    }


def copy(place: Place) -> Steps:
    sync = run(place.top, "sync", "-f", place.top)
    return {
        SETUP: (aside(place.top, "mkdir", place.repo, place.clone),),
        ADD: (run(place.top, "cp", "-r", place.repo / "data", place.remote), sync),
        PULL: (run(place.top, "cp", "-r", place.repo / "data", place.clone / "data"), sync),
    }


def git(place: Place) -> Steps:
    repo = place.repo
    return in_git(place) | {
        SETUP: (aside(place.top, "git", "init", "-q", repo),),
        ADD: (run(repo, "git", "add", "data"),),
        SETTLE: (aside(repo, "git", "status"),),
        STATUS: (run(repo, "git", "status"),),
        ADD_AGAIN: (run(repo, "git", "add", "data"),),
        ADD_EDIT: (run(repo, "git", "add", "-A", "data"),),
        BACK: (run(repo, "git", "checkout", "-q", "before"),),
        FORTH: (run(repo, "git", "checkout", "-q", "main"),),
    }


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "dv",
            "dvtool",
            dv,
            ("dv", "--version"),
            ".git/dv",
            note="a switch is `git checkout`: its hook brings the data in step",
        ),
        Tool("dvc", "DVC", dvc, ("dvc", "--version"), ".dvc/cache"),
        Tool(
            "git-lfs",
            "git-lfs",
            lfs,
            ("git", "lfs", "version"),
            ".git/lfs",
            remote=lambda place: place.bare / "lfs",
            note="content goes to a bare repository by git-lfs's own transfer for file:// URLs",
        ),
        Tool(
            "git-annex",
            "git-annex",
            annex,
            ("git-annex", "version", "--raw"),
            ".git/annex",
            note="files are symlinks into the annex; a switch changes links, not files",
        ),
        Tool(
            "restic",
            "restic",
            restic,
            ("restic", "version"),
            note="a backup program: stores in its repository at once; no status, no switch",
        ),
        Tool("cp", "cp -r + sync", copy, ("cp", "--version"), note="a copy, flushed to the disk"),
        Tool(
            "git", "git", git, ("git", "--version"), ".git/objects", note="the files in git itself"
        ),
    )
}


def environment(work: Path, paths: tuple[Path, ...]) -> dict[str, str]:
    """Return the environment of all tools: the same settings for all, and none of the user's."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {key: os.environ[key] for key in ("LANG", "LC_ALL", "TMPDIR") if key in os.environ}
    return kept | {
        "PATH": os.pathsep.join([*(str(path) for path in paths), os.environ["PATH"]]),
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(work / "run" / "dvc-site"),
        "RESTIC_PASSWORD": "benchmark",
        "RESTIC_CACHE_DIR": str(work / "run" / "restic-cache"),
    }


GITCONFIG = """\
[user]
    name = Benchmark
    email = benchmark@example.org
[init]
    defaultBranch = main
[gc]
    auto = 0
[maintenance]
    auto = false
[protocol "file"]
    allow = always
[safe]
    directory = *
"""


def prepare_home(bench: Bench, *, has_lfs: bool) -> None:
    """Write git's settings for all tools; with git-lfs, its filter."""
    Path(bench.env["GIT_CONFIG_GLOBAL"]).write_text(GITCONFIG)
    if has_lfs:
        bench.run(aside(bench.work, "git", "lfs", "install", "--skip-repo"))
