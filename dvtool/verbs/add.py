"""add: snapshot files and folders into the store and write their manifests."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import cast

from dvtool.errors import InputError, UsageError, listing, printable
from dvtool.format.manifest import (
    INLINE_ENTRIES_MAX,
    Built,
    Entries,
    Entry,
    Kind,
    Manifest,
    build,
    cut_shards,
    update,
)
from dvtool.format.packing import discard_packs
from dvtool.format.paths import (
    SELF,
    SUFFIX,
    folder_of,
    folders_above,
    link_fault,
    path_faults,
    workspace_path,
)
from dvtool.format.spelling import distinct_folded, folded
from dvtool.jobs.engine import LOCAL_POOL, Engine, engine_for
from dvtool.jobs.ingest import (
    FileSource,
    IngestResult,
    ingest,
    ingest_batches,
)
from dvtool.project.parts import Project, refuse_place
from dvtool.store.freeing import sweep_temp
from dvtool.system.stat import is_executable
from dvtool.workspace.agreement import (
    Agreement,
    agree,
    carry_over,
    entries_by_folder,
    leave_out,
    remember,
)
from dvtool.workspace.gitignore import ignore_target, refuse_unusable
from dvtool.workspace.remembered import save_each_seen, tracked_other
from dvtool.workspace.rules import IGNORE_FILE, Ignore
from dvtool.workspace.scan import Scan, file_entry, find_left_out, scan_target, sweep
from dvtool.workspace.statcache import Seen, seen_file
from dvtool.workspace.walk import refuse_faults

ANEW_MIN_FILES = 200_000
"""From here on a worker that begins anew costs less than a copy of what is known of the files."""


@dataclass(slots=True)
class Added:
    """What `add` did to one target; `stored` is what the packs grew by, in bytes."""

    target: str
    files: int = 0
    bytes: int = 0
    added: int = 0
    modified: int = 0
    removed: int = 0
    stored: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the manifest is another now."""
        return bool(self.added or self.modified or self.removed)


@dataclass(frozen=True, slots=True)
class Request:
    """One path to add: a target, new or not, and the part of it that is meant ("" for all)."""

    target: str
    inner: str


def plan(project: Project, paths: Sequence[str]) -> list[Request]:
    """Say what adding these paths (from the top of the worktree) means; UsageError if nothing."""
    targets = project.targets()
    requests = []
    for path in paths:
        refuse_place(path)
        _refuse_nested_repository(project, path)
        owner = next((t for t in targets if path == t or path.startswith(t + "/")), None)
        inside = [t for t in targets if t.startswith(path + "/")]
        if owner is None and inside:
            raise UsageError(
                f"{printable(path)} holds targets of its own:\n{listing(inside)}",
                hint="add those, or take them out first: dv rm TARGET",
            )
        requests.append(Request(owner or path, path[len(owner) + 1 :] if owner else ""))
    every = [request.target for request in requests]
    for target in every:
        above = next((other for other in every if target.startswith(other + "/")), None)
        if above is not None:
            raise UsageError(
                f"{printable(target)} lies in {printable(above)}, which is added too",
                hint=f"add {printable(above)} alone",
            )
    return list(dict.fromkeys(requests))


def _refuse_nested_repository(project: Project, path: str) -> None:
    """Refuse what lies in a submodule or clone inside this worktree: git keeps it apart too."""
    folder = path
    while folder:
        if project.workspace.stat(f"{folder}/.git") is not None:
            rest = path[len(folder) + 1 :] or "PATH"
            raise UsageError(
                f"{printable(path)} is in a git repository of its own, {printable(folder)}",
                hint=f"add it there: dv -C {printable(folder)} add {printable(rest)}",
            )
        folder = folder.rpartition("/")[0]


