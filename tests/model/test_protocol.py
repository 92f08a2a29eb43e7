"""Every way in which pushes and gcs can be interleaved, crashes at every step included."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from tests.model.steps import (
    Process,
    Search,
    Tomb,
    bury,
    gather,
    move,
    push,
    root,
    roots_are_whole,
    sweep,
    undo,
    whole,
)

X, X2, Y, S, S2 = "p/X", "p/X2", "p/Y", "s/S", "s/S2"
T = "gc/t/T"


def dead(*keys: str) -> Tomb:
    return Tomb(frozenset(keys))


GARBAGE = {X: True, S: frozenset({X}), T: dead(X, S)}
"""What a push left that was interrupted before its root; buried, and due."""
ROOTED = {X: True, S: frozenset({X}), "r/old": root(M="s/S")}
TWO = {
    X: True, Y: True, S: frozenset({X}), S2: frozenset({Y}),
    "r/one": root(M="s/S"), "r/two": root(N="s/S2"),
}  # fmt: skip

CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, Process], tuple[str, ...]]] = {
    "push of what is being swept": (
        GARBAGE,
        {"M": lambda: push("B", "M", {S: [X]}), "sweep": lambda: sweep("A", T)},
        (),
    ),
    "push into other packs": (
        GARBAGE,
        {"M": lambda: push("B", "M", {S: [Y]}), "sweep": lambda: sweep("A", T)},
        (),
    ),
    "push while two sweep the same": (
        {X: True, S: frozenset({X}), T: dead(X)},
        {
            "M": lambda: push("B", "M", {S: [X]}),
            "sweep": lambda: sweep("A", T),
            "again": lambda: sweep("C", T),
        },
        (),
    ),
    "slow push, its packs buried and swept without grace": (
        {},
        {"M": lambda: push("B", "M", {S: [X]}), "gc": lambda: bury("A")},
        (),
    ),
    "slow push, two gcs without grace": (
        {X: True},
        {
            "M": lambda: push("B", "M", {S: [X]}),
            "gc": lambda: bury("A"),
            "gc2": lambda: bury("C"),
        },
        (),
    ),
    "two pushes of the same and a gc": (
        {},
        {
            "M": lambda: push("B", "M", {S: [X]}),
            "N": lambda: push("C", "N", {S: [Y]}),
            "gc": lambda: bury("A"),
        },
        (),
    ),
    "content is moved during a push": (
        ROOTED,
        {"N": lambda: push("B", "N", {S: [X]}), "move": lambda: move("A", X, X2)},
        ("M",),
    ),
    "content is moved by two at once": (
        ROOTED,
        {"move": lambda: move("A", X, X2), "move2": lambda: move("C", X, Y)},
        ("M",),
    ),
    "content is moved and a gc runs": (
        ROOTED,
        {"move": lambda: move("A", X, X2), "gc": lambda: bury("C")},
        ("M",),
    ),
    "roots are gathered during a push that needs nothing": (
        TWO,
        {
            "N": lambda: push("B", "N", {S2: [Y]}, known=["r/two"]),
            "gc": lambda: gather("A", ["r/one", "r/two"], []),
        },
        ("M", "N"),
    ),
    "roots are gathered by two at once": (
        TWO,
        {
            "gc": lambda: gather("A", ["r/one", "r/two"], []),
            "gc2": lambda: gather("C", ["r/one", "r/two"], []),
        },
        ("M", "N"),
    ),
    "a manifest expired that somebody pushes anew": (
        {
            **TWO,
            "r/all": root(M="s/S"),
            T: Tomb(frozenset({Y, S2}), frozenset({"r/two"}), frozenset({"N"})),
        },
        {
            "N": lambda: push("B", "N", {S2: [Y]}, known=["r/two"]),
            "sweep": lambda: sweep("A", T),
        },
        ("M",),
    ),
    "undo during a sweep and a push": (
        GARBAGE,
        {
            "M": lambda: push("B", "M", {S: [X]}),
            "sweep": lambda: sweep("A", T),
            "undo": lambda: undo(T),
        },
        (),
    ),
}


LARGE = {"roots are gathered by two at once"}
"""Minutes, not seconds: run with DVTOOL_TEST_LARGE=1."""


@pytest.mark.parametrize("name", CASES)
def test_what_was_pushed_is_whole_at_every_moment(name: str) -> None:
    if name in LARGE and not os.environ.get("DVTOOL_TEST_LARGE"):
        pytest.skip("DVTOOL_TEST_LARGE=1 runs it")
    start, processes, always = CASES[name]

    def check(store: Mapping[str, Any], ended: Mapping[str, str]) -> None:
        roots_are_whole(store)
        for manifest in always:
            assert whole(store, manifest), manifest
        for process, result in ended.items():
            if process in ("M", "N") and result == "done":
                assert whole(store, process), f"{process} was pushed: {dict(store)}"

    search = Search(start, processes, check).run()
    assert search.interleavings > 100
    pushes = {process for process in processes if process in ("M", "N")}
    for process in pushes:
        # It does not merely hold because nothing ever succeeds.
        assert any(dict(result).get(process) == "done" for result in search.results)
    print(f"{name}: {search.states:,} states, {search.interleavings:,} interleavings")


def push_broken(step: str) -> Mapping[str, Process]:
    return {
        "M": lambda: push("B", "M", {S: [X]}, broken=step),
        "sweep": lambda: sweep("A", T),
    }


def sweep_broken(step: str) -> Mapping[str, Process]:
    return {
        "M": lambda: push("B", "M", {S: [X]}),
        "sweep": lambda: sweep("A", T, broken=step),
        "again": lambda: sweep("C", T),
    }


BROKEN: dict[str, tuple[Mapping[str, Any], Mapping[str, Process]]] = {
    **{
        step: (GARBAGE, push_broken(step))
        for step in ("no claim", "no look", "no proof", "claim let go before the root")
    },
    "roots before claims": ({X: True, T: dead(X)}, sweep_broken("roots before claims")),
    "no mark": ({X: True, T: dead(X)}, sweep_broken("no mark")),
    "mark of another removed": ({X: True, T: dead(X)}, sweep_broken("mark of another removed")),
    "doomed roots count": (
        {**TWO, T: Tomb(frozenset({Y, S2}), frozenset({"r/two"}), frozenset({"N"}))},
        {
            "N": lambda: push("B", "N", {S2: [Y]}, known=["r/two"], broken="doomed roots count"),
            "sweep": lambda: sweep("A", T),
        },
    ),
}


@pytest.mark.parametrize("step", BROKEN)
def test_the_search_notices_when_a_step_is_left_out(step: str) -> None:
    start, processes = BROKEN[step]

    def check(store: Mapping[str, Any], ended: Mapping[str, str]) -> None:
        roots_are_whole(store)
        for process in ("M", "N"):
            if ended.get(process) == "done":
                assert whole(store, process)

    with pytest.raises(AssertionError):
        Search(start, processes, check).run()
