"""Names and the commits they lead to: revisions, refs and the history behind them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

from dvtool.errors import SetupError, UsageError, printable
from dvtool.format.paths import SUFFIX
from dvtool.git.listing import (
    OBJECT_ID,
    Commit,
    ManifestChange,
    commit_named,
    parse_changes,
    parse_log,
)
from dvtool.git.process import Pinned

# A user's configuration of `git log` must not change the output that is parsed here.
PLAIN_LOG = (
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
_LOG_FIELDS = (
    "--diff-merges=first-parent",
    "--encoding=UTF-8",
    "--format=tformat:%H%x00%an%x00%aI%x00%s",
)
_KINDS = frozenset({"commit", "tree", "blob"})


def head_unasked(git_dir: str, common_dir: str) -> str | None:
    """Return the commit of HEAD if it is in files as git writes them, without a git process.

    None if it is packed, or in another form: git has to be asked then.
    """
    try:
        with open(os.path.join(git_dir, "HEAD"), encoding="ascii") as file:
            head = file.read().strip()
        if head.startswith("ref: refs/heads/"):
            with open(os.path.join(common_dir, head[5:]), encoding="ascii") as file:
                head = file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return head if OBJECT_ID.fullmatch(head) else None


class Revisions(Pinned):
    """The revisions of a repository. Part of `Git`, by which it is used."""

    def resolve(self, rev: str) -> str:
        """Return the full id of the commit that `rev` names; UsageError if it names none."""
        commit = None
        if rev and not rev.startswith("-") and "\0" not in rev:
            commit = self._verify(rev)
        if commit is not None:
            return commit
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

    def object_of_each_ref(self) -> dict[str, str]:
        """Return every ref of this worktree and the object that it names, of whatever kind."""
        listing = self._run("for-each-ref", "--format=%(refname) %(objectname)").stdout
        lines = (line.rpartition(" ") for line in os.fsdecode(listing).split("\n")[:-1])
        return {name: object_id for name, _, object_id in lines}

    def stashes(self) -> list[str]:
        """Return the commits of all stashes; the reflog of refs/stash alone has the older ones."""
        walk = ("rev-list", "--walk-reflogs", "--ignore-missing", "refs/stash", "--")
        return self._run(*walk, codes=(0, 128)).stdout.decode("ascii").split()

    def blobs_of_notes(self) -> set[str]:
        """Return the blobs that the notes of all notes refs are, or once were."""
        listing = self._run(
            *("rev-list", "--objects", "--no-object-names", "--ignore-missing"),
            "--glob=refs/notes/*",
        ).stdout.decode("ascii")
        return {name for name, kind in self.kinds_of(listing.split()).items() if kind == "blob"}

    def refs_of_remotes(self) -> dict[str, str]:
        """Ask git's remotes, now, for their branches and tags: ``REMOTE REF`` -> object id."""
        refs: dict[str, str] = {}
        for remote in os.fsdecode(self._run("remote").stdout).split("\n")[:-1]:
            listing = self._run_long("ls-remote", "--heads", "--tags", "-q", "--", remote).stdout
            for line in os.fsdecode(listing).split("\n")[:-1]:
                object_id, _, name = line.partition("\t")
                refs[f"{remote} {name}"] = object_id
        return refs

    def is_shallow(self) -> bool:
        """Whether history was cut off when it was cloned or fetched (``--depth``)."""
        return os.path.exists(os.path.join(self._common_dir, "shallow"))

    def log(self, path: str, *, limit: int | None = None, rev: str = "HEAD") -> Iterator[Commit]:
        """Yield the commits that changed the file at `path`, newest first, as ``git log -- PATH``.

        `rev` may be a range. Renames are not followed, and side branches that changed nothing in
        the end left out.
        """
        args = ["log", *PLAIN_LOG, *_LOG_FIELDS]
        if limit is not None:
            args.append(f"--max-count={limit:d}")
        commits = self._log_commits(rev)
        output = self._run(*args, *commits, "--", path, literal=True).stdout
        return parse_log(output, os.fsencode(path))

    def log_manifests(self, rev: str = "HEAD") -> Iterator[ManifestChange]:
        """Yield the changes of manifests in the commits behind `rev` or in a range, newest first.

        Renames are told as `Manifests.renamed_manifests` tells them.
        """
        args = [option for option in PLAIN_LOG if option not in ("--no-renames", "--no-follow")]
        commits = self._log_commits(rev)
        pattern = f":(glob)**/*{SUFFIX}"
        output = self._run("log", *args, "-M", *_LOG_FIELDS, *commits, "--", pattern).stdout
        return parse_changes(output)

    def _log_commits(self, rev: str) -> list[str]:
        """Return what to tell ``git log`` of a revision, or of a range of them, by ids."""
        before, dots, after = rev.partition("..")
        if not dots:
            return [self.resolve(rev)]
        symmetric = after.startswith(".")
        sides = [self.resolve(before or "HEAD"), self.resolve(after.removeprefix(".") or "HEAD")]
        if not symmetric:
            return [f"^{sides[0]}", sides[1]]
        base = self.merge_base(*sides)
        return [*sides, *([f"^{base}"] if base else [])]

    def commit_time(self, commit: str) -> int:
        """Return when a commit was made, in seconds since 1970."""
        args = ("log", "--no-walk", "--no-show-signature", "--format=tformat:%ct", commit, "--")
        return int(self._run(*args).stdout)

    def subjects(self, commits: Sequence[str]) -> dict[str, str]:
        """Return commit -> subject; foreign text: escape to print."""
        if not commits:
            return {}
        args = ("log", "-z", "--no-walk=unsorted", "--no-show-signature", "--encoding=UTF-8")
        output = self._run(*args, "--format=tformat:%H %s", *commits, "--").stdout
        lines = (text.decode("utf-8", "replace") for text in output.split(b"\0")[:-1])
        return {commit: subject for commit, _, subject in (line.partition(" ") for line in lines)}

    def commits_among(self, object_ids: Sequence[str]) -> list[str]:
        """Return the commits that these ids name, tags peeled; objects not here are left out."""
        return list(dict.fromkeys(commit for commit in self._commits_of(object_ids) if commit))

    def kinds_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return id -> kind (commit, tree or blob) of the objects that are here, tags peeled.

        `names` are ids, also abbreviated, or refs; a name that leads to no single object is passed
        over.
        """
        lines = "".join(f"{name}^{{}}\n" for name in sorted(set(names)))
        if not lines:
            return {}
        check = "--batch-check=%(objectname) %(objecttype)"
        answer = self._run("cat-file", check, stdin=os.fsencode(lines)).stdout
        pairs = (line.split(" ") for line in os.fsdecode(answer).splitlines())
        return {
            pair[0]: pair[1]
            for pair in pairs
            if len(pair) == 2 and OBJECT_ID.fullmatch(pair[0]) and pair[1] in _KINDS
        }

    def commits_beside_refs(self) -> list[str]:
        """Return the ids of the commits that are here and that no ref, HEAD or reflog leads to."""
        form = "--batch-check=%(objecttype) %(objectname)"
        answer = self._run("cat-file", form, "--batch-all-objects", "--unordered").stdout
        objects = (line.split(" ") for line in answer.decode("ascii").splitlines())
        reached = set(self._run("rev-list", "--all", "--reflog").stdout.decode("ascii").split())
        return sorted(
            object_id
            for kind, object_id in objects
            if kind == "commit" and object_id not in reached
        )

    def parents_of_next(self) -> list[str]:
        """Return the commits that the next one starts from: HEAD, and those merged or picked.

        Of a commit that is being reverted it is the parent. The first is HEAD, if there is one.
        """
        names = [("HEAD", ""), ("MERGE_HEAD", ""), ("CHERRY_PICK_HEAD", ""), ("REVERT_HEAD", "^")]
        commits: list[str | None] = []
        for name, suffix in names:
            try:  # MERGE_HEAD may have several lines, of which git resolves only the first
                with open(os.path.join(self._git_dir, name), encoding="ascii") as file:
                    ids = [name] if name == "HEAD" else file.read().split()
            except (OSError, UnicodeDecodeError):
                continue
            commits.extend(self._commits_of([rev + suffix for rev in ids]))
        return list(dict.fromkeys(commit for commit in commits if commit))

    def commits_in_between(self) -> list[str]:
        """Return commits that the files may still follow: ORIG_HEAD, the base of a rebase."""
        names = ["ORIG_HEAD"]
        for folder in ("rebase-merge", "rebase-apply"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                path = os.path.join(self._git_dir, folder, "onto")
                with open(path, encoding="ascii") as file:
                    names.append(file.read().strip())
        return self.commits_among(names)

    def other_sides(self) -> list[str]:
        """Return the commits that are being merged, picked, rebased or (parents) reverted."""
        head = self.head()
        return [
            commit
            for commit in (*self.parents_of_next(), self._verify("REBASE_HEAD"))
            if commit is not None and commit != head
        ]

    def merge_sides(self) -> tuple[str | None, str, str] | None:
        """Return base, ours and theirs of the merge under way, else of the merge that HEAD is."""
        theirs = self._verify("MERGE_HEAD")
        ours = self.head() if theirs else self._verify("HEAD^1")
        theirs = theirs or self._verify("HEAD^2")
        if ours is None or theirs is None:
            return None
        return self.merge_base(ours, theirs), ours, theirs

    def merge_base(self, ours: str, theirs: str) -> str | None:
        """Return the best commit that two commits both have behind them; None if there is none."""
        base = self._run("merge-base", ours, theirs, codes=(0, 1)).stdout.decode("ascii")
        return base.strip() or None

    # Private

    def _verify(self, rev: str) -> str | None:
        args = ("rev-parse", "--verify", "-q", "--end-of-options", commit_named(rev))
        commit = self._run(*args, codes=(0, 1, 128)).stdout.decode("ascii", "replace").strip()
        # `^main` passes --verify too, as an exclusion
        return commit if OBJECT_ID.fullmatch(commit) else None

    def _commit_id(self, rev: str) -> str:
        return rev if OBJECT_ID.fullmatch(rev) else self.resolve(rev)

    def _commits_of(self, revs: Sequence[str]) -> list[str | None]:
        """Return for each revision its commit id, or None, in one git process."""
        if not revs:
            return []
        names = [commit_named(rev) if rev and "\n" not in rev else "-" for rev in revs]
        lines = "".join(f"{name}\n" for name in names)
        answer = self._run("cat-file", "--batch-check", stdin=os.fsencode(lines)).stdout
        commits: list[str | None] = []
        for line in os.fsdecode(answer).split("\n")[:-1]:
            object_id, *rest = line.split(" ")
            is_commit = len(rest) == 2 and rest[0] == "commit" and OBJECT_ID.fullmatch(object_id)
            commits.append(object_id if is_commit else None)
        return commits

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
        included = [commit for commit in commits[: len(revs)] if commit]
        excluded = [f"^{commit}" for commit in commits[len(revs) :] if commit]
        return "".join(f"{line}\n" for line in [*included, *excluded]).encode("ascii")

    def _require_commit(self) -> None:
        if self.head() is None:
            raise SetupError("there is no commit yet", hint="run: git commit")
