"""The worktrees of a repository, also those whose folder is gone."""

from __future__ import annotations

import os

from dvtool.git.process import Pinned, find_folders


class Worktrees(Pinned):
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
