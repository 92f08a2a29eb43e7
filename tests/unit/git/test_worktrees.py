"""Worktrees, also those whose folder is gone, and all places from which git can name an object."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.git import Git
from dvtool.git.worktrees import _BLOCK_BYTES
from tests.unit.git.conftest import commit, run, texts_in, write

NAME = "a.dv.json"


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
                names |= tree.ids_of_refs() | tree.ids_in_state()
                for path, staged in tree.manifest_blobs_in_index().items():
                    blobs.setdefault(path, set()).update(staged)
        folders = {"worktree": None, "git_dir": git.git_dir, "common_dir": git.common_dir}
        with Git(**folders, as_stored=True) as stored:  # type: ignore[arg-type]
            for path, found in stored.manifest_blobs_everywhere(names).items():
                blobs.setdefault(path, set()).update(found)
            return texts_in(stored, blobs)


def hidden(top: Path) -> str:
    """Return a commit of a manifest that says ``hidden``, to which no ref and no reflog leads."""
    write(top, NAME, "hidden")
    run(top, "add", NAME)
    made = run(top, "commit-tree", "-p", "HEAD", "-m", "hidden", run(top, "write-tree"))
    run(top, "reset", "-q", "--hard")
    return made


def side(top: Path, text: str = "hidden") -> str:
    """Return a commit that is in conflict with HEAD, known by its id alone."""
    run(top, "checkout", "-q", "-b", "side", "HEAD~")
    made = commit(top, {NAME: text}, "side")
    run(top, "checkout", "-q", "main")
    run(top, "branch", "-q", "-D", "side")
    return made


def forget(top: Path) -> None:
    run(top, "reflog", "expire", "--expire=now", "--all")


def fail(top: Path, *args: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(top, *args)


def of_file(name: str) -> Callable[[Path], None]:
    def plant(top: Path) -> None:
        made = hidden(top)
        path = top / ".git" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{made}\n")

    return plant


def of_ref(name: str) -> Callable[[Path], None]:
    return lambda top: run(top, "update-ref", name, hidden(top)) and None


def detached_head(top: Path) -> None:
    run(top, "checkout", "-q", "--detach", hidden(top))
    forget(top)


def index(top: Path) -> None:
    write(top, NAME, "hidden")
    run(top, "add", NAME)
    write(top, NAME, "other")


def unmerged(top: Path) -> None:
    fail(top, "merge", "-q", side(top))
    for name in ("MERGE_HEAD", "MERGE_MSG", "AUTO_MERGE"):
        (top / ".git" / name).unlink(missing_ok=True)
    forget(top)


def resolved(top: Path) -> None:
    unmerged(top)
    run(top, "add", NAME)


def merge(top: Path) -> None:
    fail(top, "merge", "-q", side(top))
    run(top, "rm", "-q", "--cached", NAME)
    (top / ".git" / "AUTO_MERGE").unlink(missing_ok=True)
    forget(top)


def auto_merge(top: Path) -> None:
    made = hidden(top)
    run(top, "update-ref", "AUTO_MERGE", run(top, "rev-parse", f"{made}^{{tree}}"))


def cherry_pick(top: Path) -> None:
    fail(top, "cherry-pick", side(top))
    run(top, "rm", "-q", "--cached", NAME)
    (top / ".git" / "AUTO_MERGE").unlink(missing_ok=True)
    forget(top)


def cherry_picks_to_come(top: Path) -> None:
    """Git writes these ids in short, and nowhere else."""
    run(top, "checkout", "-q", "-b", "side", "HEAD~")
    commit(top, {NAME: "first"})
    commit(top, {NAME: "hidden"})
    commit(top, {NAME: "last"})
    tip = run(top, "rev-parse", "HEAD~")
    run(top, "checkout", "-q", "main")
    run(top, "branch", "-q", "-D", "side")
    forget(top)
    fail(top, "cherry-pick", f"{tip}~", tip)
    run(top, "rm", "-q", "--cached", NAME)
    todo = (top / ".git" / "sequencer" / "todo").read_text()
    assert tip not in todo and f"pick {tip[:7]}" in todo


def revert(top: Path) -> None:
    made = side(top)
    fail(top, "revert", "--no-edit", made)
    run(top, "rm", "-q", "--cached", NAME)
    forget(top)


def rebase(top: Path, *options: str) -> None:
    made = side(top)
    run(top, "checkout", "-q", "--detach", made)
    fail(top, "rebase", *options, "main")
    run(top, "rm", "-q", "--cached", NAME)
    for name in ("REBASE_HEAD", "ORIG_HEAD", "AUTO_MERGE"):
        (top / ".git" / name).unlink(missing_ok=True)
    forget(top)


def rebase_by_am(top: Path) -> None:
    rebase(top, "--apply")


def am(top: Path) -> None:
    made = side(top)
    run(top, "format-patch", "-q", "-o", str(top / "patches"), f"{made}~..{made}")
    forget(top)
    fail(top, "am", *(str(path) for path in (top / "patches").iterdir()))


def autostash(top: Path) -> None:
    made = side(top, "other")
    run(top, "checkout", "-q", "--detach", made)
    commit(top, {"plain": "1"})
    write(top, "plain", "2")
    write(top, "hidden.dv.json", "hidden")
    run(top, "add", "hidden.dv.json")
    fail(top, "rebase", "--autostash", "main")
    forget(top)


def bisect(top: Path) -> None:
    made = hidden(top)
    run(top, "bisect", "start", made, "HEAD~")
    forget(top)


def bisect_of_a_worktree(top: Path) -> None:
    other = top.parent / "other"
    run(top, "worktree", "add", "-q", "--detach", str(other))
    run(other, "bisect", "start", hidden(top), "HEAD~")
    for name in ("BISECT_LOG", "BISECT_START", "BISECT_EXPECTED_REV"):
        (top / ".git" / "worktrees" / "other" / name).unlink(missing_ok=True)
    run(other, "checkout", "-q", "main~")
    forget(top)


def fetch(top: Path) -> None:
    clone = top.parent / "clone"
    run(top.parent, "clone", "-q", "repo", "clone")
    commit(clone, {NAME: "hidden"})
    run(top, "fetch", "-q", str(clone))


def remote_branch(top: Path) -> None:
    clone = top.parent / "clone"
    run(top.parent, "clone", "-q", "repo", "clone")
    commit(clone, {NAME: "hidden"})
    run(top, "remote", "add", "origin", str(clone))
    run(top, "fetch", "-q", "origin")
    (top / ".git" / "FETCH_HEAD").unlink()


def reflog(top: Path) -> None:
    commit(top, {NAME: "hidden"})
    run(top, "reset", "-q", "--hard", "HEAD~")
    (top / ".git" / "ORIG_HEAD").unlink()


def reflog_of_a_worktree(top: Path) -> None:
    other = top.parent / "other"
    run(top, "worktree", "add", "-q", "--detach", str(other))
    reflog_dir = top / ".git" / "worktrees" / "other"
    commit(other, {NAME: "hidden"})
    run(other, "reset", "-q", "--hard", "HEAD~")
    (reflog_dir / "ORIG_HEAD").unlink()


def stash(top: Path, *options: str) -> None:
    write(top, NAME, "hidden")
    run(top, "stash", "-q", *options)
    write(top, NAME, "a later stash")
    run(top, "stash", "-q")


def stashed_index(top: Path) -> None:
    write(top, NAME, "hidden")
    run(top, "add", NAME)
    write(top, NAME, "of the worktree")
    run(top, "stash", "-q")


def stashed_untracked(top: Path) -> None:
    write(top, "new.dv.json", "hidden")
    run(top, "stash", "-q", "--include-untracked")


def worktree_head(top: Path) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"), hidden(top))
    forget(top)


def worktree_index(top: Path) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"))
    write(top.parent / "other", NAME, "hidden")
    run(top.parent / "other", "add", NAME)


def worktree_state(top: Path) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"))
    run(top.parent / "other", "update-ref", "ORIG_HEAD", hidden(top))


def gone(plant: Callable[[Path], None]) -> Callable[[Path], None]:
    def plant_and_remove(top: Path) -> None:
        plant(top)
        shutil.rmtree(top.parent / "other")

    return plant_and_remove


def replaced_commit(top: Path) -> None:
    made = hidden(top)
    run(top, "branch", "replaced", made)
    run(top, "replace", made, "HEAD~")


def replacing_commit(top: Path) -> None:
    write(top, NAME, "hidden")
    run(top, "add", NAME)
    tree = run(top, "write-tree")
    run(top, "replace", "HEAD", run(top, "commit-tree", "-p", "HEAD~", "-m", "other", tree))
    run(top, "reset", "-q", "--hard", "HEAD~")


def replaced_blob(top: Path) -> None:
    commit(top, {NAME: "hidden"})
    shown = run(top, "hash-object", "-w", "--stdin", stdin=b"shown")
    run(top, "replace", f"HEAD:{NAME}", shown)


def replacing_blob(top: Path) -> None:
    shown = run(top, "hash-object", "-w", "--stdin", stdin=b"hidden")
    run(top, "replace", f"HEAD:{NAME}", shown)


def tagged_tree(top: Path) -> None:
    run(top, "tag", "-a", "-m", "a tree", "tree", f"{hidden(top)}^{{tree}}")


def tagged_blob(top: Path) -> None:
    run(top, "tag", "blob", f"{hidden(top)}:{NAME}")


PLACES: dict[str, Callable[[Path], None]] = {
    "HEAD": lambda top: commit(top, {NAME: "hidden"}) and None,
    "detached HEAD": detached_head,
    "index": index,
    "unmerged stages of the index": unmerged,
    "stages that were resolved": resolved,
    "HEAD of a worktree": worktree_head,
    "HEAD of a worktree that is gone": gone(worktree_head),
    "index of a worktree": worktree_index,
    "index of a worktree that is gone": gone(worktree_index),
    "state of a worktree": worktree_state,
    "state of a worktree that is gone": gone(worktree_state),
    "bisect of a worktree": bisect_of_a_worktree,
    "bisect of a worktree that is gone": gone(bisect_of_a_worktree),
    "reflog": reflog,
    "reflog of a worktree": reflog_of_a_worktree,
    "reflog of a worktree that is gone": gone(reflog_of_a_worktree),
    "stash": stash,
    "index of a stash": stashed_index,
    "untracked file of a stash": stashed_untracked,
    "remote branch": remote_branch,
    "fetch": fetch,
    "merge": merge,
    "tree of AUTO_MERGE": auto_merge,
    "cherry-pick": cherry_pick,
    "cherry-picks to come": cherry_picks_to_come,
    "revert": revert,
    "rebase": rebase,
    "rebase --apply": rebase_by_am,
    "am": am,
    "autostash": autostash,
    "bisect": bisect,
    "replaced commit": replaced_commit,
    "replacing commit": replacing_commit,
    "replaced blob": replaced_blob,
    "replacing blob": replacing_blob,
    "tag of a tree": tagged_tree,
    "tag of a blob": tagged_blob,
    **{
        name: of_ref(name)
        for name in (
            *("refs/notes/commits", "refs/bisect/bad", "refs/original/refs/heads/main"),
            *("refs/rewritten/onto", "refs/worktree/x", "refs/odd/name", "ORIG_HEAD"),
        )
    },
    **{
        name: of_file(name)
        for name in (
            *("FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD"),
            *("BISECT_HEAD", "BISECT_EXPECTED_REV", "BISECT_LOG", "MERGE_AUTOSTASH"),
            *("rebase-merge/git-rebase-todo.backup", "rebase-merge/amend", "sequencer/head"),
            *("rebase-merge/rewritten-list", "rebase-apply/orig-head", "NOTES_MERGE_PARTIAL"),
        )
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_can_name_a_manifest(top: Path, place: str) -> None:
    commit(top, {NAME: "1"})
    commit(top, {NAME: "2"})
    PLACES[place](top)
    found = named_everywhere(top)
    assert "hidden" in [text for texts in found.values() for text in texts]


def test_a_commit_that_nothing_names_is_not_found(top: Path) -> None:
    commit(top, {NAME: "1"})
    hidden(top)
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
        assert git.ids_of_refs() == {first}


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
