"""Proof that a remote holds content: its own word, at that moment, on every object concerned."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from dvtool.errors import CorruptError, MissingError, RemoteForbidden
from dvtool.format.digest import Digest
from dvtool.format.locations import Located, RemotePack
from dvtool.format.manifest import ShardRef
from dvtool.remotes.known import Known
from dvtool.remotes.objects import FetchedShard, pack_key, root_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstones
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.parallel import run_bounded

SHARDS_HELD_MAX = 64
LEARNED_AT_ONCE = 32
"""So many shards are held at a time: one of 4,096 files takes 3 MB with its locations."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The manifests that roots of a repository name, and their shards, by hash."""

    manifests: set[Digest]
    shards: set[Digest]


@dataclass(frozen=True, slots=True)
class Proven:
    """The objects that a remote was seen to hold: whole shards, sound roots by key, the rest.

    `gone` are the keys of objects that it was known to have and has no more, as far as it was
    looked at; `lost` those of shards among them, or that point to such packs.
    """

    shards: frozenset[Digest] = frozenset()
    roots: frozenset[str] = frozenset()
    there: Mapping[str, ObjectInfo] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


def confirm(
    remote: RemoteStore, known: Known, keys: Collection[str], seen: Mapping[str, ObjectInfo]
) -> set[str]:
    """Return the keys whose objects are whole by the remote's own word, `seen`.

    Where the remote contradicts what is remembered here, its word replaces that.
    """
    expected = {info.key: info for info in known.objects(keys)}
    sound = remote.confirmed(expected.values(), seen)
    known.add_objects(info for key, info in sound.items() if info != expected[key])
    return set(sound)


def confirm_packs(
    remote: RemoteStore, known: Known, packs: Iterable[Digest], seen: Mapping[str, ObjectInfo]
) -> set[Digest]:
    """Return the packs that are whole by the remote's own word; the others are forgotten."""
    by_key = {pack_key(pack): pack for pack in packs}
    sound = confirm(remote, known, by_key, seen)
    known.forget_packs(pack for key, pack in by_key.items() if key not in sound)
    return {by_key[key] for key in sound}


def believable_packs(
    remote: RemoteStore,
    known: Known,
    packs: Iterable[RemotePack],
    seen: Mapping[str, ObjectInfo],
) -> set[RemotePack]:
    """Return the packs, named by others, that the remote holds and nothing is known against.

    The remote must state the size that the others state; and the MD5, where it is known here.
    """
    by_key = {pack_key(pack.digest): pack for pack in packs}
    expected = {key: ObjectInfo(key, pack.size) for key, pack in by_key.items()}
    for info in known.objects(by_key):
        if info.size == by_key[info.key].size:
            expected[info.key] = info
    return {by_key[key] for key in remote.confirmed(expected.values(), seen)}


def prove_shards(
    remote: RemoteStore,
    known: Known,
    shards: Mapping[Digest, ShardRef],
    *,
    roots: Collection[str] = (),
) -> Proven:
    """Ask the remote for shards, for the packs that they point into, and for roots by their keys.

    A shard is whole if the remote has it with every pack that it points into, each with its right
    size (and MD5). Earlier knowledge of it is believed only as far as the remote says the same now.
    """
    believed = known.shards(shards)
    packs = {pack for pointed in believed.values() for pack in pointed}
    keys = {shard_key(digest) for digest in shards} | {pack_key(pack) for pack in packs}
    seen = remote.look_around(keys.union(roots))
    objects = seen.there
    gone = known.keys_until(seen.until) - objects.keys()
    gone |= {info.key for info in known.objects(keys.union(roots)) if info.key not in objects}
    sound_packs = confirm_packs(remote, known, packs, objects)
    sound = confirm(remote, known, [*map(shard_key, believed), *roots], objects)
    proven = {
        digest
        for digest, pointed in believed.items()
        if shard_key(digest) in sound and sound_packs.issuperset(pointed)
    }
    foreign = [
        ref
        for digest, ref in shards.items()
        if digest not in proven and shard_key(digest) in objects
    ]
    proven |= learn_shards(remote, known, foreign)
    lost = frozenset(shard_key(digest) for digest in believed if digest not in proven)
    sound_roots = frozenset(sound.intersection(roots))
    return Proven(frozenset(proven), sound_roots, objects, frozenset(gone), lost)


def learn_shards(remote: RemoteStore, known: Known, refs: Iterable[ShardRef]) -> set[Digest]:
    """Read shards on the remote; return those whose packs are all there.

    Their locations are remembered, as far as the packs are there.
    """
    whole: set[Digest] = set()
    asked: set[RemotePack] = set()
    sound: set[RemotePack] = set()
    left = iter(refs)
    while batch := list(islice(left, LEARNED_AT_ONCE)):
        fetched = {
            ref.digest: shard
            for ref, shard in run_bounded(lambda ref: _get_or_none(remote, ref), batch)
            if shard is not None
        }
        packs = {pack for shard in fetched.values() for pack in shard.packs()}
        if fresh := packs - asked:
            seen = remote.look([pack_key(pack.digest) for pack in fresh])
            sound |= believable_packs(remote, known, fresh, seen)
            asked |= fresh
        known.learn(fetched, sound & packs)
        whole.update(
            digest
            for digest, shard in fetched.items()
            if shard.complete and sound.issuperset(shard.packs())
        )
    return whole