def add(
    project: Project,
    request: Request,
    *,
    untrack: bool = False,
    stage: bool = True,
    dereference: bool = False,
    engine: Engine = LOCAL_POOL,
) -> Added:
    """Bring a target's manifest in step with the workspace; what it names is then in the store.

    Errors leave manifest and git's index as they were. Content read so far may stay in the store,
    where the next `add` finds it.
    """
    place = workspace_path(request.target, request.inner or SELF)
    if Ignore(project.root, place).excluded:
        raise UsageError(
            f"{IGNORE_FILE} says to leave out {printable(place)}",
            hint=f"take that line out of {IGNORE_FILE}, then repeat the command",
        )
    before = _manifest_before(project, request.target)
    removals = project.store.db.removals()
    _refuse_tracked(project, request, untrack=untrack)
    content_at = _anywhere if dereference else None
    known = _agreement(project, request, before)
    if known is not None:
        scan = known.scan_rest(project, content_at)
    else:
        scan = scan_target(project, request.target, inner=request.inner, content_at=content_at)
    find_left_out(project, scan, [path for path, seen in scan.seen.items() if seen.tracked])
    kind = _kind(project, scan, before, request)
    _check(scan, request)
    sweep(project, scan)
    result = Added(request.target, warnings=_ambiguous(scan))
    fresh = _store_files(project, scan, engine, dereference=dereference)
    result.stored = fresh.stored
    if before is None:
        step = _first(project, kind, scan, result)
    else:
        step = _next(project, scan, before, request, known, result)
    built = step.built
    _publish(project, request, built, untrack=untrack, stage=stage)
    racy = _remember(project, scan, fresh, step.removed)
    if built.manifest.shards and not request.inner:
        _agree(project, scan, built.manifest, [*step.left, *racy])
        if known is not None:
            carry_over(project, known, step.changed, built)
        # Without `known`, what never was here is not among what was `left`.
        if not step.left and (known is not None or before is None):
            held = (ref.digest for ref in built.manifest.shards)
            project.store.db.add_held_shards(held, removals)
    result.files, result.bytes = built.manifest.files, built.manifest.bytes
    return result


def _agreement(project: Project, request: Request, before: Manifest | None) -> Agreement | None:
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


def _is_there(scan: Scan, path: str) -> bool:
    return path in scan.files or path in scan.links or path in scan.folders


def _agree(project: Project, scan: Scan, manifest: Manifest, doubtful: Sequence[str]) -> None:
    """Remember that the workspace is as the new manifest says.

    Not so the `doubtful`: entries that were left, unlike the workspace, and racy files, of which
    the stat does not tell a later change.
    """
    counts = entries_by_folder(chain(scan.files, scan.links, scan.empty_folders), manifest)
    remember(project, scan, counts, doubtful, stored=scan.digests)


def _anywhere(_: str) -> bool:
    return True


def _manifest_before(project: Project, target: str) -> Manifest | None:
    return project.manifest(target) if project.manifest_text(target) is not None else None


def _refuse_tracked(project: Project, request: Request, *, untrack: bool) -> None:
    tracked = project.git.tracked_under(workspace_path(request.target, request.inner or SELF))
    if tracked and not untrack:
        raise UsageError(
            f"git tracks what should come under dv:\n{listing(tracked)}",
            hint="repeat with --untrack to take it out of git's index (the files stay, and so "
            "does git's history)",
        )


def _kind(project: Project, scan: Scan, before: Manifest | None, request: Request) -> Kind:
    single = SELF in scan.files
    place = workspace_path(request.target, request.inner or SELF)
    if SELF in scan.links:
        raise InputError(
            f"{printable(place)} is a symlink",
            hint="add what it points to, or repeat with --dereference to keep the content",
        )
    missing = project.workspace.stat(place) is None
    if missing and not (request.inner and scan.seen):
        raise UsageError(
            f"there is nothing at {printable(place)}",
            hint=f"to get it back: dv checkout -- {printable(place)}; to untrack it: "
            f"dv rm {printable(place)}"
            if before is not None
            else None,
        )
    if before is not None and request.inner:
        return before.kind
    if before is not None and (before.kind == "file") != single:
        raise UsageError(
            f"{printable(request.target)} was a {before.kind} when it was added and is not now",
            hint=f"take it out first: dv rm {printable(request.target)}",
        )
    return "file" if single else "dir"


