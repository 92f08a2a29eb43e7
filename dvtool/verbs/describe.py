"""describe: what fixes code and data, for an experiment's record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from dvtool.format.manifest import Manifest, manifest_digest
from dvtool.project.parts import Project


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
        return _description(project, commit, project.manifests_at(commit))
    data_dirty = not is_clean()
    code_dirty = git.head() is None or git.is_dirty(exclude_manifests=True)
    found = _description(project, git.head(), project.manifests_of(None))
    return replace(found, branch=git.branch(), code_dirty=code_dirty, data_dirty=data_dirty)


def _description(
    project: Project, commit: str | None, manifests: dict[str, Manifest]
) -> Description:
    return Description(
        commit=commit,
        branch=None,
        code_dirty=False,
        data_dirty=False,
        data_id=project.describe_targets(manifests).hex(),
        targets=tuple(
            TargetDescription(
                target, manifest_digest(manifest).hex(), manifest.files, manifest.bytes
            )
            for target, manifest in sorted(manifests.items())
        ),
    )
