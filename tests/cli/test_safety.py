"""What must not happen to a user's bytes, each as it once could."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from dvtool.errors import BusyError, InputError, UnsavedError, UsageError
from dvtool.repo import Repo
from dvtool.verbs.checkout import write
from dvtool.verbs.edit import move as edit_move
from tests.scenario import Clone, Remote, noise


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(str(tmp_path / "remote"))


@pytest.fixture
def mine(tmp_path: Path, remote: Remote) -> Clone:
    return Clone.new(tmp_path / "mine", remote)


def changed(repo: Repo) -> bool:
    return any(one.changed for one in repo.status())


def test_an_edit_during_a_checkout_is_not_taken_for_clean(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write("data/x", b"aaaa\n")
    mine.write("data/y", noise(1000))
    mine.add("data")
    first = mine.commit("one")
    (mine.path / "data/x").chmod(0o755)
    mine.write("data/y", noise(1000, 1))
    mine.add("data")
    mine.commit("two")
    write_files = write._write_files

    def edited_meanwhile(*args: object) -> None:
        write_files(*args)  # type: ignore[arg-type]
        (mine.path / "data/x").write_bytes(b"USER\n")

    monkeypatch.setattr(write, "_write_files", edited_meanwhile)
    with mine.repo() as repo, pytest.raises(UnsavedError, match="data/x changed"):
        repo.checkout(first)
    monkeypatch.undo()
    with mine.repo() as repo:
        assert changed(repo)
        with pytest.raises(UnsavedError, match="data/x"):
            repo.rm(["data"], data=True)
    assert (mine.path / "data/x").read_bytes() == b"USER\n"


@pytest.mark.parametrize("name", ["data/there", "data/new"])
def test_an_edit_during_a_checkout_is_not_replaced(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The edit, of a file or a new one, comes after the plan, just before the file is written."""
    mine.write("data/there", b"one\n")
    mine.write("data/new", b"one\n")
    mine.add("data")
    first = mine.commit("one")
    mine.write("data/there", b"two\n")
    mine.remove("data/new")
    mine.add("data")
    mine.commit("two")
    write_files = write._write_files

    def edited_before(*args: object) -> None:
        mine.write(name, b"USER\n")
        write_files(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "_write_files", edited_before)
    with mine.repo() as repo, pytest.raises(UnsavedError, match=f"{name} changed"):
        repo.checkout(first)
    assert (mine.path / name).read_bytes() == b"USER\n"


def test_content_of_a_lost_pack_counts_as_missing(mine: Clone, remote: Remote) -> None:
    mine.write("data/f", b"precious")
    mine.add("data")
    first = mine.commit("one")
    with mine.repo() as repo:
        repo.push()
    shutil.rmtree(mine.path / ".git/dv/packs")
    mine.write("data/f", b"second")
    mine.add("data")
    mine.commit("two")
    mine.write("data/f", b"precious")
    mine.add("data")
    mine.remove("data/f")
    with mine.repo() as repo:
        repo.checkout()
        assert (mine.path / "data/f").read_bytes() == b"precious"
    shutil.rmtree(mine.path / ".git/dv/packs")
    mine.remove("data/f")
    with mine.repo() as repo:
        repo.checkout(first)  # from the remote
    assert (mine.path / "data/f").read_bytes() == b"precious"


def test_a_tracked_file_that_an_ignore_rule_now_matches_stays_tracked(mine: Clone) -> None:
    mine.write("data/cache/x", b"one")
    mine.write("data/y", b"y")
    mine.add("data")
    first = mine.commit("one")
    mine.write(".dvignore", b"cache/\n")
    mine.write("data/cache/x", b"two")
    with mine.repo() as repo:
        (status,) = repo.status()
        assert (status.modified, status.deleted) == (["cache/x"], [])
        (added,) = repo.add(["data"])
        assert (added.modified, added.removed) == (1, 0)
        mine.git("add", ".dvignore")
        mine.commit("two")
        repo.checkout(first)
    assert (mine.path / "data/cache/x").read_bytes() == b"one"


