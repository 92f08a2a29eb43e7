"""describe: what fixes code and data, for an experiment's record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from dvtool.format.manifest import Manifest, manifest_digest
from dvtool.project.parts import Project
from dvtool.snapshots.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class TargetDescription:
    """A target as a commit or the worktree names it."""

    target: str
    """The target, as a path from the top of the worktree."""
    blake3: str
    """The manifest hash, in hex."""
    files: int
    """How many entries it has."""
    bytes: int
    """Bytes of all its files together."""
    source: str | None = None
    """The address that it was imported from; null if it was not imported."""
    reference: bool = False
    """Whether its bytes stay at that source, so that remotes hold no copy of them."""


@dataclass(frozen=True, slots=True)
class Description:
    """The ids of code and data: a git commit, the hash of every manifest, and one id of all."""

    json_keys: ClassVar = (
        *("commit", "branch", "dirty", "code_dirty", "data_dirty"),
        *("data_id", "targets"),
    )

    commit: str | None
    """The commit, in hex; null before the first one."""
    branch: str | None
    """The branch that is checked out; null if none is, or for a revision."""
    code_dirty: bool
    """Whether files that git tracks differ from the commit."""
    data_dirty: bool
    """Whether data or manifests differ from the commit."""
    data_id: str
    """One hash over all targets, in hex."""
    targets: tuple[TargetDescription, ...]
    """The targets, sorted."""

    @property
    def dirty(self) -> bool:
        """Whether code or data differ from what is committed."""
        return self.code_dirty or self.data_dirty


def describe(project: Project, rev: str | None, *, is_clean: Callable[[], bool]) -> Description:
    """Describe a revision, or (None) the worktree with its manifests as they are there.

    `is_clean` tells whether manifests and data of the worktree are as HEAD has them. A bare
    repository has HEAD in place of a worktree.
    """
    git = project.git
    if rev is not None or git.worktree is None:
        commit = git.resolve(rev or "HEAD")
        manifests = project.manifests_at(commit)
        return _description(commit, manifests, project.describe_targets(manifests).hex())
    data_dirty = not is_clean()
    code_dirty = git.head() is None or git.is_dirty(exclude_manifests=True)
    manifests = project.manifests_of(None)
    description = _description(git.head(), manifests, project.describe_targets(manifests).hex())
    return replace(description, branch=git.branch(), code_dirty=code_dirty, data_dirty=data_dirty)


def describe_snapshot(snapshot: Snapshot) -> Description:
    """Describe the commit of a snapshot, which may be of another repository."""
    return _description(snapshot.commit, snapshot.manifests, snapshot.data_id)


def _description(
    commit: str | None, manifests: Mapping[str, Manifest], data_id: str
) -> Description:
    return Description(
        commit=commit,
        branch=None,
        code_dirty=False,
        data_dirty=False,
        data_id=data_id,
        targets=tuple(
            _target_description(target, manifest) for target, manifest in sorted(manifests.items())
        ),
    )


def _target_description(target: str, manifest: Manifest) -> TargetDescription:
    source = manifest.source
    return TargetDescription(
        target,
        manifest_digest(manifest).hex(),
        manifest.files,
        manifest.bytes,
        source.url if source is not None else None,
        source is not None and source.reference,
    )
