"""drop: free workspace and store of data that the remote provably holds.

First the proof, at that moment: of every shard concerned the remote itself says that it has it and
every pack it points into, and a root there names the manifest, so that gc keeps them. Then the
evidence that these are the right bytes: the remote states their MD5, or they are read back. Then
the workspace, last the store. If drop is interrupted in between, `dv pull` writes the files again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dvtool.errors import UnsavedError, listing
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import (
    Entries,
    Entry,
    Manifest,
    ShardRef,
    manifest_digest,
    manifest_shards,
)
from dvtool.format.paths import folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.base import drift_of, standings, taken_out
from dvtool.project.history import for_drop, held_runs, versions
from dvtool.project.neighbours import contents_in_other_worktrees, versions_of_neighbours
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.source_approvals import source_access
from dvtool.remotes.evidence import Announce, Inspection, ReadBack, read_roots, stated
from dvtool.remotes.known import Known
from dvtool.remotes.objects import root_key
from dvtool.remotes.proof import learn_shards, located_now, prove_roots, prove_shards
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstones
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.store.freeing import drop_chunks
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import (
    Scan,
    content_of,
    entry_now,
    file_entry,
    find_left_out,
    scan_selected,
)


@dataclass(frozen=True, slots=True)
class PartToDrop:
    """A part to drop: a target's manifest, as far as selected."""

    manifest: Manifest
    selection: Selection


@dataclass(frozen=True, slots=True)
class DroppedTarget:
    """The files that left the workspace of one target."""

    target: str
    """The target, as a path from the top of the worktree."""
    files: int
    """How many files left the workspace."""
    bytes: int
    """Bytes of these files."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The result of a drop, or with `planned` what it would free."""

    json_keys: ClassVar = (
        *("remote", "targets", "workspace_bytes", "store_bytes", "freed_bytes"),
        *("read_back_bytes", "planned"),
    )

    remote: str
    """URL of the remote that provably holds all of it."""
    targets: tuple[DroppedTarget, ...]
    """The files that left the workspace, by target."""
    store_bytes: int
    """Bytes that the local store became smaller by; of a plan, before compression."""
    read_back: ReadBack
    """How much has to be read from the remote before anything is freed."""
    planned: bool = False
    """Whether this says only what would be done."""

    @property
    def read_back_bytes(self) -> int:
        """Bytes that have to be read from the remote before anything is freed."""
        return self.read_back.bytes

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the files removed from the workspace."""
        return sum(target.bytes for target in self.targets)

    @property
    def freed_bytes(self) -> int:
        """Bytes freed in workspace and local store together."""
        return self.workspace_bytes + self.store_bytes


@dataclass(slots=True)
class DropPlan:
    """The plan of dropping from one target. Paths are relative to the target."""

    target: str
    entries: Entries
    shards: list[ShardRef]
    scan: Scan | None
    remove: dict[str, int] = field(default_factory=dict)
    """The files and links that leave the workspace, each with its bytes."""
    outdated: dict[str, Entry | None] = field(default_factory=dict)
    """Outdated files: they are as the manifest had them before it changed, and go too."""
    changed: list[str] = field(default_factory=list)
    """Paths of entries at which there is something of the user's."""
    unstored: list[str] = field(default_factory=list)
    """Outdated files whose content the store lacks; the remote is not asked for that."""


@dataclass(frozen=True, slots=True)
class DropRequest:
    """The remote that has to hold what goes, and whether files of the workspace go too.

    With `plan_only` nothing is read back and nothing goes. `announce` is told what is read back
    before that begins.
    """

    remote: str | None = None
    workspace: bool = True
    plan_only: bool = False
    announce: Announce | None = None


