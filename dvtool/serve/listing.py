"""Pages of a listing of sorted keys, each found by binary search: nothing is listed twice."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

FirstFrom: TypeAlias = Callable[[str], str | None]
"""Gives the first key that is not before a text, None if there is none."""
PAGE_MAX = 1000


class Question(NamedTuple):
    """Which keys are asked for: below `prefix`, and behind `after` unless that is empty."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = PAGE_MAX


class Page(NamedTuple):
    """The keys and common prefixes of a page, each sorted, and where the next page begins."""

    keys: Sequence[str]
    prefixes: Sequence[str]
    last: str
    """The last key or common prefix of the page, behind which the next one goes on."""
    truncated: bool
    """Whether there is more."""


def list_page(first_from: FirstFrom, question: Question) -> Page:
    """Return a page of keys; those with the delimiter behind the prefix as common prefixes."""
    prefix, delimiter, after, limit = question
    keys: list[str] = []
    prefixes: list[str] = []
    last = ""
    at: str | None = max(prefix, after + "\0") if after else prefix
    while at is not None and limit:
        key = first_from(at)
        if key is None or not key.startswith(prefix):
            break
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        item = key if cut < 0 else key[: cut + len(delimiter)]
        at = key + "\0" if cut < 0 else behind_all(item)
        if item <= after:  # a common prefix of which the page before told
            continue
        if len(keys) + len(prefixes) == limit:
            return Page(keys, prefixes, last, truncated=True)
        (keys if cut < 0 else prefixes).append(item)
        last = item
    return Page(keys, prefixes, last, truncated=False)


def behind_all(prefix: str) -> str | None:
    """Return the first text behind all that begin with a prefix; None if there is none."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    return kept[:-1] + chr(ord(kept[-1]) + 1) if kept else None


def first_of(sorted_keys: Sequence[str]) -> FirstFrom:
    """Return the search in a sorted sequence."""

    def first_from(at: str) -> str | None:
        number = bisect_left(sorted_keys, at)
        return sorted_keys[number] if number < len(sorted_keys) else None

    return first_from


def first_of_groups(heads: Sequence[str], paths: Callable[[str], Sequence[str]]) -> FirstFrom:
    """Return the search in keys that begin with one of the sorted heads, none a part of another.

    `paths` gives the sorted rest of the keys of a head; it is asked only where the search gets to.
    """

    def first_from(at: str) -> str | None:
        for number in range(max(bisect_left(heads, at) - 1, 0), len(heads)):
            head = heads[number]
            if at > head and not at.startswith(head):
                continue
            rest = paths(head)
            position = bisect_left(rest, at[len(head) :] if at.startswith(head) else "")
            if position < len(rest):
                return head + rest[position]
        return None

    return first_from
