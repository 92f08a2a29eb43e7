"""gc of a remote over a real folder: whose clock counts, and what it may not do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvtool.errors import BusyError, CorruptError, RemoteForbidden
from dvtool.remotes import repack
from dvtool.remotes.objects import RootManifest, pack_key, root_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Tombstone, Tombstones
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.verbs.gc.remote import RemoteGcResult, collect_remote, undo_gc
from dvtool.verbs.gc.roots import retire
from tests.faulty import Faulty
from tests.unit.verbs.gc.surveys import MIB, NOW_S, OTHER, REPO, named


@pytest.fixture
def remote(tmp_path: Path) -> RemoteStore:
    (tmp_path / "remote").mkdir()
    remote = RemoteStore(LocalBackend(str(tmp_path / "remote")))
    remote.initialise()
    remote.backend.put(pack_key(named("stray")), b"stray")
    return remote


def collect(remote: RemoteStore, grace_s: float) -> RemoteGcResult:
    return collect_remote(remote, repo=REPO, grace_s=grace_s, here=repack.GcSide(lambda: ""))


def test_without_permission_to_remove_nothing_is_written(remote: RemoteStore) -> None:
    refusing = Faulty(
        remote.backend, on="delete", times=None, error=lambda: RemoteForbidden("denied")
    )
    for work in (
        lambda: collect(RemoteStore(refusing), 0),
        lambda: undo_gc(RemoteStore(refusing)),
        lambda: retire(RemoteStore(refusing), REPO),
    ):
        with pytest.raises(RemoteForbidden, match="and may not: denied"):
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
    assert undo_gc(remote) == 1
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
