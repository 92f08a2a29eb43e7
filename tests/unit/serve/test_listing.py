"""Pages of listings, against a listing made the slow way."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, strategies as st

from dvtool.serve.listing import (
    Question,
    behind_all,
    first_of,
    first_of_groups,
    list_page,
)

LETTERS = "ab/-\U0010ffff"
texts = st.text(LETTERS, max_size=5)


def slow_listing(keys: list[str], prefix: str, delimiter: str, after: str) -> list[str]:
    items = []
    for key in sorted(keys):
        if not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        item = key if cut < 0 else key[: cut + len(delimiter)]
        if item > after and item not in items[-1:]:
            items.append(item)
    return items


def paged(keys: list[str], question: Question) -> list[str]:
    items: list[str] = []
    while True:
        page = list_page(first_of(keys), question)
        got = sorted([*page.keys, *page.prefixes])
        assert len(got) <= question.limit
        items.extend(got)
        if not page.truncated:
            return items
        assert page.last == got[-1]
        question = question._replace(after=page.last)


@given(
    st.sets(st.text(LETTERS, min_size=1, max_size=6)),
    texts,
    st.sampled_from(["", "/", "a", "-a"]),
    texts,
    st.integers(1, 3),
)
def test_pages_have_every_item_once(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    ordered = sorted(keys)
    question = Question(prefix, delimiter, after, limit)
    assert paged(ordered, question) == slow_listing(ordered, prefix, delimiter, after)


@given(st.sets(st.text("ab-.", min_size=1, max_size=3)), st.sets(texts), texts)
def test_groups_are_searched_as_if_they_were_one(names: set[str], paths: set[str], at: str) -> None:
    heads = sorted(name + "/" for name in names)
    inner = sorted(paths)
    first_from = first_of_groups(heads, lambda _: inner)
    every = [head + path for head in heads for path in inner]
    assert every == sorted(every)
    assert first_from(at) == first_of(every)(at)


def test_the_text_behind_a_prefix() -> None:
    assert behind_all("a/") == "a0"
    assert behind_all("a" + chr(sys.maxunicode)) == "b"
    assert behind_all(chr(sys.maxunicode)) is None


def test_a_page_of_many_keys_is_searched_and_not_walked() -> None:
    keys = [f"d/{number:06}" for number in range(300_000)]
    asked = 0
    search = first_of(keys)

    def counted(at: str) -> str | None:
        nonlocal asked
        asked += 1
        return search(at)

    page = list_page(counted, Question("d/", "", "d/250000"))
    assert page.keys[0] == "d/250001"
    assert len(page.keys) == 1000
    assert list_page(counted, Question("", "/")).prefixes == ["d/"]
    assert asked < 1_010


@pytest.mark.parametrize("limit", [0])
def test_no_keys_asked_for_are_none(limit: int) -> None:
    page = list_page(first_of(["a"]), Question(limit=limit))
    assert (page.keys, page.prefixes, page.truncated) == ([], [], False)
