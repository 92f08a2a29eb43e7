"""Pushes and pulls over a network that breaks in every way there is, and what they leave.

After each, the pulled files are the pushed ones, and the remote holds all that its roots name.
DV_TEST_SEEDS says how many mixes of faults are tried with much data.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvtool.remotes.transports import retry
from tests.s3.chaos import SINGLE, Chaos
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.s3.soundness import check_remote
from tests.scenario import Clone, Remote, noise

SEEDS = int(os.environ.get("DV_TEST_SEEDS", "4"))
SEEDS_LITTLE = 50
FILES = 2_000
FILE_SIZES_BYTES = (200, 20 << 10)
LARGE_SIZE_BYTES = 64 << 20
MIXED_RATE = 0.4
SINGLE_RATE = 0.7
IN_BODIES = [name for name in SINGLE if name.startswith(("answer", "request", "lost", "replay"))]
REPO_ID = "0123456789abcdef" * 2


@dataclass(frozen=True)
class Data:
    """A committed repository, and what its targets hold."""

    clone: Clone
    targets: tuple[str, ...]
    trees: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """2,000 small files and one of 64 MiB."""
    clone = _new(tmp_path_factory.mktemp("large") / "mine")
    draw = random.Random(1)
    data = noise(FILES + FILE_SIZES_BYTES[1])
    for number in range(FILES):
        size = draw.randint(*FILE_SIZES_BYTES)
        clone.write(f"small/{number % 7}/{number}", data[number : number + size])
    clone.write("large.bin", noise(LARGE_SIZE_BYTES, 2))
    return _committed(clone, "small", "large.bin")


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Several targets, packs and shards with next to nothing in them: many requests."""
    clone = _new(tmp_path_factory.mktemp("little") / "mine")
    for target in range(6):
        for number in range(20):
            clone.write(f"{target}/{number}", noise(1_000 + number, 100 * target + number))
    return _committed(clone, *map(str, range(6)))


def _new(path: Path) -> Clone:
    clone = Clone.new(path)
    clone.write(".dvconfig", f"[core]\n\trepoid = {REPO_ID}\n".encode())
    return clone


def _committed(clone: Clone, *targets: str) -> Data:
    for target in targets:
        clone.add(target)
    clone.git("add", ".dvconfig")
    clone.commit("data")
    return Data(clone, targets, {target: clone.tree(target) for target in targets})


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.001)


@pytest.fixture
def proxy(s3_env: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(s3_env.endpoint_url) as proxy:
        yield proxy


@dataclass(frozen=True)
class Run:
    """One push into an empty bucket and one pull out of it, by way of the proxy."""

    data: Data
    server: S3Server
    proxy: CountingProxy
    place: Path

    def push_and_pull(self, policy: Chaos) -> None:
        bucket = self.server.new_bucket()
        remote = Remote(f"s3://{bucket}/p", self.proxy.url)
        self.proxy.policy = policy
        with self.data.clone.repo() as repo:
            repo.config.set_remote(
                "origin", remote.url, endpoint_url=remote.endpoint_url, local=True
            )
            repo.push()
        theirs = self.data.clone.clone(self.place / bucket, remote)
        with theirs.repo() as repo:
            repo.pull()
        assert {target: theirs.tree(target) for target in self.data.targets} == self.data.trees
        self.proxy.policy = None
        assert len(check_remote(remote)) == len(self.data.targets)
        with theirs.repo() as repo:
            report = repo.fsck(workspace=True, remote="origin", deep=True)
            assert report.clean, report.damage
        with self.data.clone.repo() as repo:
            assert not repo.push().pushed.changed
        shutil.rmtree(theirs.path)
        self.server.drop_bucket(bucket)


@pytest.mark.parametrize("name", SINGLE)
def test_each_fault_alone(
    little: Data,
    s3_env: S3Server,
    proxy: CountingProxy,
    tmp_path: Path,
    name: str,
) -> None:
    Run(little, s3_env, proxy, tmp_path).push_and_pull(Chaos(7, SINGLE_RATE, (name,)))
    assert proxy.faults > 2


@pytest.mark.parametrize("s3_server", ["rclone"], indirect=True)
@pytest.mark.parametrize("name", IN_BODIES)
def test_each_fault_in_a_body_with_much_data(
    large: Data, s3_env: S3Server, proxy: CountingProxy, tmp_path: Path, name: str
) -> None:
    Run(large, s3_env, proxy, tmp_path).push_and_pull(Chaos(8, SINGLE_RATE, (name,)))
    assert proxy.faults > 0


@pytest.mark.parametrize(
    ("seed", "s3_server"),
    [(seed, ("rclone", "moto")[seed % 2]) for seed in range(SEEDS_LITTLE)],
    indirect=["s3_server"],
)
def test_all_faults_mixed(
    little: Data, s3_env: S3Server, proxy: CountingProxy, tmp_path: Path, seed: int
) -> None:
    Run(little, s3_env, proxy, tmp_path).push_and_pull(Chaos(seed, MIXED_RATE))
    assert proxy.faults > 0


@pytest.mark.parametrize("s3_server", ["rclone"], indirect=True)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_all_faults_mixed_with_much_data(
    large: Data, s3_env: S3Server, proxy: CountingProxy, tmp_path: Path, seed: int
) -> None:
    Run(large, s3_env, proxy, tmp_path).push_and_pull(Chaos(seed, MIXED_RATE))
