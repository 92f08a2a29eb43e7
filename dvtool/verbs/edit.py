"""rm and mv: take targets and entries out, or give them another name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec import structs

from dvtool.errors import UnsavedError, UsageError, listing, printable
from dvtool.format.manifest import Built, Entries, Entry, Manifest, decode, update
from dvtool.format.merge import edited
from dvtool.format.paths import SUFFIX, folders_above, link_fault, path_fault, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.base import drift_of, forget_base, move_base, record_part
from dvtool.project.links import forget_links, move_links, refuse_misled
from dvtool.project.parts import Project, refuse_place
from dvtool.project.preserve import keep_uncommitted, save_files
from dvtool.project.relocation import forget_relocation, relocate, unfinished_relocation
from dvtool.system import atomic
from dvtool.workspace.gitignore import ignore_file, ignore_target, refuse_unusable, unignore_target
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.last_look import changed
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import (
    Scan,
    file_entry,
    find_left_out,
    refuse_unreadable,
    scan_selected,
    scan_target,
)
from dvtool.workspace.statcache import Seen


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of `rm`."""

    target: str
    """The target, as a path from the top of the worktree."""
    whole: bool
    """Whether the target itself is gone."""
    entries: int
    """How many entries were taken out of the manifest."""
    files: int
    """How many files were removed from the workspace."""


def rm(
    project: Project,
    arguments: Arguments,
    paths: Paths,
    *,
    data: bool,
    force: bool,
    plan_only: bool = False,
) -> list[Removed]:
    """Untrack the targets, or entries in them, that paths select; see `remove`."""
    with project.lock():
        selections = arguments.selections(project.targets(), paths)
        act = _foresee_removal if plan_only else remove
        return [act(project, one, data=data, force=force) for one in selections]


def _foresee_removal(project: Project, selection: Selection, *, data: bool, force: bool) -> Removed:
    """Return what `remove` would do, or raise what forbids it."""
    entries = project.entries(project.manifest(selection.target), selection)
    scan, doomed = _doomed(project, selection, entries, data=data)
    if doomed and not force:
        _save_or_refuse(project, scan, entries, doomed, force=False)
    return Removed(selection.target, selection.whole, len(entries), len(doomed))


def _doomed(
    project: Project, selection: Selection, entries: Entries, *, data: bool
) -> tuple[Scan, list[str]]:
    """Return what is in the workspace, and what of it goes with entries that are taken out."""
    scan = scan_selected(project, selection)
    find_left_out(project, scan, entries)
    if data:
        refuse_unreadable(scan, entries)
    return scan, [p for p in (*scan.files, *scan.links) if p in entries] if data else []


def remove(
    project: Project, selection: Selection, *, data: bool, force: bool, stage: bool = True
) -> Removed:
    """Untrack a target or entries of it; with `data`, remove the files from the workspace too.

    UnsavedError, before anything is done, if that would remove content that is not in the store.
    The manifest goes last, and from git's index first: until then the command can be repeated.
    """
    manifest, text = project.read_manifest(selection.target)
    entries = project.entries(manifest, selection)
    if not entries and not selection.whole:
        if not (stage and _finish_removal(project, selection)):
            raise UsageError(f"nothing in {printable(selection.target)} matches")
        return Removed(selection.target, False, 0, 0)
    scan, doomed = _doomed(project, selection, entries, data=data)
    if doomed:
        _save_or_refuse(project, scan, entries, doomed, force=force)
    if stage:
        project.git.refuse_if_index_is_locked()
    project.refuse_changed(selection.target, text)
    keep_uncommitted(project, selection.target)
    for path in doomed:
        project.workspace.remove(
            workspace_path(selection.target, path), believed=scan.believed(path)
        )
    if data:
        _remove_empty(project, scan, scan.folders if selection.whole else _folders_of(entries))
        if not selection.whole:
            _flush_removals(project, selection.target, entries)
    if selection.whole:
        # First: a record without a manifest would be taken for a target that git took away.
        forget_base(project, selection.target)
        forget_links(project, selection.target)
        _remove_manifest(project, selection.target, text, stage=stage)
    else:
        changes: dict[str, Entry | None] = dict.fromkeys(entries)
        built = edited(update(manifest, changes, project.shards.load))
        project.store.put_shards(built.shards)
        project.write_manifest(selection.target, built.manifest, instead_of=text)
        record_part(project, selection.target, built.manifest, selection.matches)
        if stage:
            project.git.stage([selection.target + SUFFIX])
    save_seen(project, selection.target, dict.fromkeys(entries))
    return Removed(selection.target, selection.whole, len(entries), len(doomed))


