"""import: the objects of a source as a target, and the record of where they came from."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from msgspec import structs

from dvtool.errors import MissingError, RemoteForbidden, UsageError, printable
from dvtool.format.manifest import Built, Manifest, manifest_digest
from dvtool.format.source import DataSource
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import LOCAL_POOL, Engine, InProcess
from dvtool.jobs.members import SUFFIXES, bare_name, is_archive
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.source_approvals import SourceApprovals
from dvtool.project.taken import TakenObjects
from dvtool.remotes.estimate import SAMPLE_SIZE_BYTES, Estimate, LinkSample, Requests
from dvtool.remotes.origins.base import Origin
from dvtool.remotes.origins.dvc import DvcOrigin
from dvtool.remotes.origins.inventory import InventoryBucket, inventory_batches, keys_batches
from dvtool.remotes.origins.lfs import LfsOrigin
from dvtool.remotes.origins.registry import (
    NAMED_BY_PATH,
    as_folder,
    name_for,
    open_origin,
    source_of,
)
from dvtool.verbs.checkout import restore
from dvtool.verbs.imports.bring import TargetThere, put_in_place, refuse_unpublishable
from dvtool.verbs.imports.content import manifest_of, recall_content, take_content, unpacked
from dvtool.verbs.imports.import_repo import (
    REMOTE,
    approve_typed,
    has_data_of_dv,
    import_repo,
    other_repository,
    plan_repo,
    repo_source,
)
from dvtool.verbs.imports.kept_otherwise import kept_otherwise
from dvtool.verbs.imports.listing import Listing, Opened, list_source
from dvtool.verbs.imports.on_cluster import ImportOnCluster
from dvtool.verbs.imports.reference import (
    copy_for_workspace,
    recall_references,
    refer_content,
    refuse_unreferable,
)
from dvtool.verbs.imports.results import Imported
from dvtool.verbs.imports.staging import staging_files
from dvtool.verbs.imports.targets import new_target, target_there
from dvtool.verbs.resolve.conflicts import refuse_conflicted
from dvtool.workspace.staged import sweep_staged

_SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The source to import, as typed. `options` are those of `ORIGIN_OPTIONS`, as text.

    By `reference`, the data is hashed and stays where it is; no files are written.
    """

    source: str
    out: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    limit: int = 0
    checkout: bool = True
    options: Mapping[str, str | None] = field(default_factory=dict)
    unpack: bool = False
    reference: bool = False
    remote: str | None = None
    """The remote that the workers of a cluster write to, if not the default one."""
    inventory: str | None = None
    """The manifest.json of an S3 Inventory, which says what a bucket holds in place of a listing:
    a path, or s3://BUCKET/KEY."""
    keys: str | None = None
    """A file that names the objects in place of a listing: see `keys_batches`."""


def import_data(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    request: ImportRequest,
    engine: Engine = LOCAL_POOL,
) -> Imported:
    """Make a target of what a source has; where that was begun before, go on.

    Errors leave manifest, index and workspace as they were; what was read stays in the store.
    """
    settings.require_init()
    source, local = _typed_source(request, arguments.cwd)
    target = _target(arguments, request, source)
    cluster = _on_cluster(project, settings, request, source, engine)
    is_on_disk = False
    with project.lock():
        refuse_conflicted(project, [target])
        there = target_there(project, target)
        refuse_unpublishable(project, there)
        if source.kind == "dv":
            result = _from_repository(project, there, source, engine, to_disk=request.checkout)
        else:
            opened = _opened(request, arguments, source, local)
            with TakenObjects(project.git.common_dir, opened.source) as taken:
                to_disk = request.checkout and cluster is None and not request.reference
                found = list_source(taken, opened, project.progress, to_disk=to_disk)
                _refuse_another_source(there, opened.source)
                SourceApprovals(project.git.common_dir).approve(opened.source, local)
                if cluster is not None:
                    result = cluster.bring(there, found, taken, opened.origin)
                    result.warnings = warnings_of(found)
                    return result
                result = bring(project, there, found, taken, opened.origin, engine)
                is_on_disk = found.is_on_disk
        if request.checkout and not request.reference and not is_on_disk:
            result.written += _checked_out(project, settings, arguments, target)
    return result


