"""The manifests that a push takes: of commits, and of the unproven history behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from dvtool.errors import MissingError, SetupError
from dvtool.format.manifest import manifest_digest
from dvtool.format.paths import SUFFIX
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.estimate import Estimate
from dvtool.remotes.known import Known
from dvtool.remotes.proof import prove_roots
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.verbs.push.loss import lost_text, make_good
from dvtool.verbs.push.manifests import manifests_to_push
from dvtool.verbs.push.plan import ManifestToPush, Pushed
from dvtool.verbs.push.upload import estimate_upload, upload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A user's request to push: HEAD without `revs`, all refs with `every`.

    `select` chooses among the targets of these commits; None takes all. With `anew` the remote at
    the address may be another one than before.
    """

    remote: str | None = None
    revs: Sequence[str] = ()
    every: bool = False
    select: Callable[[Sequence[str]], list[Selection]] | None = None
    anew: bool = False


@dataclass(frozen=True, slots=True)
class PushReport:
    """The result of a push, and what it left out on purpose."""

    pushed: Pushed
    uncommitted: tuple[str, ...] = ()
    """Targets whose manifests are not in HEAD; they were not pushed."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for people."""
        return self.pushed.warnings


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The plan of a push: `would` holds its numbers, `estimate` their cost."""

    would: Pushed
    estimate: Estimate
    uncommitted: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for people."""
        return self.would.warnings


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


def commits_with_data(project: Project, new: Sequence[str], old: Sequence[str]) -> list[str]:
    """Return the commits among `new`, objects that git is about to push; none if they need nothing.

    `old` are the objects that they replace there. An object that is no commit, or not here, needs
    nothing.
    """
    git = project.git
    tips, before = git.commits_among(new), git.commits_among(old)
    if any(git.manifests_at(tip) for tip in tips) or git.manifest_blobs_in(tips, exclude=before):
        return tips
    return []


@dataclass(frozen=True, slots=True)
class Taken:
    """The manifests that a push takes: of the tips, of the history behind them, and warnings.

    `whole` is false if paths left some targets out. `doomed` are the keys of roots that a gc is
    about to take away.
    """

    at_tips: list[ManifestToPush]
    behind: list[ManifestToPush]
    warnings: tuple[str, ...]
    whole: bool
    doomed: frozenset[str] = frozenset()


def take_manifests(
    project: Project,
    store: RemoteStore,
    tips: Sequence[str],
    *,
    every: bool = False,
    select: Callable[[Sequence[str]], list[Selection]] | None = None,
) -> Taken:
    """Return what a push of these commits takes, of the targets that `select` chooses.

    The history behind them is taken too, unless a push, from here or from another clone, proved it
    before; with `every` it is taken in any case.
    """
    mark = store.mark()
    known = Known(project.store.db, mark.id) if mark else None
    buried = _buried(store) if known is not None else []
    # Earlier proof is void where a gc is about to remove the roots.
    void = any(tombstone.repo == repo_id_of(project) and tombstone.lets_go for tombstone in buried)
    doomed = frozenset(root for tombstone in buried for root in tombstone.roots)
    past = [] if every or void or known is None else known.commits()
    at_tips, behind, warnings = manifests_to_push(project, tips, past)
    if void:
        warnings.append(
            f"a gc is about to let go, on {store.url}, what it found no commit for; to keep what "
            "commits in this clone need: dv push --all"
        )
    if select is not None:
        selections = select(sorted({manifest.target for manifest in at_tips}))
        targets = {selection.target for selection in selections}
        at_tips = [manifest for manifest in at_tips if manifest.target in targets]
        behind = [manifest for manifest in behind if manifest.target in targets]
    if not every:
        behind = _unproven(project, store, known, behind, doomed)
    return Taken(at_tips, behind, tuple(warnings), whole=select is None, doomed=doomed)


def _buried(store: RemoteStore) -> list[Tombstone]:
    tombstones = Tombstones(store)
    return list(tombstones.standing(tombstones.look()).values())


