"""The cheap look at names proves nothing that is not so."""

from __future__ import annotations

from hypothesis import given, strategies as st

from dvtool.format.spelling import distinct_folded, folded

PATHS = st.lists(st.text("abAB/ß", min_size=1, max_size=4), max_size=6)


@given(PATHS)
def test_names_said_to_be_distinct_are(paths: list[str]) -> None:
    distinct = len(set(map(folded, paths))) == len(paths)
    assert distinct_folded(paths) == (distinct and "".join(paths).isascii())
