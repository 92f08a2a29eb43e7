"""rm: stop tracking targets, or entries in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvtool.errors import UnsavedError, UsageError, listing, printable
from dvtool.format.manifest import Entries, Entry, Manifest, decode, update
from dvtool.format.merge import edited
from dvtool.format.paths import SUFFIX, folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.base import (
    Drift,
    drift_of,
    forget_base,
    record_part,
    standings,
    taken_out,
)
from dvtool.project.links import forget_links
from dvtool.project.parts import Project
from dvtool.project.preserve import keep_uncommitted, save_files
from dvtool.system import atomic
from dvtool.workspace.gitignore import ignore_file, unignore_target
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.remembered import save_seen
from dvtool.workspace.scan import (
    Scan,
    entry_now,
    find_left_out,
    refuse_unreadable,
    scan_selected,
)


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
    """Untrack the targets, or entries in them, that paths select; see `remove`.

    With `plan_only` nothing is changed; what forbids it is raised all the same.
    """
    with project.lock():
        selections = arguments.selections(project.targets(), paths)
        act = _foresee_removal if plan_only else remove
        return [act(project, selection, data=data, force=force) for selection in selections]


def _foresee_removal(project: Project, selection: Selection, *, data: bool, force: bool) -> Removed:
    """Return what `remove` would do, or raise what forbids it."""
    manifest = project.manifest(selection.target)
    entries = project.entries(manifest, selection)
    if not data:
        return Removed(selection.target, selection.whole, len(entries), 0)
    drift = drift_of(project, selection.target, manifest)
    gone = taken_out(drift, selection)
    scan = scan_selected(project, selection)
    find_left_out(project, scan, (*entries, *gone))
    refuse_unreadable(scan, (*entries, *gone))
    doomed = _doomed(project, drift, scan, entries, gone)
    if not force:  # with it files are saved first
        _save_or_refuse(project, drift, scan, entries, doomed, force=False)
    return Removed(selection.target, selection.whole, len(entries), len(doomed))


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
    drift = drift_of(project, selection.target, manifest)
    gone = taken_out(drift, selection) if data else {}
    scan = scan_selected(project, selection)
    find_left_out(project, scan, (*entries, *gone))
    doomed: list[str] = []
    if data:
        refuse_unreadable(scan, (*entries, *gone))
        doomed = _doomed(project, drift, scan, entries, gone)
        _save_or_refuse(project, drift, scan, entries, doomed, force=force)
    if stage:
        project.git.refuse_if_index_is_locked()
    project.refuse_changed(selection.target, text)
    keep_uncommitted(project, selection.target)
    for path in doomed:
        project.workspace.remove(
            workspace_path(selection.target, path), believed=scan.believed(path)
        )
    if data:
        every = entries | gone
        _remove_empty(project, scan, scan.folders if selection.whole else folders_of(every))
        if not selection.whole:
            _flush_removals(project, selection.target, every)
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
        record_part(project, selection.target, built.manifest, entries.__contains__)
        if stage:
            project.git.stage([selection.target + SUFFIX])
    save_seen(project, selection.target, dict.fromkeys((*entries, *doomed)))
    return Removed(selection.target, selection.whole, len(entries), len(doomed))


def _finish_removal(project: Project, selection: Selection) -> bool:
    """Stage the manifest if git's index has entries that were removed from it, and not staged."""
    staged = staged_manifest(project, selection.target)
    entries = project.entries(staged, selection) if staged is not None else {}
    if not entries:
        return False
    now = project.manifest(selection.target)
    record_part(project, selection.target, now, entries.__contains__)
    project.git.stage([selection.target + SUFFIX])
    return True


def staged_manifest(project: Project, target: str) -> Manifest | None:
    """Return a target's manifest as git's index has it, None if it has none."""
    blob = project.git.manifests_in_index().get(target + SUFFIX)
    return None if blob is None else decode(project.git.read_blob(blob), target + SUFFIX)


def _doomed(
    project: Project, drift: Drift, scan: Scan, entries: Entries, gone: Entries
) -> list[str]:
    """Return the files and links to remove: those of the entries, and others that dvtool put there.

    Of the latter, which the manifest has no more (`gone`), edited ones stay.
    """
    here = [path for path in (*scan.files, *scan.links) if path in entries or path in gone]
    hash_files(project, scan, here)
    left = {path: entry_now(scan, path) for path in here if path in gone}
    standing = standings(project, drift, left)
    return [path for path in here if path in entries or standing[path] == "outdated"]


def _save_or_refuse(
    project: Project,
    drift: Drift,
    scan: Scan,
    entries: Entries,
    doomed: Sequence[str],
    *,
    force: bool,
) -> None:
    """Refuse to remove edits that are saved nowhere; with `force`, save those of files first.

    Content that dvtool itself put there, and that the store has no more, is saved too.
    """
    digests = {path: scan.digests[path] for path in doomed if path in scan.digests}
    lacking = project.store.lacking(digests.values())
    now = {path: entry_now(scan, path) for path in doomed}
    changes = {path: entry for path, entry in now.items() if entry != entries.get(path)}
    standing = standings(project, drift, changes)
    changes = {path: entry for path, entry in changes.items() if standing[path] != "outdated"}
    links = [workspace_path(scan.target, path) for path in changes if path in scan.links]
    if links:
        raise UnsavedError(
            f"these are symlinks that no manifest has; nothing was changed:\n{listing(links)}",
            hint="move or remove them yourself, then repeat the command",
        )
    unsaved = [path for path, digest in digests.items() if digest in lacking]
    refused = [workspace_path(scan.target, path) for path in unsaved if path in changes]
    if refused and not force:
        raise UnsavedError(
            f"these have changes that are saved nowhere; nothing was changed:\n{listing(refused)}",
            hint="keep them with `dv add`, or remove them nevertheless with --force",
        )
    save_files(project, [workspace_path(scan.target, path) for path in unsaved])


def _remove_manifest(project: Project, target: str, text: bytes, *, stage: bool) -> None:
    unignore_target(project.workspace, target)
    if stage:
        # Staged also if the line is gone: what took it out may have ended before git knew.
        stage_with_removals(project, [ignore_file(target)], removed=[target + SUFFIX])
    project.remove_manifest(target, instead_of=text)


def stage_with_removals(
    project: Project, paths: Iterable[str], *, removed: Sequence[str] = ()
) -> None:
    """Stage files as they are; those that are not there, and `removed`, as removed."""
    every = list(dict.fromkeys(paths))
    present = [path for path in every if project.workspace.stat(path) is not None]
    project.git.remove_staged([*removed, *(path for path in every if path not in present)])
    project.git.stage(present)


def folders_of(entries: Entries) -> set[str]:
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
