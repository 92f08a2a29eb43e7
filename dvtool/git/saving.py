"""The worktree as a commit on no branch, refs of our own, and worktrees made for a commit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from dvtool.git.index import Index, left_out_pathspec
from dvtool.git.listing import nul_list
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import shutil
    import tempfile
else:
    shutil = later("shutil")
    tempfile = later("tempfile")

ChangeKind: TypeAlias = Literal["tracked", "untracked", "conflicted", "submodule", "repository"]
_DURABLE = ("-c", "core.fsync=all")
"""By default git does not flush the objects that a ref of ours is about to name."""
_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
_IDENTITY = {
    f"GIT_{role}_{field}": text
    for role in ("AUTHOR", "COMMITTER")
    for field, text in (("NAME", "dv run"), ("EMAIL", "dv-run@localhost"))
}


class FileChange(msgspec.Struct, frozen=True):
    """A file in the worktree that is not as HEAD has it.

    A `submodule` has changes of its own; a `repository` is another one, untracked, in the worktree.
    """

    path: str
    kind: ChangeKind


class Saving(Index):
    """Keeping a worktree that nobody committed. Part of `Git`, by which it is used."""

    def changes(self, *, exclude: Sequence[str] = ()) -> list[FileChange]:
        """Return the files that differ from HEAD, staged or not, and those untracked, sorted.

        Ignored files are none, nor are files in or below the paths to `exclude`.
        """
        self._require_worktree()
        listing = self._run(
            *("status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=all"),
            *("--", ":(top)", *map(left_out_pathspec, exclude)),
        ).stdout
        return sorted(map(_change_of, listing.split(b"\0")[:-1]), key=lambda change: change.path)

    def commit_worktree(
        self, message: str, *, exclude: Sequence[str], instead: Mapping[str, bytes]
    ) -> str:
        """Make a commit of all files of the worktree that git does not ignore; return its id.

        `instead` has files that are to be others than on the disk. The index, HEAD and the branch
        stay as they are; no ref names the commit yet.
        """
        self._require_worktree()
        with tempfile.TemporaryDirectory(prefix="dv-index-") as folder:
            env = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
            if os.path.exists(self._index_path()):
                # With its time, by which git tells files that changed just after they were staged.
                shutil.copy2(self._index_path(), env["GIT_INDEX_FILE"])
            # git refuses to add with a pathspec, be it for leaving out, that its rules ignore.
            ignored = self.ignored(exclude)
            named = [path for path in exclude if path not in ignored]
            paths = (":(top)", *map(left_out_pathspec, named))
            self._run(*_DURABLE, "add", "--all", "--", *paths, env=env)
            for path, data in instead.items():
                blob = self._written("hash-object", "-w", "--stdin", stdin=data)
                line = f"100644 {blob}\t".encode() + nul_list([path])
                self._run("update-index", "-z", "--add", "--index-info", stdin=line, env=env)
            tree = self._written("write-tree", env=env)
        head = self.head()
        parents = ("-p", head) if head else ()
        return self._written("commit-tree", tree, *parents, "-m", message, env=_IDENTITY)

    def make_ref(self, name: str, commit: str) -> None:
        """Let a new ref name a commit."""
        self._run(*_DURABLE, "update-ref", name, commit, "0" * len(commit))

    def add_worktree(self, path: str, commit: str) -> None:
        """Make a worktree for a commit, with no branch, and without running hooks."""
        self._run_long(*_NO_HOOKS, "worktree", "add", "-q", "--detach", path, commit)

    def remove_worktree(self, path: str) -> None:
        """Remove a worktree with all that is in it."""
        self._run_long("worktree", "remove", "--force", path)

    # Private

    def _written(
        self, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        result = self._run(*_DURABLE, *args, stdin=stdin, env=env)
        return result.stdout.decode("ascii").strip()


def _change_of(line: bytes) -> FileChange:
    """Return what a line of ``git status --porcelain=v2 -z`` says."""
    if line.startswith(b"?"):
        path = os.fsdecode(line[2:])
        return FileChange(path, "repository" if path.endswith("/") else "untracked")
    fields = 10 if line.startswith(b"u") else 8
    parts = line.split(b" ", fields)
    kind: ChangeKind = "tracked"
    if line.startswith(b"u"):
        kind = "conflicted"
    elif parts[2][2:] not in (b".", b"..") and parts[2].startswith(b"S"):
        kind = "submodule"
    return FileChange(os.fsdecode(parts[-1]), kind)
