"""pre-commit: whether what is staged may be committed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from dvtool.errors import DvError, ManifestError, MissingError, count_text
from dvtool.format.manifest import Entries, Manifest, decode
from dvtool.format.paths import SUFFIX, folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.git import Staged
from dvtool.hooks.drivers import overriding
from dvtool.project.ignoring import is_exposed
from dvtool.project.parts import Project
from dvtool.system import atomic
from dvtool.system.lazy import later
from dvtool.verbs.resolve.conflicts import open_conflicts
from dvtool.verbs.status import status

if TYPE_CHECKING:
    from dvtool.snapshots import shards as snapshot_shards
else:
    snapshot_shards = later("dvtool.snapshots.shards")

HeldEntries: TypeAlias = Callable[[Manifest], Entries]
"""Gives the entries of a manifest as far as they are on this disk."""
CLEAN = "clean"
"""The file, in the folder of a worktree, whose time is when all data was as its manifests say."""
LOOK_MAX_S = 2.0
"""No further target is looked at after so long."""
RACY_S = 2.0
"""Files that changed so shortly before count as newer: some file systems keep whole seconds."""


class CommitCheck(msgspec.Struct):
    """The findings of a pre-commit hook in the index. `targets` have a staged manifest."""

    targets: list[str] = msgspec.field(default_factory=list)
    missing: list[str] = msgspec.field(default_factory=list)
    """Files whose content is not in the store."""
    damaged: list[str] = msgspec.field(default_factory=list)
    """Manifests that cannot be read, with what is wrong with each."""
    large: list[tuple[str, int]] = msgspec.field(default_factory=list)
    """Files and sizes above hooks.maxfilesize."""
    conflicted: list[str] = msgspec.field(default_factory=list)
    """Targets with conflicts that a merge left and nobody settled, though they were staged."""
    size_max_bytes: int = 0
    """The value of hooks.maxfilesize, 0 for no limit."""
    inside: list[str] = msgspec.field(default_factory=list)
    """Staged files of git that are the data of a target."""
    attributes: list[str] = msgspec.field(default_factory=list)
    """By which attributes git changes staged manifests, a sentence each."""
    changed: list[str] = msgspec.field(default_factory=list)
    """Targets that have changed since `dv add`."""
    exposed: list[str] = msgspec.field(default_factory=list)
    """Targets to warn of: no line of .gitignore keeps their data out of git."""
    unlooked: list[str] = msgspec.field(default_factory=list)
    """Targets for which there was no time to see whether they changed."""
    refuse_changed: bool = False
    """The setting hooks.changeddata: whether a change stops the commit."""

    @property
    def refused(self) -> bool:
        """Whether the commit must not be made."""
        stopped = self.missing or self.damaged or self.large or self.conflicted or self.inside
        return bool(stopped or self.attributes or (self.refuse_changed and self.changed))


def check_commit(project: Project, environ: Mapping[str, str]) -> CommitCheck:
    """Check what is staged for the next commit, by git's index alone; no remote is asked.

    If that is good, all targets whose files have changed since `dv add` are named too.

    Files that a parent commit has already are not looked at: neither large files nor the content
    that its manifests name, which in a partial clone, or after a merge, need not be here.
    """
    result = CommitCheck(size_max_bytes=project.config.number("hooks.maxfilesize") or 0)
    result.conflicted = open_conflicts(project)
    staged = project.git.staged()
    parents = project.git.parents_of_next()
    manifests = [blob for blob in staged if blob.path.endswith(SUFFIX)]
    held = partial(_held_entries, project, environ)
    for blob in manifests:
        result.targets.append(blob.path.removesuffix(SUFFIX))
        try:
            _check_manifest(project, blob, held, parents, result)
        except ManifestError as error:
            result.damaged.append(str(error))
    if result.missing:
        result.missing = _named_by_no_parent(project, held, parents, manifests, result.missing)
    files = [blob for blob in staged if blob not in manifests]
    result.inside = _inside_targets(project, files)
    result.attributes = overriding(project, [blob.path for blob in manifests]) if manifests else []
    _find_large(project, files, parents, result)
    if not result.refused:
        _find_changed(project, result)
    return result


def _inside_targets(project: Project, files: Sequence[Staged]) -> list[str]:
    """Return the staged files that belong to a target: dv keeps them, and git must not."""
    if not files:
        return []
    targets = {path.removesuffix(SUFFIX) for path in project.git.manifests_in_index()}
    targets |= set(project.targets())
    return [
        file.path
        for file in files
        if not targets.isdisjoint({file.path, *folders_above([file.path])})
    ]


def _find_changed(project: Project, result: CommitCheck) -> None:
    """Name the targets whose files are not as their manifests say, as far as there is time.

    Where nothing changed the moment is noted: the script compares files with it, and need not
    start Python before something is newer.
    """
    wanted = project.config.text("hooks.changeddata") or ""
    result.refuse_changed = wanted == "refuse"
    started_s, until_s = time.time(), time.monotonic() + LOOK_MAX_S
    # The staged ones first: it is they that the commit is about.
    targets = sorted(project.targets(), key=lambda target: target not in result.targets)
    for target in targets if wanted != "ignore" else ():
        if time.monotonic() > until_s:
            result.unlooked.append(target)
            continue
        with contextlib.suppress(DvError):  # a warning is not worth a failure
            for state in status(project, [Selection(target)], {}):
                if state.added or state.modified or state.deleted or state.conflicting:
                    result.changed.append(target)
            if is_exposed(project, target):
                result.exposed.append(target)
    if not (result.changed or result.exposed or result.unlooked):
        _note_clean(project, started_s - RACY_S)


def _note_clean(project: Project, time_s: float) -> None:
    path = os.path.join(project.git.git_dir, "dv", CLEAN)
    with contextlib.suppress(OSError):
        atomic.make_folders(os.path.dirname(path))
        atomic.write_bytes(path, b"", durable=False)
        os.utime(path, (time_s, time_s))


def _check_manifest(
    project: Project,
    staged: Staged,
    held: HeldEntries,
    parents: Sequence[str],
    result: CommitCheck,
) -> None:
    target = staged.path.removesuffix(SUFFIX)
    manifest = decode(project.git.read_blob(staged.blob), staged.path)
    before = _parents_manifests(project, target, parents)
    entries = _own_entries(project, target, manifest, held, before)
    digests = {entry.digest for entry in entries.values() if entry.size > 0}
    lacking = project.store.lacking(digests)
    result.missing.extend(
        workspace_path(target, path)
        for path, entry in entries.items()
        if entry.size > 0 and entry.digest in lacking
    )


def _parents_manifests(project: Project, target: str, parents: Sequence[str]) -> list[Manifest]:
    manifests = []
    for parent in parents:
        with contextlib.suppress(ManifestError):  # nothing can be taken as known from it
            manifest = project.manifest_at(parent, target)
            if manifest is not None:
                manifests.append(manifest)
    return manifests


def _own_entries(
    project: Project,
    target: str,
    manifest: Manifest,
    held: HeldEntries,
    parents: Sequence[Manifest],
) -> Entries:
    """Return the entries that no parent has in the same place.

    ManifestError for a shard that is neither in the store nor in a parent.
    """
    shared = {ref.blake3 for parent in parents for ref in parent.shards}
    entries = dict(manifest.entries or {})
    for ref in manifest.shards:
        if ref.blake3 not in shared:
            try:
                entries.update(project.store.held_shard(ref))
            except MissingError as error:
                raise ManifestError(
                    f"{target + SUFFIX}: a shard of {count_text(ref.files, 'file')} is not in "
                    "the store"
                ) from error
    for parent in parents:
        known = held(parent)
        entries = {path: entry for path, entry in entries.items() if known.get(path) != entry}
    return entries


def _held_entries(project: Project, environ: Mapping[str, str], manifest: Manifest) -> Entries:
    """Return the entries of a manifest as far as they are on this disk."""
    entries = dict(manifest.entries or {})
    if manifest.shards:
        entries.update(snapshot_shards.shards_here(project, environ).read_held(manifest.shards))
    return entries


def _named_by_no_parent(
    project: Project,
    held: HeldEntries,
    parents: Sequence[str],
    manifests: Sequence[Staged],
    missing: Sequence[str],
) -> list[str]:
    """Return those of the missing files whose content is not a parent's under another name."""
    known: set[str] = set()
    for parent in parents:
        with contextlib.suppress(ManifestError):
            for manifest in project.manifests_at(parent).values():
                known.update(e.blake3 for e in held(manifest).values())
    content: dict[str, str] = {}
    for staged in manifests:
        target = staged.path.removesuffix(SUFFIX)
        with contextlib.suppress(ManifestError):
            entries = held(decode(project.git.read_blob(staged.blob), staged.path))
            content.update({workspace_path(target, p): e.blake3 for p, e in entries.items()})
    return [path for path in missing if content.get(path) not in known]


def _find_large(
    project: Project, files: Sequence[Staged], parents: Sequence[str], result: CommitCheck
) -> None:
    limit = result.size_max_bytes
    if not limit or not files:
        return
    sizes = project.git.object_sizes([file.blob for file in files])
    large = [file for file in files if sizes.get(file.blob, 0) > limit]
    for parent in parents[1:]:  # what is staged differs from the first parent anyway
        theirs = project.git.blobs_at(parent, [file.path for file in large])
        large = [file for file in large if theirs.get(file.path) != file.blob]
    result.large = [(file.path, sizes[file.blob]) for file in large]
