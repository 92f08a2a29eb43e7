"""pre-commit: whether what is staged may be committed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from dvtool.errors import DvError, ManifestError, MissingError
from dvtool.format.manifest import Entries, Manifest, decode
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.selection import Selection
from dvtool.git import Staged
from dvtool.project.parts import Project
from dvtool.verbs.resolve.conflicts import open_conflicts
from dvtool.verbs.status import status


class CommitCheck(msgspec.Struct):
    """What a pre-commit hook found in what is staged. `targets` have a staged manifest."""

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
    changed: list[str] = msgspec.field(default_factory=list)
    """Targets to warn of: they have changed since `dv add`."""

    @property
    def refused(self) -> bool:
        """Whether the commit must not be made."""
        return bool(self.missing or self.damaged or self.large or self.conflicted)


def check_commit(project: Project) -> CommitCheck:
    """Check what is staged for the next commit, by git's index alone.

    If that is good, the targets whose files have changed since are named too.

    What a parent has already is not looked at: neither its large files nor the content that its
    manifests name, which in a partial clone, or after a merge, need not be here.
    """
    result = CommitCheck(size_max_bytes=project.config.number("hooks.maxfilesize") or 0)
    result.conflicted = open_conflicts(project)
    staged = project.git.staged()
    parents = project.git.parents_of_next()
    manifests = [one for one in staged if one.path.endswith(SUFFIX)]
    for one in manifests:
        result.targets.append(one.path.removesuffix(SUFFIX))
        try:
            _check_manifest(project, one, parents, result)
        except ManifestError as error:
            result.damaged.append(str(error))
    if result.missing:
        result.missing = _named_by_no_parent(project, result.missing, parents, manifests)
    _find_large(project, [one for one in staged if one not in manifests], parents, result)
    if not result.refused:
        result.changed = _changed_since(project, result.targets)
    return result


def _changed_since(project: Project, targets: Sequence[str]) -> list[str]:
    """Return the targets whose files are not as their manifests say."""
    present = set(project.targets())
    selections = [Selection(target) for target in targets if target in present]
    try:
        return [one.target for one in status(project, selections, {}) if one.edited]
    except DvError:
        return []  # a warning is not worth a failure


def _check_manifest(
    project: Project, one: Staged, parents: Sequence[str], result: CommitCheck
) -> None:
    target = one.path.removesuffix(SUFFIX)
    manifest = decode(project.git.read_blob(one.blob), one.path)
    entries = _own_entries(project, target, manifest, _parents_manifests(project, target, parents))
    digests = {entry.digest for entry in entries.values() if entry.size > 0}
    lacking = project.store.lacking(digests)
    result.missing.extend(
        workspace_path(target, path)
        for path, entry in entries.items()
        if entry.size > 0 and entry.digest in lacking
    )


def _parents_manifests(project: Project, target: str, parents: Sequence[str]) -> list[Manifest]:
    found = []
    for parent in parents:
        with contextlib.suppress(ManifestError):  # nothing can be taken as known from it
            manifest = project.manifest_at(parent, target)
            if manifest is not None:
                found.append(manifest)
    return found


def _own_entries(
    project: Project, target: str, manifest: Manifest, parents: Sequence[Manifest]
) -> Entries:
    """Return the entries that no parent has in the same place.

    ManifestError for a list of files that is neither in the store nor in a parent.
    """
    shared = {ref.blake3 for parent in parents for ref in parent.shards}
    entries = dict(manifest.entries or {})
    for ref in manifest.shards:
        if ref.blake3 not in shared:
            try:
                entries.update(project.store.held_shard(ref))
            except MissingError as error:
                raise ManifestError(
                    f"{target + SUFFIX}: a list of {ref.files:,} of its files is not in the store"
                ) from error
    for parent in parents:
        known = _held_entries(project, parent)
        entries = {path: entry for path, entry in entries.items() if known.get(path) != entry}
    return entries


def _held_entries(project: Project, manifest: Manifest) -> Entries:
    """Return the entries of a manifest as far as they are here."""
    entries = dict(manifest.entries or {})
    for ref in manifest.shards:
        with contextlib.suppress(MissingError):
            entries.update(project.store.held_shard(ref))
    return entries


def _named_by_no_parent(
    project: Project, missing: Sequence[str], parents: Sequence[str], manifests: Sequence[Staged]
) -> list[str]:
    """Return those of the missing files whose content is not a parent's under another name."""
    known: set[str] = set()
    for parent in parents:
        with contextlib.suppress(ManifestError):
            for manifest in project.manifests_at(parent).values():
                known.update(e.blake3 for e in _held_entries(project, manifest).values())
    content: dict[str, str] = {}
    for one in manifests:
        target = one.path.removesuffix(SUFFIX)
        with contextlib.suppress(ManifestError):
            entries = _held_entries(project, decode(project.git.read_blob(one.blob), one.path))
            content.update({workspace_path(target, p): e.blake3 for p, e in entries.items()})
    return [path for path in missing if content.get(path) not in known]


def _find_large(
    project: Project, files: Sequence[Staged], parents: Sequence[str], result: CommitCheck
) -> None:
    limit = result.size_max_bytes
    if not limit or not files:
        return
    sizes = project.git.object_sizes([one.blob for one in files])
    large = [one for one in files if sizes.get(one.blob, 0) > limit]
    for parent in parents[1:]:  # what is staged differs from the first parent anyway
        theirs = project.git.blobs_at(parent, [one.path for one in large])
        large = [one for one in large if theirs.get(one.path) != one.blob]
    result.large = [(one.path, sizes[one.blob]) for one in large]