def _get_or_none(remote: RemoteStore, ref: ShardRef) -> FetchedShard | None:
    """Return a shard object from the remote, None if it is absent or damaged."""
    try:
        return remote.get_shard(ref)
    except (CorruptError, MissingError):
        return None


def located_now(
    remote: RemoteStore, known: Known, chunks: Iterable[Digest]
) -> dict[Digest, Located]:
    """Return the locations of chunks in packs that the remote confirmed just now."""
    wanted = list(chunks)
    proven: dict[Digest, Located] = {}
    while wanted:
        # A pack that is not there is forgotten; the chunk may then turn up in another.
        located = known.located(wanted)
        packs = {chunk.pack.digest for chunk in located.values()}
        seen = remote.look([pack_key(pack) for pack in packs])
        sound = confirm_packs(remote, known, packs, seen)
        proven.update({d: chunk for d, chunk in located.items() if chunk.pack.digest in sound})
        wanted = [digest for digest in located if digest not in proven]
    return proven


def prove_roots(
    remote: RemoteStore,
    known: Known,
    repo_id: str,
    manifests: Collection[Digest],
    *,
    sound: Collection[str] = (),
    doomed: Collection[str] = (),
) -> set[Digest]:
    """Return those of the manifests that a root of this repository on the remote names.

    `sound` are the keys of roots known to be there; others are listed and read if needed. The
    `doomed` ones, which a gc is about to take away, prove nothing.
    """
    claimed = known.roots(manifests)
    doubtful = {name for name in claimed.values() if root_key(repo_id, name) not in sound}
    rooted = {
        manifest
        for manifest, name in claimed.items()
        if name not in doubtful and root_key(repo_id, name) not in doomed
    }
    if rooted.issuperset(manifests):
        return rooted
    try:
        names = {n for n in remote.root_names(repo_id) if root_key(repo_id, n) not in doomed}
    except RemoteForbidden:
        return rooted  # roots of others cannot be known; to push their content again does no harm
    # A root that is listed may still be damaged: those that would prove something are read.
    unread = (names - known.root_names()) | (names & doubtful)
    for name, answer in run_bounded(lambda name: remote.sound_root(repo_id, name), sorted(unread)):
        if answer is None:
            names.discard(name)
            continue
        root, info = answer
        known.add_objects([info])
        known.add_root(name, [bytes.fromhex(manifest.manifest) for manifest in root.manifests])
    return {manifest for manifest, name in known.roots(manifests).items() if name in names}


def kept_chunks(
    remote: RemoteStore, known: Known, repo_id: str, chunks: Collection[Digest]
) -> tuple[dict[Digest, Located], Kept]:
    """Return where a remote holds, and will keep, those of the chunks that it does.

    That is what the shards say that roots of this repository name, in packs that are there now,
    each with its size; and what the remote keeps besides.
    """
    tombstones = Tombstones(remote)
    doomed = tombstones.doomed_roots(tombstones.look())
    kept = Kept(set(), set())
    for _, read in run_bounded(
        lambda name: remote.sound_root(repo_id, name),
        [n for n in remote.root_names(repo_id) if root_key(repo_id, n) not in doomed],
    ):
        for manifest in read[0].manifests if read is not None else ():
            kept.manifests.add(bytes.fromhex(manifest.manifest))
            kept.shards.update(bytes.fromhex(name) for name in manifest.shards)
    wanted = set(chunks)
    located: dict[Digest, Located] = {}
    for digests in _shard_batches(sorted(kept.shards)):
        if wanted.issubset(located):
            break
        fetched = {
            digest: shard
            for digest, shard in run_bounded(lambda d: _named_or_none(remote, d), digests)
            if shard is not None
        }
        for shard in fetched.values():
            for chunks_of_content in shard.locations.values():
                for chunk in chunks_of_content:
                    if chunk.placement.digest in wanted:
                        located[chunk.placement.digest] = chunk
        known.learn(fetched, {pack for shard in fetched.values() for pack in shard.packs()})
    packs = {chunk.pack for chunk in located.values()}
    seen = remote.look([pack_key(pack.digest) for pack in packs])
    sound = believable_packs(remote, known, packs, seen)
    return {digest: chunk for digest, chunk in located.items() if chunk.pack in sound}, kept


def _named_or_none(remote: RemoteStore, digest: Digest) -> FetchedShard | None:
    try:
        return remote.read_shard(digest)
    except (CorruptError, MissingError):
        return None


def _shard_batches(digests: Sequence[Digest]) -> Iterator[Sequence[Digest]]:
    for at in range(0, len(digests), SHARDS_HELD_MAX):
        yield digests[at : at + SHARDS_HELD_MAX]
