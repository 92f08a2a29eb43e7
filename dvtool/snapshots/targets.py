"""The entries of one target of a commit: found by binary search, loaded shard by shard."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from dvtool.errors import ManifestError
from dvtool.format.digest import Digest
from dvtool.format.manifest import Manifest, ShardRef, manifest_shards
from dvtool.format.paths import SELF
from dvtool.format.selection import AFTER_SLASH, Selection
from dvtool.snapshots.columns import EntryColumns

LoadColumns: TypeAlias = Callable[[Sequence[ShardRef]], dict[Digest, EntryColumns]]
"""Gives the entries of shards, checked, wherever they come from; `DvError` if it cannot."""


class Run(NamedTuple):
    """The entries `low` up to `high` of one shard, or of a small manifest."""

    columns: EntryColumns
    low: int
    high: int


class TargetEntries:
    """The entries of one target. Shards are loaded when first needed, and stay."""

    def __init__(self, target: str, manifest: Manifest, load: LoadColumns) -> None:
        self.target = target
        self.manifest = manifest
        self._load = load
        self._firsts = [ref.first for ref in manifest.shards] or [""]
        self._columns: list[EntryColumns | None] = [None] * len(self._firsts)
        if manifest.entries is not None:
            self._columns = [EntryColumns(manifest.entries)]
        self._refs: list[ShardRef] | None = None
        self._ref_firsts: list[str] = []

    @property
    def is_file(self) -> bool:
        """Whether the target is one file."""
        return self.manifest.kind == "file"

    def shard_of(self, path: str) -> ShardRef:
        """Return the shard that a remote has with the entry at a path in it."""
        if self._refs is None:
            refs = manifest_shards(self.manifest)
            self._ref_firsts = [ref.first for ref in refs]
            self._refs = refs
        return self._refs[max(bisect_right(self._ref_firsts, path) - 1, 0)]

    def shards_of(self, columns: EntryColumns) -> Sequence[ShardRef]:
        """Return the shards that a remote has with the entries of one of the runs in them."""
        shard = self.shard_of(columns.paths[0])
        # A small manifest is one run, and may be several shards.
        return self._refs or [] if self.manifest.entries is not None else [shard]

    def entry(self, path: str) -> tuple[EntryColumns, int] | None:
        """Return the entry at a path within the target, as its columns and its number there."""
        columns = self._one(max(bisect_right(self._firsts, path) - 1, 0))
        number = columns.number_of(path)
        return None if number is None else (columns, number)

    def runs(self, folder: str = "") -> Iterator[Run]:
        """Yield all entries below a folder of the target, in order; "" is the whole target."""
        if not folder:
            for columns in self._every(range(len(self._firsts))):
                yield Run(columns, 0, len(columns))
            return
        low, high = folder + "/", folder + AFTER_SLASH
        first = max(bisect_right(self._firsts, low) - 1, 0)
        for columns in self._every(range(first, max(bisect_left(self._firsts, high), first + 1))):
            begin = bisect_left(columns.paths, low)
            end = bisect_left(columns.paths, high)
            if begin < end:
                yield Run(columns, begin, end)

    def may_match(self, selection: Selection) -> Iterator[EntryColumns]:
        """Yield, in order, the entries of the shards in which something may be selected."""
        ends = [*self._firsts[1:], None]
        return self._every(
            [
                number
                for number, (first, end) in enumerate(zip(self._firsts, ends, strict=True))
                if selection.may_match_between(first, end)
            ]
        )

    def has_below(self, folder: str) -> bool:
        """Whether there is anything below a folder."""
        if not folder:
            return not self.is_file
        number = self._at(folder + "/")
        if number is None:
            return False
        columns, index = number
        return columns.paths[index].startswith(folder + "/")

    def children(self, folder: str) -> Iterator[tuple[str, tuple[EntryColumns, int] | None]]:
        """Yield the names in a folder, sorted as paths are, each with its entry, None for folders.

        Large folders in it are passed over unread.
        """
        prefix = f"{folder}/" if folder else ""
        at = prefix
        while (position := self._at(at)) is not None:
            columns, number = position
            path = columns.paths[number]
            if not path.startswith(prefix):
                return
            name, slash, _ = path[len(prefix) :].partition("/")
            yield name, None if slash else position
            at = prefix + name + (AFTER_SLASH if slash else "\0")

    def _at(self, path: str) -> tuple[EntryColumns, int] | None:
        """Return the first entry whose path is not before `path`."""
        shard = max(bisect_right(self._firsts, path) - 1, 0)
        while shard < len(self._firsts):
            columns = self._one(shard)
            number = bisect_left(columns.paths, path)
            if number < len(columns):
                return columns, number
            shard += 1
        return None

    def _one(self, shard: int) -> EntryColumns:
        return next(self._every(range(shard, shard + 1)))

    def _every(self, shards: Sequence[int]) -> Iterator[EntryColumns]:
        absent = [self.manifest.shards[n] for n in shards if self._columns[n] is None]
        if absent:
            loaded = self._load(absent)
            for number in shards:
                if self._columns[number] is None:
                    self._columns[number] = loaded[self.manifest.shards[number].digest]
                    self._require_order(number)
        for number in shards:
            columns = self._columns[number]
            assert columns is not None
            yield columns

    def _require_order(self, number: int) -> None:
        """Raise ManifestError for a shard that reaches into the next: each path is in one."""
        columns = self._columns[number]
        follows = self._firsts[number + 1 : number + 2]
        if columns and follows and columns.paths[-1] >= follows[0]:
            raise ManifestError(
                f"shard {self.manifest.shards[number].blake3}: overlaps the one behind it"
            )


def inner_path(target: TargetEntries, path: str) -> str:
    """Return a path from the top as the one within a target that it is in; SELF for the file."""
    if path == target.target:
        return SELF if target.is_file else ""
    return path[len(target.target) + 1 :]
