"""Proof that a remote holds content: its own word, at that moment, on every object concerned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dvtool.digest import Digest
from dvtool.errors import CorruptError, MissingError
from dvtool.manifest import ShardRef
from dvtool.parallel import run_bounded
from dvtool.shard import Located
from dvtool.store.known import Known
from dvtool.store.remote import (
    FetchedShard,
    RemoteStore,
    Root,
    pack_key,
    root_key,
    shard_key,
)


def prove_shards(
    remote: RemoteStore,
    known: Known,
    shards: Mapping[Digest, ShardRef],
    *,
    also: Iterable[str] = (),
) -> tuple[dict[str, int], set[Digest]]:
    """Return key -> size as the remote says, and the shards that are whole there.

    A shard is whole if the remote has it with every pack that it points into, each with its right
    size. What is known of it is believed only as far as the remote says the same now. The keys
    `also` are asked for on the way.
    """
    believed = known.shards(shards)
    packs = {pack for _, pointed in believed.values() for pack in pointed}
    keys = {pack_key(pack) for pack in packs} | {shard_key(digest) for digest in shards}
    there = remote.sizes(keys.union(also))
    sound = known.confirm(packs, there)
    proven = {
        digest
        for digest, (size, pointed) in believed.items()
        if there.get(shard_key(digest)) == size and sound.issuperset(pointed)
    }
    foreign = [
        ref for digest, ref in shards.items() if digest not in proven and shard_key(digest) in there
    ]
    return there, proven | learn_shards(remote, known, foreign)


def learn_shards(remote: RemoteStore, known: Known, refs: Iterable[ShardRef]) -> set[Digest]:
    """Read what shards on the remote say; return those whose packs are all there.

    Where their content lies is remembered, as far as the packs are there.
    """
    fetched: dict[Digest, FetchedShard] = {}
    for ref, shard in run_bounded(lambda ref: _get_or_none(remote, ref), refs):
        if shard is not None:
            fetched[ref.digest] = shard
    if not fetched:
        return set()
    packs = {pack for shard in fetched.values() for pack in shard.packs()}
    there = remote.sizes([pack_key(pack.digest) for pack in packs])
    sound = {pack for pack in packs if there.get(pack_key(pack.digest)) == pack.size}
    known.learn(fetched, sound)
    return {
        digest
        for digest, shard in fetched.items()
        if shard.complete and sound.issuperset(shard.packs())
    }


def _get_or_none(remote: RemoteStore, ref: ShardRef) -> FetchedShard | None:
    """Return a shard object as it is there; a damaged one is as good as none."""
    try:
        return remote.get_shard(ref)
    except (CorruptError, MissingError):
        return None


def located_now(
    remote: RemoteStore, known: Known, chunks: Iterable[Digest]
) -> dict[Digest, Located]:
    """Return where the remote has chunks, in packs that it said just now that it has."""
    wanted = list(chunks)
    found: dict[Digest, Located] = {}
    while wanted:
        # A pack that is not there is forgotten; the chunk may then turn up in another.
        located = known.located(wanted)
        packs = {chunk.pack.digest for chunk in located.values()}
        there = remote.sizes([pack_key(pack) for pack in packs])
        sound = known.confirm(packs, there)
        found.update({d: chunk for d, chunk in located.items() if chunk.pack.digest in sound})
        wanted = [digest for digest in located if digest not in found]
    return found


def prove_roots(
    remote: RemoteStore,
    known: Known,
    repo_id: str,
    manifests: Collection[Digest],
    there: Mapping[str, int],
) -> set[Digest]:
    """Return those of the manifests that a root of this repository on the remote names.

    `there` is what the remote said of the roots known; others are listed and read if needed.
    """
    rooted = {
        manifest
        for manifest, name in known.roots(manifests).items()
        if root_key(repo_id, name) in there
    }
    if rooted.issuperset(manifests):
        return rooted
    names = set(remote.root_names(repo_id))
    for name, root in run_bounded(
        lambda name: _root_or_none(remote, repo_id, name), sorted(names - known.root_names())
    ):
        if root is not None:
            known.add_root(name, [bytes.fromhex(one.manifest) for one in root.manifests])
    return {manifest for manifest, name in known.roots(manifests).items() if name in names}


def _root_or_none(remote: RemoteStore, repo_id: str, name: str) -> Root | None:
    """Return a root; one that is damaged or gone by now proves nothing."""
    try:
        return remote.get_root(repo_id, name)
    except (CorruptError, MissingError):
        return None
