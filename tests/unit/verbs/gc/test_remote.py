"""gc of a remote in its parts: the plan, whose clock counts, and what it may not do."""

from __future__ import annotations

import datetime
import os
import time
from array import array
from pathlib import Path

import pytest

from dvtool.errors import BusyError, CorruptError, RemoteForbidden
from dvtool.format.digest import Digest, digest_of
from dvtool.remotes import repack as moving
from dvtool.remotes.remote import RemoteStore, Root, RootManifest, pack_key, root_key, shard_key
from dvtool.remotes.survey import RootThere, ShardUse, Survey, frame_number
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.verbs.gc import remote as remotegc
from tests.faulty import Faulty

REPO, OTHER = "0" * 31 + "1", "0" * 31 + "2"
NOW_S = time.time()
MIB = 1 << 20


def named(text: str) -> Digest:
    return digest_of(text.encode())


def there(
    roots: dict[str, tuple[str, dict[str, list[str]]]],
    shards: dict[str, dict[str, int]],
    packs: dict[str, int],
) -> Survey:
    """Make a survey: roots (repo, manifest -> shards), shards (pack -> bytes), packs (size)."""
    result = Survey()
    for name, (repo, manifests) in roots.items():
        key = root_key(repo, named(name).hex())
        root = Root(
            1,
            [
                RootManifest("data", named(m).hex(), [named(s).hex() for s in some])
                for m, some in manifests.items()
            ],
            datetime.datetime.fromtimestamp(NOW_S - 3600, datetime.UTC).isoformat(),
        )
        info = ObjectInfo(key, 100, modified_s=NOW_S - 3600)
        result.roots[key] = RootThere(key, info, root)
    for name, pointed in shards.items():
        frames = {
            named(pack): array("Q", [frame_number(0, size)]) for pack, size in pointed.items()
        }
        sizes = {named(pack): packs.get(pack, 1) for pack in pointed}
        result.shards[named(name).hex()] = ShardUse(frames, sizes, 1)
        key = shard_key(named(name))
        result.objects[key] = ObjectInfo(key, 10)
    for name, size in packs.items():
        key = pack_key(named(name))
        result.objects[key] = ObjectInfo(key, size)
        result.data_bytes[key] = size
    return result


def keys(found: tuple[ObjectInfo, ...]) -> set[str]:
    return {info.key for info in found}


def test_what_any_repository_names_is_live() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (OTHER, {"m2": ["s2"]})},
        {"s1": {"p1": 60 * MIB}, "s2": {"p2": 60 * MIB}, "s3": {"p3": 60 * MIB}},
        {"p1": 64 * MIB, "p2": 64 * MIB, "p3": 64 * MIB, "p4": 1},
    )
    plan = remotegc.plan(survey, [], repo=REPO, now_s=NOW_S)
    dead = {shard_key(named("s3")), pack_key(named("p3")), pack_key(named("p4"))}
    assert keys(plan.dead) == dead
    assert not (plan.move or plan.replace or plan.expired)
    survey.claimed = {pack_key(named("p3"))}
    assert keys(remotegc.plan(survey, [], repo=REPO, now_s=NOW_S).dead) == dead - survey.claimed
    buried = Tombstone(1, "", sorted(dead))
    assert remotegc.plan(survey, [buried], repo=REPO, now_s=NOW_S).empty


def test_packs_that_are_mostly_dead_are_moved_and_small_ones_only_if_many() -> None:
    packs = {"half": 20 * MIB, "less": 20 * MIB, **{f"small{n}": 1 * MIB for n in range(8)}}
    needed = {"half": 10 * MIB, "less": 10 * MIB - 1, **{f"small{n}": MIB for n in range(8)}}
    survey = there({"r1": (REPO, {"m1": ["s1"]})}, {"s1": needed}, packs)
    plan = remotegc.plan(survey, [], repo=REPO, now_s=NOW_S)
    assert keys(plan.move) == {pack_key(named("less"))}
    assert plan.freed_bytes == 10 * MIB + 1
    packs["small8"] = needed["small8"] = MIB
    survey = there({"r1": (REPO, {"m1": ["s1"]})}, {"s1": needed}, packs)
    assert len(remotegc.plan(survey, [], repo=REPO, now_s=NOW_S).move) == 10


