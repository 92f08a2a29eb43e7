"""The check that other tests rely on notices what it is there to notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.errors import DvError
from tests.s3.forgery import Locations, ShardFile
from tests.s3.soundness import check_remote
from tests.scenario import Clone, Remote, noise


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _only(top: Path, kind: str) -> Path:
    (path,) = [path for path in (top / kind).rglob("*") if path.is_file()]
    return path


def _relocate(change: Callable[[Locations], object]) -> Callable[[Path], None]:
    def damage(top: Path) -> None:
        shard = ShardFile.open(_only(top, "shards"))
        change(shard.locations)
        shard.write()

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit of a frame": lambda top: _flip(_only(top, "packs"), 500),
    "a bit of an index": lambda top: _flip(_only(top, "packs"), -40),
    "a bit of a shard": lambda top: _flip(_only(top, "shards"), 60),
    "a bit of a root": lambda top: _flip(_only(top, "roots"), 60),
    "a pack gone": lambda top: _only(top, "packs").unlink(),
    "a shard gone": lambda top: _only(top, "shards").unlink(),
    "dv.json gone": lambda top: (top / "dv.json").unlink(),
    "a chunk elsewhere": _relocate(lambda it: it.rows[0].__setitem__(3, 1)),
    "chunks in another order": _relocate(
        lambda it: (it.names.reverse(), it.rows.__setitem__(slice(1, None), it.rows[:0:-1]))
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed(tmp_path: Path, name: str) -> None:
    remote = tmp_path / "remote"
    clone = Clone.new(tmp_path / "clone", Remote(str(remote)))
    clone.write("data/a", noise(1_000))
    clone.write("data/b", noise(300_000, 1))
    clone.add("data")
    clone.commit("data")
    with clone.repo() as repo:
        repo.push()
    assert len(check_remote(Remote(str(remote)))) == 1
    DAMAGES[name](remote)
    with pytest.raises((DvError, AssertionError)):
        check_remote(Remote(str(remote)))
