"""post-checkout, post-merge and the like: the workspace follows what git did to the manifests."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import BusyError, DvError, ManifestError, MissingError
from dvtool.format.manifest import Manifest, ShardRef, decode
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.system import atomic
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.verbs.checkout import follow
    from dvtool.verbs.checkout.write import CheckedOut
    from dvtool.verbs.fetch import download, request
    from dvtool.verbs.fetch.request import Fetched
else:
    follow = later("dvtool.verbs.checkout.follow")
    download = later("dvtool.verbs.fetch.download")
    request = later("dvtool.verbs.fetch.request")

_BLOB_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


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
    fetched: Fetched | None = None

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


def sync(
    project: Project, settings: Settings, olds: Sequence[str], *, rewritten: bool = False
) -> Synced:
    """Bring the workspace in step with the manifests that git put into the worktree.

    `olds` are commits, of which the files may still follow any; unknown ones are passed over, and
    without one all targets are new. After a rewrite, the commits that were checked out on the way
    count too. Local changes are left as they are.
    """
    if rewritten:
        olds = [*project.git.commits_in_between(), *olds]
    return _Sync(project, settings).run(olds)


class _Sync:
    """One bringing in step, as it goes on."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project = project
        self._settings = settings
        self._result = Synced()

    def run(self, olds: Sequence[str]) -> Synced:
        """Plan each target anew, fetch if that is wanted, and write."""
        with self._project.lock():
            steps = list(self._steps(self._project.git.commits_among(olds)))
            if self._project.config.flag("hooks.autofetch"):
                self._fetch_lists(steps)
            plans = [(step, plan) for step in steps if (plan := self._plan(step))]
            if self._project.config.flag("hooks.autofetch"):
                plans = self._fetch(plans)
            for _, plan in plans:
                self._follow(plan)
            _note_in_step(self._project, self._followed([plan for _, plan in plans]))
        return self._result

    def _followed(self, plans: Iterable[follow.FollowPlan]) -> dict[str, str]:
        """Return the manifests that were followed and that HEAD does not have."""
        git = self._project.git
        paths = {plan.checkout.target + SUFFIX for plan in plans}
        head = git.head()
        if head is None or not paths:
            return {}
        committed, staged = git.manifests_at(head), git.manifests_in_index()
        return {
            path: staged[path]
            for path in sorted(paths & staged.keys())
            if committed.get(path) != staged[path]
            and git.read_blob(staged[path]) == self._project.manifest_text(path[: -len(SUFFIX)])
        }

    def _steps(self, commits: Sequence[str]) -> Iterator[_Step]:
        """Yield the targets whose manifest differs between one of the commits and the worktree."""
        git = self._project.git
        before = [git.manifests_at(commit) for commit in commits]
        followed = _followed_before(self._project)
        paths = {path for blobs in before for path in blobs}
        paths |= {target + SUFFIX for target in self._project.targets()}
        for path in sorted(paths):
            target = path.removesuffix(SUFFIX)
            try:
                text = self._project.manifest_text(target)
                texts = [git.read_blob(blobs[path]) if path in blobs else None for blobs in before]
                texts += [git.read_blob(followed[path])] if path in followed else []
                if texts and all(one == text for one in texts):
                    continue
                wanted = decode(text, path) if text is not None else None
            except DvError as error:
                self._result.failed.append((target, str(error)))
                continue
            yield _Step(target, wanted, tuple(_readable(texts, path)))

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
        every = [step.wanted, *step.olds]
        refs = {ref.blake3: ref for one in every if one is not None for ref in one.shards}
        common = [
            {ref.blake3 for ref in one.shards} if one is not None else set[str]() for one in every
        ]
        shared = set.intersection(*common) if len(common) > 1 else set[str]()
        return [ref for name, ref in refs.items() if name not in shared]

    def _fetch_lists(self, steps: Iterable[_Step]) -> None:
        every = {ref.digest: ref for step in steps for ref in self._lists(step)}
        refs = [ref for digest, ref in every.items() if not self._has(digest)]
        if refs:
            try:
                download.fetch_shards(self._project, self._settings.open_remotes(), refs)
            except DvError as error:
                self._result.failed.append(("", str(error)))

    def _fetch(
        self, plans: Sequence[tuple[_Step, follow.FollowPlan]]
    ) -> list[tuple[_Step, follow.FollowPlan]]:
        """Get what the plans miss, except of targets that nobody asked for, and plan anew."""
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

    def _follow(self, plan: follow.FollowPlan) -> None:
        target = plan.checkout.target
        self._result.kept.extend(workspace_path(target, path) for path in plan.kept)
        self._result.missing_files += len(plan.missing)
        self._result.missing_bytes += sum(entry.bytes for entry in plan.missing.values())
        try:
            self._result.targets.append(follow.apply_follow(self._project, plan))
        except BusyError:
            raise
        except DvError as error:
            self._result.failed.append((target, str(error)))


def _readable(texts: Iterable[bytes | None], path: str) -> Iterator[Manifest]:
    for text in dict.fromkeys(texts):
        if text is not None:
            with contextlib.suppress(ManifestError):
                yield decode(text, path)


def _note_in_step(project: Project, followed: Mapping[str, str]) -> None:
    """Leave the time for the scripts, which compare manifests with it.

    `followed` are the paths and blobs of manifests that the workspace now follows though HEAD has
    others: after ``git checkout REV -- PATH``.
    """
    path = _in_step_path(project)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lines = [f"{blob} {name}\n" for name, blob in followed.items() if "\n" not in name]
    atomic.write_bytes(path, os.fsencode("".join(lines)), durable=False)


def _followed_before(project: Project) -> dict[str, str]:
    """Return what `_note_in_step` was given the last time."""
    try:
        with open(_in_step_path(project), "rb") as file:
            lines = os.fsdecode(file.read()).split("\n")
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines)
    return {path: blob for blob, _, path in pairs if path and _BLOB_ID.fullmatch(blob)}


def _in_step_path(project: Project) -> str:
    return os.path.join(project.git.git_dir, "dv", "in-step")
