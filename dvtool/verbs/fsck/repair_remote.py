"""fsck's repair of a remote: damaged objects are replaced, and content gets sound places.

A pack that is here byte for byte goes up again under its key. Of others the content goes up in new
packs, and the shard objects that point there get new locations. The order is that of a push: packs,
proof, shards, proof, roots. A damaged object is copied below `aside/` before anything replaces it;
one that nothing replaces is left where it is. Shards and roots are written under a claim, so that
a gc that removes things meanwhile spares what they name; see `dvtool.remotes.tombstones`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dvtool.errors import CorruptError, DvError, MissingError, ObjectMissing
from dvtool.format.digest import READ_SIZE_BYTES, Digest, digest_of, hasher
from dvtool.format.locations import Located, RemotePack, contents_of, encode_object
from dvtool.format.manifest import (
    Entries,
    decode_any_shard,
    shard_refs,
)
from dvtool.format.pack import PACK_SIZE_MAX_BYTES, Placement
from dvtool.format.references import Reference
from dvtool.project.history import FOR_NAMING, versions
from dvtool.project.parts import Project
from dvtool.remotes.objects import MARK, FetchedShard, pack_key, places_in_order, shard_key
from dvtool.remotes.pack_probe import download_check
from dvtool.remotes.proof import located_now
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.repack import require
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.store import mending
from dvtool.store.packcheck import PackCheck, read_chunks
from dvtool.verbs.fsck.damaged import DamagedRemote
from dvtool.verbs.fsck.findings import RemoteCheck
from dvtool.verbs.fsck.repair_roots import mend_roots

Bring = Callable[[Collection[Digest]], None]
"""Sees to it that the local store has contents, as far as good copies can be reached."""


@dataclass(slots=True)
class _Shard:
    """A shard to be written anew: its text and entries, and what it says now, if readable."""

    text: bytes
    entries: Entries
    old: FetchedShard | None
    chunks: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    """Content -> its chunks, where these are known."""
    doubted: Set[Digest] = frozenset()
    """Contents that do not come out of the places it says: only what was tried here says how."""


def mend_remote(
    project: Project, remote: RemoteStore, repo_id: str, checked: RemoteCheck, bring: Bring
) -> None:
    """Mend what a check found on a remote, as far as good copies can be reached; say so there."""
    _Mend(DamagedRemote(project, remote, repo_id, checked), bring).run()


class _Mend:
    def __init__(self, at: DamagedRemote, bring: Bring) -> None:
        self.at = at
        self.store = at.store
        self.remote = at.remote
        self.found = at.found
        self.bring = bring
        self.tombstones = at.tombstones
        self.left = dict(at.found.bad_packs)
        """Packs that are not sound there yet."""
        self.places: dict[Digest, Located] = {}
        """Chunk -> where the remote has it for certain."""

    def run(self) -> None:
        if self.found.mark_lost:
            self._mend_mark()
        self.known = self.at.known
        self._put_packs_again()
        self._keep_good_chunks()
        self._mend_shards()
        mend_roots(self.at)
        self._judge_packs()
        self.known.forget_packs(self.left)  # no later push shall count on those

    def _mend_mark(self) -> None:
        self.at.set_aside(MARK)
        self.remote.renew_mark()
        self.at.repaired(MARK, "a new one is there, with a new id")

    # --- packs ----------------------------------------------------------------------------

    def _put_packs_again(self) -> None:
        """Upload the packs that are here byte for byte, under their keys."""
        for digest in sorted(self.left):
            path = self.store.pack_path(digest)
            if not _is_pack(path, digest):
                continue
            key = pack_key(digest)
            self.at.set_aside(key)
            with open(path, "rb") as file:
                self.remote.put_pack(digest, file)
            size = os.path.getsize(path)
            self.at.prove({key: size})
            self.known.add_pack(RemotePack(digest, size), ())
            del self.left[digest]
            self.at.repaired(key, "the same pack, which is here, was uploaded again")

    def _keep_good_chunks(self) -> None:
        """Take what is still good of damaged packs into the local store."""
        for digest in sorted(self.left):
            info = self.remote.backend.head(pack_key(digest))
            if info is None or info.size > PACK_SIZE_MAX_BYTES:
                continue
            claimed = tuple(self._claims(digest))
            with contextlib.suppress(MissingError, CorruptError):
                download_check(
                    self.store,
                    self.remote,
                    digest,
                    info.size,
                    known=claimed,
                    keep=self._keep,
                )

    def _keep(self, path: str, check: PackCheck) -> None:
        places = [placement for placement in check.places if placement.digest not in check.bad]
        held = self.store.db.held_chunks(placement.digest for placement in places)
        wanted = [placement for placement in places if placement.digest not in held]
        if wanted:
            self.store.adopt(mending.packs_of(self.store, read_chunks(path, wanted)))

    def _claims(self, pack: Digest) -> Iterator[Placement]:
        for shard in sorted(self.found.pointing.get(pack, ())):
            with contextlib.suppress(CorruptError, ObjectMissing):
                for chunks in self.remote.read_shard(shard).locations.values():
                    yield from (c.placement for c in chunks if c.pack.digest == pack)

    # --- shards ---------------------------------------------------------------------------

    def _mend_shards(self) -> None:
        """Give sound places to every shard that is damaged or points to a damaged pack."""
        digests = set(self.found.bad_shards)
        for pack in self.left:
            digests |= self.found.pointing.get(pack, set())
        if not digests:
            return
        self._find_certain()
        texts = self._texts_here(digests)
        for digest in sorted(digests):  # one at a time: a shard can be large
            try:
                self._mend_shard(digest, texts.get(digest))
            except DvError as error:
                self.at.failed(shard_key(digest), str(error).partition("\n")[0])

    def _find_certain(self) -> None:
        """Note where the remote has chunks by packs that are here too, byte for byte."""
        packs = {p.digest: (n, p) for n, p in self.store.db.packs().items()}
        infos = self.remote.look([pack_key(digest) for digest in packs])
        for digest, (number, pack) in packs.items():
            info = infos.get(pack_key(digest))
            if info is not None and info.size == pack.size and digest not in self.left:
                for placement in self.store.db.chunks_in(number):
                    self.places[placement.digest] = Located(pack, placement)

    def _texts_here(self, digests: Set[Digest]) -> dict[Digest, bytes]:
        """Return the texts of shards by what git and the local store have."""
        texts: dict[Digest, bytes] = {}
        for version in versions(self.at.project, FOR_NAMING):
            if version.manifest.entries is not None:
                for cut in shard_refs(version.manifest.entries):
                    if cut.ref.digest in digests:
                        texts[cut.ref.digest] = cut.text
        for digest in digests - texts.keys():
            with contextlib.suppress(MissingError, CorruptError):
                text = self.store.shard_text(digest)
                if digest_of(text) == digest:
                    texts[digest] = text
        return texts

    def _mend_shard(self, digest: Digest, text: bytes | None) -> None:
        shard = self._shard(digest, text)
        references = self._references(shard)
        contents = {c: n for c, n in contents_of(shard.entries).items() if c not in references}
        bad = digest in self.found.bad_shards
        self._learn_chunks(shard, contents)
        homeless = self._homeless(shard, contents, bad=bad)
        if homeless:
            self.bring(self.store.lacking(homeless))
            self._learn_chunks(shard, contents)
            self._upload({c for content in homeless for c in shard.chunks.get(content, ())})
        if shard.old is None:
            self._believe_hints(shard)
        locations, lost = self._locations(shard, contents, bad=bad)
        if shard.old is not None and locations == shard.old.locations:
            if bad:
                self.at.failed(shard_key(digest), _no_copy(lost))
            return
        if len(locations) < len(contents):
            raise MissingError(_no_copy(len(contents) - len(locations)))
        places = places_in_order(shard.entries, locations, references)
        data = encode_object(shard.text, places)
        self._put_shard(digest, data, locations, refers=bool(references))
        # Places learned from the damaged shard must mislead nobody any more.
        self.known.expect((), {c: shard.chunks[c] for c in shard.doubted if c in shard.chunks})
        if lost:
            self.at.failed(shard_key(digest), _no_copy(lost))
        else:
            self.at.repaired(shard_key(digest), "it was written anew; all of its content is there")

    def _shard(self, digest: Digest, text: bytes | None) -> _Shard:
        old = None
        with contextlib.suppress(CorruptError, ObjectMissing):
            old = self.remote.read_shard(digest)
        if old is not None:
            doubted = frozenset(self.found.misplaced.get(digest, ()))
            return _Shard(old.text, old.entries, old, doubted=doubted)
        if text is None:
            raise MissingError("the shard is not here either")
        return _Shard(text, decode_any_shard(text, digest), None)

    def _references(self, shard: _Shard) -> Mapping[Digest, Reference]:
        """Return the contents that stay at a source: as the shard said, else as is known here."""
        if shard.old is not None:
            return shard.old.references
        lacking = self.store.lacking(contents_of(shard.entries))
        return {c: some[0] for c, some in self.store.db.references.find(lacking).items()}

    def _learn_chunks(self, shard: _Shard, contents: Collection[Digest]) -> None:
        """Note what the contents consist of: as tried here, else as was or is said there."""
        hints = self.known.chunk_lists(contents)
        said = shard.old.locations if shard.old is not None else {}
        own = {content: tuple(c.placement.digest for c in said[content]) for content in said}
        guessed = {c: chunks for c, chunks in (hints | own).items() if c not in shard.doubted}
        shard.chunks = {**guessed, **self.store.chunk_lists(contents)}

    def _homeless(self, shard: _Shard, contents: Iterable[Digest], *, bad: bool) -> set[Digest]:
        """Return the contents with a chunk for which the remote has no sound place."""
        homeless = set()
        for content in contents:
            old = shard.old.locations.get(content, []) if shard.old is not None else []
            sound = {c.placement.digest for c in old if c.pack.digest not in self.left and not bad}
            chunks = shard.chunks.get(content)
            if chunks is None or any(c not in self.places and c not in sound for c in chunks):
                homeless.add(content)
        return homeless

    def _upload(self, chunks: Collection[Digest]) -> None:
        """Upload those of the chunks that the store has and the remote has no place for."""
        wanted = self.store.db.held_chunks(set(chunks) - self.places.keys())
        if not wanted:
            return
        with self.store.reader() as reader:
            reader.prepare_chunks(wanted)
            data = ((chunk, bytes(reader.chunk(chunk))) for chunk in sorted(wanted))
            for temp, info in mending.packs_of(self.store, data):
                key = pack_key(info.digest)
                again = info.digest in self.left
                try:
                    if again:  # the damaged pack had the same content, and so the same name
                        self.at.set_aside(key)
                    with open(temp, "rb") as file:
                        self.remote.put_pack(info.digest, file)
                finally:
                    os.unlink(temp)
                self.at.prove({key: info.size})
                if again:
                    del self.left[info.digest]
                    self.at.repaired(key, "the same pack was made again and uploaded")
                pack, places = RemotePack(info.digest, info.size), list(info.index.placements())
                self.known.add_pack(pack, places)
                self.places.update(
                    {placement.digest: Located(pack, placement) for placement in places}
                )

    def _believe_hints(self, shard: _Shard) -> None:
        """Where nothing else says it: take what is known of packs that the remote has."""
        chunks = {c for some in shard.chunks.values() for c in some} - self.places.keys()
        located = located_now(self.remote, self.known, chunks)
        self.places.update({c: p for c, p in located.items() if p.pack.digest not in self.left})

    def _locations(
        self, shard: _Shard, contents: Iterable[Digest], *, bad: bool
    ) -> tuple[dict[Digest, list[Located]], int]:
        """Return sound places where there are any, else the old; and how many contents are lost."""
        locations: dict[Digest, list[Located]] = {}
        lost = 0
        for content in contents:
            old = shard.old.locations.get(content, []) if shard.old is not None else []
            was = {chunk.placement.digest: chunk for chunk in old}
            chunks = shard.chunks.get(content, ())
            placed = [
                located
                for chunk in chunks
                if (located := self._place(chunk, was.get(chunk), bad=bad))
            ]
            if chunks and len(placed) == len(chunks):
                locations[content] = placed
            elif old:
                locations[content] = old
            doubtful = content in shard.doubted and not chunks
            places = locations.get(content, ())
            lost += doubtful or not all(self._is_sound(located, bad=bad) for located in places)
        return locations, lost

    def _place(self, chunk: Digest, was: Located | None, *, bad: bool) -> Located | None:
        if was is not None and not bad and was.pack.digest not in self.left:
            return was
        return self.places.get(chunk) or was

    def _is_sound(self, located: Located, *, bad: bool) -> bool:
        if located.placement.digest in self.places:
            return True
        return not bad and located.pack.digest not in self.left

    def _put_shard(
        self,
        digest: Digest,
        data: bytes,
        locations: Mapping[Digest, Sequence[Located]],
        *,
        refers: bool,
    ) -> None:
        every = {chunk.pack for chunks in locations.values() for chunk in chunks}
        packs = {pack.digest for pack in every}
        with self.tombstones.claimed(shards=[digest], packs=packs):
            # A damaged pack stays the place of content that has no better one.
            require(self.remote, {pack_key(p.digest): p.size for p in every - self._left(every)})
            self.at.set_aside(shard_key(digest))
            self.remote.put_shard(digest, data)
            self.at.prove({shard_key(digest): len(data)})
        self.known.add_objects([ObjectInfo(shard_key(digest), len(data))])
        self.known.add_shards({digest: packs}, {digest} if refers else ())
        for pack in self.left:
            if pack not in packs:
                self.found.pointing.get(pack, set()).discard(digest)

    def _left(self, packs: Collection[RemotePack]) -> set[RemotePack]:
        return {pack for pack in packs if pack.digest in self.left}

    def _judge_packs(self) -> None:
        for pack in self.left:
            if self.found.pointing.get(pack):
                self.at.failed(pack_key(pack), "not all of what is in it was found elsewhere")
            else:
                self.at.repaired(pack_key(pack), "its content is in other packs now")


def _is_pack(path: str, digest: Digest) -> bool:
    whole = hasher()
    try:
        with open(path, "rb") as file:
            while data := file.read(READ_SIZE_BYTES):
                whole.update(data)
    except OSError:
        return False
    return whole.digest() == digest


def _no_copy(count: int) -> str:
    return f"no good copy of {count:,} contents was found"
