"""The index and the working tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.errors import BusyError, DvError, SetupError, UnsavedError, UsageError
from dvtool.git import Git
from tests.unit.git.conftest import commit, run, write


def test_stage_deletions_and_ignored_files(git: Git, top: Path) -> None:
    commit(top, {"a": "1", "b/c": "1", ".gitignore": "data\n"})
    (top / "a").unlink()
    git.stage(["a"])
    assert git.tracked_under("") == [".gitignore", "b/c"]
    write(top, "data")
    with pytest.raises(SetupError, match="data") as caught:
        git.stage(["data"])
    assert "check-ignore" in (caught.value.hint or "")
    git.stage(["data"], force=True)
    assert git.tracked_under("data") == ["data"]
    git.stage([])
    with pytest.raises(DvError, match="not-there"):
        git.stage(["not-there"])
    for bad in ("", "a\0b"):
        with pytest.raises(UsageError, match="not a path"):
            git.stage([bad])
    with pytest.raises(DvError, match="outside"):
        git.stage(["../outside"])


def test_stage_many(git: Git, top: Path) -> None:
    names = [f"{'n' * 200}/{'x' * 100}-{n}" for n in range(3000)]
    (top / ("n" * 200)).mkdir()
    for name in names:
        (top / name).write_bytes(b"")
    git.stage(names)
    assert git.tracked_under("n" * 200) == sorted(names)
    git.untrack(names)
    assert git.tracked_under("") == []


def test_patterns_in_names_are_taken_literally(git: Git, top: Path) -> None:
    write(top, "*", "star")
    write(top, "other")
    git.stage(["*"])
    assert git.tracked_under("") == ["*"]
    git.stage(["other"])
    assert git.tracked_under("*") == ["*"]
    git.untrack(["*"])
    assert git.tracked_under("") == ["other"]


def test_untrack_keeps_files_and_staged_content(git: Git, top: Path) -> None:
    commit(top, {"data/a": "1", "data/b": "1", "database": "1"})
    git.untrack(["data"])
    assert git.tracked_under("") == ["database"]
    assert (top / "data" / "a").is_file()
    git.untrack(["data", "never-tracked"])
    write(top, "database", "staged")
    git.stage(["database"])
    write(top, "database", "edited again")
    with pytest.raises(UnsavedError):
        git.untrack(["database"])
    git.remove_staged(["database"])
    assert git.tracked_under("") == []
    assert (top / "database").read_text() == "edited again"


def test_restore(git: Git, top: Path) -> None:
    first = commit(top, {"d/a.dv.json": "1", "b": "1"})
    commit(top, {"d/a.dv.json": "2", "b": "2"})
    hook = top / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    git.restore(first, ["d/a.dv.json"])
    assert (top / "d" / "a.dv.json").read_text() == "1"
    assert (top / "b").read_text() == "2"
    assert git.read_blob(git.manifests_in_index()["d/a.dv.json"]) == b"1"
    assert git.branch() == "main"
    assert not (top / "hook-ran").exists()
    git.restore("main", ["d/a.dv.json"])
    assert (top / "d" / "a.dv.json").read_text() == "2"
    with pytest.raises(UsageError, match="nope"):
        git.restore(first, ["nope"])


def test_is_dirty(git: Git, top: Path) -> None:
    commit(top, {"a": "1"})
    assert not git.is_dirty()
    write(top, "untracked")
    assert not git.is_dirty()
    assert git.is_dirty(exclude_untracked=False)
    write(top, "a", "22")
    assert git.is_dirty()
    git.stage(["a"])
    assert git.is_dirty()
    run(top, "config", "status.showStash", "true")
    run(top, "stash", "-q")
    assert not git.is_dirty()


def test_another_git_holds_the_lock(git: Git, top: Path) -> None:
    write(top, "a")
    (top / ".git" / "index.lock").touch()
    with pytest.raises(BusyError) as caught:
        git.stage(["a"])
    assert caught.value.exit_code == 9
    (top / ".git" / "config.lock").touch()
    with pytest.raises(BusyError):
        git.config.set(None, "dv.core.remote", "origin")


def test_staged(git: Git, top: Path) -> None:
    commit(top, {"a": "1", "b": "1", "c": "1"})
    write(top, "a", "2")
    write(top, "c", "not staged")
    write(top, "new", "n")
    (top / "link").symlink_to("a")
    run(top, "rm", "-q", "b")
    run(top, "add", "a", "new", "link")
    assert {each.path: git.read_blob(each.blob) for each in git.staged()} == {
        "a": b"2",
        "new": b"n",
    }


def test_untracked(git: Git, top: Path) -> None:
    commit(top, {"sub/x.tmp": "1"})
    commit(top, {".gitignore": "*.tmp\n"})
    for path in ("y.tmp", "sub/z.tmp", "plain", "nested/w.tmp"):
        write(top, path)
    run(top, "init", "-q", "nested")
    assert git.untracked("*.tmp") == ["sub/z.tmp", "y.tmp"]


def test_refuse_if_index_is_locked(top: Path, linked: Path) -> None:
    (top / ".git" / "worktrees" / "linked" / "index.lock").touch()
    with Git.discover(str(top)) as git:
        git.refuse_if_index_is_locked()
    with (
        Git.discover(str(linked)) as second,
        pytest.raises(BusyError, match=r"worktrees/linked/index\.lock"),
    ):
        second.refuse_if_index_is_locked()
