"""The plan of a push: the data that manifests need and the remote, asked just now, lacks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NoReturn

from dvtool.errors import MissingError, count_text, listing, printable
from dvtool.format.digest import Digest, split_digests
from dvtool.format.locations import RemotePack, contents_of
from dvtool.format.manifest import (
    Entries,
    Manifest,
    decode_shard,
    manifest_digest,
    manifest_shards,
    shard_refs,
)
from dvtool.format.paths import workspace_path
from dvtool.project.config import store_address
from dvtool.project.parts import Project
from dvtool.remotes.estimate import Estimate, Requests
from dvtool.remotes.known import Known
from dvtool.remotes.objects import RootManifest, pack_key, root_key
from dvtool.remotes.proof import (
    Proven,
    believable_packs,
    confirm_packs,
    learn_shards,
    prove_roots,
    prove_shards,
)
from dvtool.remotes.remote import HEADS_MAX, RemoteStore, split_known_id
from dvtool.remotes.tombstones import Tombstones
from dvtool.remotes.transports.pace import REQUESTS_START
from dvtool.store.references import chunk_lists_of
from dvtool.verbs.push import packs as outgoing, references
from dvtool.verbs.push.contents import PushedContents
from dvtool.verbs.push.packs import JoinedDigests
from dvtool.verbs.push.planned import ShardToPush, UploadPlan

SHARD_BYTES_PER_ENTRY, SHARD_BYTES_PER_CHUNK = 45, 12
"""About what shard objects take; seen on 20,000 files of 8 KiB."""


@dataclass(frozen=True, slots=True)
class ManifestToPush:
    """A manifest to push, and the target it belongs to.

    `past` gives earlier versions of it, newest first: what is not here may be there by those.
    """

    target: str
    manifest: Manifest
    past: Callable[[], Iterator[Manifest]] | None = None


@dataclass(slots=True)
class Pushed:
    """The result of a push."""

    remote: str
    """URL of the remote."""
    manifests: int = 0
    """How many manifests were asked for."""
    files: int = 0
    """How many files are now proven to be there."""
    packs: int = 0
    """How many packs were uploaded."""
    bytes: int = 0
    """Bytes that were uploaded, of packs, shards and roots."""
    resumed_packs: int = 0
    """How many packs were there from earlier pushes that were interrupted."""
    resumed_bytes: int = 0
    """Bytes of these packs."""
    warnings: tuple[str, ...] = ()
    """Sentences for people, such as gaps in the history that no command can fill."""
    gone: set[str] = field(default_factory=set)
    """Keys of objects that were proven there once and are not there any more."""
    lost: set[str] = field(default_factory=set)
    """Keys of shards, needed by what is pushed, that were whole there once and are so no more."""

    @property
    def changed(self) -> bool:
        """Whether anything had to be uploaded."""
        return self.bytes > 0


class PushPlanning:
    """Asks a remote what it has of manifests, and says what is to be uploaded."""

    def __init__(
        self, project: Project, remote: RemoteStore, repo_id: str, wanted: Sequence[ManifestToPush]
    ) -> None:
        self.project = project
        self.store = project.store
        self.remote = remote
        self.repo_id = repo_id
        self.manifests = {manifest_digest(manifest.manifest): manifest for manifest in wanted}
        self.shards: dict[Digest, ShardToPush] = {}
        self.shard_names: dict[Digest, list[str]] = {}
        self.result = Pushed(remote.url, manifests=len(self.manifests))
        self.tombstones = Tombstones(remote)
        self._known: Known | None = None

    @property
    def known(self) -> Known:
        """The known facts about the remote, which must have its dv.json by now."""
        if self._known is None:
            self._known = Known(self.store.db, self.remote.initialise().id)
        return self._known

    # --- what there is to do --------------------------------------------------------------

    def plan(self, doomed: Collection[str] | None = None) -> UploadPlan:
        """Ask the remote what it has, and say what is to be uploaded.

        Of the roots there, the `doomed` ones do not count; which these are is asked if not given.
        """
        self._collect()
        mark = self.remote.mark()
        if mark is not None:
            self._known = Known(self.store.db, mark.id)
            if doomed is None:
                doomed = self.tombstones.doomed_roots(self.tombstones.look())
        proven = references.proven_at_sources(self, self._proven())
        plan = UploadPlan(proven=self._without_doomed(proven, doomed or ()))
        plan.lacking = [s for digest, s in self.shards.items() if digest not in plan.proven.shards]
        unrooted = self.unrooted(plan.proven.roots)
        if unrooted and not plan.lacking:
            unrooted = self._unrooted_there(plan, unrooted, doomed or ())
        plan.root = bool(unrooted)
        self.result.gone |= plan.proven.gone
        self.result.lost |= plan.proven.lost
        if not plan.lacking:
            return plan
        self.project.shards.need(shard.ref for shard in plan.lacking if shard.text is None)
        plan.contents.take(self._sizes(plan.lacking), self.store.db)
        self._look_back(plan.contents)
        self._list_chunks(plan)
        references.refer(self, plan)
        seen = plan.contents.places.packs
        plan.outgoing = outgoing.plan_packs(self.store, self._missing(plan), seen)
        if plan.outgoing.absent and references.refer_absent(self, plan):
            plan.outgoing = outgoing.plan_packs(self.store, self._missing(plan), seen)
        absent = plan.outgoing.absent
        if absent:
            self._refuse_missing(
                plan, lambda file: not absent.isdisjoint(plan.contents.chunks(file))
            )
        return plan

    def _collect(self) -> None:
        """Gather the distinct shards of all manifests; small manifests are cut here."""
        for digest, wanted in self.manifests.items():
            if wanted.manifest.entries is None:
                cuts = [ShardToPush(ref, wanted.target) for ref in wanted.manifest.shards]
            else:
                texts = shard_refs(wanted.manifest.entries)
                cuts = [ShardToPush(text.ref, wanted.target, text.text) for text in texts]
            source = wanted.manifest.source
            refers = source is not None and source.reference
            for shard in cuts:
                shard.by_reference = refers
                first = self.shards.setdefault(shard.ref.digest, shard)
                first.by_reference = first.by_reference and refers
            self.shard_names[digest] = [shard.ref.blake3 for shard in cuts]
        self.result.files = sum(shard.ref.files for shard in self.shards.values())

    def _proven(self) -> Proven:
        """Return what the remote says that it has."""
        if self._known is None:
            return Proven()
        roots = self._known.roots(self.manifests)
        keys = [root_key(self.repo_id, root) for root in roots.values()]
        refs = {digest: shard.ref for digest, shard in self.shards.items()}
        return prove_shards(self.remote, self._known, refs, roots=keys)

    def _without_doomed(self, proven: Proven, doomed: Collection[str]) -> Proven:
        """Leave out the roots that do not count; where that leaves a gap, look for others."""
        sound = proven.roots.difference(doomed)
        before = self._known.roots(self.manifests) if self._known else {}
        keys = {manifest: root_key(self.repo_id, name) for manifest, name in before.items()}
        gaps = {manifest: key for manifest, key in keys.items() if key not in sound}
        if gaps and self._known is not None:
            # A gc may have gathered roots into one. Damaged roots do not count either.
            void = {*doomed, *gaps.values()}
            rooted = prove_roots(self.remote, self._known, self.repo_id, gaps, doomed=void)
            names = self._known.roots(rooted).values()
            sound |= {root_key(self.repo_id, name) for name in names}
        return replace(proven, roots=sound)

    def _unrooted_there(
        self, plan: UploadPlan, unrooted: Sequence[RootManifest], doomed: Collection[str]
    ) -> list[RootManifest]:
        """Return the manifests that no root on the remote names, of this clone or another.

        A clone that pushes nothing new then leaves nothing there, and needs no right to write.
        """
        if self._known is None:
            return list(unrooted)
        names = [bytes.fromhex(manifest.manifest) for manifest in unrooted]
        sound = plan.proven.roots
        rooted = prove_roots(
            self.remote, self._known, self.repo_id, names, sound=sound, doomed=doomed
        )
        roots = self._known.roots(rooted)
        plan.proven = replace(
            plan.proven, roots=sound | {root_key(self.repo_id, name) for name in roots.values()}
        )
        return self.unrooted(plan.proven.roots)

    def unrooted(self, sound: Collection[str]) -> list[RootManifest]:
        """Return the manifests that none of the `sound` roots, by their keys, names yet."""
        roots = self._known.roots(self.manifests) if self._known else {}
        return [
            RootManifest(manifest.target, digest.hex(), self.shard_names[digest])
            for digest, manifest in self.manifests.items()
            if digest not in roots or root_key(self.repo_id, roots[digest]) not in sound
        ]

    def entries(self, shard: ShardToPush) -> Entries:
        """Return the entries of a shard."""
        if shard.text is None:
            return self.project.shards.load(shard.ref)
        return decode_shard(shard.text, shard.ref)

    def _sizes(
        self, shards: Iterable[ShardToPush]
    ) -> Iterator[tuple[Digest, Mapping[Digest, int]]]:
        """Yield shards with their contents and sizes; their entries are not kept."""
        for shard in shards:
            if shard.text is None:
                self.project.shards.need([shard.ref])
                entries = self.store.held_shard(shard.ref)
            else:
                entries = decode_shard(shard.text, shard.ref)
            yield shard.ref.digest, contents_of(entries)

    def _look_back(self, contents: PushedContents) -> None:
        """Learn from earlier versions the places of content that is neither here nor known of.

        Unchanged files are such content in a clone that never fetched them.
        """
        if self._known is None:
            return
        unknown: set[Digest] = set()
        for run in contents.runs():
            lacking = self.store.lacking(contents.unplaced(run))
            lacking -= self._known.chunk_lists(lacking).keys()
            unknown |= lacking - self.store.db.references.known(lacking)
        seen = set(self.shards)
        for wanted in self.manifests.values() if unknown else ():
            for manifest in wanted.past() if wanted.past is not None else ():
                for some in outgoing.runs(sorted(unknown)):
                    unknown.difference_update(self._known.chunk_lists(some))
                    unknown -= self.store.db.references.known(unknown)
                if not unknown:
                    return
                refs = {ref.digest: ref for ref in manifest_shards(manifest)}
                fresh = refs.keys() - seen
                learn_shards(self.remote, self._known, [refs[digest] for digest in fresh])
                seen |= fresh

    def _list_chunks(self, plan: UploadPlan) -> None:
        """Find out of which chunks the contents are made."""
        contents = plan.contents
        unlisted: set[Digest] = set()
        for run in contents.runs():
            sizes = contents.unplaced(run)
            left = set(sizes)
            lists = self.store.chunk_lists(left) if left else {}
            left -= lists.keys()
            if left and self._known is not None:
                lists |= self._known.chunk_lists(left)
                left -= lists.keys()
            if left:
                lists |= chunk_lists_of(self.store.db.references.find(left))
                left -= lists.keys()
            unlisted |= left
            for file, chunks in lists.items():
                if len(chunks) > 1:
                    contents.several[file] = sizes[file], b"".join(chunks)
        if unlisted:
            self._refuse_missing(plan, unlisted.__contains__)

    def _missing(self, plan: UploadPlan) -> dict[int, list[JoinedDigests]]:
        """Return the chunks, in order, that are in no pack that the remote just now said it has.

        They are end to end, by the number of the local pack that was seen to have them.
        """
        if self._known is not None:
            self._notice_local_packs(plan.proven)
        sound: set[Digest] = set()
        while True:
            missing, packs = self._presumed_missing(plan.contents)
            fresh = {pack.digest for pack in packs} - sound
            if fresh and self._known is not None:
                infos = self.remote.look([pack_key(pack) for pack in fresh])
                sound |= confirm_packs(self.remote, self._known, fresh, infos)
            if sound.issuperset(fresh):
                break
            # A pack that is not there is forgotten; the chunk may then turn up in another.
        pending = self._known.pending() if self._known is not None else set()
        resumed = [pack for pack in packs if pack.digest in pending]
        self.result.resumed_packs = len(resumed)
        self.result.resumed_bytes = sum(pack.size for pack in resumed)
        return missing

    def _presumed_missing(
        self, contents: PushedContents
    ) -> tuple[dict[int, list[JoinedDigests]], set[RemotePack]]:
        """Return the chunks in no pack that should be on the remote, and the packs of others."""
        missing: dict[int, list[JoinedDigests]] = {}
        known = self._known if self._known is not None and self._known.packs() else None
        remote_packs = known.local_packs(contents.places.packs) if known is not None else {}
        packs: set[RemotePack] = set()
        for run in contents.runs():
            left: list[tuple[int, JoinedDigests]] = []
            for number, joined in chain.from_iterable(map(contents.stretches, run)):
                if number in remote_packs:
                    packs.add(remote_packs[number])
                else:
                    left.append((number, joined))
            if left and known is not None:
                placed = known.placed({c for _, joined in left for c in split_digests(joined)})
                packs |= placed.packs_used()
                left = [(number, _without(joined, placed.rows)) for number, joined in left]
            for number, joined in left:
                missing.setdefault(number, []).append(joined)
        return missing, packs

    def _notice_local_packs(self, proven: Proven) -> None:
        """Remember local packs that came by in the remote's listing and are whole there.

        Such packs may be there, unknown here, by an upload that was cut off.
        """
        known = self.known
        before = known.packs()
        fresh = [pack for pack in self.store.db.packs().values() if pack.digest not in before]
        for pack in believable_packs(self.remote, known, fresh, proven.there):
            known.add_pack(pack, ())
            known.set_pending([pack.digest], pending=True)

    def _refuse_missing(self, plan: UploadPlan, is_missing: Callable[[Digest], bool]) -> NoReturn:
        """Name the files whose content cannot be pushed, each content once."""
        names: dict[Digest, str] = {}
        for shard in plan.lacking:
            for path, entry in self.entries(shard).items():
                if entry.size > 0 and entry.digest not in names and is_missing(entry.digest):
                    names[entry.digest] = workspace_path(shard.target, path)
        raise _neither_here_nor_there(
            list(names.values()), self.remote.url, self._way_from_another(names.keys())
        )

    def _way_from_another(self, contents: Collection[Digest]) -> str:
        """Say how to get contents from another configured remote; empty if there is none.

        One that is known to have them is named as such.
        """
        db, own, others = self.store.db, printable(self.remote.url), []
        for remote in self.project.config.remotes().values():
            address = remote.url if "://" in remote.url else self.project.absolute(remote.url)
            if address == self.remote.url:
                own = remote.name
                continue
            known_id = db.remotes.id_at(store_address(address, remote.options))
            remote_id = next(filter(None, split_known_id(known_id)), None)
            number = db.remotes.number(remote_id) if remote_id else None
            known = number is not None and db.known_on(number, contents) >= set(contents)
            others.append((not known, remote.name))
        if not others:
            return ""
        unsure, name = min(others)
        return f"{'if ' if unsure else ''}remote {name} has them: dv remote copy {name} {own}"

    def estimate(self, plan: UploadPlan) -> Estimate:
        """Return what applying a plan takes, about."""
        if not plan.lacking and not plan.root:
            return Estimate()
        shards, packs = len(plan.lacking), plan.outgoing.packs
        looks = [packs, shards, 1]
        listings = sum(count > HEADS_MAX for count in looks)
        heads = sum(count for count in looks if count <= HEADS_MAX)
        puts = packs + shards + 1
        # Besides: a claim, a look at what a gc does, another at what was claimed.
        requests = Requests(put=puts + 1, list=listings + 2, head=heads)
        if self._known is None:
            # dv.json: is there anything else, is dv.json there by now, put it, read it back.
            # A store of which it is not known whether it heeds conditions is tried out once.
            tried = self.remote.backend.features.conditional_put is None
            requests += Requests(put=1 + tried, get=1, list=1, head=1)
        # Half of a shard's text are digits of hashes; zstd packs two of them into a byte.
        texts = sum(shard.ref.files for shard in plan.lacking) * SHARD_BYTES_PER_ENTRY
        places = plan.contents.chunk_count * SHARD_BYTES_PER_CHUNK
        features = self.remote.backend.features
        return Estimate(puts, plan.outgoing.bytes + texts + places, requests).timed(
            bytes_per_s=features.up_bytes_per_s,
            latency_s=features.latency_s,
            side_by_side=REQUESTS_START,
        )


def _without(joined: JoinedDigests, others: Collection[Digest]) -> JoinedDigests:
    """Return the digests, end to end, that are not among the others."""
    if not others:
        return joined
    return b"".join([digest for digest in split_digests(joined) if digest not in others])


def _neither_here_nor_there(names: Sequence[str], url: str, way: str) -> MissingError:
    hint = "push from the clone where they were added, or `dv add` them again"
    hint = "\n".join([way, hint]) if way else hint
    return MissingError(
        f"the content of {count_text(len(names), 'file')} is neither here nor on "
        f"{printable(url)}; nothing was published there:\n{listing(names)}",
        hint=hint,
    )
