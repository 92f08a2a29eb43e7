"""import-sql: the rows of a query as a Parquet file, and asking for them again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import structs

from dvtool.errors import UsageError, printable
from dvtool.format.manifest import Built, Entry, build
from dvtool.format.packing import discard_packs
from dvtool.format.paths import SELF
from dvtool.format.source import DataSource
from dvtool.jobs.ingest import FileSource, IngestBatch, ingest
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.source_approvals import SourceApprovals
from dvtool.remotes.origins.sql import SqlSource, has_order, sql_source
from dvtool.verbs.checkout import restore
from dvtool.verbs.imports.bring import TargetThere, put_in_place, refuse_unpublishable
from dvtool.verbs.imports.results import Imported, SqlPlan
from dvtool.verbs.imports.targets import new_target, target_there
from dvtool.verbs.resolve.conflicts import refuse_conflicted

PARQUET = ".parquet"
NO_ORDER = (
    "the query has no ORDER BY, so the database may give the rows in another order the next time, "
    "which would look like a change"
)


@dataclass(frozen=True, slots=True)
class SqlRequest:
    """A query to import: where, what (a query or the name of a table), and the target."""

    url: str
    query: str
    out: str
    checkout: bool = True


def import_sql(
    project: Project, settings: Settings, arguments: Arguments, request: SqlRequest
) -> Imported:
    """Make a target, one Parquet file, of the rows of a query.

    Errors leave manifest, index and workspace as they were.
    """
    settings.require_init()
    typed, local, target = _typed(project, arguments, request)
    with project.lock():
        refuse_conflicted(project, [target])
        there = target_there(project, target)
        refuse_unpublishable(project, there)
        result = _bring_rows(project, there, typed, local, approve=True)
        if request.checkout:
            restored = restore.restore(
                project,
                settings,
                arguments,
                restore.RestoreRequest(paths=project.absolute(target), fetch=False),
            )
            result.written += sum(each.written for each in restored.targets)
    return result


def plan_sql(
    project: Project, settings: Settings, arguments: Arguments, request: SqlRequest
) -> SqlPlan:
    """Say what `import_sql` would read: columns, and rows as the database counts them.

    The query runs for its columns, and to be counted, in one read-only transaction. No file is
    written, and nothing is approved.
    """
    settings.require_init()
    typed, local, target = _typed(project, arguments, request)
    there = target_there(project, target)
    with SqlSource(typed, local, project.root) as database:
        query = database.full_query()
        columns, rows = database.described(query)
    _refuse_another_query(there, structs.replace(typed, query=query))
    warnings = [] if has_order(query) else [NO_ORDER]
    return SqlPlan(target, typed.url, query, list(columns), rows, warnings)


def _typed(
    project: Project, arguments: Arguments, request: SqlRequest
) -> tuple[DataSource, dict[str, str], str]:
    """Return the source, what stays in this clone of it, and the target that were typed."""
    if not request.out.endswith(PARQUET):
        raise UsageError(
            f"{printable(request.out)} does not end in {PARQUET}, the form that rows are kept in",
            hint=f"name it: dv import-sql URL QUERY OUT{PARQUET}",
        )
    typed, local = sql_source(request.url, request.query, project.root, arguments.cwd)
    return typed, local, new_target(arguments, request.out)


def _refuse_another_query(there: TargetThere, found: DataSource) -> None:
    """Raise a UsageError if a target was imported from elsewhere, or by another query."""
    before = there.manifest
    earlier = None if before is None or before.source is None else before.source.request
    if earlier not in (None, found.request):
        raise UsageError(
            f"{printable(there.target)} was imported from elsewhere, or by another query",
            hint="import into another file, or take this out first: dv rm TARGET",
        )


def update_sql(project: Project, there: TargetThere, local: Mapping[str, str]) -> Imported:
    """Ask the query of a target again, and bring the target to what it gives now."""
    assert there.manifest is not None
    assert there.manifest.source is not None
    return _bring_rows(project, there, there.manifest.source.request, local, approve=False)


def ask_rows(project: Project, source: DataSource, local: Mapping[str, str]) -> DataSource:
    """Return the source with the state that its query gives now; nothing is kept."""
    with tempfile.TemporaryDirectory(dir=project.store.temp_folder()) as folder:
        return _stored_rows(project, source, local, folder, keep=False)[0]


def _bring_rows(
    project: Project,
    there: TargetThere,
    source: DataSource,
    local: Mapping[str, str],
    *,
    approve: bool,
) -> Imported:
    with tempfile.TemporaryDirectory(dir=project.store.temp_folder()) as folder:
        found, entry, stored = _stored_rows(project, source, local, folder, keep=True)
    before = there.manifest
    if approve:
        _refuse_another_query(there, found)
        SourceApprovals(project.git.common_dir).approve(found, local)
    result = Imported(there.target, found.url, found.state, read=1, stored_bytes=stored)
    result.warnings = [] if has_order(found.query) else [NO_ORDER]
    built = build("file", {SELF: entry}, found)
    if before is not None and before.source == found:
        built = Built(before, ())
    put_in_place(project, there, built, result)
    return result


def _stored_rows(
    project: Project, source: DataSource, local: Mapping[str, str], folder: str, *, keep: bool
) -> tuple[DataSource, Entry, int]:
    """Run the query into a file; return the source as found, the entry, and what was stored.

    Without `keep` nothing goes into the store.
    """
    path = os.path.join(folder, "rows")
    project.progress.start("asking the database")
    with SqlSource(source, local, project.root) as database:
        query = database.full_query()
        rows, schema = database.write_parquet(query, path)
    project.progress.finish()
    _ = project.store.db  # makes the local store
    size = os.path.getsize(path)
    result = ingest(IngestBatch(folder, project.store.path, (FileSource("rows", size),)))
    if keep:
        project.store.adopt(result.packs)
    else:
        discard_packs(result.packs)
    file = next(iter(result.files))
    stored = sum(info.size for _, info in result.packs)
    state = file.digest.hex()
    found = structs.replace(source, query=query, state=state, rows=rows, schema=schema)
    return found, Entry(blake3=state, size=size), stored
