"""Reading a commit from S3 servers: which requests that takes, and what is said if it cannot be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import dvtool
from dvtool import CorruptError, MissingError, RemoteForbidden, Snapshot
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.scenario import Clone, Remote, noise

FILES = 400
SIZE = 6_000
LARGE = noise(24 << 20, 9)


@pytest.fixture
def clone(
    proxy: CountingProxy, s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Clone:
    """A clone without content of a repository whose data is behind the proxy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote(f"s3://{s3_env.new_bucket()}/p", proxy.url)
    mine = Clone.new(tmp_path / "mine", remote)
    for number in range(FILES):
        mine.write(f"data/small/{number:04}", noise(SIZE, number))
    mine.write("data/large", LARGE)
    mine.add("data/small", "data/large")
    mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    proxy.reset()
    return theirs


def open_data(clone: Clone) -> Snapshot:
    return dvtool.snapshot(repo=clone.path)


def packs_read(proxy: CountingProxy) -> int:
    return sum("/packs/" in request.path for request in proxy.requests)


def test_neighbouring_files_are_few_requests(clone: Clone, proxy: CountingProxy) -> None:
    with open_data(clone) as data:
        paths = data.find("data/small")
        assert proxy.total == 0  # a small manifest is in git
        whole = [(path, None, None) for path in paths]
        assert data.read_ranges(whole) == [noise(SIZE, n) for n in range(FILES)]
        # dv.json, the shard, and 2.4 MB that lie together
        assert packs_read(proxy) <= FILES // 20
        assert proxy.total <= 2 + FILES // 20
        before = proxy.total
        assert data.read_ranges(whole) == [noise(SIZE, n) for n in range(FILES)]
        assert proxy.total == before


def test_a_second_process_asks_for_dv_json_alone(clone: Clone, proxy: CountingProxy) -> None:
    with open_data(clone) as data:
        data.prefetch(data.find("data/small"))
    proxy.reset()
    with open_data(clone) as data:
        for path in random.Random(1).sample(data.find("data/small"), 50):
            assert data.read(path) == noise(SIZE, int(path[-4:]))
    assert proxy.total == 1


def test_files_at_random_are_a_request_a_run_of_frames_at_most(
    clone: Clone, proxy: CountingProxy
) -> None:
    """Runs are counted by where the other clone's store has the frames, which were pushed so."""
    chosen = random.Random(4).sample(range(FILES), 12)
    with dvtool.snapshot(repo=clone.path.with_name("mine")) as mine:
        contents = [mine.contents("data/small")[number] for number in chosen]
        layouts = mine._contents.layouts(contents)
    frames = sorted(
        {
            (located.pack.digest, located.placement.frame_offset, located.placement.frame_size)
            for layout in layouts.values()
            for _, located in layout.pieces
        }
    )
    ends = {(pack, offset + size) for pack, offset, size in frames}
    runs = sum((pack, offset) not in ends for pack, offset, _ in frames)
    assert 1 < runs <= len(frames)
    with open_data(clone) as data:
        ranges = [(f"data/small/{number:04}", None, None) for number in chosen]
        assert data.read_ranges(ranges) == [noise(SIZE, number) for number in chosen]
    assert 0 < packs_read(proxy) <= runs


def test_a_range_costs_the_frames_it_touches(clone: Clone, proxy: CountingProxy) -> None:
    with open_data(clone) as data:
        data.read_ranges([("data/large", 0, 1)])
        proxy.reset()
        assert data.read_ranges([("data/large", 12 << 20, (12 << 20) + 100)]) == [
            LARGE[12 << 20 :][:100]
        ]
        assert proxy.total == 1
        assert proxy.received < 5 << 20


def test_a_stretch_of_a_large_file_costs_no_more_than_it_is(
    clone: Clone, proxy: CountingProxy
) -> None:
    """A buffer asks for a column of a table by two calls; neither is the beginning of a run."""
    begin, size = 3 << 20, 6 << 20
    with open_data(clone) as data, data.open("data/large") as file:
        file.seek(begin)
        proxy.reset()
        assert file.read(size) == LARGE[begin : begin + size]
    assert size <= proxy.received <= 1.2 * size


def test_a_large_file_is_read_in_order(clone: Clone, proxy: CountingProxy) -> None:
    with open_data(clone) as data, data.open("data/large") as file:
        blocks = []
        while block := file.read(700_000):
            blocks.append(block)
        assert b"".join(blocks) == LARGE
    assert proxy.received < len(LARGE) * 1.02 + (1 << 20)
    assert packs_read(proxy) <= 16


def test_a_file_that_is_left_half_read_ends_its_threads(clone: Clone, proxy: CountingProxy) -> None:
    with open_data(clone) as data:
        file = data.open("data/large")
        assert file.read(1_000) == LARGE[:1_000]
        assert proxy.received < 1 << 20  # the frames that were touched, and no more
        assert file.read(3 << 20) == LARGE[1_000:][: 3 << 20]
        file.close()
        with data.open("data/large") as again:
            again.seek(20 << 20)
            assert again.read(1_000) == LARGE[20 << 20 :][:1_000]


def test_revoked_credentials_are_said_so(
    clone: Clone, s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if s3_env.name == "moto":
        pytest.skip("moto checks no credentials")
    data = open_data(clone)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with data, pytest.raises(RemoteForbidden):
        data.read("data/small/0000")


def test_what_is_damaged_or_gone_there_is_said_so(
    clone: Clone,
) -> None:
    with clone.repo() as repo:
        backend = repo.config.open_remote().backend
    packs = [info.key for info in backend.list("packs/")]
    for key in packs:
        content = bytearray(backend.get(key, size_max=64 << 20))
        content[10 : len(content) - 100 : 3_000] = b"!" * len(
            content[10 : len(content) - 100 : 3_000]
        )
        backend.put(key, bytes(content))
    with open_data(clone) as data, pytest.raises(CorruptError):
        data.read("data/small/0000")
    for key in packs:
        backend.delete(key)
    with open_data(clone) as data, pytest.raises(MissingError):
        data.read("data/small/0000")