def _from_repository(
    project: Project, there: TargetThere, source: DataSource, engine: Engine, *, to_disk: bool
) -> Imported:
    """Take what another repository has at a path: by its dv, else as DVC or git-lfs keep it."""
    with other_repository(project, source) as other:
        kept = None if has_data_of_dv(other) else kept_otherwise(other)
        if kept is not None:
            kept = kept._replace(source=with_filters(kept.source, source))
            _refuse_another_source(there, kept.source)
            approve_typed(project, kept.source, typed=True)
            return bring_kept(project, there, kept, engine, to_disk=to_disk)
        _refuse_filters(source)
        _refuse_another_source(there, source)
        return import_repo(project, there, other, typed=True)


def _refuse_filters(source: DataSource) -> None:
    if source.include or source.exclude or source.limit:
        raise UsageError(
            f"{printable(source.url)} is a repository with dv, whose paths are taken whole",
            hint="name a folder or file in it; leave filters and limit out",
        )


def with_filters(found: DataSource, asked: DataSource) -> DataSource:
    """Return a source with the filters that were asked for."""
    return structs.replace(found, include=asked.include, exclude=asked.exclude, limit=asked.limit)


def bring_kept(
    project: Project, there: TargetThere, kept: Opened, engine: Engine, *, to_disk: bool
) -> Imported:
    """Bring a target to what DVC or git-lfs keeps in another repository."""
    engine = InProcess() if kept.source.kind == "lfs" else engine  # its origin has secrets
    with TakenObjects(project.git.common_dir, kept.source) as taken:
        found = list_source(taken, kept, project.progress, to_disk=to_disk)
        return bring(project, there, found, taken, kept.origin, engine)


def _on_cluster(
    project: Project,
    settings: Settings,
    request: ImportRequest,
    source: DataSource,
    engine: Engine,
) -> ImportOnCluster | None:
    """Return what imports by the workers of a cluster; None if the engine is of this machine."""
    if not isinstance(engine, ClusterEngine):
        if request.remote is not None:
            raise UsageError(
                "an import of this machine goes into the local store, not to a remote",
                hint="leave --remote out, then: dv push; or name a cluster: --engine dask",
            )
        return None
    if request.reference and source.kind == "s3":
        if request.remote is not None:
            raise UsageError(
                "data that stays at its source goes to no remote", hint="leave --remote out"
            )
        return None  # workers only read: what they say is kept here
    if request.unpack or source.kind == "dv":
        what = "an archive to unpack" if request.unpack else "data of another repository"
        raise UsageError(f"{what} is for one machine, not for a cluster", hint="leave --engine out")
    return ImportOnCluster(project, settings, engine, request.remote)


def plan_import(
    project: Project, settings: Settings, arguments: Arguments, request: ImportRequest
) -> tuple[Imported, Estimate]:
    """Say what an import would read, and what that takes; nothing is written but a record."""
    settings.require_init()
    source, local = _typed_source(request, arguments.cwd)
    there = target_there(project, _target(arguments, request, source))
    to_disk = request.checkout and not request.reference
    if source.kind != "dv":
        opened = _opened(request, arguments, source, local)
        return _plan_listed(project, there, opened, to_disk=to_disk)
    with other_repository(project, source) as other:
        kept = None if has_data_of_dv(other) else kept_otherwise(other)
        if kept is not None:
            kept = kept._replace(source=with_filters(kept.source, source))
            return _plan_listed(project, there, kept, to_disk=to_disk)
        _refuse_filters(source)
        _refuse_another_source(there, source)
        return plan_repo(there, other)


def _plan_listed(
    project: Project, there: TargetThere, opened: Opened, *, to_disk: bool
) -> tuple[Imported, Estimate]:
    """List an origin, and say what of it would be read."""
    origin = opened.origin
    began_s = time.monotonic()
    with closing(origin), TakenObjects(project.git.common_dir, opened.source) as taken:
        found = list_source(taken, opened, project.progress, to_disk=to_disk)
        listed_s = time.monotonic() - began_s
        _refuse_another_source(there, opened.source)
        _recall_known(project, taken, found.source, there.manifest)
        objects, size = taken.unknown_total()
        result = Imported(there.target, found.source.url, found.source.state)
        result.files, result.bytes = found.objects, found.bytes
        result.read, result.warnings = objects, warnings_of(found)
        unsized = taken.unsized_total()
        if unsized:
            result.warnings.append(
                f"the source does not say how large {unsized:,} of the {found.objects:,} objects "
                "are: they are not in the bytes"
            )
        if isinstance(origin, DvcOrigin | LfsOrigin):
            result.remote = opened.source.options.get(REMOTE, "").partition(" ")[0].rstrip(",")
            asked, got = origin.planned_requests(each for _, each in taken.unknown())
            requests = Requests(list=asked, get=got)
        else:
            requests = Requests(list=found.pages, get=objects)
        # If nothing is to be read, all that is left is the listing, which was just done.
        estimate = Estimate(objects, size, requests, seconds=listed_s)
        return result, _timed(estimate, taken, origin)


