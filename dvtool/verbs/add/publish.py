"""add: snapshot files and folders into the store and write their manifests.

The referenced comes first: contents, then shards, the manifest, and git's index.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import msgspec
from msgspec.structs import replace

from dvtool.errors import UsageError, printable
from dvtool.format.manifest import Built, Manifest, decode
from dvtool.format.paths import SELF, SUFFIX, folder_of, workspace_path
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import LOCAL_POOL, Engine, LocalPool
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.ignoring import needs_line
from dvtool.project.links import follow_links, forget_led_elsewhere
from dvtool.project.parts import Project, require_worktree
from dvtool.project.settings import Settings
from dvtool.system.collecting import collector_put_off
from dvtool.system.writeback import gives_leases
from dvtool.verbs.add.base import find_standings, leave, leave_new, record_added
from dvtool.verbs.add.foresee import Added, foresee, joined, litter_in
from dvtool.verbs.add.manifest import first_manifest, merge_meanwhile, next_manifest
from dvtool.verbs.add.plan import (
    AddRequest,
    ambiguity_warnings,
    paths_to_add,
    plan_add,
    refuse_tracked,
    refuse_unversionable,
    target_kind,
)
from dvtool.verbs.add.pointers import refuse_lfs_pointers, refuse_pointers
from dvtool.verbs.add.store import StoredFiles, store_files, store_small_files
from dvtool.workspace.added import added_rows, set_states
from dvtool.workspace.agreement import (
    Agreement,
    agree,
    carry_over,
    entries_by_folder,
    leave_out,
    remember,
    sorted_entries_by_folder,
)
from dvtool.workspace.gitignore import ignore_target, refuse_unusable
from dvtool.workspace.remembered import save_each_seen, tracked_other
from dvtool.workspace.rules import IGNORE_FILE, Ignore
from dvtool.workspace.scan import Scan, find_left_out, scan_target, sweep
from dvtool.workspace.statcache import Seen

LISTED_MIN_FILES = 2_000
"""Of fewer files, batches of about the same size are worth a look at each."""


class AddOptions(msgspec.Struct, frozen=True):
    """How to add: see the options of `dv add`. The files are read by `engine`.

    With `update` only entries that a manifest has are taken, as they are now or as gone.
    """

    untrack: bool = False
    stage: bool = True
    dereference: bool = False
    as_is: bool = False
    ours: bool = False
    engine: Engine | None = None
    """None for worker processes of this machine, `jobs` of them or as `core.jobs` says."""
    jobs: int | None = None
    plan_only: bool = False
    update: bool = False


def add_paths(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    paths: Paths,
    options: AddOptions,
    refuse: Callable[[Project, list[str]], None],
) -> list[Added]:
    """Add the targets that paths, as typed, mean; see `add`.

    `refuse` raises an error for targets that must not be added now.
    """
    require_worktree(project.git)
    settings.require_init()
    if options.engine is None:
        pool = LocalPool(options.jobs or project.config.number("core.jobs") or None)
        options = replace(options, engine=pool)
    requests = plan_add(project, paths_to_add(project, arguments, paths, update=options.update))
    with project.lock():
        refuse(project, [request.target for request in requests])
        parts = (_add_uncollected(project, request, options) for request in requests)
        return joined(project, parts, planned=options.plan_only)


def _add_uncollected(project: Project, request: AddRequest, options: AddOptions) -> Added:
    with collector_put_off():
        return add(project, request, options)


def add(project: Project, request: AddRequest, options: AddOptions) -> Added:
    """Bring a target's manifest in step with the workspace; what it names is then in the store.

    Files that did not change since the manifest did keep its entries, unless `options.ours` says
    that the files here count. With `plan_only` nothing is written, and the result says what would
    be.

    Errors leave manifest and git's index as they were. Content read so far may stay in the store,
    where the next `add` finds it.
    """
    _refuse_ignored(project, request)
    text = project.manifest_text(request.target)
    before = None if text is None else decode(text, request.target + SUFFIX)
    removals = project.store.db.removals()
    refuse_tracked(project, request, untrack=options.untrack)
    if options.dereference:
        forget_led_elsewhere(project)
    known, scan = _look_around(project, request, before, options)
    kind = target_kind(project, scan, before, request)
    refuse_unversionable(scan, request)
    found = find_standings(project, request, before, scan, ours=options.ours) if before else None
    result = Added(request.target)
    if found is not None:
        result.outdated = sorted(found.outdated)
        leave(scan, result.outdated)
    if before is not None and options.update:
        result.left_new = leave_new(project, before, scan)
    result.warnings, result.litter = ambiguity_warnings(scan), litter_in(scan, before)
    stored = _copy_contents(project, scan, options)
    if stored is None:
        return foresee(project, request, before, scan, result)
    result.stored_bytes = stored.size_bytes
    if before is None:
        after = first_manifest(project, kind, scan, partial(_prepare, scan, stored))
    else:
        _prepare(scan, stored)
        after = next_manifest(project, scan, before, request, known)
    result.added, result.modified, result.removed = after.added, after.modified, len(after.removed)
    built = after.built
    published = _publish(project, request, built, text, options)
    if published != built.manifest:
        result.warnings.append(_merged_warning(request.target))
    # The workspace has the content that was built, and not yet what a merge added to the manifest.
    racy = _remember_added(project, scan, stored, after.removed)
    if built.manifest.shards and not request.inner:
        doubtful = [*after.left, *racy, *result.outdated, *result.left_new]
        _agree(project, scan, built.manifest, doubtful)
        if known is not None:
            carry_over(project, known, after.changed, built)
        # Without `known`, what never was here is not among what was `left`.
        complete = not after.left and not result.outdated
        if complete and (known is not None or before is None):
            held = (ref.digest for ref in built.manifest.shards)
            project.store.db.add_held_shards(held, removals)
    record_added(project, request, built.manifest, found)
    _have_followed(project, scan, result)
    result.files, result.bytes = published.files, published.bytes
    return result


def _copy_contents(project: Project, scan: Scan, options: AddOptions) -> StoredFiles | None:
    """Copy the contents into the store; None if that is only planned."""
    engine = options.engine or LOCAL_POOL
    small: StoredFiles | None = None
    if not options.as_is:
        refuse_pointers(project, scan)
    if options.plan_only:
        return None
    sweep(project, scan)
    if scan.unseen:
        small = store_small_files(project, scan, engine)
        if not options.as_is:
            refuse_lfs_pointers(project, scan, small.pointers)
    return store_files(project, scan, engine, dereference=options.dereference, before=small)


def _prepare(scan: Scan, stored: StoredFiles) -> None:
    """Make what is to be remembered once the manifest is written."""
    set_states(scan)
    if scan.read is not None:
        stored.added = added_rows(scan.target, scan.read, stored.read_at_ns)


def _look_around(
    project: Project, request: AddRequest, before: Manifest | None, options: AddOptions
) -> tuple[Agreement | None, Scan]:
    """Return what of the target needs no look, and what is in the rest of it."""
    content_at = _anywhere if options.dereference else None
    known = None if options.plan_only else _agreement(project, request, before)
    if known is not None:
        scan = known.scan_rest(project, content_at)
    else:
        look = partial(scan_target, project, request.target, inner=request.inner)
        names_only = before is None and _reads_all(project, request.target, options)
        scan = look(content_at=content_at, names_only=names_only)
        if names_only and len(scan.files) < LISTED_MIN_FILES:
            scan = look(content_at=content_at)
    find_left_out(project, scan, [path for path, seen in scan.seen.items() if seen.tracked])
    return known, scan


def _reads_all(project: Project, target: str, options: AddOptions) -> bool:
    """Whether an add of a new target reads its files without a look at each before."""
    return (
        not (options.plan_only or options.dereference or isinstance(options.engine, ClusterEngine))
        and project.workspace.modes
        and gives_leases(project.absolute(target))
        and not project.statcache.paths_below(target)
    )


def _refuse_ignored(project: Project, request: AddRequest) -> None:
    path = workspace_path(request.target, request.inner or SELF)
    if Ignore(project.root, path, links=project.workspace.links).excluded:
        raise UsageError(
            f"{IGNORE_FILE} says to leave out {printable(path)}",
            hint=f"take that line out of {IGNORE_FILE}, then repeat the command",
        )


def _have_followed(project: Project, scan: Scan, result: Added) -> None:
    """Have the links to folders followed that this add read through, from now on."""
    paths = [path for path in scan.followed if path not in scan.files]
    places = {workspace_path(scan.target, path): path for path in paths}
    folders = {place: os.path.realpath(project.absolute(place)) for place in places}
    if folders.items() <= project.workspace.links.items():
        return
    follow_links(project, folders)
    result.warnings.extend(
        f"{printable(place)} is followed from now on: dvtool reads and writes the data in "
        f"{printable(folder)}"
        for place, folder in sorted(folders.items())
    )


def _merged_warning(target: str) -> str:
    name = printable(target + SUFFIX)
    return f"{name} changed while dvtool was at work; it has those changes and these"


def _anywhere(_: str) -> bool:
    return True


def _agreement(project: Project, request: AddRequest, before: Manifest | None) -> Agreement | None:
    """Return what of the target is known to need nothing: unchanged, tracked and stored."""
    if before is None or request.inner or not before.shards:
        return None
    if not all(project.store.has_shard(ref.digest) for ref in before.shards):
        return None  # a part of the target is here: no list of the rest is fetched for this
    known = agree(project, request.target, before, tracked=True)
    held = project.store.db.held_shards(ref.digest for ref in before.shards)
    unsure = [ref for ref in before.shards if ref.digest not in held]
    project.shards.need(unsure)
    for ref in unsure:
        entries = project.shards.load(ref)
        lacking = project.store.lacking(entry.digest for entry in entries.values() if entry.size)
        if lacking:
            folders = {
                folder_of(path)
                for path, entry in entries.items()
                if entry.is_file and entry.digest in lacking
            }
            leave_out(project, known, folders)
    return known


def _agree(project: Project, scan: Scan, manifest: Manifest, doubtful: Sequence[str]) -> None:
    """Remember that the workspace is as the new manifest says.

    The `doubtful` are left out: entries that stayed unlike the workspace, and racy files, whose
    stat does not show a later change.
    """
    if scan.read is not None:
        counts = sorted_entries_by_folder(scan.read.paths, manifest)
    else:
        counts = entries_by_folder(chain(scan.files, scan.links, scan.empty_folders), manifest)
    remember(project, scan, counts, doubtful, stored=scan.digests)


def _publish(
    project: Project,
    request: AddRequest,
    built: Built,
    read: bytes | None,
    options: AddOptions,
) -> Manifest:
    """Write shards, then the manifest, then git's index: the referenced comes first.

    Return the manifest. If the worktree's is not the one that was `read` any more, as after a `git
    pull`, the new one gets the changes of both.
    """
    target = request.target
    if options.stage or options.untrack:
        project.git.refuse_if_index_is_locked()
    refuse_unusable(project.workspace, target)
    own_line = not options.stage or needs_line(project, target, is_new=read is None)
    project.store.put_shards(built.shards)
    now = project.manifest_text(target)
    merged = built if now == read else merge_meanwhile(project, target, read, built, now)
    project.store.put_shards(merged.shards)
    project.write_manifest(target, merged.manifest, instead_of=now)
    ignore = ignore_target(project.workspace, target) if own_line else []
    if options.untrack:
        project.git.untrack([workspace_path(target, request.inner or SELF)])
    if options.stage:
        project.git.stage([target + SUFFIX, *ignore])
    return merged.manifest


def _remember_added(
    project: Project, scan: Scan, stored: StoredFiles, removed: Iterable[str]
) -> list[str]:
    """Put the whole of what was added into the statcache as tracked.

    Return the files that another look would have to read again.
    """
    if stored.added is not None:
        project.statcache.save_encoded(stored.added.rows)
        return stored.added.racy
    racy: list[str] = []

    def read() -> Iterator[tuple[str, Seen]]:
        for path, seen in stored.seen(scan):
            if seen.size < 0:
                racy.append(path)
            yield path, seen

    for path in scan.files:
        seen = scan.seen.get(path)
        if seen is not None and not seen.tracked:
            scan.seen[path] = _as_tracked(seen)
    scan.seen.update((path, tracked_other(link)) for path, link in scan.links.items())
    scan.seen.update((path, tracked_other()) for path in scan.empty_folders)
    there = chain(scan.files, scan.links, scan.empty_folders)
    rows = ((path, scan.seen[path]) for path in there if path in scan.seen)
    gone = ((path, None) for path in removed)
    save_each_seen(project, scan.target, chain(gone, rows, read()))
    return racy


def _as_tracked(seen: Seen) -> Seen:
    return Seen(
        seen.mtime_ns, seen.ctime_ns, seen.size, seen.inode, seen.executable, seen.digest, True
    )
