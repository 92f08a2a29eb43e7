"""gc of a remote: objects that no root names are buried under a tombstone, later removed.

The roots of all repositories on the remote say which objects are live, never this clone. The
rules that make it safe beside pushes, and beside another gc, are in `dvtool.remotes.tombstones`.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, field
from typing import ClassVar

from dvtool.errors import (
    BusyError,
    CorruptError,
    MissingError,
    RemoteForbidden,
    SetupError,
    listing,
)
from dvtool.format.manifest import decode, manifest_digest
from dvtool.project.history import for_expiry, versions
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.repack import GcSide, Moved
from dvtool.remotes.survey import survey
from dvtool.remotes.tombstones import Look, Tombstones
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.verbs.gc.bury import GRACE_S, Expiry, RemoteGcPlan, bury, plan_remote_gc
from dvtool.verbs.gc.sweep import Grave, SweepRule, Swept, graves, sweep_grave

TEMP_AGE_S = 2 * 24 * 3600


@dataclass(frozen=True, slots=True)
class RemoteGcRequest:
    """A user's request for a gc of a remote."""

    remote: str | None = None
    expire: bool = False
    dry_run: bool = False
    grace_s: float | None = None
    """How long ago what is removed was buried; None for two weeks."""


@dataclass(frozen=True, slots=True)
class ExpiredManifest:
    """A manifest that was pushed and that no commit needs any more."""

    target: str
    """The target, as a path from the top of the worktree."""
    manifest: str
    """The manifest hash, in hex."""


@dataclass(slots=True)
class RemoteGcResult:
    """The result of a gc of a remote, or with `dry_run` what it would do."""

    json_keys: ClassVar = (
        *("remote", "dry_run", "dead", "dead_bytes", "moved_packs", "moved_bytes"),
        *("roots_replaced", "expired", "unseen", "removed", "removed_bytes", "waiting", "warnings"),
    )

    remote: str
    """URL of the remote."""
    dry_run: bool = False
    """Whether this says only what would be done."""
    plan: RemoteGcPlan = field(default_factory=RemoteGcPlan)
    swept: list[Swept] = field(default_factory=list)
    waiting: list[Grave] = field(default_factory=list)
    """The tombstones of objects that are not removed yet."""
    moved: Moved = field(default_factory=Moved)
    warnings: list[str] = field(default_factory=list)
    """Sentences for people."""
    temp_bytes: int = 0
    """Bytes of unfinished files that were removed from a folder."""

    @property
    def dead(self) -> int:
        """How many objects are buried by this gc, as nothing there needs them."""
        return len(self.plan.dead)

    @property
    def dead_bytes(self) -> int:
        """Bytes of these objects."""
        return self.plan.dead_bytes

    @property
    def moved_packs(self) -> int:
        """How many packs are mostly dead, so that the rest of them goes into new packs."""
        return len(self.plan.move)

    @property
    def moved_bytes(self) -> int:
        """Bytes that go into new packs."""
        return self.plan.move_bytes

    @property
    def roots_replaced(self) -> int:
        """How many roots one new root takes the place of."""
        return len(self.plan.replace)

    @property
    def expired(self) -> tuple[ExpiredManifest, ...]:
        """With --expire: manifests that no commit needs any more."""
        return tuple(
            ExpiredManifest(manifest.target, manifest.manifest) for manifest in self.plan.expired
        )

    @property
    def unseen(self) -> int:
        """With --expire: how many manifests stay since no commit of this clone ever had them."""
        return self.plan.unseen

    @property
    def removed(self) -> int:
        """How many objects are gone now, of those that were buried before."""
        return sum(sweep.removed for sweep in self.swept)

    @property
    def removed_bytes(self) -> int:
        """Bytes of these objects."""
        return sum(sweep.bytes for sweep in self.swept)


def gc_remote(project: Project, settings: Settings, request: RemoteGcRequest) -> RemoteGcResult:
    """Bury what no root on a remote names, and remove what was buried a grace period ago."""
    settings.require_init()
    remote = settings.open_remote(request.remote)
    repo_id = project.config.text("core.repoid") or ""
    grace_s = GRACE_S if request.grace_s is None else request.grace_s
    expiry = None
    if request.expire:
        needed = _needed_hashes(project)
        if not request.dry_run:
            project.store.db.add_seen(project.clone_name, map(bytes.fromhex, needed))
        expiry = Expiry(repo_id, needed, grace_s, _seen_hashes(project))
    return collect_remote(
        remote,
        repo=repo_id,
        expiry=expiry,
        grace_s=grace_s,
        dry_run=request.dry_run,
        here=GcSide(project.store.temp_path, project.progress),
    )