def _timed(estimate: Estimate, taken: TakenObjects, origin: Origin) -> Estimate:
    """Return an estimate with the time that the beginning of one object, if any, speaks for."""
    described = next((one for _, one in taken.unknown()), None)
    if described is None:
        return estimate
    sample = LinkSample()
    with origin.open(described) as body:
        sample.answered()
        while data := body.read(SAMPLE_SIZE_BYTES - sample.size):
            sample.write(data)
            if sample.size >= SAMPLE_SIZE_BYTES:
                break
    return sample.timed(estimate, side_by_side=_SIDE_BY_SIDE)


def _typed_source(request: ImportRequest, folder: str) -> tuple[DataSource, dict[str, str]]:
    repository = repo_source(request.source, folder)
    if repository is not None:
        listed_otherwise = request.inventory or request.keys or request.reference
        if request.unpack or listed_otherwise or any(request.options.values()):
            raise UsageError(
                f"{printable(request.source)} is a path in a repository",
                hint="name a folder or file in it; leave --unpack and what is of buckets out",
            )
        source, local = repository, dict[str, str]()
    else:
        source, local = source_of(request.source, request.options)
    if not all((*request.include, *request.exclude)):
        raise UsageError("a glob is empty", hint="quote it for the shell: --exclude '*.tmp'")
    filters = {"include": tuple(request.include), "exclude": tuple(request.exclude)}
    if request.unpack and not (is_archive(source.url) and not request.limit):
        raise UsageError(
            f"{printable(source.url)} cannot be unpacked",
            hint=f"--unpack takes one file whose name ends in {', '.join(SUFFIXES)}, whole",
        )
    source = structs.replace(
        source, **filters, limit=request.limit, unpack=request.unpack, reference=request.reference
    )
    refuse_unreferable(source)
    return source, local


def _target(arguments: Arguments, request: ImportRequest, source: DataSource) -> str:
    name = request.out if request.out is not None else name_for(source)
    if request.unpack and request.out is None:
        name = bare_name(name)
    if not name:
        raise UsageError(
            f"what should be made of {printable(request.source)}?",
            hint="name it: dv import SOURCE OUT",
        )
    return new_target(arguments, name)


def _refuse_another_source(there: TargetThere, source: DataSource) -> None:
    """Raise a UsageError if a target was imported from elsewhere, or with other filters."""
    if there.manifest is None or there.manifest.source is None:
        return
    before, now = there.manifest.source.request, source.request
    if source.kind in ("dv", "dvc", "lfs"):  # the other repository may name another remote by now
        now = structs.replace(now, options={})
        before = structs.replace(before, options={})
    if before != now:
        raise UsageError(
            f"{printable(there.target)} was imported from {printable(there.manifest.source.url)}, "
            "or with other options",
            hint=f"for what is new there: dv update {printable(there.target)}; else import into "
            "another place",
        )


def _opened(
    request: ImportRequest, arguments: Arguments, source: DataSource, local: Mapping[str, str]
) -> Opened:
    """Open a source as typed, with its listing or with what is given in the place of one."""
    if request.inventory is None and request.keys is None:
        return resolved(source, local)
    if source.kind != "s3" or (request.inventory and request.keys) or request.unpack:
        raise UsageError(
            "an inventory, or a file of keys, is for the objects of a bucket, and one is enough",
            hint="dv import --inventory manifest.json s3://BUCKET/PREFIX",
        )
    folder = as_folder(source) or source
    origin = open_origin(folder, local)
    bucket = InventoryBucket(folder, local)
    if request.keys is not None:
        path = os.path.join(arguments.cwd, request.keys)
        return Opened(folder, origin, keys_batches(path, bucket, origin))
    place = request.inventory or ""
    if "://" not in place:
        place = os.path.join(arguments.cwd, place)
    return Opened(folder, origin, inventory_batches(place, bucket))


