"""post-checkout, post-merge and the like: the workspace follows what git did to the manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import BusyError, DvError, MissingError
from dvtool.format.manifest import Manifest, ShardRef
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.base import based_targets, forget_base, is_settled, read_base
from dvtool.project.history import versions_behind
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.system.lazy import later
from dvtool.verbs.resolve.records import is_any_recorded

if TYPE_CHECKING:
    from dvtool.verbs.checkout import follow
    from dvtool.verbs.checkout.write import CheckedOut
    from dvtool.verbs.fetch import download, request
    from dvtool.verbs.fetch.request import Fetched
    from dvtool.verbs.resolve import conflicts
else:
    conflicts = later("dvtool.verbs.resolve.conflicts")
    follow = later("dvtool.verbs.checkout.follow")
    download = later("dvtool.verbs.fetch.download")
    request = later("dvtool.verbs.fetch.request")

VERSIONS_FOLLOWED_MAX = 20
"""How many earlier versions count where no record says which manifest the files follow."""


class Synced(msgspec.Struct):
    """The changes made to follow git, by paths from the top of the worktree."""

    targets: list[CheckedOut] = msgspec.field(default_factory=list)
    kept: list[str] = msgspec.field(default_factory=list)
    """Local changes where git changed the manifest too: left as they are."""
    missing_files: int = 0
    """Files that are not in the store, and so not in the workspace."""
    missing_bytes: int = 0
    unlisted_files: int = 0
    """Files in changed lists that are not here: some of them changed, which is not known yet."""
    failed: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Targets or files that were left as they are, and why; without a name, why nothing was
    fetched."""
    fetched: Fetched | None = None

    @property
    def written(self) -> int:
        """How many files and other entries were written."""
        return sum(target.written for target in self.targets)

    @property
    def removed(self) -> int:
        """How many were removed."""
        return sum(target.removed for target in self.targets)


class _Step(msgspec.Struct, frozen=True):
    """A target whose manifest is not the one that its files follow.

    `recorded` says that `olds` is its base; without a record these are earlier versions.
    """

    target: str
    wanted: Manifest | None
    olds: tuple[Manifest, ...]
    recorded: bool


def sync(project: Project, settings: Settings, *, fresh: bool = False) -> Synced:
    """Bring the workspace in step with the manifests that git put into the worktree.

    Each target goes from its recorded base to its manifest. With `fresh`, of a worktree that git
    has just made, targets without a record are new. Local changes are left as they are.
    """
    return _Sync(project, settings, fresh=fresh).run()


