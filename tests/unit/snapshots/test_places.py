"""Where the contents of shards are on a remote, kept in few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import Placement
from dvtool.snapshots import places
from dvtool.snapshots.contents import Content
from dvtool.snapshots.places import ShardPlaces
from dvtool.snapshots.remote import RemoteChunks
from dvtool.stream import Stream
from tests.scenario import Clone, Remote, noise

FILES, SIZE = 40, 3_000


def _name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_contents_of_one_chunk_and_of_several_are_given_back() -> None:
    packs = [RemotePack(_name(900 + number), 1 << 20) for number in range(3)]
    locations = {
        _name(number): [Located(packs[number % 3], Placement(_name(number), number, 9, 1, 8))]
        for number in range(50)
    }
    both = [Located(packs[0], Placement(_name(700 + n), n, 90, n, 80)) for n in range(2)]
    locations[_name(500)] = both
    locations[_name(501)] = both[:1]  # one chunk, of another name
    shard = ShardPlaces(locations)
    assert shard.held(locations) == locations
    assert shard.held([_name(3), _name(77)]) == {_name(3): locations[_name(3)]}
    assert ShardPlaces({}).held([_name(3)]) == {}
    assert 0 == ShardPlaces({}).size_bytes < shard.size_bytes


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone without content of two targets, which are in shards of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    far = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", far)
    for number in range(FILES):
        mine.write(f"data/{'ab'[number % 2]}/{number:02}", noise(SIZE, number))
    mine.add("data/a")
    mine.add("data/b")
    mine.commit("data")
    with mine.repo() as repo:
        repo.push()
    return mine.clone(tmp_path / "bare", far)


def test_lists_that_were_forgotten_are_read_again_for_all_of_a_window(
    bare: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not content by content, with objects for each of them."""
    slowly: list[int] = []
    locate = RemoteChunks.locate

    def noted(self: RemoteChunks, contents: list[Content]) -> Any:
        slowly.append(len(contents))
        return locate(self, contents)

    monkeypatch.setattr(RemoteChunks, "locate", noted)
    monkeypatch.setattr(places, "PLACES_KEPT_BYTES", FILES)
    stream = Stream("data", repo=bare.path, window=FILES // 4 * SIZE)
    read = {sample.key: sample.data for number in range(2) for sample in stream.epoch(number)}
    assert read == {
        f"data/{'ab'[number % 2]}/{number:02}": noise(SIZE, number) for number in range(FILES)
    }
    assert len(stream.snapshot._contents._remote._places._shards) == 1  # the one that was used last
    assert not slowly
    contents = stream.snapshot._contents
    contents._remote._places.clear()
    located = contents.listed_places(stream.snapshot.contents("data"), range(FILES))
    assert len(located) == FILES
    assert not contents._remote._unlisted  # it gave both lists, of which one stays