def _check(scan: Scan, request: Request) -> None:
    """Refuse, all at once, everything that cannot be versioned."""
    faults = list(scan.faults)
    for path, link in scan.links.items():
        fault = link_fault(path, link)
        if fault:
            faults.append((path, f"is a symlink that {fault}; --dereference takes its content"))
    for paths in (scan.files, scan.links, scan.empty_folders):
        faults.extend((path, fault) for path, fault in path_faults(paths) if path != SELF)
    refuse_faults(faults, request.target)


def _ambiguous(scan: Scan) -> list[str]:
    """Warn of names that are one and the same on filesystems that fold case or Unicode forms."""
    every = (*scan.files, *scan.links, *scan.folders)
    if distinct_folded(every):
        return []
    groups: dict[str, list[str]] = {}
    for path in every:
        groups.setdefault(folded(path), []).append(path)
    return [
        "these differ only in case or Unicode form, and collide on macOS and Windows:\n"
        + listing(workspace_path(scan.target, path) for path in sorted(group))
        for group in groups.values()
        if len(group) > 1
    ]


# --- content --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Fresh:
    """Files whose content was just brought into the store, and by how many bytes that grew.

    Of a million files only this is kept, besides the scan's stats and digests.
    """

    paths: list[str]
    read_at_ns: array[int] = field(default_factory=lambda: array("q"))
    stored: int = 0

    def seen(self, scan: Scan) -> Iterator[tuple[str, Seen]]:
        """Yield what to remember of each, as tracked."""
        for path, read_at_ns in zip(self.paths, self.read_at_ns, strict=True):
            found = scan.files[path]
            yield (
                path,
                seen_file(
                    found,
                    scan.digests[path],
                    executable=is_executable(found),
                    read_at_ns=read_at_ns,
                    tracked=True,
                ),
            )


def _discard(result: IngestResult) -> None:
    discard_packs(result.packs)


def _store_files(project: Project, scan: Scan, engine: Engine, *, dereference: bool) -> _Fresh:
    """Bring every file's content into the store; then the scan has every digest.

    What was seen before of the files that were read is forgotten.
    """
    lacking = project.store.lacking(scan.digests.values())
    digests = scan.digests
    fresh = _Fresh([p for p in scan.files if p not in digests or digests[p] in lacking])
    if not fresh.paths:
        return fresh
    fresh.paths.sort()
    sweep_temp(project.store)
    total = sum(scan.files[path].st_size for path in fresh.paths)
    project.progress.start("adding", total_bytes=total)
    every = ingest_batches(
        project.root,
        project.store.path,
        (FileSource(workspace_path(scan.target, p), scan.files[p].st_size) for p in fresh.paths),
        follow_links=dereference,
        total_bytes=total,
    )
    paths = iter(fresh.paths)
    results = engine_for(engine, files=len(fresh.paths), size_bytes=total).map(
        ingest,
        every,
        tell=project.progress.advance,
        undo=_discard,
        begin="anew" if len(scan.files) >= ANEW_MIN_FILES else "quick",
    )
    with closing(results):
        for result in results:
            project.store.adopt(result.packs)
            fresh.stored += sum(info.size for _, info in result.packs)
            # The results come in the order of the batches.
            for file, path in zip(result.files, paths, strict=False):
                scan.digests[path] = file.digest
                scan.files[path] = file.stat
                scan.seen.pop(path, None)
                fresh.read_at_ns.append(file.read_at_ns)
    project.progress.finish()
    return fresh


# --- the manifest ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Step:
    """The next manifest, and what is to be remembered of it; paths are of entries.

    `left` are as they were, unlike the workspace; `changed` folders with changes.
    """

    built: Built
    left: Sequence[str] = ()
    removed: Sequence[str] = ()
    changed: Collection[str] = ()


def _first(project: Project, kind: Kind, scan: Scan, result: Added) -> _Step:
    """Make the first manifest of a target; of a large one, each shard is stored as it is cut."""
    paths = sorted(chain(scan.files, scan.links, scan.empty_folders))
    result.added = len(paths)
    entries = ((path, _entry(scan, path)) for path in paths)
    if len(paths) <= INLINE_ENTRIES_MAX:
        return _Step(build(kind, dict(entries)))
    refs = []
    for shard in cut_shards(entries):
        project.store.put_shards([shard])
        refs.append(shard.ref)
    return _Step(Built(Manifest(kind, None, tuple(refs)), ()))


