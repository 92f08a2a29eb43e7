"""The shards that a fetch needs: they name contents, and say where each is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from dvtool.errors import MissingError, ObjectMissing
from dvtool.format.digest import Digest
from dvtool.format.locations import Located, contents_of
from dvtool.format.manifest import Entries, ShardRef, ShardText, shard_refs
from dvtool.project.parts import Project
from dvtool.remotes.known import Known
from dvtool.remotes.objects import FetchedShard, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import SHARDS_FLUSHED_AT_ONCE
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fetch.request import Fetched, FetchRequest

GROUP_FILES = 65_536
"""How many files are located at a time: about 1 KB of memory each."""


class FetchLists:
    """Shards as the remote has them, fetched where they are needed; the last ones are at hand."""

    def __init__(self, project: Project, remote: RemoteStore, result: Fetched) -> None:
        self._project = project
        self._store = project.store
        self._remote = remote
        self._result = result
        self._shards: dict[Digest, FetchedShard] = {}
        """The shards at hand."""
        self.sizes: dict[Digest, int] = {}
        """All shards that were fetched, with the size of each in bytes."""

    # --- fetching -------------------------------------------------------------------------

    def get_entries(self, requests: Iterable[FetchRequest]) -> None:
        """Fetch the shards of sharded manifests that are needed and not here."""
        refs = {
            ref.digest: ref
            for request in requests
            if request.manifest.entries is None
            for ref in self._project.selected_shards(request.manifest, request.selection)
            if not self._store.has_shard(ref.digest)
        }
        groups = list(_refs_in_groups(refs.values()))
        for group in groups:
            self._get(group)
            self._project.shards.keep_at_hand(self._remote.url, self._shards)
            if len(groups) > 1:
                self._shards.clear()  # with what they say of places they are too much for memory

    def get_all(self, refs: Iterable[ShardRef], known: Known, *, places: bool = True) -> None:
        """Fetch shards, and remember where they say that content is: without `places` at sources.

        Where content is on the remote is then for a fetch of the content to remember.
        """
        for group in _refs_in_groups(refs):
            self._get(group)
            if not places:
                self._project.shards.keep_listed(
                    (ref, self._shards[ref.digest].entries) for ref in group
                )
                self._project.shards.keep_at_hand(self._remote.url, self._shards)
                self._shards = {d: shard for d, shard in self._shards.items() if shard.references}
            self.learn(known)
            self._shards.clear()

    def get_locations(self, missing: Collection[Digest], requests: Iterable[FetchRequest]) -> None:
        """Fetch the shards that say where missing content is, as far as the remote has them."""
        sought = set(missing)
        if not sought:
            return
        refs: dict[Digest, ShardRef] = {}
        for request in requests:
            for ref, entries in self._entries_by_shard(request):
                if ref.digest not in self._shards and not sought.isdisjoint(contents_of(entries)):
                    refs[ref.digest] = ref
        self._get(refs.values(), required=False)

    def get_more(self, refs: Iterable[ShardRef]) -> None:
        """Fetch the shards that are not at hand, those that the remote has."""
        self._get((ref for ref in refs if ref.digest not in self._shards), required=False)

    def _entries_by_shard(self, request: FetchRequest) -> Iterator[tuple[ShardRef, Entries]]:
        entries = request.manifest.entries
        if entries is not None:
            for text in shard_refs(entries):
                # The run of a small manifest from this shard's first path on.
                yield text.ref, _run_of(entries, text.ref)
            return
        for ref in self._project.selected_shards(request.manifest, request.selection):
            if ref.digest not in self._shards:
                yield ref, self._store.load_shard(ref)

    def _get(self, refs: Iterable[ShardRef], *, required: bool = True) -> None:
        """Fetch shards; without `required`, those that the remote has."""
        wanted = list(refs)
        url = self._remote.url
        at_hand = self._project.shards.take_at_hand(url, [ref.digest for ref in wanted])
        for ref in wanted:
            if (kept := at_hand.get(ref.digest)) is not None:
                entries = self._store.load_shard(ref)
                located = kept.places.decode(entries, f"{url}: {shard_key(ref.digest)}")
                self.count_at_hand(ref.digest, kept.size)
                self._shards[ref.digest] = FetchedShard(
                    entries, b"", located[0], kept.size, kept.md5, located[1]
                )
        wanted = [ref for ref in wanted if ref.digest not in at_hand]
        if not wanted:
            return
        self._project.progress.start(f"asking {self._remote.url} for lists of files")
        get = self._remote.get_shard if required else self._get_or_none
        come: list[tuple[ShardRef, FetchedShard]] = []
        try:
            for ref, shard in run_bounded(get, wanted):
                if shard is not None:
                    come.append((ref, shard))
                if len(come) == SHARDS_FLUSHED_AT_ONCE:
                    self._take(come)
                    come = []
        except ObjectMissing as error:
            raise MissingError(
                f"{self._remote.url} does not have what this manifest lists ({error.key})",
                hint="run `dv push` in the clone where the data was added",
            ) from error
        finally:
            self._take(come)
            self._project.progress.finish()

    def _take(self, come: Sequence[tuple[ShardRef, FetchedShard]]) -> None:
        """Put shards into the store, and have them at hand."""
        self._store.put_shards(
            ShardText(ref, shard.text, shard.without_places) for ref, shard in come
        )
        for ref, shard in come:
            self._store.keep_shard(ref, shard.entries)
            self._shards[ref.digest] = shard
            self.sizes[ref.digest] = shard.size
            self._result.transferred_bytes += shard.size

    def count_at_hand(self, digest: Digest, size: int) -> None:
        """Count a shard that came before, for this fetch, unless it is counted already."""
        if digest not in self.sizes:
            self.sizes[digest] = size
            self._result.transferred_bytes += size

    def _get_or_none(self, ref: ShardRef) -> FetchedShard | None:
        try:
            return self._remote.get_shard(ref)
        except ObjectMissing:
            return None

    # --- what the shards at hand say ------------------------------------------------------

    def of(self, requests: Iterable[FetchRequest]) -> Iterator[FetchedShard]:
        """Yield the shards of some requests that are at hand, in order."""
        for request in requests:
            for ref in request.manifest.shards:
                shard = self._shards.get(ref.digest)
                if shard is not None:
                    yield shard

    def located(self, contents: Collection[Digest]) -> dict[Digest, list[Located]]:
        """Return where contents are, by all shards at hand."""
        return {
            digest: shard.locations[digest]
            for shard in self._shards.values()
            for digest in shard.locations
            if digest in contents
        }

    def referenced(self, contents: Collection[Digest]) -> set[Digest]:
        """Return those of the contents that are at a source, by the shards at hand or before."""
        said = {digest for shard in self._shards.values() for digest in shard.references}
        left = set(contents) - said
        return said.intersection(contents) | self._store.db.references.known(left)

    def keep_only(self, requests: Iterable[FetchRequest]) -> None:
        """Let go of all shards but those of some requests."""
        kept = {ref.digest for request in requests for ref in request.manifest.shards}
        self._shards = {d: shard for d, shard in self._shards.items() if d in kept}

    def learn(self, known: Known, later: Iterable[FetchRequest] = ()) -> None:
        """Remember where the shards say that content is: a hint, which every push proves.

        Shards of which more is fetched `later` are left out until then: more of their packs will
        be here.
        """
        left = {ref.digest for request in later for ref in request.manifest.shards}
        held = {pack.digest for pack in self._store.db.packs().values()}
        shards = {digest: shard for digest, shard in self._shards.items() if digest not in left}
        packs = {pack for shard in shards.values() for pack in shard.packs()}
        known.learn(shards, packs, held=held)


def _refs_in_groups(refs: Iterable[ShardRef]) -> Iterator[list[ShardRef]]:
    group: list[ShardRef] = []
    files = 0
    for ref in refs:
        if group and files + ref.files > GROUP_FILES:
            yield group
            group, files = [], 0
        group.append(ref)
        files += ref.files
    if group:
        yield group


def _run_of(entries: Entries, ref: ShardRef) -> Entries:
    paths = list(entries)
    start = paths.index(ref.first)
    return {path: entries[path] for path in paths[start : start + ref.files]}
