"""Clone, a part of the data, and drop, as a user would, on every kind of remote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import dvtool
from dvtool.errors import UnsavedError
from dvtool.repo import Repo
from tests.scenario import Clone, Remote, noise


@pytest.fixture
def work(tmp_path: Path, remote: Remote) -> Clone:
    work = Clone.new(tmp_path / "work", remote)
    for number in range(3):
        work.write(f"data/{number}.bin", noise(200_000, number))
    work.write("data/sub/small.txt", b"small")
    work.add("data")
    work.git("add", "-A")
    work.commit("data")
    with work.repo() as repo:
        repo.push()
    return work


def test_clone_a_part_then_add_push_and_drop(work: Clone, remote: Remote, tmp_path: Path) -> None:
    place = dvtool.clone(str(work.path), "part", cwd=str(tmp_path))
    part = Clone(Path(place))
    with part.repo() as repo:
        repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url)
        repo.pull(paths=["data/sub"])
    assert set(part.tree("data")) == {"sub/small.txt"}
    part.write("data/new.txt", b"new")
    part.add("data/new.txt")
    part.commit("new")
    with part.repo() as repo:
        assert repo.push().pushed.bytes < 5_000
        dropped = repo.drop(["data"])
        assert (dropped.workspace_bytes, dropped.targets[0].files) == (8, 2)
        assert repo.status()[0].deleted == []
        repo.pull(paths=["data/0.bin", "data/new.txt"])
    assert (part.path / "data/0.bin").read_bytes() == noise(200_000, 0)


def test_drop_frees_only_with_proof(work: Clone) -> None:
    before = work.tree("data")
    work.write("data/new.bin", noise(100_000, 9))
    work.add("data")
    with work.repo() as repo, pytest.raises(UnsavedError, match=r"new\.bin"):
        repo.drop(["data"])
    work.commit("more")
    with work.repo() as repo:
        repo.push()
        dropped = repo.drop(["data"])
        assert dropped.store_bytes > 690_000
        assert not repo._project.store.db.packs()
        repo.pull()
    assert work.tree("data").items() >= before.items()


def test_reading_in_a_bare_clone(work: Clone, remote: Remote, tmp_path: Path) -> None:
    place = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(work.path), str(place)], check=True)
    with Repo.open(str(place)) as repo:
        repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url, local=True)
        assert [one.path for one in repo.ls(["data/sub"])] == ["data/sub/small.txt"]
        assert b"".join(repo.cat("data/2.bin")) == noise(200_000, 2)
        assert repo.fetch().files == 4  # reading took nothing into the store


def test_a_clone_that_fetched_a_pack_whole_knows_what_the_store_should_state(
    work: Clone, remote: Remote, tmp_path: Path
) -> None:
    """Where the store states MD5s nothing is read back, and a pack that rotted frees nothing."""
    clone = Clone(Path(dvtool.clone(str(work.path), "other", cwd=str(tmp_path))))
    with clone.repo() as repo:
        repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url)
        repo.pull()
        plan = repo.drop(["data"], plan_only=True)
        assert (plan.read_back.bytes == 0) is remote.url.startswith("s3://")
        backend = repo.config.open_remote().backend
        keys = [info.key for info in backend.list("packs/")]
        for key in keys:
            pack = bytearray(backend.get(key, size_max=1 << 30))
            pack[len(pack) // 3] ^= 1
            backend.put(key, bytes(pack))
        before = clone.tree("data")
        with pytest.raises(UnsavedError, match=r"0\.bin"):
            repo.drop(["data"])
        assert clone.tree("data") == before
        assert repo._project.store.db.packs()
