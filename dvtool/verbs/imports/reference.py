"""import --reference: objects are read once and stay where they are; and copies of them, later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from msgspec import structs

from dvtool.errors import (
    CorruptError,
    DvError,
    ManifestError,
    MissingError,
    UsageError,
    listing,
    printable,
)
from dvtool.format.compare import differing
from dvtool.format.digest import EMPTY, Digest
from dvtool.format.manifest import Built, Manifest
from dvtool.format.merge import with_source
from dvtool.format.paths import workspace_path
from dvtool.format.references import SourceAddress
from dvtool.format.selection import Selection
from dvtool.format.source import DataSource
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import Engine, engine_for
from dvtool.jobs.refer import ReferBatch, refer_objects
from dvtool.jobs.take import take_runs
from dvtool.jobs.take_to_remote import cut_runs
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.source_approvals import SourceApprovals
from dvtool.project.taken import ListedFile, TakenObjects
from dvtool.remotes.origins.base import Origin, OriginObject
from dvtool.verbs.fetch.download import fetch
from dvtool.verbs.fetch.references import fetch_referenced, first_error
from dvtool.verbs.fetch.request import Fetched, fetch_request
from dvtool.verbs.imports.bring import TargetThere, publish
from dvtool.verbs.resolve.conflicts import refuse_conflicted


@dataclass(slots=True)
class Materialised:
    """The data that `import --materialise` copied for one target."""

    target: str
    """The target, as a path from the top of the worktree."""
    files: int = 0
    """How many contents were copied into the local store."""
    bytes: int = 0
    """Bytes of these."""
    present: int = 0
    """How many contents were in the local store already."""
    lost: list[str] = field(default_factory=list)
    """Paths in the target whose objects are gone, or are not what was taken any more."""
    problem: str | None = None
    """The fault of these objects; null if there is none."""
    changed: bool = False
    """Whether the manifest is another now: all of the target has copies."""


@dataclass(frozen=True, slots=True)
class ReferencedSource:
    """A source at which data stays that was imported by reference."""

    url: str
    """Its address."""
    targets: tuple[str, ...]
    """The targets whose data is there, sorted."""
    approved: bool
    """Whether this clone may ask it; dv update --trust TARGET approves it."""


def referenced_sources(project: Project) -> list[ReferencedSource]:
    """Return the sources that manifests of the worktree refer to, sorted; none is asked.

    Manifests that cannot be read are passed over.
    """
    approvals = SourceApprovals(project.git.common_dir)
    targets: dict[str, list[str]] = {}
    approved: dict[str, bool] = {}
    for target in project.targets():
        try:
            source = project.manifest(target).source
        except (CorruptError, UsageError, ManifestError):
            continue
        if source is not None and source.reference:
            targets.setdefault(source.url, []).append(target)
            may_ask = approvals.find(source) is not None
            approved[source.url] = approved.get(source.url, True) and may_ask
    return [ReferencedSource(url, tuple(targets[url]), approved[url]) for url in sorted(targets)]


def refuse_unreferable(source: DataSource) -> None:
    """Raise a UsageError for a source whose objects cannot be referred to."""
    if source.reference and (source.kind != "s3" or source.unpack):
        raise UsageError(
            f"{printable(source.url)} cannot be referred to: --reference is for objects of a bucket"
            ", as they are",
            hint="import a copy: leave --reference out",
        )


def recall_references(project: Project, taken: TakenObjects, source: DataSource) -> None:
    """Find in the listing what need not be read: read before, and referred to, in this state."""
    address = SourceAddress.of(source)
    taken.recall()
    for run in taken.known_objects():
        found = project.store.db.references.find({digest for _, _, digest in run})
        taken.forget(
            path
            for path, described, digest in run
            if digest != EMPTY
            and not any(
                (one.address, one.key, one.tag) == (address, described.key, described.tag)
                for one in found.get(digest, ())
            )
        )


def refer_content(
    project: Project, taken: TakenObjects, origin: Origin, source: DataSource, engine: Engine
) -> int:
    """Read what is listed and not known, and remember where it is; return how many objects.

    Objects read by then are on record after an error, too.
    """
    objects, size = taken.unknown_total()
    if not objects:
        return 0
    references = project.store.db.references
    address = SourceAddress.of(source)
    paths: list[str] = []

    def wanted() -> Iterator[OriginObject]:
        for path, described in taken.unknown():
            paths.append(path)
            yield described

    if isinstance(engine, ClusterEngine):
        runs = cut_runs(wanted(), count=objects)
    else:
        engine = engine_for(engine, files=objects, size_bytes=size)
        runs = take_runs(wanted(), count=objects, total_bytes=size)
    project.progress.start("hashing", total_bytes=size)
    results = engine.map(
        refer_objects,
        (ReferBatch(address, origin, run) for run in runs),
        tell=project.progress.advance,
    )
    at = 0
    with closing(results):
        for result in results:
            named = zip(result.digests, result.references, strict=True)
            # The references first: what is on record as read is not read again.
            references.add((digest, one) for digest, one in named if one is not None)
            count = len(result.digests)
            run = zip(paths[:count], result.digests, result.sizes, strict=True)
            taken.settle(ListedFile(*row) for row in run)
            del paths[:count]
            at += count
    project.progress.finish()
    if at != objects:
        raise DvError("the listing changed while it was worked on", hint="repeat the command")
    return objects


def copy_for_workspace(project: Project, before: Manifest | None, built: Built) -> None:
    """Copy what changed at the source into the store, where files of it are to be written."""
    if before is None:
        return
    project.store.put_shards(built.shards)
    _, new = differing(before, built.manifest, project.shards.load)
    sizes = {entry.digest: entry.size for entry in new.values() if entry.size > 0}
    failed = fetch_referenced(project, sizes, Fetched(""))
    error = first_error(failed, list(failed))
    if error is not None:
        raise error


def materialise(
    project: Project, settings: Settings, arguments: Arguments, paths: Paths
) -> list[Materialised]:
    """Copy referenced data into the local store; a push then sends it as any other.

    The manifest of a target that has copies of all is no reference any more; its hash stays.
    MissingError, at the end, names the objects that are not what was taken; all else is copied.
    """
    selections = arguments.selections(project.targets(), paths)
    with project.lock():
        refuse_conflicted(project, [selection.target for selection in selections])
        wanted = []
        for selection in selections:
            manifest, text = project.read_manifest(selection.target)
            if manifest.source is not None and manifest.source.reference:
                wanted.append((selection, TargetThere(selection.target, manifest, text)))
        if not wanted:
            raise UsageError(
                "none of this was imported by reference, so there is a copy already",
                hint="see what was imported: dv status --sources",
            )
        project.git.refuse_if_index_is_locked()
        done = [_materialise(project, settings, *one) for one in wanted]
    _refuse_lost_references(done)
    return done


def _materialise(
    project: Project, settings: Settings, selection: Selection, there: TargetThere
) -> Materialised:
    manifest = there.manifest
    assert manifest is not None
    result = Materialised(there.target)
    sizes: dict[Digest, int] = {}
    paths: dict[Digest, str] = {}
    for entries in project.runs(manifest, selection):
        for path, entry in entries.items():
            if entry.size > 0:
                sizes[entry.digest] = entry.size
                paths.setdefault(entry.digest, path)
    lacking = project.store.lacking(sizes)
    error: DvError | None = None
    if lacking:
        request = fetch_request(project, manifest, selection)
        try:
            fetch(project, settings.open_remotes_if_any(), [request])
        except (MissingError, CorruptError) as caught:
            error = caught
    left = project.store.lacking(sizes)
    here = sizes.keys() - left
    project.store.db.references.set_copied(here)
    result.present = len(sizes) - len(lacking)
    result.files = len(lacking) - len(left)
    result.bytes = sum(sizes[content] for content in lacking - left)
    result.lost = sorted(paths[content] for content in left)
    if left:
        result.problem = str(error) if error is not None else "nobody knows where they are"
    elif selection.whole and manifest.source is not None:
        built = with_source(Built(manifest, ()), structs.replace(manifest.source, reference=False))
        publish(project, there, built)
        result.changed = True
    return result


def _refuse_lost_references(done: Sequence[Materialised]) -> None:
    lost = [workspace_path(one.target, path) for one in done for path in one.lost]
    if lost:
        copied = sum(one.files + one.present for one in done)
        problems = [one.problem for one in done if one.problem]
        raise MissingError(
            f"there is no copy of these, and their objects are not what was taken:\n{listing(lost)}"
            f"\n{problems[0]}\n{copied:,} others have copies",
            hint="take what is at the source now: dv update TARGET; or put the objects back, then "
            "repeat the command",
        )
