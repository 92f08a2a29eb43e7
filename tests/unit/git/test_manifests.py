"""Manifests in commits, in history, in the index and in the working tree."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dvtool.errors import ManifestError, printable
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
    write(top, "new.dv.json")
    assert git.manifests_and_conflicts() == (git.manifest_paths(), git.conflicts_in_index())


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
    trees = []
    for _ in range(1_500):  # deeper than Python calls functions
        trees.append("".join(f"040000 tree {tree}\t{name}\n" for name in ("left", "right")))
        body = b"".join(
            f"40000 {name}\0".encode() + bytes.fromhex(tree) for name in ("left", "right")
        )
        tree = hashlib.sha1(b"tree %d\0" % len(body) + body).hexdigest()
    run(top, "mktree", "--batch", "--missing", stdin="\n".join(trees).encode())
    bomb = run(top, "commit-tree", "-m", "bomb", tree)
    ((_, blobs),) = git.manifest_blobs_of_each([bomb])
    assert blobs is not None
    assert list(git.read_blobs(blobs)) == [b"1"]


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


def test_overview_is_what_the_single_questions_answer(git: Git, top: Path) -> None:
    assert git.overview().committed == {}
    commit(top, {"a.dv.json": "base", "calm.dv.json": "1", "goes.dv.json": "1"})
    run(top, "checkout", "-q", "-b", "side")
    commit(top, {"a.dv.json": "theirs"})
    run(top, "checkout", "-q", "main")
    commit(top, {"a.dv.json": "ours"})
    with pytest.raises(subprocess.CalledProcessError):
        run(top, "merge", "-q", "side")
    write(top, "new.dv.json", "staged")
    write(top, "calm.dv.json", "staged")
    run(top, "add", "new.dv.json", "calm.dv.json")
    run(top, "rm", "-q", "goes.dv.json")
    write(top, "untracked.dv.json")
    seen = git.overview()
    assert list(seen.worktree) == git.manifest_paths()
    assert seen.committed == git.manifests_at(git.resolve("HEAD"))
    assert seen.conflicts == git.conflicts_in_index()


def test_commits_with(git: Git, top: Path) -> None:
    first = commit(top, {"a.dv.json": "1"})
    second = commit(top, {"b.dv.json": "1"})
    third = commit(top, {"a.dv.json": "2"})
    run(top, "reset", "-q", "--hard", second)
    one, two = git.manifests_at(first)["a.dv.json"], git.manifests_at(third)["a.dv.json"]
    assert git.commits_with({"a.dv.json": {one, two}, "b.dv.json": {two}}) == {
        ("a.dv.json", one): [second, first],
        ("a.dv.json", two): [third],
    }
    assert git.commits_with({}) == git.commits_with({"new\nline": {one}}) == {}
