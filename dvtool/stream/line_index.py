"""Where the rows of a text file begin: found once for a content, and kept under its hash."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from dvtool.errors import InputError, printable
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.index_cache import keep_index, load_index

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES_VERSION = 1


class LineIndex(msgspec.Struct, frozen=True):
    """The rows of one text file; blank lines are none, and a quoted line break ends none."""

    starts: array[int]
    """Where each row begins, in bytes, and where the last one ends."""
    delimiter: str | None = None
    """The separator of fields; None for JSON lines."""
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts) // 2

    def span(self, low: int, high: int) -> tuple[int, int]:
        """Return the bytes, as begin and end, of rows `low` up to `high`."""
        return self.starts[2 * low], self.starts[2 * high - 1]

    @property
    def ends(self) -> list[int]:
        """For each row, how many bytes of the file there are up to its end."""
        return self.starts[1::2].tolist()


def line_index(snapshot: Snapshot, path: str, digest: bytes) -> LineIndex:
    """Return the index of a text file's rows; its content is read through if it is not known."""
    delimiter = next((d for end, d in DELIMITERS.items() if path.lower().endswith(end)), None)
    name = f"lines-{LINES_VERSION}-{'json' if delimiter is None else 'csv'}-{digest.hex()}"
    starts = array("q")
    kept = load_index(snapshot, name)
    if kept is not None and len(kept) % (2 * starts.itemsize) == 0:
        starts.frombytes(kept)
    else:
        with snapshot.open(path, "rb") as file:
            spans = _row_spans(file, quoted=delimiter is not None)
            for begin, end in spans:
                starts.extend((begin, end))
        keep_index(snapshot, name, starts.tobytes())
    if delimiter is None or not starts:
        return LineIndex(starts, delimiter)
    if starts[0]:
        raise _no_names(path, "it is empty")
    [header] = snapshot.read_ranges([(path, starts[0], starts[1])])
    try:
        names = next(csv.reader([header.decode("utf-8-sig")], delimiter=delimiter, strict=True))
    except (ValueError, csv.Error) as error:
        raise _no_names(path, str(error)) from error
    if len(set(names)) < len(names):
        raise _no_names(path, "a name is in it twice")
    return LineIndex(starts[2:], delimiter, tuple(names))


def _no_names(path: str, reason: str) -> InputError:
    return InputError(
        f"the first line of {printable(path)} does not name its fields: {reason}",
        hint="write the names into it, one for each field, or stream it as files",
    )


def _row_spans(lines: Iterable[bytes], *, quoted: bool) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each row. With `quoted`, an odd number of quotes leaves a row open."""
    begin = position = 0
    is_open = False
    blank = True
    for line in lines:
        position += len(line)
        blank = blank and not line.strip()
        if quoted and line.count(b'"') % 2:
            is_open = not is_open
        if not is_open:
            if not blank:
                yield begin, position
            begin, blank = position, True
    if begin < position and not blank:
        yield begin, position
