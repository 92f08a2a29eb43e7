"""A run of sorted entries as columns: 41 bytes and the path for each, and no object."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, split_digests
from dvtool.format.file_columns import FileColumns
from dvtool.format.manifest import Entries
from dvtool.format.shown import ShownEntry, shown_entry

_NO_DIGEST = "0" * (2 * DIGEST_SIZE_BYTES)


class EntryColumns:
    """The entries of one shard, or of a small manifest, in order; never changed.

    `paths` are within the target. An entry is named by its number in the order.
    """

    __slots__ = ("_digests", "_executable", "_links", "_sizes", "paths")

    def __init__(self, entries: Entries | FileColumns) -> None:
        if isinstance(entries, FileColumns):
            self.paths, self._digests, self._sizes = entries
            self._executable, self._links = bytes(len(entries.paths)), {}
            return
        values = entries.values()
        self.paths = list(entries)
        self._digests = bytes.fromhex("".join([entry.blake3 or _NO_DIGEST for entry in values]))
        self._sizes = array("q", [entry.size for entry in values])
        self._executable = bytes([entry.exec for entry in values])
        self._links = {
            number: entry.symlink for number, entry in enumerate(values) if entry.symlink
        }

    def __len__(self) -> int:
        return len(self.paths)

    def number_of(self, path: str) -> int | None:
        """Return the number of the entry at a path, None if there is none."""
        number = bisect_left(self.paths, path)
        return number if number < len(self.paths) and self.paths[number] == path else None

    def is_file(self, number: int) -> bool:
        """Whether the entry is a file, which alone has content."""
        return self._sizes[number] >= 0

    def link(self, number: int) -> str:
        """Return where a symlink leads; "" for any other entry."""
        return self._links.get(number, "")

    def size(self, number: int) -> int:
        """Return the size of a file in bytes."""
        return self._sizes[number]

    def sizes_between(self, low: int, high: int) -> array[int]:
        """Return the sizes of the entries from `low` up to `high`, -1 for all but files."""
        return self._sizes[low:high]

    def digests_between(self, low: int, high: int) -> tuple[Digest, ...]:
        """Return the BLAKE3 of the entries from `low` up to `high`, of which all are files."""
        step = DIGEST_SIZE_BYTES
        return split_digests(self._digests[low * step : high * step])

    def digest(self, number: int) -> Digest:
        """Return the BLAKE3 of a file's content."""
        return self._digests[number * DIGEST_SIZE_BYTES : (number + 1) * DIGEST_SIZE_BYTES]

    def file_numbers(self, low: int, high: int) -> Sequence[int]:
        """Return the numbers of the files among the entries from `low` up to `high`."""
        sizes = self._sizes[low:high]
        if min(sizes, default=0) >= 0:
            return range(low, high)
        return [number for number, size in enumerate(sizes, low) if size >= 0]

    def files_between(self, low: int, high: int) -> list[str]:
        """Return the paths of the files among the entries from `low` up to `high`."""
        if high - low == len(self.paths) and min(self._sizes, default=0) >= 0:
            return self.paths
        sizes = self._sizes
        return [self.paths[number] for number in range(low, high) if sizes[number] >= 0]

    def shown(self, number: int) -> ShownEntry:
        """Return an entry as results show it."""
        size = self._sizes[number]
        blake3 = self.digest(number).hex() if size >= 0 else ""
        return shown_entry(size, blake3, bool(self._executable[number]), self.link(number))
