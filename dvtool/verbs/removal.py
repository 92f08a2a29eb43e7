"""What `rm --data` removes from the workspace, and what must be saved before."""

from __future__ import annotations

from collections.abc import Sequence

from dvtool.errors import UnsavedError, listing
from dvtool.format.manifest import Entries
from dvtool.format.paths import workspace_path
from dvtool.project.base import Drift, standings
from dvtool.project.parts import Project
from dvtool.project.preserve import save_files
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, entry_now


def doomed_paths(
    project: Project, drift: Drift, scan: Scan, entries: Entries, gone: Entries
) -> list[str]:
    """Return the files and links to remove: those of the entries, and others that dvtool put there.

    Of the latter, which the manifest has no more (`gone`), edited ones stay.
    """
    here = [path for path in (*scan.files, *scan.links) if path in entries or path in gone]
    hash_files(project, scan, here)
    left = {path: entry_now(scan, path) for path in here if path in gone}
    found = standings(project, drift, left)
    return [path for path in here if path in entries or found[path] == "outdated"]


def save_or_refuse(
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
    found = standings(project, drift, changes)
    changes = {path: entry for path, entry in changes.items() if found[path] != "outdated"}
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
