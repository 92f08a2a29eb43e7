"""Standing rules of a worktree: what they leave out neither comes nor is missed."""

from __future__ import annotations

import os

import pytest

from tests.cli.conftest import Work


@pytest.fixture
def clone(pushed: Work) -> Work:
    """A clone without data."""
    return pushed.clone()


def test_only_what_the_rules_take_is_pulled(clone: Work) -> None:
    clone.dv("sparse", "set", "data/images", "--exclude", "data/images/sub")
    assert clone.dv("sparse", "list").out == "data/images\n!data/images/sub\n"
    out = clone.dv("pull").out
    assert "2 files" in out
    assert sorted(os.listdir(clone.root / "data")) == [
        ".gitignore",
        "images",
        "images.dv.json",
        "table.csv.dv.json",
    ]
    assert sorted(os.listdir(clone.root / "data/images")) == ["a.txt", "b.txt"]
    text = clone.dv("status").out
    left_out = "Left out by the rules of dv sparse: 2 of 4 files (dv sparse list):\n"
    assert f"{left_out}    data/images  1 file, 20 B\n    data/table.csv  1 file, " in text
    assert "Not in the workspace" not in text
    assert clone.dv("status", "--exit-code").code == 0
    assert clone.dv("add", "data/images").out.endswith("unchanged\n")


def test_a_path_that_is_named_comes_all_the_same(clone: Work) -> None:
    clone.dv("sparse", "set", "data/images")
    clone.dv("pull", "data/table.csv")
    assert clone.read("data/table.csv")
    clone.dv("sparse", "add", "data/table.csv")
    assert clone.dv("sparse", "list", "--json").json["rules"] == ["data/images", "data/table.csv"]


def test_what_is_left_out_goes_and_what_was_changed_stays(clone: Work) -> None:
    clone.dv("pull")
    clone.write("data/images/a.txt", "changed")
    dry = clone.dv("sparse", "set", "-n", "--exclude", "data/images", "--exclude", "data/*.csv")
    assert "3 files, 44 B would be removed" in dry.out
    assert clone.dv("sparse", "list").out == ""
    ran = clone.dv("sparse", "set", "--exclude", "images", "--exclude", "*.csv", cwd="data")
    assert "3 files, 44 B removed" in ran.out
    assert "  images/a.txt" in ran.err
    assert clone.read("data/images/a.txt") == b"changed"
    assert not (clone.root / "data/images/b.txt").exists()
    assert not (clone.root / "data/table.csv").exists()
    status = clone.dv("status", "--json").json["targets"]
    assert [one["modified"] for one in status] == [["a.txt"], []]
    assert [one["deleted"] for one in status] == [[], []]
    clone.dv("sparse", "disable")
    clone.dv("restore", "data/images/a.txt")
    clone.dv("pull")
    assert clone.dv("status", "--json").json["clean"]
    assert clone.read("data/images/sub/c.txt") == b"content of sub/c.txt"


def test_what_was_changed_to_something_stored_stays(clone: Work) -> None:
    clone.dv("pull")
    clone.write("data/images/a.txt", "content of b.txt")
    ran = clone.dv("sparse", "set", "--exclude", "data/images")
    assert "1 file left out by the rules stays here, since it was changed" in ran.err
    assert clone.read("data/images/a.txt") == b"content of b.txt"
    assert not (clone.root / "data/images/b.txt").exists()


def test_what_the_store_lacks_stays(clone: Work) -> None:
    clone.dv("pull")
    clone.dv("drop", "--store", "data/images")
    ran = clone.dv("sparse", "set", "--exclude", "data/images")
    assert "3 files left out by the rules stay here" in ran.err
    assert clone.read("data/images/a.txt") == b"content of a.txt"
    assert clone.dv("status", "--json").json["targets"][0]["deleted"] == []


def test_the_hooks_bring_nothing_that_is_left_out(clone: Work, pushed: Work) -> None:
    clone.dv("hooks", "install")
    clone.dv("sparse", "set", "data/images/*.txt")
    clone.dv("pull")
    pushed.write("data/images/a.txt", "second")
    pushed.write("data/images/sub/d.txt", "new")
    pushed.dv("add", "data/images")
    pushed.commit("second")
    pushed.dv("push")
    clone.dv("fetch")
    clone.git("fetch", "-q")
    clone.dv(
        "fetch", "origin/main" if clone.git("branch", "-r").find("main") >= 0 else "origin/HEAD"
    )
    clone.git("merge", "-q", "FETCH_HEAD")
    assert clone.read("data/images/a.txt") == b"second"
    assert not (clone.root / "data/images/sub").exists()
    assert "outdated" not in clone.dv("status").out


def test_rules_that_say_nothing_are_refused(clone: Work) -> None:
    assert "name what to take" in clone.dv("sparse", "set", code=2).err
    assert "outside of this repository" in clone.dv("sparse", "set", "../x", code=2).err
    assert "no rules" in clone.dv("sparse").err


def test_status_counts_what_is_here_apart_from_what_is_left_out(clone: Work) -> None:
    clone.dv("sparse", "set", "data/images/a.txt")
    clone.dv("pull")
    text = clone.dv("status").out
    assert "Left out by the rules of dv sparse: 3 of 4 files (dv sparse list):" in text
    assert "Clean: 1 target, 1 file, " in text  # not the one that is left out whole
    images, table = clone.dv("status", "--json").json["targets"]
    assert images["left_out"] == ["b.txt", "sub/c.txt"]
    sizes = {path: len(f"content of {path}") for path in images["left_out"]}
    assert images["left_out_bytes"] == sum(sizes.values())
    assert table["left_out_bytes"] == table["bytes"]
    assert images["absent_bytes"] == 0


def test_a_path_that_gits_sparse_checkout_leaves_out_is_said_so(pushed: Work) -> None:
    pushed.write("other/file.bin", "content")
    pushed.dv("add", "other/file.bin")
    pushed.git("add", "-A")
    pushed.git("commit", "-qm", "other")
    clone = pushed.clone()
    clone.git("sparse-checkout", "set", "data")
    for path in ("other", "other/file.bin", "other/file.bin.dv.json"):
        ran = clone.dv("status", path, code=2)
        assert f"{path}: sparse checkout leaves this target out of the worktree" in ran.err
        assert "git sparse-checkout add" in ran.err
    assert "no target of dvtool is or holds" in clone.dv("status", "nosuch", code=2).err
