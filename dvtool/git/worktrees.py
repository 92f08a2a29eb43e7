"""The worktrees of a repository, also those whose folder is gone, and work under way there."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from dvtool.git.process import find_folders
from dvtool.git.refs import Revisions

_ID = re.compile(rb"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")
_ID_OR_SHORT_ID = re.compile(rb"\b[0-9a-f]{4,64}\b")
_ID_LENGTH_MAX = 64
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
        args = ("worktree", "list", "--porcelain")
        result, end = self._run(*args, "-z", codes=(0, 129)), "\0"
        if result.status:  # git before 2.36 has no -z here
            result, end = self._run(*args), "\n"
        tops: list[str] = []
        for record in os.fsdecode(result.stdout).split(end + end):
            first, *attributes = record.split(end)
            top = first.removeprefix("worktree ")
            if "bare" not in attributes and os.path.isdir(top):
                tops.append(top)
        return tops

    def worktree_git_dirs(self) -> dict[str, str | None]:
        """Return the git folder of each worktree, and its top folder, None where that is gone.

        The repository itself is among them, with None if it is bare.
        """
        found: dict[str, str | None] = {self._common_dir: None}
        for top in self.worktrees():
            found[find_folders(top).git_dir] = top
        folder = os.path.join(self._common_dir, "worktrees")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if os.path.exists(os.path.join(folder, name, "HEAD")):
                found.setdefault(os.path.join(folder, name), None)
        return found

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
    # Git may end its work at any moment, and take its files away.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        with open(path, "rb") as file:
            end = b""
            while block := file.read(_BLOCK_BYTES):
                block = end + block
                yield from (name.decode("ascii") for name in pattern.findall(block))
                end = block[-_ID_LENGTH_MAX:]
