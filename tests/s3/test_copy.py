"""dv remote copy: from one remote to another, object by object, each proven."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

import pytest

from dvtool.errors import CorruptError, RemoteError, SetupError, UsageError
from dvtool.format import pack
from dvtool.remotes.remote import RemoteStore
from dvtool.repo import Repo
from tests.scenario import Clone, Remote, noise

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone that pushed two versions to the folder `a`, in small packs."""
    monkeypatch.setattr(pack, "PACK_SIZE_AIM_BYTES", MIB)
    clone = Clone.new(tmp_path / "mine", Remote(str(tmp_path / "a")))
    for version in (1, 2):
        for number in range(20):
            clone.write(f"data/{number:03}", noise(100_000, number * version))
        clone.write("large.bin", noise(3 * MIB, version))
        clone.add("data", "large.bin")
        clone.commit(f"version {version}")
        with clone.repo() as repo:
            repo.push()
    return clone


def with_second(clone: Clone, remote: Remote) -> Repo:
    repo = clone.repo()
    repo.config.set_remote("b", remote.url, endpoint_url=remote.endpoint_url, local=True)
    return repo


def test_a_copy_is_a_whole_remote(source: Clone, remote: Remote, tmp_path: Path) -> None:
    with with_second(source, remote) as repo:
        would, estimate = repo.remotes.plan_copy("origin", "b")
        copied = repo.remotes.copy("origin", "b")
        assert (copied.manifests, copied.there) == (4, 0)
        assert (estimate.objects, would.manifests) == (copied.objects, 4)
        assert estimate.bytes <= copied.bytes < estimate.bytes + 5_000  # roots besides
        again = repo.remotes.copy("origin", "b")
        assert (again.objects, again.there) == (0, copied.objects)
        assert repo.remotes.plan_copy("origin", "b")[1].requests.total == 0
        assert not repo.push(remote="b").pushed.changed
    shutil.rmtree(tmp_path / "a")
    theirs = source.clone(tmp_path / "theirs", remote)
    for rev in ("HEAD", "HEAD^"):
        source.git("checkout", "--quiet", "--force", rev)
        with source.repo() as repo:
            repo.checkout(force=True)
        with theirs.repo() as repo:
            repo.pull(rev=source.git("rev-parse", "HEAD"))
        assert theirs.tree("data") == source.tree("data")
        assert theirs.tree("large.bin") == source.tree("large.bin")


