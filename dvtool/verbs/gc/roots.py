"""The repositories that keep data on a remote, and letting go of one that is gone for good."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dvtool.errors import UsageError
from dvtool.remotes.objects import FORMAT, now_text
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.survey import Survey, list_roots, look_over
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.verbs.gc.bury import RemoteGcPlan
from dvtool.verbs.gc.remote import refuse_without_delete


@dataclass(frozen=True, slots=True)
class RepoThere:
    """One repository on a remote."""

    json_keys: ClassVar = (
        *("repo", "this", "roots", "manifests", "bytes", "pushed", "retired", "damaged"),
        "targets",
    )

    repo: str
    """Its id, as in its .dvconfig."""
    this: bool
    """Whether it is the repository of this clone."""
    roots: int
    """How many roots it has there."""
    manifests: int
    """How many manifests they name."""
    bytes: int
    """Bytes of its packs and shards there."""
    pushed_s: float | None
    """When a push last wrote a root, in seconds since 1970."""
    retired: bool
    """Whether it was retired, so that gc removes its data."""
    damaged: bool
    """Whether something that its roots name is missing or damaged there."""
    targets: tuple[str, ...]
    """The targets of these manifests, sorted."""

    @property
    def pushed(self) -> str | None:
        """When a push last wrote a root, in ISO 8601 (UTC); null if the remote does not tell."""
        if self.pushed_s is None:
            return None
        time = datetime.datetime.fromtimestamp(int(self.pushed_s), datetime.UTC)
        return time.isoformat().replace("+00:00", "Z")


def repositories(remote: RemoteStore, own: str | None = None) -> list[RepoThere]:
    """Return the repositories that have roots on a remote; `own` is the id of this one."""
    remote.required_mark()
    tombstones = Tombstones(remote)
    look = tombstones.look()
    surveyed = look_over(remote, ())
    retired = {
        root
        for tombstone in tombstones.standing(look).values()
        if tombstone.retired
        for root in tombstone.roots
    }
    by_repo: dict[str, list[str]] = {}
    for key in sorted({*surveyed.roots, *surveyed.broken}):
        by_repo.setdefault(key.split("/")[1], []).append(key)
    return [
        _described(surveyed, repo, keys, own=own, retired=retired.issuperset(keys))
        for repo, keys in by_repo.items()
    ]


def _described(
    surveyed: Survey, repo: str, keys: Sequence[str], *, own: str | None, retired: bool
) -> RepoThere:
    roots = [surveyed.roots[key] for key in keys if key in surveyed.roots]
    needed = surveyed.keys_of({name for root in roots for name in root.shards})
    times = [root.info.modified_s for root in roots if root.info.modified_s is not None]
    manifests = {
        manifest.manifest: manifest.target for root in roots for manifest in root.root.manifests
    }
    return RepoThere(
        repo=repo,
        this=repo == own,
        roots=len(keys),
        manifests=len(manifests),
        bytes=sum(surveyed.objects[key].size for key in needed if key in surveyed.objects),
        pushed_s=max(times, default=None),
        retired=retired,
        damaged=not surveyed.broken.isdisjoint(keys),
        targets=tuple(sorted(set(manifests.values()))),
    )


def retire(remote: RemoteStore, repo: str, *, plan_only: bool = False) -> RemoteGcPlan:
    """Bury all roots of a repository and the objects that only they need; return the plan.

    UsageError if it has none there. Damaged roots do not stop this. With `plan_only` nothing is
    buried.
    """
    remote.required_mark()
    tombstones = Tombstones(remote)
    refuse_without_delete(remote)
    look = tombstones.look()
    standing = tombstones.standing(look).values()
    doomed = {key for tombstone in standing for key in (*tombstone.keys, *tombstone.roots)}
    roots = list_roots(remote, repo)
    going = [key for key in roots if key not in doomed]
    if not going:
        raise UsageError(
            f"{remote.url} has no roots of a repository {repo}"
            + (" that are not going already" if roots else ""),
            hint="see which there are: dv remote roots",
        )
    # Damaged roots of others cannot hide a need: a sweep asks for all roots to be whole.
    surveyed = look_over(remote, tombstones.claims(look, time.time()), besides=going)
    live = surveyed.live({name for root in surveyed.roots.values() for name in root.shards})
    dead = tuple(i for key, i in surveyed.objects.items() if key not in live and key not in doomed)
    if not plan_only:
        keys = [info.key for info in dead]
        tombstones.put(Tombstone(FORMAT, now_text(), keys, going, repo, retired=True))
    return RemoteGcPlan(dead=dead)
