"""Which columns of a table get a plot, in which order, and of which values."""

from __future__ import annotations

import io

from dvtool.reports.distributions import Distribution, distributions
from dvtool.reports.row_files import row_tables
from tests.unit.reports.tables import json_lines


def plots(old: list[dict[str, object]], new: list[dict[str, object]]) -> list[Distribution]:
    (before,), (after,) = (row_tables("t.jsonl", io.BytesIO(json_lines(r))) for r in (old, new))
    found, more = distributions(before, after)
    assert not more
    return found


def rows(count: int, **shift: int) -> list[dict[str, object]]:
    return [
        {
            "id": f"text {n}",
            "width": (n * 7) % 50 + shift.get("width", 0),
            "label": "cat" if n % (2 + shift.get("label", 0)) else "dog",
            "same": n % 5,
            "box": [n, n],
        }
        for n in range(count)
    ]


def test_only_columns_that_are_distributed_otherwise_the_most_different_first() -> None:
    found = plots(rows(200), rows(200, width=40, label=1))
    assert [plot.column for plot in found] == ["width", "label"]
    assert found[0].numeric and found[0].labels == ("0", "89") and found[0].distance > 0.5
    assert (found[1].labels, found[1].old, found[1].new) == (
        *(("cat", "dog"), (100, 100)),
        (133, 67),
    )
    assert plots(rows(200), rows(100)) == []  # as many of each, by their shares


def test_a_rare_value_that_came_is_shown_beside_frequent_ones() -> None:
    old = [{"label": f"common {n % 20}"} for n in range(2_000)]
    (found,) = plots(old, [*old, {"label": "rare"}])
    assert found.other_values and found.distance < 0.01
    assert len(found.labels) == 8 and "rare" in found.labels
    assert found.new[found.labels.index("rare")] == 1


def test_missing_values_and_a_changed_range_count_as_a_difference() -> None:
    old = [{"v": n % 10, "w": n % 3} for n in range(2_000)]
    (found,) = plots(old, [*old[:-1], {"v": None, "w": 1}])
    assert (found.column, found.old_missing, found.new_missing) == ("v", 0, 1)
    (found,) = plots(old, [*old, {"v": 500, "w": 1}])
    assert found.column == "v" and found.labels == ("0", "500")


def test_one_value_alone_is_a_bar_and_no_histogram() -> None:
    (found,) = plots([{"v": 640}] * 3, [{"v": 640}] * 4 + [{"v": None}])
    assert not found.numeric and (found.labels, found.old, found.new) == (("640",), (3,), (4,))
