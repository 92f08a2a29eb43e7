"""The second step of a gc of a remote: remove what a tombstone named a grace period ago."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dvtool.errors import BusyError
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.survey import PACKS, RootThere, Survey, is_root, list_roots, survey
from dvtool.remotes.tombstones import SWEEP_USED_S, Claim, Look, Tombstone, Tombstones, age_s
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress
from dvtool.verbs.gc.bury import Expiry

REMOVED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Swept:
    """The outcome of one tombstone: keys removed, their bytes, and keys spared as needed again."""

    removed: int = 0
    bytes: int = 0
    spared: int = 0


@dataclass(frozen=True, slots=True)
class Grave:
    """A tombstone in force."""

    json_keys: ClassVar = ("keys", "due_in_s")

    name: str
    tombstone: Tombstone
    due_in_s: float
    """In how many seconds the next gc may remove them; negative once it may."""

    @property
    def keys(self) -> int:
        """How many objects are buried under it."""
        return len(self.tombstone.keys) + len(self.tombstone.roots)


def graves(tombstones: Tombstones, look: Look, grace_s: float) -> list[Grave]:
    """Return the tombstones that stand, oldest first."""
    standing = [
        Grave(
            name, tombstone, grace_s - age_s(look.tombstones[name], tombstone.created, time.time())
        )
        for name, tombstone in tombstones.standing(look).items()
    ]
    return sorted(standing, key=lambda grave: grave.due_in_s)


@dataclass(frozen=True, slots=True)
class SweepRule:
    """How to sweep: `expiry` says which manifests the repository of a tombstone needs by now.

    `due` are all tombstones whose time has come.
    """

    grace_s: float
    expiry: Expiry | None
    due: tuple[Tombstone, ...]
    progress: Progress


def sweep_grave(
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
            surveyed = _survey_for(remote, tombstones.claims(look, now_s), grave.tombstone, rule)
            batches, spared = to_remove(surveyed, grave.tombstone, rule.expiry)
            done, count, size = _remove(remote, surveyed, batches, started, rule.progress)
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
        for tombstone in (grave, *rule.due)
        if tombstone.retired and not _is_alive(list_roots(remote, tombstone.repo), tombstone)
        for root in tombstone.roots
    }
    return survey(remote, claims, besides=besides, progress=rule.progress)


def _is_alive(roots: Iterable[str], grave: Tombstone) -> bool:
    """Whether a retired repository has other roots: then somebody has pushed since."""
    return not grave.roots or not set(grave.roots).issuperset(roots)


def to_remove(
    surveyed: Survey, grave: Tombstone, expiry: Expiry | None
) -> tuple[list[list[str]], int]:
    """Return the keys to remove, those that refer to others first; and how many are spared."""
    spared = {
        key
        for key in grave.roots
        if key in surveyed.roots and _is_needed(surveyed, surveyed.roots[key], grave, expiry)
    }
    # A tombstone is foreign: it can name nothing but objects of its kind.
    roots = [key for key in grave.roots if is_root(key, grave.repo) and key not in spared]
    stay = [root for key, root in surveyed.roots.items() if key not in roots]
    live = surveyed.live({name for root in stay for name in root.shards})
    every = [key for key in grave.keys if key in surveyed.objects]
    dead = [key for key in every if key not in live]
    packs = [key for key in dead if key.startswith(PACKS)]
    shards = [key for key in dead if not key.startswith(PACKS)]
    return [roots, shards, packs], len(spared) + len(every) - len(dead)


def _is_needed(surveyed: Survey, root: RootThere, grave: Tombstone, expiry: Expiry | None) -> bool:
    """Whether a root names manifests that no remaining root names and that did not expire."""
    others = [
        other
        for other in surveyed.roots.values()
        if other.repo == root.repo and other.key not in grave.roots
    ]
    if grave.retired:
        return bool(others)
    given_up = set(grave.expired)
    if expiry is not None:
        given_up = (given_up & expiry.seen) - expiry.needed
    named = {name for other in others for name in other.manifests}
    return not root.manifests <= named | given_up


def _remove(
    remote: RemoteStore,
    surveyed: Survey,
    batches: Sequence[Sequence[str]],
    started: float,
    progress: Progress,
) -> tuple[bool, int, int]:
    """Remove keys while the sweep's mark may be relied on.

    Returns whether that was all, and how many objects of how many bytes are gone.
    """
    count = size = 0
    sizes = {k: surveyed.objects[k].size for some in batches for k in some if k in surveyed.objects}
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
