"""Reads that fail: no bytes are passed over without a word, and the cache's disk fails nobody."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dvtool
from dvtool import DvError, Snapshot, SnapshotFile
from dvtool.errors import RemoteError
from dvtool.remotes.remote import RemoteStore
from dvtool.snapshots.cache import FrameCache
from dvtool.stream import Stream
from tests.scenario import Clone, Remote, noise
from tests.unit.snapshots.conftest import BIG, Dataset

# --- the remote fails -----------------------------------------------------------------------


@pytest.fixture
def uncached(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshot]:
    """A snapshot whose content comes from the remote each time, `BIG` in several windows."""
    monkeypatch.setenv("DV_CACHE_SIZE", "0")
    monkeypatch.setattr("dvtool.snapshots.file.FAR_WINDOW_BYTES", 1 << 20)
    with dvtool.snapshot(repo=dataset.bare.path) as data:
        yield data


def fail_last_chunk(
    raw: SnapshotFile, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Have requests for the last chunk of a file raise an error."""
    last = raw._known_layout().pieces[-1].located
    read_pack = RemoteStore.read_pack

    def failing(self: RemoteStore, pack: Any, sink: Any, *, offset: int, size: int) -> Any:
        if pack == last.pack.digest and offset <= last.placement.frame_offset < offset + size:
            raise error
        return read_pack(self, pack, sink, offset=offset, size=size)

    monkeypatch.setattr(RemoteStore, "read_pack", failing)


Call = Callable[[Any], Any]
CALLS: dict[str, Call] = {
    "all": lambda file: file.read(),
    "much": lambda file: file.read(len(BIG) - 100),
    "into": lambda file: file.readinto(bytearray(len(BIG) - 100)),
}


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_read_tried_again_does_not_go_on_behind_the_bytes_that_were_lost(
    uncached: Snapshot, call: Call, buffering: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails until the caller says where to go on, also once the remote is back."""
    with uncached.open("data/big.bin", "rb", buffering=buffering) as file:
        begin = file.read(100)
        with monkeypatch.context() as away:
            raw = file.raw if isinstance(file, io.BufferedReader) else file
            fail_last_chunk(raw, away, RemoteError("the network is away"))
            with pytest.raises(RemoteError):
                call(file)
        for again in (*CALLS.values(), lambda file: file.read(1)):
            with pytest.raises(RemoteError, match="the network is away"):
                again(file)
        file.seek(len(begin))
        assert begin + file.read() == BIG


def test_after_an_interrupt_a_file_says_what_to_do(
    uncached: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with uncached.open("data/big.bin", "rb", buffering=0) as file:
        with monkeypatch.context() as interrupted:
            fail_last_chunk(file, interrupted, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                file.read()
        with pytest.raises(DvError, match="was interrupted"):
            file.read()
        file.seek(file.tell())  # where the call began
        assert file.read() == BIG


def test_a_buffer_is_free_after_an_error(
    uncached: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = bytearray(len(BIG))
    with uncached.open("data/big.bin", "rb", buffering=0) as file:
        fail_last_chunk(file, monkeypatch, RemoteError("the network is away"))
        with pytest.raises(RemoteError):
            file.readinto(buffer)
        buffer.clear()


# --- the disk of the cache fails ------------------------------------------------------------


@pytest.fixture
def fail_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path, int], None]]:
    """Have reads of so many bytes, or more, of files in a folder fail as NFS does."""
    monkeypatch.setenv("DV_CACHE_PATH", str(tmp_path / "cache"))

    def fail(folder: Path, size_min: int) -> None:
        stale = {(s.st_dev, s.st_ino) for s in map(os.stat, folder.rglob("*"))}
        pread, preadv = os.pread, os.preadv

        def check(fd: int, size: int) -> None:
            status = os.fstat(fd)
            if size >= size_min and (status.st_dev, status.st_ino) in stale:
                raise OSError(errno.ESTALE, "Stale file handle")

        def failing_pread(fd: int, size: int, offset: int) -> bytes:
            check(fd, size)
            return pread(fd, size, offset)

        def failing_preadv(fd: int, buffers: Any, offset: int) -> int:
            check(fd, sum(map(len, buffers)))
            return preadv(fd, buffers, offset)

        monkeypatch.setattr(os, "pread", failing_pread)
        monkeypatch.setattr(os, "preadv", failing_preadv)

    yield fail
    monkeypatch.undo()


@pytest.fixture
def samples(tmp_path: Path) -> Clone:
    """A clone without content of `SAMPLES`."""
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    for path, data in SAMPLES.items():
        mine.write(path, data)
    mine.add("data")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    return mine.clone(tmp_path / "bare", remote)


FailDisk = Callable[[Path, int], None]
SAMPLES = {f"data/{n}": noise(200_000 if n % 4 == 0 else 3_000, n) for n in range(12)}
"""Some of several chunks."""
LOOK_BYTES = 64
"""Whether a frame is there is seen from so many bytes."""


def test_what_the_cache_cannot_read_is_fetched_anew(
    dataset: Dataset, tmp_path: Path, fail_disk: FailDisk
) -> None:
    with dvtool.snapshot(repo=dataset.bare.path) as data:
        size = data.prefetch(["data/big.bin"])
    fail_disk(tmp_path / "cache", 0)
    with dvtool.snapshot(repo=dataset.bare.path) as data:
        assert data.prefetch(["data/big.bin"]) == size
        assert data.read("data/big.bin") == BIG


@pytest.mark.parametrize("size_min", [0, LOOK_BYTES + 1], ids=["all", "not where it is looked"])
def test_a_stream_goes_on_without_its_cache(
    samples: Clone, tmp_path: Path, fail_disk: FailDisk, size_min: int
) -> None:
    stream = Stream("data", repo=samples.path)
    assert stream.snapshot.prefetch(list(SAMPLES)) > 0
    fail_disk(tmp_path / "cache", size_min)
    assert {sample.key: sample.data for sample in stream.epoch(0)} == SAMPLES


def test_what_was_found_in_the_cache_may_be_unreadable_later(
    samples: Clone, tmp_path: Path, fail_disk: FailDisk
) -> None:
    stream = Stream("data", repo=samples.path)
    assert stream.snapshot.prefetch(list(SAMPLES)) > 0
    read = stream.samples.direct(range(len(stream)))
    assert read is not None
    fail_disk(tmp_path / "cache", 0)
    assert {sample.key: sample.data for sample in read(range(len(stream)))} == SAMPLES


def test_an_error_of_the_store_is_said(dataset: Dataset, fail_disk: FailDisk) -> None:
    """It is no cache: what it has may be nowhere else."""
    stream = Stream("data/images", repo=dataset.mine.path)
    fail_disk(dataset.mine.path / ".git/dv/packs", 0)
    with pytest.raises(OSError, match="Stale"):
        list(stream.epoch(0))


def test_a_frame_that_cannot_be_looked_at_is_absent(tmp_path: Path, fail_disk: FailDisk) -> None:
    cache, pack = FrameCache(str(tmp_path / "cache"), 1 << 20), bytes(32)
    cache.put_frames(pack, [(0, b"a" * 100), (100, b"b" * 10)])
    assert cache.absent(pack, {0: 100, 100: 10}) == set()
    fail_disk(tmp_path / "cache", LOOK_BYTES)
    assert cache.absent(pack, {0: 100, 100: 10}) == {0}
