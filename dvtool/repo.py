"""The Python API: one object for a repository, with a method for each verb.

It opens the parts, works out what paths and revisions mean, and hands both to `dvtool.verbs`.
Paths are given as a user types them, relative to the folder in which the repository was opened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import (
    ManifestError,
    MissingError,
    RemoteError,
    SetupError,
    UsageError,
    listing,
    printable,
    size_text,
)
from dvtool.format.digest import parse_hex
from dvtool.format.manifest import (
    SUFFIX,
    Entry,
    Manifest,
    ShardRef,
    update,
)
from dvtool.format.selection import Selection
from dvtool.git import Git
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project, refuse_overlap, require_worktree, workspace_path
from dvtool.project.settings import Settings, load_config
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later
from dvtool.system.progress import SILENT, Progress
from dvtool.workspace.files import Workspace
from dvtool.workspace.statcache import StatCache

if TYPE_CHECKING:
    from dvtool.hooks import events as automations
    from dvtool.hooks.events import Automation, Synced
    from dvtool.project import history
    from dvtool.project import preserve as keeping
    from dvtool.project.preserve import Saved
    from dvtool.remotes.estimate import Estimate
    from dvtool.verbs import add as add_ops
    from dvtool.verbs import copy as copy_ops
    from dvtool.verbs import diff as diff_ops
    from dvtool.verbs import drop as drop_ops
    from dvtool.verbs import edit as edit_ops
    from dvtool.verbs import resolving
    from dvtool.verbs import status as status_ops
    from dvtool.verbs.checkout import plan as checkout_ops
    from dvtool.verbs.fetch import download as fetch_ops
    from dvtool.verbs.fsck import check as fsck_check
    from dvtool.verbs.fsck import repair as fsck_repair
    from dvtool.verbs.fsck.findings import Report, Sample
    from dvtool.verbs.gc import bury
    from dvtool.verbs.gc import local as store_gc
    from dvtool.verbs.gc import remote as remote_gc
    from dvtool.verbs.gc import roots as remote_roots
    from dvtool.verbs.gc.bury import RemoteGcPlan
    from dvtool.verbs.push import commits as publishing
    from dvtool.verbs.resolve import Side
    from dvtool.workspace import gitignore as ignoring
else:
    automations = later("dvtool.hooks.events")
    fsck_check = later("dvtool.verbs.fsck.check")
    fsck_repair = later("dvtool.verbs.fsck.repair")
    history = later("dvtool.project.history")
    ignoring = later("dvtool.workspace.gitignore")
    publishing = later("dvtool.verbs.push.commits")
    resolving = later("dvtool.verbs.resolving")
    keeping = later("dvtool.project.preserve")
    add_ops = later("dvtool.verbs.add")
    checkout_ops = later("dvtool.verbs.checkout.plan")
    copy_ops = later("dvtool.verbs.copy")
    diff_ops = later("dvtool.verbs.diff")
    drop_ops = later("dvtool.verbs.drop")
    edit_ops = later("dvtool.verbs.edit")
    fetch_ops = later("dvtool.verbs.fetch.download")
    bury = later("dvtool.verbs.gc.bury")
    store_gc = later("dvtool.verbs.gc.local")
    remote_gc = later("dvtool.verbs.gc.remote")
    remote_roots = later("dvtool.verbs.gc.roots")

NO_WORKTREE = "no-worktree"


class Restored(msgspec.Struct, frozen=True):
    """What a checkout or pull did."""

    targets: tuple[checkout_ops.CheckedOut, ...]
    saved: tuple[Saved, ...] = ()
    fetched: fetch_ops.Fetched | None = None


class Part(msgspec.Struct, frozen=True):
    """What of a manifest is selected."""

    manifest: Manifest
    selection: Selection


class Listed(msgspec.Struct, frozen=True):
    """One entry of a listing: its path from the top of the worktree, and what it is."""

    path: str
    target: str
    entry: Entry


class Repo:
    """A git repository with dvtool in it. Use as a context manager, or `close` it.

    Not for several threads at once. Every method raises `DvError` with a message for the user.
    """

    def __init__(
        self, project: Project, cwd: str, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self.project = project
        self.settings = Settings(project, cwd, environ or {})
        self.paths = Arguments(project, cwd)
        project.store.shard_source = partial(self._fetch_shards, None)

    @cached_property
    def automation(self) -> Automation:
        """What git's hooks do, and putting them in place."""
        return automations.Automation(self.project, self.settings)

    @classmethod
    def open(
        cls,
        path: str = ".",
        *,
        environ: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Repo:
        """Open the repository around a folder; settings `DV_*` are taken from `environ`."""
        cwd = os.path.abspath(path)
        git = Git.discover(cwd)
        try:
            root = git.worktree
            if root is None:
                # Paths still need a top to be relative to: one that has no files, and gets none.
                root = cwd = os.path.join(git.git_dir, "dv", NO_WORKTREE)
            config = load_config(git, root, environ or {})
            place = config.text("store.path") or os.path.join(git.common_dir, "dv")
            project = Project(
                git=git,
                config=config,
                workspace=Workspace(root),
                store=LocalStore(os.path.join(root, os.path.expanduser(place))),
                statcache=StatCache(os.path.join(git.git_dir, "dv", "statcache.db")),
                progress=progress,
            )
        except BaseException:
            git.close()
            raise
        return cls(project, cwd, environ=environ)

    def __enter__(self) -> Repo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was learned of remotes; release files and processes."""
        self.settings.remember_features()
        self.project.workspace.close()
        self.project.store.close()
        self.project.statcache.close()
        self.project.git.close()

    # --- lists of files -------------------------------------------------------------------

    def _fetch_shards(self, remote: str | None, refs: Sequence[ShardRef]) -> None:
        """Fetch shards, from the default remote unless one is named, as they are needed."""
        try:
            fetch_ops.fetch_shards(self.project, self.settings.open_remotes(remote), refs)
        except (SetupError, MissingError, RemoteError) as error:
            raise MissingError(
                f"{len(refs):,} of the lists of files of large manifests are not here, and they "
                f"cannot be fetched: {error}",
                hint=error.hint or "see that the remote can be reached, then repeat the command",
            ) from error

    @contextlib.contextmanager
    def _shards_from(self, remote: str | None, *, fetch: bool = True) -> Iterator[None]:
        """Let missing shards come from this remote meanwhile, or (without `fetch`) from nowhere."""
        store = self.project.store
        before = store.shard_source
        store.shard_source = partial(self._fetch_shards, remote) if fetch else None
        try:
            yield
        finally:
            store.shard_source = before

    # --- verbs on the workspace -----------------------------------------------------------

    def add(
        self,
        paths: Sequence[str],
        *,
        untrack: bool = False,
        stage: bool = True,
        dereference: bool = False,
        jobs: int | None = None,
    ) -> list[add_ops.Added]:
        """Snapshot files and folders; see `dvtool.verbs.add`."""
        require_worktree(self.project.git)
        self.settings.require_init()
        requests = add_ops.plan(self.project, [self.paths.relative(path) for path in paths])
        with self.project.lock():
            resolving.refuse_conflicted(self.project, [one.target for one in requests])
            return [
                add_ops.add(
                    self.project,
                    request,
                    untrack=untrack,
                    stage=stage,
                    dereference=dereference,
                    jobs=jobs or self.project.config.number("core.jobs") or None,
                )
                for request in requests
            ]

    def status(self, paths: Sequence[str] = ()) -> list[status_ops.TargetStatus]:
        """Compare workspace, manifests and HEAD."""
        require_worktree(self.project.git)
        select = partial(self.paths.selections, paths=paths)
        try:
            return resolving.status(self.project, select)
        except ManifestError:
            # Rare, and dear to look for: what git merged as text need not be a manifest.
            return resolving.status(self.project, select, mismerged=True)

    def resolve(
        self, paths: Sequence[str] = (), *, side: Side | None = None
    ) -> list[resolving.Settled]:
        """Settle what a merge left in manifests; without a side, what does not truly conflict.

        The workspace follows, as far as that overwrites nothing unsaved and the store has it.
        """
        with self.project.lock():
            return resolving.resolve(
                self.project, partial(self.paths.selections, paths=paths), side
            )

    def checkout(
        self,
        rev: str | None = None,
        paths: Sequence[str] = (),
        *,
        force: bool = False,
        fetch: bool = True,
    ) -> Restored:
        """Give the workspace the content of the manifests, or of a commit's, which then go there.

        Content that is missing is fetched from the default remote first, unless `fetch` is False.
        """
        with self.project.lock(), self._shards_from(None, fetch=fetch):
            return self._restore(rev, paths, force=force, remote=None, fetch=fetch)

    def rm(
        self, paths: Sequence[str], *, data: bool = False, force: bool = False
    ) -> list[edit_ops.Removed]:
        """Untrack targets, or entries in them; `data` removes the files from the workspace too."""
        with self.project.lock():
            selections = self.paths.selections(self.project.targets(), paths)
            return [
                edit_ops.remove(self.project, selection, data=data, force=force)
                for selection in selections
            ]

    def mv(self, source: str, destination: str) -> edit_ops.Moved:
        """Rename a target or entries in one."""
        with self.project.lock():
            return edit_ops.move(
                self.project, self.paths.relative(source), self.paths.relative(destination)
            )

    def drop(
        self, paths: Sequence[str], *, remote: str | None = None, workspace: bool = True
    ) -> drop_ops.Dropped:
        """Free workspace and store, or the store alone, of what a remote provably holds."""
        return drop_ops.drop(
            self.project,
            self.settings,
            partial(self.paths.selections, paths=paths),
            remote=remote,
            workspace=workspace,
        )

    # --- verbs on remotes -----------------------------------------------------------------

    def push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Sequence[str] = (),
    ) -> publishing.PushReport:
        """Upload what commits need, and prove that it is there.

        Without `revs` that is HEAD; `every` takes all refs. What the commits behind them need is
        uploaded too, unless a push, from here or from another clone, proved that before.
        """
        request = self._push_request(remote, revs, every=every, paths=paths)
        with self._shards_from(None if self.project.config.default_remote() else remote):
            return publishing.push(self.project, self.settings, request)

    def plan_push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Sequence[str] = (),
    ) -> publishing.PushPlan:
        """Say what `push` would upload, and what that takes; the remote is only asked."""
        request = self._push_request(remote, revs, every=every, paths=paths)
        with self._shards_from(None if self.project.config.default_remote() else remote):
            return publishing.plan_push(self.project, self.settings, request)

    def _push_request(
        self, remote: str | None, revs: Sequence[str], *, every: bool, paths: Sequence[str]
    ) -> publishing.PushRequest:
        def select(targets: Sequence[str]) -> set[str]:
            return {selection.target for selection in self.paths.selections(targets, paths)}

        return publishing.PushRequest(remote, revs, every, select if paths else None)

    def fetch(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        paths: Sequence[str] = (),
    ) -> fetch_ops.Fetched:
        """Bring content into the local store: of the manifests in the worktree, or of commits.

        What the default remote lacks is taken from the others; a named one is asked alone.
        """
        wanted = self._to_fetch(revs, paths)
        return fetch_ops.fetch(self.project, self.settings.open_remotes(remote), wanted)

    def plan_fetch(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        paths: Sequence[str] = (),
    ) -> tuple[fetch_ops.Fetched, Estimate]:
        """Say what `fetch` would bring, and what that takes; only lists of files are fetched."""
        wanted = self._to_fetch(revs, paths)
        return fetch_ops.estimate(self.project, self.settings.open_remote(remote), wanted)

    def _to_fetch(self, revs: Sequence[str], paths: Sequence[str]) -> list[fetch_ops.Wanted]:
        wanted: list[fetch_ops.Wanted] = []
        for manifests in self._manifests_of(revs):
            selections = self.paths.selections(sorted(manifests), paths)
            wanted.extend(self._wanted(manifests[s.target], s) for s in selections)
        return wanted

    def _wanted(
        self, manifest: Manifest, selection: Selection, only: frozenset[bytes] | None = None
    ) -> fetch_ops.Wanted:
        past = partial(history.versions_behind, self.project, selection.target)
        return fetch_ops.Wanted(manifest, selection, only, past)

    def _manifests_of(self, revs: Sequence[str]) -> Iterator[dict[str, Manifest]]:
        if not revs:
            yield {target: self.project.manifest(target) for target in self.project.targets()}
        for rev in revs:
            yield self.project.manifests_at(self.project.git.resolve(rev))

    def pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Sequence[str] = (),
        force: bool = False,
    ) -> Restored:
        """Fetch what the workspace lacks, then check it out."""
        with self.project.lock(), self._shards_from(remote):
            return self._restore(rev, paths, force=force, remote=remote, fetch=True)

    def plan_pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Sequence[str] = (),
        force: bool = False,
    ) -> tuple[fetch_ops.Fetched, Estimate]:
        """Say what `pull` would download, and what that takes; the workspace stays as it is."""
        with self._shards_from(remote):
            _, wanted, plans = self._to_restore(rev, paths, force=force)
            short = list(self._short(plans, wanted))
            return fetch_ops.estimate(self.project, self.settings.open_remote(remote), short)

    def _to_restore(
        self, rev: str | None, paths: Sequence[str], *, force: bool
    ) -> tuple[str | None, list[Part], list[checkout_ops.Plan]]:
        """Return the commit, the manifests as far as selected, and what checking out will do."""
        project = self.project
        commit = project.git.resolve(rev) if rev else None
        manifests = project.manifests_at(commit) if commit else next(self._manifests_of(()))
        selections = self.paths.selections(sorted(manifests), paths)
        refuse_overlap([*project.targets(), *(s.target for s in selections)])
        wanted = [Part(manifests[s.target], s) for s in selections]
        plans = [self._plan(commit, one) for one in wanted]
        checkout_ops.refuse_losses(plans, force=force)
        return commit, wanted, plans

    def copy_remote(self, source: str, destination: str, *, every: bool = False) -> copy_ops.Copied:
        """Copy what this repository (or `every` one) pushed to a remote to another one.

        Remotes are given by name, URL or path. Nothing of it comes into the local store.
        """
        return copy_ops.copy_remote(self.project, self.settings, source, destination, every=every)

    def plan_copy(
        self, source: str, destination: str, *, every: bool = False
    ) -> tuple[copy_ops.Copied, Estimate]:
        """Say what `copy_remote` would copy, and what that takes; nothing is written."""
        return copy_ops.plan_copy(self.project, self.settings, source, destination, every=every)

    def _restore(
        self,
        rev: str | None,
        paths: Sequence[str],
        *,
        force: bool,
        remote: str | None,
        fetch: bool,
    ) -> Restored:
        project = self.project
        commit, wanted, plans = self._to_restore(rev, paths, force=force)
        if commit is not None:
            project.git.refuse_if_index_is_locked()
        fetched = self._fetch_for(plans, wanted, remote=remote, fetch=fetch)
        saved = checkout_ops.save_unsaved(project, plans) if force else []
        done = []
        for plan, one in zip(plans, wanted, strict=True):
            done.append(checkout_ops.apply(project, plan))
            if commit is not None:
                self._put_manifest(commit, one)
        return Restored(tuple(done), tuple(saved), fetched)

    def _plan(self, commit: str | None, one: Part) -> checkout_ops.Plan:
        target = one.selection.target
        before = None
        if commit is not None and self.project.manifest_text(target) is not None:
            before = self.project.manifest(target)
        return checkout_ops.plan(self.project, one.selection, one.manifest, before=before)

    def _fetch_for(
        self,
        plans: Sequence[checkout_ops.Plan],
        wanted: Sequence[Part],
        *,
        remote: str | None,
        fetch: bool,
    ) -> fetch_ops.Fetched | None:
        """Get what the plans need and the store lacks."""
        short = list(self._short(plans, wanted))
        if not short:
            return None
        configured = self.project.config.remotes()
        if not fetch or not (remote or configured):
            missing = self._missing(plans)
            raise MissingError(
                f"the content of {len(missing):,} files ({size_text(sum(missing.values()))}) is "
                f"not in the local store; nothing was changed:\n{listing(sorted(missing))}",
                hint="run: dv pull" if configured else "add the remote that has it: dv remote add",
            )
        return fetch_ops.fetch(self.project, self.settings.open_remotes(remote), short)

    def _short(
        self, plans: Sequence[checkout_ops.Plan], wanted: Sequence[Part]
    ) -> Iterator[fetch_ops.Wanted]:
        """Yield what to fetch for plans that the store lacks content for."""
        for plan, one in zip(plans, wanted, strict=True):
            if checkout_ops.lacks_content(self.project, plan):
                yield self._wanted(one.manifest, one.selection, plan.only)

    def _missing(self, plans: Sequence[checkout_ops.Plan]) -> dict[str, int]:
        """Return path -> size for each content that plans need and the store lacks."""
        missing = {}
        for plan in plans:
            needed = plan.needed()
            for digest in self.project.store.lacking(needed):
                path = needed[digest]
                missing[workspace_path(plan.target, path)] = plan.write[path].size
        return missing

    def _put_manifest(self, commit: str, one: Part) -> None:
        """Put a commit's manifest, or the selected entries of it, into worktree and index."""
        project, target = self.project, one.selection.target
        keeping.keep_uncommitted(project, target)
        if one.selection.whole or project.manifest_text(target) is None:
            project.git.restore(commit, [target + SUFFIX])
            project.git.stage(ignoring.ignore_target(project.workspace, target))
            return
        now = project.manifest(target)
        old = project.entries(now, one.selection)
        new = project.entries(one.manifest, one.selection)
        changes: dict[str, Entry | None] = dict.fromkeys(old)
        changes.update(new)
        built = update(now, changes, project.store.load_shard)
        project.store.put_shards(built.shards)
        project.write_manifest(target, built.manifest)
        # Also if it was written before: by a command that ended before it could be staged.
        project.git.stage([target + SUFFIX])

    # --- giving space back ----------------------------------------------------------------

    def gc(
        self,
        *,
        unpushed: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
    ) -> store_gc.GcResult:
        """Free the local store of what nothing here needs and a remote holds.

        `unpushed` frees also what no remote holds, if nothing here needs it and it is older than
        `grace_s` seconds.
        """
        request = store_gc.GcRequest(unpushed, dry_run, _grace_s(grace_s))
        return store_gc.gc_local(self.project, self.settings, request)

    def gc_remote(
        self,
        remote: str | None = None,
        *,
        expire: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
    ) -> remote_gc.RemoteGcResult:
        """Bury what no root on a remote names, and remove what was buried `grace_s` seconds ago.

        `expire` lets go, too, what earlier pushes of this repository needed and nobody can ask
        for any more.
        """
        request = remote_gc.RemoteGcRequest(remote, expire, dry_run, _grace_s(grace_s))
        return remote_gc.gc_remote(self.project, self.settings, request)

    def gc_undo(self, remote: str | None = None) -> int:
        """Take back what gc buried on a remote; return how many tombstones that were."""
        return remote_gc.undo_gc(self.settings.open_remote(remote))

    def roots(self, remote: str | None = None) -> list[remote_roots.RepoThere]:
        """Return the repositories that keep data on a remote."""
        return remote_roots.repositories(self.settings.open_remote(remote))

    def retire(self, repo_id: str, remote: str | None = None) -> RemoteGcPlan:
        """Bury, on a remote, all that a repository which is gone for good has there."""
        return remote_roots.retire(self.settings.open_remote(remote), repo_id)

    # --- following git --------------------------------------------------------------------

    def sync(self, *olds: str) -> Synced:
        """Bring the workspace in step with the manifests that git put into the worktree.

        `olds` are commits that the files may still follow; see `Automation.sync`.
        """
        return self.automation.sync(olds)

    def push_refs(self, new: Sequence[str], old: Sequence[str]) -> publishing.PushReport | None:
        """Push what the objects `new`, about to be pushed by git, need; None if that is nothing.

        `old` are those that they replace there. What is no commit, or not here, needs nothing.
        """
        tips = publishing.commits_with_data(self.project, new, old)
        return self.push(revs=tips) if tips else None

    # --- trust ----------------------------------------------------------------------------

    def fsck(
        self,
        *,
        workspace: bool = False,
        remote: str | None = None,
        deep: bool | Sample = False,
        repair: bool = False,
        rebuild: bool = False,
    ) -> Report:
        """Check the local store; with `workspace` the files, with `remote` that remote too.

        `remote` is a name, or "" for the default one; `deep` reads its packs, all or a sample.
        `repair` mends what can be, `rebuild` makes the index of the local store again first.
        """
        request = fsck_check.fsck_request(
            workspace=workspace, remote=remote, deep=deep, repair=repair, rebuild=rebuild
        )
        return fsck_repair.fsck(self.project, self.settings, request, self._restore_file)

    def _restore_file(self, path: str) -> Sequence[Saved]:
        """Write a file (by its path from the top) as its manifest says; return what was saved."""
        place = os.path.join(self.project.root, path)
        return self._restore(None, [place], force=True, remote=None, fetch=True).saved

    # --- verbs that only look -------------------------------------------------------------

    def diff(
        self, old: str | None = None, new: str | None = None, paths: Sequence[str] = ()
    ) -> list[diff_ops.TargetDiff]:
        """Compare two commits, or a commit (HEAD without one) with the workspace."""
        git = self.project.git
        if new is None:
            require_worktree(git)
        before = git.resolve(old) if old else git.head()
        after = git.resolve(new) if new else None
        targets = diff_ops.targets_at(self.project, [before, after] if before else [after])
        return diff_ops.diff_commits(
            self.project, before, after, self.paths.selections(targets, paths)
        )

    def log(
        self, path: str, *, rev: str | None = None, limit: int | None = None
    ) -> Iterator[diff_ops.LogEntry]:
        """Yield the commits that changed a target, newest first."""
        inner = self.paths.relative(path).removesuffix(SUFFIX)
        if self.project.git.head() is None:
            raise SetupError("there are no commits yet", hint="git commit the manifests first")
        return diff_ops.log(self.project, inner, rev=rev or "HEAD", limit=limit)

    def ls(self, paths: Sequence[str] = (), *, rev: str | None = None) -> Iterator[Listed]:
        """Yield the entries of the manifests in the worktree or (with `rev`) of a commit."""
        manifests = next(iter(self._manifests_of([rev] if rev else [])))
        for selection in self.paths.selections(sorted(manifests), paths):
            for path, entry in self.project.entries(manifests[selection.target], selection).items():
                place = workspace_path(selection.target, path)
                yield Listed(place, selection.target, entry)

    def cat(self, path: str, *, rev: str | None = None) -> Iterator[memoryview]:
        """Yield the bytes of one tracked file, from the store or else from the default remote."""
        found = [one for one in self.ls([path], rev=rev) if one.entry.is_file]
        exact = [one for one in found if one.path == self.paths.relative(path)]
        if len(exact) != 1:
            raise UsageError(
                f"{printable(path)} is not one tracked file", hint="see what there is: dv ls"
            )
        entry = exact[0].entry
        if self.project.store.lacking([entry.digest]):
            manifests = next(iter(self._manifests_of([rev] if rev else [])))
            target = exact[0].target
            inner = exact[0].path[len(target) + 1 :]
            selection = Selection(target, (inner,) if inner else ())
            wanted = [self._wanted(manifests[target], selection)]
            fetch_ops.fetch(self.project, self.settings.open_remotes(), wanted)
        return self._read(entry.digest)

    def cat_content(self, blake3: str) -> Iterator[memoryview]:
        """Yield the bytes of content in the local store, by its BLAKE3 in hex."""
        try:
            digest = parse_hex(blake3)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return self._read(digest)

    def _read(self, digest: bytes) -> Iterator[memoryview]:
        with self.project.store.reader() as reader:
            reader.prepare([digest])
            yield from reader.read(digest)

    def describe(self, rev: str | None = None) -> diff_ops.Description:
        """Return what to write into an experiment's record; see `Description`."""
        git = self.project.git
        if rev is not None or git.worktree is None:
            commit = git.resolve(rev or "HEAD")
            return diff_ops.describe(self.project, commit, data_dirty=False, code_dirty=False)
        data_dirty = any(not one.clean for one in self.status())
        return diff_ops.describe(
            self.project,
            None,
            data_dirty=data_dirty,
            code_dirty=git.head() is None or git.is_dirty(exclude_manifests=True),
        )


def _grace_s(given: float | None) -> float:
    return bury.GRACE_S if given is None else given


def clone(url: str, directory: str | None = None, *, cwd: str = ".", rev: str | None = None) -> str:
    """Clone a git repository; return the folder, absolute, in which it now is.

    With `rev` that revision is checked out: a branch of the origin as a branch, a tag or a commit
    detached. No data is fetched: open the clone and `pull`.
    """
    place = Git.clone(url, directory, cwd=os.path.abspath(cwd), checkout=rev is None)
    if rev is not None:
        with Git.discover(place) as git:
            git.switch_fresh(rev)
    return place
