"""Streams from S3 without a checkout: requests of a node's readers, faults, and a killed run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dvtool
from dvtool import CorruptError, RemoteError
from dvtool.remotes.transports import retry
from dvtool.stream import Stream
from dvtool.stream.order import FIRST_SHARE
from tests.s3 import train
from tests.s3.conftest import use
from tests.s3.proxy import CountingProxy, Fault, Request
from tests.s3.servers import S3Server
from tests.scenario import Clone, Remote, noise

FOLDERS = 4
FILES = 60
SIZE = 30_000
WINDOW = FILES * SIZE
"""Blocks of about a folder, which was added by itself and so is a pack."""
PATIENCE_S = 120


@pytest.fixture
def s3_env(rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """One server is enough: what is counted here is asked of any."""
    use(rclone_server, monkeypatch)
    return rclone_server


@pytest.fixture
def clone(
    proxy: CountingProxy, s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Clone:
    """A clone without content of a repository whose data is in packs behind the proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "PAUSE_FIRST_S", 0.001)
    remote = Remote(f"s3://{s3_env.new_bucket()}/p", proxy.url)
    mine = Clone.new(tmp_path / "mine", remote)
    for folder in range(FOLDERS):
        for number in range(FILES):
            mine.write(f"data/{folder}/{number:04}", content(folder, number))
        mine.add(f"data/{folder}")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    proxy.reset()
    return theirs


def content(folder: int, number: int) -> bytes:
    return noise(SIZE, FILES * folder + number)


def stream(clone: Clone, **options: Any) -> Stream:
    return Stream("data", repo=clone.path, window=WINDOW, **options)


def pack_requests(proxy: CountingProxy) -> Counter[str]:
    return Counter(request.path for request in proxy.requests if "/packs/" in request.path)


def test_the_readers_of_a_node_ask_twice_a_pack_at_most(
    clone: Clone, proxy: CountingProxy, tmp_path: Path
) -> None:
    """Two ranks with two workers each begin at once, and want the same blocks at the same time."""
    ready = tmp_path / "ready"
    ready.mkdir()
    readers = [
        start("read_share", clone.path, ready, WINDOW, rank, 2, worker, 2)
        for rank in range(2)
        for worker in range(2)
    ]
    texts = [reader.communicate(timeout=PATIENCE_S)[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    samples = [(key, digest) for text in texts for key, digest in json.loads(text)]
    assert sorted(samples) == [
        (f"data/{folder}/{number:04}", hashlib.sha256(content(folder, number)).hexdigest())
        for folder in range(FOLDERS)
        for number in range(FILES)
    ]
    requests = pack_requests(proxy)
    assert len(requests) == FOLDERS and max(requests.values()) <= 2, requests
    # Besides, each process reads dv.json, and the node each of the shards once.
    assert proxy.total <= requests.total() + len(readers) + FOLDERS, proxy.counts
    proxy.reset()
    assert len(list(stream(clone).epoch(1))) == FOLDERS * FILES
    assert proxy.total == 1, "the cache has all of it"


def test_without_a_cache_each_reader_asks_for_its_own(clone: Clone, proxy: CountingProxy) -> None:
    with clone.repo() as repo:
        repo.config.set("cache.size", "0")
    for rank in range(2):
        assert len(list(stream(clone).epoch(0, rank, 2))) == FOLDERS * FILES // 2
    assert pack_requests(proxy).total() >= 2 * FOLDERS


def test_the_first_samples_come_while_the_rest_of_their_block_is_on_the_way(
    clone: Clone, proxy: CountingProxy
) -> None:
    """Most of a pack has come, and no other byte does until the first samples are here."""
    came = threading.Event()
    epoch = stream(clone).epoch(0)
    begun = proxy.received
    proxy.call_when(lambda it: it.received > begun + 0.7 * WINDOW, lambda: came.wait(PATIENCE_S))
    try:
        samples = [next(epoch) for _ in range(FILES // FIRST_SHARE)]
        assert proxy.received < begun + WINDOW
    finally:
        came.set()
    samples += epoch
    assert [sample.key for sample in samples] == [sample.key for sample in stream(clone).epoch(0)]
    requests = pack_requests(proxy)
    assert list(requests.values()) == [1] * FOLDERS, "a sample was asked for by itself"


def test_a_forked_reader_knows_where_contents_are(clone: Clone, proxy: CountingProxy) -> None:
    """What the parent learned of the remote is not asked for again: only packs are."""
    whole = stream(clone)
    whole.samples.read(range(0, len(whole), FILES))
    proxy.reset()
    pid = os.fork()
    if not pid:
        os._exit(0 if len(list(whole.epoch(0))) == FOLDERS * FILES else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert proxy.total == pack_requests(proxy).total() <= 2 * FOLDERS, proxy.requests


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.s3.{module}"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


class Gone:
    """The server answers nothing any more."""

    def choose(self, request: Request) -> Fault:
        return Fault(request.kind, lost=True)


def test_a_remote_that_vanishes_is_named(clone: Clone, proxy: CountingProxy) -> None:
    epoch = stream(clone).epoch(0)
    taken = [next(epoch).key for _ in range(3)]
    proxy.policy = Gone()
    with pytest.raises(RemoteError, match=proxy.url):
        taken.extend(sample.key for sample in epoch)
    assert 0 < len(taken) < FOLDERS * FILES
    # The run is taken up once the remote is back, after the samples that came.
    proxy.policy = None
    again = stream(clone)
    again.load_state_dict(again.state_at(0, len(taken)))
    rest = [sample.key for sample in again.epoch(0)]
    assert taken + rest == [sample.key for sample in stream(clone).epoch(0)]


def test_what_is_damaged_there_is_raised_or_skipped(clone: Clone) -> None:
    with clone.repo() as repo:
        backend = repo.config.open_remote().backend
    key = next(iter(backend.list("packs/"))).key
    pack = bytearray(backend.get(key, size_max=64 << 20))
    pack[20_000] ^= 1
    backend.put(key, bytes(pack))
    with pytest.raises(CorruptError):
        list(stream(clone).epoch(0))
    tolerant = stream(clone, on_damage="skip")
    epoch = tolerant.epoch(0)
    keys = [sample.key for sample in epoch]
    assert len(tolerant.skipped) == 1
    assert sorted(keys + tolerant.skipped) == dvtool.snapshot(repo=clone.path).find("data")
    assert epoch.consumed == FOLDERS * FILES


def test_a_run_killed_in_mid_epoch_goes_on_in_the_same_order(clone: Clone, tmp_path: Path) -> None:
    """The order is proven by the hash of keys and data, with other workers after the kill."""
    pytest.importorskip("torch")
    log = tmp_path / "log"
    deadline = time.monotonic() + PATIENCE_S
    with start("train", clone.path, log, WINDOW, 2, 0.2) as killed:
        while not log.exists() or log.read_bytes().count(b"\n") < 4:
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    before = len(train.read_log(log))
    assert 4 <= before < FOLDERS * FILES // 8
    with start("train", clone.path, log, WINDOW, 1, 0) as resumed:
        assert resumed.wait(PATIENCE_S) == 0
    joined = [digest for line in train.read_log(log) for digest in line["hashes"]]
    whole = [
        hashlib.sha256(sample.key.encode() + b"\0" + sample.data).hexdigest()
        for sample in stream(clone).epoch(0)
    ]
    assert joined == whole
