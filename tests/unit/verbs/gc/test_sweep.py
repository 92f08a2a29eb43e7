"""What a sweep removes of what a tombstone names."""

from __future__ import annotations

from dvtool.remotes.objects import pack_key, root_key, shard_key
from dvtool.remotes.tombstones import Tombstone
from dvtool.verbs.gc.bury import Expiry
from dvtool.verbs.gc.sweep import to_remove
from tests.unit.verbs.gc.surveys import OTHER, REPO, named, there


def test_a_sweep_recomputes_what_is_dead() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (REPO, {"m1": ["s1"], "m2": ["s2"]})},
        {"s1": {"p1": 1}, "s2": {"p2": 1}},
        {"p1": 1, "p2": 1},
    )
    r1, r2 = (root_key(REPO, named(name).hex()) for name in ("r1", "r2"))
    every = sorted(survey.objects)
    gathered = Tombstone(1, "", every, [r1], REPO)
    assert to_remove(survey, gathered, None) == ([[r1], [], []], 4)
    lost = Tombstone(1, "", every, [r1, r2], REPO)
    # Nothing else names them, and they were not given up: a root that should be there is not.
    assert to_remove(survey, lost, None) == ([[], [], []], 6)
    given_up = Tombstone(1, "", every, [r2], REPO, [named("m2").hex()])
    batches, spared = to_remove(survey, given_up, None)
    assert batches == [[r2], [shard_key(named("s2"))], [pack_key(named("p2"))]]
    assert spared == 2
    m2 = frozenset({named("m2").hex()})
    assert to_remove(survey, given_up, Expiry(REPO, frozenset(), 0, m2))[0] == batches
    assert to_remove(survey, given_up, Expiry(REPO, m2, 0, m2))[0] == [[], [], []]
    unseen = Expiry(REPO, frozenset(), 0, frozenset())
    assert to_remove(survey, given_up, unseen)[0] == [[], [], []]


def test_a_sweep_spares_what_another_repository_names() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (OTHER, {"m2": ["s2"]})},
        {"s1": {"p1": 1}, "s2": {"p2": 1}},
        {"p1": 1, "p2": 1, "p3": 1},
    )
    for repo in (REPO, None):
        grave = Tombstone(1, "", sorted(survey.objects), [], repo)
        assert to_remove(survey, grave, None) == ([[], [], [pack_key(named("p3"))]], 4)