def drop(
    project: Project,
    settings: Settings,
    select: Callable[[Sequence[str]], list[Selection]],
    request: DropRequest,
) -> Dropped:
    """Free the store, and the workspace if requested, of what a remote provably holds.

    `select` chooses what of the targets is to go. UnsavedError for files that were changed, or that
    the remote does not say it holds, or holds otherwise; nothing is gone then.
    """
    settings.require_init()
    with project.lock(store=False):
        parts = [PartToDrop(project.manifest(s.target), s) for s in select(project.targets())]
        plans = plan_drop(project, parts, workspace=request.workspace)
        store = settings.open_remote(request.remote)
        known = Known(project.store.db, store.required_mark().id)
        repo_id = project.config.text("core.repoid") or ""
        proven = _prove(store, known, repo_id, parts, plans)
        access = source_access(project.git.common_dir)
        inspection = Inspection(store, known, _contents_by_shard(plans), proven, access)
        read = inspection.reading()
        _refuse_lost(store, plans, inspection)
        if not request.plan_only and read.requests:
            if request.announce is not None:
                request.announce(read)
            project.progress.start("reading back", total_bytes=read.bytes)
            inspection.read(project.progress)
            project.progress.finish()
            access.close()
            _refuse_lost(store, plans, inspection)
        with project.store.used(alone=not request.plan_only):
            needed = _needed_besides(project, parts, known)
            # The store has the copy of outdated files that is counted on.
            needed.update(e.digest for p in plans for e in p.outdated.values() if e and e.is_file)
            # A file that stays in a worktree would else be the only copy, should the source change.
            referenced = inspection.referenced.keys()
            stays = contents_in_other_worktrees(project, referenced)
            needed |= stays if request.workspace else referenced
            chunks = _droppable(project, store, known, plans, needed, referenced - needed)
            if request.plan_only:
                places = project.store.db.places(chunks).values()
                targets = tuple(_planned(plan) for plan in plans)
                size = sum(placement.size for _, placement in places)
                return Dropped(store.url, targets, size, read, planned=True)
            targets = tuple(_clear(project, plan) for plan in plans)
            return Dropped(store.url, targets, drop_chunks(project.store, chunks), read)


def _needed_besides(project: Project, dropped: Sequence[PartToDrop], known: Known) -> set[Digest]:
    """Return the contents that the rest of the worktree, what was not pushed, or others name."""
    selected = {part.selection.target: part.selection for part in dropped}
    manifests = {target: project.manifest(target) for target in project.targets()}
    needed: set[Digest] = set()
    lists: set[Digest] = set()
    for target, manifest in manifests.items():
        selection = selected.get(target)
        for path, entry in project.held_entries(manifest).items():
            if entry.size > 0 and (selection is None or not selection.matches(path)):
                needed.add(entry.digest)
    done = {manifest_digest(manifest) for manifest in manifests.values()}
    refs = project.git.all_refs()
    published = [commit for ref, commit in refs.items() if ref.startswith("refs/remotes/")]
    for version in versions(project, for_drop([*known.commits(), *published])):
        digest = manifest_digest(version.manifest)
        if digest not in done:
            done.add(digest)
            entries = project.held_entries(version.manifest).values()
            needed.update(entry.digest for entry in entries if entry.size > 0)
    # Data that another clone needs may be on no remote, or on one that it cannot reach.
    for version in versions_of_neighbours(project):
        for _, run in held_runs(project, version.manifest, done=lists):
            needed.update(contents_of(run or {}))
    return needed


def plan_drop(project: Project, parts: Iterable[PartToDrop], *, workspace: bool) -> list[DropPlan]:
    """Say what is to go, with `workspace` from there too; UnsavedError if files were changed."""
    plans = [_plan(project, part, workspace=workspace) for part in parts]
    changed = [workspace_path(plan.target, path) for plan in plans for path in plan.changed]
    unstored = [workspace_path(plan.target, path) for plan in plans for path in plan.unstored]
    if unstored:
        raise UnsavedError(
            "these are as the manifest had them before it changed, and the store does not have "
            f"that content; nothing was dropped:\n{listing(unstored)}",
            hint="bring them in step first: dv pull PATH",
        )
    if changed:
        raise UnsavedError(
            f"these were changed since `dv add`; nothing was dropped:\n{listing(changed)}",
            hint="keep the changes with dv add, git commit and dv push, or undo them: "
            "dv checkout -- PATH",
        )
    return plans


def _plan(project: Project, part: PartToDrop, *, workspace: bool) -> DropPlan:
    entries = project.entries(part.manifest, part.selection)
    if part.manifest.entries is None:
        shards = project.selected_shards(part.manifest, part.selection)
    else:
        shards = manifest_shards(part.manifest)
    result = DropPlan(part.selection.target, entries, shards, scan=None)
    if workspace:
        _plan_removal(project, part, result)
    return result


