"""One repository, seen from one of its worktrees: what it holds, and changes to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import structs

from dvtool.errors import BusyError, DvError, MissingError, SetupError, UsageError, printable
from dvtool.format.manifest import MANIFEST_SIZE_MAX_BYTES, SUFFIX
from dvtool.git.config import GitConfig
from dvtool.git.listing import (
    FILE_MODES,
    OBJECT_ID,
    Commit,
    Overview,
    Staged,
    commit_named,
    is_file_inside,
    is_manifest,
    listed,
    new_side,
    nul_list,
    old_sides,
    parse_log,
    paths_in,
    raw_manifests,
    tree_entries,
    tree_of,
)
from dvtool.git.process import (
    INSTALL_HINT,
    BlobReader,
    Runner,
    checked,
    execute,
    execute_long,
    raise_failure,
    raise_not_found,
)

TREE_SIZE_MAX_BYTES = 256 << 20
"""Room for a folder of some million names."""
_MANIFESTS = f":(glob)**/*{SUFFIX}"
_NO_MANIFESTS = f":(top,exclude,glob)**/*{SUFFIX}"
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
_SEPARATOR = "--dv-separator"  # `git rev-parse` prints an option that it does not know as it is
_PATHS_ON_STDIN = ("--pathspec-from-file=-", "--pathspec-file-nul")
# What a user may have configured for `git log` must not change what is parsed here.
_PLAIN_LOG = (
    "-z",
    "--raw",
    "--no-abbrev",
    "--no-renames",
    "--no-color",
    "--no-notes",
    "--no-show-signature",
    "--no-follow",
    "--root",
)


class Git:
    """One repository, seen from one of its worktrees. Close it, or use it in a ``with``.

    Errors, of every method: `BusyError` (another git holds the lock), `SetupError` (git or the
    repository cannot be used so), `DvError` with git's own words for all that git refuses.
    """

    def __init__(
        self, *, worktree: str | None, git_dir: str, common_dir: str, as_stored: bool = False
    ) -> None:
        """Open a repository whose folders are known (all absolute); see `discover`.

        With `as_stored` objects are read as they are, whatever refs/replace/ has in their place.
        """
        self._worktree = worktree
        self._git_dir = git_dir
        self._common_dir = common_dir
        env = {"GIT_DIR": git_dir} | ({"GIT_WORK_TREE": worktree} if worktree else {})
        env |= {"GIT_NO_REPLACE_OBJECTS": "1"} if as_stored else {}
        self._runner = Runner(worktree or git_dir, env)
        self._run = self._runner.run
        self._run_long = self._runner.run_long
        self._blobs: BlobReader | None = None
        self._manifests_of: tuple[str, bytes] | None = None
        """The commit whose manifests were listed last, and git's answer: it cannot change."""
        self._lock = threading.Lock()
        self.config = GitConfig(self._runner)

    @classmethod
    def discover(cls, cwd: str) -> Git:
        """Return the repository that git finds from the folder `cwd`; SetupError if none."""
        if not os.path.isdir(cwd):
            raise UsageError(f"not a folder: {printable(cwd)}")
        result = execute(
            [
                "rev-parse",
                "--path-format=absolute",
                *("--is-bare-repository", _SEPARATOR, "--git-dir", _SEPARATOR),
                *("--git-common-dir", _SEPARATOR, "--show-toplevel"),
            ],
            cwd=cwd,
        )
        # The top level is asked for last: in a bare repository git stops there with an error.
        fields = os.fsdecode(result.stdout).split(_SEPARATOR + "\n")
        if fields[0].startswith("--path-format"):
            raise SetupError("this git is too old for dvtool", hint=INSTALL_HINT)
        if len(fields) != 4 or (result.status and fields[3]):
            raise_not_found(result)
        return cls(
            worktree=fields[3].removesuffix("\n") or None,
            git_dir=fields[1].removesuffix("\n"),
            common_dir=fields[2].removesuffix("\n"),
        )

    @classmethod
    def clone(cls, url: str, directory: str | None, *, cwd: str, checkout: bool = True) -> str:
        """Clone a repository with git, which asks for credentials itself; return the folder.

        Which protocols a URL may use is git's to say (``protocol.*.allow``).
        """
        if not url or url.startswith("-"):
            raise UsageError(f"not the URL of a repository: {printable(url) or repr(url)}")
        if directory is not None and directory.startswith("-"):
            directory = f"./{directory}"
        options = () if checkout else ("--no-checkout",)
        named = () if directory is None else (directory,)
        result = execute_long(["clone", *options, "--", url, *named], cwd=cwd)
        first, _, rest = result.stderr.partition("'...\n")
        into = first.removeprefix("Cloning into '")
        if result.status or not (directory or into):
            raise_failure("clone", structs.replace(result, stderr=rest or first))
        return os.path.normpath(os.path.join(cwd, directory or into))

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
            # What no branch reaches may still be had by its id, if the server allows it.
            fetch = ("fetch", "-q", "origin", rev)
            if not OBJECT_ID.fullmatch(rev) or self._run_long(*fetch, codes=None).status:
                self._run_long("checkout", "-q", codes=None)
                raise UsageError(
                    f"{printable(rev)} is no revision there; its default branch is checked out",
                    hint=f"look for it: git -C {printable(top)} log --oneline --all",
                ) from None
            commit = rev
        self._run_long("checkout", "-q", "--detach", commit, "--")

    @property
    def worktree(self) -> str | None:
        """The top folder of this working tree; None in a bare repository or inside `.git`."""
        return self._worktree

    @property
    def git_dir(self) -> str:
        """The git folder of this worktree, absolute."""
        return self._git_dir

    @property
    def common_dir(self) -> str:
        """The git folder that all worktrees of the repository share, absolute."""
        return self._common_dir

    def close(self) -> None:
        """End the process that reads objects, if one was started; it starts again on demand."""
        with self._lock:
            self._close_blobs()

    def __enter__(self) -> Git:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # Revisions

    def resolve(self, rev: str) -> str:
        """Return the full id of the commit that `rev` names; UsageError if it names none."""
        found = None
        if rev and not rev.startswith("-") and "\0" not in rev:
            found = self._verify(rev)
        if found is not None:
            return found
        if rev == "HEAD" or rev.startswith(("HEAD~", "HEAD^", "@")):
            self._require_commit()
        raise UsageError(f"unknown revision: {printable(rev)}", hint="run: git log --oneline --all")

    def head(self) -> str | None:
        """Return the id of the commit that is checked out, None before the first commit."""
        return self._verify("HEAD")

    def has_commit(self, rev: str) -> bool:
        """Tell whether `rev` names a commit that is here."""
        return self._verify(rev) is not None

    def branch(self) -> str | None:
        """Return the short name of the branch checked out, None when HEAD is detached."""
        result = self._run("symbolic-ref", "-q", "--short", "HEAD", codes=(0, 1))
        return os.fsdecode(result.stdout).removesuffix("\n") or None

    def describe_head(self) -> str | None:
        """Return HEAD as people name it (``v1.2-3-g4f2c1ab``), None before the first commit."""
        result = self._run("describe", "--always", "--tags", "HEAD", codes=(0, 128))
        if result.status and self.head() is not None:
            raise_failure("describe", result)
        return os.fsdecode(result.stdout).removesuffix("\n") or None

    def all_refs(self) -> dict[str, str]:
        """Return every ref and the commit it leads to; tags are peeled, other objects left out.

        Remote-tracking refs and ``refs/stash`` are among them; a detached HEAD is not a ref.
        """
        fields = "%(refname) %(objecttype) %(objectname)"
        listing = self._run("for-each-ref", f"--format={fields}").stdout
        refs: dict[str, str] = {}
        tags: dict[str, str] = {}
        for line in os.fsdecode(listing).split("\n")[:-1]:
            name, kind, object_id = line.rsplit(" ", 2)
            if kind == "commit":
                refs[name] = object_id
            elif kind == "tag":
                tags[name] = object_id
        peeled = zip(tags, self._commits_of(list(tags.values())), strict=True)
        refs |= {name: commit for name, commit in peeled if commit is not None}
        return dict(sorted(refs.items()))

    def commits_to_push(self, revs: Sequence[str], exclude: Sequence[str]) -> list[str]:
        """Return the commits reachable from `revs` and from none of `exclude`, newest first.

        A revision in `exclude` that is not here is passed over: a remote may be ahead of us.
        """
        lines = self._range_lines(revs, exclude)
        if lines is None:
            return []
        return self._run("rev-list", "--stdin", stdin=lines).stdout.decode("ascii").split()

    def log(self, path: str, *, limit: int | None = None, rev: str = "HEAD") -> Iterator[Commit]:
        """Yield the commits that changed the file at `path`, newest first, as ``git log -- PATH``.

        Renames are not followed, and side branches that changed nothing in the end left out.
        """
        args = ["log", *_PLAIN_LOG, "--diff-merges=first-parent", "--encoding=UTF-8"]
        args.append("--format=tformat:%H%x00%an%x00%aI%x00%s")
        if limit is not None:
            args.append(f"--max-count={limit:d}")
        commit = self.resolve(rev)
        output = self._run(*args, commit, "--", path, literal=True).stdout
        return parse_log(output, os.fsencode(path))

    def is_shallow(self) -> bool:
        """Whether history was cut off when it was cloned or fetched (``--depth``)."""
        return os.path.exists(os.path.join(self._common_dir, "shallow"))

    # Manifests

    def manifests_at(self, commit: str, *, strict: bool = False) -> dict[str, str]:
        """Return path and blob id of each manifest in the tree of a commit.

        A file whose name no target can have is none; with `strict` it is a ManifestError.
        """
        commit = self._commit_id(commit)
        known = self._manifests_of
        if known is None or known[0] != commit:
            # Unlike ls-tree, diff-tree takes a pattern: git, not Python, passes over other files.
            listing = self._run(
                *("diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames"),
                *(_EMPTY_TREES[len(commit)], commit, "--", _MANIFESTS),
            )
            known = self._manifests_of = commit, listing.stdout
        return dict(raw_manifests(known[1], strict=strict))

    def manifests_in_index(self) -> dict[str, str]:
        """Return path and blob id of each manifest that is staged; conflicted ones are left out."""
        return {path: blob for path, stage, blob in self._index_manifests() if stage == 0}

    def conflicts_in_index(self) -> dict[str, dict[int, str]]:
        """Return each conflicted manifest with its blobs: 1 the base, 2 ours, 3 theirs."""
        conflicts: dict[str, dict[int, str]] = {}
        for path, stage, blob in self._index_manifests("-u"):
            if stage:
                conflicts.setdefault(path, {})[stage] = blob
        return conflicts

    def merge_sides(self) -> tuple[str | None, str, str] | None:
        """Return base, ours and theirs of the merge under way, else of the merge that HEAD is."""
        theirs = self._verify("MERGE_HEAD")
        ours = self.head() if theirs else self._verify("HEAD^1")
        theirs = theirs or self._verify("HEAD^2")
        if ours is None or theirs is None:
            return None
        found = self._run("merge-base", ours, theirs, codes=(0, 1)).stdout.decode("ascii")
        return found.strip() or None, ours, theirs

    def manifest_paths(self) -> list[str]:
        """Return the manifests in the working tree, tracked or not but not ignored, sorted.

        Only files that are there count; a symlink, or a path through one, is not a manifest.
        ManifestError for one whose name no target can have, such as ``.git.dv.json``.
        """
        top = self._require_worktree()
        listing = self._run("ls-files", "-z", "-co", "--exclude-standard", "--", _MANIFESTS)
        links: dict[str, bool] = {}
        return sorted(
            path
            for path in set(paths_in(listing.stdout))
            if is_manifest(path, strict=True) and is_file_inside(top, path, links)
        )

    def overview(self) -> Overview:
        """Return the manifests of the working tree and of HEAD, and those in conflict.

        ManifestError for one in the working tree whose name no target can have.
        """
        top = self._require_worktree()
        options = ("--raw", "--no-abbrev", "--no-renames")
        index = ("ls-files", "-z", "-t", "-s", "-co", "--exclude-standard", "--", _MANIFESTS)
        changes = ("diff-index", "--cached", "-z", *options, "HEAD", "--", _MANIFESTS)
        listing, staged = self._runner.run_together(index, changes)
        checked(index, listing, (0,))
        if staged.status and self.head() is not None:
            raise_failure("diff-index", staged)
        links: dict[str, bool] = {}
        there: set[str] = set()
        conflicts: dict[str, dict[int, str]] = {}
        committed: dict[str, str] = {}
        for path, stage, blob in listed(listing.stdout):
            if is_manifest(path, strict=True) and is_file_inside(top, path, links):
                there.add(path)
            if stage is not None and is_manifest(path) and blob not in _EMPTY_BLOBS:
                if stage:
                    conflicts.setdefault(path, {})[stage] = blob
                elif not staged.status:
                    committed[path] = blob
        for path, before in old_sides(staged.stdout if not staged.status else b""):
            committed.pop(path, None)
            if before is not None and is_manifest(path):
                committed[path] = before
        return Overview(tuple(sorted(there)), committed, conflicts)

    def untracked(self, name: str) -> list[str]:
        """Return the files in the working tree, ignored or not, that git does not track and whose
        own name matches a pattern. Nested repositories are left out.
        """
        self._require_worktree()
        listing = self._run("ls-files", "-z", "-o", "--", f":(top,glob)**/{name}")
        return sorted(paths_in(listing.stdout))

    def manifest_blobs_in(
        self, revs: Sequence[str], *, exclude: Sequence[str] = ()
    ) -> dict[str, set[str]]:
        """Return for each path the blob ids of every manifest in the history of `revs`.

        History that `exclude` reaches is left out, and with it what those commits already had.
        """
        lines = self._range_lines(revs, exclude)
        return {} if lines is None else self._history_manifests("--stdin", stdin=lines)

    def manifest_blobs_everywhere(self, *, exclude: Sequence[str] = ()) -> dict[str, set[str]]:
        """Return path and blob ids of every manifest that git can still bring back.

        That is the history of all refs, of HEAD in every worktree and of all reflogs (stashes and
        commits that were amended or reset away included). Staged manifests are not in it. History
        that `exclude` reaches is left out; a commit there that is not here is passed over.
        """
        known = "".join(f"^{commit}\n" for commit in self.commits_among(exclude))
        return self._history_manifests("--all", "--reflog", "--stdin", stdin=known.encode("ascii"))

    def commits_with(
        self, blobs: Mapping[str, Collection[str]]
    ) -> dict[tuple[str, str], list[str]]:
        """Return (path, blob) -> the commits, newest first, that have this blob at this path.

        Commits of all refs, of HEAD in every worktree and of all reflogs are looked at.
        """
        paths = [path for path in sorted(blobs) if "\n" not in path]
        found: dict[tuple[str, str], list[str]] = {}
        if not paths:
            return found
        commits = self._run("rev-list", "--all", "--reflog").stdout.decode("ascii").split()
        asked = [(commit, path) for path in paths for commit in commits]
        lines = "".join(f"{commit}:{path}\n" for commit, path in asked)
        check = ("cat-file", "--batch-check=%(objectname)")
        answer = self._run(*check, stdin=os.fsencode(lines)).stdout.split(b"\n")[:-1]
        for (commit, path), line in zip(asked, answer, strict=True):
            blob = line.decode("ascii", "replace")  # what is not there is answered at length
            if blob in blobs[path]:
                found.setdefault((path, blob), []).append(commit)
        return found

    def subjects(self, commits: Sequence[str]) -> dict[str, str]:
        """Return commit -> subject; foreign text: escape to print."""
        if not commits:
            return {}
        args = ("log", "-z", "--no-walk=unsorted", "--no-show-signature", "--encoding=UTF-8")
        output = self._run(*args, "--format=tformat:%H %s", *commits, "--").stdout
        lines = (text.decode("utf-8", "replace") for text in output.split(b"\0")[:-1])
        return {commit: subject for commit, _, subject in (line.partition(" ") for line in lines)}

    # Objects

    def read_blob(self, blob_id: str, *, size_max: int = MANIFEST_SIZE_MAX_BYTES) -> bytes:
        """Return the content of a blob; MissingError if git has no such object."""
        return self._read_object(blob_id, size_max, "blob")

    def _read_object(self, object_id: str, size_max: int, kind: str) -> bytes:
        if not OBJECT_ID.fullmatch(object_id):
            raise ValueError(f"not a git object id: {object_id[:80]!r}")
        with self._lock:
            if self._blobs is None:
                self._blobs = BlobReader(self._runner.start("cat-file", "--batch"))
            try:
                return self._blobs.read(object_id, size_max, kind)
            except MissingError:
                raise
            except BaseException:
                # An answer half read would be taken for the next one.
                self._close_blobs()
                raise

    @staticmethod
    def is_blob(blob_id: str, data: bytes) -> bool:
        """Tell whether git would name these bytes so."""
        name = hashlib.sha256() if len(blob_id) == 64 else hashlib.sha1(usedforsecurity=False)
        name.update(b"blob %d\0" % len(data))
        name.update(data)
        return name.hexdigest() == blob_id

    def read_blobs(self, blob_ids: Iterable[str]) -> Iterator[bytes]:
        """Yield the content of each blob, in the order asked, through one git process."""
        for blob_id in blob_ids:
            yield self.read_blob(blob_id)

    def blob_at(self, commit: str, path: str) -> bytes | None:
        """Return the file that a commit has at `path`; None for no entry, or one of another kind.

        Symlinks and submodules are such other kinds.
        """
        listing = self._run(
            *("ls-tree", "-z", "--full-tree", self._commit_id(commit), "--", path), literal=True
        ).stdout
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            mode, _kind, blob_id = head.split(b" ")
            if name == os.fsencode(path) and mode in FILE_MODES:
                return self.read_blob(blob_id.decode("ascii"))
        return None

    def commits_beside_refs(self) -> list[str]:
        """Return the ids of the commits that are here and that no ref, HEAD or reflog leads to."""
        form = "--batch-check=%(objecttype) %(objectname)"
        answer = self._run("cat-file", form, "--batch-all-objects", "--unordered").stdout
        found = (line.split(" ") for line in answer.decode("ascii").splitlines())
        reached = set(self._run("rev-list", "--all", "--reflog").stdout.decode("ascii").split())
        return sorted(one for kind, one in found if kind == "commit" and one not in reached)

    def manifest_blobs_of_each(
        self, commits: Iterable[str]
    ) -> Iterator[tuple[str, frozenset[str] | None]]:
        """Yield each commit, and the blob ids of the manifests in its tree.

        None in their place if git does not have all of that commit's trees, or cannot read them.
        One git process reads for all of them; their parents need not be here.
        """
        known: dict[str, frozenset[str]] = {}
        for commit in commits:
            try:
                tree = tree_of(self._read_object(commit, TREE_SIZE_MAX_BYTES, "commit"))
                self._learn_trees(tree, known)
            except SetupError:
                raise
            except DvError:
                yield commit, None
            else:
                yield commit, known[tree]

    def _learn_trees(self, tree: str, known: dict[str, frozenset[str]]) -> None:
        """Add a tree, and all below it, to those of which the manifests' blobs are known."""
        todo = [tree]
        parts: dict[str, tuple[set[str], set[str]]] = {}
        while todo:
            one = todo[-1]
            if one not in parts:
                parts[one] = self._parts_of_tree(one)
            folders, blobs = parts[one]
            unknown = folders - known.keys()
            if unknown:
                todo.extend(unknown)
                continue
            known[one] = frozenset(blobs).union(*(known[folder] for folder in folders))
            todo.pop()

    def _parts_of_tree(self, tree: str) -> tuple[set[str], set[str]]:
        """Return the ids of the folders that lie in a tree, and of its manifests."""
        folders: set[str] = set()
        blobs: set[str] = set()
        data = self._read_object(tree, TREE_SIZE_MAX_BYTES, "tree")
        for mode, name, object_id in tree_entries(data, len(tree) // 2):
            if stat.S_ISDIR(mode):
                folders.add(object_id)
            elif stat.S_ISREG(mode) and is_manifest(name):
                blobs.add(object_id)
        return folders, blobs

    def object_sizes(self, object_ids: Sequence[str]) -> dict[str, int]:
        """Return the size in bytes of each object that is here."""
        lines = "".join(f"{one}\n" for one in object_ids).encode("ascii")
        answer = self._run("cat-file", "--batch-check", stdin=lines).stdout.decode("ascii")
        found = (line.split(" ") for line in answer.splitlines())
        return {fields[0]: int(fields[2]) for fields in found if len(fields) == 3}

    def commits_among(self, object_ids: Sequence[str]) -> list[str]:
        """Return the commits that these ids name, tags peeled; what is not here is left out."""
        return list(dict.fromkeys(one for one in self._commits_of(object_ids) if one))

    def blobs_at(self, commit: str, paths: Sequence[str]) -> dict[str, str]:
        """Return path and blob id of those of `paths` that are files in a commit."""
        if not paths:
            return {}
        # ls-tree takes no list of paths on its standard input.
        listing = self._run("ls-tree", "-r", "-z", "--full-tree", self._commit_id(commit)).stdout
        wanted = {os.fsencode(path): path for path in paths}
        blobs: dict[str, str] = {}
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            if name in wanted:
                blobs[wanted[name]] = head.split(b" ")[2].decode("ascii")
        return blobs

    def parents_of_next(self) -> list[str]:
        """Return the commits that the next one starts from: HEAD, and what is merged or picked.

        Of a commit that is being reverted it is the parent. The first is HEAD, if there is one.
        """
        names = [("HEAD", ""), ("MERGE_HEAD", ""), ("CHERRY_PICK_HEAD", ""), ("REVERT_HEAD", "^")]
        found: list[str | None] = []
        for name, suffix in names:
            try:  # MERGE_HEAD may have several lines, of which git resolves only the first
                with open(os.path.join(self._git_dir, name), encoding="ascii") as file:
                    ids = [name] if name == "HEAD" else file.read().split()
            except (OSError, UnicodeDecodeError):
                continue
            found.extend(self._commits_of([one + suffix for one in ids]))
        return list(dict.fromkeys(one for one in found if one))

    def commits_in_between(self) -> list[str]:
        """Return what the files of the worktree may follow still: ORIG_HEAD, a rebase's base."""
        names = ["ORIG_HEAD"]
        for folder in ("rebase-merge", "rebase-apply"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                path = os.path.join(self._git_dir, folder, "onto")
                with open(path, encoding="ascii") as file:
                    names.append(file.read().strip())
        return self.commits_among(names)

    # The index and the working tree

    def tracked_under(self, path: str) -> list[str]:
        """Return the paths that git tracks at `path` or below it (``""`` is the whole tree)."""
        self._require_worktree()
        listing = self._run("ls-files", "-z", "--", path or ".", literal=True)
        return sorted(set(paths_in(listing.stdout)))

    def staged(self) -> list[Staged]:
        """Return the files that are staged and differ from HEAD, without removed ones."""
        self._require_worktree()
        listing = self._run(
            *("diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames"),
            "--diff-filter=AMT",
        ).stdout
        found: list[Staged] = []
        fields = iter(listing.split(b"\0"))
        for field in fields:
            if field:
                mode, blob = new_side(field)
                path = os.fsdecode(next(fields))
                if mode in FILE_MODES:
                    found.append(Staged(path, blob))
        return found

    def refuse_if_index_is_locked(self) -> None:
        """Raise a BusyError if another git is changing the index, before work relies on it."""
        # Asked of git: in a hook of `git commit -a` the index is another file, named index.lock.
        index = self._run("rev-parse", "--path-format=absolute", "--git-path", "index")
        lock = os.fsdecode(index.stdout).removesuffix("\n") + ".lock"
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

        What was there is overwritten; UsageError if the commit does not have a path.
        """
        # Without hooks: ours on post-checkout would start the command that called this.
        args = ["-c", f"core.hooksPath={os.devnull}", "checkout", "-q", "--no-recurse-submodules"]
        self._change([*args, self._commit_id(commit)], paths)

    def is_ignored(self, paths: Sequence[str]) -> set[str]:
        """Return those of `paths` that ignore rules match, tracked or not.

        A rule that ends in ``/`` matches only a folder: one on disk, or a path that ends in ``/``.
        """
        if not paths:
            return set()
        self._require_worktree()
        # This command takes no literal pathspecs; behind "./" a leading ":" is not special either.
        result = self._run(
            *("check-ignore", "-z", "--stdin", "--no-index"),
            stdin=nul_list(f"./{path}" for path in paths),
            codes=(0, 1),
        )
        return {path.removeprefix("./") for path in paths_in(result.stdout)}

    def is_dirty(self, *, exclude_untracked: bool = True, exclude_manifests: bool = False) -> bool:
        """Tell whether tracked files, staged or on disk, differ from HEAD."""
        self._require_worktree()
        untracked = "no" if exclude_untracked else "normal"
        but = ["--", ":(top)", _NO_MANIFESTS] if exclude_manifests else []
        listing = self._run(
            *("status", "--porcelain=v2", "-z", "--no-renames", f"--untracked-files={untracked}"),
            *but,
        )
        return any(not line.startswith(b"#") for line in listing.stdout.split(b"\0")[:-1])

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
            with Git.discover(top) as tree:
                found[tree.git_dir] = top
        folder = os.path.join(self._common_dir, "worktrees")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if os.path.exists(os.path.join(folder, name, "HEAD")):
                found.setdefault(os.path.join(folder, name), None)
        return found

    def refs_of_remotes(self) -> dict[str, str]:
        """Ask git's remotes, now, for their branches and tags: ``REMOTE REF`` -> object id."""
        found: dict[str, str] = {}
        for remote in os.fsdecode(self._run("remote").stdout).split("\n")[:-1]:
            listing = self._run("ls-remote", "--heads", "--tags", "-q", "--", remote).stdout
            for line in os.fsdecode(listing).split("\n")[:-1]:
                object_id, _, name = line.partition("\t")
                found[f"{remote} {name}"] = object_id
        return found

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

    # Private

    def _change(self, args: Sequence[str], paths: Sequence[str]) -> None:
        if paths:
            self._require_worktree()
            self._run(*args, *_PATHS_ON_STDIN, stdin=nul_list(paths), literal=True)

    def _verify(self, rev: str) -> str | None:
        args = ("rev-parse", "--verify", "-q", "--end-of-options", commit_named(rev))
        found = self._run(*args, codes=(0, 1, 128)).stdout.decode("ascii", "replace").strip()
        # `^main` passes --verify too, as an exclusion
        return found if OBJECT_ID.fullmatch(found) else None

    def _commit_id(self, rev: str) -> str:
        return rev if OBJECT_ID.fullmatch(rev) else self.resolve(rev)

    def _commits_of(self, revs: Sequence[str]) -> list[str | None]:
        """Return for each revision its commit id, or None, in one git process."""
        if not revs:
            return []
        names = [commit_named(rev) if rev and "\n" not in rev else "-" for rev in revs]
        lines = "".join(f"{name}\n" for name in names)
        answer = self._run("cat-file", "--batch-check", stdin=os.fsencode(lines)).stdout
        found: list[str | None] = []
        for line in os.fsdecode(answer).split("\n")[:-1]:
            object_id, *rest = line.split(" ")
            known = len(rest) == 2 and rest[0] == "commit" and OBJECT_ID.fullmatch(object_id)
            found.append(object_id if known else None)
        return found

    def _range_lines(self, revs: Sequence[str], exclude: Sequence[str]) -> bytes | None:
        """Return the lines for ``--stdin`` of rev-list and log; None if there is nothing to list.

        Without any revision git would take HEAD.
        """
        if not revs:
            return None
        commits = self._commits_of([*revs, *exclude])
        for rev, commit in zip(revs, commits[: len(revs)], strict=True):
            if commit is None:
                raise UsageError(f"unknown revision: {printable(rev)}")
        wanted = [commit for commit in commits[: len(revs)] if commit]
        known = [f"^{commit}" for commit in commits[len(revs) :] if commit]
        return "".join(f"{line}\n" for line in [*wanted, *known]).encode("ascii")

    def _history_manifests(self, *revs: str, stdin: bytes | None = None) -> dict[str, set[str]]:
        # --full-history: by default git follows only one parent of a merge that took one side
        # whole, and the manifests of the other side would not be seen.
        listing = self._run(
            *("log", *_PLAIN_LOG, "-m", "--full-history", "--diff-filter=AMT", "--format="),
            *(*revs, "--", _MANIFESTS),
            stdin=stdin,
        )
        blobs: dict[str, set[str]] = {}
        for path, blob in raw_manifests(listing.stdout):
            blobs.setdefault(path, set()).add(blob)
        return blobs

    def _index_manifests(self, what: str = "-s") -> Iterator[tuple[str, int, str]]:
        self._require_worktree()
        listing = self._run("ls-files", "-z", what, "--", _MANIFESTS).stdout
        for entry in listing.split(b"\0")[:-1]:
            head, _, name = entry.partition(b"\t")
            mode, blob_id, stage = head.decode("ascii").split(" ")
            path = os.fsdecode(name)
            # What `git add -N` announces has no content yet: the id is that of an empty file.
            if mode.encode() in FILE_MODES and is_manifest(path) and blob_id not in _EMPTY_BLOBS:
                yield path, int(stage), blob_id

    def _require_worktree(self) -> str:
        if self._worktree is None:
            raise SetupError(
                f"there is no working tree in {printable(self._git_dir)}",
                hint="run it in the folder where the files are, or in a clone that is not bare",
            )
        return self._worktree

    def _require_commit(self) -> None:
        if self.head() is None:
            raise SetupError("there is no commit yet", hint="run: git commit")

    def _close_blobs(self) -> None:
        blobs, self._blobs = self._blobs, None
        if blobs is not None:
            blobs.close()
