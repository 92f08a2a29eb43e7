"""Sorting more records than memory holds, or than one call should take.

More than memory holds are sorted runs in temporary files, merged.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, TypeVar

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")

T = TypeVar("T")

RUN_BYTES_MAX = 32 << 20
"""About so much memory is taken by records before they go to the disk."""
RUNS_MAX = 64
"""So many runs are merged at once; each is an open file."""
_RECORD_COST_BYTES = 64
"""Bytes that Python needs for a record besides its own, roughly."""
_LENGTH_BYTES = 4


def sorted_in_parts(records: Iterable[T], part_of: Callable[[T], Any]) -> Iterator[T]:
    """Yield records sorted; many are not sorted by one call of C, in which no signal is heard.

    `part_of` gives the beginning of a record, by which it is sorted first, such as its first byte.
    """
    parts: dict[Any, list[T]] = {}
    for record in records:
        parts.setdefault(part_of(record), []).append(record)
    for key in sorted(parts):
        part = parts.pop(key)
        part.sort()
        yield from part


class Sorter:
    """Takes records, any bytes, in any order; gives them back sorted. Close it.

    The files have no name, so a process that is killed leaves none.
    """

    def __init__(self, *, run_bytes_max: int = RUN_BYTES_MAX, runs_max: int = RUNS_MAX) -> None:
        self._run_bytes_max = run_bytes_max
        self._runs_max = runs_max
        self._records: list[bytes] = []
        self._bytes = 0
        self._runs: list[IO[bytes]] = []
        self._files = ExitStack()

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the temporary files."""
        self._files.close()

    def add(self, record: bytes) -> None:
        """Take one record."""
        self._records.append(record)
        self._bytes += len(record) + _RECORD_COST_BYTES
        if self._bytes > self._run_bytes_max:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        self._records.sort()
        return heapq.merge(*map(_records_of, self._runs), self._records)

    def unique(self) -> Iterator[bytes]:
        """Yield the records sorted, equal ones once."""
        return (record for record, _ in groupby(self))

    def _spill(self) -> None:
        self._records.sort()
        self._runs.append(self._written(self._records))
        self._records, self._bytes = [], 0
        if len(self._runs) >= self._runs_max:
            merged = self._written(heapq.merge(*map(_records_of, self._runs)))
            for run in self._runs:
                run.close()
            self._runs = [merged]

    def _written(self, records: Iterable[bytes]) -> IO[bytes]:
        file = self._files.enter_context(tempfile.TemporaryFile())
        for record in records:
            file.write(len(record).to_bytes(_LENGTH_BYTES, "big"))
            file.write(record)
        return file


def _records_of(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while length := file.read(_LENGTH_BYTES):
        yield file.read(int.from_bytes(length, "big"))
