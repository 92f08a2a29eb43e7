"""The class of `Repo.imports`: a method for each act on the sources of data."""

from __future__ import annotations

from dvtool.jobs.engine import Engine, LocalPool
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project, require_worktree
from dvtool.project.settings import Settings
from dvtool.remotes.estimate import Estimate
from dvtool.verbs.imports import import_data, import_sql, reference, update
from dvtool.verbs.imports.import_data import ImportRequest
from dvtool.verbs.imports.import_sql import SqlRequest
from dvtool.verbs.imports.reference import Materialised, ReferencedSource
from dvtool.verbs.imports.results import Imported, SourceStatus, SqlPlan


class Imports:
    """Data from where it is, and what is new there. Every method raises `DvError`."""

    def __init__(self, project: Project, settings: Settings, arguments: Arguments) -> None:
        self._project = project
        self._settings = settings
        self._arguments = arguments

    def import_data(
        self,
        request: ImportRequest,
        *,
        jobs: int | None = None,
        engine: Engine | None = None,
    ) -> Imported:
        """Make a target of what a source has; repeated, go on. The source is approved by that.

        The workers of a cluster (`dvtool.open_engine`) put the content on the remote themselves,
        and no file is written into the workspace. Of data that stays at its source they only say
        what they read.
        """
        require_worktree(self._project.git)
        engine = engine or self._engine(jobs)
        return import_data.import_data(
            self._project, self._settings, self._arguments, request, engine
        )

    def plan_import(self, request: ImportRequest) -> tuple[Imported, Estimate]:
        """Say what `import_data` would read, and what that takes."""
        require_worktree(self._project.git)
        return import_data.plan_import(self._project, self._settings, self._arguments, request)

    def import_sql(self, request: SqlRequest) -> Imported:
        """Make a Parquet file of the rows of a query; the database is approved by that."""
        require_worktree(self._project.git)
        return import_sql.import_sql(self._project, self._settings, self._arguments, request)

    def plan_sql(self, request: SqlRequest) -> SqlPlan:
        """Say what `import_sql` would read; the database is asked, and nothing is kept."""
        require_worktree(self._project.git)
        return import_sql.plan_sql(self._project, self._settings, self._arguments, request)

    def update(self, paths: Paths = (), *, jobs: int | None = None) -> list[Imported]:
        """Bring imported targets to the state that their sources have now."""
        require_worktree(self._project.git)
        return update.update_targets(self._project, self._arguments, paths, self._engine(jobs))

    def plan_update(self, paths: Paths = ()) -> list[SourceStatus]:
        """Say what an `update` would bring; the sources are asked, and nothing is changed."""
        require_worktree(self._project.git)
        return update.plan_update(self._project, self._arguments, paths)

    def referenced(self) -> list[ReferencedSource]:
        """Return the sources at which data stays that was imported by reference; none is asked."""
        return reference.referenced_sources(self._project)

    def materialise(self, paths: Paths) -> list[Materialised]:
        """Copy data that was imported by reference into the local store, for a push to send."""
        require_worktree(self._project.git)
        return reference.materialise(self._project, self._settings, self._arguments, paths)

    def trust(self, paths: Paths) -> list[str]:
        """Approve the sources that manifests name, from now on; return them as text."""
        return update.trust_sources(self._project, self._arguments, paths)

    def status(self, paths: Paths = ()) -> list[SourceStatus]:
        """Ask the sources of targets whether anything is new; nothing is changed."""
        require_worktree(self._project.git)
        return update.source_statuses(self._project, self._arguments, paths)

    def _engine(self, jobs: int | None) -> LocalPool:
        return LocalPool(jobs or self._project.config.number("core.jobs") or None)
