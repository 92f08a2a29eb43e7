"""What a push takes: the manifests of commits and of the history behind them that is unproven."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dvtool.errors import ManifestError, MissingError, SetupError
from dvtool.manifest import SUFFIX, Manifest, decode, manifest_digest
from dvtool.ops import push as push_ops
from dvtool.project import Project
from dvtool.store.known import Known
from dvtool.store.proof import prove_roots
from dvtool.store.remote import RemoteStore

_OTHER_SIDES = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "refs/stash")


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did, and what it left out on purpose."""

    pushed: push_ops.Pushed
    uncommitted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def tips_of(project: Project, revs: Sequence[str], *, every: bool) -> list[str]:
    """Return the commits to push: those named, HEAD, or the tips of all refs."""
    git = project.git
    if every:
        return sorted(set(git.all_refs().values()))
    if revs:
        return [git.resolve(rev) for rev in revs]
    head = git.head()
    if head is None:
        raise SetupError(
            "there are no commits yet; a push uploads what commits need",
            hint="git commit the manifests first",
        )
    return [head]


def to_push(
    project: Project, tips: Sequence[str], past: Sequence[str]
) -> tuple[list[push_ops.Wanted], list[push_ops.Wanted], list[str]]:
    """Return the distinct manifests of the tips, those only behind them, and warnings."""
    git = project.git
    blobs: dict[tuple[str, str], bool] = {}
    for path, ids in git.manifest_blobs_in(tips, exclude=past).items():
        blobs.update({(path, blob): False for blob in ids})
    for tip in tips:
        blobs.update(dict.fromkeys(git.manifests_at(tip).items(), True))
    wanted: list[push_ops.Wanted] = []
    behind: list[push_ops.Wanted] = []
    warnings = []
    for (path, blob), at_tip in sorted(blobs.items()):
        try:
            manifest = decode(git.read_blob(blob), path)
        except ManifestError as error:
            if at_tip:
                raise
            warnings.append(f"passed over in an earlier commit: {error}")
            continue
        target = path.removesuffix(SUFFIX)
        one = push_ops.Wanted(target, manifest, partial(versions_behind, project, target))
        (wanted if at_tip else behind).append(one)
    return wanted, behind, warnings


def versions_behind(project: Project, target: str) -> Iterator[Manifest]:
    """Yield the versions of a manifest that commits behind HEAD have, newest first.

    Before those, the one of the commit that is being merged, picked or popped; last its past.
    """
    git = project.git
    tips = [rev for rev in _OTHER_SIDES if git.has_commit(rev)]
    heads = ["HEAD"] if git.head() else []
    for rev, limit in [(tip, 1) for tip in tips] + [(rev, None) for rev in (*heads, *tips)]:
        for commit in git.log(target + SUFFIX, rev=rev, limit=limit):
            with contextlib.suppress(ManifestError, MissingError):
                if commit.blob is not None:
                    yield decode(git.read_blob(commit.blob), target + SUFFIX)


def unproven(
    store: RemoteStore,
    known: Known | None,
    repo_id: str,
    behind: Sequence[push_ops.Wanted],
) -> list[push_ops.Wanted]:
    """Return the manifests that no root there names: roots are written after the proof."""
    if known is None or not behind:
        return list(behind)
    digests = [manifest_digest(one.manifest) for one in behind]
    rooted = prove_roots(store, known, repo_id, digests, {})
    return [one for one in behind if manifest_digest(one.manifest) not in rooted]


def push_all(
    project: Project,
    store: RemoteStore,
    repo_id: str,
    wanted: Sequence[push_ops.Wanted],
    behind: Sequence[push_ops.Wanted],
) -> tuple[push_ops.Pushed, list[str]]:
    """Push tips and history; where history has gaps that nobody here can fill, say so."""
    gap = ""
    if behind:
        try:
            every = [*wanted, *behind]
            return push_ops.push(project, store, repo_id, every), []
        except MissingError as error:
            gap = str(error)
    pushed = push_ops.push(project, store, repo_id, wanted)
    if not gap:
        return pushed, []
    return pushed, [f"the data of earlier commits is not all on {store.url}: {gap}"]


def uncommitted(project: Project) -> Iterator[str]:
    """Yield the targets whose manifest in the worktree is not HEAD's, so that no push takes it."""
    head = project.git.head()
    blobs = project.git.manifests_at(head) if head else {}
    for target in project.targets():
        blob = blobs.get(target + SUFFIX)
        text = project.manifest_text(target)
        if blob is None or project.git.read_blob(blob) != text:
            yield target
