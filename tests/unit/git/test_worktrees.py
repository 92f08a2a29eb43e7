"""Worktrees, also those whose folder is gone, and all places from which git can name an object."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dvtool.git import Git
from dvtool.git.worktrees import _BLOCK_BYTES
from tests.unit.git.conftest import commit, run, texts_in, write
from tests.unit.git.places import NAME, PLACES, unnamed

# The list of worktrees


def test_worktrees(git: Git, top: Path, linked: Path) -> None:
    inner = top / "inner"
    run(top, "worktree", "add", "-q", str(inner))
    main, ours = top / ".git", top / ".git" / "worktrees"
    tops = {str(main): str(top), str(ours / "inner"): str(inner), str(ours / "linked"): str(linked)}
    for folder in (top, linked, inner, main):
        with Git.discover(str(folder)) as git:
            assert git.worktree_git_dirs() == tops
            assert sorted(git.worktrees()) == sorted(tops.values())
    (inner / ".git").unlink()  # git finds the main worktree from there
    shutil.rmtree(linked)
    run(linked.parent, "init", "-q", "linked")  # another repository, in its place
    assert git.worktree_git_dirs() == dict.fromkeys(tops) | {str(main): str(top)}
    assert git.worktrees() == [str(top)]


def test_worktrees_in_a_hook(top: Path, linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = top / ".git" / "worktrees" / "linked"
    monkeypatch.setenv("GIT_DIR", str(own))
    with Git.discover(str(linked)) as git:
        assert git.worktree_git_dirs() == {str(top / ".git"): str(top), str(own): str(linked)}


def test_worktrees_of_a_submodule(top: Path, tmp_path: Path) -> None:
    commit(top, {NAME: "1"})
    run(tmp_path, "init", "-q", "outer")
    run(tmp_path / "outer", "submodule", "--quiet", "add", str(top), "inner")
    inner = tmp_path / "outer" / "inner"
    run(inner, "worktree", "add", "-q", str(tmp_path / "linked"))
    folder = tmp_path / "outer" / ".git" / "modules" / "inner"
    expected = {
        str(folder): str(inner),
        str(folder / "worktrees" / "linked"): str(tmp_path / "linked"),
    }
    for place in (inner, tmp_path / "linked", folder):
        with Git.discover(str(place)) as git:
            assert git.worktree_git_dirs() == expected
    run(inner, "sparse-checkout", "init")  # moves core.worktree to another file
    with Git.discover(str(tmp_path / "linked")) as git:
        assert git.worktree_git_dirs() == expected


def test_worktrees_beside_a_separate_git_folder(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "store"), "work")
    commit(tmp_path / "work", {NAME: "1"})
    run(tmp_path / "work", "worktree", "add", "-q", str(tmp_path / "linked"))
    main, linked = str(tmp_path / "store"), str(tmp_path / "store" / "worktrees" / "linked")
    for place, top in (("work", str(tmp_path / "work")), ("linked", None)):
        with Git.discover(str(tmp_path / place)) as git:
            assert git.worktree_git_dirs() == {main: top, linked: str(tmp_path / "linked")}


# All places from which git can name an object


def named_everywhere(top: Path) -> dict[str, list[str]]:
    """Return the text of every manifest that any place of git names, as gc must look for them."""
    with Git.discover(str(top)) as git:
        names: set[str] = set()
        blobs: dict[str, set[str]] = {}
        for git_dir, tree_top in git.worktree_git_dirs().items():
            folders = {"worktree": tree_top, "git_dir": git_dir, "common_dir": git.common_dir}
            with Git(**folders) as tree:  # type: ignore[arg-type]
                names |= set(tree.object_of_each_ref().values()) | tree.ids_in_state()
                for path, staged in tree.manifest_blobs_in_index().items():
                    blobs.setdefault(path, set()).update(staged)
        folders = {"worktree": None, "git_dir": git.git_dir, "common_dir": git.common_dir}
        with Git(**folders, as_stored=True) as stored:  # type: ignore[arg-type]
            for path, found in stored.manifest_blobs_everywhere(names).items():
                blobs.setdefault(path, set()).update(found)
            return texts_in(stored, blobs)


@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_can_name_a_manifest(top: Path, place: str) -> None:
    commit(top, {NAME: "1"})
    commit(top, {NAME: "2"})
    PLACES[place](top, "hidden")
    found = named_everywhere(top)
    assert "hidden" in [text for texts in found.values() for text in texts]


def test_a_commit_that_nothing_names_is_not_found(top: Path) -> None:
    commit(top, {NAME: "1"})
    unnamed(top, "hidden")
    assert named_everywhere(top) == {NAME: ["1"]}


def test_ids_in_state(git: Git, top: Path) -> None:
    assert git.ids_in_state() == set()
    first, second = commit(top, {NAME: "1"}), commit(top, {NAME: "2"})
    assert git.ids_in_state() == set()
    run(top, "tag", "-a", "-m", "a tag", "v1", first)
    write(top, ".git/MERGE_HEAD", f"{run(top, 'rev-parse', 'v1')}\n{second}\n")
    write(top, ".git/FETCH_HEAD", f"{'f' * 40}\tnot-for-merge\tbranch 'x' of y\n")
    assert git.ids_in_state() == {first, second}


def test_ids_in_state_files_of_any_size_and_kind(git: Git, top: Path, tmp_path: Path) -> None:
    first, second = commit(top, {NAME: "1"}), commit(top, {NAME: "2"})
    folder = top / ".git" / "rebase-apply"
    write(folder, "far/patch", "\n" * (_BLOCK_BYTES * 5 - 20) + f"{first}\n\xff")
    os.mkfifo(folder / "pipe")
    write(tmp_path, "outside", second)
    (folder / "link").symlink_to(tmp_path / "outside")
    assert git.ids_in_state() == {first}


def test_ids_in_state_of_a_sha256_repository(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--object-format=sha256", "repo")
    first = commit(tmp_path / "repo", {NAME: "1"})
    write(tmp_path / "repo", ".git/sequencer/todo", f"pick {first[:9]} change\n")
    with Git.discover(str(tmp_path / "repo")) as git:
        assert git.ids_in_state() == {first}
        assert set(git.object_of_each_ref().values()) == {first}


def test_kinds_of(git: Git, top: Path) -> None:
    first = commit(top, {NAME: "1"})
    tree, blob = run(top, "rev-parse", "HEAD^{tree}"), run(top, "rev-parse", f"HEAD:{NAME}")
    run(top, "tag", "-a", "-m", "a tag", "v1", tree)
    names = [first[:7], run(top, "rev-parse", "v1"), blob, "f" * 40, "gone", "00"]
    assert git.kinds_of(names) == {first: "commit", tree: "tree", blob: "blob"}
    assert git.kinds_of([]) == {}


def test_the_index_in_a_hook_and_beside_it(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(top, {NAME: "1"})
    write(top, NAME, "own")
    run(top, "add", NAME)
    monkeypatch.setenv("GIT_INDEX_FILE", str(top / ".git" / "other-index"))
    write(top, NAME, "of the hook")
    run(top, "add", NAME)
    with Git.discover(str(top)) as git:
        assert texts_in(git, git.manifest_blobs_in_index()) == {NAME: ["of the hook", "own"]}
