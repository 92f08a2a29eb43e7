"""diff: two commits compared, or a commit and the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar

from dvtool.format.compare import Difference, differences, differing, unshared_shards
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, Entry, Manifest, decode
from dvtool.format.paths import SUFFIX, folder_of
from dvtool.format.selection import Selection
from dvtool.project.arguments import Arguments, Paths
from dvtool.project.parts import Project, require_worktree
from dvtool.project.settings import Settings
from dvtool.system.lazy import later_in
from dvtool.workspace.agreement import agree
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, content_of, file_entry, find_left_out, scan_target

if TYPE_CHECKING:
    from dvtool.snapshots import shards as snapshot_shards, snapshot as snapshots
    from dvtool.snapshots.snapshot import Snapshot
else:
    snapshot_shards, snapshots = later_in("dvtool.snapshots", "shards", "snapshot")


@dataclass(slots=True)
class Total:
    """How many entries changed in one way, and by how many bytes that changed the data."""

    count: int = 0
    """How many entries."""
    bytes: int = 0
    """By how many bytes the data grew; negative if it became less."""


@dataclass(slots=True)
class Totals:
    """The sums of changes."""

    added: Total = field(default_factory=Total)
    """Entries that are new."""
    modified: Total = field(default_factory=Total)
    """Entries with other content, or another mode."""
    removed: Total = field(default_factory=Total)
    """Entries that are gone."""
    renamed: Total = field(default_factory=Total)
    """Files that have another path now, and the same content."""

    @classmethod
    def of(cls, changes: Iterable[Difference]) -> Totals:
        """Add changes up."""
        totals = cls()
        for change in changes:
            total: Total = getattr(totals, change.change)
            total.count += 1
            total.bytes += change.growth
        return totals


@dataclass(slots=True)
class TargetDiff:
    """The changes in one target. A side without the target has no manifest."""

    json_keys: ClassVar = ("target", "renamed_from", "totals", "changes")

    target: str
    """The target, as a path from the top of the worktree."""
    old: Manifest | None
    new: Manifest | None
    changes: list[Difference] = field(default_factory=list)
    """Each changed path, sorted."""
    renamed_from: str | None = None
    """The target's name on the old side, if `dv mv` gave it another one since; or null."""

    @property
    def totals(self) -> Totals:
        """The changes, added up."""
        return Totals.of(self.changes)


def diff(
    project: Project,
    settings: Settings,
    arguments: Arguments,
    old: str | None,
    new: str | None,
    paths: Paths,
) -> list[TargetDiff]:
    """Compare two revisions, or a revision (HEAD for None) with the workspace (None).

    Before "" there is nothing: all of the other side is new.
    The workspace is the manifests in the worktree with the local changes to the files on top.
    """
    git = project.git
    if new is None:
        require_worktree(git)
    before = git.resolve(old) if old else git.head() if old is None else None
    after = git.resolve(new) if new else None
    targets = _targets_at(project, [before, after] if before else [after])
    selections = arguments.selections(targets, paths)
    renamed = _renamed_targets(project, before, after)
    # The old name of a target that is shown under its new one is not shown besides.
    gone = {renamed[each.target] for each in selections if each.target in renamed}
    shown = [each for each in selections if each.target not in gone]
    if after is not None:
        # Made when the first shard is asked for: most manifests have none.
        data = cache(lambda: snapshots.snapshot_within(project, settings, after, {}))
        compare = partial(_diff_commits, project, data, (before, after))
    else:
        compare = partial(_diff_workspace, project, before)
    return [_diff_target(each, compare, renamed.get(each.target)) for each in shown]


def _renamed_targets(project: Project, old: str | None, new: str | None) -> dict[str, str]:
    """Return new name -> old name of the targets that got another one."""
    if old is None:
        return {}
    renamed = project.git.renamed_manifests(old, new).items()
    return {after.removesuffix(SUFFIX): before.removesuffix(SUFFIX) for after, before in renamed}


def _diff_target(
    selection: Selection,
    compare: Callable[[str, str], TargetDiff],
    renamed_from: str | None,
) -> TargetDiff:
    """Return the selected changes of a target, which `compare` finds by its name then and now."""
    result = compare(renamed_from or selection.target, selection.target)
    result.renamed_from = renamed_from
    result.changes = [
        change
        for change in result.changes
        if selection.matches(change.path)
        or (change.source is not None and selection.matches(change.source))
    ]
    return result


