"""A push or a pull that is killed at any moment: the next one completes and repeats little.

DV_TEST_MOMENTS says at how many moments the transfer of much data is killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvtool.format.pack import PACK_SIZE_MAX_BYTES
from tests.cli.conftest import command
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.s3.soundness import check_remote
from tests.scenario import Clone, Remote, noise

MOMENTS_LARGE = int(os.environ.get("DV_TEST_MOMENTS", "4"))
MOMENTS_LITTLE = 30
LARGE_BYTES = 208 << 20
LITTLE_BYTES = 12 << 20
FILE_BYTES = 3 << 20
WAIT_S = 120.0
AFTER_MAX_S = 0.3
INTERRUPTED = 130


@dataclass
class Work:
    """A repository with data, a remote behind a proxy, and what clean runs move."""

    mine: Clone
    server: S3Server
    proxy: CountingProxy
    tree: dict[str, str]
    remote: Remote
    pushed: Count
    pulled: Count

    def new_remote(self) -> Remote:
        remote = Remote(f"s3://{self.server.new_bucket()}", self.proxy.url)
        _set_remote(self.mine, remote)
        return remote

    def drop(self, remote: Remote) -> None:
        self.server.drop_bucket(remote.url.removeprefix("s3://"))

    def start(self, clone: Clone, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(*args),
            cwd=clone.path,
            env={**os.environ, **self.server.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, clone: Clone, *args: str) -> str:
        process = self.start(clone, *args)
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, err.decode()
        return out.decode()


@dataclass(frozen=True)
class Count:
    """What one uninterrupted run takes."""

    requests: int
    bytes: int


@pytest.fixture(autouse=True)
def _credentials(rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rclone_server.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def large(rclone_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    with CountingProxy(rclone_server.endpoint_url) as proxy:
        yield _work(tmp_path_factory.mktemp("large"), rclone_server, proxy, LARGE_BYTES)


@pytest.fixture(scope="module")
def little(rclone_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    with CountingProxy(rclone_server.endpoint_url) as proxy:
        yield _work(tmp_path_factory.mktemp("little"), rclone_server, proxy, LITTLE_BYTES)


def _work(top: Path, server: S3Server, proxy: CountingProxy, size: int) -> Work:
    mine = Clone.new(top / "mine", Remote(f"s3://{server.new_bucket()}", proxy.url))
    for number in range(size // FILE_BYTES):
        mine.write(f"data/{number}.bin", noise(FILE_BYTES, number))
        if number % 16 == 15:
            mine.add("data")
    mine.add("data")
    mine.commit("data")
    none = Count(0, 0)
    work = Work(mine, server, proxy, mine.tree("data"), Remote("", ""), none, none)
    work.remote = work.new_remote()
    work.run(mine, "push")
    work.pushed = Count(proxy.total, proxy.moved)
    proxy.reset()
    theirs = mine.clone(top / "theirs", work.remote)
    work.run(theirs, "pull")
    work.pulled = Count(proxy.total, proxy.moved)
    shutil.rmtree(theirs.path)
    return work


def _set_remote(clone: Clone, remote: Remote) -> None:
    with clone.repo() as repo:
        repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url, local=True)


def signal_at(
    proxy: CountingProxy, clean: Count, draw: random.Random, act: Callable[[], object]
) -> None:
    """Let `act` happen at a moment drawn from a run that moves and asks as much as `clean` did.

    A moment is a number of bytes, a number of requests, or some time after the last byte.
    """
    kind = draw.choice(["bytes", "bytes", "requests", "after"])
    if kind == "bytes":
        moved = int(draw.random() * clean.bytes)
        proxy.call_when(lambda it: it.moved >= moved, act)
    elif kind == "requests":
        requests = draw.randint(1, clean.requests)
        proxy.call_when(lambda it: it.total >= requests, act)
    else:
        timer = threading.Timer(draw.random() * AFTER_MAX_S, act)
        timer.daemon = True
        proxy.call_when(lambda it: it.moved >= clean.bytes * 0.99, timer.start)


def kill_push(work: Work, seed: int) -> int:
    """Kill a push and repeat it; return how many bytes more than a clean push both moved."""
    remote = work.new_remote()
    work.proxy.reset()
    process = work.start(work.mine, "push")
    signal_at(work.proxy, work.pushed, random.Random(f"push {seed}"), process.kill)
    process.communicate(timeout=WAIT_S)
    work.run(work.mine, "push")
    more = work.proxy.moved - work.pushed.bytes
    assert len(check_remote(remote)) == 1
    work.drop(remote)
    return more


def kill_pull(work: Work, seed: int, place: Path) -> int:
    """Kill a pull and repeat it; return how many bytes more than a clean pull both moved."""
    theirs = work.mine.clone(place, work.remote)
    work.proxy.reset()
    process = work.start(theirs, "pull")
    signal_at(work.proxy, work.pulled, random.Random(f"pull {seed}"), process.kill)
    process.communicate(timeout=WAIT_S)
    assert theirs.tree("data").items() <= work.tree.items() | _unfinished(theirs)
    work.run(theirs, "pull")
    more = work.proxy.moved - work.pulled.bytes
    assert theirs.tree("data").items() >= work.tree.items()
    shutil.rmtree(theirs.path)
    return more


def _unfinished(clone: Clone) -> set[tuple[str, str]]:
    """Return the files under temporary names, which no command takes for data."""
    return {(path, what) for path, what in clone.tree("data").items() if ".dv-tmp-" in path}


@pytest.mark.parametrize("seed", range(MOMENTS_LITTLE))
def test_a_killed_push_is_completed(little: Work, seed: int) -> None:
    kill_push(little, seed)


@pytest.mark.parametrize("seed", range(MOMENTS_LITTLE))
def test_a_killed_pull_is_completed(little: Work, tmp_path: Path, seed: int) -> None:
    kill_pull(little, seed, tmp_path / "theirs")


@pytest.mark.parametrize("seed", range(MOMENTS_LARGE))
def test_a_killed_push_of_much_data_sends_less_than_two_packs_again(large: Work, seed: int) -> None:
    assert kill_push(large, seed) < 2 * PACK_SIZE_MAX_BYTES


@pytest.mark.parametrize("seed", range(MOMENTS_LARGE))
def test_a_killed_pull_of_much_data_gets_less_than_two_packs_again(
    large: Work, tmp_path: Path, seed: int
) -> None:
    assert kill_pull(large, seed, tmp_path / "theirs") < 2 * PACK_SIZE_MAX_BYTES


@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("verb", ["push", "pull"])
def test_interrupting_says_so_and_leaves_nothing_behind(
    little: Work, tmp_path: Path, verb: str, share: float
) -> None:
    if verb == "push":
        remote, clone, clean = little.new_remote(), little.mine, little.pushed
    else:
        remote, clone = little.remote, little.mine.clone(tmp_path / "theirs", little.remote)
        clean = little.pulled
    little.proxy.reset()
    process = little.start(clone, verb)
    little.proxy.call_when(
        lambda it: it.moved >= share * clean.bytes, lambda: process.send_signal(signal.SIGINT)
    )
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err.decode().split()) == (INTERRUPTED, ["error:", "interrupted"])
    assert not list((clone.path / ".git/dv/tmp").iterdir())
    little.run(clone, verb)
    assert clone.tree("data") == little.tree
    assert check_remote(remote)
