"""Which manifests does anybody need? The one answer, for every verb that frees or seeks content.

A manifest counts if git, a worktree or dvtool can still bring it back from one of these places:

- the history of every ref (branches, tags, remote branches, notes, bisect, replace, original, those
  of other worktrees), of HEAD in every worktree, and of all reflogs, which stashes are a part of;
- what the state files of every worktree name, such as FETCH_HEAD, ORIG_HEAD, MERGE_HEAD, AUTO_MERGE
  and those of a rebase, am, bisect, cherry-pick or revert under way;
- refs to a tree or a blob, notes whose text is a manifest, and what refs/replace/ hides;
- the index of every worktree, conflicts included, also of a worktree whose folder is gone;
- the files of every worktree, and the manifests below `saved/`.

A caller says what it is about by a `Scope`; the scopes below hold every difference between callers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from dvtool.errors import (
    CorruptError,
    DvError,
    ManifestError,
    ManifestNewer,
    MissingError,
    SetupError,
    printable,
)
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import MANIFEST_SIZE_MAX_BYTES, Entries, Manifest, ShardRef, decode
from dvtool.format.paths import SUFFIX
from dvtool.git import Git
from dvtool.project import preserve
from dvtool.project.parts import Project
from dvtool.workspace.files import Workspace
from dvtool.workspace.opener import reason

OTHER_SIDES = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "refs/stash")
"""Commits that a merge, pick, rebase or `stash pop` under way takes content from."""


class Scope(msgspec.Struct, frozen=True):
    """Which manifests count for a caller, and whether a manifest that cannot be read is an error.

    A file in a worktree or below `saved/` that cannot be read is an error unless `tolerant`.
    """

    reflogs: bool = True
    """Whether commits count that only a reflog names. Stashes count in any case."""
    complete: bool = False
    """Whether a manifest is an error that git has lost, and may get back, or of a later format."""
    tolerant: bool = False
    """Whether what cannot be read is only noted."""
    also: tuple[str, ...] = ()
    """Ids of objects, all of them here, that count as if refs named them."""
    pushed: tuple[str, ...] = ()
    """Commits whose history does not count."""


FOR_GC = Scope()
"""gc frees only what a remote provably holds: a manifest that git has lost must not stop it."""
FOR_GC_UNPUSHED = Scope(complete=True)
"""gc frees data that is nowhere else, here or on a remote: every manifest must be known."""
FOR_NEIGHBOURS = Scope(complete=True)
"""The data of another clone that uses the store is nowhere else, as far as is known here."""
FOR_FSCK = Scope(reflogs=False, tolerant=True)
"""fsck reports missing data; data that only a reflog names may have been freed with reason."""
FOR_NAMING = Scope(tolerant=True)
"""To find content, or to name the files that damage touches, every readable manifest counts."""


def for_expiry(theirs: Iterable[str]) -> Scope:
    """Return the scope of a gc of a remote that expires what a repository needs no more.

    Other clones need the commits `theirs`, which the refs of git's remotes name now.
    """
    return Scope(complete=True, also=tuple(theirs))


def for_drop(pushed: Iterable[str]) -> Scope:
    """Return the scope of drop, whose commits `pushed` are proven to be on the remote.

    A drop may free exactly the data of these commits; all other data stays, also of a reflog.
    """
    return Scope(complete=True, pushed=tuple(pushed))


class Version(msgspec.Struct, frozen=True):
    """One manifest: of a target, as a git blob or (`blob` empty) as a file that is no blob yet.

    `target` is empty for a manifest of what a forced checkout saved, and for a blob that a note, a
    ref or a state file names itself. The path of a file is `where`.
    """

    target: str
    manifest: Manifest
    blob: str
    where: str


class Unread(msgspec.Struct):
    """The files and blobs at a manifest's path that are no manifest, or cannot be read."""

    faults: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """In worktrees and below `saved/`: the path, and why."""
    passed_over: int = 0
    """How many blobs in history."""


def versions(project: Project, scope: Scope, unread: Unread | None = None) -> Iterator[Version]:
    """Yield every manifest that counts, one that is in several places repeatedly perhaps.

    The order is: the files of worktrees, then git, then `saved/`. A text that is no manifest any
    more names nothing and is passed over. MissingError, ManifestNewer or SetupError as the scope
    says.
    """
    reading = _Reading(project, scope, unread if unread is not None else Unread())
    git = project.git
    places = _Places(git, scope)
    for git_dir, top in git.worktree_git_dirs().items():
        # The index of a worktree is read even if the worktree is gone or not mounted.
        stand_in = git_dir if os.path.exists(os.path.join(git_dir, "index")) else None
        with Git(worktree=top or stand_in, git_dir=git_dir, common_dir=git.common_dir) as worktree:
            places.take_worktree(worktree)
            if worktree.worktree is not None:
                staged = places.take_index(worktree)
                if top is not None:
                    yield from reading.files(worktree, top, staged)
    places.take_history(git)
    yield from reading.blobs(git, places)
    if places.replaced:
        # An object that a replacement hides is back once the replacement is deleted.
        with Git(
            worktree=git.worktree, git_dir=git.git_dir, common_dir=git.common_dir, as_stored=True
        ) as stored:
            places.take_history(stored)
            yield from reading.blobs(stored, places)
    yield from reading.saved()


