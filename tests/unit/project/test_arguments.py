"""Paths as a caller may give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.project.arguments import Paths, each_path
from dvtool.repo import Repo
from tests.scenario import Clone, Remote


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("data", ["data"]),
        (Path("a/b"), ["a/b"]),
        (["a", Path("b")], ["a", "b"]),
        (("a",), ["a"]),
        ((), []),
    ],
)
def test_one_path_or_several(given: Paths, paths: list[str]) -> None:
    assert each_path(given) == paths


def test_every_verb_takes_one_path(tmp_path: Path) -> None:
    mine = Clone.new(tmp_path / "mine", Remote(str(tmp_path / "remote")))
    mine.write("data/a", b"one")
    mine.write("data/b", b"two")
    with Repo.open(str(mine.path)) as repo:
        assert [one.target for one in repo.add("data")] == ["data"]
        assert [one.target for one in repo.add(Path("data"))] == ["data"]
        assert [one.target for one in repo.status(Path("data"))] == ["data"]
        assert [one.path for one in repo.ls("data/a")] == ["data/a"]
        assert b"".join(repo.cat(Path("data/a"))) == b"one"
        mine.commit("Data")
        assert [one.target for one in repo.diff(paths="data")] == ["data"]
        assert [one.blake3 is None for one in repo.log(Path("data"))] == [False]
        repo.push(paths="data")
        (mine.path / "data/a").unlink()
        assert [one.written for one in repo.checkout(paths=Path("data/a")).targets] == [1]
