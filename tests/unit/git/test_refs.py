"""Revisions, refs and the history behind them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dvtool.errors import DvError, SetupError, UsageError
from dvtool.git import Git
from tests.unit.git.conftest import commit, run, write


def test_before_the_first_commit(git: Git, top: Path) -> None:
    assert git.head() is None
    assert git.branch() == "main"
    assert git.all_refs() == {}
    assert git.manifests_in_index() == {}
    assert git.manifest_paths() == []
    assert git.tracked_under("") == []
    assert git.manifest_blobs_everywhere() == {}
    assert not git.is_dirty()
    for rev in ("HEAD", "HEAD~1", "@"):
        with pytest.raises(SetupError, match="no commit yet"):
            git.resolve(rev)
    with pytest.raises(SetupError, match="no commit yet"):
        git.log("a.dv.json")
    write(top, "a.dv.json")
    git.stage(["a.dv.json"])
    assert list(git.manifests_in_index()) == ["a.dv.json"]
    assert git.is_dirty()
    git.untrack(["a.dv.json"])
    assert git.manifests_in_index() == {}


def test_resolve(git: Git, top: Path) -> None:
    first = commit(top, {"a": "1"})
    second = commit(top, {"a": "2"})
    run(top, "tag", "-a", "v1", "-m", "tag", first)
    for rev, expected in [
        ("HEAD", second),
        ("main", second),
        ("HEAD~", first),
        ("v1", first),
        (first[:8], first),
        (first, first),
        (":/change", second),
    ]:
        assert git.resolve(rev) == expected


@pytest.mark.parametrize(
    "rev",
    ["nope", "", "-h", "--all", "--git-dir", "^HEAD", "HEAD..HEAD", "HEAD:a", "a\0b", "a\nHEAD"],
)
def test_resolve_refuses(git: Git, top: Path, rev: str) -> None:
    commit(top, {"a": "1"})
    with pytest.raises(UsageError, match="unknown revision"):
        git.resolve(rev)


def test_branch_and_head_when_detached(git: Git, top: Path) -> None:
    first = commit(top, {"a": "1"})
    assert git.branch() == "main"
    run(top, "checkout", "-q", "--detach")
    assert git.branch() is None
    assert git.head() == first


def test_all_refs_peels_tags(git: Git, top: Path) -> None:
    first = commit(top, {"a": "1"})
    run(top, "tag", "-a", "v1", "-m", "one")
    run(top, "tag", "-a", "v1-again", "-m", "a tag of a tag", "v1")
    run(top, "tag", "tree", "HEAD^{tree}")
    run(top, "tag", "-a", "tagged-tree", "-m", "t", "HEAD^{tree}")
    run(top, "update-ref", "refs/remotes/origin/main", first)
    assert git.all_refs() == {
        "refs/heads/main": first,
        "refs/remotes/origin/main": first,
        "refs/tags/v1": first,
        "refs/tags/v1-again": first,
    }


def test_log(git: Git, top: Path) -> None:
    one = commit(top, {"d/a.dv.json": "1"}, "first: add")
    commit(top, {"other": "x"})
    two = commit(top, {"d/a.dv.json": "2"}, "second\n\nwith a body")
    run(top, "rm", "-q", "d/a.dv.json")
    run(top, "commit", "-q", "-m", ":100644 like raw output")
    three = run(top, "rev-parse", "HEAD")
    log = list(git.log("d/a.dv.json"))
    assert [entry.id for entry in log] == [three, two, one]
    assert [entry.subject for entry in log] == [":100644 like raw output", "second", "first: add"]
    assert log[0].blob is None
    assert [git.read_blob(entry.blob or "") for entry in log[1:]] == [b"2", b"1"]
    assert log[0].author == "Test"
    assert log[0].date_iso.startswith("2")
    assert three.startswith(log[0].short)
    assert [entry.id for entry in git.log("d/a.dv.json", limit=1)] == [three]
    assert [entry.id for entry in git.log("d/a.dv.json", rev="HEAD~2")] == [one]
    assert list(git.log("nothing.dv.json")) == []
    assert [entry.blob for entry in git.log("d")] == [None, None, None]
    with pytest.raises(UsageError):
        git.log("d/a.dv.json", rev="--output=x")


def test_log_with_merges_and_hostile_settings(git: Git, top: Path) -> None:
    for key, value in [
        ("log.showSignature", "true"),
        ("log.follow", "true"),
        ("log.showRoot", "false"),
        ("log.decorate", "full"),
        ("log.date", "relative"),
        ("color.ui", "always"),
        ("format.pretty", "oneline"),
        ("diff.renames", "copies"),
        ("i18n.logOutputEncoding", "latin1"),
        ("core.quotePath", "true"),
    ]:
        run(top, "config", key, value)
    one = commit(top, {"a.dv.json": "1"}, "größe")
    run(top, "checkout", "-q", "-b", "side")
    side = commit(top, {"a.dv.json": "side"}, "side")
    run(top, "checkout", "-q", "main")
    main = commit(top, {"a.dv.json": "main"}, "main")
    run(top, "merge", "-q", "-s", "ours", "--no-commit", "side")
    merge = commit(top, {"a.dv.json": "merged"}, "merge")
    entries = {entry.id: entry for entry in git.log("a.dv.json")}
    assert set(entries) == {one, side, main, merge}
    assert git.read_blob(entries[merge].blob or "") == b"merged"
    assert entries[one].subject == "größe"
    assert git.read_blob(entries[one].blob or "") == b"1"
    (values,) = git.manifest_blobs_in(["HEAD"]).values()
    assert sorted(map(git.read_blob, values)) == [b"1", b"main", b"merged", b"side"]


def test_commits_beside_refs(git: Git, top: Path, tmp_path: Path) -> None:
    assert git.commits_beside_refs() == []
    commit(top, {"a.dv.json": "1"})
    dropped = commit(top, {"a.dv.json": "2"})
    run(top, "reset", "-q", "--hard", "HEAD~")
    assert git.commits_beside_refs() == [], "the reflog has it"
    run(top, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), dropped)
    run(top, "reflog", "expire", "--expire=now", "--all")
    assert git.commits_beside_refs() == [], "it is the HEAD of a worktree"
    shutil.rmtree(tmp_path / "linked")
    run(top, "worktree", "prune")
    assert git.commits_beside_refs() == [dropped]


def test_has_commit_and_is_shallow(git: Git, top: Path, tmp_path: Path) -> None:
    assert not git.has_commit("HEAD")
    first = commit(top, {"a": "1"})
    commit(top, {"a": "2"})
    assert git.has_commit(first) and git.has_commit("HEAD~1")
    assert not git.has_commit("HEAD~2") and not git.has_commit("HEAD:a")
    assert not git.is_shallow()
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "cut")
    with Git.discover(str(tmp_path / "cut")) as cut:
        assert cut.is_shallow()
        assert not cut.has_commit(first)


def test_commits_that_work_under_way_goes_by(git: Git, top: Path) -> None:
    assert git.parents_of_next() == git.commits_in_between() == []
    base = commit(top, {"a": "1"})
    run(top, "checkout", "-q", "-b", "side")
    theirs = commit(top, {"a": "theirs"})
    run(top, "checkout", "-q", "main")
    ours = commit(top, {"a": "ours"})
    assert git.parents_of_next() == [ours]
    assert git.merge_sides() is None
    with pytest.raises(subprocess.CalledProcessError):
        run(top, "merge", "-q", "side")
    assert git.parents_of_next() == [ours, theirs]
    assert git.merge_sides() == (base, ours, theirs)
    run(top, "commit", "-q", "-a", "-m", "merge")
    assert git.merge_sides() == (base, ours, theirs)
    assert git.parents_of_next() == [git.head()]
    run(top, "reset", "-q", "--hard", ours)
    with pytest.raises(subprocess.CalledProcessError):
        run(top, "rebase", "side")
    assert git.parents_of_next() == [theirs]
    assert git.commits_in_between() == [ours, theirs]
    run(top, "rebase", "--abort")
    with pytest.raises(subprocess.CalledProcessError):
        run(top, "revert", "--no-edit", base)
    assert git.parents_of_next() == [ours], "a first commit has no parent"


def test_refs_of_remotes(git: Git, top: Path, tmp_path: Path) -> None:
    assert git.refs_of_remotes() == {}
    first = commit(top, {"a": "1"})
    run(top, "tag", "v1")
    run(tmp_path, "clone", "-q", "repo", "clone")
    commit(tmp_path / "clone", {"a": "2"})
    with Git.discover(str(tmp_path / "clone")) as clone:
        assert clone.refs_of_remotes() == {
            "origin refs/heads/main": first,
            "origin refs/tags/v1": first,
        }
        run(tmp_path / "clone", "remote", "set-url", "origin", str(tmp_path / "gone"))
        with pytest.raises(DvError, match="git ls-remote failed"):
            clone.refs_of_remotes()


def test_subjects(git: Git, top: Path) -> None:
    first, second = commit(top, {"a": "1"}, "größe\n\nbody"), commit(top, {"a": "2"}, "two")
    assert git.subjects([second, first]) == {second: "two", first: "größe"}
    assert git.subjects([]) == {}
