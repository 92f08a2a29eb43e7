"""What a gc of a remote plans to bury, move and let go."""

from __future__ import annotations

from dvtool.remotes.objects import pack_key, root_key, shard_key
from dvtool.remotes.survey import RootThere
from dvtool.remotes.tombstones import Tombstone
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.verbs.gc.bury import Expiry, plan_remote_gc
from tests.unit.verbs.gc.surveys import MIB, NOW_S, OTHER, REPO, keys, named, there


def test_what_any_repository_names_is_live() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (OTHER, {"m2": ["s2"]})},
        {"s1": {"p1": 60 * MIB}, "s2": {"p2": 60 * MIB}, "s3": {"p3": 60 * MIB}},
        {"p1": 64 * MIB, "p2": 64 * MIB, "p3": 64 * MIB, "p4": 1},
    )
    plan = plan_remote_gc(survey, [], repo=REPO, now_s=NOW_S)
    dead = {shard_key(named("s3")), pack_key(named("p3")), pack_key(named("p4"))}
    assert keys(plan.dead) == dead
    assert not (plan.move or plan.replace or plan.expired)
    survey.claimed = {pack_key(named("p3"))}
    assert keys(plan_remote_gc(survey, [], repo=REPO, now_s=NOW_S).dead) == dead - survey.claimed
    buried = Tombstone(1, "", sorted(dead))
    assert plan_remote_gc(survey, [buried], repo=REPO, now_s=NOW_S).empty


def test_packs_that_are_mostly_dead_are_moved_and_small_ones_only_if_many() -> None:
    packs = {"half": 20 * MIB, "less": 20 * MIB, **{f"small{n}": 1 * MIB for n in range(8)}}
    needed = {"half": 10 * MIB, "less": 10 * MIB - 1, **{f"small{n}": MIB for n in range(8)}}
    survey = there({"r1": (REPO, {"m1": ["s1"]})}, {"s1": needed}, packs)
    plan = plan_remote_gc(survey, [], repo=REPO, now_s=NOW_S)
    assert keys(plan.move) == {pack_key(named("less"))}
    assert plan.freed_bytes == 10 * MIB + 1
    packs["small8"] = needed["small8"] = MIB
    survey = there({"r1": (REPO, {"m1": ["s1"]})}, {"s1": needed}, packs)
    assert len(plan_remote_gc(survey, [], repo=REPO, now_s=NOW_S).move) == 10


def test_many_roots_are_gathered_but_only_our_own() -> None:
    roots = {f"r{n}": (REPO, {f"m{n}": ["s1"], "same": ["s1"]}) for n in range(9)}
    roots |= {f"o{n}": (OTHER, {f"m{n}": ["s1"]}) for n in range(20)}
    survey = there(roots, {"s1": {"p1": 60 * MIB}}, {"p1": 64 * MIB})
    plan = plan_remote_gc(survey, [], repo=REPO, now_s=NOW_S)
    assert {one.repo for one in plan.replace} == {REPO}
    assert (len(plan.replace), len(plan.keep), len(plan.dead)) == (9, 10, 0)
    going = Tombstone(1, "", [], [one.key for one in plan.replace], REPO)
    assert plan_remote_gc(survey, [going], repo=REPO, now_s=NOW_S).empty


def test_expiry_takes_what_is_neither_needed_nor_young() -> None:
    survey = there(
        {"r1": (REPO, {"old": ["s1"], "kept": ["s2"]}), "r2": (REPO, {"young": ["s3"]})},
        {"s1": {"p1": 60 * MIB}, "s2": {"p2": 60 * MIB}, "s3": {"p3": 60 * MIB}},
        {"p1": 64 * MIB, "p2": 64 * MIB, "p3": 64 * MIB},
    )
    key = root_key(REPO, named("r2").hex())
    old = survey.roots[key]
    survey.roots[key] = RootThere(key, ObjectInfo(key, 1, modified_s=NOW_S), old.root)
    seen = frozenset(named(name).hex() for name in ("old", "young"))
    expiry = Expiry(REPO, frozenset({named("kept").hex()}), 600, seen)
    plan = plan_remote_gc(survey, [], repo=REPO, expiry=expiry, now_s=NOW_S)
    assert [one.manifest for one in plan.expired] == [named("old").hex()]
    expiry = Expiry(REPO, frozenset({named("kept").hex()}), 0, seen)
    plan = plan_remote_gc(survey, [], repo=REPO, expiry=expiry, now_s=NOW_S)
    assert {one.manifest for one in plan.expired} == {named("old").hex(), named("young").hex()}
    assert keys(plan.dead) == {
        key(named(name)) for key, names in ((shard_key, ("s1", "s3")), (pack_key, ("p1", "p3")))
        for name in names
    }  # fmt: skip


def test_expiry_leaves_what_this_clone_never_saw() -> None:
    """A fork pushes under the same repository id."""
    survey = there(
        {"r1": (REPO, {"ours": ["s1"], "theirs": ["s2"]})},
        {"s1": {"p1": 60 * MIB}, "s2": {"p2": 60 * MIB}},
        {"p1": 64 * MIB, "p2": 64 * MIB},
    )
    expiry = Expiry(REPO, frozenset(), 0, frozenset({named("ours").hex()}))
    plan = plan_remote_gc(survey, [], repo=REPO, expiry=expiry, now_s=NOW_S)
    assert [one.manifest for one in plan.expired] == [named("ours").hex()]
    assert (plan.unseen, [one.manifest for one in plan.keep]) == (1, [named("theirs").hex()])
    assert keys(plan.dead) == {shard_key(named("s1")), pack_key(named("p1"))}