def collect_remote(
    remote: RemoteStore,
    *,
    repo: str | None,
    expiry: Expiry | None = None,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    here: GcSide,
) -> RemoteGcResult:
    """Sweep what was buried long enough ago, then bury what is dead now.

    `expiry` is given on request only: it lets manifests go that the repository needs no more.
    """
    remote.required_mark()
    tombstones = Tombstones(remote)
    result = RemoteGcResult(remote.url, dry_run=dry_run)
    if not dry_run:
        refuse_without_delete(remote)
    standing_graves = graves(tombstones, tombstones.look(), grace_s)
    due = tuple(grave.tombstone for grave in standing_graves if grave.due_in_s <= 0)
    rule = SweepRule(grace_s, expiry, due, here.progress)
    for grave in standing_graves:
        swept = None
        if grave.due_in_s <= 0 and _may_sweep(grave, expiry, result) and not dry_run:
            swept = sweep_grave(remote, tombstones, grave, rule)
        if swept is None:
            result.waiting.append(grave)
        else:
            result.swept.append(swept)
    look, now_s = (tombstones.look(), time.time()) if dry_run else tombstones.clock()
    standing = list(tombstones.standing(look).values())
    retired = {key for tombstone in standing if tombstone.retired for key in tombstone.roots}
    claims = tombstones.claims(look, now_s)
    surveyed = survey(remote, claims, besides=retired, progress=here.progress)
    result.plan = plan_remote_gc(surveyed, standing, repo=repo, expiry=expiry, now_s=now_s)
    if not dry_run:
        result.moved = bury(remote, tombstones, surveyed, result.plan, repo, here)
        for key in tombstones.stale(look, now_s):
            remote.backend.delete(key)
        if isinstance(remote.backend, LocalBackend):
            result.temp_bytes = remote.backend.sweep_unfinished(older_than_s=TEMP_AGE_S)
    return result


def _may_sweep(grave: Grave, expiry: Expiry | None, result: RemoteGcResult) -> bool:
    """Whether this clone can tell if expired data is needed again; warn if it cannot."""
    tombstone = grave.tombstone
    if not tombstone.expired:
        return True
    if expiry is not None and expiry.repo == tombstone.repo:
        foreign = set(tombstone.expired) - expiry.seen - expiry.needed
        if foreign:
            some = f"{len(foreign):,} manifest{'s' * (len(foreign) != 1)}"
            result.warnings.append(
                f"another clone gave up {some} that no commit here ever had; run "
                "dv gc --remote --expire in that clone, or take it back: dv gc --remote --undo"
            )
        return not foreign
    result.warnings.append(
        f"what repository {tombstone.repo} gave up is removed only from a clone of it: "
        "dv gc --remote --expire"
    )
    return False


def undo_gc(remote: RemoteStore) -> int:
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


def refuse_without_delete(remote: RemoteStore) -> None:
    """Raise a RemoteForbidden, before anything is written, if nothing may be removed there."""
    try:
        remote.backend.delete(f"gc/claims/{secrets.token_hex(16)}.json")
    except RemoteForbidden as error:
        raise RemoteForbidden(
            f"gc has to remove objects from {remote.url}, and may not: {error}",
            hint="if a right is missing: run it with a role that has s3:DeleteObject; a store "
            "without DELETE keeps all that it was sent",
        ) from error


def _needed_hashes(project: Project) -> frozenset[str]:
    """Return the hashes of all manifests that anybody can ask for, as far as git's remotes tell.

    SetupError if this clone does not have all that they have.
    """
    git = project.git
    if git.is_shallow():
        raise SetupError(
            "this clone is shallow: what older commits need is not known here",
            hint="run it in a full clone, or: git fetch --unshallow",
        )
    theirs = git.refs_of_remotes()
    here = git.object_sizes(sorted(set(theirs.values())))
    missing = sorted(name for name, object_id in theirs.items() if object_id not in here)
    if missing:
        raise SetupError(
            "git's remotes have commits that are not here, so what they need is not known:\n"
            + listing(missing),
            hint="run: git fetch --all --tags (with all branches: see remote.NAME.fetch)",
        )
    scope = for_expiry(theirs.values())
    return frozenset(
        manifest_digest(version.manifest).hex() for version in versions(project, scope)
    )


def _seen_hashes(project: Project) -> frozenset[str]:
    """Return the hashes of the manifests that a commit here had which nothing refers to any more.

    Git has some of these commits still. Of others it is remembered that their manifests were pushed
    from here, or needed when a gc asked before.
    """
    seen = project.store.db.seen(project.clone_name)
    git = project.git
    blobs: set[str] = set()
    for _, some in git.manifest_blobs_of_each(git.commits_beside_refs()):
        blobs |= some or set()
    for blob in sorted(blobs):
        with contextlib.suppress(CorruptError, MissingError):
            seen.add(manifest_digest(decode(git.read_blob(blob), blob)))
    return frozenset(digest.hex() for digest in seen)
