"""The contents below a path of a commit, by number: no object for each of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple, TypeVar, overload

from dvtool.errors import CorruptError, printable
from dvtool.format.digest import Digest
from dvtool.format.manifest import ShardRef
from dvtool.format.paths import workspace_path
from dvtool.snapshots.columns import EntryColumns
from dvtool.snapshots.targets import TargetEntries, inner_path

T = TypeVar("T")


class Content(NamedTuple):
    """The content of a file: its hash, its size in bytes, and where the file is listed."""

    digest: Digest
    size: int
    path: str
    target: TargetEntries
    inner: str

    @property
    def shard(self) -> ShardRef:
        """The shard that a remote has of the file's entry and where its content is."""
        return self.target.shard_of(self.inner)


def not_the_content(content: Content) -> CorruptError:
    """Return the error for a remote whose chunks do not make the file."""
    return CorruptError(
        f"{printable(content.path)}: the chunks that the remote names do not make this file",
        hint="run `dv push` in a clone that has it, or: dv fsck --remote",
    )


class _Files(NamedTuple):
    """The files of one run of entries, by their numbers in its columns."""

    target: TargetEntries
    columns: EntryColumns
    numbers: Sequence[int]

    def path(self, number: int) -> str:
        return workspace_path(self.target.target, self.columns.paths[number])

    @property
    def paths(self) -> list[str]:
        if self.target.is_file:
            return list(map(self.path, self.numbers))
        prefix, paths = self.target.target + "/", self.columns.paths
        if isinstance(self.numbers, range):
            return [prefix + path for path in paths[self.numbers.start : self.numbers.stop]]
        return [prefix + paths[number] for number in self.numbers]

    @property
    def joined_paths(self) -> str:
        if self.target.is_file or not isinstance(self.numbers, range):
            return "\0".join(self.paths)
        prefix, paths = self.target.target + "/", self.columns.paths
        return prefix + f"\0{prefix}".join(paths[self.numbers.start : self.numbers.stop])

    @property
    def sizes(self) -> Sequence[int]:
        if isinstance(self.numbers, range):
            return self.columns.sizes_between(self.numbers.start, self.numbers.stop)
        return list(map(self.columns.size, self.numbers))

    @property
    def digests(self) -> Sequence[Digest]:
        if isinstance(self.numbers, range):
            return self.columns.digests_between(self.numbers.start, self.numbers.stop)
        return list(map(self.columns.digest, self.numbers))


class Contents(Sequence[Content]):
    """The files at or below a path, symlinks left out, in the order of their paths."""

    def __init__(
        self, runs: Iterable[tuple[TargetEntries, EntryColumns, int, int]], *, nested: bool
    ) -> None:
        """Take runs of entries; of targets within targets, `nested`, they are not in order."""
        self._files = [
            _Files(target, columns, columns.file_numbers(low, high))
            for target, columns, low, high in runs
        ]
        self._ends = list(accumulate(len(files.numbers) for files in self._files))
        self._order: Sequence[int] = range(self._ends[-1] if self._ends else 0)
        if nested:
            paths = self.paths
            self._order = sorted(self._order, key=paths.__getitem__)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, number: int) -> Content: ...
    @overload
    def __getitem__(self, number: slice) -> list[Content]: ...
    def __getitem__(self, number: int | slice) -> Content | list[Content]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        files, entry = self._at(number)
        target, columns, _ = files
        path = files.path(entry)
        inner = inner_path(target, path)
        return Content(columns.digest(entry), columns.size(entry), path, target, inner)

    def listed_in(
        self, numbers: Iterable[int]
    ) -> Iterator[tuple[Sequence[ShardRef], list[Digest]]]:
        """Yield the digests of files, by their numbers, with the shards that may list them."""
        ordered = sorted(map(self._order.__getitem__, numbers))
        begin = low = 0
        for files, end in zip(self._files, self._ends, strict=True):
            high = bisect_left(ordered, end, lo=low)
            if high > low:
                digest, entries = files.columns.digest, files.numbers
                digests = [digest(entries[at - begin]) for at in ordered[low:high]]
                yield files.target.shards_of(files.columns), digests
            begin, low = end, high

    def path(self, number: int) -> str:
        """Return the path of a file from the top of the repository."""
        files, entry = self._at(number)
        return files.path(entry)

    def digest(self, number: int) -> Digest:
        """Return the BLAKE3 of a file's content."""
        files, entry = self._at(number)
        return files.columns.digest(entry)

    def digests_at(self, numbers: Iterable[int]) -> list[Digest]:
        """Return the BLAKE3 of files' contents, by their numbers."""
        order, ends = self._order, self._ends
        columns = [(files.columns.digest, files.numbers) for files in self._files]
        begins = [0, *ends]
        digests = []
        for number in numbers:
            at = order[number]
            run = bisect_right(ends, at)
            digest, entries = columns[run]
            digests.append(digest(entries[at - begins[run]]))
        return digests

    @property
    def paths(self) -> list[str]:
        """The paths of all files, from the top of the repository."""
        return self._ordered(list(chain.from_iterable(files.paths for files in self._files)))

    @property
    def sizes(self) -> list[int]:
        """The sizes of all files, in bytes."""
        return self._ordered(list(chain.from_iterable(files.sizes for files in self._files)))

    @property
    def digests(self) -> list[Digest]:
        """The BLAKE3 of the contents of all files."""
        return self._ordered(list(chain.from_iterable(files.digests for files in self._files)))

    def runs(self) -> Iterator[tuple[str, Sequence[Digest]]]:
        """Yield the paths, a NUL between two, and the digests of all files in order.

        They come some thousands at a time, at least one.
        """
        if isinstance(self._order, range):
            held = (files for files in self._files if files.numbers)
            yield from ((files.joined_paths, files.digests) for files in held)
        elif self._order:
            yield "\0".join(self.paths), self.digests

    def ending_in(self, suffixes: tuple[str, ...]) -> Contents:
        """Return those whose names end in one of these, in upper or lower case."""
        chosen = Contents((), nested=False)
        chosen._files, chosen._ends = self._files, self._ends
        chosen._order = [
            n
            for n, path in zip(self._order, self.paths, strict=True)
            if path.lower().endswith(suffixes)
        ]
        return chosen

    def __iter__(self) -> Iterator[Content]:
        return (self[number] for number in range(len(self)))

    def _at(self, number: int) -> tuple[_Files, int]:
        at = self._order[number]
        run = bisect_right(self._ends, at)
        files = self._files[run]
        return files, files.numbers[at - (self._ends[run - 1] if run else 0)]

    def _ordered(self, values: list[T]) -> list[T]:
        if isinstance(self._order, range):
            return values
        return [values[number] for number in self._order]
