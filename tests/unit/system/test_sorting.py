from __future__ import annotations

from hypothesis import given, settings, strategies as st

from dvtool.system.sorting import Sorter


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)), st.integers(1, 2_000), st.integers(2, 4))
def test_records_come_back_sorted_however_many_runs(
    records: list[bytes], run_bytes_max: int, runs_max: int
) -> None:
    with Sorter(run_bytes_max=run_bytes_max, runs_max=runs_max) as sorter:
        for record in records:
            sorter.add(record)
        assert list(sorter) == sorted(records)
        assert list(sorter.unique()) == sorted(set(records))
