"""Files as they were just read, in columns: of a million files no object for each is made."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat, starmap
from struct import Struct
from typing import Any, NamedTuple

from msgspec.structs import astuple

from dvtool.format.columns import Columns
from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests
from dvtool.system.stat import EXECUTABLE, Stat
from dvtool.workspace.statcache import SeenRow, seen_added, settled_before

_ROW = Struct("<5Q")
_SIGNED_ROW = Struct("<3Q2q")
_ONE_ROW = Struct(f"{_ROW.size}s")
_U64 = (1 << 64) - 1
_MODE, _INODE, _SIZE, _MTIME, _CTIME = range(5)


class Ingested(NamedTuple):
    """One file as it was read. `stat` was taken after the last byte."""

    path: str
    digest: Digest
    stat: Stat


@dataclass(slots=True)
class ReadFiles:
    """Files as they were read, in columns, which travel between processes at little cost."""

    paths: list[str] = field(default_factory=list)
    """None where both sides know them."""
    joined: bytearray = field(default_factory=bytearray)
    """The digests, end to end."""
    numbers: bytearray = field(default_factory=bytearray)
    """Mode, inode, size, mtime and ctime in ns of each file, as 64 bits each."""

    def append(self, path: str, digest: Digest, stats: os.stat_result) -> None:
        """Add a file."""
        self.paths.append(path)
        self.append_unnamed(digest, stats)

    def append_unnamed(self, digest: Digest, stats: os.stat_result) -> None:
        """Add a file whose path both sides know."""
        self.joined += digest
        self.numbers += _ROW.pack(
            stats.st_mode,
            stats.st_ino & _U64,
            stats.st_size,
            stats.st_mtime_ns & _U64,
            stats.st_ctime_ns & _U64,
        )

    def extend(self, paths: Sequence[str], more: ReadFiles) -> None:
        """Add files of these paths."""
        self.paths += paths
        self.joined += more.joined
        self.numbers += more.numbers

    def __len__(self) -> int:
        return len(self.joined) // DIGEST_SIZE_BYTES

    def __iter__(self) -> Iterator[Ingested]:
        return map(Ingested, self.paths, self.digests(), self.stats())

    def digests(self) -> tuple[Digest, ...]:
        """Return the digest of each file."""
        return split_digests(bytes(self.joined))

    def stats(self) -> Iterator[Stat]:
        """Yield the stat of each file."""
        return starmap(Stat, _SIGNED_ROW.iter_unpack(self.numbers))

    def rows(self, begin: int, end: int) -> list[bytes]:
        """Return the numbers of some of the files, of each as one value."""
        numbers = memoryview(self.numbers)[begin * _ROW.size : end * _ROW.size]
        return [row for (row,) in _ONE_ROW.iter_unpack(numbers)]

    def part(self, begin: int, end: int) -> ReadFiles:
        """Return some of the files."""
        step = DIGEST_SIZE_BYTES
        return ReadFiles(
            self.paths[begin:end],
            self.joined[begin * step : end * step],
            self.numbers[begin * _ROW.size : end * _ROW.size],
        )

    def sizes(self) -> array[int]:
        """Return the size of each file in bytes."""
        return self._columns()[_SIZE::5]

    def executable(self) -> list[bool]:
        """Return of each file whether its owner may execute it."""
        modes = self._columns()[_MODE::5]
        by_mode = {mode: bool(mode & EXECUTABLE) for mode in set(modes)}
        return list(map(by_mode.__getitem__, modes))

    def seen(self, read_at_ns: int) -> list[SeenRow]:
        """Return what to remember of each file as tracked."""
        columns = self._columns()
        times = [_signed(columns[number::5]) for number in (_MTIME, _CTIME)]
        settled_ns = settled_before(read_at_ns)
        if all(min(column) >= 0 and max(column) < settled_ns for column in times):
            # As of most files: nothing has to be asked of each.
            sizes, inodes = columns[_SIZE::5], columns[_INODE::5]
            tracked = repeat(True, len(self))
            values = (*times, sizes, inodes, self.executable(), self.digests(), tracked)
            return list(zip(*values, strict=True))
        files = zip(self.paths, self.stats(), self.digests(), self.executable(), strict=True)
        return [astuple(seen) for _, seen in seen_added(files, read_at_ns)]

    def _columns(self) -> array[int]:
        return Columns(bytes(self.numbers), 0).numbers("Q", 5 * len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _files_of, ("\0".join(self.paths), self.joined, self.numbers)


def _files_of(paths: str, joined: bytearray, numbers: bytearray) -> ReadFiles:
    return ReadFiles(paths.split("\0") if paths else [], joined, numbers)


def state_columns(rows: Iterable[bytes], count: int) -> list[bytes]:
    """Return the columns that the state of a folder is made of, from the rows of its files."""
    numbers = Columns(b"".join(rows), 0).numbers("Q", 5 * count)
    return [numbers[column::5].tobytes() for column in (_MTIME, _CTIME, _SIZE, _INODE)]


def _signed(numbers: array[int]) -> array[int]:
    return array("q", numbers.tobytes())
