"""The Python API: one object for a repository, with a method for each verb.

It opens the parts and hands them to `dvtool.verbs`. Paths are given as a user types them, relative
to the folder in which the repository was opened: one, or several, as text or as `Path`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from dvtool.project.arguments import Arguments, Paths
from dvtool.project.opening import close_project, open_project
from dvtool.project.parts import Project, require_worktree
from dvtool.project.settings import Settings
from dvtool.project.shards import ShardSource
from dvtool.system.lazy import later, later_in
from dvtool.system.progress import SILENT, Progress

if TYPE_CHECKING:
    from dvtool.format.manifest import ShardRef
    from dvtool.hooks import install, service
    from dvtool.jobs import engine as engines
    from dvtool.jobs.engine import Engine
    from dvtool.project import candidates, preserve
    from dvtool.project.preserve import Saved
    from dvtool.remotes import examine
    from dvtool.remotes.estimate import Estimate
    from dvtool.remotes.evidence import Announce
    from dvtool.remotes.examine import Examination
    from dvtool.verbs import clone, copy, describe, diff, doctor, drop, edit, log, read, sparse
    from dvtool.verbs.add import plan as add_plan, publish as add_publish
    from dvtool.verbs.add.foresee import Added
    from dvtool.verbs.checkout import restore
    from dvtool.verbs.checkout.restore import Restored
    from dvtool.verbs.edit import Removed, Renamed
    from dvtool.verbs.fetch import download, plan as fetch_plan, request
    from dvtool.verbs.fetch.request import Fetched
    from dvtool.verbs.fsck import check, repair as repair_verb
    from dvtool.verbs.fsck.findings import FsckReport, Sample
    from dvtool.verbs.gc import bury, local as gc_local, remote as gc_remote, roots
    from dvtool.verbs.gc.bury import RemoteGcPlan
    from dvtool.verbs.gc.local import GcResult
    from dvtool.verbs.gc.remote import RemoteGcResult
    from dvtool.verbs.gc.roots import RepoThere
    from dvtool.verbs.push import commits
    from dvtool.verbs.push.commits import PushPlan, PushReport, PushRequest
    from dvtool.verbs.resolve import conflicts, settle
    from dvtool.verbs.resolve.settle import Settled, Side
    from dvtool.verbs.status import TargetStatus
else:
    engines = later("dvtool.jobs.engine")
    candidates, preserve = later_in("dvtool.project", "candidates", "preserve")
    examine = later("dvtool.remotes.examine")
    clone, copy, describe, diff = later_in("dvtool.verbs", "clone", "copy", "describe", "diff")
    doctor, drop, edit = later_in("dvtool.verbs", "doctor", "drop", "edit")
    log, read, sparse = later_in("dvtool.verbs", "log", "read", "sparse")
    add_plan, add_publish = later_in("dvtool.verbs.add", "plan", "publish")
    restore = later("dvtool.verbs.checkout.restore")
    download, fetch_plan, request = later_in("dvtool.verbs.fetch", "download", "plan", "request")
    check, repair_verb = later_in("dvtool.verbs.fsck", "check", "repair")
    bury, gc_local, gc_remote, roots = later_in(
        "dvtool.verbs.gc", "bury", "local", "remote", "roots"
    )
    commits = later("dvtool.verbs.push.commits")
    conflicts, settle = later_in("dvtool.verbs.resolve", "conflicts", "settle")
    install, service = later_in("dvtool.hooks", "install", "service")


class Repo:
    """A git repository with dvtool in it. Use as a context manager, or `close` it.

    `config` has its settings and remotes. Not for several threads at once. Every method raises
    `DvError` with a message for the user.
    """

    def __init__(self, project: Project, cwd: str, *, environ: Mapping[str, str]) -> None:
        self.config = Settings(project, cwd, environ)
        self._project = project
        self.arguments = self._arguments = Arguments(project, cwd)
        project.shards = ShardSource(project.store, self._fetch_shards)

    @cached_property
    def hooks(self) -> install.Hooks:
        """The git hooks and drivers, and putting them in place and out."""
        return install.Hooks(self._project, self.config)

    @cached_property
    def sparse(self) -> sparse.Sparse:
        """The standing rules that say which data this worktree takes, and changing them."""
        return sparse.Sparse(self._project, self._arguments)

    @property
    def for_git(self) -> service.GitService:
        """What git's hooks and drivers ask for."""
        return service.GitService(self._project, self.config)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = ".",
        *,
        environ: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
    ) -> Repo:
        """Open the repository around a folder.

        Settings `DV_*` are taken from `environ`; without it, from the environment of this process,
        as the command does. With `environ={}` there are none.
        """
        environ = os.environ if environ is None else environ
        project, cwd = open_project(os.path.abspath(path), environ, progress)
        return cls(project, cwd, environ=environ)

    def __enter__(self) -> Repo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was learned of remotes; release files and processes."""
        self.config.remember_features()
        close_project(self._project)

    def _fetch_shards(self, remote: str | None, refs: Sequence[ShardRef]) -> None:
        """Fetch shards, from the default remote unless one is named, as they are needed."""
        download.fetch_shards(self._project, self.config.open_remotes(remote), refs)

    # --- the repository -------------------------------------------------------------------

    @staticmethod
    def clone(
        url: str,
        directory: str | None = None,
        *,
        cwd: str = ".",
        rev: str | None = None,
        progress: Progress = SILENT,
    ) -> str:
        """Clone a git repository, without its data; return the folder, absolute."""
        return clone.clone(url, directory, cwd=cwd, rev=rev, progress=progress)

    def init(self) -> bool:
        """Make `.dvconfig`, staged, and the local store; False if that was done before."""
        fresh = self.config.init()
        _ = self._project.store.db  # makes the local store
        return fresh

    @property
    def set_up(self) -> bool:
        """Whether `init` was run here or where this was cloned from, or there are targets."""
        return self.config.initialised or bool(self.targets())

    def targets(self) -> list[str]:
        """Return the targets whose manifests are in the worktree, sorted."""
        return self._project.targets()

    @property
    def saved_folder(self) -> str:
        """Where the names and hashes of what `--force` replaced are, from the worktree's top."""
        return os.path.relpath(preserve.saved_folder(self._project), self._project.root)

    def shown(self, path: str) -> str:
        """Return a path from the top of the worktree as the user would type it here."""
        return self._arguments.shown(path)

    def shown_in(self, target: str, path: str) -> str:
        """Return the path of an entry of a target as the user would type it here."""
        return self._arguments.shown_in(target, path)

    def candidates(self, begun: str, *, rev: str | None = None) -> list[str]:
        """Return what paths may follow what was typed so far, here or in a revision."""
        return candidates.path_candidates(self._project, self._arguments, begun, rev=rev)

    def revisions(self) -> list[str]:
        """Return HEAD and the names of branches and tags."""
        return candidates.revision_candidates(self._project)

    def check(self) -> Iterator[doctor.Check]:
        """Check settings, manifests, local store, hooks and the default remote."""
        return doctor.check_repository(self._project, self.hooks.states, self.config.open_remote)

    def examine_remote(self, remote: str | None = None) -> tuple[str, Examination]:
        """Try a remote out; return its URL, and what was found."""
        backend = self.config.open_plain(remote)
        return backend.url, examine.examine(backend)

    # --- verbs on the workspace -----------------------------------------------------------

    def add(
        self,
        paths: Paths = (),
        *,
        update: bool = False,
        jobs: int | None = None,
        engine: Engine | None = None,
        **options: bool,
    ) -> list[Added]:
        """Snapshot files and folders; with `update` those that are targets, all without a path.

        The files are read by `engine`, or by at most so many `jobs`, processes of this machine.
        The `options`: `untrack`, `stage`, `dereference`, `as_is`, `ours`, `plan_only`.
        """
        project = self._project
        require_worktree(project.git)
        self.config.require_init()
        if engine is None:
            engine = engines.LocalPool(jobs or project.config.number("core.jobs") or None)
        chosen = add_plan.paths_to_add(project, self._arguments, paths, update=update)
        to_add = add_plan.plan_add(project, chosen)
        how = add_publish.AddOptions(engine=engine, **options)
        with project.lock():
            conflicts.refuse_conflicted(project, [one.target for one in to_add])
            return [add_publish.add(project, request, how) for request in to_add]

    def status(self, paths: Paths = ()) -> list[TargetStatus]:
        """Compare workspace, manifests and HEAD."""
        require_worktree(self._project.git)
        select = partial(self._arguments.selections, paths=paths)
        address = self.config.default_address
        return conflicts.status_with_conflicts(self._project, select, address)

    def resolve(self, paths: Paths = (), *, side: Side | None = None) -> list[Settled]:
        """Settle what a merge left in manifests; without a side, what does not truly conflict.

        The workspace follows, as far as that overwrites nothing unsaved and the store has it.
        """
        select = partial(self._arguments.selections, paths=paths)
        return settle.resolve(self._project, select, side)

    def checkout(
        self,
        rev: str | None = None,
        paths: Paths = (),
        *,
        force: bool = False,
        fetch: bool = True,
        plan_only: bool = False,
    ) -> Restored:
        """Give the workspace the content of the manifests, or of a commit's, which then go there.

        Content that is missing is fetched from the default remote first, unless `fetch` is False.
        """
        request = restore.RestoreRequest(rev, paths, force=force, fetch=fetch, plan_only=plan_only)
        return restore.checkout(self._project, self.config, self._arguments, request)

    def restore(
        self, paths: Paths, *, source: str | None = None, plan_only: bool = False
    ) -> Restored:
        """Undo changes to files, which are saved first; manifests stay, also with a `source`."""
        request = restore.RestoreRequest(
            source, paths, force=True, manifests=False, plan_only=plan_only
        )
        return restore.checkout(self._project, self.config, self._arguments, request)

    def rm(
        self, paths: Paths, *, data: bool = False, force: bool = False, plan_only: bool = False
    ) -> list[Removed]:
        """Untrack targets, or entries in them; `data` removes the files from the workspace too."""
        return edit.rm(
            self._project, self._arguments, paths, data=data, force=force, plan_only=plan_only
        )

    def mv(self, source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Renamed:
        """Rename a target or entries in one."""
        return edit.mv(self._project, self._arguments, source, destination)

    def drop(
        self,
        paths: Paths,
        *,
        remote: str | None = None,
        workspace: bool = True,
        plan_only: bool = False,
        announce: Announce | None = None,
    ) -> drop.Dropped:
        """Free workspace and store, or the store alone, of what a remote provably holds.

        `plan_only` says what would go. `announce` is told what has to be read back from the remote
        first, where it does not state what it holds.
        """
        return drop.drop(
            self._project,
            self.config,
            partial(self._arguments.selections, paths=paths),
            remote=remote,
            workspace=workspace,
            plan_only=plan_only,
            announce=announce,
        )

    # --- verbs on remotes -----------------------------------------------------------------

    def push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Paths = (),
        anew: bool = False,
    ) -> PushReport:
        """Upload what commits need, and prove that it is there.

        Without `revs` that is HEAD; `every` takes all refs. What the commits behind them need is
        uploaded too, unless a push, from here or from another clone, proved that before. A place
        that was another remote when it was used last is refused, but for `anew`.
        """
        self.config.trust_first_use()
        return commits.push(*self._pushing(remote, revs, paths, every=every, anew=anew))

    def plan_push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Paths = (),
        tips_only: bool = False,
    ) -> PushPlan:
        """Say what `push` would upload, with `tips_only` of the revisions alone; none is sent."""
        self.config.trust_first_use()
        pushing = self._pushing(remote, revs, paths, every=every)
        return commits.plan_push(*pushing, tips_only=tips_only)

    def _pushing(
        self,
        remote: str | None,
        revs: Sequence[str],
        paths: Paths = (),
        *,
        every: bool = False,
        anew: bool = False,
    ) -> tuple[Project, Settings, PushRequest]:
        """Return what to push; missing shards come from it only if there is no default remote."""
        source = None if self._project.config.default_remote() else remote
        select = partial(self._arguments.targets_of, paths=paths) if paths else None
        request = commits.PushRequest(remote, revs, every, select, anew)
        return self._project.with_shards_from(source), self.config, request

    def fetch(
        self, *, remote: str | None = None, revs: Sequence[str] = (), paths: Paths = ()
    ) -> Fetched:
        """Bring content into the local store: of the manifests in the worktree, or of commits.

        What the default remote lacks is taken from the others; a named one is asked alone.
        """
        self.config.trust_first_use()
        wanted = request.fetch_requests(self._project, self._arguments, revs, paths)
        return download.fetch(self._project, self.config.open_remotes(remote), wanted)

    def plan_fetch(
        self, *, remote: str | None = None, revs: Sequence[str] = (), paths: Paths = ()
    ) -> tuple[Fetched, Estimate]:
        """Say what `fetch` would bring, and what that takes; only shards are fetched."""
        self.config.trust_first_use()
        wanted = request.fetch_requests(self._project, self._arguments, revs, paths)
        return fetch_plan.plan_fetch(self._project, self.config.open_remote(remote), wanted)

    def pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Paths = (),
        force: bool = False,
    ) -> Restored:
        """Fetch what the workspace lacks, then check it out."""
        self.config.trust_first_use()
        request = restore.RestoreRequest(rev, paths, force=force, remote=remote)
        return restore.checkout(self._project, self.config, self._arguments, request)

    def plan_pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Paths = (),
        force: bool = False,
    ) -> tuple[Fetched, Estimate]:
        """Say what `pull` would download, and what that takes; the workspace stays as it is."""
        self.config.trust_first_use()
        request = restore.RestoreRequest(rev, paths, force=force, remote=remote)
        return restore.estimate_pull(self._project, self.config, self._arguments, request)

    def copy_remote(self, source: str, destination: str, *, every: bool = False) -> copy.Copied:
        """Copy what this repository (or `every` one) pushed to a remote to another one.

        Remotes are given by name, URL or path. Nothing of it comes into the local store.
        """
        return copy.copy_remote(self._project, self.config, source, destination, every=every)

    def plan_copy(
        self, source: str, destination: str, *, every: bool = False
    ) -> tuple[copy.Copied, Estimate]:
        """Say what `copy_remote` would copy, and what that takes; nothing is written."""
        return copy.plan_copy(self._project, self.config, source, destination, every=every)

    # --- giving space back ----------------------------------------------------------------

    def gc(
        self,
        *,
        unpushed: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
        announce: Announce | None = None,
    ) -> GcResult:
        """Free the local store of what nothing here needs and a remote holds.

        `unpushed` frees also what no remote holds, if nothing here needs it and it is older than
        `grace_s` seconds. `announce` is told what has to be read back from a remote first.
        """
        grace_s = bury.GRACE_S if grace_s is None else grace_s
        request = gc_local.GcRequest(unpushed, dry_run, grace_s, announce)
        return gc_local.gc_local(self._project, self.config, request)

    def gc_remote(
        self,
        remote: str | None = None,
        *,
        expire: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
    ) -> RemoteGcResult:
        """Bury what no root on a remote names, and remove what was buried `grace_s` seconds ago.

        `expire` lets go, too, what earlier pushes needed and nobody can ask for any more.
        """
        grace_s = bury.GRACE_S if grace_s is None else grace_s
        request = gc_remote.RemoteGcRequest(remote, expire, dry_run, grace_s)
        return gc_remote.gc_remote(self._project, self.config, request)

    def gc_undo(self, remote: str | None = None) -> int:
        """Take back what gc buried on a remote; return how many tombstones that were."""
        return gc_remote.undo_gc(self.config.open_remote(remote))

    def roots(self, remote: str | None = None) -> list[RepoThere]:
        """Return the repositories that keep data on a remote."""
        return roots.repositories(self.config.open_remote(remote), self.config.repo_id)

    def retire(self, repo_id: str, remote: str | None = None) -> RemoteGcPlan:
        """Bury, on a remote, all that a repository which is gone for good has there."""
        return roots.retire(self.config.open_remote(remote), repo_id)

    def push_refs(self, new: Sequence[str], old: Sequence[str]) -> PushReport | None:
        """Push what the objects `new`, about to be pushed by git, need; None if that is nothing.

        `old` are those that they replace there. What is no commit, or not here, needs nothing.
        """
        tips = commits.commits_with_data(self._project, new, old)
        return commits.push(*self._pushing(None, tips)) if tips else None

    # --- trust ----------------------------------------------------------------------------

    def fsck(
        self,
        *,
        workspace: bool = False,
        remote: str | None = None,
        deep: bool | Sample = False,
        repair: bool = False,
        rebuild: bool = False,
    ) -> FsckReport:
        """Check the local store; with `workspace` the files, with `remote` that remote too.

        `remote` is a name, or "" for the default one; `deep` reads its packs, all or a sample.
        `repair` mends what can be, `rebuild` makes the index of the local store again first.
        """
        request = check.fsck_request(
            workspace=workspace, remote=remote, deep=deep, repair=repair, rebuild=rebuild
        )
        return repair_verb.fsck(self._project, self.config, request, self._restore_file)

    def _restore_file(self, path: str) -> Sequence[Saved]:
        """Write a file (by its path from the top) as its manifest says; return what was saved."""
        place = os.path.join(self._project.root, path)
        request = restore.RestoreRequest(paths=place, force=True)
        return restore.restore(self._project, self.config, self._arguments, request).saved

    # --- verbs that only look -------------------------------------------------------------

    def diff(
        self, old: str | None = None, new: str | None = None, paths: Paths = ()
    ) -> list[diff.TargetDiff]:
        """Compare two commits, or a commit (HEAD without one) with the workspace."""
        return diff.diff(self._project, self._arguments, old, new, paths)

    def log(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        rev: str | None = None,
        limit: int | None = None,
    ) -> Iterator[log.LogEntry]:
        """Yield the commits that changed a target, or (None) any; UsageError if none did."""
        return log.log(self._project, self._arguments, path, rev=rev, limit=limit)

    def ls(self, paths: Paths = (), *, rev: str | None = None) -> Iterator[read.Listed]:
        """Yield the entries of the manifests in the worktree or (with `rev`) of a commit."""
        return read.ls(self._project, self._arguments, paths, rev=rev)

    def cat(self, path: str | os.PathLike[str], *, rev: str | None = None) -> Iterator[memoryview]:
        """Yield the bytes of one tracked file, from the store or else from the default remote."""
        return read.cat(self._project, self.config, self._arguments, path, rev=rev)

    def cat_content(self, blake3: str) -> Iterator[memoryview]:
        """Yield the bytes of content in the local store, by its BLAKE3 in hex."""
        return read.cat_content(self._project, blake3)

    def describe(self, rev: str | None = None) -> describe.Description:
        """Return what to write into an experiment's record; see `Description`."""
        return describe.describe(
            self._project, rev, is_clean=lambda: all(status.clean for status in self.status())
        )
