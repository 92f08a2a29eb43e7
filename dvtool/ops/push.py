"""push: bring what manifests need to a remote, and prove that it is there.

The order is packs, proof, shards, proof, root: whatever is referred to is there before what
refers to it. What this clone remembers of the remote is a hint, checked against the remote's own
word each time, so an object that was deleted behind our back is uploaded again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dvtool.digest import Digest, hasher
from dvtool.errors import CorruptError, MissingError, RemoteError, listing
from dvtool.manifest import (
    Entries,
    Manifest,
    ShardRef,
    decode_shard,
    manifest_digest,
    manifest_shards,
    shard_refs,
)
from dvtool.pack import PackWriter, Placement, Recipe, read_index
from dvtool.parallel import run_bounded
from dvtool.project import Project, workspace_path
from dvtool.shard import Located, RemotePack, contents_of, encode_object
from dvtool.store.known import Known
from dvtool.store.local import ContentReader
from dvtool.store.proof import learn_shards, located_now, prove_shards
from dvtool.store.remote import RemoteStore, RootManifest, pack_key, root_key, shard_key

WHOLE_PACK_MIN_BYTES = 8 << 20
"""Smaller local packs are joined into larger ones for the remote, unless there are only few."""
WHOLE_PACKS_MIN = 4
HASH_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A manifest to push, and the target it belongs to.

    `past` gives earlier versions of it, newest first: what is not here may be there by those.
    """

    target: str
    manifest: Manifest
    past: Callable[[], Iterator[Manifest]] | None = None


