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
_DISTANCE_MIN = 0.01
"""Distributions whose shares differ by less, in sum over all values, look the same in a plot."""


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
    other_values: bool
    """Whether values came or went, of numbers whether the lowest or the highest is another."""

    @property
    def distance(self) -> float:
        """The total variation distance: 0 for equal shares, 1 if no value is on both sides."""
        old_sum, new_sum = max(1, sum(self.old)), max(1, sum(self.new))
        pairs = zip(self.old, self.new, strict=True)
        return sum(abs(old / old_sum - new / new_sum) for old, new in pairs) / 2

    @property
    def differs(self) -> bool:
        """Whether a plot shows a difference."""
        missing = bool(self.old_missing) != bool(self.new_missing)
        return self.other_values or missing or self.distance >= _DISTANCE_MIN


def distributions(old: RowTable, new: RowTable) -> tuple[list[Distribution], bool]:
    """Return the columns whose distributions differ, most first, and if rows were left out.

    Of the table's columns the first `COLUMNS_MAX` are looked at.
    """
    names = [name for name in new.columns if name in old.columns][:COLUMNS_MAX]
    before, old_more = _columns(old, names)
    after, new_more = _columns(new, names)
    plots = [_distribution(name, before[name], after[name]) for name in names]
    shown = [plot for plot in plots if plot is not None and plot.differs]
    return sorted(shown, key=lambda plot: -plot.distance), old_more or new_more


def _columns(table: RowTable, names: Sequence[str]) -> tuple[dict[str, list[Any]], bool]:
    positions = {name: at for at, name in enumerate(table.columns)}
    values: dict[str, list[Any]] = {name: [] for name in names}
    rows = table.rows()
    for row in itertools.islice(rows, ROWS_MAX):
        for name in names:
            values[name].append(plain(row[positions[name]]))
    return values, next(iter(rows), None) is not None


def _distribution(name: str, old: list[Any], new: list[Any]) -> Distribution | None:
    if any(isinstance(value, list) for value in (*old, *new)):
        return None  # boxes, and the like: each of its own
    before = [value for value in old if value not in (None, "")]
    after = [value for value in new if value not in (None, "")]
    missing = len(old) - len(before), len(new) - len(after)
    numbers = _numbers(before), _numbers(after)
    if numbers[0] is not None and numbers[1] is not None and len({*numbers[0], *numbers[1]}) > 1:
        return _of_numbers(name, (numbers[0], numbers[1]), missing)
    counts = [Counter(map(_label, values)) for values in (before, after)]
    both = counts[0] + counts[1]
    of_their_own = len(both) > VALUES_MAX and len(both) > sum(both.values()) / 3
    if len(both) > _DISTINCT_MAX or of_their_own or max(map(_most, counts)) <= 1:
        return None  # texts and ids
    gone = counts[0].keys() ^ counts[1].keys()
    ranked = sorted(both, key=lambda value: (-both[value], value))
    other = [value for value in ranked if value in gone][: VALUES_MAX // 2]
    frequent = [value for value in ranked if value not in other][: VALUES_MAX - len(other)]
    shown = tuple(value for value in ranked if value in {*other, *frequent})
    old_tally, new_tally = (tuple(count[value] for value in shown) for count in counts)
    return Distribution(name, False, shown, old_tally, new_tally, *missing, bool(gone))


def _of_numbers(
    name: str, sides: tuple[list[float], list[float]], missing: tuple[int, int]
) -> Distribution:
    low, high = min(map(min, filter(None, sides))), max(map(max, filter(None, sides)))
    old, new = (_binned(numbers, low, high) for numbers in sides)
    ends = [(min(numbers, default=None), max(numbers, default=None)) for numbers in sides]
    return Distribution(
        name, True, (f"{low:g}", f"{high:g}"), old, new, *missing, ends[0] != ends[1]
    )


def _most(counts: Counter[str]) -> int:
    return max(counts.values(), default=0)


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
