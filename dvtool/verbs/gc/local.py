"""gc of the local store: frees what a remote provably holds and nothing here needs.

First a plan is made, from the store and the answers of remotes; it changes nothing. The plan is
applied under the locks of all worktrees, but for data that is needed by then.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar

from dvtool.errors import CorruptError, DvError, ManifestNewer, SetupError
from dvtool.format.digest import Digest
from dvtool.format.locations import contents_of
from dvtool.format.manifest import Entries, Manifest, ShardRef, decode, manifest_digest
from dvtool.format.pack import read_index
from dvtool.git import Git
from dvtool.project.as_taken import shards_as_taken
from dvtool.project.base import shards_of_bases
from dvtool.project.history import FOR_GC, FOR_GC_UNPUSHED, versions
from dvtool.project.locks import all_worktrees_locked
from dvtool.project.neighbours import versions_of_neighbours
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.evidence import Announce, ReadBack
from dvtool.store.freeing import finish_drops, rewrite_packs, sweep_unfinished
from dvtool.store.local import LocalStore
from dvtool.store.lock import drop_lock
from dvtool.verbs.gc.bury import GRACE_S, SMALL_PACK_BYTES, SMALL_PACKS_MAX
from dvtool.verbs.gc.held import HeldRemotely, ask_remotes
from dvtool.workspace.files import Workspace
from dvtool.workspace.gitignore import UNFINISHED
from dvtool.workspace.staged import sweep_staged

DEAD_SHARE_MIN = 0.5
"""A pack of whose data more is dead is written anew."""
"""More small packs than this are merged."""
GROUP_MAX_BYTES = 60 << 20


@dataclass(slots=True)
class NeededChunks:
    """The data that manifests here name: their hashes, their shards, contents and their chunks."""

    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    shards: set[Digest] = field(default_factory=set)
    contents: set[Digest] = field(default_factory=set)
    chunks: set[Digest] = field(default_factory=set)
    elsewhere: set[Digest] = field(default_factory=set)
    """The chunks that other clones need, whose remotes are not asked."""

    def add(self, theirs: NeededChunks) -> None:
        """Add what other clones need, which no remote of this one makes up for."""
        self.shards |= theirs.shards
        self.contents |= theirs.contents
        self.chunks |= theirs.chunks
        self.elsewhere |= theirs.chunks


@dataclass(frozen=True, slots=True)
class GcRule:
    """The rule for data that may go. `unpushed`: also data that no remote has, unneeded and old.

    `used`: also needed data, where a remote holds it (the setting store.keep).
    """

    unpushed: bool = False
    used: bool = False
    grace_s: float = GRACE_S


@dataclass(frozen=True, slots=True)
class GcPlan:
    """The plan of a gc: chunks to free, packs to write anew in groups, shards to remove."""

    chunks: frozenset[Digest] = frozenset()
    bytes: int = 0
    """Raw bytes of these chunks."""
    groups: tuple[tuple[int, ...], ...] = ()
    packs_before: int = 0
    pack_bytes: int = 0
    """Bytes of the packs to be removed or written anew."""
    merged: int = 0
    """How many of them only because they are small."""
    shards: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.groups or self.shards)


@dataclass(slots=True)
class GcResult:
    """The result of a gc, or with `dry_run` what it would do."""

    json_keys: ClassVar = (
        *("dry_run", "chunks", "chunk_bytes", "packs_rewritten", "packs_merged", "freed_bytes"),
        *("kept_unpushed_bytes", "losing", "unread", "read_back_bytes", "asked", "warnings"),
    )

    plan: GcPlan
    dry_run: bool = False
    """Whether this says only what would be done."""
    packs: int = 0
    """Packs removed or written anew."""
    store_bytes: int = 0
    """Bytes that packs, shards and the record of references became smaller by."""
    temp_bytes: int = 0
    """Bytes of unfinished files that were removed."""
    asked: tuple[str, ...] = ()
    """Names of the remotes that were asked what they hold."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for people, such as which remote could not be asked."""
    kept_unpushed_bytes: int = 0
    """Bytes that nothing here needs and that no remote was seen to hold; they stay."""
    losing: Sequence[str] = ()
    """With --dry-run: the commits that name content which would go and which no remote has."""
    unread: Sequence[str] = ()
    """With --dry-run: the commits that cannot be read in full, so that this is not known."""
    read_back: tuple[ReadBack, ...] = ()
    """With --dry-run: what a gc would have to read back from remotes before it frees anything."""

    @property
    def read_back_bytes(self) -> int:
        """With --dry-run: bytes that a gc would have to read back from remotes."""
        return sum(read.bytes for read in self.read_back)

    @property
    def chunks(self) -> int:
        """How many chunks go."""
        return len(self.plan.chunks)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of these chunks, not compressed."""
        return self.plan.bytes

    @property
    def packs_rewritten(self) -> int:
        """How many packs are removed or written anew."""
        return sum(map(len, self.plan.groups))

    @property
    def packs_merged(self) -> int:
        """How many of them only because they are small."""
        return self.plan.merged

    @property
    def freed_bytes(self) -> int:
        """Bytes that the local store became smaller by; 0 with --dry-run."""
        return self.store_bytes + self.temp_bytes


def chunks_needed_by(
    project: Project, manifests: Iterable[Manifest], *, complete: bool
) -> NeededChunks:
    """Return what manifests need. With `complete`, shards that are not here are fetched.

    MissingError if that is not possible.
    """
    result = NeededChunks()
    seen: set[Digest] = set()
    for manifest in manifests:
        digest = manifest_digest(manifest)
        if digest in result.manifests:
            continue
        result.manifests[digest] = manifest
        for entries in _lists(project, manifest, seen, complete=complete):
            result.contents.update(contents_of(entries))
        result.shards.update(ref.digest for ref in manifest.shards)
    bases = shards_of_bases(project.git.worktree_git_dirs())
    result.shards.update(ref.digest for ref in bases)
    result.shards.update(ref.digest for ref in shards_as_taken(project.git.common_dir))
    result.chunks = chunks_of(project.store, result.contents)
    return result


def _lists(
    project: Project, manifest: Manifest, seen: set[Digest], *, complete: bool
) -> Iterator[Entries]:
    """Yield the entries of a manifest, a shard at a time, without shards seen before."""
    if manifest.entries is not None:
        yield manifest.entries
        return
    fresh: list[ShardRef] = [ref for ref in manifest.shards if ref.digest not in seen]
    seen.update(ref.digest for ref in fresh)
    if complete:
        project.shards.need(fresh)
    for ref in fresh:
        if complete or project.store.has_shard(ref.digest):
            yield project.store.held_shard(ref)


def chunks_of(store: LocalStore, contents: Collection[Digest]) -> set[Digest]:
    """Return the chunks of contents, as far as it is known here what they are made of."""
    lists = store.chunk_lists(contents)
    return {chunk for chunks in lists.values() for chunk in chunks}


def candidates(project: Project, needed: NeededChunks, rule: GcRule) -> set[Digest]:
    """Return the chunks here of which remotes are to be asked."""
    every = {digest for digest, _, _ in project.store.db.every_chunk()}
    return every if rule.used else every - needed.chunks


def plan_gc(
    project: Project, needed: NeededChunks, held: HeldRemotely, rule: GcRule, now_s: float
) -> GcPlan:
    """Say what to free and which packs to write anew. Changes nothing."""
    store = project.store
    kept = needed.chunks
    if rule.used:
        safe = held.kept.manifests
        unsafe = [m for d, m in needed.manifests.items() if d not in safe]
        kept = chunks_needed_by(project, unsafe, complete=False).chunks | needed.elsewhere
    young = _young_packs(store, now_s - rule.grace_s)
    total: dict[int, int] = {}
    dead: dict[int, dict[Digest, int]] = {}
    on_remote = held.chunks
    for digest, pack, size in store.db.every_chunk():
        total[pack] = total.get(pack, 0) + size
        alone = rule.unpushed and pack not in young and digest not in needed.chunks
        if digest not in kept and (digest in on_remote or alone):
            dead.setdefault(pack, {})[digest] = size
    sparse, small = _packs_to_write(store, total, dead)
    chosen = {pack: dead.get(pack, {}) for pack in (*sparse, *small)}
    packs = store.db.packs()
    return GcPlan(
        chunks=frozenset(digest for some in chosen.values() for digest in some),
        bytes=sum(size for some in chosen.values() for size in some.values()),
        groups=tuple(_groups({number: packs[number].size for number in chosen})),
        packs_before=len(packs),
        pack_bytes=sum(packs[number].size for number in chosen),
        merged=len(small),
        shards=tuple(_dead_shards(store, needed, held, rule, now_s)),
    )


def _young_packs(store: LocalStore, since_s: float) -> set[int]:
    young: set[int] = set()
    for number, pack in store.db.packs().items():
        with contextlib.suppress(FileNotFoundError):
            if os.path.getmtime(store.pack_path(pack.digest)) > since_s:
                young.add(number)
    return young


def _packs_to_write(
    store: LocalStore, total: Mapping[int, int], dead: Mapping[int, Mapping[Digest, int]]
) -> tuple[list[int], list[int]]:
    """Return the packs that are mostly dead, and the small ones if they are many."""
    sparse: list[int] = []
    small: list[int] = []
    for number, pack in sorted(store.db.packs().items()):
        gone = sum(dead.get(number, {}).values())
        # A chunk that another pack has too is read from there, and so is dead here.
        doubtful = gone > 0 or number not in total
        size = max(total.get(number, 0), _raw_size(store, number) if doubtful else 0)
        gone += size - total.get(number, 0)
        if gone > DEAD_SHARE_MIN * size:
            sparse.append(number)
        elif pack.size < SMALL_PACK_BYTES:
            small.append(number)
    return sparse, small if len(small) > SMALL_PACKS_MAX else []


def _raw_size(store: LocalStore, number: int) -> int:
    pack = store.db.packs()[number]
    path = store.pack_path(pack.digest)
    with open(path, "rb") as file:
        return sum(read_index(file, size=pack.size, where=path).chunk_sizes)


def _groups(sizes: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield packs to write anew together: about as much as makes one full pack."""
    run: list[int] = []
    total = 0
    for number, size in sizes.items():
        if run and total + size > GROUP_MAX_BYTES:
            yield tuple(run)
            run, total = [], 0
        run.append(number)
        total += size
    if run:
        yield tuple(run)


