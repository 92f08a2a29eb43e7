"""What a push takes: the manifests of commits and of the history behind them that is unproven."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dvtool.errors import ManifestError, MissingError, SetupError
from dvtool.format.manifest import decode, manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.project.history import versions_behind
from dvtool.project.parts import Project
from dvtool.remotes.estimate import Estimate
from dvtool.remotes.known import Known
from dvtool.remotes.proof import prove_roots
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.verbs.push import upload as push_ops

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did, and what it left out on purpose."""

    pushed: push_ops.Pushed
    uncommitted: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push would do: `would` holds its numbers, `estimate` what they take."""

    would: push_ops.Pushed
    estimate: Estimate
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


@dataclass(frozen=True, slots=True)
class Taken:
    """The manifests that a push takes: of the tips, of the history behind them, and warnings.

    `whole` is false if paths left some targets out. `doomed` are the keys of roots that a gc is
    about to take away.
    """

    wanted: list[push_ops.Wanted]
    behind: list[push_ops.Wanted]
    warnings: tuple[str, ...]
    whole: bool
    doomed: frozenset[str] = frozenset()


def take(
    project: Project,
    store: RemoteStore,
    tips: Sequence[str],
    *,
    every: bool = False,
    select: Callable[[Sequence[str]], Collection[str]] | None = None,
) -> Taken:
    """Return what a push of these commits takes, of the targets that `select` chooses.

    What the commits behind them need comes too, unless a push, from here or from another clone,
    proved that before; with `every` it comes all the same.
    """
    mark = store.mark()
    known = Known(project.store.db, mark.id) if mark else None
    buried = _buried(store) if known is not None else []
    # What was proven once is void where a gc is about to let it go.
    void = any(one.repo == repo_id_of(project) and one.lets_go for one in buried)
    doomed = frozenset(root for one in buried for root in one.roots)
    past = [] if every or void or known is None else known.commits()
    wanted, behind, warnings = to_push(project, tips, past)
    if void:
        warnings.append(
            f"a gc is about to let go, on {store.url}, what it found no commit for; to keep what "
            "commits in this clone need: dv push --all"
        )
    if select is not None:
        targets = select(sorted({one.target for one in wanted}))
        wanted = [one for one in wanted if one.target in targets]
        behind = [one for one in behind if one.target in targets]
    if not every:
        behind = _unproven(project, store, known, behind, doomed)
    return Taken(wanted, behind, tuple(warnings), whole=select is None, doomed=doomed)


def _buried(store: RemoteStore) -> list[Tombstone]:
    tombstones = Tombstones(store)
    return list(tombstones.standing(tombstones.look()).values())


def _unproven(
    project: Project,
    store: RemoteStore,
    known: Known | None,
    behind: Sequence[push_ops.Wanted],
    doomed: frozenset[str],
) -> list[push_ops.Wanted]:
    """Return the manifests that no root there names: roots are written after the proof."""
    if known is None or not behind:
        return list(behind)
    digests = [manifest_digest(one.manifest) for one in behind]
    rooted = prove_roots(store, known, repo_id_of(project), digests, doomed=doomed)
    return [one for one in behind if manifest_digest(one.manifest) not in rooted]


def push(project: Project, store: RemoteStore, tips: Sequence[str], taken: Taken) -> PushReport:
    """Push what was taken; where history has gaps that nobody here can fill, say so."""
    pushed, gaps = _with_history(
        lambda wanted: push_ops.push(
            project, store, repo_id_of(project), wanted, doomed=taken.doomed
        ),
        store.url,
        taken,
    )
    mark = store.mark()
    if mark is not None and taken.whole and not (gaps or project.git.is_shallow()):
        Known(project.store.db, mark.id).add_commits(tips)
    return PushReport(pushed, tuple(uncommitted(project)), (*taken.warnings, *gaps))


def plan(project: Project, store: RemoteStore, taken: Taken) -> PushPlan:
    """Say what `push` would do, as far as that can be known before; nothing is uploaded."""
    (pushed, estimate), gaps = _with_history(
        lambda wanted: push_ops.estimate(
            project, store, repo_id_of(project), wanted, doomed=taken.doomed
        ),
        store.url,
        taken,
    )
    return PushPlan(
        pushed,
        estimate,
        uncommitted=tuple(uncommitted(project)),
        warnings=(*taken.warnings, *gaps),
    )


def _with_history(
    work: Callable[[Sequence[push_ops.Wanted]], T], url: str, taken: Taken
) -> tuple[T, list[str]]:
    gap = ""
    if taken.behind:
        try:
            return work([*taken.wanted, *taken.behind]), []
        except MissingError as error:
            gap = str(error)
    done = work(taken.wanted)
    return done, [f"the data of earlier commits is not all on {url}: {gap}"] if gap else []


def repo_id_of(project: Project) -> str:
    """Return what the repository is called on its remotes."""
    return project.config.text("core.repoid") or ""


def uncommitted(project: Project) -> Iterator[str]:
    """Yield the targets whose manifest in the worktree is not HEAD's, so that no push takes it."""
    head = project.git.head()
    blobs = project.git.manifests_at(head) if head else {}
    for target in project.targets():
        blob = blobs.get(target + SUFFIX)
        text = project.manifest_text(target)
        if blob is None or project.git.read_blob(blob) != text:
            yield target