def _finish_removal(project: Project, selection: Selection) -> bool:
    """Stage the manifest if git's index has entries that were removed from it, and not staged."""
    staged = _staged_manifest(project, selection.target)
    if staged is None or not project.entries(staged, selection):
        return False
    now = project.manifest(selection.target)
    record_part(project, selection.target, now, selection.matches)
    project.git.stage([selection.target + SUFFIX])
    return True


def _staged_manifest(project: Project, target: str) -> Manifest | None:
    blob = project.git.manifests_in_index().get(target + SUFFIX)
    return None if blob is None else decode(project.git.read_blob(blob), target + SUFFIX)


def _save_or_refuse(
    project: Project, scan: Scan, entries: Entries, doomed: Sequence[str], *, force: bool
) -> None:
    """Refuse to remove what is saved nowhere; with `force`, save files first."""
    links = [
        workspace_path(scan.target, path)
        for path in doomed
        if path in scan.links and scan.links[path] != entries[path].symlink
    ]
    if links:
        raise UnsavedError(
            f"these are symlinks that no manifest has; nothing was changed:\n{listing(links)}",
            hint="move or remove them yourself, then repeat the command",
        )
    hash_files(project, scan, doomed)
    digests = {path: scan.digests[path] for path in doomed if path in scan.digests}
    lacking = project.store.lacking(digests.values())
    unsaved = [
        workspace_path(scan.target, path) for path, digest in digests.items() if digest in lacking
    ]
    if unsaved and force:
        save_files(project, unsaved)
    elif unsaved:
        raise UnsavedError(
            f"these have changes that are saved nowhere; nothing was changed:\n{listing(unsaved)}",
            hint="keep them with `dv add`, or remove them nevertheless with --force",
        )


def _remove_manifest(project: Project, target: str, text: bytes, *, stage: bool) -> None:
    unignore_target(project.workspace, target)
    if stage:
        # Staged also if the line is gone: what took it out may have ended before git knew.
        _stage_with_removals(project, [ignore_file(target)], removed=[target + SUFFIX])
    project.remove_manifest(target, instead_of=text)


def _stage_with_removals(
    project: Project, paths: Iterable[str], *, removed: Sequence[str] = ()
) -> None:
    """Stage files as they are; those that are not there, and `removed`, as removed."""
    every = list(dict.fromkeys(paths))
    present = [path for path in every if project.workspace.stat(path) is not None]
    project.git.remove_staged([*removed, *(path for path in every if path not in present)])
    project.git.stage(present)


def _folders_of(entries: Entries) -> set[str]:
    """Return the folders among the entries and above them; no others are ours to remove."""
    return folders_above(entries) | {path for path, entry in entries.items() if entry.dir}


def _remove_empty(project: Project, scan: Scan, folders: Iterable[str]) -> None:
    for folder in sorted(scan.folders.intersection(folders), key=len, reverse=True):
        project.workspace.remove_empty_folder(workspace_path(scan.target, folder))
    project.workspace.remove_empty_folder(scan.target)


def _flush_removals(project: Project, target: str, entries: Entries) -> None:
    """Make removals durable: what comes back after the manifest forgot it is nobody's to remove."""
    for folder in {target, *(workspace_path(target, path) for path in folders_above(entries))}:
        if os.path.isdir(project.absolute(folder)):
            atomic.sync_folder(project.absolute(folder))


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
) -> Renamed:
    """Rename a target or entries in one, given as typed; see `move`."""
    with project.lock():
        old, new = arguments.relative(source), arguments.relative(destination)
        # The top of the repository is a folder that takes the source into it, like any other.
        return move(project, old, new or old.rpartition("/")[2])


