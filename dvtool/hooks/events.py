"""What git's hooks do with a repository, and putting them in place: the part of the facade that
git drives.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import BusyError, DvError, ManifestError, MissingError
from dvtool.format.manifest import SUFFIX, Manifest, ShardRef, decode
from dvtool.format.selection import Selection
from dvtool.hooks import install as hook_ops
from dvtool.project.parts import Project, workspace_path
from dvtool.project.settings import Settings
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.hooks import drivers as driver_ops
    from dvtool.verbs import status as status_ops
    from dvtool.verbs.checkout import follow
    from dvtool.verbs.checkout.write import CheckedOut
    from dvtool.verbs.fetch import download as fetch_ops
else:
    follow = later("dvtool.verbs.checkout.follow")
    driver_ops = later("dvtool.hooks.drivers")
    fetch_ops = later("dvtool.verbs.fetch.download")
    status_ops = later("dvtool.verbs.status")


class Checked(msgspec.Struct, frozen=True):
    """What a pre-commit hook found; `changed` are targets to warn of, changed since `dv add`."""

    staged: hook_ops.CommitCheck
    changed: tuple[str, ...] = ()


class Synced(msgspec.Struct):
    """What was done to follow git, by paths from the top of the worktree."""

    targets: list[CheckedOut] = msgspec.field(default_factory=list)
    kept: list[str] = msgspec.field(default_factory=list)
    """Local changes where git changed the manifest too: left as they are."""
    missing_files: int = 0
    """Files that are not in the store, and so not in the workspace."""
    missing_bytes: int = 0
    unlisted_files: int = 0
    """Files in changed lists that are not here: some of them changed, which is not known yet."""
    failed: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Targets that were left as they are, and why; without a name, why nothing was fetched."""
    fetched: fetch_ops.Fetched | None = None

    @property
    def written(self) -> int:
        """How many files and other entries were written."""
        return sum(one.written for one in self.targets)

    @property
    def removed(self) -> int:
        """How many were removed."""
        return sum(one.removed for one in self.targets)


class _Step(msgspec.Struct, frozen=True):
    """A target whose manifest git changed."""

    target: str
    wanted: Manifest | None
    olds: tuple[Manifest, ...]


