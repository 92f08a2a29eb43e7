"""The index and the working tree: which files git tracks, and changes to them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dvtool.errors import BusyError, printable
from dvtool.format.paths import RUNS_FOLDER, SUFFIX
from dvtool.git.listing import FILE_MODES, Staged, new_side, nul_list, paths_in
from dvtool.git.refs import Revisions

_NO_MANIFESTS = f":(top,exclude,glob)**/*{SUFFIX}"
_NO_RUNS = f":(top,exclude,glob){RUNS_FOLDER}/**"
_PATHS_ON_STDIN = ("--pathspec-from-file=-", "--pathspec-file-nul")


def left_out_pathspec(path: str) -> str:
    """Return the pathspec that leaves out a path from the top of the worktree, and all below it."""
    return f":(top,exclude,literal){path}"


class Index(Revisions):
    """The index of a worktree. Part of `Git`, by which it is used."""

    def tracked_under(self, path: str) -> list[str]:
        """Return the paths that git tracks at `path` or below it (``""`` is the whole tree)."""
        self._require_worktree()
        listing = self._run("ls-files", "-z", "--", path or ".", literal=True)
        return sorted(set(paths_in(listing.stdout)))

    def untracked(self, name: str) -> list[str]:
        """Return the files in the working tree, ignored or not, that git does not track and whose
        own name matches a pattern. Nested repositories are left out.
        """
        self._require_worktree()
        listing = self._run("ls-files", "-z", "-o", "--", f":(top,glob)**/{name}")
        return sorted(paths_in(listing.stdout))

    def staged(self) -> list[Staged]:
        """Return the files that are staged and differ from HEAD, without removed ones."""
        self._require_worktree()
        listing = self._run(
            *("diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames"),
            "--diff-filter=AMT",
        ).stdout
        files: list[Staged] = []
        fields = iter(listing.split(b"\0"))
        for field in fields:
            if field:
                mode, blob = new_side(field)
                path = os.fsdecode(next(fields))
                if mode in FILE_MODES:
                    files.append(Staged(path, blob))
        return files

    def ignored(self, paths: Sequence[str]) -> set[str]:
        """Return those of the paths that git's rules ignore, tracked or not."""
        self._require_worktree()
        options = ("check-ignore", "--no-index", "-z", "--stdin")
        listing = self._run(*options, stdin=nul_list(paths), codes=(0, 1))
        return set(paths_in(listing.stdout))

    def attributes(self, names: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return path -> attribute -> its state: `unspecified`, `set`, `unset` or a value."""
        self._require_worktree()
        listing = self._run("check-attr", "-z", "--stdin", *names, stdin=nul_list(paths))
        fields = paths_in(listing.stdout)
        states: dict[str, dict[str, str]] = {}
        for path, name, state in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            states.setdefault(path, {})[name] = state
        return states

    def is_dirty(self, *, exclude_untracked: bool = True, exclude_manifests: bool = False) -> bool:
        """Tell whether tracked files, staged or on disk, differ from HEAD.

        Records of runs do not count: a run is no change of what it ran with.
        """
        self._require_worktree()
        untracked = "no" if exclude_untracked else "normal"
        but = ["--", ":(top)", _NO_RUNS, *([_NO_MANIFESTS] if exclude_manifests else [])]
        listing = self._run(
            *("status", "--porcelain=v2", "-z", "--no-renames", f"--untracked-files={untracked}"),
            *but,
        )
        return any(not line.startswith(b"#") for line in listing.stdout.split(b"\0")[:-1])

    def refuse_if_index_is_locked(self) -> None:
        """Raise a BusyError if another git is changing the index, before work relies on it."""
        lock = self._index_path() + ".lock"
        if os.path.lexists(lock):
            raise BusyError(
                f"another git process is at work in this repository ({printable(lock)}); "
                "nothing was changed",
                hint="wait for the other git command to end, then run it again; if there is none, "
                "remove that file",
            )

    def stage(self, paths: Sequence[str], *, force: bool = False) -> None:
        """Stage files as they are on disk; `force` takes ignored ones too."""
        args = ["-c", "advice.addIgnoredFile=false", "add", *(["--force"] if force else [])]
        self._change(args, paths)

    def untrack(self, paths: Sequence[str]) -> None:
        """Take files, and all below folders, out of the index; on disk they stay.

        UnsavedError if the index holds content that is neither on disk nor in HEAD. Paths that
        git does not track are passed over.
        """
        self._change(["rm", "-r", "-q", "--cached", "--ignore-unmatch"], paths)

    def remove_staged(self, paths: Sequence[str]) -> None:
        """Stage the removal of exactly these files, whatever their content; disk is not touched."""
        if paths:
            self._require_worktree()
            self._run("update-index", "-z", "--force-remove", "--stdin", stdin=nul_list(paths))

    def restore(self, commit: str, paths: Sequence[str]) -> None:
        """Put a commit's version of files in the index and on disk, as ``git checkout REV --``.

        Files on disk are overwritten; UsageError if the commit does not have a path.
        """
        # Without hooks: dvtool's post-checkout hook would start the calling command again.
        args = ["-c", f"core.hooksPath={os.devnull}", "checkout", "-q", "--no-recurse-submodules"]
        self._change([*args, self._commit_id(commit)], paths)

    # Private

    def _change(self, args: Sequence[str], paths: Sequence[str]) -> None:
        if paths:
            self._require_worktree()
            self._run(*args, *_PATHS_ON_STDIN, stdin=nul_list(paths), literal=True)
