"""diff, log, ls, describe: what commits and the workspace hold, compared and listed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dvtool.errors import MissingError
from dvtool.format.compare import Difference, differences, differing, unshared_shards
from dvtool.format.manifest import Entries, Entry, Manifest, decode, manifest_digest
from dvtool.format.paths import SUFFIX, folder_of
from dvtool.format.selection import Selection
from dvtool.git import Commit
from dvtool.project.parts import Project
from dvtool.workspace.agreement import agree
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, content_of, file_entry, find_left_out, scan_target


@dataclass(slots=True)
class TargetDiff:
    """What changed in one target. A side without the target has no manifest."""

    target: str
    old: Manifest | None
    new: Manifest | None
    differences: list[Difference] = field(default_factory=list)


def diff_commits(
    project: Project, old: str | None, new: str | None, selections: Sequence[Selection]
) -> list[TargetDiff]:
    """Compare two commits; None stands for the workspace, or for nothing before the first commit.

    The workspace is the manifests in the worktree with the local changes to the files on top.
    """
    found = []
    for selection in selections:
        before = project.manifest_at(old, selection.target) if old else None
        if new is None:
            result = _diff_workspace(project, selection, before)
        else:
            after = project.manifest_at(new, selection.target)
            project.store.need_shards(unshared_shards(before, after))
            sides = differing(before, after, project.store.load_shard)
            result = TargetDiff(selection.target, before, after, differences(*sides))
        result.differences = [
            change
            for change in result.differences
            if selection.matches(change.path)
            or (change.source is not None and selection.matches(change.source))
        ]
        found.append(result)
    return found


def _diff_workspace(project: Project, selection: Selection, before: Manifest | None) -> TargetDiff:
    text = project.manifest_text(selection.target)
    if text is None:
        old = project.entries(before) if before else {}
        return TargetDiff(selection.target, before, None, differences(old, {}))
    manifest = decode(text, selection.target + SUFFIX)
    if manifest.shards:
        old, now = _differing_workspace(project, selection.target, before, manifest)
    else:
        old = project.entries(before) if before else {}
        now = workspace_entries(project, selection.target, manifest)
    return TargetDiff(selection.target, before, manifest, differences(old, now))


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
    project.store.need_shards(unshared_shards(before, manifest))
    old, listed = differing(before, manifest, project.store.load_shard)
    now = {path: entry for path, entry in listed.items() if folder_of(path) in known.same}
    now |= _scanned_entries(project, scan, wanted, manifest)
    for path in known.empty & (now.keys() - wanted.keys()):
        if path not in listed:  # an empty folder that both sides have
            del now[path]
    for path in (known.empty & scan.folders).difference(scan.empty_folders):
        now.pop(path, None)  # something lies in it
        if path not in listed:
            old[path] = Entry(dir=True)
    # What the two manifests share stands for the commit's side as well.
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


def targets_at(project: Project, commits: Sequence[str | None]) -> list[str]:
    """Return the targets of any of the commits (None: the worktree), sorted."""
    found: set[str] = set()
    for commit in commits:
        if commit is None:
            found.update(project.targets())
        else:
            found.update(path.removesuffix(SUFFIX) for path in project.git.manifests_at(commit))
    return sorted(found)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit that changed a target. The counts are None where a shard is not here to compare."""

    commit: Commit
    manifest: Manifest | None
    added: int | None = None
    modified: int | None = None
    removed: int | None = None
    renamed: int | None = None


def log(
    project: Project, target: str, *, rev: str = "HEAD", limit: int | None = None
) -> Iterator[LogEntry]:
    """Yield the commits that changed a target, newest first, with counts against the one before."""
    # One more than asked for: the last shown is compared with the one before it.
    commits = list(
        project.git.log(target + SUFFIX, rev=rev, limit=None if limit is None else limit + 1)
    )
    manifests = [_manifest_of(project, target, commit) for commit in commits]
    for number, (commit, manifest) in enumerate(zip(commits, manifests, strict=True)):
        if limit is not None and number == limit:
            return
        before = manifests[number + 1] if number + 1 < len(manifests) else None
        yield _log_entry(project, commit, before, manifest)


def _manifest_of(project: Project, target: str, commit: Commit) -> Manifest | None:
    if commit.blob is None:
        return None
    text = project.git.read_blob(commit.blob)
    return decode(text, f"{commit.short}:{target + SUFFIX}")


def _log_entry(
    project: Project, commit: Commit, old: Manifest | None, new: Manifest | None
) -> LogEntry:
    try:
        changes = differences(*differing(old, new, project.store.held_shard))
    except MissingError:
        return LogEntry(commit, new)
    counts = dict.fromkeys(("added", "modified", "removed", "renamed"), 0)
    for change in changes:
        counts[change.change] += 1
    return LogEntry(commit, new, **counts)


@dataclass(frozen=True, slots=True)
class TargetDescription:
    """A target as a commit or the worktree names it."""

    target: str
    digest: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Description:
    """What fixes code and data: a git commit and the hash of every manifest, and one id of all."""

    commit: str | None
    branch: str | None
    code_dirty: bool
    data_dirty: bool
    data_id: str
    targets: tuple[TargetDescription, ...]

    @property
    def dirty(self) -> bool:
        """Whether code or data differ from what is committed."""
        return self.code_dirty or self.data_dirty


def describe(
    project: Project, commit: str | None, *, data_dirty: bool, code_dirty: bool
) -> Description:
    """Describe a commit, or (None) the worktree with its manifests as they lie there."""
    if commit is None:
        manifests = {target: project.manifest(target) for target in project.targets()}
    else:
        manifests = project.manifests_at(commit)
    return Description(
        commit=commit or project.git.head(),
        branch=project.git.branch() if commit is None else None,
        code_dirty=code_dirty,
        data_dirty=data_dirty,
        data_id=project.describe_targets(manifests).hex(),
        targets=tuple(
            TargetDescription(
                target, manifest_digest(manifest).hex(), manifest.files, manifest.bytes
            )
            for target, manifest in sorted(manifests.items())
        ),
    )