def _dead_shards(
    store: LocalStore, needed: NeededChunks, held: HeldRemotely, rule: GcRule, now_s: float
) -> Iterator[str]:
    """Yield the paths of shards that no manifest names, and that may go."""
    kept = held.kept.shards
    for path, digest in store.shards_there():
        if digest in needed.shards:
            continue
        old = os.path.getmtime(path) < now_s - rule.grace_s
        if digest in kept or (rule.unpushed and old):
            yield path


def apply_gc(project: Project, plan: GcPlan, needed: NeededChunks) -> GcResult:
    """Apply the plan, but for data that is `needed` since. Hold the locks of all worktrees.

    A chunk is freed only once the rest of its pack is durable in another.
    """
    store = project.store
    result = GcResult(plan)
    gone = plan.chunks - needed.chunks
    with drop_lock(store.path):
        finish_drops(store)
        before = {pack.digest for pack in store.db.packs().values()}
        project.progress.start("rewriting packs", total_bytes=plan.pack_bytes)
        for group in plan.groups:
            packs = store.db.packs()
            numbers = [number for number in group if number in packs]
            result.store_bytes += rewrite_packs(store, numbers, gone)
            project.progress.advance(sum(packs[number].size for number in numbers))
        project.progress.finish()
        result.packs = len(before - {pack.digest for pack in store.db.packs().values()})
        for path in plan.shards:
            if bytes.fromhex(os.path.basename(path)) not in needed.shards:
                result.store_bytes += os.path.getsize(path)
                os.unlink(path)
    result.temp_bytes = sweep_unfinished(store)
    return result


