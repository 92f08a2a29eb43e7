"""The requests of git, when it runs a hook or a driver of dvtool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dvtool.format.manifest import Manifest, ShardRef
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.format.manifest import Built, Entries
    from dvtool.format.merge import Conflict
    from dvtool.hooks import commit_check, events
    from dvtool.hooks.commit_check import CommitCheck
    from dvtool.hooks.events import Synced
    from dvtool.snapshots import shards as snapshot_shards
    from dvtool.verbs.push import commits
    from dvtool.verbs.push.commits import PushReport
    from dvtool.verbs.resolve import conflicts
else:
    commit_check = later("dvtool.hooks.commit_check")
    commits = later("dvtool.verbs.push.commits")
    conflicts = later("dvtool.verbs.resolve.conflicts")
    events = later("dvtool.hooks.events")
    snapshot_shards = later("dvtool.snapshots.shards")


class GitService:
    """Serves git in one repository: its hooks, and the drivers that merge and show manifests."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project = project
        self._settings = settings

    def sync(self, *, fresh: bool = False) -> Synced:
        """Bring the workspace in step with the manifests that git put into the worktree.

        `fresh` says that git has just made this worktree.
        """
        return events.sync(self._project, self._settings, fresh=fresh)

    def check_commit(self) -> CommitCheck:
        """Check what is staged for the next commit."""
        return commit_check.check_commit(self._project, self._settings.environ)

    def push_refs(self, new: Sequence[str], old: Sequence[str]) -> PushReport | None:
        """Push what the objects `new`, about to be pushed by git, need; None if that is nothing.

        `old` are the objects that they replace there. Git asks and no person does, so no remote is
        trusted by this.
        """
        return commits.push_refs(self._project, self._settings, new, old)

    def merge(
        self, base: Manifest | None, ours: Manifest, theirs: Manifest
    ) -> tuple[Built, list[Conflict]]:
        """Merge versions of a manifest by entry; the shards of the result are in the store."""
        built, left = conflicts.merged(self._project, base, ours, theirs)
        self._project.store.put_shards(built.shards)
        return built, left

    def record_conflicts(
        self,
        path: str,
        sides: Mapping[str, bytes],
        manifest: Manifest,
        left: Sequence[Conflict],
    ) -> None:
        """Record the conflicts that a merge of the manifest at `path` left in it.

        `sides` has the texts of ``base`` (or nothing), ``ours`` and ``theirs``.
        """
        conflicts.record_conflicts(self._project, path, sides, manifest, left)

    def entries_here(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard from this disk; MissingError if it is not here."""
        return snapshot_shards.shards_here(self._project, self._settings.environ).read_here(ref)