def _diff_commits(
    project: Project,
    data: Callable[[], Snapshot],
    commits: tuple[str | None, str],
    name_before: str,
    target: str,
) -> TargetDiff:
    """Compare a target of two commits, None for nothing; `data` gives what reads its shards."""
    old, new = commits
    before = project.manifest_at(old, name_before) if old else None
    after = project.manifest_at(new, target)
    refs = unshared_shards(before, after)
    shards: dict[Digest, Entries] = {}
    if refs:
        with snapshot_shards.lists_needed():
            shards = data().shard_entries(refs)
    sides = differing(before, after, lambda ref: shards[ref.digest])
    return TargetDiff(target, before, after, differences(*sides))


def _diff_workspace(
    project: Project, commit: str | None, name_before: str, target: str
) -> TargetDiff:
    """Compare a target of a commit, None for nothing, with the workspace."""
    before = project.manifest_at(commit, name_before) if commit else None
    text = project.manifest_text(target)
    if text is None:
        old = project.entries(before) if before else {}
        return TargetDiff(target, before, None, differences(old, {}))
    manifest = decode(text, target + SUFFIX)
    if manifest.shards:
        old, now = _differing_workspace(project, target, before, manifest)
    else:
        old = project.entries(before) if before else {}
        now = workspace_entries(project, target, manifest)
    return TargetDiff(target, before, manifest, differences(old, now))


def _differing_workspace(
    project: Project, target: str, before: Manifest | None, manifest: Manifest
) -> tuple[Entries, Entries]:
    """Return the entries of a commit and of the workspace that may differ.

    Neither shards that the commit and the worktree's manifest share, nor folders that are known
    to be as that manifest says, are looked into.
    """
    known = agree(project, target, manifest)
    wanted = known.wanted
    scan = known.scan_rest(project, content_of(wanted))
    project.shards.need(unshared_shards(before, manifest))
    old, listed = differing(before, manifest, project.shards.load)
    now = {path: entry for path, entry in listed.items() if folder_of(path) in known.same}
    now |= _scanned_entries(project, scan, wanted, manifest)
    for path in known.empty & (now.keys() - wanted.keys()):
        if path not in listed:  # an empty folder that both sides have
            del now[path]
    for path in (known.empty & scan.folders).difference(scan.empty_folders):
        now.pop(path, None)  # the folder is not empty any more
        if path not in listed:
            old[path] = Entry(dir=True)
    # The shards that the two manifests share count for the commit's side as well.
    old = {path: entry for path, entry in wanted.items() if path not in listed} | old
    return old, now


def workspace_entries(project: Project, target: str, manifest: Manifest) -> Entries:
    """Return a target's entries as the workspace has them; what is absent is as in the manifest."""
    wanted = project.entries(manifest)
    scan = scan_target(project, target, content_at=content_of(wanted))
    return _scanned_entries(project, scan, wanted, manifest)


def _scanned_entries(project: Project, scan: Scan, wanted: Entries, manifest: Manifest) -> Entries:
    find_left_out(project, scan, wanted)
    scan.leave_unfilled(wanted)
    hash_files(project, scan, scan.files)
    now: Entries = {path: file_entry(scan, path) for path in scan.files}
    now.update({path: Entry(symlink=link) for path, link in scan.links.items()})
    if manifest.kind == "dir":
        now.update({path: Entry(dir=True) for path in scan.empty_folders})
    for path, entry in wanted.items():
        if path not in now and path not in scan.folders and not scan.vanished(path):
            now[path] = entry
    return now


def _targets_at(project: Project, commits: Sequence[str | None]) -> list[str]:
    """Return the targets of any of the commits (None: the worktree), sorted."""
    targets: set[str] = set()
    for commit in commits:
        if commit is None:
            targets.update(project.targets())
        else:
            targets.update(path.removesuffix(SUFFIX) for path in project.git.manifests_at(commit))
    if None in commits and project.git.worktree is not None:
        targets.difference_update(
            path.removesuffix(SUFFIX) for path in project.git.sparse_manifests()
        )
    return sorted(targets)
