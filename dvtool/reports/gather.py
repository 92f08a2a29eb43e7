"""All that a report shows, gathered: totals by folder, and a sample of each kind of file."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias, TypeVar

from dvtool.errors import CorruptError, MissingError, size_text
from dvtool.format.compare import Difference
from dvtool.format.manifest import Entry
from dvtool.format.paths import workspace_path
from dvtool.reports import arrays, pictures, sounds, texts
from dvtool.reports.distributions import Distribution, distributions
from dvtool.reports.row_diff import TableDiff
from dvtool.reports.tables import Sides, TableFault, diff_opened, may_have_rows, opened_tables
from dvtool.verbs.diff import TargetDiff, Totals

TABLE_BYTES_MAX = 64 << 20
"""Tables with more on both sides together are not compared by row in a report."""
EACH_MAX = {"pictures": 24, "tables": 12, "arrays": 12, "sounds": 12, "texts": 16}
"""Kind of files -> so many of them are shown, spread evenly over the sorted paths."""


@dataclass(frozen=True, slots=True)
class TableChange:
    """The rows that changed in the tables of a file, and how columns are distributed, by table."""

    diffs: list[TableDiff]
    plots: dict[str | None, list[Distribution]]


@dataclass(frozen=True, slots=True)
class PictureChange:
    """A picture before and now, and where it differs."""

    old: pictures.Picture | None
    new: pictures.Picture | None
    difference: pictures.PictureDifference | None


@dataclass(frozen=True, slots=True)
class SoundChange:
    """A sound before and now."""

    old: sounds.Sound | None
    new: sounds.Sound | None


@dataclass(frozen=True, slots=True)
class ArrayChange:
    """The arrays of a file before and now."""

    old: list[arrays.ArrayFacts]
    new: list[arrays.ArrayFacts]


@dataclass(frozen=True, slots=True)
class TextChange:
    """The lines of a unified diff."""

    lines: list[str]


FileBody: TypeAlias = TableChange | PictureChange | SoundChange | ArrayChange | TextChange


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A changed file: what is shown of it, or the reason why nothing is, and what was left out."""

    path: str
    change: Difference
    body: FileBody | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileKind:
    """The files of a kind: `total` changed, of which `files` are shown."""

    name: str
    total: int
    files: list[ShownFile]


@dataclass(slots=True)
class Gathered:
    """The content of a report. `changes` are all of them, by path from the top of the worktree."""

    old: str
    new: str
    changes: list[tuple[str, Difference]]
    kinds: list[FileKind] = field(default_factory=list)

    @property
    def totals(self) -> Totals:
        """All changes, added up."""
        return Totals.of(change for _, change in self.changes)

    def folders(self) -> dict[str, Totals]:
        """Return folder -> the changes directly in it, sorted."""
        by_folder: dict[str, list[Difference]] = {}
        for path, change in self.changes:
            by_folder.setdefault(posixpath.dirname(path), []).append(change)
        return {folder: Totals.of(changes) for folder, changes in sorted(by_folder.items())}