@dataclass(slots=True)
class Pushed:
    """What a push did. `bytes` and `packs` were uploaded; `files` are now proven there."""

    remote: str
    manifests: int = 0
    files: int = 0
    packs: int = 0
    bytes: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything had to be uploaded."""
        return self.bytes > 0


@dataclass(slots=True)
class _Shard:
    """A shard to be on the remote, and a target to name in messages."""

    ref: ShardRef
    target: str
    text: bytes | None = None


@dataclass(slots=True)
class _Upload:
    """A finished pack on the local disk; `places` of its chunks if the local index has none."""

    path: str
    pack: RemotePack
    places: list[Placement] = field(default_factory=list)
    temporary: bool = False


@dataclass(slots=True)
class _Content:
    """The contents of the shards to upload: sizes, chunks, and one path of each for messages."""

    sizes: dict[Digest, int] = field(default_factory=dict)
    chunks: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)
    names: dict[Digest, str] = field(default_factory=dict)

    def every_chunk(self) -> dict[Digest, None]:
        """Return the distinct chunks in the order of the manifests."""
        return dict.fromkeys(chunk for digest in self.sizes for chunk in self.chunks[digest])


def push(project: Project, remote: RemoteStore, repo_id: str, wanted: Sequence[Wanted]) -> Pushed:
    """Upload what the manifests need and the remote lacks; return once the remote has it all.

    MissingError if content is neither here nor there; RemoteError if the remote does not confirm.
    """
    return _Push(project, remote, repo_id, wanted).run()


class _Push:
    def __init__(
        self, project: Project, remote: RemoteStore, repo_id: str, wanted: Sequence[Wanted]
    ) -> None:
        self.project = project
        self.remote = remote
        self.repo_id = repo_id
        self.manifests = {manifest_digest(one.manifest): one for one in wanted}
        self.shards: dict[Digest, _Shard] = {}
        self.shard_names: dict[Digest, list[str]] = {}
        self.result = Pushed(remote.url, manifests=len(self.manifests))
        self.known: Known | None = None

    def run(self) -> Pushed:
        self._collect()
        mark = self.remote.mark()
        if mark is not None:
            self.known = Known(self.project.store.db, mark.id)
        there, proven = self._proven()
        lacking = [shard for digest, shard in self.shards.items() if digest not in proven]
        if lacking:
            self._upload_content(lacking)
        self._publish_root(there)
        return self.result

    def _collect(self) -> None:
        """Gather the distinct shards of all manifests; small manifests are cut here."""
        for digest, one in self.manifests.items():
            if one.manifest.entries is None:
                cuts = [_Shard(ref, one.target) for ref in one.manifest.shards]
            else:
                texts = shard_refs(one.manifest.entries)
                cuts = [_Shard(text.ref, one.target, text.text) for text in texts]
            for shard in cuts:
                self.shards.setdefault(shard.ref.digest, shard)
            self.shard_names[digest] = [shard.ref.blake3 for shard in cuts]
        self.result.files = sum(shard.ref.files for shard in self.shards.values())

    # --- what is there already ------------------------------------------------------------

    def _proven(self) -> tuple[dict[str, int], set[Digest]]:
        """Return key -> size as the remote says, and the shards that are whole there."""
        if self.known is None:
            return {}, set()
        roots = self.known.roots(self.manifests)
        keys = [root_key(self.repo_id, root) for root in roots.values()]
        refs = {digest: shard.ref for digest, shard in self.shards.items()}
        return prove_shards(self.remote, self.known, refs, also=keys)

    # --- content --------------------------------------------------------------------------

    def _upload_content(self, lacking: Sequence[_Shard]) -> None:
        self.project.store.need_shards(shard.ref for shard in lacking if shard.text is None)
        entries = {shard.ref.digest: self._entries(shard) for shard in lacking}
        self._look_back(entries)
        content = self._content(lacking, entries)
        every = content.every_chunk()
        located = self._located(every)
        missing = [chunk for chunk in every if chunk not in located]
        self._refuse_missing(missing, content)
        if self.known is None:
            self.known = Known(self.project.store.db, self.remote.initialise().id)
        uploads = list(self._packs_for(missing, content))
        try:
            self._upload(uploads)
        finally:
            for upload in uploads:
                if upload.temporary:
                    os.unlink(upload.path)
        self._publish_shards(lacking, entries, content)

    def _entries(self, shard: _Shard) -> Entries:
        if shard.text is None:
            return self.project.store.load_shard(shard.ref)
        return decode_shard(shard.text, shard.ref)

    def _look_back(self, entries: dict[Digest, Entries]) -> None:
        """Learn from earlier versions where content lies that is neither here nor known of.

        In a clone that never fetched it, what a change left as it was is such content.
        """
        if self.known is None:
            return
        contents = {digest for some in entries.values() for digest in contents_of(some)}
        unknown = self.project.store.lacking(contents)
        unknown -= self.known.chunk_lists(unknown).keys()
        seen = set(self.shards)
        for one in self.manifests.values() if unknown else ():
            for manifest in one.past() if one.past is not None else ():
                unknown -= self.known.chunk_lists(unknown).keys()
                if not unknown:
                    return
                refs = {ref.digest: ref for ref in manifest_shards(manifest)}
                fresh = refs.keys() - seen
                learn_shards(self.remote, self.known, [refs[digest] for digest in fresh])
                seen |= fresh

    def _content(self, lacking: Sequence[_Shard], entries: dict[Digest, Entries]) -> _Content:
        content = _Content()
        for shard in lacking:
            some = entries[shard.ref.digest]
            content.sizes.update(contents_of(some))
            for path, entry in some.items():
                if entry.size > 0:
                    content.names.setdefault(entry.digest, workspace_path(shard.target, path))
        content.chunks.update(self.project.store.chunk_lists(content.sizes))
        unlisted = [digest for digest in content.sizes if digest not in content.chunks]
        if self.known is not None:
            content.chunks.update(self.known.chunk_lists(unlisted))
        self._refuse_unlisted(content)
        return content

    def _located(self, chunks: Iterable[Digest]) -> dict[Digest, Located]:
        """Return where the remote has chunks, in packs that it said just now that it has."""
        return located_now(self.remote, self.known, chunks) if self.known else {}

    def _refuse_unlisted(self, content: _Content) -> None:
        unlisted = [digest for digest in content.sizes if digest not in content.chunks]
        if unlisted:
            raise _neither_here_nor_there([content.names[digest] for digest in unlisted])

    def _refuse_missing(self, missing: Sequence[Digest], content: _Content) -> None:
        absent = set(missing) - self.project.store.db.held_chunks(missing)
        if absent:
            raise _neither_here_nor_there(
                [
                    content.names[digest]
                    for digest in content.sizes
                    if not absent.isdisjoint(content.chunks[digest])
                ]
            )

    # --- packs ----------------------------------------------------------------------------

    def _packs_for(self, missing: Sequence[Digest], content: _Content) -> Iterator[_Upload]:
        """Yield packs that hold the missing chunks: local ones as they are, or new ones.

        A local pack goes up as it is only if every chunk in it is needed: what was added and then
        dropped before it was committed is nobody else's business.
        """
        store = self.project.store
        needed = set(missing)
        places = store.db.places(missing)
        packs = store.db.packs()
        rest: list[Digest] = []
        whole: set[int] = set()
        for number in dict.fromkeys(number for number, _ in places.values()):
            pack = packs[number]
            path = store.pack_path(pack.digest)
            if pack.size >= WHOLE_PACK_MIN_BYTES or len(packs) <= WHOLE_PACKS_MIN:
                with open(path, "rb") as file:
                    index = read_index(file, size=pack.size, where=path)
                if needed.issuperset(index.chunk_digests):
                    whole.add(number)
                    yield _Upload(path, pack)
        rest = [digest for digest in missing if places[digest][0] not in whole]
        if rest:
            yield from self._assembled(rest, content)

    def _assembled(self, chunks: Sequence[Digest], content: _Content) -> Iterator[_Upload]:
        """Yield new packs of chunks, in the order of the manifests."""
        store = self.project.store
        recipes = _recipes_completed(set(chunks), content)
        with store.reader() as reader:
            reader.prepare_chunks(chunks)
            left = list(chunks)
            while left or recipes:
                temp = store.temp_path()
                with open(temp, "xb") as file:
                    writer = PackWriter(file)
                    count = _fill(writer, reader, left)
                    left = left[count:]
                    while not left and recipes and writer.fits_recipe(recipes[-1]):
                        writer.add_recipe(recipes.pop())
                    info = writer.finish()
                places = list(info.index.placements())
                yield _Upload(temp, RemotePack(info.digest, info.size), places, temporary=True)

    def _upload(self, uploads: Sequence[_Upload]) -> None:
        """Upload packs side by side; each is remembered as soon as it is there, then all proven."""
        assert self.known is not None
        if not uploads:
            return
        there = self.remote.sizes([pack_key(upload.pack.digest) for upload in uploads])
        todo = [u for u in uploads if there.get(pack_key(u.pack.digest)) != u.pack.size]
        for upload in uploads:
            if upload not in todo:
                self.known.add_pack(upload.pack, upload.places)
        self.project.progress.start("uploading", total_bytes=sum(u.pack.size for u in todo))
        for upload, _ in run_bounded(self._upload_one, todo):
            self.known.add_pack(upload.pack, upload.places)
            self.result.packs += 1
            self.result.bytes += upload.pack.size
            self.project.progress.advance(upload.pack.size)
        self.project.progress.finish()
        self._prove({pack_key(upload.pack.digest): upload.pack.size for upload in todo})

    def _upload_one(self, upload: _Upload) -> None:
        with open(upload.path, "rb") as file:
            whole = hasher()
            while data := file.read(HASH_READ_BYTES):
                whole.update(data)
            if whole.digest() != upload.pack.digest:
                raise CorruptError(
                    f"{upload.path} is damaged: its bytes are not what its name says",
                    hint="fetch its content again from another remote or clone",
                )
            self.remote.put_pack(upload.pack.digest, file)

    # --- shards and root ------------------------------------------------------------------

    def _publish_shards(
        self, lacking: Sequence[_Shard], entries: dict[Digest, Entries], content: _Content
    ) -> None:
        assert self.known is not None
        located = self.known.located(content.every_chunk())
        objects: dict[Digest, bytes] = {}
        pointed: dict[Digest, set[Digest]] = {}
        for shard in lacking:
            digest = shard.ref.digest
            places = {
                file: [located[chunk] for chunk in content.chunks[file]]
                for file in contents_of(entries[digest])
            }
            text = shard.text or self.project.store.shard_text(digest)
            objects[digest] = encode_object(text, places)
            pointed[digest] = {c.pack.digest for chunks in places.values() for c in chunks}
        for digest, _ in run_bounded(lambda d: self.remote.put_shard(d, objects[d]), objects):
            self.result.bytes += len(objects[digest])
        self._prove({shard_key(digest): len(data) for digest, data in objects.items()})
        self.known.add_shards(
            {digest: (len(data), pointed[digest]) for digest, data in objects.items()}
        )

    def _publish_root(self, there: dict[str, int]) -> None:
        """Add a root for the manifests that no root, seen there just now, names yet."""
        if self.known is None:
            self.known = Known(self.project.store.db, self.remote.initialise().id)
        roots = self.known.roots(self.manifests)
        unrooted = [
            RootManifest(one.target, digest.hex(), self.shard_names[digest])
            for digest, one in self.manifests.items()
            if digest not in roots or root_key(self.repo_id, roots[digest]) not in there
        ]
        if not unrooted:
            return
        name, size = self.remote.put_root(self.repo_id, unrooted)
        self._prove({root_key(self.repo_id, name): size})
        self.result.bytes += size
        self.known.add_root(name, [bytes.fromhex(one.manifest) for one in unrooted])

    def _prove(self, expected: dict[str, int]) -> None:
        """See that the remote itself says of every key that it is there with this size."""
        if not expected:
            return
        there = self.remote.sizes(expected)
        lost = [key for key, size in expected.items() if there.get(key) != size]
        if lost:
            raise RemoteError(
                f"{self.remote.url} took these without an error but does not have them:\n"
                f"{listing(lost)}",
                hint="repeat `dv push`; if this stays, the store loses data: use another",
            )


def _fill(writer: PackWriter, reader: ContentReader, chunks: Sequence[Digest]) -> int:
    """Add chunks until the pack is full; return how many went in."""
    for count, digest in enumerate(chunks):
        data = reader.chunk(digest)
        if not writer.fits(len(data)):
            return count
        writer.add(digest, bytes(data))
    return len(chunks)


def _recipes_completed(chunks: set[Digest], content: _Content) -> list[Recipe]:
    """Return the recipes of the files of several chunks that these chunks complete."""
    return [
        Recipe(digest, content.sizes[digest], parts)
        for digest, parts in content.chunks.items()
        if len(parts) > 1 and not chunks.isdisjoint(parts)
    ]


def _neither_here_nor_there(names: Sequence[str]) -> MissingError:
    return MissingError(
        f"the content of {len(names):,} files is neither here nor on the remote; "
        f"nothing was published:\n{listing(names)}",
        hint="push from the clone where they were added, or `dv add` them again",
    )
