"""A snapshot in threads, after a fork, in processes that began anew, and pickled."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

import dvtool
from dvtool import PathMissing, Snapshot
from tests.scenario import Clone, Remote, noise
from tests.unit.snapshots.conftest import BIG, Dataset


def read_some(data: Snapshot, seed: int) -> list[tuple[str, bytes]]:
    paths = random.Random(seed).sample(data.find(), 20)
    return [(path, data.read(path)) for path in paths]


def test_a_snapshot_pickles_small_and_without_secrets(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    data = dvtool.snapshot(repo=dataset.bare.path)
    data.read("data/big.bin")
    text = pickle.dumps(data)
    assert len(text) < 1_000
    assert b"secret" not in text
    again = pickle.loads(text)
    assert again == data
    assert hash(again) == hash(data)
    assert again.commit == dataset.commit
    assert again.targets == data.targets
    assert again.read("data/big.bin") == BIG
    again.close()
    data.close()
    assert data.read("data/images.txt") == b"beside"  # it opens again


def test_errors_pickle(data: Snapshot) -> None:
    with pytest.raises(PathMissing) as caught:
        data.read("nothing")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is PathMissing
    assert (str(again), again.hint, again.filename) == (
        str(caught.value),
        caught.value.hint,
        "nothing",
    )


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_processes_read_what_is_there(data: Snapshot, dataset: Dataset, how: str) -> None:
    data.read("data/big.bin")  # so that connections are open
    with concurrent.futures.ProcessPoolExecutor(
        2, mp_context=multiprocessing.get_context(how)
    ) as pool:
        for found in pool.map(read_some, [data] * 4, range(4)):
            for path, content in found:
                assert content == dataset.files[path]
    assert data.read("data/big.bin") == BIG


def test_a_forked_child_reads_with_connections_of_its_own(data: Snapshot, dataset: Dataset) -> None:
    data.read("data/images/3/0003.jpg")
    open_file = data.open("data/big.bin")
    assert open_file.read(1_000) == BIG[:1_000]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            well = data.read("data/table.csv") == dataset.files["data/table.csv"]
            well = well and open_file.read(2 << 20) == BIG[1_000:][: 2 << 20]
            code = 0 if well and all(c == dataset.files[p] for p, c in read_some(data, 9)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert open_file.read() == BIG[1_000:]
    open_file.close()
    assert all(content == dataset.files[path] for path, content in read_some(data, 5))


def test_threads_share_a_snapshot(data: Snapshot, dataset: Dataset) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(read_some, [data] * 16, range(16)):
            for path, content in found:
                assert content == dataset.files[path]


READER = """
import re, sys, dvtool

def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

before = 0
with dvtool.snapshot(repo=sys.argv[1]) as data, data.open("large", buffering=0) as file:
    size = 0
    while part := file.read(1 << 20):
        size += len(part)
        before = before or peak_bytes()
print(size, peak_bytes() - before)
"""
MANY = 64
BLOCK = noise(3 << 20, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("place", ["store", "remote"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, place: str) -> None:
    """192 MiB in order: the two windows of `AHEAD_BYTES` and what is on its way to them."""
    remote = Remote(str(tmp_path / "remote"))
    clone = Clone.new(tmp_path / "mine", remote)
    clone.write("large", BLOCK * MANY)
    clone.add("large")
    clone.commit("large")
    if place == "remote":
        with clone.repo() as repo:
            repo.push()
        clone = clone.clone(tmp_path / "theirs", remote)
    environ = {**os.environ, "DV_CACHE_SIZE": "0"}
    read = subprocess.run(
        [sys.executable, "-c", READER, str(clone.path)],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    size, grown = map(int, read.stdout.split())
    assert size == MANY * len(BLOCK)
    assert grown < (32 << 20 if place == "store" else 128 << 20)
