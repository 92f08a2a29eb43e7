"""status: the workspace against the manifests, and the manifests against HEAD."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, TypeAlias

import msgspec

from dvtool.errors import CorruptError, ManifestError, printable
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, Entry, Manifest, decode, manifest_digest
from dvtool.format.merge import Conflict
from dvtool.format.paths import SELF, SUFFIX
from dvtool.format.selection import Selection
from dvtool.project.ignoring import NOT_KEPT_OUT, is_exposed
from dvtool.project.parts import Project
from dvtool.store.rooted import rooted_at
from dvtool.system.lazy import later
from dvtool.workspace.agreement import agree, entries_by_folder, remember
from dvtool.workspace.scan import (
    Scan,
    content_of,
    entry_now,
    file_entry,
    find_left_out,
    is_known,
    scan_selected,
)

if TYPE_CHECKING:
    from dvtool.project import base as bases
    from dvtool.workspace import hashing
else:
    bases = later("dvtool.project.base")
    hashing = later("dvtool.workspace.hashing")

ManifestState: TypeAlias = Literal["committed", "modified", "new", "deleted", "conflicted"]


class Fault(NamedTuple):
    """Something in the workspace that cannot be versioned."""

    path: str
    """Where it is, as a path in the target."""
    problem: str
    """The problem, in words."""


class TargetStatus(msgspec.Struct):
    """One target. Paths are relative to it; '.' is a target that is one file."""

    json_keys: ClassVar = (
        *("target", "manifest", "blake3", "files", "bytes", "clean", "added", "modified"),
        *("deleted", "outdated", "conflicting", "absent", "absent_bytes", "left_out"),
        *("left_out_bytes", "unpushed", "unpushed_files", "unpushed_bytes", "faults"),
        *("conflicts", "source", "reference"),
    )

    target: str
    """The target, as a path from the top of the worktree."""
    manifest: ManifestState
    """The manifest in the worktree against HEAD's: committed, modified, new (not in HEAD), deleted
    (only there) or conflicted (left unmerged)."""
    blake3: str | None = None
    """The manifest hash, in hex; null where there is no manifest to read."""
    files: int = 0
    """How many entries the manifest has."""
    bytes: int = 0
    """Bytes of all its files together."""
    added: list[str] = msgspec.field(default_factory=list)
    """Paths that the workspace has and the manifest has not."""
    modified: list[str] = msgspec.field(default_factory=list)
    """Paths that are another in the workspace."""
    deleted: list[str] = msgspec.field(default_factory=list)
    """Paths that are gone from the workspace."""
    outdated: list[str] = msgspec.field(default_factory=list)
    """Paths that are as the manifest had them before it changed."""
    conflicting: list[str] = msgspec.field(default_factory=list)
    """Paths that were changed here and in the manifest, to different things."""
    absent: list[str] = msgspec.field(default_factory=list)
    """Paths that were never put into the workspace, which is no change."""
    absent_bytes: int = 0
    """Bytes of the files among them."""
    left_out: list[str] = msgspec.field(default_factory=list)
    """Paths that are not in the workspace since the rules of `dv sparse` leave them out."""
    left_out_bytes: int = 0
    """Bytes of the files among them."""
    unpushed: bool = False
    """Whether, by what this clone remembers, no push proved the target as HEAD has it on the
    default remote, and no branch of git's remotes has it; false without a remote."""
    unpushed_files: int = 0
    """How many entries it has in HEAD, if it is not pushed."""
    unpushed_bytes: int = 0
    """Bytes of its files there, if it is not pushed."""
    faults: list[Fault] = msgspec.field(default_factory=list)
    """The files in the workspace that cannot be versioned."""
    conflicts: list[Conflict] = msgspec.field(default_factory=list)
    """The conflicts that a merge left."""
    source: str | None = None
    """The address that the target was imported from; null if it was not imported."""
    reference: bool = False
    """Whether its bytes stay at that source, so that remotes hold no copy of them."""

    @property
    def edited(self) -> bool:
        """Whether the workspace was changed, or cannot be compared."""
        return bool(self.added or self.modified or self.deleted or self.conflicting or self.faults)

    @property
    def changed(self) -> bool:
        """Whether the workspace differs from the manifest."""
        return self.edited or bool(self.outdated)

    @property
    def clean(self) -> bool:
        """Whether workspace, manifest and HEAD agree (absent paths do not disagree)."""
        return not self.changed and self.manifest == "committed"