def gather(
    names: tuple[str, str], targets: Sequence[TargetDiff], sides: Sides, keys: Sequence[str] = ()
) -> Gathered:
    """Read of the changed files what is shown; `names` are those of the two revisions.

    Of each kind at most `EACH_MAX` files are read, and of a large file a part.
    """
    changes = [
        (workspace_path(target.target, change.path), change)
        for target in targets
        for change in target.changes
    ]
    result = Gathered(*names, changes)
    by_kind: dict[str, list[tuple[str, Difference]]] = {}
    for path, change in changes:
        kind = _kind(path, change)
        if kind is not None:
            by_kind.setdefault(kind, []).append((path, change))
    for kind, limit in EACH_MAX.items():
        chosen = by_kind.get(kind, [])
        shown = [
            _shown_file(kind, path, change, sides, keys) for path, change in spread(chosen, limit)
        ]
        if chosen:
            result.kinds.append(FileKind(kind, len(chosen), shown))
    return result


Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return so many items, spread evenly, with the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[at * (len(items) - 1) // (count - 1)] for at in range(count)]


def _kind(path: str, change: Difference) -> str | None:
    """Return the kind of files with other content; None for a mere rename, link or mode."""
    old, new = change.old, change.new
    if (old and new and old.blake3 == new.blake3) or not (new or old or Entry()).is_file:
        return None
    suffix = os.path.splitext(path)[1].lower()
    if suffix in pictures.PICTURE_SUFFIXES:
        return "pictures"
    if suffix in sounds.SOUND_SUFFIXES:
        return "sounds"
    if suffix in arrays.ARRAY_SUFFIXES:
        return "arrays"
    if may_have_rows(path):
        return "tables"
    small = max(entry.bytes for entry in (old, new) if entry) <= texts.TEXT_BYTES_MAX
    return "texts" if small else None


def _shown_file(
    kind: str, path: str, change: Difference, sides: Sides, keys: Sequence[str]
) -> ShownFile:
    read = _FileReading(path, change, sides, keys)
    try:
        body, notes = getattr(read, kind)()
        return ShownFile(path, change, body, tuple(note for note in notes if note))
    except (ValueError, TableFault) as error:
        return ShownFile(path, change, None, (str(error),))
    except (MissingError, CorruptError) as error:
        return ShownFile(path, change, None, (f"its content cannot be read: {error}",))


_BodyAndNotes: TypeAlias = "tuple[FileBody | None, Sequence[str | None]]"


@dataclass(frozen=True)
class _FileReading:
    """Reads what is shown of one file; the methods have the names of kinds."""

    path: str
    change: Difference
    sides: Sides
    keys: Sequence[str]

    def _both(self, read: Callable[[IO[bytes], int], Any]) -> Iterator[Any]:
        """Yield what a function reads of the side before and of the side now, None if absent."""
        pairs = ((self.change.old, self.sides.old), (self.change.new, self.sides.new))
        for entry, open_file in pairs:
            if entry is None or not entry.is_file:
                yield None
                continue
            with open_file(self.path) as file:
                yield read(file, entry.bytes)

    def pictures(self) -> _BodyAndNotes:
        """Read two small pictures."""
        old, new = self._both(pictures.read_picture)
        difference = pictures.picture_difference(old, new) if old and new else None
        return PictureChange(old, new, difference), ()

    def sounds(self) -> _BodyAndNotes:
        """Read two waveforms."""
        old, new = self._both(sounds.read_sound)
        sampled = any(sound and sound.sampled for sound in (old, new))
        note = "the waveform is of a sample: 2,000 frames a column" if sampled else None
        return SoundChange(old, new), (note,)

    def arrays(self) -> _BodyAndNotes:
        """Read the facts of arrays."""
        old, new = self._both(lambda file, size: arrays.read_arrays(self.path, file, size))
        both = [*(old or ()), *(new or ())]
        sampled = any(array.statistics and array.statistics.sampled for array in both)
        note = f"statistics marked ~ are of a sample of {size_text(arrays.SAMPLE_BYTES_MAX)}"
        return ArrayChange(old or [], new or []), (note if sampled else None,)

    def texts(self) -> _BodyAndNotes:
        """Read two texts and compare them."""
        old, new = self._both(lambda file, _: texts.read_lines(file))
        lines, note = texts.text_difference(old or [], new or [])
        return TextChange(lines), (note,)

    def tables(self) -> _BodyAndNotes:
        """Compare tables by row if they are small enough, and their columns by a sample."""
        total = sum(entry.bytes for entry in (self.change.old, self.change.new) if entry)
        notes = []
        with ExitStack() as held:
            old, new = opened_tables(self.path, self.change, self.sides, held)
            if not old and not new:  # JSON of another kind is a text
                return self.texts()
            diffs = []
            if total <= TABLE_BYTES_MAX:
                diffs = diff_opened(self.path, old, new, self.keys)
            else:
                notes.append(
                    f"rows are not compared: both sides have {size_text(total)}; "
                    "`dv diff --rows` does it"
                )
            plots, sampled = {}, False
            for name in sorted(set(old) & set(new), key=lambda name: name or ""):
                plots[name], more = distributions(old[name], new[name])
                sampled = sampled or more
        if sampled:
            notes.append("plots are of the first 20,000 rows of each side")
        return TableChange(diffs, plots), notes
