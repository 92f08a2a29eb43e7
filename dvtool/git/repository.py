"""One repository, seen from one of its worktrees: its objects, files and settings."""

from __future__ import annotations

import os

from msgspec import structs

from dvtool.errors import UsageError, printable
from dvtool.git.config import GitConfig
from dvtool.git.listing import OBJECT_ID
from dvtool.git.manifests import Manifests
from dvtool.git.process import (
    Folders,
    ShowProgress,
    execute_long,
    find_folders,
    raise_failure,
)
from dvtool.git.saving import Saving
from dvtool.git.worktrees import Worktrees


class Git(Manifests, Saving, Worktrees):
    """One repository, seen from one of its worktrees. Close it, or use it in a ``with``.

    Its methods are defined by subject: `refs`, `objects`, `manifests`, `index`, `saving`,
    `worktrees`. Here are finding, cloning and settings. `config` reads and writes git's
    configuration.

    Errors, of every method: `BusyError` (another git holds the lock), `SetupError` (git or the
    repository cannot be used so), `DvError` with git's own words for all that git refuses.
    """

    def __init__(
        self, *, worktree: str | None, git_dir: str, common_dir: str, as_stored: bool = False
    ) -> None:
        """Open a repository whose folders are known (all absolute); see `discover`.

        With `as_stored` objects are those stored under their ids, whatever ``git replace`` says;
        git's own gc reads them in this way.
        """
        super().__init__(Folders(worktree, git_dir, common_dir), as_stored=as_stored)
        self.config = GitConfig(self._runner)

    @classmethod
    def discover(cls, cwd: str) -> Git:
        """Return the repository that git finds from the folder `cwd`; SetupError if none."""
        folders = find_folders(cwd)
        return cls(
            worktree=folders.worktree, git_dir=folders.git_dir, common_dir=folders.common_dir
        )

    @classmethod
    def clone(
        cls,
        url: str,
        directory: str | None,
        *,
        cwd: str,
        checkout: bool = True,
        progress: ShowProgress | None = None,
    ) -> str:
        """Clone a repository with git, which asks for credentials itself; return the folder.

        `progress` is called with what git says of its own.

        Which protocols a URL may use is git's to say (``protocol.*.allow``).
        """
        refuse_as_url(url)
        if directory is not None and directory.startswith("-"):
            directory = f"./{directory}"
        options = [*([] if checkout else ["--no-checkout"]), *(["--progress"] if progress else [])]
        named = () if directory is None else (directory,)
        result = execute_long(["clone", *options, "--", url, *named], cwd=cwd, progress=progress)
        first, _, rest = result.stderr.partition("'...\n")
        into = first.removeprefix("Cloning into '")
        if result.status or not (directory or into):
            raise_failure("clone", structs.replace(result, stderr=rest or first))
        return os.path.normpath(os.path.join(cwd, directory or into))

    def point_head(self, rev: str) -> str:
        """Let HEAD of a bare clone be a revision, detached; return its commit."""
        commit = self.resolve(rev)
        self._run_long("update-ref", "--no-deref", "HEAD", commit)
        return commit

    @classmethod
    def clone_bare(
        cls,
        url: str,
        folder: str,
        *,
        cwd: str,
        progress: ShowProgress | None = None,
        whole: bool = False,
    ) -> None:
        """Clone a repository's commits and folders without its files, which come when asked for.

        A server that cannot leave them out gives them all, and so does each with `whole`.
        """
        refuse_as_url(url)
        told = ("--progress",) if progress else ()
        left_out = () if whole else ("--filter=blob:none",)
        args = ("clone", "--bare", *left_out, *told, "--", url, folder)
        result = execute_long(args, cwd=cwd, progress=progress)
        if result.status:
            said = result.stderr.partition("'...\n")
            raise_failure("clone", structs.replace(result, stderr=said[2] or said[0]))

    def credential(self, url: str) -> tuple[str, str] | None:
        """Return user and password that git's helpers know for a URL, None if they know none.

        Nobody is asked at the terminal.
        """
        env = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true"}
        asked = f"url={url}\n\n".encode()
        answer = self._run("credential", "fill", stdin=asked, codes=None, env=env)
        lines = os.fsdecode(answer.stdout).splitlines()
        answered = dict(line.split("=", 1) for line in lines if "=" in line)
        if answer.status or not answered.get("password"):
            return None
        return answered.get("username", ""), answered["password"]

    def refresh(self, *, progress: ShowProgress | None = None) -> None:
        """Bring the branches, tags and HEAD of a bare clone to where its origin has them now.

        Git leaves out what was left out of the clone.
        """
        told = ("--progress",) if progress else ()
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        args = ("fetch", "--prune", "--force", *told, "origin", *refs)
        self._run_long(*args, progress=progress)
        listing = self._run_long("ls-remote", "--symref", "origin", "HEAD").stdout
        head = os.fsdecode(listing).partition("\t")[0]
        if head.startswith("ref: refs/heads/"):
            self._run("symbolic-ref", "HEAD", head[len("ref: ") :])

    def fetch_commit(self, commit: str) -> bool:
        """Get a commit by its full id from the origin; return whether it gave it."""
        args = ("fetch", "-q", "origin", commit)
        return not self._run_long(*args, codes=None).status

    def switch_fresh(self, rev: str) -> None:
        """Check out a revision in a clone made without: a branch of its origin, else detached.

        UsageError if there is no such revision; the default branch is then checked out.
        """
        top = self._require_worktree()
        if rev and not rev.startswith("-") and self._verify(f"refs/remotes/origin/{rev}"):
            start = f"refs/remotes/origin/{rev}"
            self._run_long("checkout", "-q", "-B", rev, "--track", start, "--")
            return
        try:
            commit = self.resolve(rev)
        except UsageError:
            # A server may allow to fetch a commit that no branch reaches by its id.
            fetch = ("fetch", "-q", "origin", rev)
            if not OBJECT_ID.fullmatch(rev) or self._run_long(*fetch, codes=None).status:
                self._run_long("checkout", "-q", codes=None)
                raise UsageError(
                    f"{printable(rev)} is no revision there; its default branch is checked out",
                    hint=f"look for it: git -C {printable(top)} log --oneline --all",
                ) from None
            commit = rev
        self._run_long("checkout", "-q", "--detach", commit, "--")

    def hooks_folder(self) -> str:
        """Return the folder, absolute, in which git looks for this repository's hooks."""
        result = self._run("rev-parse", "--path-format=absolute", "--git-path", "hooks")
        return os.fsdecode(result.stdout).removesuffix("\n")

    def config_items_at(self, rev: str, path: str) -> list[tuple[str, str]]:
        """Return key and value of each setting in a committed file; none where it is not there."""
        commit = self._verify(rev)
        if commit is None or self.blob_at(commit, path) is None:
            return []
        return self.config.items_of_blob(f"{commit}:{path}", path)


def refuse_as_url(url: str) -> None:
    """Raise a UsageError for what git would take for an option, or for nothing."""
    if not url or url.startswith("-"):
        raise UsageError(f"not the URL of a repository: {printable(url) or repr(url)}")