def resolved(source: DataSource, local: Mapping[str, str]) -> Opened:
    """Open a source as typed: a key with keys below it means those, another key one file."""
    if source.kind == "hf":
        hub = open_origin(source, local)
        return Opened(source, hub, hub.batches(), hub.commit())
    folder = None if source.unpack else as_folder(source)
    refusal: RemoteForbidden | None = None
    if folder is not None:
        origin = open_origin(folder, local)
        batches = origin.batches()
        try:
            first = next(batches)
        except RemoteForbidden as error:
            refusal, first = error, []  # who may not list may still be granted one key
        if first:
            return Opened(folder, origin, chain([first], batches))
    origin = open_origin(source, local)
    if folder is None:
        return Opened(source, origin, origin.batches())
    try:
        first = next(origin.batches())
    except RemoteForbidden as error:
        raise refusal or error from error
    if not first:
        raise refusal or MissingError(
            f"there is nothing at {printable(source.url)}, nor below it",
            hint="check the address: an S3 prefix means the keys below PREFIX/, a key one file",
        )
    return Opened(source, origin, iter([first]))


def bring(
    project: Project,
    there: TargetThere,
    found: Listing,
    taken: TakenObjects,
    origin: Origin,
    engine: Engine,
) -> Imported:
    """Bring a target to the state that was found: store, manifest, index, files that are there."""
    result = Imported(there.target, found.source.url, found.source.state)
    result.warnings = warnings_of(found)
    sweep_staged(project.git.git_dir)
    before = there.manifest
    if before is not None and before.source is not None and _is_same(before.source, found.source):
        put_in_place(project, there, Built(before, ()), result)
        return result
    if found.source.unpack:
        built, result.stored_bytes = unpacked(project, taken, origin, found.source)
        result.read, result.state = 1, built.manifest.source.state if built.manifest.source else ""
        put_in_place(project, there, built, result)
        return result
    _recall_known(project, taken, found.source, before)
    with staging_files(project, there, found, taken) as staging:
        try:
            if found.source.reference:
                result.read = refer_content(project, taken, origin, found.source, engine)
            else:
                result.read, result.stored_bytes = take_content(
                    project, taken, origin, engine, staging
                )
        finally:
            origin.close()
        if not found.source.state:  # what has no tag is told by its content alone
            found.source = structs.replace(found.source, state=taken.state())
            result.state = found.source.state
        built = manifest_of(project, taken, found.source)
        if before is not None and before.source is not None and _is_same_data(before, built):
            built = Built(before, ())
        elif found.source.reference and project.workspace.stat(there.target) is not None:
            copy_for_workspace(project, before, built)
        put_in_place(project, there, built, result)
        if staging is not None:
            result.written += staging.put_in_place(taken, built.manifest)
            found.is_on_disk = result.written == result.files
    if found.source.kind in NAMED_BY_PATH:
        taken.settle_listed()  # with executable bits and symlinks, which are not read
    taken.keep_only_listed()
    return result


def _recall_known(
    project: Project, taken: TakenObjects, source: DataSource, before: Manifest | None
) -> None:
    if source.reference:
        recall_references(project, taken, source)
    else:
        recall_content(project, taken, before)


def _is_same(before: DataSource, found: DataSource) -> bool:
    return before.request == found.request and before.state == found.state


def _is_same_data(before: Manifest, built: Built) -> bool:
    """Whether the source is in the same state, or, where that is a commit, has the same data."""
    then, now = before.source, built.manifest.source
    assert then is not None
    assert now is not None
    if then.request != now.request or then.edited:
        return _is_same(then, now)
    same = now.kind in NAMED_BY_PATH and manifest_digest(before) == manifest_digest(built.manifest)
    return same or then.state == now.state


def warnings_of(found: Listing) -> list[str]:
    """Return what a person should know of a listing."""
    warnings = []
    if found.more:
        limit = found.source.limit
        taken = "object was" if limit == 1 else f"{limit:,} objects were"
        warnings.append(
            f"only the first {taken} taken (--limit): the source has more, and the target is not "
            "all of it"
        )
    if found.markers:
        count = "1 empty key" if found.markers == 1 else f"{found.markers:,} empty keys"
        warnings.append(
            f"{count} ending in a slash (or _$folder$), as consoles make for folders, passed over"
        )
    return [*warnings, *found.notes, *found.leftovers.warnings()]


def _checked_out(project: Project, settings: Settings, arguments: Arguments, target: str) -> int:
    """Write what of a target is not in the workspace; UnsavedError for what was edited there."""
    request = restore.RestoreRequest(paths=project.absolute(target), fetch=False)
    done = restore.restore(project, settings, arguments, request)
    return sum(each.written for each in done.targets)
