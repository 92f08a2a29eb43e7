"""Where the rows of a text file begin: found once for a content, and kept under its hash."""

from __future__ import annotations

import codecs
import csv
import itertools
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from dvtool.errors import InputError, printable
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.index_cache import keep_index, load_index

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES_VERSION = 3
FIELD_LENGTH_MAX = (1 << 31) - 1
ROW_LINES_BYTES_MAX = 64 << 20
"""Beyond so many bytes a row takes up no further line: a quote was opened and never closed."""


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
    suffix = next((end for end in DELIMITERS if path.lower().endswith(end)), ".json")
    delimiter = DELIMITERS.get(suffix)
    # A quote opens a field only after a delimiter, so the same bytes have other rows as TSV.
    name = f"lines-{LINES_VERSION}-{suffix[1:]}-{digest.hex()}"
    starts = array("q")
    kept = load_index(snapshot, name)
    if kept is not None and len(kept) % (2 * starts.itemsize) == 0:
        starts.frombytes(kept)
    else:
        with snapshot.open(path, "rb") as file:
            spans = _json_spans(file) if delimiter is None else _csv_spans(file, delimiter, path)
            for begin, end in spans:
                starts.extend((begin, end))
        keep_index(snapshot, name, starts.tobytes())
    if delimiter is None or not starts:
        return LineIndex(starts, delimiter)
    if starts[0]:
        raise _no_names(path, "it is empty")
    [header] = snapshot.read_ranges([(path, starts[0], starts[1])])
    try:
        names = read_fields(header.decode("utf-8-sig"), delimiter)
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


def read_fields(row: str, delimiter: str) -> list[str]:
    """Return the fields of one row of CSV; ValueError or `csv.Error` for what is none."""
    # The limit is the whole process's, and 128 KiB unless raised: texts of a data set are longer.
    csv.field_size_limit(FIELD_LENGTH_MAX)
    return next(csv.reader([row], delimiter=delimiter, strict=True), [])


def _json_spans(lines: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each line that is not blank, less the mark of UTF-8 before them."""
    position = 0
    for number, line in enumerate(lines):
        mark = len(codecs.BOM_UTF8) if number == 0 and line.startswith(codecs.BOM_UTF8) else 0
        if line[mark:].strip():
            yield position + mark, position + len(line)
        position += len(line)


def _csv_spans(lines: Iterable[bytes], delimiter: str, path: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each row that is not blank. `csv` says where one with quotes ends.

    A quote opens a field only at the beginning of it: in ``5" nail`` it is a letter.
    """
    csv.field_size_limit(FIELD_LENGTH_MAX)
    left = iter(lines)
    begin = 0
    for line in left:
        end = begin + len(line)
        if b'"' in line:
            first = line.removeprefix(codecs.BOM_UTF8) if begin == 0 else line
            row = _RowTexts(itertools.chain([first], left))
            try:
                next(csv.reader(row, delimiter=delimiter))
            except csv.Error as error:
                raise InputError(
                    f"the row at byte {begin:,} of {printable(path)} cannot be read: {error}",
                    hint="stream it as files, or mend the row",
                ) from error
            end += row.length - len(first)
        if line.strip(b" \r\n"):
            yield begin, end
        begin = end


class _RowTexts:
    """The lines of one row as texts of one letter a byte: quotes and separators are ASCII.

    `length` is how many bytes were taken; `csv.Error` if one more line is wanted of a row that is
    too long. `csv` takes four bytes of memory for each of its letters.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.length > ROW_LINES_BYTES_MAX:
            raise csv.Error(
                f"its lines have more than {ROW_LINES_BYTES_MAX >> 20} MiB, and a quote is open"
            )
        line = next(self._lines)
        self.length += len(line)
        return line.decode("latin-1")
