"""The breaks on purpose of `scripts/mutants` still fit the code; it is run by hand."""

from __future__ import annotations

import pytest

from tests.mutants import BREAKS, PROJECT, Break


@pytest.mark.parametrize("one", BREAKS, ids=lambda one: one.name)
def test_a_break_fits_one_place(one: Break) -> None:
    assert (PROJECT / one.file).read_text(encoding="utf-8").count(one.old) == 1
    assert one.new != one.old
