"""push: upload what manifests need to a remote, and prove that it is there.

The order is packs, proof, claim, proof, shards, proof, root: whatever is referred to is there
before what refers to it, and a gc that runs meanwhile spares it: see `dvtool.remotes.tombstones`.
This clone's memory of the remote is a hint, checked against the remote's own word each time, so an
object that was deleted behind our back is uploaded again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dvtool.errors import BusyError, CorruptError, RemoteError, count_text, listing
from dvtool.format.digest import Digest, digest_of_file
from dvtool.format.locations import encode_object, with_locations
from dvtool.project.parts import Project
from dvtool.remotes.estimate import Estimate
from dvtool.remotes.objects import RootManifest, pack_key, shard_key
from dvtool.remotes.proof import confirm, confirm_packs
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import CLAIM_USED_S
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.parallel import run_bounded
from dvtool.verbs.push import packs as outgoing
from dvtool.verbs.push.contents import PushedContents
from dvtool.verbs.push.packs import Upload
from dvtool.verbs.push.plan import ManifestToPush, Pushed, PushPlanning
from dvtool.verbs.push.planned import UploadPlan

ROUNDS_MAX = 4
"""How often a push begins anew because a gc took away what it relied on."""
SHARDS_SIZE_MAX_BYTES = 64 << 20
"""How many shard objects are under way: each is made when its turn comes, and is in memory then."""


@dataclass(frozen=True, slots=True)
class _ShardPlaces:
    """The places of a shard's content on the remote, as the shard's object gives them."""

    columns: Callable[[], bytes]
    packs: frozenset[Digest]
    refers: bool = False
    """Whether some of it is at a source."""


def upload(
    project: Project,
    remote: RemoteStore,
    repo_id: str,
    manifests: Sequence[ManifestToPush],
    *,
    doomed: Collection[str] | None = None,
) -> Pushed:
    """Upload what the manifests need and the remote lacks; return once the remote has it all.

    `doomed` are roots (keys) that a gc is about to take away, if that was asked a moment ago.
    MissingError if content is neither here nor there; RemoteError if the remote does not confirm;
    BusyError if a gc takes away what is needed, again and again.
    """
    planning = PushPlanning(project, remote, repo_id, manifests)
    work = _Uploading(planning)
    for _ in range(ROUNDS_MAX):
        project.progress.start(f"asking {remote.url} for what it has")
        plan = planning.plan(doomed)
        project.progress.finish()
        if work.apply(plan):
            return planning.result
        doomed = None
    raise BusyError(
        f"a gc removed from {remote.url} what this push relies on, {ROUNDS_MAX} times in a row",
        hint="repeat `dv push` when the gc is done",
    )


def estimate_upload(
    project: Project,
    remote: RemoteStore,
    repo_id: str,
    manifests: Sequence[ManifestToPush],
    *,
    doomed: Collection[str] | None = None,
) -> tuple[Pushed, Estimate]:
    """Return what a push would do, and what that takes; nothing is uploaded."""
    planning = PushPlanning(project, remote, repo_id, manifests)
    plan = planning.plan(doomed)
    planning.result.packs = plan.outgoing.packs
    return planning.result, planning.estimate(plan)


class _Uploading:
    def __init__(self, planning: PushPlanning) -> None:
        self.planning = planning
        self.project = planning.project
        self.store = planning.store
        self.remote = planning.remote
        self.tombstones = planning.tombstones
        self.result = planning.result

    def apply(self, plan: UploadPlan) -> bool:
        """Upload what is planned, in the order of the module's docstring.

        Return False if something that was there is gone by then: a gc took it away. Make another
        plan then.
        """
        if not plan.lacking and not plan.root:
            return True
        known = self.planning.known  # which makes the remote one, if it is none yet
        if plan.outgoing.packs:
            self._upload(plan)
        located = self._located(plan.contents)
        packs = {pack for places in located.values() for pack in places.packs}
        whole = known.shards(plan.proven.shards)
        packs.update(pack for pointed in whole.values() for pack in pointed)
        with self.tombstones.claimed(shards=self.planning.shards.keys(), packs=packs):
            started = time.monotonic()
            if not self._still_there(packs, whole):
                return False
            if plan.lacking:
                self._publish_shards(plan, located)
            if time.monotonic() - started > CLAIM_USED_S:
                return False
            self._publish_root(self.planning.unrooted(plan.proven.roots))
        known.set_pending(known.pending(), pending=False)
        return True

    def _still_there(self, packs: Collection[Digest], shards: Collection[Digest]) -> bool:
        """See that packs and shards which are relied on are there still, now that they are claimed.

        The missing ones are forgotten.
        """
        keys = [shard_key(digest) for digest in shards]
        infos = self.remote.look([*keys, *map(pack_key, packs)])
        sound = confirm_packs(self.remote, self.planning.known, packs, infos)
        if not sound.issuperset(packs):
            return False
        return confirm(self.remote, self.planning.known, keys, infos).issuperset(keys)

    def _upload(self, plan: UploadPlan) -> None:
        """Upload packs side by side; each is remembered as soon as it is there, then all proven."""
        known = self.planning.known
        packs: list[Digest] = []
        unfinished: set[str] = set()
        progress = self.project.progress
        count = count_text(plan.outgoing.packs, "pack")
        progress.start(f"uploading {count} to {self.remote.url}", total_bytes=plan.outgoing.bytes)
        try:
            for upload, info in run_bounded(
                self._upload_one,
                self._uploads(plan, unfinished),
                size_of=_size_of,
                tell=progress.advance,
            ):
                known.add_pack(upload.pack, upload.places(), md5=info.md5)
                known.set_pending([upload.pack.digest], pending=True)
                self._remove(upload, unfinished)
                packs.append(upload.pack.digest)
                self.result.packs += 1
                self.result.bytes += upload.pack.size
        finally:
            progress.finish()
            for path in unfinished:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        keys = [pack_key(digest) for digest in packs]
        progress.start(f"asking {self.remote.url} for what it has now")
        infos = self.remote.look(keys)
        progress.finish()
        lost = set(packs) - confirm_packs(self.remote, known, packs, infos)
        self._refuse_lost([pack_key(digest) for digest in packs if digest in lost])

    def _uploads(self, plan: UploadPlan, unfinished: set[str]) -> Iterator[Upload]:
        """Yield the packs to upload; new ones are written as their turn comes."""
        yield from plan.outgoing.whole
        for upload in outgoing.assembled(self.store, plan.outgoing.rest, plan.contents):
            unfinished.add(upload.path)
            yield upload

    def _remove(self, upload: Upload, unfinished: set[str]) -> None:
        if upload.temporary:
            os.unlink(upload.path)
            unfinished.discard(upload.path)

    def _upload_one(self, upload: Upload) -> ObjectInfo:
        with open(upload.path, "rb") as file:
            if digest_of_file(file) != upload.pack.digest:
                raise CorruptError(
                    f"{upload.path} is damaged: its bytes are not what its name says",
                    hint="run: dv fsck --repair",
                )
            return self.remote.put_pack(upload.pack.digest, file)

    # --- shards and root ------------------------------------------------------------------

    def _located(self, contents: PushedContents) -> dict[Digest, _ShardPlaces]:
        """Return shard -> where its content should be on the remote, all of it."""
        located: dict[Digest, _ShardPlaces] = {}
        remote_packs = self.planning.known.local_packs(contents.places.packs)
        for run in contents.runs():
            others: list[Digest] = []
            for shard in run:
                used = contents.packs_used(shard, remote_packs)
                if used is None:
                    others.append(shard)
                else:
                    encode = partial(contents.encoded_columns, shard, remote_packs)
                    located[shard] = _ShardPlaces(encode, frozenset(used))
            places = self.planning.known.placed(contents.chunks_of(others))
            for shard in others:
                columns, packs = contents.encoded_places(shard, places)
                refers = not contents.references.keys().isdisjoint(contents.of(shard))
                located[shard] = _ShardPlaces(partial(bytes, columns), frozenset(packs), refers)
        return located

    def _publish_shards(self, plan: UploadPlan, located: Mapping[Digest, _ShardPlaces]) -> None:
        def objects() -> Iterator[tuple[Digest, bytes]]:
            for shard in plan.lacking:
                digest = shard.ref.digest
                columns = located[digest].columns()
                if shard.text is None:
                    data = self.store.shard_object(digest)
                    yield digest, with_locations(data, digest, columns, f"shard {digest.hex()}")
                else:
                    yield digest, encode_object(shard.text, columns)

        infos: list[ObjectInfo] = []
        for (_, data), info in run_bounded(
            lambda shard: self.remote.put_shard(*shard),
            objects(),
            size_of=lambda shard: len(shard[1]),
            budget_bytes=SHARDS_SIZE_MAX_BYTES,
        ):
            infos.append(info)
            self.result.bytes += len(data)
        self._prove(infos)
        self.planning.known.add_objects(infos)
        self.planning.known.add_shards(
            {digest: places.packs for digest, places in located.items()},
            {digest for digest, places in located.items() if places.refers},
        )

    def _publish_root(self, unrooted: list[RootManifest]) -> None:
        """Add a root for the manifests that no root, seen there just now, names yet."""
        if not unrooted:
            return
        name, info = self.remote.put_root(self.planning.repo_id, unrooted)
        self._prove([info])
        self.result.bytes += info.size
        self.planning.known.add_objects([info])
        self.planning.known.add_root(
            name, [bytes.fromhex(manifest.manifest) for manifest in unrooted]
        )

    def _prove(self, expected: Collection[ObjectInfo]) -> None:
        """See that the remote itself says of every object that it is there, whole."""
        if expected:
            infos = self.remote.look([info.key for info in expected])
            sound = self.remote.confirmed(expected, infos)
            self._refuse_lost([info.key for info in expected if info.key not in sound])

    def _refuse_lost(self, keys: Sequence[str]) -> None:
        if keys:
            raise RemoteError(
                f"{self.remote.url} took these without an error but does not have them, or not "
                f"as they were sent:\n{listing(keys)}",
                hint="repeat `dv push`; if this stays, the store loses data: use another",
            )


def _size_of(upload: Upload) -> int:
    return upload.pack.size