def test_a_file_never_replaces_a_folder_with_something_untracked_in_it(mine: Clone) -> None:
    mine.write("x", b"file")
    mine.add("x")
    first = mine.commit("one")
    with mine.repo() as repo:
        repo.rm(["x"], data=True)
    mine.write("x/a", b"a")
    mine.add("x")
    mine.commit("two")
    mine.write("x/untracked", b"mine")
    with mine.repo() as repo, pytest.raises(UnsavedError, match="nothing was changed"):
        repo.checkout(first)
    assert mine.tree("x").keys() == {"a", "untracked"}


def test_targets_that_would_overlap_are_refused(mine: Clone) -> None:
    mine.write("data/s/a", b"a")
    mine.add("data/s")
    first = mine.commit("one")
    with mine.repo() as repo:
        repo.rm(["data/s"])
    mine.commit("two")
    (mine.path / "data/.gitignore").unlink(missing_ok=True)
    mine.add("data")
    mine.commit("three")
    with mine.repo() as repo, pytest.raises(UsageError, match="is inside the target"):
        repo.checkout(first)
    assert not (mine.path / "data/s.dv.json").exists()


def test_pushed_history_is_there_although_git_pushed_first(
    mine: Clone, remote: Remote, tmp_path: Path
) -> None:
    mine.git("init", "--quiet", "--bare", str(tmp_path / "hub.git"))
    mine.git("remote", "add", "origin", str(tmp_path / "hub.git"))
    for version in (b"one", b"two"):
        mine.write("data/f", version)
        mine.add("data")
        mine.commit(version.decode())
    mine.git("push", "--quiet", "--set-upstream", "origin", "HEAD")
    with mine.repo() as repo:
        repo.push()
    theirs = mine.clone(tmp_path / "theirs", remote)
    with theirs.repo() as repo:
        repo.checkout("HEAD~1")
    assert (theirs.path / "data/f").read_bytes() == b"one"


def test_a_gap_in_history_is_told_and_looked_at_again(
    mine: Clone, remote: Remote, tmp_path: Path
) -> None:
    mine.write("data/f", noise(100_000))
    mine.add("data")
    mine.commit("one")
    shutil.rmtree(mine.path / ".git/dv")
    mine.write("data/f", b"two")
    mine.add("data")
    mine.commit("two")
    for _ in range(2):
        with mine.repo() as repo:
            (warning,) = repo.push().warnings
            assert "earlier commits" in warning
            assert "data/f" in warning
    clone = mine.clone(tmp_path / "clone", remote)
    with clone.repo() as repo:
        repo.pull()
    assert (clone.path / "data/f").read_bytes() == b"two"


def test_the_list_of_a_target_that_was_never_committed_is_kept(mine: Clone) -> None:
    mine.write("data/f", b"x")
    mine.add("data")
    text = (mine.path / "data.dv.json").read_bytes()
    with mine.repo() as repo:
        repo.rm(["data"], data=True)
    (kept,) = (mine.path / ".git/dv/saved").iterdir()
    assert kept.read_bytes() == text


def test_forced_removal_saves_what_was_changed(mine: Clone) -> None:
    mine.write("data/f", b"x")
    mine.add("data")
    mine.commit("one")
    mine.write("data/f", b"unsaved work")
    with mine.repo() as repo:
        repo.rm(["data"], data=True, force=True)
        kept = (mine.path / ".git/dv/saved").iterdir()
        hashes = [
            line.split('"')[5]
            for path in kept
            for line in path.read_text().splitlines()
            if "blake3" in line
        ]
        contents = [b"".join(repo.cat_content(one)) for one in hashes]
    assert b"unsaved work" in contents


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_nothing_is_removed_below_a_folder_that_cannot_be_read(mine: Clone) -> None:
    mine.write("data/s/a", b"a")
    mine.write("data/b", b"b")
    mine.add("data")
    mine.commit("one")
    (mine.path / "data/s").chmod(0)
    try:
        with mine.repo() as repo, pytest.raises(InputError, match="data/s/a"):
            repo.rm(["data"], data=True)
    finally:
        (mine.path / "data/s").chmod(0o755)
    assert mine.tree("data").keys() == {"s/a", "b"}