def unheld_bytes(
    project: Project, needed: NeededChunks, held: HeldRemotely, going: Set[Digest] = frozenset()
) -> int:
    """Return the raw bytes of what nothing needs, no remote was seen to hold, and stays.

    Chunks that are `going` are in the store still, and do not stay.
    """
    on_remote = held.chunks
    return sum(
        size
        for digest, _, size in project.store.db.every_chunk()
        if digest not in needed.chunks and digest not in on_remote and digest not in going
    )


# --- the whole ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GcRequest:
    """A user's request for a gc of the local store."""

    unpushed: bool = False
    dry_run: bool = False
    grace_s: float | None = None
    """How old content that no remote holds must be; None for two weeks."""
    announce: Announce | None = None
    """Is told what is read back from a remote before that begins."""


def gc_local(project: Project, settings: Settings, request: GcRequest) -> GcResult:
    """Free the local store of what nothing here needs and a remote holds.

    With `unpushed` also of what no remote holds, if it is older than the grace; and references
    are forgotten that nobody needs, if the last one came before the grace.
    """
    rule = GcRule(
        unpushed=request.unpushed,
        used=project.config.text("store.keep") == "unpushed",
        grace_s=GRACE_S if request.grace_s is None else request.grace_s,
    )
    scope = FOR_GC_UNPUSHED if request.unpushed else FOR_GC
    manifests = (version.manifest for version in versions(project, scope))
    needed = chunks_needed_by(project, manifests, complete=request.unpushed)
    needed.add(_needed_elsewhere(project, request))
    asked = candidates(project, needed, rule)
    held = ask_remotes(project, settings, asked)
    now_s = time.time()
    plan = plan_gc(project, needed, held, rule, now_s)
    result = GcResult(plan, dry_run=request.dry_run)
    if request.dry_run:
        result.read_back = tuple(held.reading(plan.chunks, plan.shards))
        result.losing, result.unread = _losing(project, plan.chunks.difference(held.chunks))
    else:
        while held.doubtful(plan.chunks, plan.shards):
            held.inspect(
                plan.chunks, plan.shards, announce=request.announce, progress=project.progress
            )
            # Without the packs found damaged, other packs may be worth writing anew.
            plan = plan_gc(project, needed, held, rule, now_s)
        with all_worktrees_locked(project.git), project.store.used(alone=True):
            fresh = [
                version.manifest
                for version in versions(project, scope)
                if manifest_digest(version.manifest) not in needed.manifests
            ]
            since = chunks_needed_by(project, fresh, complete=False)
            since.add(_needed_elsewhere(project, request))
            result = apply_gc(project, plan, since)
            result.temp_bytes += _sweep_worktrees(project.git)
            if rule.unpushed:  # every list is known: what none names, an import can find again
                result.store_bytes += project.store.db.references.forget_besides(
                    needed.contents | since.contents, before_s=now_s - rule.grace_s
                )
    result.asked = tuple(remote.name for remote in held.remotes)
    result.warnings = held.warnings
    going = plan.chunks if request.dry_run else frozenset()
    result.kept_unpushed_bytes = unheld_bytes(project, needed, held, going)
    return result


