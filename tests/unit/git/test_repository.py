"""`dvtool.git` against real repositories, made by the git program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from dvtool.errors import (
    BusyError,
    CorruptError,
    DvError,
    ManifestError,
    MissingError,
    SetupError,
    UnsavedError,
    UsageError,
    printable,
)
from dvtool.git import Git
from tests.unit.git.conftest import commit, run, texts_in, write

WEIRD_NAMES = [
    "plain",
    "with space",
    "tab\there",
    'quo"te',
    "back\\slash",
    "-dash",
    ":(top)colon",
    "*star[1]?",
    "ünïcödé-図",
    "escape\x1b[31m",
]
NAMES_OF_NO_TARGET = [
    "new\nline",
    os.fsdecode(b"latin-\xe9\xff"),
    "..",
    ".",
    ".git",
    "a/..",
    "x.dv.json",
]


# discover


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


def test_discover_a_worktree(top: Path, tmp_path: Path) -> None:
    commit(top, {"a.dv.json": "1"})
    run(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    write(tmp_path / "linked", "only-here.dv.json")
    with Git.discover(str(tmp_path / "linked")) as git:
        assert git.worktree == str(tmp_path / "linked")
        assert git.common_dir == str(top / ".git")
        assert git.git_dir == str(top / ".git" / "worktrees" / "linked")
        assert git.branch() == "linked"
        assert git.manifest_paths() == ["a.dv.json", "only-here.dv.json"]
        assert git.worktrees() == [str(top), str(tmp_path / "linked")]
        shutil.rmtree(tmp_path / "linked")
        assert git.worktrees() == [str(top)]


def test_discover_a_bare_repository_and_its_worktree(top: Path, tmp_path: Path) -> None:
    first = commit(top, {"a.dv.json": "1"})
    run(tmp_path, "clone", "-q", "--bare", "repo", "bare.git")
    with Git.discover(str(tmp_path / "bare.git")) as git:
        assert git.worktree is None
        assert git.git_dir == git.common_dir == str(tmp_path / "bare.git")
        assert git.head() == first
        assert git.blob_at(first, "a.dv.json") == b"1"
        assert list(git.manifests_at(first)) == ["a.dv.json"]
        assert git.config.items(None) == []
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


def test_dubious_ownership_passes_on_the_advice(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SetupError, match="dubious ownership") as caught:
        Git.discover(str(top))
    assert caught.value.hint == f"run: git config --global --add safe.directory {top}"


def test_git_missing_from_the_path(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="git cannot be run") as caught:
        Git.discover(str(top))
    assert "install git" in (caught.value.hint or "")


@pytest.mark.parametrize("call", ["discover('.')", "clone('a', None, cwd='.')"])
def test_git_missing(tmp_path: Path, call: str) -> None:
    code = (
        "from dvtool.errors import SetupError\nfrom dvtool.git import Git\n"
        f"try:\n Git.{call}\nexcept SetupError as error: print(error.hint)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("install git")


def test_a_git_that_is_too_old(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What git 2.30 prints: an option that it does not know, as it is.
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho --path-format=absolute\necho false\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    with pytest.raises(SetupError, match="too old"):
        Git.discover(str(top))


def test_a_broken_repository_configuration(top: Path) -> None:
    (top / ".git" / "config").write_text("[core\n")
    with pytest.raises(SetupError, match="bad config line 1"):
        Git.discover(str(top))


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
def test_in_a_real_pre_commit_hook_in_a_worktree(
    top: Path, tmp_path: Path, args: list[str]
) -> None:
    commit(top, {"a.dv.json": "1", "b.dv.json": "1"})
    linked = tmp_path / "linked"
    run(top, "worktree", "add", "-q", str(linked))
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


def test_settings_for_pathspecs_in_the_environment_do_no_harm(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(top, {"a/b.dv.json": "1"})
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    with Git.discover(str(top)) as git:
        assert git.manifest_paths() == ["a/b.dv.json"]
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "0")
    monkeypatch.setenv("GIT_ICASE_PATHSPECS", "1")
    with Git.discover(str(top)) as git:
        assert git.tracked_under("A") == []


# Revisions


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


# Manifests


@pytest.mark.parametrize("name", WEIRD_NAMES)
def test_weird_names(git: Git, top: Path, name: str) -> None:
    manifest = f"{name}/{name}.dv.json"
    first = commit(top, {manifest: "one"}, "first")
    blob = git.manifests_at(first)[manifest]
    assert git.manifest_paths() == [manifest]
    assert git.manifests_in_index() == {manifest: blob}
    assert git.manifest_blobs_in([first]) == {manifest: {blob}}
    assert git.blob_at(first, manifest) == b"one"
    assert [entry.blob for entry in git.log(manifest)] == [blob]
    assert git.tracked_under(name) == [manifest]
    write(top, manifest, "two")
    git.stage([manifest])
    assert git.manifests_in_index() != {manifest: blob}
    git.restore(first, [manifest])
    assert (top / manifest).read_text() == "one"
    assert git.manifests_in_index() == {manifest: blob}
    git.untrack([name])
    assert git.tracked_under("") == []
    assert (top / manifest).is_file()
    git.stage([manifest])
    git.remove_staged([manifest])
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


def test_manifest_paths(git: Git, top: Path) -> None:
    write(top, ".gitignore", "/ignored\n")
    commit(top, {"tracked.dv.json": "1", "deleted.dv.json": "1", "x/y/z.dv.json": "1"})
    (top / "deleted.dv.json").unlink()
    write(top, "untracked.dv.json")
    write(top, "ignored/a.dv.json")
    write(top, ".dv.json")
    write(top, "folder.dv.json/inside")
    write(top, "a.DV.JSON")
    assert git.manifest_paths() == ["tracked.dv.json", "untracked.dv.json", "x/y/z.dv.json"]
    run(top, "add", "-A")
    assert sorted(git.manifests_in_index()) == git.manifest_paths()


def test_a_symlink_is_no_manifest(git: Git, top: Path, tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.dv.json", "secret")
    write(top, "d/secret.dv.json", "ours")
    (top / "link.dv.json").symlink_to(tmp_path / "outside" / "secret.dv.json")
    first = commit(top, {"real.dv.json": "1"})
    expected = ["d/secret.dv.json", "real.dv.json"]
    assert git.manifest_paths() == expected
    assert sorted(git.manifests_at(first)) == expected
    assert sorted(git.manifests_in_index()) == expected
    assert sorted(git.manifest_blobs_in([first])) == expected
    assert git.blob_at(first, "link.dv.json") is None
    assert git.blob_at(first, "d") is None
    assert [entry.blob for entry in git.log("link.dv.json")] == [None]
    # A folder on the way to a tracked manifest became a symlink: what it leads to is not ours.
    shutil.rmtree(top / "d")
    (top / "d").symlink_to(tmp_path / "outside")
    assert git.manifest_paths() == ["real.dv.json"]


def test_manifests_in_index_during_a_conflict(git: Git, top: Path) -> None:
    commit(top, {"a.dv.json": "base", "calm.dv.json": "1"})
    run(top, "checkout", "-q", "-b", "side")
    commit(top, {"a.dv.json": "theirs"})
    run(top, "checkout", "-q", "main")
    commit(top, {"a.dv.json": "ours"})
    with pytest.raises(subprocess.CalledProcessError):
        run(top, "merge", "-q", "side")
    assert list(git.manifests_in_index()) == ["calm.dv.json"]
    stages = git.conflicts_in_index()["a.dv.json"]
    assert {n: git.read_blob(blob) for n, blob in stages.items()} == {
        1: b"base",
        2: b"ours",
        3: b"theirs",
    }
    assert git.manifest_paths() == ["a.dv.json", "calm.dv.json"]


def test_a_path_only_announced_has_no_manifest_yet(git: Git, top: Path) -> None:
    write(top, "a.dv.json")
    run(top, "add", "-N", "a.dv.json")
    assert git.manifests_in_index() == {}
    assert git.manifest_paths() == ["a.dv.json"]


def test_manifest_blobs_in_history(git: Git, top: Path) -> None:
    base = commit(top, {"a.dv.json": "1", "plain": "x"})
    run(top, "checkout", "-q", "-b", "side")
    commit(top, {"b.dv.json": "side-1"})
    side = commit(top, {"b.dv.json": "side-2"})
    run(top, "checkout", "-q", "main")
    commit(top, {"a.dv.json": "2"})
    # Takes nothing from the side: by default, git log would not go down there.
    run(top, "merge", "-q", "-s", "ours", "-m", "ours", "side")
    commit(top, {"a.dv.json": "3"})
    run(top, "mv", "a.dv.json", "moved.dv.json")
    run(top, "commit", "-q", "-m", "move")
    assert texts_in(git, git.manifest_blobs_in(["main"])) == {
        "a.dv.json": ["1", "2", "3"],
        "b.dv.json": ["side-1", "side-2"],
        "moved.dv.json": ["3"],
    }
    assert texts_in(git, git.manifest_blobs_in([side], exclude=[base])) == {
        "b.dv.json": ["side-1", "side-2"]
    }
    assert texts_in(git, git.manifest_blobs_in(["main"], exclude=[side, "f" * 40])) == {
        "a.dv.json": ["2", "3"],
        "moved.dv.json": ["3"],
    }
    assert git.manifest_blobs_in([]) == {}
    assert git.manifest_blobs_in(["main"], exclude=["main"]) == {}


def test_manifest_blobs_of_a_merge_that_is_like_neither_parent(git: Git, top: Path) -> None:
    commit(top, {"a.dv.json": "1"})
    run(top, "checkout", "-q", "--orphan", "other")
    commit(top, {"a.dv.json": "root-2"})
    run(top, "checkout", "-q", "main")
    arguments = ("merge", "-q", "-s", "ours", "--no-commit", "--allow-unrelated-histories")
    run(top, *arguments, "other")
    commit(top, {"a.dv.json": "only-in-merge"})
    assert texts_in(git, git.manifest_blobs_in(["main"])) == {
        "a.dv.json": ["1", "only-in-merge", "root-2"]
    }


def lose(top: Path, name: str) -> None:
    """Remove a loose object."""
    object_id = run(top, "rev-parse", name)
    (top / ".git/objects" / object_id[:2] / object_id[2:]).unlink()


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_manifest_blobs_of_each_commit(tmp_path: Path, form: str) -> None:
    run(tmp_path, "init", "-q", f"--object-format={form}", "repo")
    top = tmp_path / "repo"
    first = commit(top, {"a.dv.json": "1", "sub/deep/b.dv.json": "2", "plain": "x"})
    (top / "link.dv.json").symlink_to("a.dv.json")
    (top / "a.dv.json").chmod(0o755)
    second = commit(top, {"a.dv.json": "3", "again/b.dv.json": "2", ".dv.json": "none"})
    third = commit(top, {"sub/c.dv.json": "4"})
    run(top, "rm", "-q", "-r", ".")
    fourth = commit(top, {"plain": "x"})
    lose(top, f"{first}")
    lose(top, f"{third}:sub")
    with Git.discover(str(top)) as git:
        found = dict(git.manifest_blobs_of_each([fourth, third, second, first, "f" * len(first)]))
        assert list(found) == [fourth, third, second, first, "f" * len(first)]
        assert found[fourth] == frozenset()
        assert found[second] is not None
        assert sorted(git.read_blobs(found[second])) == [b"2", b"3"]
        assert not any(found[name] for name in (third, first, "f" * len(first)))
        assert found[third] is None and found[first] is None
        blob = run(top, "rev-parse", f"{fourth}:plain")
        assert dict(git.manifest_blobs_of_each([blob])) == {blob: None}
        assert list(git.manifest_blobs_of_each([])) == []


def test_manifest_blobs_of_a_tree_that_is_damaged(git: Git, top: Path) -> None:
    first = commit(top, {"a.dv.json": "1"})
    for data in (b"100644 a.dv.json", b"100644 a\0short", b"1x a\0" + b"i" * 20, b"\0" * 30):
        tree = run(top, "hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=data)
        text = f"tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\n".encode()
        one = run(top, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
        found = dict(git.manifest_blobs_of_each([one, first]))
        assert found[one] is None
        assert found[first]


def test_manifest_blobs_of_a_tree_that_unfolds_without_bound(git: Git, top: Path) -> None:
    commit(top, {"a.dv.json": "1"})
    tree = run(top, "rev-parse", "HEAD^{tree}")
    for _ in range(1_500):  # deeper than Python calls functions
        entries = "".join(f"040000 tree {tree}\t{name}\n" for name in ("left", "right"))
        tree = run(top, "mktree", stdin=entries.encode())
    one = run(top, "commit-tree", "-m", "bomb", tree)
    ((_, blobs),) = git.manifest_blobs_of_each([one])
    assert blobs is not None
    assert list(git.read_blobs(blobs)) == [b"1"]


def test_many_damaged_objects_do_not_fill_the_pipe_of_git(top: Path) -> None:
    """Of each git says some 130 bytes on its standard error; a pipe holds 64 KiB."""
    git = Git.discover(str(top))  # left open if it hangs, for closing would wait too
    good = run(top, "hash-object", "-w", "--stdin", stdin=b"good")
    names = [f"{number:08x}" + "0" * 32 for number in range(0, 1_000 << 16, 1 << 16)]
    for name in names:
        path = top / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    missing: list[str] = []

    def read() -> None:
        for name in names:
            with pytest.raises(MissingError):
                git.read_blob(name)
            missing.append(name)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(60)
    assert missing == names
    assert git.read_blob(good) == b"good"
    git.close()


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


def test_manifest_blobs_everywhere(git: Git, top: Path, tmp_path: Path) -> None:
    commit(top, {"a.dv.json": "1"})
    commit(top, {"a.dv.json": "amended-away"})
    run(top, "reset", "-q", "--hard", "HEAD~")
    write(top, "a.dv.json", "stashed-1")
    run(top, "stash", "-q")
    write(top, "a.dv.json", "stashed-2")
    run(top, "stash", "-q")
    run(top, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    commit(tmp_path / "linked", {"a.dv.json": "detached-elsewhere"})
    assert texts_in(git, git.manifest_blobs_everywhere()) == {
        "a.dv.json": ["1", "amended-away", "detached-elsewhere", "stashed-1", "stashed-2"]
    }


# Objects


def test_read_blobs(git: Git, top: Path) -> None:
    bodies = [b"", b"\n", b"no newline", bytes(range(256)) * 4096, b"a\0b\n"]
    ids = [run(top, "hash-object", "-w", "--stdin", stdin=body) for body in bodies]
    assert list(git.read_blobs(ids)) == bodies
    git.close()
    assert git.read_blob(ids[2]) == bodies[2]


def test_read_blob_refuses_and_goes_on(git: Git, top: Path) -> None:
    first = commit(top, {"a": "content"})
    blob = run(top, "rev-parse", "HEAD:a")
    with pytest.raises(MissingError, match="git has no object"):
        git.read_blob("f" * 40)
    with pytest.raises(CorruptError, match="commit of"):
        git.read_blob(first)
    with pytest.raises(CorruptError, match="7 bytes"):
        git.read_blob(blob, size_max=6)
    for bad in ("HEAD:a", f"{blob}\n{blob}", "", blob[:8]):
        with pytest.raises(ValueError, match="object id"):
            git.read_blob(bad)
    assert git.read_blob(blob, size_max=7) == b"content"


def test_read_blob_of_a_damaged_repository(git: Git, top: Path) -> None:
    commit(top, {"a": "content", "b": "fine"})
    blob, fine = run(top, "rev-parse", "HEAD:a"), run(top, "rev-parse", "HEAD:b")
    path = top / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(b"rubbish")
    with pytest.raises(DvError):
        git.read_blob(blob)
    assert git.read_blob(fine) == b"fine"


def test_read_blob_from_several_threads(git: Git, top: Path) -> None:
    bodies = [b"%d" % n * (n + 1) for n in range(40)]
    ids = [run(top, "hash-object", "-w", "--stdin", stdin=body) for body in bodies]
    failures: list[int] = []

    def read_all() -> None:
        failures.extend(n for n in range(40) if git.read_blob(ids[n]) != bodies[n])

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_close_does_not_wait_for_a_process_that_holds_the_pipe(git: Git, top: Path) -> None:
    blob = run(top, "hash-object", "-w", "--stdin", stdin=b"x")
    git.read_blob(blob)
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():  # newer Pythons warn of threads, which the test runner has
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # holds a copy of every pipe until it is told to go
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    git.close()
    os.close(read_end)
    os.close(write_end)
    os.waitpid(child, 0)


def test_a_git_that_nobody_closed(top: Path) -> None:
    blob = run(top, "hash-object", "-w", "--stdin", stdin=b"x")
    git = Git.discover(str(top))
    assert git.read_blob(blob) == b"x"
    del git  # no ResourceWarning, which would fail this test


# The index and the working tree


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


def test_hooks_folder(git: Git, top: Path, tmp_path: Path) -> None:
    assert git.hooks_folder() == str(top / ".git" / "hooks")
    commit(top, {"a": "1"})
    run(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    with Git.discover(str(tmp_path / "linked")) as linked:
        assert linked.hooks_folder() == str(top / ".git" / "hooks")
    run(top, "config", "core.hooksPath", "my-hooks")
    assert git.hooks_folder() == str(top / "my-hooks")


# Configuration


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


def test_own_config_of_a_worktree(git: Git, top: Path, tmp_path: Path) -> None:
    commit(top, {"a": "1"})
    git.config.set(None, "dv.store.keep", "all")
    run(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    run(top, "config", "extensions.worktreeConfig", "true")
    run(tmp_path / "linked", "config", "--worktree", "dv.store.keep", "unpushed")
    with Git.discover(str(tmp_path / "linked")) as linked:
        assert [item for item in linked.config.items(None) if item[0].startswith("dv.")] == [
            ("dv.store.keep", "all"),
            ("dv.store.keep", "unpushed"),
        ]


# names that are no target's


@pytest.mark.parametrize("target", NAMES_OF_NO_TARGET)
def test_a_file_named_for_an_impossible_target_is_refused_or_passed_over(
    top: Path, git: Git, target: str
) -> None:
    """`...dv.json` would be the manifest of `..`, and its files would land outside."""
    path = f"{target}.dv.json"
    first = commit(top, {path: "{}", "good.dv.json": "{}"})
    with pytest.raises(ManifestError, match=re.escape(printable(path))):
        git.manifest_paths()
    assert git.manifests_in_index().keys() == {"good.dv.json"}
    assert git.manifests_at(first).keys() == {"good.dv.json"}
    assert git.manifest_blobs_in([first]).keys() == {"good.dv.json"}
    with pytest.raises(ManifestError, match=re.escape(printable(path))):
        git.manifests_at(first, strict=True)