def _plan_removal(project: Project, part: PartToDrop, plan: DropPlan) -> None:
    """Sort what the workspace has into what goes, what is the user's, and what would be lost."""
    entries, target = plan.entries, plan.target
    drift = drift_of(project, target, part.manifest)
    gone = taken_out(drift, part.selection)
    scan = scan_selected(project, part.selection, content_at=content_of(entries | gone))
    find_left_out(project, scan, (*entries, *gone))
    sized = [path for path, e in entries.items() if _size(scan, path) == e.size >= 0]
    hash_files(project, scan, sized)
    clean = [path for path in entries if _is_clean(scan, path, entries[path])]
    others = entries.keys() - clean
    others |= {path for path in gone if _is_file(scan, path) or path in scan.folders}
    hash_files(project, scan, others)
    now = {path: entry_now(scan, path) for path in sorted(others)}
    standing = standings(project, drift, now)
    plan.outdated = {path: now[path] for path in standing if standing[path] == "outdated"}
    files = {
        path: entry.digest for path, entry in plan.outdated.items() if entry and entry.size > 0
    }
    lacking = project.store.lacking(files.values())
    plan.unstored = [path for path, digest in files.items() if digest in lacking]
    plan.changed = [path for path in standing if path in entries and path not in plan.outdated]
    going = [path for path in (*clean, *plan.outdated) if _is_file(scan, path)]
    plan.remove = {path: (now.get(path) or entries[path]).bytes for path in going}
    plan.scan = scan


def _size(scan: Scan, path: str) -> int | None:
    status = scan.files.get(path)
    return None if status is None else status.st_size


def _is_file(scan: Scan, path: str) -> bool:
    return path in scan.files or path in scan.links


def _is_clean(scan: Scan, path: str, entry: Entry) -> bool:
    """Whether a path is as its entry says, or absent."""
    if path in scan.files:
        return path in scan.digests and file_entry(scan, path) == entry
    if path in scan.links:
        return scan.links[path] == entry.symlink
    return path not in scan.folders or bool(entry.dir)


# --- proof ----------------------------------------------------------------------------------


def _prove(
    remote: RemoteStore,
    known: Known,
    repo_id: str,
    parts: Sequence[PartToDrop],
    plans: Sequence[DropPlan],
) -> Mapping[str, ObjectInfo]:
    """See that the remote has objects for, and will keep, all that the plans name.

    Return what it said of them. UnsavedError, naming the files, for what it does not say so of.
    """
    shards = {ref.digest: ref for plan in plans for ref in plan.shards}
    manifests = {manifest_digest(part.manifest): part for part in parts}
    roots = [root_key(repo_id, name) for name in known.roots(manifests).values()]
    tombstones = Tombstones(remote)
    doomed = tombstones.doomed_roots(tombstones.look())
    proven = prove_shards(remote, known, shards, roots=roots)
    rooted = prove_roots(remote, known, repo_id, manifests, sound=proven.roots, doomed=doomed)
    named = {digest: name for digest, name in known.roots(rooted).items() if digest in rooted}
    rooted = read_roots(remote, repo_id, named, stated(known, proven.there))
    lost: list[str] = []
    for part, plan in zip(parts, plans, strict=True):
        kept = manifest_digest(part.manifest) in rooted
        firsts = [ref.first for ref in plan.shards]
        for path in plan.entries:
            shard = plan.shards[bisect_right(firsts, path) - 1]
            if not kept or shard.digest not in proven.shards:
                lost.append(workspace_path(plan.target, path))
    if lost:
        raise UnsavedError(
            f"{remote.url} does not say that it holds these; nothing was dropped:\n{listing(lost)}",
            hint="git commit the manifests if they are not, then run: dv push",
        )
    return proven.there


def _contents_by_shard(plans: Sequence[DropPlan]) -> dict[ShardRef, set[Digest]]:
    """Return which contents are to go of each shard that has any."""
    contents: dict[ShardRef, set[Digest]] = {}
    for plan in plans:
        firsts = [ref.first for ref in plan.shards]
        for path, entry in plan.entries.items():
            if entry.size > 0:
                ref = plan.shards[bisect_right(firsts, path) - 1]
                contents.setdefault(ref, set()).add(entry.digest)
    return contents


