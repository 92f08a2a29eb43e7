"""The first step of a gc of a remote: plan what is dead, move what lives on, write a tombstone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from dvtool.format.digest import Digest
from dvtool.remotes.objects import FORMAT, RootManifest, now_text, pack_key, root_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.repack import GcSide, Moved, move_out, require
from dvtool.remotes.survey import LIVE_SHARE_MIN, RootThere, Survey, live_bytes
from dvtool.remotes.tombstones import Tombstone, Tombstones, age_s
from dvtool.remotes.transports.base import ObjectInfo

GRACE_S = 14 * 24 * 3600
SMALL_PACK_BYTES = 8 << 20
SMALL_PACKS_MAX = 8
"""More small packs than this are merged, and more roots of one repository."""
ROOTS_MAX = 8


@dataclass(frozen=True, slots=True)
class Expiry:
    """The manifests that may leave the roots of one repository: (hex) `seen` and not `needed`.

    `seen` are the manifests that this clone had in a commit. Forks have the same repository id, so
    a root may name a manifest that no commit of this clone ever had, and somebody else's has.
    """

    repo: str
    needed: frozenset[str]
    grace_s: float
    seen: frozenset[str]


@dataclass(frozen=True, slots=True)
class RemoteGcPlan:
    """The plan of a gc: the objects to bury, and those to write anew first."""

    dead: tuple[ObjectInfo, ...] = ()
    move: tuple[ObjectInfo, ...] = ()
    """Packs whose live part goes into new packs; they are then dead."""
    move_bytes: int = 0
    replace: tuple[RootThere, ...] = ()
    """Roots that one new root takes the place of."""
    keep: tuple[RootManifest, ...] = ()
    """The manifests that the new root names."""
    expired: tuple[RootManifest, ...] = ()
    unseen: int = 0
    """How many manifests are not needed here, and stay since no commit here ever had them."""

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


# --- planning -------------------------------------------------------------------------------


def plan_remote_gc(
    surveyed: Survey,
    buried: Collection[Tombstone],
    *,
    repo: str | None = None,
    expiry: Expiry | None = None,
    now_s: float,
) -> RemoteGcPlan:
    """Return what is dead, what to move and which roots of `repo` to replace. Changes nothing.

    Objects in a tombstone already are passed over.
    """
    doomed = {key for tombstone in buried for key in (*tombstone.keys, *tombstone.roots)}
    own = [root for root in surveyed.roots.values() if root.repo == repo and root.key not in doomed]
    old = list(_not_needed(own, expiry, now_s)) if expiry is not None else []
    expired = [
        manifest for manifest in old if expiry is not None and manifest.manifest in expiry.seen
    ]
    gone = {manifest.manifest for manifest in expired}
    replaced = own if gone or len(own) > ROOTS_MAX else []
    keep = {
        manifest.manifest: manifest for root in replaced for manifest in root.root.manifests
        if manifest.manifest not in gone
    }  # fmt: skip
    stay = [root for root in surveyed.roots.values() if root not in replaced]
    shards = {name for root in stay for name in root.shards}
    shards |= {name for manifest in keep.values() for name in manifest.shards}
    live = surveyed.live(shards)
    dead = [info for key, info in surveyed.objects.items() if key not in live and key not in doomed]
    move, move_bytes = _to_move(surveyed, shards, doomed)
    return RemoteGcPlan(
        dead=tuple(dead),
        move=tuple(move),
        move_bytes=move_bytes,
        replace=tuple(replaced),
        keep=tuple(keep.values()),
        expired=tuple(expired),
        unseen=len(old) - len(expired),
    )


def _not_needed(own: Sequence[RootThere], expiry: Expiry, now_s: float) -> Iterator[RootManifest]:
    """Yield, once each, the manifests that are not needed and that no young root names."""
    young = {
        name
        for root in own
        if age_s(root.info, root.root.created, now_s) < expiry.grace_s
        for name in root.manifests
    }
    seen: set[str] = set()
    for root in own:
        for manifest in root.root.manifests:
            if manifest.manifest not in expiry.needed | young | seen:
                seen.add(manifest.manifest)
                yield manifest


def _to_move(
    surveyed: Survey, shards: Collection[str], doomed: Collection[str]
) -> tuple[list[ObjectInfo], int]:
    """Return packs that are mostly dead, and small ones if they are many; and their live bytes."""
    live = live_bytes(surveyed, shards)
    sparse: list[ObjectInfo] = []
    small: list[ObjectInfo] = []
    for key, size in live.items():
        if key in doomed or key in surveyed.claimed or key not in surveyed.objects:
            continue
        info = surveyed.objects[key]
        if size < LIVE_SHARE_MIN * surveyed.data_bytes.get(key, size):
            sparse.append(info)
        elif info.size < SMALL_PACK_BYTES:
            small.append(info)
    move = sparse + (small if len(small) > SMALL_PACKS_MAX else [])
    return move, sum(live[info.key] for info in move)


def pack_of(key: str) -> Digest:
    """Return the id of the pack that has this key."""
    return bytes.fromhex(key.rpartition("/")[2])


# --- burying -------------------------------------------------------------------------------


def bury(
    remote: RemoteStore,
    tombstones: Tombstones,
    surveyed: Survey,
    plan: RemoteGcPlan,
    repo: str | None,
    here: GcSide,
) -> Moved:
    """Move content and replace roots as planned, then write a tombstone for what is dead."""
    moved = Moved()
    if plan.move:
        packs = {pack_of(info.key) for info in plan.move}
        moved = move_out(remote, tombstones, surveyed, packs, here)
    if plan.replace:
        assert repo is not None
        if plan.keep:
            _put_root(remote, tombstones, surveyed, repo, plan.keep)
    stay = [root for root in surveyed.roots.values() if root not in plan.replace]
    shards = {name for root in stay for name in root.shards}
    shards |= {name for manifest in plan.keep for name in manifest.shards}
    live = surveyed.live(shards)
    keys = [info.key for info in (*plan.dead, *plan.move) if info.key not in live]
    if keys or plan.replace:
        tombstones.put(
            Tombstone(
                FORMAT,
                now_text(),
                keys,
                [root.key for root in plan.replace],
                repo if plan.replace else None,
                [manifest.manifest for manifest in plan.expired],
            )
        )
    return moved


def _put_root(
    remote: RemoteStore,
    tombstones: Tombstones,
    surveyed: Survey,
    repo: str,
    manifests: Sequence[RootManifest],
) -> None:
    """Write a root for manifests that other roots name, as a push does."""
    names = {name for manifest in manifests for name in manifest.shards}
    shards = {bytes.fromhex(name) for name in names}
    sizes = {pack: size for name in names for pack, size in surveyed.shards[name].sizes.items()}
    expected = {pack_key(pack): size for pack, size in sizes.items()}
    with tombstones.claimed(shards=shards, packs=sizes.keys()):
        require(remote, {**expected, **dict.fromkeys(map(shard_key, shards))})
        name, info = remote.put_root(repo, list(manifests))
        require(remote, {root_key(repo, name): info.size})
