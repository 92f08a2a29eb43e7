"""drop: free workspace and store of what the remote provably holds.

First the proof, at that moment: of every shard concerned the remote itself says that it has it
and every pack it points into, and a root there names the manifest, so that gc keeps them. Then
the workspace, last the store. Whatever ends it in between, `dv pull` brings the files back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dvtool.errors import UnsavedError, listing
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entries, Manifest, ShardRef, manifest_digest, manifest_shards
from dvtool.format.paths import folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.proof import learn_shards, located_now, prove_roots, prove_shards
from dvtool.remotes.remote import RemoteStore, root_key
from dvtool.remotes.tombstones import Tombstones
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import Scan, content_of, file_entry, find_left_out, scan_selected


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to drop: a target's manifest, as far as selected."""

    manifest: Manifest
    selection: Selection


@dataclass(frozen=True, slots=True)
class DroppedTarget:
    """What left the workspace of one target."""

    target: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a drop freed: `store_bytes` is what the packs became smaller by."""

    remote: str
    targets: tuple[DroppedTarget, ...]
    store_bytes: int

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the files removed from the workspace."""
        return sum(one.bytes for one in self.targets)


@dataclass(slots=True)
class Plan:
    """What dropping from one target will remove. Paths are relative to the target."""

    target: str
    entries: Entries
    shards: list[ShardRef]
    scan: Scan | None
    remove: list[str] = field(default_factory=list)


def plan(project: Project, wanted: Iterable[Wanted], *, workspace: bool) -> list[Plan]:
    """Say what is to go, with `workspace` from there too; UnsavedError if files were changed."""
    plans = [_plan(project, one, workspace=workspace) for one in wanted]
    changed = [
        workspace_path(one.target, path)
        for one in plans
        if one.scan is not None
        for path in _changed(one.scan, one.entries)
    ]
    if changed:
        raise UnsavedError(
            f"these were changed since `dv add`; nothing was dropped:\n{listing(changed)}",
            hint="keep the changes with dv add, git commit and dv push, or undo them: "
            "dv checkout -- PATH",
        )
    return plans


def _plan(project: Project, one: Wanted, *, workspace: bool) -> Plan:
    entries = project.entries(one.manifest, one.selection)
    if one.manifest.entries is None:
        shards = project.selected_shards(one.manifest, one.selection)
    else:
        shards = manifest_shards(one.manifest)
    result = Plan(one.selection.target, entries, shards, scan=None)
    if workspace:
        scan = scan_selected(project, one.selection, content_at=content_of(entries))
        find_left_out(project, scan, entries)
        sized = [path for path, e in entries.items() if _size(scan, path) == e.size >= 0]
        hash_files(project, scan, sized)
        result.scan = scan
        result.remove = [path for path in entries if path in scan.files or path in scan.links]
    return result


def _size(scan: Scan, path: str) -> int | None:
    found = scan.files.get(path)
    return None if found is None else found.st_size


def _changed(scan: Scan, entries: Entries) -> Iterator[str]:
    for path, entry in entries.items():
        if path in scan.files:
            if path not in scan.digests or file_entry(scan, path) != entry:
                yield path
        elif path in scan.links:
            if scan.links[path] != entry.symlink:
                yield path
        elif path in scan.folders and not entry.dir:
            yield path


# --- proof ----------------------------------------------------------------------------------


def prove(
    remote: RemoteStore,
    known: Known,
    repo_id: str,
    wanted: Sequence[Wanted],
    plans: Sequence[Plan],
) -> None:
    """See that the remote holds, and will keep, all that the plans name.

    UnsavedError, naming the files, for what it does not say so of.
    """
    shards = {ref.digest: ref for one in plans for ref in one.shards}
    manifests = {manifest_digest(one.manifest): one for one in wanted}
    roots = [root_key(repo_id, name) for name in known.roots(manifests).values()]
    tombstones = Tombstones(remote)
    doomed = tombstones.doomed_roots(tombstones.look())
    proven = prove_shards(remote, known, shards, roots=roots)
    rooted = prove_roots(remote, known, repo_id, manifests, sound=proven.roots, doomed=doomed)
    lost: list[str] = []
    for one, todo in zip(wanted, plans, strict=True):
        kept = manifest_digest(one.manifest) in rooted
        firsts = [ref.first for ref in todo.shards]
        for path in todo.entries:
            shard = todo.shards[bisect_right(firsts, path) - 1]
            if not kept or shard.digest not in proven.shards:
                lost.append(workspace_path(todo.target, path))
    if lost:
        raise UnsavedError(
            f"{remote.url} does not say that it holds these; nothing was dropped:\n{listing(lost)}",
            hint="git commit the manifests if they are not, then run: dv push",
        )


def droppable(
    project: Project,
    remote: RemoteStore,
    known: Known,
    plans: Sequence[Plan],
    needed: Collection[Digest],
) -> set[Digest]:
    """Return the chunks that may leave the store, once `prove` has passed.

    Each is in a pack that the remote says it has, and none is of the contents `needed`.
    """
    contents = {digest for one in plans for digest in contents_of(one.entries)}
    lists = project.store.chunk_lists([*contents, *needed])
    kept = {chunk for digest in needed for chunk in lists.get(digest, ())}
    chunks = {chunk for digest in contents for chunk in lists.get(digest, ())} - kept
    chunks = project.store.db.held_chunks(chunks)
    located = located_now(remote, known, chunks)
    if len(located) < len(chunks):
        # Not known here, though proven: the shards there say where it lies.
        unknown = chunks - located.keys()
        learn_shards(remote, known, _shards_with(project, plans, unknown))
        located |= located_now(remote, known, unknown)
    return chunks & located.keys()


def _shards_with(
    project: Project, plans: Sequence[Plan], chunks: Collection[Digest]
) -> list[ShardRef]:
    refs: dict[Digest, ShardRef] = {}
    for one in plans:
        firsts = [ref.first for ref in one.shards]
        lists = project.store.chunk_lists(contents_of(one.entries))
        for path, entry in one.entries.items():
            if entry.size > 0 and not set(lists.get(entry.digest, ())).isdisjoint(chunks):
                ref = one.shards[bisect_right(firsts, path) - 1]
                refs[ref.digest] = ref
    return list(refs.values())


# --- doing it -------------------------------------------------------------------------------


def clear(project: Project, todo: Plan) -> DroppedTarget:
    """Remove a target's files from the workspace; they are then absent, not deleted."""
    if todo.scan is None:
        return DroppedTarget(todo.target, 0, 0)
    # Forgotten before they go: what ends it in between must not make them look deleted.
    save_seen(project, todo.target, dict.fromkeys(todo.entries))
    size = 0
    for path in todo.remove:
        project.workspace.remove(
            workspace_path(todo.target, path), believed=todo.scan.believed(path)
        )
        size += todo.entries[path].bytes
    folders = folders_above(todo.entries) | {p for p, e in todo.entries.items() if e.dir}
    for folder in sorted(folders & todo.scan.folders, key=len, reverse=True):
        project.workspace.remove_empty_folder(workspace_path(todo.target, folder))
    project.workspace.remove_empty_folder(todo.target)
    return DroppedTarget(todo.target, len(todo.remove), size)
