"""Worktrees, submodules, monorepos, and git folders that are elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Work


@pytest.fixture
def tree(pushed: Work) -> Work:
    """A second worktree of the repository, on a branch of its own."""
    pushed.git("worktree", "add", "-q", "-b", "side", "../tree")
    return Work(pushed.root.parent / "tree")


def _packs(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("packs/*/*") if path.is_file()]


def test_worktrees_share_one_store(pushed: Work, tree: Work) -> None:
    status = tree.dv("status", "--json").json["targets"]
    assert [len(one["absent"]) for one in status] == [3, 1]
    tree.dv("checkout", "--no-fetch")
    assert tree.read("data/images/a.txt") == b"content of a.txt"
    tree.write("data/images/a.txt", "of the side")
    tree.dv("add", "images", cwd="data")
    tree.commit()
    assert tree.dv("status", "--exit-code").out.startswith("Clean: 2 targets")
    # The other worktree is as it was, and its statcache with it.
    assert pushed.dv("status", "--exit-code").out.startswith("Clean: 2 targets")
    assert pushed.dv("cat", "--rev", "side", "data/images/a.txt").out == "of the side"
    assert not _packs(tree.root)
    assert (pushed.root / ".git/worktrees/tree/dv/statcache.db").exists()
    tree.dv("push")
    assert pushed.dv("push", "side").out.startswith("everything is on")


def test_drop_in_one_worktree_leaves_the_files_of_the_other(pushed: Work, tree: Work) -> None:
    tree.dv("checkout")
    tree.dv("drop", "data")
    assert pushed.read("data/images/a.txt") == b"content of a.txt"
    assert pushed.dv("status", "--exit-code").out.startswith("Clean: 2 targets")
    (pushed.root / "data/images/a.txt").unlink()
    pushed.dv("checkout")
    assert pushed.read("data/images/a.txt") == b"content of a.txt"


def test_a_worktree_that_was_moved(pushed: Work, tree: Work) -> None:
    tree.dv("checkout")
    pushed.git("worktree", "move", "../tree", "../moved")
    moved = Work(pushed.root.parent / "moved")
    assert moved.dv("status", "--exit-code").out.startswith("Clean: 2 targets")


def test_a_monorepo_of_many_targets(work: Work) -> None:
    for project in ("vision/data", "audio/sets/raw", "tools"):
        for name in ("one", "two"):
            work.write(f"{project}/{name}/x.bin", f"{project} {name}")
            work.dv("add", name, cwd=project)
    work.write("top.bin", "at the top")
    work.dv("add", "../../top.bin", cwd="vision/data")
    work.commit()
    assert len(work.dv("status", "--json").json["targets"]) == 7
    assert work.dv("ls", ".", cwd="vision").lines == ["data/one/x.bin", "data/two/x.bin"]
    work.dv("push", cwd="audio/sets")
    clone = work.clone()
    clone.dv("pull", "--", "raw/one", "../../tools", cwd="audio/sets")
    assert clone.read("audio/sets/raw/one/x.bin") == b"audio/sets/raw one"
    assert clone.read("tools/two/x.bin") == b"tools two"
    assert not (clone.root / "vision/data/one").exists()
    clone.dv("drop", ".", cwd="tools")
    assert not (clone.root / "tools/two").exists()
    assert (clone.root / "audio/sets/raw/one").exists()


def test_a_git_folder_elsewhere(pushed: Work, tmp_path: Path) -> None:
    pushed.git(
        "clone", "-q", "--separate-git-dir", str(tmp_path / "gitdir"), ".", str(tmp_path / "sep")
    )
    sep = Work(tmp_path / "sep")
    sep.dv("remote", "add", "origin", tmp_path / "remote")
    sep.dv("pull", cwd="data")
    assert sep.read("data/table.csv") == b"x,y\n1,2\n"
    assert _packs(tmp_path / "gitdir/dv")
    sep.write("data/table.csv", "changed")
    sep.dv("add", "data/table.csv")
    sep.commit()
    sep.dv("push")
    sep.dv("drop", "data")


def test_git_dir_in_the_environment(pushed: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(pushed.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(pushed.root))
    assert len(pushed.dv("ls", cwd="data").lines) == 4


@pytest.fixture
def parent(pushed: Work, tmp_path: Path) -> Work:
    """A repository with `pushed` as its submodule `sub`, and a target of its own."""
    parent = Work(tmp_path / "parent")
    parent.root.mkdir()
    parent.git("init", "-q")
    parent.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", "../work", "sub")
    parent.dv("init", "--remote", tmp_path / "parent-remote")
    parent.write("data/own.txt", "own")
    parent.dv("add", "data")
    parent.commit()
    return parent


def test_a_submodule_is_a_repository_of_its_own(parent: Work, tmp_path: Path) -> None:
    assert [one["target"] for one in parent.dv("status", "--json").json["targets"]] == ["data"]
    assert parent.dv("ls").lines == ["data/own.txt"]
    parent.dv("push")
    sub = Work(parent.root / "sub")
    sub.dv("remote", "add", "origin", tmp_path / "remote")
    sub.dv("pull")
    assert sub.read("data/table.csv") == b"x,y\n1,2\n"
    assert _packs(parent.root / ".git/modules/sub/dv")
    assert parent.dv("status", "--exit-code").out.startswith("Clean: 1 target")
    assert parent.dv("describe", "--json").json["data_dirty"] is False


@pytest.mark.parametrize("path", ["sub/data/table.csv", "sub/data", "sub"])
def test_the_superproject_adds_nothing_in_a_submodule(parent: Work, path: str) -> None:
    parent.write("sub/data/table.csv", "x")
    ran = parent.dv("add", path, code=2)
    assert "git repository of its own" in ran.err
    assert f"dv -C {'sub'} add" in ran.err
    assert Work(parent.root / "sub").git("status", "--porcelain") == ""
    assert os.listdir(parent.root / "data") == ["own.txt"]


def test_fsck_with_two_worktrees(pushed: Work, tree: Work) -> None:
    tree.dv("checkout")
    tree.write("data/images/side.txt", "only in the manifest of the side")
    tree.dv("add", "data/images")  # neither committed nor pushed
    (tree.root / "data/images/side.txt").unlink()
    for work in (pushed, tree):
        assert work.dv("fsck", "--workspace", "--remote").lines[-1] == "all of it is whole"
    found = pushed.dv("fsck", "--json").json
    assert found["store"]["contents"] == tree.dv("fsck", "--json").json["store"]["contents"] == 5
    for pack in _packs(pushed.root / ".git/dv"):
        pack.write_bytes(bytes(byte ^ 0x55 for byte in pack.read_bytes()))
    damage = pushed.dv("fsck", "--json", code=6).json["damage"]
    assert "data/images/side.txt" in {file["path"] for one in damage for file in one["files"]}
    tree.write("data/images/side.txt", "only in the manifest of the side")
    # What is lost here comes from the worktree at hand; the other's files are not looked at.
    tree.dv("fsck", "--repair")
    for work in (pushed, tree):
        assert work.dv("fsck", "--workspace").lines[-1] == "all of it is whole"
        assert work.dv("status", "--json").json
