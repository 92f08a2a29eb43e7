"""The places that the lists of a remote name are a hint: what they say wrongly is not the end."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvtool.format.locations import (
    ContentPlaces,
    Located,
    RemotePack,
    decode_object,
    encode_object,
)
from dvtool.verbs.fetch import download
from tests.cli.conftest import Work

FILES = 1_200
"""More than are listed in the manifest itself."""
SIZE = 300


@pytest.fixture
def many(work: Work) -> Work:
    contents = random.Random(1)
    for number in range(FILES):
        work.write(f"data/{number // 100:02d}/{number:04d}", contents.randbytes(SIZE))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    return work


def _remote(work: Work) -> Path:
    return work.root / "../remote"


def _objects(remote: Path, kind: str) -> list[Path]:
    return sorted(path for path in (remote / kind).rglob("*") if path.is_file())


def _size(remote: Path, kind: str) -> int:
    return sum(path.stat().st_size for path in _objects(remote, kind))


def _say(remote: Path, change: Callable[[RemotePack], RemotePack]) -> None:
    """Have the lists of a remote say something else of each pack."""
    for path in _objects(remote, "shards"):
        entries, shard = decode_object(path.read_bytes(), bytes.fromhex(path.name), path.name)
        assert entries
        places: ContentPlaces = {
            digest: [Located(change(chunk.pack), chunk.placement) for chunk in chunks]
            for digest, chunks in shard.locations.items()
        }
        path.chmod(0o644)
        path.write_bytes(encode_object(shard.text, places))


@pytest.mark.parametrize("more", [1, -1])
def test_a_wrong_size_of_a_pack_is_not_the_end(many: Work, more: int) -> None:
    _say(_remote(many), lambda pack: RemotePack(pack.digest, pack.size + more))
    clone = many.clone()
    fetched = clone.dv("pull", "--json").json["fetched"]
    assert fetched["files"] == FILES
    assert not clone.dv("status", "--json").json["targets"][0]["absent"]
    # The ranges of the second round count, and not the pack that could not be taken.
    assert fetched["transferred_bytes"] < _size(_remote(many), "packs") + 2 * _size(
        _remote(many), "shards"
    )


def test_a_pack_damaged_where_no_file_is_gives_its_files(many: Work) -> None:
    (pack,) = _objects(_remote(many), "packs")
    pack.chmod(0o644)
    text = bytearray(pack.read_bytes())
    text[-5] ^= 1
    pack.write_bytes(text)
    assert many.clone().dv("pull", "--json").json["fetched"]["files"] == FILES


def test_a_pack_that_the_first_remote_lacks_is_counted_once(many: Work) -> None:
    remote = _remote(many)
    other = many.root / "../other"
    shutil.copytree(remote, other)
    for path in _objects(remote, "packs"):
        path.unlink()
    clone = many.clone()
    clone.dv("remote", "add", "other", str(other))
    fetched = clone.dv("pull", "--json").json["fetched"]
    assert fetched["files"] == FILES
    # The first remote's lists are read once more, since the pack may have been moved.
    lists = 3 * _size(remote, "shards")
    assert fetched["transferred_bytes"] == _size(other, "packs") + lists


def test_a_pack_moved_after_the_lists_were_read_is_taken_from_its_new_place(
    many: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a gc does: packs go to new ones, and the lists follow."""
    remote = _remote(many)
    right = {path: path.read_bytes() for path in _objects(remote, "shards")}
    _say(remote, lambda pack: RemotePack(bytes(32), pack.size))
    receive_pack = download.receive_pack

    def after_gc(*args: Any) -> Any:
        for path, text in right.items():
            path.write_bytes(text)
        return receive_pack(*args)

    monkeypatch.setattr(download, "receive_pack", after_gc)
    assert many.clone().dv("fetch", "--json").json["files"] == FILES
