"""Finding a repository, of any layout and in hooks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dvtool.errors import SetupError, UsageError
from dvtool.git import Git
from tests.unit.git.conftest import commit, run, write


def test_discover_from_a_subfolder(top: Path) -> None:
    write(top, "a/b/file")
    with Git.discover(str(top / "a" / "b")) as git:
        assert git.worktree == str(top)
        assert git.git_dir == git.common_dir == str(top / ".git")


def test_discover_outside_a_repository(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not inside a git repository") as caught:
        Git.discover(str(tmp_path))
    assert caught.value.hint == "run: git init"


def test_discover_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        Git.discover(str(tmp_path / "gone"))


def test_discover_a_worktree(top: Path, linked: Path) -> None:
    write(linked, "only-here.dv.json")
    with Git.discover(str(linked)) as git:
        assert git.worktree == str(linked)
        assert git.common_dir == str(top / ".git")
        assert git.git_dir == str(top / ".git" / "worktrees" / "linked")
        assert git.branch() == "linked"
        assert git.manifest_paths() == ["a.dv.json", "only-here.dv.json"]


def test_discover_a_bare_repository_and_its_worktree(top: Path, tmp_path: Path) -> None:
    first = commit(top, {"a.dv.json": "1"})
    run(tmp_path, "clone", "-q", "--bare", "repo", "bare.git")
    with Git.discover(str(tmp_path / "bare.git")) as git:
        assert git.worktree is None
        assert git.git_dir == git.common_dir == str(tmp_path / "bare.git")
        assert git.head() == first
        assert git.blob_at(first, "a.dv.json") == b"1"
        assert list(git.manifests_at(first)) == ["a.dv.json"]
        assert git.config.items(None) == [("core.filemode", "true")]
        for call in (git.manifest_paths, git.manifests_in_index, git.is_dirty):
            with pytest.raises(SetupError, match="no working tree"):
                call()
    run(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "linked"))
    with Git.discover(str(tmp_path / "linked")) as git:
        assert git.worktree == str(tmp_path / "linked")
        assert git.manifest_paths() == ["a.dv.json"]
        assert git.worktrees() == [str(tmp_path / "linked")]


def test_discover_inside_the_git_folder(top: Path) -> None:
    with Git.discover(str(top / ".git")) as git:
        assert git.worktree is None
        assert git.git_dir == str(top / ".git")


def test_discover_a_separate_git_folder(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "store"), "work")
    commit(tmp_path / "work", {"a.dv.json": "1"})
    with Git.discover(str(tmp_path / "work")) as git:
        assert git.worktree == str(tmp_path / "work")
        assert git.git_dir == git.common_dir == str(tmp_path / "store")
        assert git.manifest_paths() == ["a.dv.json"]


def test_discover_a_submodule(top: Path, tmp_path: Path) -> None:
    commit(top, {"a.dv.json": "1"})
    run(tmp_path, "init", "-q", "outer")
    run(tmp_path / "outer", "submodule", "--quiet", "add", str(top), "inner.dv.json")
    commit(tmp_path / "outer", {"b.dv.json": "2"})
    with Git.discover(str(tmp_path / "outer" / "inner.dv.json")) as git:
        assert git.worktree == str(tmp_path / "outer" / "inner.dv.json")
        assert git.git_dir == str(tmp_path / "outer" / ".git" / "modules" / "inner.dv.json")
        assert git.manifest_paths() == ["a.dv.json"]
    with Git.discover(str(tmp_path / "outer")) as git:
        head = git.resolve("HEAD")
        assert git.manifest_paths() == ["b.dv.json"]
        assert list(git.manifests_at(head)) == ["b.dv.json"]
        assert list(git.manifests_in_index()) == ["b.dv.json"]
        assert list(git.manifest_blobs_in([head])) == ["b.dv.json"]
        assert git.blob_at(head, "inner.dv.json") is None


def test_discover_under_a_folder_with_a_weird_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b'a\nb "\xe9\xff\n')
    folder.mkdir()
    run(folder, "init", "-q")
    commit(folder, {"a.dv.json": "1"})
    with Git.discover(str(folder)) as git:
        assert git.worktree == str(folder)
        assert git.manifest_paths() == ["a.dv.json"]
        assert git.worktrees() == [str(folder)]


def test_a_sha256_repository(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--object-format=sha256", "repo")
    top = tmp_path / "repo"
    first = commit(top, {"a.dv.json": "one"})
    second = commit(top, {"a.dv.json": "two"})
    with Git.discover(str(top)) as git:
        assert len(git.resolve("HEAD")) == 64
        blob = git.manifests_at(second)["a.dv.json"]
        assert git.read_blob(blob) == b"two"
        assert git.manifest_blobs_in([second], exclude=[first]) == {"a.dv.json": {blob}}
        assert [entry.id for entry in git.log("a.dv.json")] == [second, first]


def test_in_a_hook_with_relative_git_variables(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(top, {"a.dv.json": "1"})
    write(top, "b.dv.json", "2")
    monkeypatch.chdir(top)
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/other-index")
    with Git.discover(str(top)) as git:
        monkeypatch.chdir("/")
        git.stage(["b.dv.json"])
        assert list(git.manifests_in_index()) == ["b.dv.json"]
        assert git.head() is not None
    assert (top / ".git" / "other-index").is_file()
    monkeypatch.delenv("GIT_INDEX_FILE")
    monkeypatch.delenv("GIT_DIR")
    with Git.discover(str(top)) as git:
        assert list(git.manifests_in_index()) == ["a.dv.json"]


@pytest.mark.parametrize("args", [["-a"], ["--only", "a.dv.json"], []])
def test_in_a_real_pre_commit_hook_in_a_worktree(top: Path, linked: Path, args: list[str]) -> None:
    commit(linked, {"b.dv.json": "1"})
    code = (
        "from dvtool.git import Git\n"
        "with Git.discover('.') as git:\n"
        " assert sorted(git.manifests_in_index()) == ['a.dv.json', 'b.dv.json']\n"
        " blob = git.manifests_in_index()['a.dv.json']\n"
        " assert git.read_blob(blob) == b'2', git.read_blob(blob)\n"
        " git.stage(['by-hook.dv.json'])\n"
    )
    write(linked, "by-hook.dv.json")
    root = Path(__file__).parents[3]
    hook = top / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nPYTHONPATH='{root}' exec '{sys.executable}' -c \"{code}\"\n")
    hook.chmod(0o755)
    write(linked, "a.dv.json", "2")
    if not args:
        run(linked, "add", "a.dv.json")
    run(linked, "commit", "-q", "-m", "from a hook", *args)
    assert run(linked, "show", "HEAD:by-hook.dv.json") == "{}"
    assert run(linked, "show", "HEAD:a.dv.json") == "2"


def test_hooks_folder(git: Git, top: Path, linked: Path) -> None:
    for folder in (top, linked):
        with Git.discover(str(folder)) as seen:
            assert seen.hooks_folder() == str(top / ".git" / "hooks")
    run(top, "config", "core.hooksPath", "my-hooks")
    assert git.hooks_folder() == str(top / "my-hooks")