def test_many_roots_are_gathered_but_only_our_own() -> None:
    roots = {f"r{n}": (REPO, {f"m{n}": ["s1"], "same": ["s1"]}) for n in range(9)}
    roots |= {f"o{n}": (OTHER, {f"m{n}": ["s1"]}) for n in range(20)}
    survey = there(roots, {"s1": {"p1": 60 * MIB}}, {"p1": 64 * MIB})
    plan = remotegc.plan(survey, [], repo=REPO, now_s=NOW_S)
    assert {one.repo for one in plan.replace} == {REPO}
    assert (len(plan.replace), len(plan.keep), len(plan.dead)) == (9, 10, 0)
    going = Tombstone(1, "", [], [one.key for one in plan.replace], REPO)
    assert remotegc.plan(survey, [going], repo=REPO, now_s=NOW_S).empty


def test_expiry_takes_what_is_neither_needed_nor_young() -> None:
    survey = there(
        {"r1": (REPO, {"old": ["s1"], "kept": ["s2"]}), "r2": (REPO, {"young": ["s3"]})},
        {"s1": {"p1": 60 * MIB}, "s2": {"p2": 60 * MIB}, "s3": {"p3": 60 * MIB}},
        {"p1": 64 * MIB, "p2": 64 * MIB, "p3": 64 * MIB},
    )
    key = root_key(REPO, named("r2").hex())
    old = survey.roots[key]
    survey.roots[key] = RootThere(key, ObjectInfo(key, 1, modified_s=NOW_S), old.root)
    expiry = remotegc.Expiry(REPO, frozenset({named("kept").hex()}), 600)
    plan = remotegc.plan(survey, [], repo=REPO, expiry=expiry, now_s=NOW_S)
    assert [one.manifest for one in plan.expired] == [named("old").hex()]
    expiry = remotegc.Expiry(REPO, frozenset({named("kept").hex()}), 0)
    plan = remotegc.plan(survey, [], repo=REPO, expiry=expiry, now_s=NOW_S)
    assert {one.manifest for one in plan.expired} == {named("old").hex(), named("young").hex()}
    assert keys(plan.dead) == {
        key(named(name)) for key, names in ((shard_key, ("s1", "s3")), (pack_key, ("p1", "p3")))
        for name in names
    }  # fmt: skip


def test_a_sweep_recomputes_what_is_dead() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (REPO, {"m1": ["s1"], "m2": ["s2"]})},
        {"s1": {"p1": 1}, "s2": {"p2": 1}},
        {"p1": 1, "p2": 1},
    )
    r1, r2 = (root_key(REPO, named(name).hex()) for name in ("r1", "r2"))
    every = sorted(survey.objects)
    gathered = Tombstone(1, "", every, [r1], REPO)
    assert remotegc.to_remove(survey, gathered, None) == ([[r1], [], []], 4)
    lost = Tombstone(1, "", every, [r1, r2], REPO)
    # Nothing else names them, and they were not given up: a root that should be there is not.
    assert remotegc.to_remove(survey, lost, None) == ([[], [], []], 6)
    given_up = Tombstone(1, "", every, [r2], REPO, [named("m2").hex()])
    batches, spared = remotegc.to_remove(survey, given_up, None)
    assert batches == [[r2], [shard_key(named("s2"))], [pack_key(named("p2"))]]
    assert spared == 2
    needed = remotegc.Expiry(REPO, frozenset({named("m2").hex()}), 0)
    assert remotegc.to_remove(survey, given_up, needed)[0] == [[], [], []]


# --- over a real folder ---------------------------------------------------------------------


def test_a_sweep_spares_what_another_repository_names() -> None:
    survey = there(
        {"r1": (REPO, {"m1": ["s1"]}), "r2": (OTHER, {"m2": ["s2"]})},
        {"s1": {"p1": 1}, "s2": {"p2": 1}},
        {"p1": 1, "p2": 1, "p3": 1},
    )
    for repo in (REPO, None):
        grave = Tombstone(1, "", sorted(survey.objects), [], repo)
        assert remotegc.to_remove(survey, grave, None) == ([[], [], [pack_key(named("p3"))]], 4)


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    (tmp_path / "remote").mkdir()
    remote = RemoteStore(LocalBackend(str(tmp_path / "remote")))
    remote.initialise()
    remote.backend.put(pack_key(named("stray")), b"stray")
    return remote


def collect(remote: RemoteStore, grace_s: float) -> remotegc.Collected:
    return remotegc.collect(remote, repo=REPO, grace_s=grace_s, here=moving.GcSide(lambda: ""))


def test_without_permission_to_remove_nothing_is_written(remote: RemoteStore) -> None:
    refusing = Faulty(
        remote.backend, on="delete", times=None, error=lambda: RemoteForbidden("denied")
    )
    for work in (
        lambda: collect(RemoteStore(refusing), 0),
        lambda: remotegc.undo(RemoteStore(refusing)),
        lambda: remotegc.retire(RemoteStore(refusing), REPO),
    ):
        with pytest.raises(RemoteForbidden, match="may not remove"):
            work()
    assert refusing.calls["put"] == 0


