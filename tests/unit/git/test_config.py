"""Configuration, and other files of its syntax."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvtool.errors import DvError, SetupError
from dvtool.git import Git
from tests.unit.git.conftest import commit, run, write


def test_config_file(git: Git, top: Path) -> None:
    assert git.config.items(".dvconfig") == []
    git.config.set(".dvconfig", "remote.My-Remote.url", "s3://bucket/a b")
    git.config.set(".dvconfig", "remote.My-Remote.URL", 's3://"quoted"\\ #x;y')
    git.config.set(".dvconfig", "core.remote", "-minus")
    assert git.config.items(".dvconfig") == [
        ("remote.My-Remote.url", 's3://"quoted"\\ #x;y'),
        ("core.remote", "-minus"),
    ]
    assert git.config.unset(".dvconfig", "core.remote")
    assert not git.config.unset(".dvconfig", "core.remote")
    assert git.config.remove_section(".dvconfig", "remote.My-Remote")
    assert not git.config.remove_section(".dvconfig", "remote.My-Remote")
    assert git.config.items(".dvconfig") == []
    assert not git.config.unset("other", "core.remote")
    assert not git.config.remove_section("other", "core")
    with pytest.raises(DvError, match="not contain a section"):
        git.config.set(".dvconfig", "--list", "x")


def test_config_file_that_is_hostile(git: Git, top: Path, tmp_path: Path) -> None:
    write(tmp_path, "outside", "[core]\n remote = stolen\n")
    write(top, ".dvconfig", f"[include]\n path = {tmp_path}/outside\n[a]\n flag\n b = 1\n b = 2\n")
    assert git.config.items(".dvconfig")[1:] == [("a.flag", "true"), ("a.b", "1"), ("a.b", "2")]
    write(top, ".dvconfig", "[a]\n x = 1\n[broken\n\x1b[31m")
    with pytest.raises(SetupError, match=r"\.dvconfig cannot be read: bad config line 3") as caught:
        git.config.items(".dvconfig")
    assert "\x1b" not in str(caught.value)
    (top / ".dvconfig").unlink()
    (top / ".dvconfig").symlink_to(tmp_path / "outside")
    for call in (
        lambda: git.config.items(".dvconfig"),
        lambda: git.config.set(".dvconfig", "a.b", "c"),
        lambda: git.config.unset(".dvconfig", "core.remote"),
    ):
        with pytest.raises(SetupError, match="not an ordinary file"):
            call()
    (top / ".dvconfig").unlink()
    os.mkfifo(top / ".dvconfig")
    with pytest.raises(SetupError, match="not an ordinary file"):
        git.config.items(".dvconfig")


def test_both_are_read_as_each_is(git: Git, top: Path) -> None:
    assert git.config.items_of_both(".dvconfig") == ([], git.config.items(None))
    git.config.set(".dvconfig", "core.remote", "shared")
    git.config.set(None, "dv.core.remote", "own")
    both = git.config.items_of_both(".dvconfig")
    assert both == (git.config.items(".dvconfig"), git.config.items(None))
    assert both[0] == [("core.remote", "shared")]
    assert ("dv.core.remote", "own") in both[1]
    write(top, ".dvconfig", "[broken\n")
    with pytest.raises(SetupError, match=r"\.dvconfig cannot be read: bad config line 1"):
        git.config.items_of_both(".dvconfig")
    (top / ".dvconfig").unlink()
    (top / ".dvconfig").symlink_to(top / ".git" / "config")
    with pytest.raises(SetupError, match="not an ordinary file"):
        git.config.items_of_both(".dvconfig")


def test_own_config(git: Git, top: Path) -> None:
    run(top, "config", "--global", "dv.core.remote", "from-home")
    run(top, "config", "--global", "core.hooksPath", "/hooks")
    run(top, "config", "--global", "dvx.core.remote", "x")
    git.config.set(None, "dv.core.remote", "origin")
    git.config.set(None, "dv.remote.My.url", "/data\nx")
    with (top / ".git" / "config").open("a") as config:
        config.write('[dv "hooks"]\n autofetch\n')
    items = git.config.items(None)
    assert ("core.hookspath", "/hooks") in items
    assert [item for item in items if item[0].startswith("dv")] == [
        ("dv.core.remote", "origin"),
        ("dv.remote.My.url", "/data\nx"),
        ("dv.hooks.autofetch", "true"),
    ]
    assert git.config.unset(None, "dv.core.remote")
    assert git.config.remove_section(None, "dv.remote.My")
    assert not git.config.remove_section(None, "dv.remote.My")


def test_own_config_of_a_worktree(git: Git, top: Path, linked: Path) -> None:
    git.config.set(None, "dv.store.keep", "all")
    run(top, "config", "extensions.worktreeConfig", "true")
    run(linked, "config", "--worktree", "dv.store.keep", "unpushed")
    with Git.discover(str(linked)) as second:
        assert [item for item in second.config.items(None) if item[0].startswith("dv.")] == [
            ("dv.store.keep", "all"),
            ("dv.store.keep", "unpushed"),
        ]


def test_settings_of_a_commit(git: Git, top: Path) -> None:
    assert git.config_items_at("HEAD", ".dvconfig") == []
    first = commit(top, {".dvconfig": "[core]\n remote = origin\n[a]\n flag\n"})
    run(top, "rm", "-q", ".dvconfig")
    commit(top, {"broken": "[core\n"})
    expected = [("core.remote", "origin"), ("a.flag", "true")]
    assert git.config_items_at(first, ".dvconfig") == expected
    assert git.config_items_at("HEAD", ".dvconfig") == []
    with pytest.raises(SetupError, match="broken cannot be read"):
        git.config_items_at("HEAD", "broken")
