"""update: what is new at the source of a target; and asking whether anything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dvtool.errors import DvError, InputError, MissingError, UsageError, printable
from dvtool.format.manifest import Manifest
from dvtool.format.paths import SUFFIX
from dvtool.format.source import DataSource
from dvtool.jobs.engine import LOCAL_POOL, Engine
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.source_approvals import SourceApprovals, source_text
from dvtool.project.taken import TakenObjects
from dvtool.remotes.origins.registry import askable_fault, open_origin
from dvtool.verbs.imports.bring import TargetThere, refuse_unpublishable
from dvtool.verbs.imports.import_data import bring, bring_kept, with_filters
from dvtool.verbs.imports.import_repo import (
    OtherRepository,
    approve_typed,
    import_repo,
    is_behind,
    other_repository,
)
from dvtool.verbs.imports.import_sql import ask_rows, update_sql
from dvtool.verbs.imports.kept_otherwise import kept_otherwise
from dvtool.verbs.imports.listing import Opened, list_source
from dvtool.verbs.imports.results import Imported, SourceStatus
from dvtool.verbs.resolve.conflicts import refuse_conflicted

KEPT_OTHERWISE = ("dvc", "lfs")
"""The kinds of sources that are repositories and keep data otherwise than dv."""


def update_targets(
    project: Project, arguments: Arguments, paths: Paths = (), engine: Engine = LOCAL_POOL
) -> list[Imported]:
    """Bring imported targets to the state that their sources have now, each whole.

    SetupError for a source that this clone did not approve, before anything is asked. A target
    whose update fails is as it was; those before it are updated.
    """
    targets = _imported(project, arguments, paths)
    approvals = SourceApprovals(project.git.common_dir)
    with project.lock():
        refuse_conflicted(project, targets)
        for target in targets:
            approvals.local_options(_askable(target, project.manifest(target)))
        return [_update(project, approvals, target, engine) for target in targets]


def plan_update(project: Project, arguments: Arguments, paths: Paths = ()) -> list[SourceStatus]:
    """Say what an update would bring, by asking the sources; nothing is fetched or changed.

    Errors are those of `update_targets`, as far as asking tells.
    """
    targets = _imported(project, arguments, paths)
    refuse_conflicted(project, targets)
    approvals = SourceApprovals(project.git.common_dir)
    manifests = {target: project.manifest(target) for target in targets}
    for target, manifest in manifests.items():
        approvals.local_options(_askable(target, manifest))
    results = []
    for target, manifest in manifests.items():
        source = _source_of(manifest)
        result = SourceStatus(target, source.url, "current", source.edited)
        _ask(project, manifest, approvals.local_options(source), result)
        results.append(result)
    return results


def _update(project: Project, approvals: SourceApprovals, target: str, engine: Engine) -> Imported:
    manifest, text = project.read_manifest(target)
    source = _source_of(manifest)
    there = TargetThere(target, manifest, text)
    refuse_unpublishable(project, there)
    if source.kind == "sql":
        return update_sql(project, there, approvals.local_options(source))
    to_disk = project.workspace.stat(target) is not None
    if source.kind == "dv":
        with other_repository(project, source.request) as other:
            return import_repo(project, there, other, typed=False)
    if source.kind in KEPT_OTHERWISE:
        with other_repository(project, source.request) as other:
            kept = kept_as_before(other, source)
            approve_typed(project, kept.source, typed=False)
            return bring_kept(project, there, kept, engine, to_disk=to_disk)
    origin = open_origin(source.request, approvals.local_options(source))
    with TakenObjects(project.git.common_dir, source) as taken:
        opened = Opened(source.request, origin, origin.batches(), origin.commit())
        found = list_source(taken, opened, project.progress, to_disk=to_disk)
        return bring(project, there, found, taken, origin, engine)


def kept_as_before(other: OtherRepository, source: DataSource) -> Opened:
    """Return what a repository keeps with DVC or git-lfs now; MissingError if it does no more."""
    kept = kept_otherwise(other)
    if kept is None or kept.source.kind != source.kind:
        tool = "DVC" if source.kind == "dvc" else "git-lfs"
        raise MissingError(
            f"{printable(source.url)} keeps nothing with {tool} at "
            f"{printable(source.path) or 'its top'} any more",
            hint="see what there is in a clone of it; then import from there anew",
        )
    return kept._replace(source=with_filters(kept.source, source))


def trust_sources(project: Project, arguments: Arguments, paths: Paths) -> list[str]:
    """Approve the sources of targets, as their manifests have them now; return them as text.

    Of another repository also the remote that it names now: it is cloned for that, and no more.
    """
    approvals = SourceApprovals(project.git.common_dir)
    approved = []
    for target in _imported(project, arguments, paths):
        source = _askable(target, project.manifest(target))
        sources = [source]
        if source.kind in (
            "dv",
            *KEPT_OTHERWISE,
        ):  # the other repository may name another remote by now
            with other_repository(project, source.request) as other:
                now = other.source if source.kind == "dv" else kept_as_before(other, source).source
                sources.append(now)
        for named in sources:
            if approvals.find(named) is None:
                approvals.approve(named, {})
                approved.append(source_text(named))
    return approved


def source_statuses(
    project: Project, arguments: Arguments, paths: Paths = ()
) -> list[SourceStatus]:
    """Ask the sources of targets whether anything is new; nothing is fetched or changed."""
    approvals = SourceApprovals(project.git.common_dir)
    selections = arguments.selections(project.targets(), paths)
    targets = [selection.target for selection in selections]
    return [
        _source_status(project, approvals, target, manifest)
        for target in targets
        if (manifest := project.manifest(target)).source is not None
    ]


def _source_status(
    project: Project, approvals: SourceApprovals, target: str, manifest: Manifest
) -> SourceStatus:
    source = _source_of(manifest)
    result = SourceStatus(target, source.url, "current", source.edited)
    fault = askable_fault(source)
    if fault is not None:
        result.standing, result.problem = "failed", f"its source {fault}"
        return result
    approved = approvals.find(source)
    if approved is None:
        result.standing = "unapproved"
        return result
    try:
        _ask(project, manifest, approved.local, result)
    except DvError as error:
        result.standing, result.problem = "failed", str(error)
    return result


def _ask(
    project: Project, manifest: Manifest, local: Mapping[str, str], result: SourceStatus
) -> None:
    """Ask an approved source what is new, and say so in the result."""
    source = _source_of(manifest)
    if source.kind == "sql":
        now = ask_rows(project, source.request, local)
        result.standing = "current" if now.state == source.state else "behind"
    elif source.kind == "dv":
        result.standing = "behind" if is_behind(project, manifest) else "current"
    elif source.kind in KEPT_OTHERWISE:
        with other_repository(project, source.request) as other:
            kept = kept_as_before(other, source)
            approve_typed(project, kept.source, typed=False)
            _compare_listed(project, kept, source, result)
    else:
        origin = open_origin(source.request, local)
        opened = Opened(source.request, origin, origin.batches(), origin.commit())
        _compare_listed(project, opened, source, result)


def _compare_listed(
    project: Project, opened: Opened, source: DataSource, result: SourceStatus
) -> None:
    """Say in the result how a target stands to what its source lists."""
    if opened.commit and opened.commit == source.state:
        return
    with TakenObjects(project.git.common_dir, source) as taken:
        found = list_source(taken, opened, project.progress, to_disk=False)
        if not found.source.state:
            result.standing = "unknown"
        elif found.source.state != source.state:
            changes = taken.changes()
            result.added, result.modified, result.removed = changes
            # Another commit may have the same data, which the record of what was taken tells.
            same = opened.commit and taken.has_record() and not any(changes)
            result.standing = "current" if same else "behind"


def _imported(project: Project, arguments: Arguments, paths: Paths) -> Sequence[str]:
    """Return the targets that paths name, or all that were imported."""
    project.refuse_left_out(arguments.all_relative(paths))
    targets = [one.target for one in arguments.selections(project.targets(), paths)]
    plain = [target for target in targets if project.manifest(target).source is None]
    if paths and plain:
        raise UsageError(
            f"{printable(plain[0])} was not imported, so there is no source to ask",
            hint="see what was: dv status --sources",
        )
    return [target for target in targets if target not in plain]


def _askable(target: str, manifest: Manifest) -> DataSource:
    """Return the source of a target; InputError if it is none that could be asked."""
    source = _source_of(manifest)
    fault = askable_fault(source)
    if fault is not None:
        file = printable(target + SUFFIX)
        raise InputError(
            f"{file}: its source {fault}; nothing was asked",
            hint=f"see who wrote it: git log -p -- {file}; the data can be used all the same",
        )
    return source


def _source_of(manifest: Manifest) -> DataSource:
    assert manifest.source is not None
    return manifest.source
