"""The shards of large manifests, from this disk or else a remote. The store stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from dvtool.errors import CorruptError, DvError, MissingError, RemoteError, SetupError
from dvtool.format.digest import Digest
from dvtool.format.file_columns import decode_file_columns
from dvtool.format.manifest import Entries, ShardRef, decode_shard
from dvtool.project.parts import Project
from dvtool.snapshots.cache import FrameCache, cache_of
from dvtool.snapshots.columns import EntryColumns
from dvtool.store.local import LocalStore
from dvtool.system.lazy import later

if TYPE_CHECKING:
    from dvtool.format import locations
    from dvtool.format.file_places import ListedShard
    from dvtool.snapshots.remote import RemoteChunks
else:
    locations = later("dvtool.format.locations")

T = TypeVar("T")


class ShardReader:
    """Reads shards from the local store, then from the cache, then from remotes, if it has any."""

    def __init__(
        self,
        store: LocalStore,
        cache: FrameCache | None,
        remote: Callable[[], RemoteChunks] | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._remote = remote

    def read_here(self, ref: ShardRef) -> Entries:
        """Return the entries of a shard, checked, from this disk alone.

        MissingError if it is not here, CorruptError if all that is here is damaged.
        """
        try:
            return self._store.held_shard(ref)
        except (MissingError, CorruptError) as error:
            cached = self._cached(ref)
            if cached is None:
                raise error
            return cached

    def read_held(self, refs: Iterable[ShardRef]) -> Entries:
        """Return the entries of those of the shards that are on this disk."""
        entries: Entries = {}
        for ref in refs:
            with contextlib.suppress(MissingError):
                entries.update(self.read_here(ref))
        return entries

    def read_each(self, refs: Sequence[ShardRef]) -> Iterator[tuple[Digest, Entries]]:
        """Yield the entries of shards, checked, in any order; what is not here comes from a remote.

        MissingError if one is nowhere, SetupError or RemoteError if no remote can be asked; the
        error of a damaged one that is here, if no other can be had.
        """
        return self._each(refs, self.read_here, lambda ref, far: decode_shard(far.text, ref))

    def columns_each(self, refs: Sequence[ShardRef]) -> Iterator[tuple[Digest, EntryColumns]]:
        """Yield the entries of shards as columns, checked, as `read_each` does."""
        return self._each(refs, self._columns_here, lambda ref, far: EntryColumns(far.listed))

    def _columns_here(self, ref: ShardRef) -> EntryColumns:
        """Return the entries of a shard from this disk alone, as `read_here` does."""
        with contextlib.suppress(MissingError, CorruptError):
            files = decode_file_columns(self._store.shard_text(ref.digest), ref)
            if files is not None:
                return EntryColumns(files)
        return EntryColumns(self.read_here(ref))

    def _each(
        self,
        refs: Sequence[ShardRef],
        here: Callable[[ShardRef], T],
        far: Callable[[ShardRef, ListedShard], T],
    ) -> Iterator[tuple[Digest, T]]:
        """Yield shards as `here` reads them, or as `far` makes them of what a remote has."""
        absent = []
        damage: DvError | None = None
        for ref in refs:
            try:
                yield ref.digest, here(ref)
            except (MissingError, CorruptError) as error:
                damage = damage or (error if isinstance(error, CorruptError) else None)
                absent.append(ref)
        if absent and self._remote is not None:
            try:
                for ref, shard in self._remote().shards(absent):
                    yield ref.digest, far(ref, shard)
            except DvError as error:
                if damage is None:
                    raise
                raise damage from error
        elif absent:
            raise damage or MissingError(f"shard {absent[0].blake3} is not here")

    def _cached(self, ref: ShardRef) -> Entries | None:
        """Return the entries of a shard from the object that any remote has of it."""
        for name, data in self._cache.get_shards(ref.digest) if self._cache is not None else ():
            try:
                return locations.decode_entries(data, ref, name)
            except CorruptError:
                continue  # whoever asks the remote puts another in its place
        return None


@contextlib.contextmanager
def lists_needed() -> Iterator[None]:
    """Raise MissingError where a remote that may have shards cannot be asked for them."""
    try:
        yield
    except (SetupError, RemoteError) as error:
        raise MissingError(
            f"shards of large manifests that are not here cannot be read: {error}",
            hint=error.hint or "see that the remote can be reached, then repeat the command",
        ) from error


def shards_here(project: Project, environ: Mapping[str, str]) -> ShardReader:
    """Return the reader of the shards that are on this disk; it asks no remote."""
    return ShardReader(project.store, cache_of(project, environ))
