"""gc of a remote: what no root names is buried under a tombstone, and removed after a grace period.

What is live follows from the roots of all repositories on the remote, never from this clone. The
rules that make it safe beside pushes, and beside another gc, are in `dvtool.remotes.tombstones`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dvtool.errors import BusyError, RemoteForbidden, UsageError
from dvtool.format.digest import Digest
from dvtool.remotes.remote import (
    FORMAT,
    RemoteStore,
    RootManifest,
    now_text,
    pack_key,
    root_key,
    shard_key,
)
from dvtool.remotes.repack import GcSide, Moved, move_out, require
from dvtool.remotes.survey import (
    LIVE_SHARE_MIN,
    PACKS,
    RootThere,
    Survey,
    is_root,
    list_roots,
    live_bytes,
    look_over,
    survey,
)
from dvtool.remotes.tombstones import SWEEP_USED_S, Claim, Look, Tombstone, Tombstones, age_s
from dvtool.remotes.transports.base import ObjectInfo, Sweeping
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress

GRACE_S = 14 * 24 * 3600
SMALL_PACK_BYTES = 8 << 20
SMALL_PACKS_MAX = 8
"""More small packs than this are merged, and more roots of one repository."""
ROOTS_MAX = 8
REMOVED_AT_ONCE = 200
TEMP_AGE_S = 2 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Expiry:
    """What may go from the roots of one repository: manifests that are not `needed` (hex)."""

    repo: str
    needed: frozenset[str]
    grace_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a gc is about to bury, and what it writes anew first."""

    dead: tuple[ObjectInfo, ...] = ()
    move: tuple[ObjectInfo, ...] = ()
    """Packs whose live part goes into new packs; they are then dead."""
    move_bytes: int = 0
    replace: tuple[RootThere, ...] = ()
    """Roots that one new root takes the place of."""
    keep: tuple[RootManifest, ...] = ()
    """The manifests that the new root names."""
    expired: tuple[RootManifest, ...] = ()

    @property
    def dead_bytes(self) -> int:
        """Bytes of what is dead now."""
        return sum(info.size for info in self.dead)

    @property
    def freed_bytes(self) -> int:
        """By how many bytes the remote will be smaller in the end, nearly."""
        return self.dead_bytes + sum(info.size for info in self.move) - self.move_bytes

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.dead or self.move or self.replace)


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one tombstone: keys removed, of so many bytes, and spared as needed again."""

    removed: int = 0
    bytes: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Grave:
    """A tombstone that stands, and when its keys may be removed, in seconds from now."""

    name: str
    tombstone: Tombstone
    due_in_s: float


@dataclass(slots=True)
class Collected:
    """What a gc of a remote did, or with `dry_run` would do."""

    remote: str
    plan: Plan = field(default_factory=Plan)
    swept: list[Swept] = field(default_factory=list)
    waiting: list[Grave] = field(default_factory=list)
    moved: Moved = field(default_factory=Moved)
    warnings: list[str] = field(default_factory=list)
    temp_bytes: int = 0
    """Bytes of unfinished files that were removed from a folder."""

    @property
    def removed_bytes(self) -> int:
        """Bytes that are gone now."""
        return sum(one.bytes for one in self.swept)


# --- planning -------------------------------------------------------------------------------


def plan(
    there: Survey,
    buried: Collection[Tombstone],
    *,
    repo: str | None = None,
    expiry: Expiry | None = None,
    now_s: float,
) -> Plan:
    """Say what is dead, what to move and which roots of `repo` to replace. Changes nothing.

    What stands in a tombstone already is passed over.
    """
    doomed = {key for one in buried for key in (*one.keys, *one.roots)}
    own = [one for one in there.roots.values() if one.repo == repo and one.key not in doomed]
    expired = list(_expired(own, expiry, now_s)) if expiry is not None else []
    gone = {one.manifest for one in expired}
    replaced = own if gone or len(own) > ROOTS_MAX else []
    keep = {
        one.manifest: one for root in replaced for one in root.root.manifests
        if one.manifest not in gone
    }  # fmt: skip
    stay = [one for one in there.roots.values() if one not in replaced]
    shards = {name for one in stay for name in one.shards}
    shards |= {name for one in keep.values() for name in one.shards}
    live = there.live(shards)
    dead = [info for key, info in there.objects.items() if key not in live and key not in doomed]
    move, move_bytes = _to_move(there, shards, doomed)
    return Plan(
        dead=tuple(dead),
        move=tuple(move),
        move_bytes=move_bytes,
        replace=tuple(replaced),
        keep=tuple(keep.values()),
        expired=tuple(expired),
    )


def _expired(own: Sequence[RootThere], expiry: Expiry, now_s: float) -> Iterator[RootManifest]:
    """Yield, once each, the manifests that are not needed and that no young root names."""
    young = {
        name
        for root in own
        if age_s(root.info, root.root.created, now_s) < expiry.grace_s
        for name in root.manifests
    }
    seen: set[str] = set()
    for root in own:
        for one in root.root.manifests:
            if one.manifest not in expiry.needed | young | seen:
                seen.add(one.manifest)
                yield one


def _to_move(
    there: Survey, shards: Collection[str], doomed: Collection[str]
) -> tuple[list[ObjectInfo], int]:
    """Return packs that are mostly dead, and small ones if they are many; and their live bytes."""
    live = live_bytes(there, shards)
    sparse: list[ObjectInfo] = []
    small: list[ObjectInfo] = []
    for key, size in live.items():
        if key in doomed or key in there.claimed or key not in there.objects:
            continue
        info = there.objects[key]
        if size < LIVE_SHARE_MIN * there.data_bytes.get(key, size):
            sparse.append(info)
        elif info.size < SMALL_PACK_BYTES:
            small.append(info)
    move = sparse + (small if len(small) > SMALL_PACKS_MAX else [])
    return move, sum(live[info.key] for info in move)


def pack_of(key: str) -> Digest:
    """Return the id of the pack that has this key."""
    return bytes.fromhex(key.rpartition("/")[2])


# --- marking --------------------------------------------------------------------------------


def refuse_without_delete(remote: RemoteStore) -> None:
    """Raise a RemoteForbidden, before anything is written, if nothing may be removed there."""
    try:
        remote.backend.delete(f"gc/claims/{secrets.token_hex(16)}.json")
    except RemoteForbidden as error:
        raise RemoteForbidden(
            f"these credentials may not remove objects from {remote.url}, which gc has to: {error}",
            hint="run it with a role that has s3:DeleteObject",
        ) from error


def bury(
    remote: RemoteStore,
    tombstones: Tombstones,
    there: Survey,
    todo: Plan,
    repo: str | None,
    here: GcSide,
) -> Moved:
    """Move content and replace roots as planned, then write a tombstone for what is dead."""
    moved = Moved()
    if todo.move:
        packs = {pack_of(info.key) for info in todo.move}
        moved = move_out(remote, tombstones, there, packs, here)
    if todo.replace:
        assert repo is not None
        if todo.keep:
            _put_root(remote, tombstones, there, repo, todo.keep)
    stay = [one for one in there.roots.values() if one not in todo.replace]
    shards = {name for one in stay for name in one.shards}
    shards |= {name for one in todo.keep for name in one.shards}
    live = there.live(shards)
    keys = [info.key for info in (*todo.dead, *todo.move) if info.key not in live]
    if keys or todo.replace:
        tombstones.put(
            Tombstone(
                FORMAT,
                now_text(),
                keys,
                [one.key for one in todo.replace],
                repo if todo.replace else None,
                [one.manifest for one in todo.expired],
            )
        )
    return moved


def _put_root(
    remote: RemoteStore,
    tombstones: Tombstones,
    there: Survey,
    repo: str,
    manifests: Sequence[RootManifest],
) -> None:
    """Write a root for manifests that other roots name, as a push does."""
    names = {name for one in manifests for name in one.shards}
    shards = {bytes.fromhex(name) for name in names}
    sizes = {pack: size for name in names for pack, size in there.shards[name].sizes.items()}
    expected = {pack_key(pack): size for pack, size in sizes.items()}
    with tombstones.claimed(shards=shards, packs=sizes.keys()):
        require(remote, {**expected, **dict.fromkeys(map(shard_key, shards))})
        name, info = remote.put_root(repo, list(manifests))
        require(remote, {root_key(repo, name): info.size})


# --- sweeping -------------------------------------------------------------------------------


def graves(tombstones: Tombstones, look: Look, grace_s: float) -> list[Grave]:
    """Return the tombstones that stand, oldest first."""
    found = [
        Grave(name, one, grace_s - age_s(look.tombstones[name], one.created, time.time()))
        for name, one in tombstones.standing(look).items()
    ]
    return sorted(found, key=lambda grave: grave.due_in_s)


@dataclass(frozen=True, slots=True)
class SweepRule:
    """How to sweep: `expiry` says which manifests the repository of a tombstone needs by now.

    `due` are all tombstones whose time has come.
    """

    grace_s: float
    expiry: Expiry | None
    due: tuple[Tombstone, ...]
    progress: Progress


def sweep(
    remote: RemoteStore, tombstones: Tombstones, grave: Grave, rule: SweepRule
) -> Swept | None:
    """Remove what a tombstone names and nobody needs again; None if it is not its time yet."""
    total = Swept()
    done = False
    while not done:
        started = time.monotonic()
        mark = tombstones.begin_sweep(grave.name)
        try:
            look = tombstones.look()
            now_s = look.now_s(mark)
            info = look.tombstones.get(grave.name)
            if info is None or age_s(info, grave.tombstone.created, now_s) < rule.grace_s:
                return None
            there = _survey_for(remote, tombstones.claims(look, now_s), grave.tombstone, rule)
            batches, spared = to_remove(there, grave.tombstone, rule.expiry)
            done, count, size = _remove(remote, there, batches, started, rule.progress)
        finally:
            tombstones.end_sweep(mark)
        total = Swept(total.removed + count, total.bytes + size, spared)
        if not done and not count:
            raise BusyError(
                f"reading what {remote.url} holds took so long that it may not be true any more",
                hint="run it nearer to the store",
            )
    if not tombstones.look().sweeping(grave.name, now_s):
        tombstones.remove(grave.name)
    return total


def _survey_for(
    remote: RemoteStore, claims: Sequence[Claim], grave: Tombstone, rule: SweepRule
) -> Survey:
    """Survey a remote for a sweep; the roots of repositories whose time is up may be damaged."""
    besides = {
        root
        for one in (grave, *rule.due)
        if one.retired and not _is_alive(list_roots(remote, one.repo), one)
        for root in one.roots
    }
    return survey(remote, claims, besides=besides, progress=rule.progress)


def _is_alive(roots: Iterable[str], grave: Tombstone) -> bool:
    """Whether a retired repository has other roots: then somebody has pushed since."""
    return not grave.roots or not set(grave.roots).issuperset(roots)


def to_remove(
    there: Survey, grave: Tombstone, expiry: Expiry | None
) -> tuple[list[list[str]], int]:
    """Return the keys to remove, those that refer to others first; and how many are spared."""
    spared = {
        key
        for key in grave.roots
        if key in there.roots and _is_needed(there, there.roots[key], grave, expiry)
    }
    # A tombstone is foreign: it can name nothing but objects of its kind.
    roots = [key for key in grave.roots if is_root(key, grave.repo) and key not in spared]
    stay = [one for key, one in there.roots.items() if key not in roots]
    live = there.live({name for one in stay for name in one.shards})
    every = [key for key in grave.keys if key in there.objects]
    dead = [key for key in every if key not in live]
    packs = [key for key in dead if key.startswith(PACKS)]
    shards = [key for key in dead if not key.startswith(PACKS)]
    return [roots, shards, packs], len(spared) + len(every) - len(dead)


def _is_needed(there: Survey, root: RootThere, grave: Tombstone, expiry: Expiry | None) -> bool:
    """Whether a root names what no root that stays names, and what was not given up."""
    others = [
        one for one in there.roots.values() if one.repo == root.repo and one.key not in grave.roots
    ]
    if grave.retired:
        return bool(others)
    given_up = set(grave.expired)
    if expiry is not None:
        given_up -= expiry.needed
    named = {name for one in others for name in one.manifests}
    return not root.manifests <= named | given_up


def _remove(
    remote: RemoteStore,
    there: Survey,
    batches: Sequence[Sequence[str]],
    started: float,
    progress: Progress,
) -> tuple[bool, int, int]:
    """Remove keys while the sweep's mark may be relied on.

    Returns whether that was all, and how many objects of how many bytes are gone.
    """
    count = size = 0
    sizes = {k: there.objects[k].size for some in batches for k in some if k in there.objects}
    progress.start("removing", total_bytes=sum(sizes.values()))
    for batch in batches:
        for at in range(0, len(batch), REMOVED_AT_ONCE):
            if time.monotonic() - started > SWEEP_USED_S:
                return False, count, size
            for key, _ in run_bounded(remote.backend.delete, batch[at : at + REMOVED_AT_ONCE]):
                count += 1
                size += sizes.get(key, 0)
                progress.advance(sizes.get(key, 0))
    progress.finish()
    return True, count, size


# --- the whole ------------------------------------------------------------------------------


def collect(
    remote: RemoteStore,
    *,
    repo: str | None,
    expiry: Expiry | None = None,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    here: GcSide,
) -> Collected:
    """Sweep what was buried long enough ago, then bury what is dead now.

    `expiry` is given on request only: it lets manifests go that the repository needs no more.
    """
    remote.required_mark()
    tombstones = Tombstones(remote)
    result = Collected(remote.url)
    if not dry_run:
        refuse_without_delete(remote)
    standing_graves = graves(tombstones, tombstones.look(), grace_s)
    due = tuple(grave.tombstone for grave in standing_graves if grave.due_in_s <= 0)
    rule = SweepRule(grace_s, expiry, due, here.progress)
    for grave in standing_graves:
        swept = None
        if grave.due_in_s <= 0 and _may_sweep(grave, expiry, result) and not dry_run:
            swept = sweep(remote, tombstones, grave, rule)
        if swept is None:
            result.waiting.append(grave)
        else:
            result.swept.append(swept)
    look, now_s = (tombstones.look(), time.time()) if dry_run else tombstones.clock()
    standing = list(tombstones.standing(look).values())
    retired = {key for one in standing if one.retired for key in one.roots}
    claims = tombstones.claims(look, now_s)
    there = survey(remote, claims, besides=retired, progress=here.progress)
    result.plan = plan(there, standing, repo=repo, expiry=expiry, now_s=now_s)
    if not dry_run:
        result.moved = bury(remote, tombstones, there, result.plan, repo, here)
        for key in tombstones.stale(look, now_s):
            remote.backend.delete(key)
        if isinstance(remote.backend, Sweeping):
            result.temp_bytes = remote.backend.sweep_unfinished(older_than_s=TEMP_AGE_S)
    return result


def _may_sweep(grave: Grave, expiry: Expiry | None, result: Collected) -> bool:
    """Whether this clone can tell if what was given up is needed again; warn if it cannot."""
    one = grave.tombstone
    if not one.expired or (expiry is not None and expiry.repo == one.repo):
        return True
    result.warnings.append(
        f"what repository {one.repo} gave up is removed only from a clone of it: "
        "dv gc --remote --expire"
    )
    return False


def undo(remote: RemoteStore) -> int:
    """Take all tombstones back; return how many. BusyError if one is being swept.

    A tombstone that is damaged goes as well.
    """
    remote.required_mark()
    refuse_without_delete(remote)
    tombstones = Tombstones(remote)
    look, now_s = tombstones.clock()
    _refuse_swept(remote, look, now_s)
    for name in look.tombstones:
        tombstones.remove(name)
    # A sweep that began meanwhile wrote its mark before it looked for its tombstone.
    _refuse_swept(remote, tombstones.look(), now_s)
    return len(look.tombstones)


def _refuse_swept(remote: RemoteStore, look: Look, now_s: float) -> None:
    if any(look.sweeping(name, now_s) for name in look.sweeps):
        raise BusyError(
            f"a gc is removing objects from {remote.url} by now, or was interrupted at it",
            hint="dv gc --remote finishes that; `dv push` brings back what is needed again",
        )


# --- repositories ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RepoThere:
    """One repository on a remote. `bytes` is what its packs and lists take up there."""

    repo: str
    roots: int
    manifests: int
    bytes: int
    pushed_s: float | None
    """When a push last wrote a root, in seconds since 1970."""
    retired: bool
    damaged: bool
    """Whether something that its roots name is missing or damaged there."""
    targets: tuple[str, ...]


def repositories(remote: RemoteStore) -> list[RepoThere]:
    """Return the repositories that have roots on a remote."""
    remote.required_mark()
    tombstones = Tombstones(remote)
    look = tombstones.look()
    there = look_over(remote, ())
    retired = {
        root for one in tombstones.standing(look).values() if one.retired for root in one.roots
    }
    by_repo: dict[str, list[str]] = {}
    for key in sorted({*there.roots, *there.broken}):
        by_repo.setdefault(key.split("/")[1], []).append(key)
    return [
        _described(there, repo, keys, retired=retired.issuperset(keys))
        for repo, keys in by_repo.items()
    ]


def _described(there: Survey, repo: str, keys: Sequence[str], *, retired: bool) -> RepoThere:
    roots = [there.roots[key] for key in keys if key in there.roots]
    needed = there.keys_of({name for root in roots for name in root.shards})
    times = [one.info.modified_s for one in roots if one.info.modified_s is not None]
    manifests = {one.manifest: one.target for root in roots for one in root.root.manifests}
    return RepoThere(
        repo=repo,
        roots=len(keys),
        manifests=len(manifests),
        bytes=sum(there.objects[key].size for key in needed if key in there.objects),
        pushed_s=max(times, default=None),
        retired=retired,
        damaged=not there.broken.isdisjoint(keys),
        targets=tuple(sorted(set(manifests.values()))),
    )


def retire(remote: RemoteStore, repo: str) -> Plan:
    """Bury all roots of a repository and what only they need; return what that is.

    UsageError if it has none there. What was damaged there stands in nobody's way any more.
    """
    remote.required_mark()
    tombstones = Tombstones(remote)
    refuse_without_delete(remote)
    look = tombstones.look()
    standing = tombstones.standing(look).values()
    doomed = {key for one in standing for key in (*one.keys, *one.roots)}
    roots = list_roots(remote, repo)
    going = [key for key in roots if key not in doomed]
    if not going:
        raise UsageError(
            f"{remote.url} has no roots of a repository {repo}"
            + (" that are not going already" if roots else ""),
            hint="see which there are: dv remote roots",
        )
    # What others have damaged hides no more than a sweep will see: that asks for all to be whole.
    there = look_over(remote, tombstones.claims(look, time.time()), besides=going)
    live = there.live({name for one in there.roots.values() for name in one.shards})
    dead = tuple(i for key, i in there.objects.items() if key not in live and key not in doomed)
    tombstones.put(
        Tombstone(
            FORMAT,
            now_text(),
            [info.key for info in dead],
            going,
            repo,
            retired=True,
        )
    )
    return Plan(dead=dead)
