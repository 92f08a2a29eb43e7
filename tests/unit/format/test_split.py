from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import dvtool
from dvtool import UsageError
from dvtool.format.split import stem_of
from tests.scenario import Clone, Remote

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


class Info:
    def __init__(self, blake3: str) -> None:
        self.blake3 = blake3


class Files:
    """Paths and contents."""

    def __init__(self, contents: dict[str, str]) -> None:
        self.contents = contents

    def find(self, path: str = "") -> list[str]:
        return sorted(name for name in self.contents if name.startswith(path))

    def info(self, path: str) -> Info:
        return Info(hashlib.sha256(self.contents[path].encode()).hexdigest())


def split_of(splits: dict[str, list[str]]) -> dict[str, str]:
    return {path: name for name, paths in splits.items() for path in paths}


PATHS = st.lists(st.sampled_from(["a", "b", "a.x", "a.y", ".b"]), min_size=1, max_size=3)
CONTENTS = st.dictionaries(PATHS.map("/".join), st.text("xyz", max_size=2))
GROUPS = st.sampled_from([None, "stem", "folder", len])
SEEDS = st.integers(-3, 1 << 70)


def _grouping(group_by: Any) -> Any:
    return (lambda path: str(len(path))) if group_by is len else group_by


@given(CONTENTS, CONTENTS, SEEDS, GROUPS)
@settings(deadline=None)
def test_adding_files_moves_no_other(
    contents: dict[str, str], more: dict[str, str], seed: int, group_by: Any
) -> None:
    options = {"seed": seed, "group_by": _grouping(group_by)}
    before = split_of(dvtool.split(Files(contents), SHARES, **options))
    after = split_of(dvtool.split(Files(more | contents), SHARES, **options))
    assert before.items() <= after.items()
    assert before.keys() == contents.keys()


@given(CONTENTS, SEEDS, st.permutations(list(SHARES.items())))
@settings(deadline=None)
def test_the_order_of_the_shares_does_not_matter(
    contents: dict[str, str], seed: int, shares: list[tuple[str, float]]
) -> None:
    splits = dvtool.split(Files(contents), dict(shares), seed=seed)
    assert splits == dvtool.split(Files(contents), SHARES, seed=seed)
    assert list(splits) == [name for name, _ in shares]
    assert all(paths == sorted(paths) for paths in splits.values())


@given(CONTENTS, SEEDS, st.sampled_from(["stem", "folder"]))
@settings(deadline=None)
def test_equal_files_and_groups_stay_together(
    contents: dict[str, str], seed: int, group_by: Any
) -> None:
    by_content = split_of(dvtool.split(Files(contents), SHARES, seed=seed))
    splits: dict[str, set[str]] = {}
    for path, content in contents.items():
        splits.setdefault(content, set()).add(by_content[path])
    assert all(len(names) == 1 for names in splits.values())
    by_group = split_of(dvtool.split(Files(contents), SHARES, seed=seed, group_by=group_by))
    groups: dict[str, set[str]] = {}
    for path in contents:
        group = stem_of(path) if group_by == "stem" else path.rpartition("/")[0]
        groups.setdefault(group, set()).add(by_group[path])
    assert all(len(names) == 1 for names in groups.values())


def test_shares_seeds_and_known_answers() -> None:
    files = Files({f"{number:05}.jpg": str(number) for number in range(4_000)})
    splits = dvtool.split(files, SHARES, seed=1)
    assert {name: round(len(paths) / 4_000, 1) for name, paths in splits.items()} == SHARES
    assert splits != dvtool.split(files, SHARES, seed=2)
    # The same on every machine and in every version: a change would move everybody's files.
    assert [len(paths) for paths in splits.values()] == [3261, 354, 385]
    larger = split_of(dvtool.split(files, {"train": 0.7, "val": 0.2, "test": 0.1}, seed=1))
    moved = {
        (name, larger[path]) for path, name in split_of(splits).items() if larger[path] != name
    }
    assert moved == {("train", "val")}
    assert dvtool.split(files, {"all": 1, "none": 0.0}) == {"all": files.find(), "none": []}
    assert dvtool.split(files, {"all": 1}, path="0000") == {"all": files.find("0000")}


@pytest.mark.parametrize(
    ("fractions", "says"),
    [
        ({}, "no split is named"),
        ({"a": 0.5}, "add up to 0.5, not to 1"),
        ({"a": 0.5, "b": 0.6}, "add up to 1.1, not to 1"),
        ({"a": 1.5, "b": -0.5}, "no number from 0 to 1: 1.5"),
        ({"a": float("nan")}, "no number from 0 to 1: nan"),
        ({"a": "1"}, "no number from 0 to 1: '1'"),
        ({"a": True}, "no number from 0 to 1: True"),
    ],
)
def test_shares_that_are_none_are_refused(fractions: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        dvtool.split(Files({}), fractions)


def test_a_group_is_a_text() -> None:
    with pytest.raises(UsageError, match=r"returned None for a\.jpg"):
        dvtool.split(Files({"a.jpg": ""}), SHARES, group_by=lambda path: None)  # type: ignore
    with pytest.raises(UsageError, match="group_by is 'size'"):
        dvtool.split(Files({"a.jpg": ""}), SHARES, group_by="size")  # type: ignore


def test_stems() -> None:
    paths = ["a/0001.jpg", "a/0001.seg.png", "a.b/0001", "0001.json", "a/.hidden.txt", "..x"]
    assert [stem_of(path) for path in paths] == [
        *("a/0001", "a/0001", "a.b/0001", "0001", "a/.hidden", "..x"),
    ]


def test_a_snapshot_is_split(tmp_path: Path) -> None:
    clone = Clone.new(tmp_path / "repo", Remote(str(tmp_path / "remote")))
    for number in range(30):
        clone.write(f"data/{number}.txt", b"%d" % (number // 2))
    clone.link("data/link", "1.txt")
    clone.add("data")
    clone.commit("one")
    snapshot = dvtool.snapshot("HEAD", clone.path)
    splits = dvtool.split(snapshot, {"train": 0.5, "test": 0.5})
    assert sorted([*splits["train"], *splits["test"]]) == snapshot.find("data")
    assert all(splits.values())
    where = split_of(splits)
    assert all(where[f"data/{n}.txt"] == where[f"data/{n + 1}.txt"] for n in range(0, 30, 2))