class Automation:
    """The git hooks and drivers of a repository, and the work of the hooks."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project = project
        self.settings = settings
        self._python = sys.executable or ""

    # --- in place and out -----------------------------------------------------------------

    def status(self) -> hook_ops.HookStatus:
        """Return which hooks are in place, and where."""
        return hook_ops.status(self.project, self._python)

    def drivers_installed(self) -> bool:
        """Whether git knows the merge and diff drivers for manifests."""
        return driver_ops.installed(self.project)

    def install(self, *, dry_run: bool = False) -> hook_ops.HookPlan:
        """Put hooks and drivers in place, keeping what is there; return what was to be done."""
        todo = hook_ops.plan_install(self.project, self._python)
        if not dry_run:
            driver_ops.install(self.project)  # first: it may find .gitattributes unusable
            hook_ops.apply(todo, self._python)
            hook_ops.mark(self.project, installed=True)
            self.settings.allow_hooks()
        return todo

    def uninstall(self, *, dry_run: bool = False) -> hook_ops.HookPlan:
        """Put back what was there before, and remember in this clone that hooks are not wanted."""
        todo = hook_ops.plan_uninstall(self.project, self._python)
        if not dry_run:
            driver_ops.uninstall(self.project)
            hook_ops.apply(todo, self._python)
            self.refuse()
        return todo

    def refuse(self) -> None:
        """Remember in this clone that hooks are not wanted."""
        hook_ops.mark(self.project, installed=False)
        if self.project.config.flag("hooks.install"):
            self.settings.set("hooks.install", "false", local=True)

    def ensure(self) -> bool:
        """Install unless that was done in this clone, or is not wanted; return whether it was."""
        if hook_ops.is_marked(self.project) or not self.project.config.flag("hooks.install"):
            return False
        self.install()
        return True

    # --- pre-commit -----------------------------------------------------------------------

    def check_commit(self) -> Checked:
        """Check what is staged; see `dvtool.hooks.install.check_commit`."""
        staged = hook_ops.check_commit(self.project)
        changed: list[str] = []
        if not staged.refused:
            there = set(self.project.targets())
            selections = [Selection(target) for target in staged.targets if target in there]
            with contextlib.suppress(DvError):  # a warning is not worth a failure
                found = status_ops.status(self.project, selections, {})
                changed = [one.target for one in found if one.changed]
        return Checked(staged, tuple(changed))

    # --- post-checkout, post-merge and the like -------------------------------------------

    def sync(self, olds: Sequence[str]) -> Synced:
        """Bring the workspace in step with the manifests that git put into the worktree.

        `olds` are commits, of which the files may still follow any; unknown ones are passed over,
        and without one all targets are new. Local changes are left as they are.
        """
        result = Synced()
        with self.project.lock():
            steps = list(self._steps(self.project.git.commits_among(olds), result))
            if self.project.config.flag("hooks.autofetch"):
                self._fetch_lists(steps, result)
            plans = [(step, plan) for step in steps if (plan := self._plan(step, result))]
            if self.project.config.flag("hooks.autofetch"):
                plans = self._fetch(plans, result)
            for _, plan in plans:
                self._follow(plan, result)
            hook_ops.note_in_step(self.project, self._followed([plan for _, plan in plans]))
        return result

    def _followed(self, plans: Iterable[follow.FollowPlan]) -> dict[str, str]:
        """Return the manifests that were followed and that HEAD does not have."""
        git = self.project.git
        paths = {plan.checkout.target + SUFFIX for plan in plans}
        head = git.head()
        if head is None or not paths:
            return {}
        committed, staged = git.manifests_at(head), git.manifests_in_index()
        return {
            path: staged[path]
            for path in sorted(paths & staged.keys())
            if committed.get(path) != staged[path]
            and git.read_blob(staged[path]) == self.project.manifest_text(path[: -len(SUFFIX)])
        }

    def _steps(self, commits: Sequence[str], result: Synced) -> Iterator[_Step]:
        """Yield the targets whose manifest differs between one of the commits and the worktree."""
        git = self.project.git
        before = [git.manifests_at(commit) for commit in commits]
        followed = hook_ops.followed(self.project)
        paths = {path for blobs in before for path in blobs}
        paths |= {target + SUFFIX for target in self.project.targets()}
        for path in sorted(paths):
            target = path.removesuffix(SUFFIX)
            try:
                text = self.project.manifest_text(target)
                texts = [git.read_blob(blobs[path]) if path in blobs else None for blobs in before]
                texts += [git.read_blob(followed[path])] if path in followed else []
                if texts and all(one == text for one in texts):
                    continue
                wanted = decode(text, path) if text is not None else None
            except DvError as error:
                result.failed.append((target, str(error)))
                continue
            yield _Step(target, wanted, tuple(_readable(texts, path)))

    def _plan(self, step: _Step, result: Synced) -> follow.FollowPlan | None:
        try:
            return follow.plan_follow(self.project, step.target, step.wanted, step.olds)
        except MissingError:
            lists = [ref for ref in self._lists(step) if not self._has(ref.digest)]
            result.unlisted_files += sum(ref.files for ref in lists)
        except DvError as error:
            result.failed.append((step.target, str(error)))
        return None

    def _has(self, digest: bytes) -> bool:
        return self.project.store.has_shard(digest)

    def _lists(self, step: _Step) -> list[ShardRef]:
        """Return the shards that planning a step reads."""
        every = [step.wanted, *step.olds]
        refs = {ref.blake3: ref for one in every if one is not None for ref in one.shards}
        common = [
            {ref.blake3 for ref in one.shards} if one is not None else set[str]() for one in every
        ]
        shared = set.intersection(*common) if len(common) > 1 else set[str]()
        return [ref for name, ref in refs.items() if name not in shared]

    def _fetch_lists(self, steps: Iterable[_Step], result: Synced) -> None:
        every = {ref.digest: ref for step in steps for ref in self._lists(step)}
        refs = [ref for digest, ref in every.items() if not self._has(digest)]
        if refs:
            try:
                fetch_ops.fetch_shards(self.project, self.settings.open_remotes(), refs)
            except DvError as error:
                result.failed.append(("", str(error)))

    def _fetch(
        self, plans: Sequence[tuple[_Step, follow.FollowPlan]], result: Synced
    ) -> list[tuple[_Step, follow.FollowPlan]]:
        """Get what the plans miss, except of targets that nobody asked for, and plan anew."""
        short: list[fetch_ops.Wanted] = []
        for step, plan in plans:
            needed = frozenset(
                entry.digest for path, entry in plan.missing.items() if path not in plan.absent
            )
            if needed and step.wanted is not None:
                short.append(fetch_ops.Wanted(step.wanted, Selection(step.target), needed))
        if not short:
            return list(plans)
        try:
            result.fetched = fetch_ops.fetch(self.project, self.settings.open_remotes(), short)
        except DvError as error:
            result.failed.append(("", str(error)))
            return list(plans)
        return [(step, new) for step, _ in plans if (new := self._plan(step, result))]

    def _follow(self, plan: follow.FollowPlan, result: Synced) -> None:
        target = plan.checkout.target
        result.kept.extend(workspace_path(target, path) for path in plan.kept)
        result.missing_files += len(plan.missing)
        result.missing_bytes += sum(entry.bytes for entry in plan.missing.values())
        try:
            result.targets.append(follow.apply_follow(self.project, plan))
        except BusyError:
            raise
        except DvError as error:
            result.failed.append((target, str(error)))


def _readable(texts: Iterable[bytes | None], path: str) -> Iterator[Manifest]:
    for text in dict.fromkeys(texts):
        if text is not None:
            with contextlib.suppress(ManifestError):
                yield decode(text, path)
