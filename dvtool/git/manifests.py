"""The manifests in commits, in the history behind them, in the index and in the working tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from dvtool.errors import DvError, SetupError
from dvtool.format.paths import SUFFIX
from dvtool.git.listing import (
    FILE_MODES,
    SPARSE_TAG,
    Overview,
    is_file_inside,
    is_manifest,
    left_out_of,
    listed,
    old_sides,
    raw_manifests,
    tree_entries,
    tree_of,
)
from dvtool.git.objects import TREE_SIZE_MAX_BYTES, Objects
from dvtool.git.process import Folders, checked, raise_failure
from dvtool.git.refs import PLAIN_LOG

_MANIFESTS = f":(glob)**/*{SUFFIX}"
_LISTING = ("ls-files", "-z", "-t", "-s", "-co", "--exclude-standard", "--", _MANIFESTS)
"""Lists the manifests of the index and of the working tree; `listed` reads it."""
_EMPTY_TREES = {  # git knows these two in every repository; by the length of their hex
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_EMPTY_BLOBS = frozenset(
    {
        "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
        "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
    }
)


class Manifests(Objects):
    """The manifests of a repository. Part of `Git`, by which it is used."""

    def __init__(self, folders: Folders, *, as_stored: bool = False) -> None:
        """See `Pinned`."""
        super().__init__(folders, as_stored=as_stored)
        self._manifests_of: tuple[str, bytes] | None = None
        """The commit whose manifests were listed last, and git's answer: it cannot change."""

    # Of one commit, the index, the working tree

    def manifests_at(self, commit: str, *, strict: bool = False) -> dict[str, str]:
        """Return path and blob id of each manifest in the tree of a commit.

        A file whose name no target can have is no manifest; with `strict` it is a ManifestError.
        """
        commit = self._commit_id(commit)
        listed_last = self._manifests_of
        if listed_last is None or listed_last[0] != commit:
            listed_last = self._manifests_of = commit, self._listed_in(commit)
        return dict(raw_manifests(listed_last[1], strict=strict))

    def manifests_in_index(self) -> dict[str, str]:
        """Return path and blob id of each manifest that is staged; conflicted ones are left out."""
        return {path: blob for path, stage, blob in self._index_manifests() if stage == 0}

    def manifests_in_worktree(self) -> set[str]:
        """Return the paths of the manifests that the index has and the worktree should have.

        One that sparse checkout leaves out is none of them.
        """
        self._require_worktree()
        listing = self._run("ls-files", "-z", "-t", "-c", "--", _MANIFESTS).stdout
        tagged = (entry.partition(b" ") for entry in listing.split(b"\0")[:-1])
        return {os.fsdecode(path) for tag, _, path in tagged if tag != SPARSE_TAG}

    def sparse_manifests(self) -> dict[str, str]:
        """Return path and blob id of each manifest that sparse checkout leaves out of here."""
        top = self._require_worktree()
        if not os.path.exists(os.path.join(self._git_dir, "info", "sparse-checkout")):
            return {}
        listing = self._run("ls-files", "-z", "-t", "-s", "--", _MANIFESTS).stdout
        return {
            path: blob
            for path, blob in left_out_of(listing)
            if is_manifest(path) and not os.path.lexists(os.path.join(top, path))
        }

    def conflicts_in_index(self) -> dict[str, dict[int, str]]:
        """Return each conflicted manifest with its blobs: 1 the base, 2 ours, 3 theirs."""
        conflicts: dict[str, dict[int, str]] = {}
        for path, stage, blob in self._index_manifests("-u"):
            if stage:
                conflicts.setdefault(path, {})[stage] = blob
        return conflicts

    def manifest_blobs_in_index(self) -> dict[str, set[str]]:
        """Return path and blob ids of every manifest that the index of this worktree holds.

        Staged ones, all sides of conflicts, and the sides that ``git checkout -m`` can bring back
        after a conflict was resolved. The folder of the worktree need not be there.
        """
        blobs: dict[str, set[str]] = {}
        env = {} if self._worktree else {"GIT_WORK_TREE": self._git_dir}
        # In a hook GIT_INDEX_FILE may name another index than the worktree's own: both are read.
        for index in sorted({self._index_path(), os.path.join(self._git_dir, "index")}):
            for option in ("-s", "--resolve-undo"):
                entries = self._index_manifests(option, env | {"GIT_INDEX_FILE": index})
                for path, _stage, blob in entries:
                    blobs.setdefault(path, set()).add(blob)
        return blobs

    def manifest_paths(self) -> list[str]:
        """Return the manifests in the working tree, tracked or not but not ignored, sorted.

        Only files that are there count; a symlink, or a path through one, is not a manifest.
        ManifestError for one whose name no target can have, such as ``.git.dv.json``.
        """
        top = self._require_worktree()
        return _manifests_here(top, self._run(*_LISTING).stdout)

    def manifests_and_conflicts(self) -> tuple[list[str], dict[str, dict[int, str]]]:
        """Return what `manifest_paths` and `conflicts_in_index` do, by one look of git."""
        top = self._require_worktree()
        listing = self._run(*_LISTING).stdout
        conflicts: dict[str, dict[int, str]] = {}
        for path, stage, blob in listed(listing):
            if stage and is_manifest(path) and blob not in _EMPTY_BLOBS:
                conflicts.setdefault(path, {})[stage] = blob
        return _manifests_here(top, listing), conflicts

    def overview(self) -> Overview:
        """Return the manifests of the working tree and of HEAD, and those in conflict.

        ManifestError for one in the working tree whose name no target can have.
        """
        top = self._require_worktree()
        options = ("--raw", "--no-abbrev", "--no-renames")
        changes = ("diff-index", "--cached", "-z", *options, "HEAD", "--", _MANIFESTS)
        listing, staged = self._runner.run_together(_LISTING, changes)
        checked(_LISTING, listing, (0,))
        if staged.status and self.head() is not None:
            raise_failure("diff-index", staged)
        worktree = _manifests_here(top, listing.stdout)
        conflicts: dict[str, dict[int, str]] = {}
        committed: dict[str, str] = {}
        left_out = frozenset(path for path, _ in left_out_of(listing.stdout))
        for path, stage, blob in listed(listing.stdout):
            if stage is not None and is_manifest(path) and blob not in _EMPTY_BLOBS:
                if stage:
                    conflicts.setdefault(path, {})[stage] = blob
                elif not staged.status:
                    committed[path] = blob
        for path, before in old_sides(staged.stdout if not staged.status else b""):
            committed.pop(path, None)
            if before is not None and is_manifest(path):
                committed[path] = before
        return Overview(tuple(worktree), committed, conflicts, left_out.difference(worktree))

    def renamed_manifests(self, old: str, new: str | None) -> dict[str, str]:
        """Return new path -> old path of the manifests that were renamed between two commits.

        None for `new` is the working tree, of which git knows what is in the index. As git tells
        renames: equal text, or most of it.
        """
        options = ("--raw", "-z", "-M", "--no-abbrev", "--no-ext-diff", "--diff-filter=R")
        sides = [old] if new is None else [old, new]
        return _renamed_paths(self._run("diff", *options, *sides, "--", _MANIFESTS).stdout)

    # Of history

    def manifest_renamed_in(self, commit: str, path: str) -> str | None:
        """Return the path that a manifest had in the first parent of a commit that renamed it."""
        options = ("--raw", "-z", "-M", "--no-abbrev", "--diff-merges=first-parent")
        log = ("log", "-1", *options, "--no-show-signature", "--diff-filter=R", "--format=")
        return _renamed_paths(self._run(*log, commit, "--", _MANIFESTS).stdout).get(path)

    def manifest_blobs_in(
        self, revs: Sequence[str], *, exclude: Sequence[str] = ()
    ) -> dict[str, set[str]]:
        """Return for each path the blob ids of every manifest in the history of `revs`.

        History that `exclude` reaches is left out, with all manifests that those commits had.
        """
        lines = self._range_lines(revs, exclude)
        return {} if lines is None else self._history_manifests("--stdin", stdin=lines)

    def manifests_not_on_remotes(self) -> dict[str, set[str]]:
        """Return path and blob ids of the manifests that only commits of HEAD have.

        These are commits that no branch of git's remotes had when they were last fetched.
        """
        return self._history_manifests("HEAD", "--not", "--remotes")

    def manifest_blobs_everywhere(
        self, besides: Iterable[str] = (), *, exclude: Sequence[str] = ()
    ) -> dict[str, set[str]]:
        """Return path and blob ids of every manifest that git can still bring back.

        That is the history of all refs, of HEAD in every worktree and of all reflogs (stashes and
        commits that were amended or reset away included). Staged manifests are not in it.

        `besides` names more objects, such as those of `object_of_each_ref` and `ids_in_state` of
        each worktree: the history of commits, the manifests in trees, and blobs, under their own id
        for a path. An object that is not here is passed over. History that `exclude` reaches is
        left out.
        """
        kinds = self.kinds_of(besides)
        commits = "".join(f"{name}\n" for name, kind in kinds.items() if kind == "commit")
        commits += "".join(f"^{commit}\n" for commit in self.commits_among(exclude))
        stdin = commits.encode("ascii")
        blobs = self._history_manifests("--all", "--reflog", "--stdin", stdin=stdin)
        for name, kind in kinds.items():
            if kind == "tree":
                for path, blob in raw_manifests(self._listed_in(name)):
                    blobs.setdefault(path, set()).add(blob)
            elif kind == "blob":
                blobs.setdefault(name, set()).add(name)
        return blobs

    def manifest_blobs_of_each(
        self, commits: Iterable[str]
    ) -> Iterator[tuple[str, frozenset[str] | None]]:
        """Yield each commit, and the blob ids of the manifests in its tree.

        None in their place if git does not have all of that commit's trees, or cannot read them.
        One git process reads for all of them; their parents need not be here.
        """
        blobs_of: dict[str, frozenset[str]] = {}
        for commit in commits:
            try:
                tree = tree_of(self._read_object(commit, TREE_SIZE_MAX_BYTES, "commit"))
                self._learn_trees(tree, blobs_of)
            except SetupError:
                raise
            except DvError:
                yield commit, None
            else:
                yield commit, blobs_of[tree]

    def commits_with(
        self, blobs: Mapping[str, Collection[str]]
    ) -> dict[tuple[str, str], list[str]]:
        """Return (path, blob) -> the commits, newest first, that have this blob at this path.

        Commits of all refs, of HEAD in every worktree and of all reflogs are looked at.
        """
        paths = [path for path in sorted(blobs) if "\n" not in path]
        commits_of: dict[tuple[str, str], list[str]] = {}
        if not paths:
            return commits_of
        commits = self._run("rev-list", "--all", "--reflog").stdout.decode("ascii").split()
        asked = [(commit, path) for path in paths for commit in commits]
        lines = "".join(f"{commit}:{path}\n" for commit, path in asked)
        check = ("cat-file", "--batch-check=%(objectname)")
        answer = self._run(*check, stdin=os.fsencode(lines)).stdout.split(b"\n")[:-1]
        for (commit, path), line in zip(asked, answer, strict=True):
            blob = line.decode("ascii", "replace")  # longer if the object is not there
            if blob in blobs[path]:
                commits_of.setdefault((path, blob), []).append(commit)
        return commits_of

    # Private

    def _listed_in(self, tree: str) -> bytes:
        # Unlike ls-tree, diff-tree takes a pattern: git, not Python, passes over other files.
        return self._run(
            *("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames"),
            *(_EMPTY_TREES[len(tree)], tree, "--", _MANIFESTS),
        ).stdout

    def _history_manifests(self, *revs: str, stdin: bytes | None = None) -> dict[str, set[str]]:
        # --full-history: by default git follows only one parent of a merge that took one side
        # whole, and the manifests of the other side would not be seen.
        listing = self._run(
            *("log", *PLAIN_LOG, "-m", "--full-history", "--diff-filter=AMT", "--format="),
            *(*revs, "--", _MANIFESTS),
            stdin=stdin,
        )
        blobs: dict[str, set[str]] = {}
        for path, blob in raw_manifests(listing.stdout):
            blobs.setdefault(path, set()).add(blob)
        return blobs

    def _index_manifests(
        self, option: str = "-s", env: Mapping[str, str] | None = None
    ) -> Iterator[tuple[str, int, str]]:
        if env is None:
            self._require_worktree()
        listing = self._run("ls-files", "-z", option, "--", _MANIFESTS, env=env).stdout
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            mode, blob_id, stage = head.decode("ascii").split(" ")
            path = os.fsdecode(name)
            # A file of `git add -N` has no content yet: the id is that of an empty file.
            if mode.encode() in FILE_MODES and is_manifest(path) and blob_id not in _EMPTY_BLOBS:
                yield path, int(stage), blob_id

    def _learn_trees(self, tree: str, blobs_of: dict[str, frozenset[str]]) -> None:
        """Look up the manifests of a tree, and of all below it, unless they are known already."""
        waiting = [tree]
        parts: dict[str, tuple[set[str], set[str]]] = {}
        while waiting:
            lowest = waiting[-1]
            if lowest not in parts:
                parts[lowest] = self._parts_of_tree(lowest)
            folders, blobs = parts[lowest]
            unknown = folders - blobs_of.keys()
            if unknown:
                waiting.extend(unknown)
                continue
            blobs_of[lowest] = frozenset(blobs).union(*(blobs_of[folder] for folder in folders))
            waiting.pop()

    def _parts_of_tree(self, tree: str) -> tuple[set[str], set[str]]:
        """Return the ids of the folders in a tree, and of its manifests."""
        folders: set[str] = set()
        blobs: set[str] = set()
        data = self._read_object(tree, TREE_SIZE_MAX_BYTES, "tree")
        for mode, name, object_id in tree_entries(data, len(tree) // 2):
            if stat.S_ISDIR(mode):
                folders.add(object_id)
            elif stat.S_ISREG(mode) and is_manifest(name):
                blobs.add(object_id)
        return folders, blobs


def _manifests_here(top: str, listing: bytes) -> list[str]:
    """Return the manifests of a listing that are in the working tree, sorted."""
    links: dict[str, bool] = {}
    return sorted(
        path
        for path in {path for path, _, _ in listed(listing)}
        if is_manifest(path, strict=True) and is_file_inside(top, path, links)
    )


def _renamed_paths(listing: bytes) -> dict[str, str]:
    """Return new path -> old path of raw diff output (``-z``) that has nothing but renames."""
    fields = [field for field in listing.split(b"\0") if field]
    pairs = zip(fields[1::3], fields[2::3], strict=True)
    return {os.fsdecode(new): os.fsdecode(old) for old, new in pairs}