class _Places:
    """The blobs that are manifests by their path, or may be by what names them."""

    def __init__(self, git: Git, scope: Scope) -> None:
        self.scope = scope
        self.blobs: set[tuple[str, str]] = set()
        """Path and blob."""
        self.loose: set[str] = set()
        """Blobs that a ref, a note or a state file names without a path."""
        self.trees: set[str] = set()
        self.replaced = False
        self.noted = False
        self.tips: set[str] = set()
        """Commits of refs and HEADs; in the history of `shared` git follows them by itself."""
        self.state: set[str] = set()
        """Commits that only state files name."""
        self.tips.update(self._take_objects(git, set(scope.also)))
        self.shared = self._take_refs(git)

    def _take_refs(self, git: Git) -> set[str]:
        refs = git.object_of_each_ref()
        self.replaced |= any(name.startswith("refs/replace/") for name in refs)
        self.noted |= any(name.startswith("refs/notes/") for name in refs)
        commits = self._take_objects(git, set(refs.values()))
        self.tips |= commits
        return commits

    def _take_objects(self, git: Git, names: Collection[str]) -> set[str]:
        kinds = git.kinds_of(names)
        self.trees |= {name for name, kind in kinds.items() if kind == "tree"}
        self.loose |= {name for name, kind in kinds.items() if kind == "blob"}
        return {name for name, kind in kinds.items() if kind == "commit"}

    def take_worktree(self, worktree: Git) -> None:
        """Take what HEAD, the refs and the state files of one worktree name."""
        self._take_refs(worktree)
        self.state |= self._take_objects(worktree, worktree.ids_in_state())
        head = worktree.head()
        if head is not None:
            self.tips.add(head)

    def take_index(self, worktree: Git) -> dict[str, str]:
        """Take what is staged, conflicts included; return path -> blob of the rest."""
        self._take_blobs(worktree.manifest_blobs_in_index())
        return worktree.manifests_in_index()

    def take_history(self, git: Git) -> None:
        """Take what the history behind all of it has, as far as the scope goes."""
        pushed = self.scope.pushed
        if self.scope.reflogs:
            self._take_blobs(git.manifest_blobs_everywhere(exclude=pushed))
            rest = self.tips - self.shared
            self._take_blobs(git.manifest_blobs_in(sorted(rest), exclude=[*pushed, *self.shared]))
        else:
            tips = sorted(self.tips.union(git.stashes()))
            self._take_blobs(git.manifest_blobs_in(tips, exclude=pushed))
        if self.noted:
            self.loose |= git.blobs_of_notes()
        # Unlike what refs name, git may have begun to remove what only state files name.
        with contextlib.suppress(DvError) if self.scope.tolerant else contextlib.nullcontext():
            state = sorted(self.state - self.tips)
            self._take_blobs(git.manifest_blobs_in(state, exclude=[*pushed, *self.tips]))
            for tree in sorted(self.trees):
                self.blobs.update(git.manifests_at(tree).items())

    def _take_blobs(self, history: Mapping[str, Collection[str]]) -> None:
        for path, blobs in history.items():
            self.blobs.update((path, blob) for blob in blobs)