def _refuse_lost(remote: RemoteStore, plans: Sequence[DropPlan], inspection: Inspection) -> None:
    """Raise an UnsavedError, naming the files, if the remote holds other bytes than it should."""
    lost = inspection.lost
    paths = [
        workspace_path(plan.target, path)
        for plan in plans
        for path, entry in plan.entries.items()
        if entry.size > 0 and entry.digest in lost
    ]
    if paths and inspection.faults:
        first = next(iter(inspection.faults.values()))
        raise UnsavedError(
            f"these are at a source, which does not have them as they were taken; nothing was "
            f"dropped:\n{listing(paths)}\n{first}",
            hint="keep copies on the remote: dv import --materialise PATH, then dv push",
        )
    if paths:
        raise UnsavedError(
            f"{remote.url} holds damaged objects in place of what these need; "
            f"nothing was dropped:\n{listing(paths)}",
            hint="see what is damaged and repair it from here: dv fsck --remote --deep --repair",
        )


def _droppable(
    project: Project,
    remote: RemoteStore,
    known: Known,
    plans: Sequence[DropPlan],
    needed: Collection[Digest],
    referenced: Collection[Digest],
) -> set[Digest]:
    """Return the chunks that may leave the store, once `_prove` has passed.

    Each is in a pack that the remote says it has, or of a content that was just read from its
    source (`referenced`); and none is of the contents `needed`.
    """
    contents = {digest for plan in plans for digest in contents_of(plan.entries)}
    lists = project.store.chunk_lists([*contents, *needed])
    kept = {chunk for digest in needed for chunk in lists.get(digest, ())}
    chunks = {chunk for digest in contents for chunk in lists.get(digest, ())} - kept
    chunks = project.store.db.held_chunks(chunks)
    read = {chunk for digest in referenced for chunk in lists.get(digest, ())} & chunks
    chunks -= read
    located = located_now(remote, known, chunks)
    if len(located) < len(chunks):
        # The place is not known here, though proven: the shards there say where the content is.
        unknown = chunks - located.keys()
        learn_shards(remote, known, _shards_with(project, plans, unknown))
        located |= located_now(remote, known, unknown)
    return (chunks & located.keys()) | read


def _shards_with(
    project: Project, plans: Sequence[DropPlan], chunks: Collection[Digest]
) -> list[ShardRef]:
    refs: dict[Digest, ShardRef] = {}
    for plan in plans:
        firsts = [ref.first for ref in plan.shards]
        lists = project.store.chunk_lists(contents_of(plan.entries))
        for path, entry in plan.entries.items():
            if entry.size > 0 and not set(lists.get(entry.digest, ())).isdisjoint(chunks):
                ref = plan.shards[bisect_right(firsts, path) - 1]
                refs[ref.digest] = ref
    return list(refs.values())


# --- doing it -------------------------------------------------------------------------------


def _planned(plan: DropPlan) -> DroppedTarget:
    """Return what `_clear` would remove."""
    return DroppedTarget(plan.target, len(plan.remove), _bytes_of(plan))


def _bytes_of(plan: DropPlan) -> int:
    return sum(plan.remove.values())


def _clear(project: Project, plan: DropPlan) -> DroppedTarget:
    """Remove a target's files from the workspace; they are then absent, not deleted."""
    if plan.scan is None:
        return DroppedTarget(plan.target, 0, 0)
    # Forgotten before they go: what ends it in between must not make them look deleted.
    save_seen(project, plan.target, dict.fromkeys((*plan.entries, *plan.remove)))
    for path in plan.remove:
        project.workspace.remove(
            workspace_path(plan.target, path), believed=plan.scan.believed(path)
        )
    folders = folders_above((*plan.entries, *plan.remove))
    every = plan.outdated | plan.entries
    folders |= {path for path, entry in every.items() if entry is not None and entry.dir}
    for folder in sorted(folders & plan.scan.folders, key=len, reverse=True):
        project.workspace.remove_empty_folder(workspace_path(plan.target, folder))
    project.workspace.remove_empty_folder(plan.target)
    return DroppedTarget(plan.target, len(plan.remove), _bytes_of(plan))