def move(project: Project, source: str, destination: str, *, stage: bool = True) -> Renamed:
    """Rename a target with its data, or entries within one target, and stage that.

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
        if project.workspace.stat(source) is None:
            forget_relocation(project)
    if source in targets and resumed:
        return _finish_move(project, source, destination, stage=stage)
    if source in targets and _was_interrupted(project, source, destination):
        return _finish_move(project, source, destination, stage=stage)
    if source in targets:
        return _move_target(project, source, _into(project, source, destination), stage=stage)
    owner = next((target for target in targets if source.startswith(target + "/")), None)
    if owner is None:
        raise UsageError(
            f"{printable(source)} is neither a target nor in one", hint="for other files: git mv"
        )
    inside = destination if resumed else _into(project, source, destination)
    for place in dict.fromkeys((destination, inside)):
        if place.startswith(owner + "/") and _finish_entries(project, owner, source, place, stage):
            return Renamed(source, place)
    destination = inside
    if not destination.startswith(owner + "/"):
        raise UsageError(
            f"{printable(source)} belongs to {printable(owner)} and can only move within it",
            hint="move the file yourself, then `dv add` both targets: its content is not copied",
        )
    return _move_entries(project, owner, source, destination, stage=stage)


def _is_taken(project: Project, source: str, destination: str) -> bool:
    """Whether something is at a destination that no move of this put there."""
    if unfinished_relocation(project) == (source, destination):
        return False
    return project.workspace.stat(destination) is not None


def _into(project: Project, source: str, destination: str) -> str:
    found = project.workspace.stat(destination)
    if found is not None and stat.S_ISDIR(found.st_mode):
        return f"{destination}/{source.rpartition('/')[2]}"
    return destination


def _move_target(project: Project, source: str, destination: str, *, stage: bool) -> Renamed:
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
    # New name first, old name last: a crash in between leaves two manifests, and all data.
    project.write_manifest(destination, project.manifest(source), instead_of=None)
    return _finish_move(project, source, destination, stage=stage)


def _was_interrupted(project: Project, source: str, destination: str) -> bool:
    """Whether a move of this target got as far as the new manifest, and not to its end."""
    text = project.manifest_text(destination)
    if text is None or text != project.manifest_text(source):
        return False
    # With data in both places these are two targets that happen to be alike.
    return project.workspace.stat(source) is None or project.workspace.stat(destination) is None


def _finish_move(project: Project, source: str, destination: str, *, stage: bool) -> Renamed:
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
    if stage:
        _stage_with_removals(
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
    found = project.entries(manifest, Selection(target, (inner,)))
    return {
        path: entry
        for path, entry in found.items()
        if path == inner or path.startswith(inner + "/")
    }


def _refuse_misplaced(project: Project, target: str, manifest: Manifest, moved: Entries) -> None:
    """Refuse names that a manifest cannot have, before anything is moved."""
    for path, entry in moved.items():
        fault = path_fault(path) or (link_fault(path, entry.symlink) if entry.symlink else None)
        if fault:
            raise UsageError(f"{printable(workspace_path(target, path))} {fault}")
    folders = _folders_of(moved) - {path for path, entry in moved.items() if entry.dir}
    near = project.entries_near(manifest, folders)
    for parent in sorted(folders):
        if parent in near and not near[parent].dir:
            raise UsageError(f"{printable(workspace_path(target, parent))} is not a folder")


def _is_at_or_below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def _finish_entries(
    project: Project, target: str, source: str, destination: str, stage: bool
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
        record_part(project, target, manifest, lambda path: _is_at_or_below(path, places))
        return stage and _finish_staging(project, target, inner, taken, new)
    entries = _at_or_below(project, target, manifest, inner)
    moved = {new + path[len(inner) :]: entry for path, entry in entries.items()}
    scan = scan_target(project, target, inner=new)
    find_left_out(project, scan, moved)
    hash_files(project, scan, scan.files)
    if not scan.files or any(moved.get(path) != file_entry(scan, path) for path in scan.files):
        return False  # something else is there
    _refuse_misplaced(project, target, manifest, moved)
    built = _renamed(project, manifest, entries, moved)
    project.write_manifest(target, built.manifest, instead_of=text)
    _record_moved(project, target, built.manifest, entries, moved)
    rows: dict[str, Seen | None] = dict.fromkeys(entries)
    rows |= {path: structs.replace(scan.seen[path], tracked=True) for path in scan.files}
    save_seen(project, target, rows)
    if stage:
        project.git.stage([target + SUFFIX])
    return True


def _finish_staging(project: Project, target: str, inner: str, taken: Entries, new: str) -> bool:
    """Stage the manifest if what moved to `new` still is at `inner` in git's index."""
    staged = _staged_manifest(project, target)
    if staged is None:
        return False
    before = _at_or_below(project, target, staged, inner)
    if taken != {new + path[len(inner) :]: entry for path, entry in before.items()}:
        return False
    project.git.stage([target + SUFFIX])
    return True


def _renamed(project: Project, manifest: Manifest, entries: Entries, moved: Entries) -> Built:
    """Return the manifest in which `entries` have become `moved`; its shards are in the store.

    An empty folder that something moves into is no entry any more.
    """
    folders = _folders_of(moved)
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
    project: Project, target: str, source: str, destination: str, *, stage: bool
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
    if stage:
        project.git.stage([target + SUFFIX])
    return Renamed(source, destination)
