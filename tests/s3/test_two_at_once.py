"""Several clones at one remote, and several processes in one clone, at the same time."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dvtool.remotes.transports.base import Backend
from dvtool.remotes.transports.registry import open_backend
from tests.cli.conftest import command
from tests.s3.soundness import check_remote
from tests.scenario import Clone, Remote, noise

CLONES = 5
ROUNDS = 3
WAIT_S = 120.0
"""Whoever meets a lock that is not let go ends with an error long before."""


def at_once(*acts: Callable[[], object]) -> None:
    """Run all in threads that begin together; raise the first error."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        barrier.wait()
        act()

    with concurrent.futures.ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(run, act) for act in acts]:
            done.result()


def push(clone: Clone) -> None:
    with clone.repo() as repo:
        repo.push()


def pull(clone: Clone) -> None:
    with clone.repo() as repo:
        repo.pull()


@pytest.fixture
def base(tmp_path: Path, remote: Remote) -> Clone:
    """A repository with settings and no data."""
    base = Clone.new(tmp_path / "base", remote)
    base.git("add", ".dvconfig")
    base.commit("settings")
    return base


def places(remote: Remote, tmp_path: Path) -> list[Remote]:
    """Return several empty places of the kind of `remote`, below it."""
    if remote.endpoint_url is None:
        for number in range(ROUNDS):
            (tmp_path / f"remote {number}").mkdir()
        return [Remote(str(tmp_path / f"remote {number}")) for number in range(ROUNDS)]
    return [Remote(f"{remote.url}/{number}", remote.endpoint_url) for number in range(ROUNDS)]


def set_remote(clone: Clone, remote: Remote) -> None:
    with clone.repo() as repo:
        repo.config.set_remote("origin", remote.url, endpoint_url=remote.endpoint_url, local=True)


@pytest.mark.parametrize("same", [False, True], ids=["different data", "the same data"])
def test_first_pushes_of_several_clones(
    base: Clone, remote: Remote, tmp_path: Path, same: bool
) -> None:
    clones = [base.clone(tmp_path / f"clone {number}", remote) for number in range(CLONES)]
    for number, clone in enumerate(clones):
        clone.write("data/all", noise(120_000))
        clone.write("data/own", noise(50_000, 0 if same else number + 1))
        clone.add("data")
        clone.commit("data")
    for place in places(remote, tmp_path):
        for clone in clones:
            set_remote(clone, place)
        at_once(*[lambda clone=clone: push(clone) for clone in clones])
        assert len(check_remote(place)) == (1 if same else CLONES)
        assert 1 <= len(list(_backend(place).list("roots/"))) <= CLONES
        for clone in clones:
            with clone.repo() as repo:
                # Without conditional PUT a later dv.json may have won: then what this clone
                # remembers is of a remote that is no more, and it says the same once again.
                assert repo.push().pushed.packs == 0
                assert not repo.push().pushed.changed
            theirs = clone.clone(tmp_path / "theirs", place)
            pull(theirs)
            assert theirs.tree("data") == clone.tree("data")
            shutil.rmtree(theirs.path)


def _backend(remote: Remote) -> Backend:
    return open_backend(remote.url, {"endpoint_url": remote.endpoint_url})


def test_pulls_while_others_push(base: Clone, remote: Remote, tmp_path: Path) -> None:
    writers = [base.clone(tmp_path / f"writer {number}", remote) for number in range(2)]
    readers = []
    for number, writer in enumerate(writers):
        _next_version(writer, number, 0)
        push(writer)
        readers.append(writer.clone(tmp_path / f"reader {number}", remote))

    def write(number: int) -> None:
        for version in range(1, 5):
            _next_version(writers[number], number, version)
            push(writers[number])

    def read(number: int) -> None:
        reader = readers[number]
        for _ in range(4):
            pull(reader)
            shutil.rmtree(reader.path / ".git/dv")
            shutil.rmtree(reader.path / "data")

    at_once(*[lambda n=n: write(n) for n in range(2)], *[lambda n=n: read(n) for n in range(2)])
    assert len(check_remote(remote)) == 10
    for writer, reader in zip(writers, readers, strict=True):
        reader.git("pull", "--quiet", str(writer.path), "HEAD")
        pull(reader)
        assert reader.tree("data") == writer.tree("data")


def _next_version(clone: Clone, number: int, version: int) -> None:
    clone.write("data/a", noise(100_000, 10 * number + version))
    clone.write(f"data/{version}", noise(1_000, version))
    clone.add("data")
    clone.commit(f"version {version}")


# --- two processes in one clone -------------------------------------------------------------


@pytest.fixture
def work(base: Clone) -> Clone:
    for target in ("one", "two"):
        for number in range(50):
            base.write(f"{target}/{number}", noise(20_000, 1_000 + number))
        base.write(f"{target}/own", target.encode())
        base.add(target)
    base.commit("data")
    return base


def run_together(clone: Clone, *commands: Sequence[str]) -> list[str]:
    """Run `dv` several times at once, each of which must succeed; return what they wrote."""
    running = [
        subprocess.Popen(
            command(*args), cwd=clone.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for args in commands
    ]
    outputs = [process.communicate(timeout=WAIT_S)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0] * len(running), outputs
    return outputs


def test_two_pushes_in_one_clone(work: Clone, remote: Remote) -> None:
    run_together(work, ["push"], ["push"])
    assert len(check_remote(remote)) == 2


def test_a_push_and_an_add_in_one_clone(work: Clone, remote: Remote) -> None:
    work.write("one/more", b"more")
    run_together(work, ["push"], ["add", "one"])
    assert len(check_remote(remote)) == 2
    work.commit("more")
    run_together(work, ["push"])
    assert len(check_remote(remote)) == 3


@pytest.mark.parametrize(
    "verbs", [("fetch", "fetch"), ("pull", "status"), ("pull", "pull"), ("pull", "fetch", "push")]
)
def test_reading_in_one_clone(
    work: Clone, remote: Remote, tmp_path: Path, verbs: tuple[str, ...]
) -> None:
    push(work)
    theirs = work.clone(tmp_path / "theirs", remote)
    run_together(theirs, *[[verb] for verb in verbs])
    run_together(theirs, ["checkout"])
    for target in ("one", "two"):
        assert theirs.tree(target) == work.tree(target)


# --- whoever was killed holds nothing -------------------------------------------------------

HOLDERS = {
    "worktree": "with repo._project.lock(): wait()",
    "drop": "with drop_lock(repo._project.store.path): wait()",
    "index": "repo._project.store.db._db.execute('BEGIN IMMEDIATE'); wait()",
}
HOLD = """
import sys, time
from dvtool.repo import Repo
from dvtool.store.lock import drop_lock

def wait():
    print("held", flush=True)
    time.sleep(600)

with Repo.open(".") as repo:
    repo._project.store.db
    {}
"""


@pytest.mark.parametrize("lock", HOLDERS)
def test_a_lock_of_a_killed_process_holds_up_nobody(work: Clone, lock: str) -> None:
    push(work)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(HOLDERS[lock])], cwd=work.path, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    work.write("one/more", b"more")
    run_together(work, ["add", "one"])
    work.commit("more")
    run_together(work, ["push"])
    run_together(work, ["drop", "one"])
    run_together(work, ["pull"])
    assert (work.path / "one/more").read_bytes() == b"more"
