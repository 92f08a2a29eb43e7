"""Settling what a merge left."""

from __future__ import annotations

import pytest

from dvtool.verbs.resolve.settle import name_for_other


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cat.jpg", "cat.theirs.jpg"),
        ("a.b/cat", "a.b/cat.theirs"),
        (".hidden", ".hidden.theirs"),
        ("x.tar.gz", "x.tar.theirs.gz"),
    ],
)
def test_the_name_of_the_other_side(path: str, name: str) -> None:
    assert name_for_other(path, lambda _: False) == name


def test_the_name_of_the_other_side_is_free() -> None:
    taken = {"cat.theirs.jpg", "cat.theirs-2.jpg"}
    assert name_for_other("cat.jpg", taken.__contains__) == "cat.theirs-3.jpg"