def test_a_root_under_another_name_stops_everything(remote: RemoteStore) -> None:
    manifest = RootManifest("data", named("m1").hex(), [])
    name, info = remote.put_root(REPO, [manifest])
    text = remote.backend.get(info.key, size_max=MIB)
    remote.backend.put(root_key(REPO, named("other").hex()), text)
    assert remote.get_root(REPO, name)[0].manifests == [manifest]
    with pytest.raises(CorruptError, match="other bytes than its name says"):
        collect(remote, 0)
    assert remote.backend.head(pack_key(named("stray"))) is not None


def test_both_clocks_must_say_that_it_is_time(remote: RemoteStore, tmp_path: Path) -> None:
    tombstones = Tombstones(remote)
    key = pack_key(named("stray"))
    # The clock of whoever wrote it was wrong; the store knows better.
    name = tombstones.put(Tombstone(1, "2020-01-01T00:00:00+00:00", [key]))
    assert [grave.name for grave in collect(remote, 3600).waiting] == [name]
    # The store's clock was set forward: the recorded time stands against it.
    tombstones.remove(name)
    assert collect(remote, 3600).plan.dead
    (path,) = (tmp_path / "remote/gc/tombstones").iterdir()
    os.utime(path, (NOW_S - 86_400, NOW_S - 86_400))
    assert not collect(remote, 3600).swept
    assert remote.backend.head(key) is not None
    assert collect(remote, 0).swept


def test_claims_and_marks_of_the_dead_are_removed_in_time(
    remote: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.remotes import tombstones as module

    monkeypatch.setattr(module, "WAIT_S", 0.0)
    tombstones = Tombstones(remote)
    digest = named("stray")
    tombstones.claim(shards=(), packs=[digest.hex()])
    assert not collect(remote, 0).plan.dead
    (claim,) = (tmp_path / "remote/gc/claims").iterdir()
    os.utime(claim, (NOW_S - 8 * 86_400, NOW_S - 8 * 86_400))
    assert collect(remote, 3600).plan.dead
    assert not claim.exists()
    (name,) = tombstones.look().tombstones
    mark = tmp_path / "remote" / tombstones.begin_sweep(name)
    with pytest.raises(BusyError), tombstones.claimed(shards=(), packs=[digest]):
        pass
    os.utime(mark, (NOW_S - 13 * 3600, NOW_S - 13 * 3600))
    with tombstones.claimed(shards=(), packs=[digest]):
        pass
    collect(remote, 3600)
    assert not mark.exists()


def test_a_damaged_tombstone_stops_everything_but_undo(remote: RemoteStore) -> None:
    remote.backend.put("gc/tombstones/" + "ab" * 16 + ".json", b'{"dv":1}')
    with pytest.raises(CorruptError, match="abab"):
        collect(remote, 0)
    assert remotegc.undo(remote) == 1
    assert collect(remote, 3600).plan.dead


def test_a_tombstone_can_name_only_what_gc_removes(remote: RemoteStore) -> None:
    foreign = ["dv.json", "../outside", "packs/readme", root_key(OTHER, named("r").hex())]
    for key in foreign[2:]:
        remote.backend.put(key, b"x")
    root = root_key(REPO, named("r").hex())
    remote.backend.put(root, b"x")
    tomb = Tombstone(1, "2020-01-01T00:00:00+00:00", foreign, [*foreign, root], REPO, retired=True)
    Tombstones(remote).put(tomb)
    with pytest.raises(CorruptError):  # the other repository's root is no root
        collect(remote, 0)
    remote.backend.delete(foreign[3])
    collect(remote, 0)
    assert {info.key for info in remote.backend.list("")} >= {"dv.json", "packs/readme"}
    assert remote.backend.head(root) is None


def test_what_is_not_ours_is_left_alone(remote: RemoteStore, tmp_path: Path) -> None:
    for key in ("packs/readme.txt", "shards/ab/notes", "packs/ab/" + "cd" * 32, "roots/x/y.json"):
        remote.backend.put(key, b"mine")
    old = tmp_path / "remote/packs/.dv-tmp-1-0123456789ab"
    old.write_bytes(b"unfinished")
    os.utime(old, (NOW_S - 3 * 86_400, NOW_S - 3 * 86_400))
    assert {info.key for info in collect(remote, 3600).plan.dead} == {pack_key(named("stray"))}
    collect(remote, 0)
    assert remote.backend.head("packs/readme.txt") is not None
    assert remote.backend.head("packs/ab/" + "cd" * 32) is not None
    assert not old.exists()