def _losing(project: Project, chunks: Collection[bytes]) -> tuple[list[str], list[str]]:
    """Return the commits that name any of these chunks, and those of which that is not known.

    All of them are commits that nothing refers to: what others name is needed, and does not go.
    """
    losing: list[str] = []
    unread: list[str] = []
    verdicts: dict[str, bool | None] = {}
    git = project.git
    for commit, blobs in git.manifest_blobs_of_each(git.commits_beside_refs() if chunks else ()):
        for blob in (blobs or frozenset()) - verdicts.keys():
            verdicts[blob] = _names_any(project, blob, chunks)
        answers = {None} if blobs is None else {verdicts[blob] for blob in blobs}
        if True in answers:
            losing.append(commit)
        elif None in answers:
            unread.append(commit)
    return losing, unread


def _names_any(project: Project, blob: str, chunks: Collection[bytes]) -> bool | None:
    """Tell whether a manifest names any of the chunks; None if it cannot be read."""
    try:
        manifest = decode(project.git.read_blob(blob), blob)
    except ManifestNewer:
        return None
    except CorruptError:  # it is no manifest, and names nothing
        return False
    except SetupError:
        raise
    except DvError:
        return None
    return not chunks_needed_by(project, [manifest], complete=False).chunks.isdisjoint(chunks)


def _needed_elsewhere(project: Project, request: GcRequest) -> NeededChunks:
    """Return what the other clones that use this store need.

    SetupError, naming it, if one cannot be read.
    """
    manifests = (version.manifest for version in versions_of_neighbours(project))
    # No remote of ours need have their lists; without --unpushed those that are here are enough,
    # since every command that adds content writes the shards here before the manifest.
    here = project.with_shards_from(None, fetch=False)
    return chunks_needed_by(here, manifests, complete=request.unpushed)


def _sweep_worktrees(git: Git) -> int:
    """Remove the unfinished files that crashes left in any worktree; return their bytes.

    Hold the locks of all worktrees.
    """
    size = 0
    for top in git.worktrees():
        with contextlib.suppress(DvError), Git.discover(top) as tree, Workspace(top) as workspace:
            size += workspace.sweep(tree.untracked(UNFINISHED)) + sweep_staged(tree.git_dir)
    return size
