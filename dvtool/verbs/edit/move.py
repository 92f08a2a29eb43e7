"""mv: give a target, or entries in one, another name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from dvtool.errors import UsageError, listing, printable
from dvtool.format.manifest import Built, Entries, Entry, Manifest, update
from dvtool.format.merge import edited
from dvtool.format.paths import SUFFIX, link_fault, path_fault, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments
from dvtool.project.base import (
    drift_of,
    move_base,
    record_part,
)
from dvtool.project.links import move_links, refuse_misled
from dvtool.project.parts import Project, refuse_place
from dvtool.project.relocation import forget_relocation, relocate, unfinished_relocation
from dvtool.system import atomic
from dvtool.verbs.edit.remove import folders_of, stage_with_removals, staged_manifest
from dvtool.workspace.gitignore import ignore_file, ignore_target, refuse_unusable, unignore_target
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.last_look import changed
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import (
    file_entry,
    find_left_out,
    scan_target,
)
from dvtool.workspace.statcache import Seen


@dataclass(frozen=True, slots=True)
class Renamed:
    """The result of `mv`, as paths from the top of the worktree."""

    source: str
    """Where it was."""
    destination: str
    """Where it is now."""


def mv(
    project: Project,
    arguments: Arguments,
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    plan_only: bool = False,
) -> Renamed:
    """Rename a target or entries in one, given as typed; see `move`."""
    arguments.refuse_in_revision(source)
    with project.lock():
        old, new = arguments.relative(source), arguments.relative(destination)
        # The top of the repository is a folder that takes the source into it, like any other.
        return move(project, old, new or old.rpartition("/")[2], plan_only=plan_only)


def move(project: Project, source: str, destination: str, *, plan_only: bool = False) -> Renamed:
    """Rename a target with its data, or entries within one target, and stage that.

    With `plan_only` nothing is changed; what cannot be moved is refused all the same.

    A destination that is a folder (and no part of a target's name) takes the source into it.
    """
    targets = project.targets()
    cut_off = unfinished_relocation(project)
    resumed = cut_off is not None and cut_off in (
        (source, destination),
        (source, f"{destination}/{source.rpartition('/')[2]}"),
    )
    if cut_off is not None and resumed:
        destination = cut_off.destination
        if project.workspace.stat(source) is None and not plan_only:
            forget_relocation(project)
    if source in targets and (resumed or _was_interrupted(project, source, destination)):
        if plan_only:
            return Renamed(source, destination)
        return _finish_move(project, source, destination)
    if source in targets:
        return _move_target(project, source, _into(project, source, destination), plan_only)
    owner = next((target for target in targets if source.startswith(target + "/")), None)
    if owner is None:
        raise UsageError(
            f"{printable(source)} is neither a target nor in one", hint="for other files: git mv"
        )
    inside = destination if resumed else _into(project, source, destination)
    for moved_to in dict.fromkeys((destination, inside)):
        if not moved_to.startswith(owner + "/"):
            continue
        if _finish_entries(project, owner, source, moved_to, plan_only=plan_only):
            return Renamed(source, moved_to)
    destination = inside
    if not destination.startswith(owner + "/"):
        raise UsageError(
            f"{printable(source)} belongs to {printable(owner)} and can only move within it",
            hint="move the file yourself, then `dv add` both targets: its content is not copied",
        )
    return _move_entries(project, owner, source, destination, plan_only=plan_only)


def _is_taken(project: Project, source: str, destination: str) -> bool:
    """Whether something is at a destination that no move of this put there."""
    if unfinished_relocation(project) == (source, destination):
        return False
    return project.workspace.stat(destination) is not None


def _into(project: Project, source: str, destination: str) -> str:
    status = project.workspace.stat(destination)
    if status is not None and stat.S_ISDIR(status.st_mode):
        return f"{destination}/{source.rpartition('/')[2]}"
    return destination


def _move_target(project: Project, source: str, destination: str, plan_only: bool) -> Renamed:
    refuse_place(destination)
    if destination.startswith(source + "/"):
        raise UsageError(f"{printable(source)} cannot move into itself")
    for path in (destination, destination + SUFFIX):
        if project.workspace.stat(path) is not None:
            raise UsageError(f"{printable(path)} exists already", hint="choose another name")
    holder = next((t for t in project.targets() if destination.startswith(t + "/")), None)
    if holder is not None:
        raise UsageError(
            f"{printable(destination)} is inside the target {printable(holder)}",
            hint=f"to have the files there: dv rm {printable(source)} (they stay), move them, then "
            f"dv add {printable(holder)}",
        )
    refuse_unusable(project.workspace, destination)
    refuse_unusable(project.workspace, source)
    refuse_misled(project, source, destination)
    if plan_only:
        return Renamed(source, destination)
    # New name first, old name last: a crash in between leaves two manifests, and all data.
    project.write_manifest(destination, project.manifest(source), instead_of=None)
    return _finish_move(project, source, destination)


def _was_interrupted(project: Project, source: str, destination: str) -> bool:
    """Whether a move of this target got as far as the new manifest, and not to its end."""
    text = project.manifest_text(destination)
    if text is None or text != project.manifest_text(source):
        return False
    # With data in both places these are two targets that happen to be alike.
    return project.workspace.stat(source) is None or project.workspace.stat(destination) is None


def _finish_move(project: Project, source: str, destination: str) -> Renamed:
    """Do what follows the new manifest; every step may have been done before."""
    manifest, text = project.read_manifest(source)
    if manifest != project.manifest(destination):
        raise changed(source + SUFFIX)
    ignore_target(project.workspace, destination)
    if project.workspace.stat(source) is not None:
        _rename(project, source, destination)
        _move_seen(project, source, destination)
    move_base(project, source, destination)
    move_links(project, source, destination)
    unignore_target(project.workspace, source)
    stage_with_removals(
        project,
        [destination + SUFFIX, ignore_file(destination), ignore_file(source)],
        removed=[source + SUFFIX],
    )
    project.remove_manifest(source, instead_of=text)
    return Renamed(source, destination)


def _rename(project: Project, source: str, destination: str) -> None:
    folder = destination.rpartition("/")[0]
    project.workspace.make_folder(folder)
    while folder:  # a new folder must be durable before the only copy of data is in it
        folder = folder.rpartition("/")[0]
        atomic.sync_folder(project.workspace.absolute(folder))
    relocate(project, source, destination)
    atomic.sync_folder(os.path.dirname(project.workspace.absolute(destination)))


def _move_seen(project: Project, source: str, destination: str) -> None:
    """Let the statcache follow: a rename changes the ctime of what is renamed itself only."""
    below = project.statcache.folders_below(source)
    moved = {destination + folder[len(source) :]: seen for folder, seen in below.items()}
    project.statcache.save(moved | {folder: {} for folder in below})
    for target, wanted in ((destination, True), (source, False)):
        folder, _, name = target.rpartition("/")
        row = project.statcache.folder(folder)
        old_folder, _, old_name = source.rpartition("/")
        seen = project.statcache.folder(old_folder).get(old_name)
        if wanted and seen is not None:
            project.statcache.save({folder: row | {name: seen}})
        elif not wanted and name in row:
            del row[name]
            project.statcache.save({folder: row})


def _at_or_below(project: Project, target: str, manifest: Manifest, inner: str) -> Entries:
    """Return the entries at and below a path that is meant literally, wildcards and all."""
    entries = project.entries(manifest, Selection(target, (inner,)))
    return {
        path: entry
        for path, entry in entries.items()
        if path == inner or path.startswith(inner + "/")
    }


def _refuse_misplaced(project: Project, target: str, manifest: Manifest, moved: Entries) -> None:
    """Refuse names that a manifest cannot have, before anything is moved."""
    for path, entry in moved.items():
        fault = path_fault(path) or (link_fault(path, entry.symlink) if entry.symlink else None)
        if fault:
            raise UsageError(f"{printable(workspace_path(target, path))} {fault}")
    folders = folders_of(moved) - {path for path, entry in moved.items() if entry.dir}
    near = project.entries_near(manifest, folders)
    for parent in sorted(folders):
        if parent in near and not near[parent].dir:
            raise UsageError(f"{printable(workspace_path(target, parent))} is not a folder")


def _is_at_or_below(path: str, places: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in places)


def _finish_entries(
    project: Project, target: str, source: str, destination: str, *, plan_only: bool
) -> bool:
    """Finish a move within a target that was cut off; False if there is none to finish.

    Either the files were moved and the manifest does not know, or only git does not know.
    """
    if project.workspace.stat(source) is not None or project.workspace.stat(destination) is None:
        return False
    inner, new = source[len(target) + 1 :], destination[len(target) + 1 :]
    manifest, text = project.read_manifest(target)
    taken = _at_or_below(project, target, manifest, new)
    if taken:
        places = (inner, new)
        unstaged = _is_unstaged(project, target, inner, taken, new)
        if not plan_only:
            record_part(project, target, manifest, lambda path: _is_at_or_below(path, places))
            if unstaged:
                project.git.stage([target + SUFFIX])
        return unstaged
    entries = _at_or_below(project, target, manifest, inner)
    moved = {new + path[len(inner) :]: entry for path, entry in entries.items()}
    scan = scan_target(project, target, inner=new)
    find_left_out(project, scan, moved)
    hash_files(project, scan, scan.files)
    if not scan.files or any(moved.get(path) != file_entry(scan, path) for path in scan.files):
        return False  # something else is there
    _refuse_misplaced(project, target, manifest, moved)
    if plan_only:
        return True
    built = _renamed(project, manifest, entries, moved)
    project.write_manifest(target, built.manifest, instead_of=text)
    _record_moved(project, target, built.manifest, entries, moved)
    rows: dict[str, Seen | None] = dict.fromkeys(entries)
    rows |= {path: structs.replace(scan.seen[path], tracked=True) for path in scan.files}
    save_seen(project, target, rows)
    project.git.stage([target + SUFFIX])
    return True


def _is_unstaged(project: Project, target: str, inner: str, taken: Entries, new: str) -> bool:
    """Whether what moved to `new` still is at `inner` in git's index."""
    staged = staged_manifest(project, target)
    if staged is None:
        return False
    before = _at_or_below(project, target, staged, inner)
    return taken == {new + path[len(inner) :]: entry for path, entry in before.items()}


def _renamed(project: Project, manifest: Manifest, entries: Entries, moved: Entries) -> Built:
    """Return the manifest in which `entries` have become `moved`; its shards are in the store.

    An empty folder that something moves into is no entry any more.
    """
    folders = folders_of(moved)
    near = project.entries_near(manifest, folders)
    changes: dict[str, Entry | None] = dict.fromkeys(entries)
    changes.update(dict.fromkeys(path for path in folders if path in near and near[path].dir))
    changes.update(moved)
    built = edited(update(manifest, changes, project.shards.load))
    project.store.put_shards(built.shards)
    return built


def _refuse_outdated(project: Project, target: str, manifest: Manifest, entries: Entries) -> None:
    """Refuse to move entries that the manifest changed since their files were put there."""
    drift = drift_of(project, target, manifest)
    outdated = sorted(entries.keys() & drift.paths)
    if outdated:
        raise UsageError(
            "the manifest changed these since they were put here:\n"
            + listing(workspace_path(target, path) for path in outdated),
            hint=f"run first: dv checkout -- {printable(target)}",
        )


def _record_moved(
    project: Project, target: str, manifest: Manifest, entries: Entries, moved: Entries
) -> None:
    """Let the base follow a move within a target."""
    record_part(project, target, manifest, lambda path: path in entries or path in moved)


def _move_entries(
    project: Project, target: str, source: str, destination: str, *, plan_only: bool
) -> Renamed:
    inner, new = source[len(target) + 1 :], destination[len(target) + 1 :]
    manifest, text = project.read_manifest(target)
    entries = _at_or_below(project, target, manifest, inner)
    if not entries:
        raise UsageError(f"{printable(source)} is not tracked in {printable(target)}")
    taken = _at_or_below(project, target, manifest, new)
    if taken or _is_taken(project, source, destination) or new.startswith(inner + "/"):
        raise UsageError(f"{printable(destination)} exists already", hint="choose another name")
    moved = {new + path[len(inner) :]: entry for path, entry in entries.items()}
    _refuse_misplaced(project, target, manifest, moved)
    _refuse_outdated(project, target, manifest, entries)
    refuse_misled(project, source, destination)
    if plan_only:
        return Renamed(source, destination)
    built = _renamed(project, manifest, entries, moved)
    scan = scan_target(project, target, inner=inner)
    if project.workspace.stat(source) is not None:
        project.refuse_changed(target, text)
        _rename(project, source, destination)
    project.write_manifest(target, built.manifest, instead_of=text)
    _record_moved(project, target, built.manifest, entries, moved)
    move_links(project, source, destination)
    seen = {path: scan.seen[path] for path in entries if path in scan.seen}
    save_seen(
        project,
        target,
        dict.fromkeys(entries) | {new + path[len(inner) :]: was for path, was in seen.items()},
    )
    project.git.stage([target + SUFFIX])
    return Renamed(source, destination)