class _Reading:
    """Reads manifests, and passes over or notes what cannot be read, as the scope says."""

    def __init__(self, project: Project, scope: Scope, unread: Unread) -> None:
        self.project = project
        self.scope = scope
        self.unread = unread
        self.seen: set[tuple[str, str]] = set()
        """Path and blob of what was read from the file of a worktree."""

    def files(self, worktree: Git, top: str, staged: Mapping[str, str]) -> Iterator[Version]:
        """Yield the manifests that are files of a worktree."""
        try:
            paths = worktree.manifest_paths()
        except DvError as error:  # the name of one is that of no target
            self._fault(top, str(error), error)
            return
        with Workspace(top) as workspace:
            for path in paths:
                where = os.path.join(top, path)
                try:
                    text = workspace.read_bytes(path, size_max=MANIFEST_SIZE_MAX_BYTES)
                except OSError as error:
                    self._fault(where, reason(error), error)
                    continue
                blob = staged.get(path, "")
                if text is not None and not (blob and worktree.is_blob(blob, text)):
                    blob = ""
                manifest = None if text is None else self._of_file(text, path, where, blob)
                if manifest is not None:
                    self.seen.add((path, blob))
                    yield Version(path.removesuffix(SUFFIX), manifest, blob, where)

    def _of_file(self, text: bytes, path: str, where: str, blob: str) -> Manifest | None:
        try:
            return decode(text, path)
        except ManifestError as error:
            if isinstance(error, ManifestNewer) and self.scope.complete:
                raise
            if not blob:  # else it is passed over where git has it
                self.unread.faults.append((where, str(error)))
            return None

    def _fault(self, where: str, problem: str, error: Exception) -> None:
        if self.scope.tolerant:
            self.unread.faults.append((where, problem))
        elif isinstance(error, DvError):
            raise error
        else:
            raise SetupError(
                f"{printable(where)} cannot be read: {problem}",
                hint="what it names is not known: see that it can be read, or remove it",
            ) from error

    def blobs(self, git: Git, places: _Places) -> Iterator[Version]:
        """Yield the manifests that git has and that were not read from a file."""
        for path, blob in sorted(places.blobs - self.seen):
            manifest = self._of_blob(git, blob, path)
            if manifest is None:
                self.unread.passed_over += 1
            else:
                yield Version(path.removesuffix(SUFFIX), manifest, blob, "")
        for blob in sorted(places.loose - {blob for _, blob in places.blobs}):
            manifest = self._of_blob(git, blob, blob)
            if manifest is not None:
                yield Version("", manifest, blob, "")

    def _of_blob(self, git: Git, blob: str, path: str) -> Manifest | None:
        try:
            return decode(git.read_blob(blob), path)
        except (MissingError, ManifestNewer):
            if self.scope.complete:
                raise
        except CorruptError:
            pass
        return None

    def saved(self) -> Iterator[Version]:
        """Yield the manifests of what forced checkouts saved."""
        folder = os.path.join(self.project.store.path, preserve.SAVED_FOLDER)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if not name.endswith(SUFFIX):
                continue
            try:
                with open(path, "rb") as file:
                    text = file.read(MANIFEST_SIZE_MAX_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._fault(path, reason(error), error)
                continue
            manifest = self._of_file(text, path, path, "")
            if manifest is not None:
                yield Version("", manifest, "", path)


# --- what the manifests need ----------------------------------------------------------------


class NeededContent(msgspec.Struct):
    """The data that manifests need. The entries of shards that are not here are not known."""

    contents: dict[Digest, int] = msgspec.field(default_factory=dict)
    """Content -> its size in bytes."""
    shards: dict[Digest, ShardRef] = msgspec.field(default_factory=dict)
    lists_not_here: set[Digest] = msgspec.field(default_factory=set)
    unread: Unread = msgspec.field(default_factory=Unread)


def needed_content(project: Project, scope: Scope) -> NeededContent:
    """Return what the manifests that count for `scope` need together."""
    needed = NeededContent()
    done: set[Digest] = set()
    for version in versions(project, scope, needed.unread):
        for ref, entries in held_runs(project, version.manifest, done=done):
            if ref is not None:
                needed.shards[ref.digest] = ref
            if entries is not None:
                needed.contents.update(contents_of(entries))
            elif ref is not None:
                needed.lists_not_here.add(ref.digest)
    return needed


def held_runs(
    project: Project, manifest: Manifest, *, done: set[Digest] | None = None
) -> Iterator[tuple[ShardRef | None, Entries | None]]:
    """Yield the entries of a manifest, of a large one shard by shard; None for one not here.

    Shards in `done` are passed over, and those yielded go in.
    """
    if manifest.entries is not None:
        yield None, manifest.entries
        return
    for ref in manifest.shards:
        if done is not None and ref.digest in done:
            continue
        if done is not None:
            done.add(ref.digest)
        entries = None
        with contextlib.suppress(MissingError, DvError):
            entries = project.store.held_shard(ref)
        yield ref, entries


# --- earlier versions of one target ---------------------------------------------------------


def versions_behind(project: Project, target: str) -> Iterator[Manifest]:
    """Yield the versions of a manifest that commits behind HEAD have, newest first.

    Before those, the one of the commit that is being merged, picked or popped; last its past.
    """
    git = project.git
    tips = [rev for rev in OTHER_SIDES if git.has_commit(rev)]
    heads = ["HEAD"] if git.head() else []
    for rev, limit in [(tip, 1) for tip in tips] + [(rev, None) for rev in (*heads, *tips)]:
        for commit in git.log(target + SUFFIX, rev=rev, limit=limit):
            with contextlib.suppress(ManifestError, MissingError):
                if commit.blob is not None:
                    yield decode(git.read_blob(commit.blob), target + SUFFIX)


def versions_anywhere(project: Project, target: str) -> Iterator[Manifest]:
    """Yield the versions of a manifest behind HEAD, newest first, then all others of its target."""
    yield from versions_behind(project, target)
    for version in versions(project, FOR_NAMING):
        if version.target == target:
            yield version.manifest