def test_a_link_that_a_user_put_over_a_file_stands_in_the_way(mine: Clone) -> None:
    mine.write("data/a", b"a")
    mine.write("data/b", b"b")
    mine.link("data/kept", "b")
    mine.add("data")
    first = mine.commit("one")
    mine.remove("data/a")
    mine.link("data/a", "b")
    with mine.repo() as repo:
        with pytest.raises(UnsavedError, match="data/a"):
            repo.checkout()
        with pytest.raises(UnsavedError, match="data/a"):
            repo.rm(["data"], data=True)
    assert os.readlink(mine.path / "data/a") == "b"
    mine.remove("data/a")
    mine.remove("data/kept")
    mine.link("data/kept", "a")
    mine.add("data/kept")
    mine.commit("two")
    with mine.repo() as repo:
        repo.checkout(first)  # a link that dvtool knows gives way
    assert os.readlink(mine.path / "data/kept") == "b"


def test_what_a_dereferenced_link_leads_to_is_never_touched(mine: Clone, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"shared")
    mine.link("data/a", str(outside))
    with mine.repo() as repo:
        repo.add(["data"], dereference=True)
        assert not changed(repo)
    mine.commit("one")
    outside.chmod(0o755)
    with mine.repo() as repo:
        repo.checkout()
    assert os.readlink(mine.path / "data/a") == str(outside)
    clone = mine.clone(tmp_path / "clone", Remote(str(tmp_path / "remote")))
    with mine.repo() as repo:
        repo.push()
    with clone.repo() as repo:
        repo.pull()
    assert not (clone.path / "data/a").is_symlink()
    assert (clone.path / "data/a").read_bytes() == b"shared"


@pytest.mark.parametrize("step", ["_rename", "_move_seen", "unignore_target"])
def test_a_move_that_was_cut_off_is_finished_by_repeating_it(
    mine: Clone, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    mine.write("data/a", b"a")
    mine.add("data")
    mine.commit("one")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, mine.repo() as repo:
        patch.setattr(edit_move, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            repo.mv("data", "moved")
    with mine.repo() as repo:
        repo.mv("data", "moved")
        assert not changed(repo)
        assert repo._project.targets() == ["moved"]
    assert mine.tree("moved").keys() == {"a"}
    assert sorted(mine.git("diff", "--cached", "--name-only", "--no-renames").split()) == [
        ".gitignore",
        "data.dv.json",
        "moved.dv.json",
    ]


def test_nothing_is_changed_while_another_git_holds_the_index(mine: Clone) -> None:
    mine.write("data/a", b"one")
    mine.add("data")
    first = mine.commit("one")
    mine.write("data/a", b"two")
    mine.add("data")
    mine.commit("two")
    text = (mine.path / "data.dv.json").read_bytes()
    lock = mine.path / ".git/index.lock"
    lock.touch()
    with mine.repo() as repo:
        with pytest.raises(BusyError, match="another git process"):
            repo.checkout(first)
        assert (mine.path / "data/a").read_bytes() == b"two"
        mine.write("data/a", b"three")
        with pytest.raises(BusyError, match="another git process"):
            repo.add(["data"])
    assert (mine.path / "data.dv.json").read_bytes() == text
    lock.unlink()
    mine.add("data")
    assert (mine.path / "data.dv.json").read_bytes() != text


def test_a_hook_of_the_users_may_add_during_commit_all(mine: Clone) -> None:
    mine.write("data/a", b"one")
    mine.write("code.py", b"1")
    mine.add("data")
    mine.git("add", "code.py")
    mine.commit("one")
    hook = mine.path / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec '{sys.executable}' -P -m dvtool add data\n")
    hook.chmod(0o755)
    mine.write("data/a", b"two")
    mine.write("code.py", b"2")
    mine.git("commit", "--quiet", "--all", "--message", "two")
    assert mine.git("show", "--format=", "--name-only").split() == ["code.py", "data.dv.json"]