def status(
    project: Project,
    selections: Sequence[Selection],
    committed: Mapping[str, str],
    conflicts: Mapping[str, Sequence[Conflict]] | None = None,
) -> list[TargetStatus]:
    """Return the state of the selected targets; files whose stat is unchanged are not read.

    `committed` has path and blob id of HEAD's manifests, `conflicts` the targets whose manifests
    a merge left unmerged.
    """
    results = []
    for selection in selections:
        if conflicts is not None and selection.target in conflicts:
            results.append(_conflicted(project, selection, conflicts[selection.target]))
            continue
        text = project.manifest_text(selection.target)
        blob = committed.get(selection.target + SUFFIX)
        if text is None:
            results.append(TargetStatus(selection.target, "deleted"))
            continue
        state: ManifestState = "new"
        if blob is not None:
            state = "committed" if project.git.is_blob(blob, text) else "modified"
        results.append(_target_status(project, selection, state))
        if is_exposed(project, selection.target):
            results[-1].faults.append(Fault(SELF, NOT_KEPT_OUT))
    return results


def mark_unpushed(
    project: Project,
    results: Iterable[TargetStatus],
    committed: Mapping[str, str],
    address: str | None,
) -> None:
    """Mark the targets that nobody is known to have pushed as HEAD has them.

    No remote is asked. A manifest on a branch of git's remotes was pushed by somebody: git
    does not push before the data is proven to be there, where its hooks are installed.
    """
    digests: dict[str, Digest] = {}
    totals: dict[str, tuple[int, int]] = {}
    for result in results:
        blob = committed.get(result.target + SUFFIX)
        if blob is None:
            continue
        with contextlib.suppress(CorruptError):
            if result.manifest == "committed" and result.blake3 is not None:
                digests[result.target] = bytes.fromhex(result.blake3)
                totals[result.target] = (result.files, result.bytes)
            else:
                text = project.git.read_blob(blob)
                manifest = decode(text, result.target + SUFFIX)
                digests[result.target] = manifest_digest(manifest)
                totals[result.target] = (manifest.files, manifest.bytes)
    if address is not None:
        rooted = rooted_at(project.store.database_path, address, digests.values())
        digests = {target: digest for target, digest in digests.items() if digest not in rooted}
    if not digests:
        return
    own = project.git.manifests_not_on_remotes()
    for result in results:
        if result.target in digests:
            path = result.target + SUFFIX
            result.unpushed = committed[path] in own.get(path, ())
            if result.unpushed:
                result.unpushed_files, result.unpushed_bytes = totals[result.target]


def _conflicted(
    project: Project, selection: Selection, conflicts: Sequence[Conflict]
) -> TargetStatus:
    """Return what can be told of an unmerged target, whose manifest may be none at the moment."""
    result = TargetStatus(selection.target, "conflicted")
    if project.manifest_text(selection.target) is not None:
        with contextlib.suppress(ManifestError):
            result = _target_status(project, selection, "conflicted")
    result.conflicts = [conflict for conflict in conflicts if selection.matches(conflict.path)]
    return result


def _target_status(project: Project, selection: Selection, state: ManifestState) -> TargetStatus:
    manifest = project.manifest(selection.target)
    result = TargetStatus(
        selection.target,
        state,
        blake3=manifest_digest(manifest).hex(),
        files=manifest.files,
        bytes=manifest.bytes,
    )
    if manifest.source is not None:
        result.source, result.reference = manifest.source.url, manifest.source.reference
    if selection.whole and manifest.shards:
        _compare_large(project, manifest, result)
        return result
    wanted = project.entries(manifest, selection)
    scan = scan_selected(project, selection, content_at=content_of(wanted))
    _note_link(scan, manifest)
    find_left_out(project, scan, wanted)
    scan.leave_unfilled(wanted)
    compare(project, scan, wanted, result)
    _set_left_out_apart(project, result, wanted)
    result.faults = [Fault(*fault) for fault in scan.faults if selection.matches(fault[0])]
    result.added = sorted(
        path
        for path in (*scan.files, *scan.links, *_new_folders(scan, manifest))
        if path not in wanted and selection.matches(path)
    )
    judge(project, manifest, scan, result)
    return result


def _note_link(scan: Scan, manifest: Manifest) -> None:
    """Note that a folder of data is a link, which nobody had followed: all behind it is unseen."""
    if manifest.kind == "dir" and scan.links.pop(SELF, None) is not None:
        fault = "is a symlink; to have it followed: dv add --dereference"
        scan.faults.append((SELF, f"{fault} {printable(scan.target)}"))


