"""fsck's repair of the damaged roots of a repository on a remote."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from dvtool.errors import CorruptError, ObjectMissing
from dvtool.format.digest import Digest
from dvtool.format.locations import RemotePack
from dvtool.format.manifest import manifest_digest, manifest_shards
from dvtool.project.history import FOR_NAMING, versions
from dvtool.remotes.objects import RootManifest, pack_key, root_key, shard_key
from dvtool.remotes.repack import require
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.verbs.fsck.damaged import DamagedRemote


def mend_roots(at: DamagedRemote) -> None:
    """Name what is known here by a new root; remove damaged roots that are covered with that."""
    _RootRepair(at).run()


class _RootRepair:
    def __init__(self, at: DamagedRemote) -> None:
        self.at = at

    def run(self) -> None:
        """Name by a new root what is known here; drop a damaged one that is covered with that.

        Its own bytes cannot be made again: a part of them is random.
        """
        names = sorted(self.at.found.bad_roots)
        if not names:
            return
        named_by = {name: self.at.known.named_by_root(name) for name in names}
        rooted = self._rooted()
        added = self._add_root(
            [
                manifest
                for digest, manifest in self._manifests_here().items()
                if digest not in rooted
            ]
        )
        rooted = self._rooted()
        for name in names:
            key = root_key(self.at.repo_id, name)
            named = named_by[name]
            if named and named <= rooted:
                self.at.set_aside(key)
                self.at.remote.backend.delete(key)
                self.at.repaired(key, "other roots name all that it named; it is in aside/")
            elif named:
                self.at.failed(
                    key, "not all that it named is whole there: run dv push, then repeat"
                )
            else:
                self.at.failed(
                    key, "it may name manifests of other clones; repeat this in the one that pushed"
                )
        # Not before: it takes the place of what is known of the damaged ones, which a repetition
        # of this needs, should it be interrupted.
        for info, name, manifests in added:
            self.at.known.add_objects([info])
            self.at.known.add_root(name, manifests)

    def _rooted(self) -> set[Digest]:
        """Return the manifests that sound roots name, without roots that a gc is to remove."""
        doomed = self.at.tombstones.doomed_roots(self.at.tombstones.look())
        rooted: set[Digest] = set()
        for name in self.at.remote.root_names(self.at.repo_id):
            if root_key(self.at.repo_id, name) not in doomed:
                with contextlib.suppress(CorruptError, ObjectMissing):
                    root, _ = self.at.remote.get_root(self.at.repo_id, name)
                    rooted.update(bytes.fromhex(manifest.manifest) for manifest in root.manifests)
        return rooted

    def _add_root(
        self, wanted: Sequence[RootManifest]
    ) -> list[tuple[ObjectInfo, str, list[Digest]]]:
        """Add a root for those of the manifests of which the remote has everything.

        Return it, its id and the manifests; nothing if there are none.
        """
        pointed = self._pointed(
            {bytes.fromhex(shard) for manifest in wanted for shard in manifest.shards}
        )
        whole = [
            manifest
            for manifest in wanted
            if all(bytes.fromhex(s) in pointed for s in manifest.shards)
        ]
        shards = {bytes.fromhex(shard) for manifest in whole for shard in manifest.shards}
        packs = {pack for shard in shards for pack in pointed[shard]}
        if not whole:
            return []
        with self.at.tombstones.claimed(shards=shards, packs={pack.digest for pack in packs}):
            expected: dict[str, int | None] = dict.fromkeys(map(shard_key, shards))
            require(self.at.remote, expected | {pack_key(pack.digest): pack.size for pack in packs})
            name, info = self.at.remote.put_root(self.at.repo_id, whole)
            self.at.prove({info.key: info.size})
        return [(info, name, [bytes.fromhex(manifest.manifest) for manifest in whole])]

    def _pointed(self, shards: Collection[Digest]) -> dict[Digest, set[RemotePack]]:
        """Return shard -> the packs it points to, for shards that are whole there, packs too."""
        packs_of: dict[Digest, set[RemotePack]] = {}
        for digest in sorted(shards):
            with contextlib.suppress(CorruptError, ObjectMissing):
                shard = self.at.remote.read_shard(digest)
                if shard.complete:
                    packs_of[digest] = set(shard.packs())
        every = {pack for packs in packs_of.values() for pack in packs}
        infos = self.at.remote.look([pack_key(pack.digest) for pack in every])
        gone = {
            pack
            for pack in every
            if (info := infos.get(pack_key(pack.digest))) is None or info.size != pack.size
        }
        return {digest: packs for digest, packs in packs_of.items() if packs.isdisjoint(gone)}

    def _manifests_here(self) -> dict[Digest, RootManifest]:
        """Return every manifest of this clone as a root names it, in the order of a push."""
        manifests: dict[Digest, RootManifest] = {}
        for version in versions(self.at.project, FOR_NAMING):
            if version.target and version.blob:
                digest = manifest_digest(version.manifest)
                shards = [ref.blake3 for ref in manifest_shards(version.manifest)]
                manifests.setdefault(digest, RootManifest(version.target, digest.hex(), shards))
        return manifests
