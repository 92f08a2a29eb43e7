"""How the values of a table's columns are distributed, before and now."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dvtool.reports.cells import cell_text, plain
from dvtool.reports.row_files import RowTable

ROWS_MAX = 20_000
"""So many first rows of each side are looked at."""
COLUMNS_MAX = 12
BINS = 24
VALUES_MAX = 8
_NUMERIC_SHARE_MIN = 0.95
_DISTINCT_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Distribution:
    """Counts of one column on both sides: of bins of numbers, or of the most frequent values.

    `labels` has an entry for each count of values; of bins, the lowest and the highest number.
    """

    column: str
    numeric: bool
    labels: tuple[str, ...]
    old: tuple[int, ...]
    new: tuple[int, ...]
    old_missing: int
    new_missing: int


def distributions(old: RowTable, new: RowTable) -> tuple[list[Distribution], bool]:
    """Return the columns whose distributions differ, the first ones, and if rows were left out."""
    names = [name for name in new.columns if name in old.columns][:COLUMNS_MAX]
    before, old_more = _columns(old, names)
    after, new_more = _columns(new, names)
    drawn = [_distribution(name, before[name], after[name]) for name in names]
    shown = [
        distribution
        for distribution in drawn
        if distribution
        and (distribution.old, distribution.old_missing)
        != (distribution.new, distribution.new_missing)
    ]
    return shown, old_more or new_more


def _columns(table: RowTable, names: Sequence[str]) -> tuple[dict[str, list[Any]], bool]:
    positions = {name: at for at, name in enumerate(table.columns)}
    values: dict[str, list[Any]] = {name: [] for name in names}
    rows = table.rows()
    for row in itertools.islice(rows, ROWS_MAX):
        for name in names:
            values[name].append(plain(row[positions[name]]))
    return values, next(iter(rows), None) is not None


def _distribution(name: str, old: list[Any], new: list[Any]) -> Distribution | None:
    before = [value for value in old if value not in (None, "")]
    after = [value for value in new if value not in (None, "")]
    missing = len(old) - len(before), len(new) - len(after)
    old_numbers, new_numbers = _numbers(before), _numbers(after)
    if old_numbers is not None and new_numbers is not None and old_numbers + new_numbers:
        low, high = min(old_numbers + new_numbers), max(old_numbers + new_numbers)
        labels = (f"{low:g}", f"{high:g}")
        bins = [_binned(numbers, low, high) for numbers in (old_numbers, new_numbers)]
        return Distribution(name, True, labels, bins[0], bins[1], *missing)
    counts = [Counter(map(_label, values)) for values in (before, after)]
    both = counts[0] + counts[1]
    if len(both) > _DISTINCT_MAX or (len(both) > VALUES_MAX and len(both) > sum(both.values()) / 3):
        return None  # texts and ids, each of its own
    top = [value for value, _ in sorted(both.items(), key=lambda it: (-it[1], it[0]))[:VALUES_MAX]]
    tallies = [tuple(count[value] for value in top) for count in counts]
    return Distribution(name, False, tuple(top), tallies[0], tallies[1], *missing)


def _label(value: Any) -> str:
    return cell_text(value) or ""


def _numbers(values: list[Any]) -> list[float] | None:
    """Return values as numbers, if nearly all are."""
    numbers = [number for value in values if (number := _number(value)) is not None]
    return numbers if len(numbers) >= _NUMERIC_SHARE_MIN * len(values) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _binned(numbers: list[float], low: float, high: float) -> tuple[int, ...]:
    counts = [0] * BINS
    width = (high / BINS - low / BINS) or 1.0
    for number in numbers:
        counts[min(BINS - 1, max(0, int((number - low) / width)))] += 1
    return tuple(counts)