def _compare_large(project: Project, manifest: Manifest, result: TargetStatus) -> None:
    """Compare the whole of a target with its manifest of shards, a shard at a time."""
    known = agree(project, result.target, manifest)
    scan = known.scan_rest(project, known.content_at)
    _note_link(scan, manifest)
    find_left_out(project, scan, (path for some in known.parts() for path in some))
    scan.leave_unfilled(path for some in known.parts() for path in some)
    if len(scan.digests) < len(scan.files):
        sized = [path for some in known.parts() for path in _as_large(scan, some)]
        hashing.hash_files(project, scan, sized, tolerant=True)
    extra = {*scan.files, *scan.links, *scan.empty_folders}
    empty = set(scan.empty_folders)
    counts: dict[str, Counter[bytes]] = {}
    doubtful: list[str] = []
    for some in known.parts():
        _compare(scan, some, result)
        _set_left_out_apart(project, result, some)
        extra.difference_update(some)
        for folder, more in entries_by_folder(some, manifest).items():
            counts.setdefault(folder, Counter()).update(more)
        doubtful.extend(path for path, entry in some.items() if entry.dir and path not in empty)
    result.faults = [Fault(*fault) for fault in scan.faults]
    result.added = sorted(extra - known.empty)
    doubtful += (*extra, *result.modified, *result.deleted, *result.absent, *result.left_out)
    doubtful += (path for path, _ in scan.faults)
    remember(project, scan, counts, doubtful)
    judge(project, manifest, scan, result)


def _set_left_out_apart(project: Project, result: TargetStatus, wanted: Entries) -> None:
    """Move what standing rules leave out from what is absent to what is left out."""
    rules = project.sparse_rules() if result.absent else None
    if rules is None or not rules.lines:
        return
    out = [path for path in result.absent if not rules.takes(result.target, path)]
    if out:
        result.left_out += out
        out_bytes = sum(wanted[path].bytes for path in out if path in wanted)
        result.left_out_bytes += out_bytes
        result.absent_bytes -= out_bytes
        gone = set(out)
        result.absent = [path for path in result.absent if path not in gone]


def judge(project: Project, manifest: Manifest, scan: Scan, result: TargetStatus) -> None:
    """Tell what the manifest changed from what was changed here.

    Only files are read that the manifest changed, or, without a record of the base, that differ.
    """
    differing = [*result.added, *result.modified, *result.deleted]
    if not differing:
        return
    drift = bases.drift_of(project, result.target, manifest)
    if drift.none:
        return
    if drift.recorded:
        moved = drift.paths
        differing = [path for path in differing if path in moved]
    hashing.hash_files(project, scan, differing, tolerant=True)
    files = {path: entry_now(scan, path) for path in differing if is_known(scan, path)}
    standing_of = bases.standings(project, drift, files)
    for name, paths in (("outdated", result.outdated), ("conflicting", result.conflicting)):
        paths.extend(sorted(path for path, standing in standing_of.items() if standing == name))
    moved = {*result.outdated, *result.conflicting}
    for paths in (result.added, result.modified, result.deleted):
        paths[:] = [path for path in paths if path not in moved]


def _new_folders(scan: Scan, manifest: Manifest) -> list[str]:
    return scan.empty_folders if manifest.kind == "dir" else []


def compare(project: Project, scan: Scan, wanted: Entries, result: TargetStatus) -> None:
    """Sort each entry into modified, deleted or absent, or none of these if it is as it should."""
    hashing.hash_files(project, scan, _as_large(scan, wanted), tolerant=True)
    _compare(scan, wanted, result)


def _as_large(scan: Scan, wanted: Entries) -> list[str]:
    """Return the files that have the size of their entry: others need not be read."""
    return [
        path
        for path, entry in wanted.items()
        if (status := scan.files.get(path)) is not None and status.st_size == entry.size
    ]


def _compare(scan: Scan, wanted: Entries, result: TargetStatus) -> None:
    for path, entry in wanted.items():
        if path in scan.files:
            if not _as_entry(scan, path, entry):
                result.modified.append(path)
        elif path in scan.links:
            if scan.links[path] != entry.symlink:
                result.modified.append(path)
        elif path in scan.folders:
            if not entry.dir:
                result.modified.append(path)
        elif scan.hidden(path):
            continue
        elif scan.vanished(path):
            result.deleted.append(path)
        else:
            result.absent.append(path)
            result.absent_bytes += entry.bytes


def _as_entry(scan: Scan, path: str, entry: Entry) -> bool:
    # Another size is another content: such a file was not read.
    return path in scan.digests and file_entry(scan, path) == entry