def test_a_copy_needs_no_data_here(source: Clone, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    source.git("clone", "--quiet", "--bare", ".", str(bare))
    (tmp_path / "b").mkdir()
    with Repo.open(str(bare)) as repo:
        copied = repo.remotes.copy(str(tmp_path / "a"), str(tmp_path / "b"))
        assert copied.bytes > 8 * MIB
        assert repo._project.store.db.packs() == {}
    assert list((bare / "dv" / "tmp").iterdir()) == []


def test_an_interrupted_copy_goes_on(
    source: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = RemoteStore.put_pack
    turns = itertools.count()
    arrivals = threading.Semaphore(0)
    two_are_there = threading.Event()

    def third_fails(self: RemoteStore, digest: bytes, file: object) -> object:
        if next(turns) >= 2:
            assert two_are_there.wait(60)
            raise RemoteError("injected")
        info = put(self, digest, file)  # type: ignore[arg-type]
        if arrivals.acquire(blocking=False):
            two_are_there.set()
        arrivals.release()
        return info

    (tmp_path / "b").mkdir()
    with source.repo() as repo:
        with monkeypatch.context() as patch, pytest.raises(RemoteError, match="injected"):
            patch.setattr(RemoteStore, "put_pack", third_fails)
            repo.remotes.copy("origin", str(tmp_path / "b"))
        assert not (tmp_path / "b/roots").exists()
        assert repo.remotes.copy("origin", str(tmp_path / "b")).there == 2


@pytest.mark.parametrize("kind", ["packs", "shards"])
@pytest.mark.parametrize("change", ["remove", "damage"])
def test_no_root_is_copied_that_needs_what_is_broken(
    source: Clone, tmp_path: Path, kind: str, change: str
) -> None:
    victim = max((tmp_path / "a" / kind).glob("*/*"), key=lambda path: path.stat().st_mtime_ns)
    if change == "remove":
        victim.unlink()
    else:
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    (tmp_path / "b").mkdir()
    with source.repo() as repo, pytest.raises(CorruptError, match=victim.name):
        repo.remotes.copy("origin", str(tmp_path / "b"))
    assert len(list((tmp_path / "b/roots").glob("*/*"))) == 1  # the other push's


def test_only_this_repository_unless_asked(source: Clone, tmp_path: Path) -> None:
    other = Clone.new(tmp_path / "other", Remote(str(tmp_path / "a")))
    other.write("more", noise(100_000, 99))
    other.add("more")
    other.commit("one")
    with other.repo() as repo:
        repo.push()
    for place in ("b", "c"):
        (tmp_path / place).mkdir()
    with source.repo() as repo:
        repo.remotes.copy("origin", str(tmp_path / "b"))
        assert len(list((tmp_path / "b/roots").iterdir())) == 1
        assert repo.remotes.copy("origin", str(tmp_path / "c"), every=True).manifests == 5
        assert len(list((tmp_path / "c/roots").iterdir())) == 2


def test_mistakes(source: Clone, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thing").write_text("x")
    with source.repo() as repo:
        with pytest.raises(UsageError, match="same remote"):
            repo.remotes.copy("origin", str(tmp_path / "a"))
        with pytest.raises(SetupError, match="is not a dvtool remote yet"):
            repo.remotes.copy(str(tmp_path / "empty"), "origin")
        with pytest.raises(SetupError, match="not configured"):
            repo.remotes.copy("origin", "nowhere")
        with pytest.raises(SetupError, match="holds other things"):
            repo.remotes.copy("origin", str(tmp_path / "foreign"))
        with pytest.raises(RemoteError, match="does not exist"):
            repo.remotes.copy("origin", str(tmp_path / "none"))
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thing"]


def test_what_the_destination_lost_is_copied_again(source: Clone, tmp_path: Path) -> None:
    with with_second(source, Remote(str(tmp_path / "b"))) as repo:
        repo.remotes.copy("origin", "b")
        for kind in ("packs", "shards", "roots"):
            lost = next(
                path for path in sorted((tmp_path / "b" / kind).rglob("*")) if path.is_file()
            )
            data = lost.read_bytes()
            lost.unlink()
            assert repo.remotes.copy("origin", "b").objects > 0
            if kind != "roots":  # a root is named anew
                assert lost.read_bytes() == data
        assert repo.remotes.copy("origin", "b").objects == 0
        assert repo.fsck(remote="b").clean


def test_a_shard_of_the_destinations_own_counts_with_its_packs_alone(
    source: Clone, tmp_path: Path
) -> None:
    with with_second(source, Remote(str(tmp_path / "b"))) as repo:
        repo.push(remote="b")  # its shards point into packs of its own
        packs = sorted(path for path in (tmp_path / "b" / "packs").rglob("*") if path.is_file())
        repo.remotes.copy("origin", "b")
        for path in packs:
            path.unlink()
        copied = repo.remotes.copy("origin", "b")
        assert copied.objects > 0
        assert repo.fsck(remote="b", deep=True).clean


def test_a_shard_with_other_bytes_of_the_same_length_is_copied_again(
    source: Clone, tmp_path: Path
) -> None:
    with with_second(source, Remote(str(tmp_path / "b"))) as repo:
        repo.remotes.copy("origin", "b")
        shard = next(path for path in (tmp_path / "b" / "shards").rglob("*") if path.is_file())
        data = shard.read_bytes()
        shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        repo.remotes.copy("origin", "b")
        assert shard.read_bytes() == data
