"""The hints in store.db about a remote's objects, which the remote confirms before use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dvtool.format.digest import Digest
from dvtool.format.locations import ChunkPlaces, Located, RemotePack
from dvtool.format.pack import Placement
from dvtool.remotes.objects import FetchedShard, ShardAtHand, pack_key, shard_key
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.store.database import Database


class Known:
    """The part of store.db that is about one remote, named by the id in its dv.json."""

    def __init__(self, db: Database, remote_id: str, *, reading: bool = False) -> None:
        """Take the index; with `reading` a remote that it does not know is not noted in it."""
        self._db = db
        self._facts = db.remotes
        facts = db.remotes
        self._number = facts.known_number(remote_id) if reading else facts.number(remote_id)

    def objects(self, keys: Iterable[str]) -> list[ObjectInfo]:
        """Return the size of known objects, and their MD5 if the remote states it."""
        return [ObjectInfo(*row) for row in self._facts.objects(self._number, keys)]

    def add_objects(self, objects: Iterable[ObjectInfo]) -> None:
        """Remember the size and MD5 of objects of any kind."""
        rows = [(info.key, info.size, info.md5) for info in objects]
        self._facts.add_objects(self._number, rows)

    def keys_until(self, until: str) -> set[str]:
        """Return the keys, up to this one, of the objects that are known."""
        return self._facts.keys_until(self._number, until) if until else set()

    def forget_objects(self, keys: Iterable[str]) -> None:
        """Forget objects that are not there any more."""
        self._facts.forget_objects(self._number, keys)

    def shards(self, digests: Iterable[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return shard -> the packs that its locations point into."""
        return self._facts.shards(self._number, digests)

    def add_shards(
        self, shards: Mapping[Digest, Iterable[Digest]], referring: Collection[Digest] = ()
    ) -> None:
        """Remember the packs of shard objects that were proven to be there.

        The `referring` ones name contents that are at a source, and in no pack.
        """
        self._facts.add_shards(self._number, shards, referring)

    def referring(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the shards that name contents which are at a source."""
        return self._facts.referring(self._number, digests)

    def roots(self, manifests: Iterable[Digest]) -> dict[Digest, str]:
        """Return manifest -> id of the root that names it."""
        return self._facts.roots(self._number, manifests)

    def root_names(self) -> set[str]:
        """Return the ids of the roots that were read or written here."""
        return self._facts.root_names(self._number)

    def add_root(self, root: str, manifests: Iterable[Digest]) -> None:
        """Remember a root that was proven to be there."""
        self._facts.add_root(self._number, root, manifests)

    def rooted_manifests(self) -> set[Digest]:
        """Return the manifests that some root is remembered to name."""
        return self._facts.rooted_manifests(self._number)

    def named_by_root(self, root: str) -> set[Digest]:
        """Return the manifests that a root names, all of them if it was read or written here."""
        return self._facts.manifests_of_root(self._number, root)

    def commits(self) -> list[str]:
        """Return commits that were pushed from here, with all commits before them."""
        return self._facts.pushed_commits(self._number)

    def add_commits(self, commits: Iterable[str]) -> None:
        """Remember commits whose manifests, with those of all commits before, were proven there."""
        self._facts.add_pushed_commits(self._number, commits)

    def forget_commits(self) -> None:
        """Forget which commits were pushed, since the remote lost something that was proven."""
        self._facts.forget_pushed_commits(self._number)

    def located(self, chunks: Iterable[Digest]) -> dict[Digest, Located]:
        """Return chunk -> its presumed location."""
        return self._db.located(self._number, chunks)

    def placed(self, chunks: Iterable[Digest]) -> ChunkPlaces:
        """Return the presumed locations of chunks, as rows."""
        return self._db.placed(self._number, chunks)

    def local_packs(self, packs: Mapping[int, RemotePack]) -> dict[int, RemotePack]:
        """Return those of the local packs, by number, that the remote should have, as it does."""
        sizes = self.packs()
        return {
            number: RemotePack(pack.digest, sizes[pack.digest])
            for number, pack in packs.items()
            if pack.digest in sizes
        }

    def chunk_lists(self, files: Iterable[Digest]) -> dict[Digest, tuple[Digest, ...]]:
        """Return file -> chunks, for files of which the remote should have every chunk."""
        wanted = list(files)
        lists = self._facts.recipes(self._number, wanted)
        single = self.located(digest for digest in wanted if digest not in lists)
        return lists | {digest: (digest,) for digest in single}

    def add_pack(
        self, pack: RemotePack, places: Iterable[Placement], *, md5: bytes | None = None
    ) -> None:
        """Remember a pack; `places` unless the same pack is in the local store."""
        self._facts.add_pack(self._number, pack, places)
        self.add_objects([ObjectInfo(pack_key(pack.digest), pack.size, md5)])

    def expect(
        self, packs: Iterable[RemotePack], recipes: Mapping[Digest, Iterable[Digest]]
    ) -> None:
        """Remember packs that are about to be fetched whole, and files that chunks there make.

        The index lists such a pack before its files, which are tried first. After an interruption
        these hints show that the next fetch will list the files: the index did not lose them.
        """
        keyed = [(pack, pack_key(pack.digest)) for pack in packs]
        self._facts.add_layout(self._number, keyed, recipes)

    def packs(self) -> dict[Digest, int]:
        """Return id -> size in bytes of the packs that should be there."""
        return self._facts.packs(self._number)

    def pending(self) -> set[Digest]:
        """Return the packs of pushes that were interrupted before they were published."""
        return self._facts.pending_packs(self._number)

    def set_pending(self, packs: Iterable[Digest], *, pending: bool) -> None:
        """Remember whether the push that uploaded these packs is still under way."""
        self._facts.set_pending(self._number, packs, pending=pending)

    def forget_packs(self, packs: Iterable[Digest]) -> None:
        """Forget packs that are not there, with all chunks believed to be in them."""
        self._facts.forget_packs(self._number, packs)

    def learn_held(self, shards: Mapping[Digest, tuple[ShardAtHand, Iterable[RemotePack]]]) -> None:
        """Remember shards whose packs, given with each, are all here byte for byte.

        They name no content that is at a source. Packs and recipes are known: see `expect`.
        """
        self.add_objects(
            ObjectInfo(shard_key(digest), shard.size, shard.md5)
            for digest, (shard, _) in shards.items()
        )
        self.add_shards({d: {pack.digest for pack in packs} for d, (_, packs) in shards.items()})

    def learn(
        self,
        shards: Mapping[Digest, FetchedShard],
        sound: Collection[RemotePack],
        *,
        held: Collection[Digest] = (),
    ) -> None:
        """Take over the locations of shards from the remote.

        Only packs in `sound` count. Placements in packs in `held`, which the local store has byte
        for byte, need not be kept.
        """
        places: dict[RemotePack, set[Placement]] = {pack: set() for pack in sound}
        recipes: dict[Digest, list[Digest]] = {}
        for shard in shards.values():
            for file, chunks in shard.locations.items():
                if len(chunks) > 1:
                    recipes[file] = [chunk.placement.digest for chunk in chunks]
                for chunk in chunks:
                    if chunk.pack in places and chunk.pack.digest not in held:
                        places[chunk.pack].add(chunk.placement)
        known = self._facts.packs(self._number)
        for pack, placements in places.items():
            self._facts.add_pack(self._number, pack, placements)
            if pack.digest not in known:
                self.add_objects([ObjectInfo(pack_key(pack.digest), pack.size)])
        self._facts.add_recipes(self._number, recipes)
        whole = {
            digest: shard
            for digest, shard in shards.items()
            if shard.complete and shard.packs() <= set(sound)
        }
        self.add_objects(
            ObjectInfo(shard_key(d), shard.size, shard.md5) for d, shard in whole.items()
        )
        # The references first: a shard that is known to refer must find what it refers to.
        named = [pair for shard in shards.values() for pair in shard.references.items()]
        if named:
            self._db.references.add(named)
        self.add_shards(
            {digest: {pack.digest for pack in shard.packs()} for digest, shard in whole.items()},
            {digest for digest, shard in whole.items() if shard.references},
        )