def _unproven(
    project: Project,
    store: RemoteStore,
    known: Known | None,
    behind: Sequence[ManifestToPush],
    doomed: frozenset[str],
) -> list[ManifestToPush]:
    """Return the manifests that no root there names: roots are written after the proof."""
    if known is None or not behind:
        return list(behind)
    digests = [manifest_digest(manifest.manifest) for manifest in behind]
    rooted = prove_roots(store, known, repo_id_of(project), digests, doomed=doomed)
    return [manifest for manifest in behind if manifest_digest(manifest.manifest) not in rooted]


def push(project: Project, settings: Settings, request: PushRequest) -> PushReport:
    """Upload what commits need, and prove that it is there.

    Where history has gaps that nobody here can fill, the report says so.
    """
    project, store, tips, taken = _open_push(project, settings, request)
    ours = [manifest_digest(manifest.manifest) for manifest in (*taken.at_tips, *taken.behind)]
    project.store.db.add_seen(project.clone_name, ours)
    pushed, gaps = _with_history(
        lambda manifests: upload(
            project, store, repo_id_of(project), manifests, doomed=taken.doomed
        ),
        store.url,
        taken,
    )
    if pushed.gone or pushed.lost:
        gaps = [*gaps, *make_good(project, store, repo_id_of(project), tips, pushed)]
    mark = store.mark()
    if mark is not None and taken.whole and not (gaps or project.git.is_shallow()):
        Known(project.store.db, mark.id).add_commits(tips)
    pushed.warnings = (*taken.warnings, *gaps)
    return PushReport(pushed, tuple(uncommitted(project)))


def push_refs(
    project: Project, settings: Settings, new: Sequence[str], old: Sequence[str]
) -> PushReport | None:
    """Push what the objects `new`, about to be pushed by git, need; None if that is nothing.

    `old` are the objects that they replace there. An object that is no commit, or not here, needs
    nothing.
    """
    tips = commits_with_data(project, new, old)
    return push(project, settings, PushRequest(revs=tips)) if tips else None


def plan_push(
    project: Project, settings: Settings, request: PushRequest, *, tips_only: bool = False
) -> PushPlan:
    """Say what `push` would do, as far as that can be known before; nothing is uploaded.

    With `tips_only` not for the commits behind those that are named, of which a warning tells.
    """
    project, store, _, taken = _open_push(project, settings, request)
    if tips_only and taken.behind:
        left_out = f"earlier commits have data that may not be on {store.url}: dv push"
        taken = replace(taken, behind=[], warnings=(*taken.warnings, left_out))
    (pushed, estimate), gaps = _with_history(
        lambda manifests: estimate_upload(
            project, store, repo_id_of(project), manifests, doomed=taken.doomed
        ),
        store.url,
        taken,
    )
    if pushed.lost:
        gaps = [*gaps, lost_text(store.url, pushed)]
    pushed.warnings = (*taken.warnings, *gaps)
    return PushPlan(pushed, estimate, uncommitted=tuple(uncommitted(project)))


def _open_push(
    project: Project, settings: Settings, request: PushRequest
) -> tuple[Project, RemoteStore, list[str], Taken]:
    """Open the remote; missing shards come from it only if there is no default remote."""
    source = None if project.config.default_remote() else request.remote
    project = project.with_shards_from(source)
    settings.require_init()
    tips = tips_of(project, request.revs, every=request.every)
    store = settings.open_remote(request.remote, anew=request.anew)
    taken = take_manifests(project, store, tips, every=request.every, select=request.select)
    return project, store, tips, taken


def _with_history(
    work: Callable[[Sequence[ManifestToPush]], T], url: str, taken: Taken
) -> tuple[T, list[str]]:
    gap = ""
    if taken.behind:
        try:
            return work([*taken.at_tips, *taken.behind]), []
        except MissingError as error:
            gap = str(error)
    done = work(taken.at_tips)
    return done, [f"the data of earlier commits is not all on {url}: {gap}"] if gap else []


def repo_id_of(project: Project) -> str:
    """Return the name of the repository on its remotes."""
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
