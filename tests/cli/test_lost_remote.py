"""A remote that is not what it was: rolled back, short of objects, or not there at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Work
from tests.scenario import noise

VERSIONS = 3


@pytest.fixture
def versions(work: Work) -> Work:
    """Three versions of one file, each pushed; `backup` is the remote as of the first."""
    for number in range(VERSIONS):
        work.write("data/f", noise(100_000, number))
        work.dv("add", "data")
        work.commit(f"version {number}")
        work.dv("push")
        if number == 0:
            shutil.copytree(_remote(work), work.root.parent / "backup")
    return work


def _remote(work: Work) -> Path:
    return work.root.parent / "remote"


def _roll_back(work: Work) -> None:
    shutil.rmtree(_remote(work))
    shutil.copytree(work.root.parent / "backup", _remote(work))


def _pulled(work: Work) -> list[int]:
    """Return which of the versions a new clone gets."""
    clone = work.clone("colleague")
    found = []
    for number in range(VERSIONS):
        rev = f"HEAD~{VERSIONS - 1 - number}"
        ran = clone.dv("pull", "-q", rev, code=None)
        if ran.code == 0 and clone.read("data/f") == noise(100_000, number):
            found.append(number)
    return found


def test_a_remote_that_was_rolled_back_gets_every_version_again(versions: Work) -> None:
    _roll_back(versions)
    ran = versions.dv("push")
    assert "any more that were proven to be there" in ran.err
    assert _pulled(versions) == [0, 1, 2]
    again = versions.dv("push")
    assert (again.err, again.out.startswith("everything is on ")) == ("", True)


def test_a_lost_pack_of_an_old_version_is_sent_again(versions: Work) -> None:
    before = {path for path in (_remote(versions) / "packs").rglob("*") if path.is_file()}
    backup = versions.root.parent / "backup"
    first = {path for path in (backup / "packs").rglob("*") if path.is_file()}
    kept = {path.name for path in first}
    lost = sorted(path for path in before if path.name not in kept)[0]
    lost.unlink()
    ran = versions.dv("push")
    assert f"packs/{lost.parent.name}/{lost.name}" in ran.err
    assert lost.is_file()
    assert versions.dv("push").err == ""


def test_git_push_says_that_the_remote_was_rolled_back(versions: Work) -> None:
    hub = versions.root.parent / "hub.git"
    versions.git("init", "-q", "--bare", str(hub))
    _roll_back(versions)
    head = versions.git("rev-parse", "HEAD")
    ran = versions.process(
        "hooks", "run", "pre-push", input=f"refs/heads/x {head} refs/heads/x {'0' * 40}\n".encode()
    )
    assert "any more that were proven to be there" in ran.err
    assert _pulled(versions) == [0, 1, 2]


def test_other_branches_are_made_good_again(versions: Work) -> None:
    versions.git("checkout", "-q", "-b", "other")
    versions.write("data/f", noise(100_000, 99))
    versions.dv("add", "data")
    versions.commit("on the branch")
    versions.dv("push")
    versions.git("checkout", "-q", "-")
    _roll_back(versions)
    versions.dv("push")
    clone = versions.clone("colleague")
    clone.dv("pull", "-q", "origin/other")
    assert clone.read("data/f") == noise(100_000, 99)


def test_what_is_here_no_more_is_named_and_the_rest_made_good(versions: Work) -> None:
    fresh = versions.clone("fresh")
    fresh.dv("pull", "-q", "HEAD~2")
    fresh.dv("pull", "-q", "HEAD")
    fresh.dv("push")
    _roll_back(versions)
    ran = fresh.dv("push")
    assert "a version of data" in ran.err
    assert "neither here nor on" in ran.err
    assert _pulled(versions) == [0, 2]
    assert "a version of data" in fresh.dv("push").err  # until it is there again
    versions.dv("push", "--all")
    assert fresh.dv("push").err == ""


def test_a_plan_says_what_is_lost(versions: Work) -> None:
    _roll_back(versions)
    ran = versions.dv("push", "--plan")
    assert "any more that were proven to be there" in ran.err


def test_a_gc_of_the_remote_is_no_loss(versions: Work) -> None:
    versions.git("checkout", "-q", "--orphan", "anew")
    versions.commit("only the last version")
    for branch in versions.git("branch", "--format=%(refname:short)").split():
        if branch != "anew":
            versions.git("branch", "-q", "-D", branch)
    versions.git("reflog", "expire", "--expire=now", "--all")
    versions.git("gc", "-q", "--prune=now")
    versions.dv("push")
    objects = sum(path.is_file() for path in _remote(versions).rglob("*"))
    for _ in range(2):  # the first buries, the second sweeps
        versions.dv("gc", "--remote", "--expire", "--grace", "0s")
    assert sum(path.is_file() for path in _remote(versions).rglob("*")) < objects
    ran = versions.dv("push")
    assert (ran.err, ran.out.startswith("everything is on ")) == ("", True)


def test_an_empty_folder_in_the_remotes_place_is_refused(pushed: Work) -> None:
    remote = _remote(pushed)
    remote.rename(remote.parent / "disk")
    remote.mkdir()
    for command in ("push", "pull"):
        if command == "pull":
            shutil.rmtree(pushed.root / ".git" / "dv" / "packs")
            shutil.rmtree(pushed.root / "data" / "images")
            pushed.dv("fsck", "--rebuild", code=None)
        ran = pushed.dv(command, code=3)
        assert "was a remote with the id" in ran.err
        assert "mount" in ran.err
        assert "--new-remote" in ran.err
    assert list(remote.iterdir()) == []


def test_git_push_to_an_empty_folder_in_the_remotes_place_is_stopped(pushed: Work) -> None:
    remote = _remote(pushed)
    remote.rename(remote.parent / "disk")
    remote.mkdir()
    head = pushed.git("rev-parse", "HEAD")
    line = f"refs/heads/x {head} refs/heads/x {'0' * 40}\n"
    ran = pushed.process("hooks", "run", "pre-push", code=3, input=line.encode())
    assert "was a remote with the id" in ran.err
    assert list(remote.iterdir()) == []


def test_another_remote_in_the_remotes_place_is_refused(pushed: Work) -> None:
    remote = _remote(pushed)
    shutil.rmtree(remote)
    other = pushed.clone("elsewhere", remote=False)
    other.dv("remote", "add", "origin", remote)
    other.write("data/new", "new")
    other.dv("add", "data/new")
    other.commit()
    other.dv("push", "-q", "--", "data/new")
    assert "now there is another remote" in pushed.dv("push", code=3).err


def test_a_new_remote_is_begun_when_told(pushed: Work) -> None:
    remote = _remote(pushed)
    shutil.rmtree(remote)
    remote.mkdir()
    assert "4 files proven there" in pushed.dv("push", "--new-remote").out
    assert "proven: 4 files" in pushed.dv("push").out


def test_setting_the_remote_takes_it_as_it_is(pushed: Work) -> None:
    remote = _remote(pushed)
    shutil.rmtree(remote)
    remote.mkdir()
    pushed.dv("remote", "set", "origin", remote)
    assert "4 files proven there" in pushed.dv("push").out


@pytest.mark.parametrize("command", ["push", "pull", "fetch"])
def test_a_lost_mark_is_said(pushed: Work, command: str) -> None:
    os.unlink(_remote(pushed) / "dv.json")
    if command != "push":
        clone = pushed.clone()
        ran = clone.dv(command, code=3)
    else:
        ran = pushed.dv(command, code=3)
    assert "has lost its dv.json" in ran.err
    assert "dv fsck --remote --repair" in ran.err
    pushed.dv("fsck", "--remote", "--repair")
    pushed.dv("push")


def test_fsck_and_copy_say_that_a_remote_was_rolled_back(versions: Work) -> None:
    assert versions.dv("fsck", "--remote").lines[-1] == "all of it is whole"
    _roll_back(versions)
    ran = versions.dv("fsck", "--remote", code=4)
    assert "named 2 manifests more, as a push proved" in ran.out
    assert "targets: data" in ran.out
    (versions.root.parent / "elsewhere").mkdir()
    ran = versions.dv("remote", "copy", "origin", "../elsewhere")
    assert "fewer versions than were pushed there" in ran.err
    versions.dv("push")
    assert versions.dv("fsck", "--remote").lines[-1] == "all of it is whole"
    assert versions.dv("remote", "copy", "origin", "../elsewhere").err == ""
