"""Packs that workers put on a remote, made part of it: proof, claims, shard objects, root.

The order, the claims and the proof are those of a push (`dvtool.verbs.push.upload`). Packs and
shard objects are read from the journal some at a time, as there may be millions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from dvtool.errors import BusyError, RemoteError, RemoteForbidden, count_text, listing
from dvtool.format.digest import Digest, split_digests
from dvtool.format.manifest import Manifest, manifest_digest, manifest_shards
from dvtool.jobs.take_to_remote import PackThere, object_infos
from dvtool.project.journal import Journal, ShardMade
from dvtool.remotes.known import Known
from dvtool.remotes.objects import RootManifest, pack_key, root_key, shard_key
from dvtool.remotes.proof import prove_roots
from dvtool.remotes.remote import LISTED_MAX, RemoteStore
from dvtool.remotes.tombstones import CLAIM_USED_S, Tombstones
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress

PACKS_A_CLAIM = 50_000
"""A claim of so many packs has some 3 MB."""
FAR_SHARDS_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class FarPublisher:
    """Makes what the journal has of an import part of the remote, for one repository."""

    remote: RemoteStore
    known: Known
    repo_id: str
    journal: Journal
    progress: Progress

    def publish(self, target: str, manifest: Manifest, shards: Sequence[Digest]) -> set[Digest]:
        """Publish shard objects and a root for a manifest; return the packs that are not there.

        If any are missing, nothing was published. RemoteError if the remote does not confirm what
        it took; BusyError if that took longer than claims are good for.
        """
        started = time.monotonic()
        with contextlib.ExitStack() as claims:
            tombstones = Tombstones(self.remote)
            claims.enter_context(tombstones.claimed(shards=shards, packs=()))
            for packs in self._packs(PACKS_A_CLAIM):
                names = [pack.digest for pack in packs]
                claims.enter_context(tombstones.claimed(shards=(), packs=names))
            lost = self._missing_packs()
            if lost:
                return lost
            self._put_shards()
            self._see_shards(shards)
            if time.monotonic() - started > CLAIM_USED_S:
                raise BusyError(
                    f"{self.remote.url} took longer than {CLAIM_USED_S // 60} minutes for the "
                    "shards of this import",
                    hint="repeat the command: it goes on",
                )
            self._put_root(target, manifest, shards)
        return set()

    def _packs(self, count: int) -> Iterator[list[PackThere]]:
        each = (pack for packs in self.journal.packs() for pack in packs)
        while run := list(islice(each, count)):
            yield run

    # --- packs ----------------------------------------------------------------------------

    def _missing_packs(self) -> set[Digest]:
        """Ask the remote for every pack; remember those that it has, return the others."""
        count, _ = self.journal.packs_total()
        self.progress.start(f"asking {self.remote.url} for {count_text(count, 'pack')}")
        lost: set[Digest] = set()
        try:
            for packs, seen in self._seen(count):
                sound = self.remote.confirmed(object_infos(packs), seen)
                self.known.add_objects(sound.values())
                for pack, info in zip(packs, object_infos(packs), strict=True):
                    if info.key not in sound:
                        lost.add(pack.digest)
        finally:
            self.progress.finish()
        return lost

    def _seen(self, count: int) -> Iterator[tuple[list[PackThere], Mapping[str, ObjectInfo]]]:
        """Yield the packs, some at a time, with what the remote says of them.

        Of many packs the remote's listing is read once, beside ours: both are sorted.
        """
        if count > LISTED_MAX:
            with contextlib.suppress(RemoteForbidden):
                listed = self.remote.backend.list("packs/")
                ahead = next(listed, None)
                for packs in self._packs(LISTED_MAX):
                    infos = object_infos(packs)
                    seen: dict[str, ObjectInfo] = {}
                    wanted = {info.key for info in infos}
                    while ahead is not None and ahead.key <= infos[-1].key:
                        if ahead.key in wanted:
                            seen[ahead.key] = ahead
                        ahead = next(listed, None)
                    yield packs, seen
                return
        for packs in self._packs(LISTED_MAX):
            yield packs, self.remote.look([info.key for info in object_infos(packs)])

    # --- shards and root ------------------------------------------------------------------

    def _put_shards(self) -> None:
        infos: dict[str, ObjectInfo] = {}
        for shard, info in run_bounded(
            lambda made: self.remote.put_shard(made.digest, made.data),
            self.journal.shards(),
            size_of=lambda made: len(made.data),
            budget_bytes=FAR_SHARDS_MAX_BYTES,
        ):
            infos[info.key] = info
            self._remember(shard)
        self._prove(infos.values())
        self.known.add_objects(infos.values())

    def _remember(self, shard: ShardMade) -> None:
        self.known.add_shards({shard.digest: split_digests(shard.packs)})

    def _see_shards(self, shards: Sequence[Digest]) -> None:
        """See that the shards which were there before still are."""
        put = set(self.journal.shard_names())
        keys = [shard_key(digest) for digest in shards if digest not in put]
        there = self.remote.look(keys)
        self._refuse_lost([key for key in keys if key not in there])

    def _put_root(self, target: str, manifest: Manifest, shards: Sequence[Digest]) -> None:
        """Add a root for the manifest, unless one that is there now names it."""
        digest = manifest_digest(manifest)
        if prove_roots(self.remote, self.known, self.repo_id, [digest]):
            return
        named = RootManifest(target, digest.hex(), [shard.hex() for shard in shards])
        name, info = self.remote.put_root(self.repo_id, [named])
        self._prove([info])
        self.known.add_objects([ObjectInfo(root_key(self.repo_id, name), info.size, info.md5)])
        self.known.add_root(name, [digest])

    def _prove(self, expected: Iterable[ObjectInfo]) -> None:
        infos = list(expected)
        there = self.remote.look([info.key for info in infos])
        sound = self.remote.confirmed(infos, there)
        self._refuse_lost([info.key for info in infos if info.key not in sound])

    def _refuse_lost(self, keys: Sequence[str]) -> None:
        if keys:
            raise RemoteError(
                f"{self.remote.url} took these without an error but does not have them, or not "
                f"as they were sent:\n{listing(keys)}",
                hint="repeat the command; if this stays, the store loses data: use another",
            )


def packs_proven(
    known: Known, manifest: Manifest, whole: Iterable[Digest]
) -> dict[Digest, list[PackThere]]:
    """Return shard -> its packs, for the shards of a manifest that were proven whole."""
    names = {ref.digest for ref in manifest_shards(manifest)}.intersection(whole)
    packs = known.shards(names)
    keys = {pack_key(pack): pack for pointed in packs.values() for pack in pointed}
    sizes = {keys[info.key]: info.size for info in known.objects(keys)}
    return {
        shard: [PackThere(pack, sizes[pack], None) for pack in pointed]
        for shard, pointed in packs.items()
        if sizes.keys() >= set(pointed)
    }
