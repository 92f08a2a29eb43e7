"""The worktrees of a repository, including those whose folder is gone, and work under way there."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from dvtool.git.refs import Revisions

_ID = re.compile(rb"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")
_ID_OR_SHORT_ID = re.compile(rb"\b[0-9a-f]{4,64}\b")
_PATCHED_BLOBS = re.compile(rb"^index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})", re.MULTILINE)
"""The line of a patch, as `git am` keeps it, that names the file before and after, in short."""
_MATCH_LENGTH_MAX = len("index ..") + 2 * 64
_STATE_FILE = re.compile("[A-Z_]+")
_STATE_FOLDERS = ("rebase-merge", "rebase-apply", "sequencer")
_LISTS_OF_STEPS = frozenset({"todo", "done", "git-rebase-todo", "git-rebase-todo.backup"})
"""Files in which git and its users write ids in short."""
_STATE_REFS = (
    "ORIG_HEAD",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "AUTO_MERGE",
    "BISECT_HEAD",
    "BISECT_EXPECTED_REV",
    "MERGE_AUTOSTASH",
    "NOTES_MERGE_PARTIAL",
)
"""Names that are files, or with the reftable backend of git 2.45 entries in a table."""
_BLOCK_BYTES = 1 << 20


class Worktrees(Revisions):
    """The worktrees of a repository. Part of `Git`, by which it is used."""

    def worktrees(self) -> list[str]:
        """Return the top folders of all worktrees of this repository that exist, this one too."""
        return [top for top in self.worktree_git_dirs().values() if top is not None]

    def worktree_git_dirs(self) -> dict[str, str | None]:
        """Return the git folder of each worktree, and its top folder, None where that is gone.

        The repository itself is among them, with None if it is bare, or if git does not know where
        its files are (``git init --separate-git-dir``, asked from another worktree).
        """
        tops = {self._common_dir: self._main_top()}
        folder = os.path.join(self._common_dir, "worktrees")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            git_dir = os.path.join(folder, name)
            if os.path.exists(os.path.join(git_dir, "HEAD")):
                tops[git_dir] = _linked_top(git_dir)
        if self._worktree is not None and os.path.isdir(self._worktree):
            tops[self._git_dir] = self._worktree
        return tops

    def ids_in_state(self) -> set[str]:
        """Return the ids of all objects here that git's state files in this worktree name.

        That is ORIG_HEAD, FETCH_HEAD, MERGE_HEAD and the like (AUTO_MERGE names a tree), and the
        files of a rebase, am, bisect, cherry-pick or revert under way. HEAD, where it is detached,
        is among them; other refs are not. Tags are peeled.
        """
        names = set(_STATE_REFS)
        for path in _state_files(self._git_dir):
            names.update(_names_in(path))
        return set(self.kinds_of(names))

    # Private

    def _main_top(self) -> str | None:
        if self._git_dir == self._common_dir and self._worktree is not None:
            return None  # `worktree_git_dirs` adds this entry itself
        top = self._configured_top()
        if top is None:
            args = ("worktree", "list", "--porcelain")
            result, end = self._run(*args, "-z", codes=(0, 129)), "\0"
            if result.status:  # git before 2.36 has no -z here
                result, end = self._run(*args), "\n"
            first, *attributes = os.fsdecode(result.stdout).partition(end + end)[0].split(end)
            top = first.removeprefix("worktree ")
            if "bare" in attributes or top == self._common_dir:
                return None
        return top if os.path.isdir(top) else None

    def _configured_top(self) -> str | None:
        """Return where the files of a submodule are, which ``git worktree list`` does not know.

        None if the configuration does not know either.
        """
        for name in ("config.worktree", "config"):
            path = os.path.join(self._common_dir, name)
            if os.path.isfile(path):
                get = ("config", "--file", path, "-z", "--get", "core.worktree")
                top = os.fsdecode(self._run(*get, codes=(0, 1)).stdout).removesuffix("\0")
                if top:
                    return os.path.normpath(os.path.join(self._common_dir, top))
        return None


def _linked_top(git_dir: str) -> str | None:
    """Return the top folder of a linked worktree; None if it does not point back to `git_dir`."""
    try:
        with open(os.path.join(git_dir, "gitdir"), "rb") as file:
            link = os.path.join(git_dir, os.fsdecode(file.read()).rstrip())
        top = os.path.dirname(link)
        with open(link, "rb") as file:
            back = os.fsdecode(file.read()).rstrip().removeprefix("gitdir: ")
        points_back = os.path.samefile(os.path.join(top, back), git_dir)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return os.path.normpath(top) if points_back else None


def _state_files(git_dir: str) -> Iterator[str]:
    """Yield the paths of git's state files in the git folder of a worktree."""
    for name in os.listdir(git_dir):
        if _STATE_FILE.fullmatch(name):
            yield os.path.join(git_dir, name)
    for name in _STATE_FOLDERS:
        for folder, _, names in os.walk(os.path.join(git_dir, name), onerror=_refuse):
            yield from (os.path.join(folder, each) for each in names)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _names_in(path: str) -> Iterator[str]:
    """Yield what may be ids in a file, if it is an ordinary one, of any size."""
    pattern = _ID_OR_SHORT_ID if os.path.basename(path) in _LISTS_OF_STEPS else _ID
    # Git may end its work at any moment, and remove its state files.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        with open(path, "rb") as file:
            end = b""
            while block := file.read(_BLOCK_BYTES):
                block = end + block
                yield from (name.decode("ascii") for name in pattern.findall(block))
                for names in _PATCHED_BLOBS.findall(block):
                    yield from (name.decode("ascii") for name in names)
                end = block[-_MATCH_LENGTH_MAX:]
