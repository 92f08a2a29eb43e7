"""The Python API: one object for a repository, with one method for each verb and one call in it.

`dvtool.project.opening` opens it; `dvtool.verbs` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from dvtool.project.arguments import OnePath, Paths
from dvtool.project.opening import OpenRepository
from dvtool.project.parts import Project
from dvtool.project.shards import ShardSource
from dvtool.system.lazy import later, later_in

if TYPE_CHECKING:
    import dvtool
    from dvtool.format.manifest import ShardRef
    from dvtool.hooks import install, service
    from dvtool.jobs.engine import Engine
    from dvtool.remotes.evidence import Announce
    from dvtool.reports import facade as report_facade
    from dvtool.serve import serving
    from dvtool.snapshots import reading
    from dvtool.verbs import describe, diff, doctor, drop, log, plans, read, remotes, sparse
    from dvtool.verbs.add import publish
    from dvtool.verbs.checkout import restore
    from dvtool.verbs.edit import move, remove
    from dvtool.verbs.export import export
    from dvtool.verbs.fetch import download, request as fetch_request
    from dvtool.verbs.fsck import check as fsck_check, repair as fsck_repair
    from dvtool.verbs.gc import local as gc_local
    from dvtool.verbs.imports import facade as import_facade
    from dvtool.verbs.push import commits
    from dvtool.verbs.record import facade as run_facade, run
    from dvtool.verbs.resolve import conflicts, settle
else:
    install, service = later_in("dvtool.hooks", "install", "service")
    report_facade = later("dvtool.reports.facade")
    serving = later("dvtool.serve.serving")
    reading = later("dvtool.snapshots.reading")
    describe, diff, doctor = later_in("dvtool.verbs", "describe", "diff", "doctor")
    drop, log, plans = later_in("dvtool.verbs", "drop", "log", "plans")
    read, remotes, sparse = later_in("dvtool.verbs", "read", "remotes", "sparse")
    publish = later("dvtool.verbs.add.publish")
    restore = later("dvtool.verbs.checkout.restore")
    move, remove = later_in("dvtool.verbs.edit", "move", "remove")
    export = later("dvtool.verbs.export.export")
    download, fetch_request = later_in("dvtool.verbs.fetch", "download", "request")
    fsck_check, fsck_repair = later_in("dvtool.verbs.fsck", "check", "repair")
    gc_local = later("dvtool.verbs.gc.local")
    import_facade = later("dvtool.verbs.imports.facade")
    commits = later("dvtool.verbs.push.commits")
    run_facade, run = later_in("dvtool.verbs.record", "facade", "run")
    conflicts, settle = later_in("dvtool.verbs.resolve", "conflicts", "settle")


class Repo(OpenRepository):
    """A git repository with dvtool in it, for one thread at a time; see `OpenRepository`.

    Every method raises `DvError` with a message for the user. Its options are those of the command
    of the same name.
    """

    def __init__(self, project: Project, cwd: str, *, environ: Mapping[str, str]) -> None:
        super().__init__(project, cwd, environ=environ)
        project.shards = ShardSource(project.store, self._fetch_shards)

    def _fetch_shards(self, remote: str | None, refs: Sequence[ShardRef], *, places: bool) -> None:
        download.fetch_shards(self._project, self.config.open_remotes(remote), refs, places=places)

    @cached_property
    def hooks(self) -> install.Hooks:
        """The git hooks and drivers, and putting them in place and out."""
        return install.Hooks(self._project, self.config)

    @cached_property
    def sparse(self) -> dvtool.Sparse:
        """The standing rules that say which data this worktree takes, and changing them."""
        return sparse.Sparse(self._project, self._arguments)

    @property
    def for_git(self) -> service.GitService:
        """The service for git's hooks and drivers."""
        return service.GitService(self._project, self.config)

    @property
    def imports(self) -> dvtool.Imports:
        """Data from where it is, and what is new there: see `Imports`."""
        return import_facade.Imports(self._project, self.config, self._arguments)

    @property
    def plans(self) -> dvtool.Plans:
        """The plans of `push`, `fetch` and `pull`, and what they would take: see `Plans`."""
        return plans.Plans(self._project, self.config, self._arguments)

    @property
    def remotes(self) -> dvtool.Remotes:
        """Remotes as a whole: tried out, copied, and given space back: see `Remotes`."""
        return remotes.Remotes(self._project, self.config)

    @property
    def reports(self) -> dvtool.Reports:
        """Changes by row and as a page, and what splits share: see `Reports`."""
        return report_facade.Reports(self._project, self.config, self._arguments)

    @property
    def runs(self) -> dvtool.Runs:
        """The records of runs, and running one again: see `Runs`."""
        return run_facade.Runs(self._project, Repo.open)

    def init(self, *, plan_only: bool = False) -> bool:
        """Make `.dvconfig`, staged, and the local store; False if that was done before."""
        return self.config.init(plan_only=plan_only)

    def check(self) -> Iterator[dvtool.Check]:
        """Check settings, manifests, local store, hooks and the default remote."""
        return doctor.check_repository(self._project, self.hooks.states, self.config.open_remote)

    # --- verbs on the workspace -----------------------------------------------------------

    def add(
        self,
        paths: Paths = (),
        *,
        update: bool = False,
        untrack: bool = False,
        stage: bool = True,
        dereference: bool = False,
        as_is: bool = False,
        ours: bool = False,
        plan_only: bool = False,
        jobs: int | None = None,
        engine: Engine | None = None,
    ) -> list[dvtool.Added]:
        """Snapshot files and folders; with `update` only entries that there are (see `dv add`)."""
        options = publish.AddOptions(
            untrack, stage, dereference, as_is, ours, engine, jobs, plan_only, update
        )
        return publish.add_paths(
            self._project, self.config, self._arguments, paths, options, conflicts.refuse_conflicted
        )

    def status(self, paths: Paths = ()) -> list[dvtool.TargetStatus]:
        """Compare workspace, manifests and HEAD."""
        select, address = self._arguments.selecting(paths), self.config.default_address
        return conflicts.status_with_conflicts(self._project, select, address)

    def resolve(
        self, paths: Paths = (), *, side: settle.Side | None = None, plan_only: bool = False
    ) -> list[dvtool.Settled]:
        """Settle what a merge left in manifests; without a side, what does not truly conflict."""
        return settle.resolve(self._project, self._arguments.selecting(paths), side, plan_only)

    def checkout(
        self,
        rev: str | None = None,
        paths: Paths = (),
        *,
        force: bool = False,
        fetch: bool = True,
        plan_only: bool = False,
    ) -> dvtool.Restored:
        """Bring the workspace to the manifests, or a commit's; with `fetch` get content first."""
        request = restore.RestoreRequest(rev, paths, force=force, fetch=fetch, plan_only=plan_only)
        return restore.checkout(self._project, self.config, self._arguments, request)

    def restore(
        self, paths: Paths, *, source: str | None = None, plan_only: bool = False
    ) -> dvtool.Restored:
        """Undo changes to files, which are saved first; manifests stay, also with a `source`."""
        request = restore.RestoreRequest(
            source, paths, force=True, manifests=False, plan_only=plan_only
        )
        return restore.checkout(self._project, self.config, self._arguments, request)

    def rm(
        self, paths: Paths, *, data: bool = False, force: bool = False, plan_only: bool = False
    ) -> list[dvtool.Removed]:
        """Untrack targets, or entries in them; `data` removes the files from the workspace too."""
        return remove.rm(
            self._project, self._arguments, paths, data=data, force=force, plan_only=plan_only
        )

    def mv(
        self, source: OnePath, destination: OnePath, *, plan_only: bool = False
    ) -> dvtool.Renamed:
        """Rename a target or entries in one."""
        return move.mv(self._project, self._arguments, source, destination, plan_only)

    def drop(
        self,
        paths: Paths,
        *,
        remote: str | None = None,
        workspace: bool = True,
        plan_only: bool = False,
        announce: Announce | None = None,
    ) -> dvtool.Dropped:
        """Free workspace and store, or the store alone, of what a remote provably holds."""
        request = drop.DropRequest(remote, workspace, plan_only, announce)
        return drop.drop(self._project, self.config, self._arguments.selecting(paths), request)

    # --- verbs on remotes -----------------------------------------------------------------

    def push(
        self,
        *,
        remote: str | None = None,
        revs: Sequence[str] = (),
        every: bool = False,
        paths: Paths = (),
        anew: bool = False,
    ) -> dvtool.PushReport:
        """Upload what commits need (HEAD, `revs`, or all refs), and prove that it is there.

        Commits behind them go along unless a push proved them; `anew`: the remote may be a new one.
        """
        self.config.trust_first_use()
        select = self._arguments.selecting(paths) if paths else None
        request = commits.PushRequest(remote, revs, every, select, anew)
        return commits.push(self._project, self.config, request)

    def fetch(
        self, *, remote: str | None = None, revs: Sequence[str] = (), paths: Paths = ()
    ) -> dvtool.Fetched:
        """Copy content into the local store: of the manifests in the worktree, or of commits."""
        self.config.trust_first_use()
        wanted = fetch_request.fetch_requests(self._project, self._arguments, revs, paths)
        stores = self.config.open_remotes_if_any(remote)
        return download.fetch(self._project, stores, wanted)

    def pull(
        self,
        *,
        remote: str | None = None,
        rev: str | None = None,
        paths: Paths = (),
        force: bool = False,
    ) -> dvtool.Restored:
        """Fetch what the workspace lacks, then check it out."""
        self.config.trust_first_use()
        request = restore.RestoreRequest(rev, paths, force=force, remote=remote)
        return restore.checkout(self._project, self.config, self._arguments, request)

    # --- the store: space, and trust --------------------------------------------------------

    def gc(
        self,
        *,
        unpushed: bool = False,
        dry_run: bool = False,
        grace_s: float | None = None,
        announce: Announce | None = None,
    ) -> dvtool.GcResult:
        """Free the local store of what nothing here needs and a remote holds.

        `unpushed` also frees what no remote holds, if nothing here needs it and it is older than
        `grace_s` seconds. `announce` is told what has to be read back from a remote first.
        """
        request = gc_local.GcRequest(unpushed, dry_run, grace_s, announce)
        return gc_local.gc_local(self._project, self.config, request)

    def fsck(
        self,
        *,
        workspace: bool = False,
        remote: str | None = None,
        deep: bool | dvtool.Sample = False,
        repair: bool = False,
        rebuild: bool = False,
        engine: dvtool.ClusterEngine | None = None,
    ) -> dvtool.FsckReport:
        """Check the local store; with `workspace` the files, with `remote` that remote too.

        `remote` is a name, or "" for the default one; `deep` reads its packs, all or a sample.
        `repair` mends what can be mended, `rebuild` first makes the local store's index anew.
        """
        request = fsck_check.FsckRequest(workspace, remote, deep, repair, rebuild, engine)
        return fsck_repair.fsck(self._project, self.config, self._arguments, request)

    def run(
        self,
        command: Sequence[str],
        *,
        out: Paths = (),
        allow_dirty: bool = False,
        record: OnePath | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int | None = None,
        reproduces: str | None = None,
    ) -> dvtool.RunRecord:
        """Run a command from committed code and data, and record what it read and wrote."""
        environ = self._environment(environ)
        request = run.RunRequest(command, out, allow_dirty, record, environ, stdout, reproduces)
        verbs = run.WorktreeVerbs(self.status, self.add)
        return run.run(self._project, self._arguments, verbs, request)

    # --- verbs that only look -------------------------------------------------------------

    def diff(
        self, old: str | None = None, new: str | None = None, paths: Paths = ()
    ) -> list[dvtool.TargetDiff]:
        """Compare two commits, or a commit (HEAD without one) with the workspace."""
        return diff.diff(self._project, self.config, self._arguments, old, new, paths)

    def log(
        self, path: OnePath | None = None, *, rev: str | None = None, limit: int | None = None
    ) -> Iterator[dvtool.LogEntry]:
        """Yield the commits that changed a target, or (None) any; UsageError if none did."""
        return log.log(
            self._project, self._arguments, path, rev=rev, limit=limit, environ=self._environ
        )

    def snapshot(self, rev: str | None = None) -> dvtool.Snapshot:
        """Return the data of a revision, to be read without a checkout; see `dvtool.snapshot`."""
        return reading.snapshot_of(self._project, rev, environ=self._environ)

    def export(
        self,
        path: OnePath,
        destination: str,
        *,
        rev: str | None = None,
        options: Mapping[str, str] | None = None,
        force: bool = False,
        out: BinaryIO | None = None,
        plan_only: bool = False,
        engine: dvtool.ClusterEngine | None = None,
    ) -> dvtool.Exported:
        """Write the data at or below a path of a commit to a folder, an archive or a bucket."""
        inner = self._arguments.relative(path)
        request = export.ExportRequest(inner, destination, options or {}, force, out, plan_only)
        source, progress = self.snapshot(rev), self._project.progress
        return export.export_snapshot(source, request, progress, engine)

    def serve(
        self,
        options: dvtool.ServeOptions,
        announce: Callable[[dvtool.Serving], None],
        report: Callable[[str], None],
    ) -> None:
        """Serve the data of commits over S3's protocol until Ctrl-C; see `Serving`.

        `announce` is called once clients can connect; `report` gets what could not be sent.
        """
        serving.serve(self._project, self._environ, options, announce, report)

    def ls(self, paths: Paths = (), *, rev: str | None = None) -> Iterator[dvtool.Listed]:
        """Yield the entries of the manifests in the worktree or (with `rev`) of a commit."""
        return read.ls(self._project, self.config, self._arguments, paths, rev=rev)

    def cat(self, path: OnePath, *, rev: str | None = None) -> Iterator[memoryview]:
        """Yield the bytes of one tracked file, from the store or else from the default remote."""
        return read.cat(self._project, self.config, self._arguments, path, rev=rev)

    def cat_content(self, blake3: str) -> Iterator[memoryview]:
        """Yield the bytes of content in the local store, by its BLAKE3 in hex."""
        return read.cat_content(self._project, blake3)

    def describe(self, rev: str | None = None) -> dvtool.Description:
        """Return what to write into an experiment's record; see `Description`."""
        return describe.describe(
            self._project, rev, is_clean=lambda: all(status.clean for status in self.status())
        )