class _Sync:
    """One run of `sync`."""

    def __init__(self, project: Project, settings: Settings, *, fresh: bool) -> None:
        self._project = project
        self._settings = settings
        self._fresh = fresh
        self._result = Synced()

    def run(self) -> Synced:
        """Plan each target anew, fetch if that is wanted, and write."""
        with self._project.lock():
            steps = list(self._steps())
            if self._project.config.flag("hooks.autofetch"):
                self._fetch_lists(steps)
            plans = [(step, plan) for step in steps if (plan := self._plan(step))]
            if self._project.config.flag("hooks.autofetch"):
                plans = self._fetch(plans)
            for step, plan in plans:
                self._follow(step, plan)
        return self._result

    def _steps(self) -> Iterator[_Step]:
        """Yield the targets whose manifest is another than their base, or went with git."""
        project = self._project
        manifests, unmerged = project.git.manifests_and_conflicts()
        targets = [path.removesuffix(SUFFIX) for path in manifests]
        if unmerged or is_any_recorded(project):
            conflicts.note_unmerged_targets(project)
        for target in targets:
            path = target + SUFFIX
            if path in unmerged or is_settled(project, target):
                continue
            try:
                yield self._step(target)
            except DvError as error:
                self._result.failed.append((target, str(error)))
        followed = based_targets(project.git.git_dir)
        gone = [target for target in followed if target not in targets]
        kept_by_git = project.git.manifests_in_worktree() if gone else set()
        for target in gone:
            path = target + SUFFIX
            if path in kept_by_git or path in unmerged:
                continue  # deleted by hand, as far as git knows
            base = read_base(project, target)
            if base is None:
                forget_base(project, target)
            else:
                yield _Step(target, None, (base,), True)

    def _step(self, target: str) -> _Step:
        project = self._project
        wanted = project.manifest(target)
        base = read_base(project, target)
        if base is not None:
            return _Step(target, wanted, (base,), True)
        if self._fresh:
            return _Step(target, wanted, (), False)
        olds = islice(versions_behind(project, target), VERSIONS_FOLLOWED_MAX)
        return _Step(target, wanted, tuple(olds), False)

    def _plan(self, step: _Step) -> follow.FollowPlan | None:
        try:
            return follow.plan_follow(self._project, step.target, step.wanted, step.olds)
        except MissingError:
            lists = [ref for ref in self._lists(step) if not self._has(ref.digest)]
            self._result.unlisted_files += sum(ref.files for ref in lists)
        except DvError as error:
            self._result.failed.append((step.target, str(error)))
        return None

    def _has(self, digest: bytes) -> bool:
        return self._project.store.has_shard(digest)

    def _lists(self, step: _Step) -> list[ShardRef]:
        """Return the shards that planning a step reads."""
        manifests = [step.wanted, *step.olds]
        refs = {
            ref.blake3: ref
            for manifest in manifests
            if manifest is not None
            for ref in manifest.shards
        }
        common = [
            {ref.blake3 for ref in manifest.shards} if manifest is not None else set[str]()
            for manifest in manifests
        ]
        shared = set.intersection(*common) if len(common) > 1 else set[str]()
        return [ref for name, ref in refs.items() if name not in shared]

    def _fetch_lists(self, steps: Iterable[_Step]) -> None:
        refs_by_digest = {ref.digest: ref for step in steps for ref in self._lists(step)}
        refs = [ref for digest, ref in refs_by_digest.items() if not self._has(digest)]
        if refs:
            try:
                download.fetch_shards(self._project, self._settings.open_remotes(), refs)
            except DvError as error:
                self._result.failed.append(("", str(error)))

    def _fetch(
        self, plans: Sequence[tuple[_Step, follow.FollowPlan]]
    ) -> list[tuple[_Step, follow.FollowPlan]]:
        """Fetch what the plans miss, except of targets that nobody asked for, and plan anew."""
        short: list[request.FetchRequest] = []
        for step, plan in plans:
            needed = frozenset(
                entry.digest for path, entry in plan.missing.items() if path not in plan.absent
            )
            if needed and step.wanted is not None:
                short.append(request.FetchRequest(step.wanted, Selection(step.target), needed))
        if not short:
            return list(plans)
        try:
            self._result.fetched = download.fetch(
                self._project, self._settings.open_remotes(), short
            )
        except DvError as error:
            self._result.failed.append(("", str(error)))
            return list(plans)
        return [(step, new) for step, _ in plans if (new := self._plan(step))]

    def _follow(self, step: _Step, plan: follow.FollowPlan) -> None:
        try:
            done = follow.apply_follow(self._project, plan)
        except BusyError:
            raise
        except (DvError, OSError):
            # A file that is busy or cannot be replaced keeps itself back, not its target.
            again = self._plan(step)
            if again is None:
                return
            plan, done = again, follow.apply_each(self._project, again)
        target = step.target
        self._result.targets.append(done)
        failed = {path for path, _ in plan.failed}
        kept = [path for path in plan.kept if path not in failed]
        self._result.kept.extend(workspace_path(target, path) for path in kept)
        self._result.missing_files += len(plan.missing)
        self._result.missing_bytes += sum(entry.bytes for entry in plan.missing.values())
        self._result.failed.extend((workspace_path(target, p), why) for p, why in plan.failed)
        follow.record_followed(self._project, plan, step.wanted, recorded=step.recorded)
