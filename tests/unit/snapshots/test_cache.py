"""The cache of frames: bounded, shared by processes, and never believed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import dvtool
from dvtool import Snapshot
from dvtool.snapshots.cache import TAG, FrameCache, default_folder
from tests.scenario import noise
from tests.unit.snapshots.conftest import BIG, Dataset


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DV_CACHE_PATH", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("frames/*/*") if not path.name.startswith("."))


def open_remote(dataset: Dataset) -> Snapshot:
    return dvtool.snapshot(repo=dataset.bare.path)


def test_a_second_process_reads_from_the_cache(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    with open_remote(dataset) as data:
        assert data.read("data/big.bin") == BIG
        assert data.read("data/images/3/0003.jpg") == dataset.files["data/images/3/0003.jpg"]
    assert files_of(folder)
    assert (folder / TAG).is_file()
    remote = Path(dataset.remote.url)
    (remote / "packs").rename(remote / "hidden")
    try:
        with open_remote(dataset) as data:
            assert data.read("data/big.bin") == BIG
            assert data.read("data/images/3/0003.jpg") == dataset.files["data/images/3/0003.jpg"]
    finally:
        (remote / "hidden").rename(remote / "packs")


def test_only_what_is_remote_goes_in(dataset: Dataset, folder: Path) -> None:
    with dvtool.snapshot(repo=dataset.mine.path) as data:
        assert data.read("data/big.bin") == BIG
        assert data.prefetch(data.find()) == 0
    assert not folder.exists()


def test_prefetch_brings_what_is_not_there(dataset: Dataset, folder: Path) -> None:
    with open_remote(dataset) as data:
        assert data.prefetch(["data/big.bin"]) >= len(BIG)
        assert data.prefetch(["data/big.bin"]) == 0
        for path in files_of(folder):
            with path.open("r+b") as file:
                file.seek(path.stat().st_size // 2)
                file.write(bytes(path.stat().st_size))
        assert 0 < data.prefetch(["data/big.bin"]) < len(BIG)
        assert data.read("data/big.bin") == BIG


def test_no_cache_if_its_size_is_0(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DV_CACHE_SIZE", "0")
    with open_remote(dataset) as data:
        assert data.read("data/big.bin") == BIG
    assert not folder.exists()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def made_huge(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 40)


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


BOMB = b"\x01" + zstandard.ZstdCompressor().compress(bytes(64 << 20))
"""A frame that claims to unpack to more than any frame does."""


def made_a_bomb(path: Path) -> None:
    path.write_bytes(BOMB[: path.stat().st_size].ljust(path.stat().st_size, b"\0"))


HARM = [
    cut_short,
    emptied,
    changed,
    made_huge,
    made_a_folder,
    made_a_fifo,
    made_a_link,
    made_a_bomb,
    Path.unlink,
]


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_harmed_file_is_a_miss(
    dataset: Dataset, folder: Path, harm: Callable[[Path], None]
) -> None:
    with open_remote(dataset) as data:
        expected = data.read_ranges([(path, None, None) for path in data.find()])
    for path in files_of(folder):
        harm(path)
    with open_remote(dataset) as data:
        assert data.read_ranges([(path, None, None) for path in data.find()]) == expected


def test_a_folder_that_cannot_be_written_is_no_error(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    folder.write_bytes(b"a file")
    with open_remote(dataset) as data:
        assert data.read("data/big.bin") == BIG


# --- the bound ------------------------------------------------------------------------------


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 100_000)
    for number in range(200):
        cache.put(f"{number:03}", b"x" * 1_000)
        age = 100_000 - number * 100
        path = tmp_path / "cache/frames" / f"{number:03}"[:2] / f"{number:03}"
        os.utime(path, (time.time() - age, time.time() - age))
        if number >= 20:
            assert cache.get("005", size_max=2_000) is not None  # used again and again
        assert cache.usage().bytes <= 100_000
    assert cache.get("199", size_max=2_000) == b"x" * 1_000
    assert cache.get("050", size_max=2_000) is None
    assert cache.usage().files > 80


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 1_000)
    cache.put("large", b"x" * 1_001)
    assert cache.usage().files == 0


def test_a_frame_that_begins_as_a_hole_does_is_found(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 1 << 20)
    pack, zeros, plain = bytes(32), bytes(100) + noise(900, 1), b"\0" + noise(500, 2)
    cache.put_frames(pack, [(4_000, zeros), (9_000, plain)])
    wanted = [(2_000, 1_000), (4_000, len(zeros)), (5_000, 700), (9_000, len(plain)), (9_501, 9)]
    assert cache.get_frames(pack, wanted) == {4_000: zeros, 9_000: plain}
    assert cache.absent(pack, dict(wanted)) == {2_000, 5_000, 9_501}


@pytest.mark.parametrize("known", [True, False], ids=["known holes", "no holes known"])
def test_frames_in_holes_are_left_out_and_those_beside_are_not(
    tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:
        monkeypatch.delattr(os, "SEEK_DATA")
        monkeypatch.delattr(os, "SEEK_HOLE")
    cache = FrameCache(str(tmp_path / "cache"), 1 << 24)
    pack, body = bytes(32), noise(200_000, 1)
    with cache.pack_sink(pack, 100_000, len(body)) as sink:
        sink.write(body)
    cache.put_frames(pack, [(2_000_001, b"last")])
    wanted = [(at, 9_000) for at in range(1_000, 2_000_000, 9_000)] + [(2_000_001, 4)]
    kept = cache.get_frames(pack, wanted)
    whole = [at for at, size in wanted if at >= 100_000 and at + size <= 300_000]
    cut = [298_000]  # begins in data and ends in a hole: what is read of it is damaged
    assert list(kept) == [*whole, *([] if known else cut), 2_000_001]
    assert all(kept[at] == body[at - 100_000 :][:9_000] for at in whole)
    assert cache.get_frames(pack, [(2_000_001, 5), (3_000_000, 9)]) == {}


def test_clean_removes_all(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 100_000)
    for number in range(10):
        cache.put(f"{number:03}", b"x" * 100)
    assert cache.usage() == (10, 1_000)
    assert cache.clean() == (10, 1_000)
    assert cache.usage() == (0, 0)


def test_one_reader_at_a_time_gets_a_block(tmp_path: Path) -> None:
    first, second = (FrameCache(str(tmp_path), 1 << 20) for _ in range(2))
    entered = threading.Event()
    kept: list[bytes | None] = []

    def read_block() -> None:
        with second.turn(b"block"):
            entered.set()
            kept.append(second.get("block", size_max=1 << 10))

    with first.turn(b"block"):
        reader = threading.Thread(target=read_block)
        reader.start()
        assert not entered.wait(0.3), "both would ask the remote"
        first.put("block", b"data")
    reader.join()
    assert kept == [b"data"]


def test_unfinished_files_go_once_they_are_old(tmp_path: Path) -> None:
    cache = FrameCache(str(tmp_path / "cache"), 100_000)
    cache.put("aabb", b"x")
    for name, age in ((".dv-tmp-1-000000000000", 7_200), (".dv-tmp-1-111111111111", 5)):
        path = tmp_path / "cache/frames/aa" / name
        path.write_bytes(b"unfinished")
        os.utime(path, (time.time() - age, time.time() - age))
    assert cache.usage().files == 1
    assert len(list((tmp_path / "cache/frames/aa").iterdir())) == 2


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/x/y"}, "/x/y/dvtool"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, None),
        ({"HOME": "/h"}, None),
    ],
)
def test_the_folder_is_the_users(environ: dict[str, str], expected: str | None) -> None:
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert default_folder(environ) == (expected or f"/h/{usual}/dvtool")


# --- killed ---------------------------------------------------------------------------------

READER = """
import sys, dvtool
data = dvtool.snapshot(repo=sys.argv[1])
print("begun", flush=True)
while True:
    data.read_ranges([(path, None, None) for path in data.find()])
"""


def test_a_reader_that_is_killed_leaves_the_cache_usable(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DV_CACHE_SIZE", "200000")  # so that files come and go all the time
    chance = random.Random(7)
    for _ in range(6):
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(dataset.bare.path)], stdout=subprocess.PIPE
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"begun\n"
        time.sleep(chance.random() / 5)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        reader.stdout.close()
    with open_remote(dataset) as data:
        for path, expected in dataset.files.items():
            assert data.read(path) == expected
    assert FrameCache(str(folder), 200_000).usage().bytes <= 200_000