def _entry(scan: Scan, path: str) -> Entry:
    if path in scan.files:
        return file_entry(scan, path)
    return Entry(symlink=scan.links[path]) if path in scan.links else Entry(dir=True)


def _next(
    project: Project,
    scan: Scan,
    before: Manifest,
    request: Request,
    known: Agreement | None,
    result: Added,
) -> _Step:
    """Make the manifest that follows another."""
    changes, old = _changes(project, scan, before, request, known)
    _count(result, changes, old)
    return _Step(
        update(before, changes, project.shards.load),
        left=[path for path in old if path not in changes and not _is_there(scan, path)],
        removed=[path for path, entry in changes.items() if entry is None],
        changed={folder_of(path) for path in changes},
    )


def _changes(
    project: Project,
    scan: Scan,
    before: Manifest,
    request: Request,
    known: Agreement | None,
) -> tuple[dict[str, Entry | None], Entries]:
    """Return the entries to set or remove, and entries that were there, all that these concern."""
    now: Entries = {path: file_entry(scan, path) for path in sorted(scan.files)}
    now.update({path: Entry(symlink=link) for path, link in scan.links.items()})
    now.update({path: Entry(dir=True) for path in scan.empty_folders})
    covering = folders_above([*now, request.inner] if request.inner else now) - now.keys()
    old: Entries = {}
    if known is not None:
        old = known.wanted | dict.fromkeys(known.empty, Entry(dir=True))
        # Above something new there may be an entry that was an empty folder, or a file.
        above = covering - folders_above(old)
        near = project.entries_near(known.manifest, above) if above else {}
        old |= {path: near[path] for path in above & near.keys()}
    else:
        # What was never fetched and has nothing of now near it stays as it is, unread.
        concerned = (*now, *scan.seen, *scan.folders, *covering)
        old = project.entries_near(before, concerned, above=now)
    scan.leave_unfilled(old)
    left = set(scan.empty_folders)
    if len(left) < sum(one.dir for one in now.values()):
        now = {path: one for path, one in now.items() if not one.dir or path in left}
    changes = cast("dict[str, Entry | None]", now)
    if old:
        changes = {path: entry for path, entry in now.items() if old.get(path) != entry}
    for path in old:
        if path in now:
            continue
        # Never fetched is not deleted; but what now has something above or below it is replaced.
        if scan.vanished(path) or path in covering or path in scan.folders or _below(path, now):
            changes[path] = None
    return changes, old


def _below(path: str, now: Entries) -> bool:
    parent = path.rpartition("/")[0]
    while parent:
        if parent in now:
            return True
        parent = parent.rpartition("/")[0]
    return False


def _count(result: Added, changes: dict[str, Entry | None], old: Entries) -> None:
    for path, entry in changes.items():
        if entry is None:
            result.removed += 1
        elif path in old:
            result.modified += 1
        else:
            result.added += 1


def _publish(
    project: Project, request: Request, built: Built, *, untrack: bool, stage: bool
) -> None:
    """Shards, then the manifest, then git's index: what is referred to comes first."""
    target = request.target
    if stage or untrack:
        project.git.refuse_if_index_is_locked()
    refuse_unusable(project.workspace, target)
    project.store.put_shards(built.shards)
    project.write_manifest(target, built.manifest)
    ignore = ignore_target(project.workspace, target)
    if untrack:
        project.git.untrack([workspace_path(target, request.inner or SELF)])
    if stage:
        project.git.stage([target + SUFFIX, *ignore])


def _remember(project: Project, scan: Scan, fresh: _Fresh, removed: Iterable[str]) -> list[str]:
    """Put the whole of what was added into the statcache as tracked.

    Return the files that another look would have to read again.
    """
    racy: list[str] = []

    def read() -> Iterator[tuple[str, Seen]]:
        for path, seen in fresh.seen(scan):
            if not seen.matches(scan.files[path]):
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
