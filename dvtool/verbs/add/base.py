"""The files that an add leaves as the manifest has them: unchanged while the manifest changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dvtool.errors import UsageError, listing
from dvtool.format.manifest import Entry, Manifest
from dvtool.format.paths import folders_above, workspace_path
from dvtool.project.base import Drift, drift_of, record_base, standings
from dvtool.project.parts import Project
from dvtool.verbs.add.plan import AddRequest
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, entry_now, is_known


@dataclass(slots=True)
class Standings:
    """How the files of a target stand to a manifest that is no longer their base."""

    drift: Drift
    outdated: dict[str, Entry | None] = field(default_factory=dict)
    """Path -> the entry that the file has; the manifest's entry stays."""


def find_standings(
    project: Project, request: AddRequest, before: Manifest, scan: Scan, *, ours: bool
) -> Standings:
    """Find the files that an add has to leave; with `ours` it leaves none.

    UsageError for files that were changed here and in the manifest: to add those would undo the
    other change.
    """
    drift = drift_of(project, request.target, before)
    found = Standings(drift)
    if drift.none or ours:
        return found
    files = _differing(project, request, before, scan, drift)
    by_path = standings(project, drift, files)
    both = sorted(path for path, standing in by_path.items() if standing == "conflicting")
    if both:
        raise UsageError(
            "these were changed here, and the manifest has other changes of them; nothing was "
            f"added:\n{listing(workspace_path(request.target, path) for path in both)}",
            hint="keep yours: dv add --ours PATH; take the manifest's: dv checkout --force -- PATH "
            "(which saves yours first)",
        )
    found.outdated = {p: files[p] for p, standing in by_path.items() if standing == "outdated"}
    return found


def _differing(
    project: Project, request: AddRequest, before: Manifest, scan: Scan, drift: Drift
) -> dict[str, Entry | None]:
    """Return the entries, as they would be now, of the files that are not as the manifest says.

    Only files whose entry the manifest changed are taken; without a record of the base, all are.
    """
    if drift.recorded:
        wanted, paths = drift.new, drift.paths
    else:
        paths = {*scan.files, *scan.links, *scan.seen}
        wanted = project.entries_near(before, paths)
    inside = [path for path in paths if not request.inner or _is_in(path, request.inner)]
    hash_files(project, scan, [path for path in inside if path in scan.files])
    there = [path for path in inside if _is_in_workspace(scan, path) or scan.vanished(path)]
    now = {path: entry_now(scan, path) for path in there if is_known(scan, path)}
    return {path: entry for path, entry in now.items() if entry != wanted.get(path)}


def _is_in(path: str, inner: str) -> bool:
    return path == inner or path.startswith(inner + "/")


def _is_in_workspace(scan: Scan, path: str) -> bool:
    return path in scan.files or path in scan.links or path in scan.empty_folders


def leave(scan: Scan, paths: Iterable[str]) -> None:
    """Take files out of a scan, as if they had never been here: their entries stay as they are."""
    out = set(paths)
    for path in out:
        scan.files.pop(path, None)
        scan.links.pop(path, None)
        scan.seen.pop(path, None)
        scan.digests.pop(path, None)
    if out:
        scan.empty_folders = [path for path in scan.empty_folders if path not in out]


def leave_new(project: Project, before: Manifest, scan: Scan) -> list[str]:
    """Take out of a scan what has no entry in the manifest `before`, and return these paths.

    A folder that is an entry itself counts as empty still if all that is in it is left.
    """
    paths = [*scan.files, *scan.links, *scan.empty_folders]
    known = project.entries_near(before, paths)
    new = sorted(path for path in paths if path not in known)
    leave(scan, new)
    above = folders_above(new)
    emptied = {path for path, one in project.entries_near(before, above).items() if one.dir}
    filled = folders_above([*scan.files, *scan.links, *scan.empty_folders])
    scan.empty_folders.extend(sorted(above & emptied - filled))
    return new


def record_added(
    project: Project, request: AddRequest, after: Manifest, found: Standings | None
) -> None:
    """Record what the workspace follows after an add."""
    if found is None:
        record_base(project, request.target, after)
        return
    kept = dict(found.outdated)
    if request.inner:
        if not found.drift.recorded:
            return  # nothing is known of the rest of the target
        others = {p for p in found.drift.paths if not _is_in(p, request.inner)}
        kept |= {path: found.drift.old.get(path) for path in others}
    record_base(project, request.target, after, kept)
