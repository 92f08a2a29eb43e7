"""Every place from which git can name a manifest, planted in a real repository."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.git.conftest import commit, run, write

NAME = "data.dv.json"
Plant = Callable[[Path, str], None]
"""Puts a manifest of this text, at `NAME` mostly, in one place and in no other.

The repository is on ``main``, with two commits of other manifests at `NAME`, and clean.
"""


def unnamed(top: Path, text: str) -> str:
    """Return a commit of a manifest of this text, to which no ref and no reflog leads."""
    write(top, NAME, text)
    run(top, "add", NAME)
    made = run(top, "commit-tree", "-p", "HEAD", "-m", text, run(top, "write-tree"))
    run(top, "reset", "-q", "--hard")
    return made


def side(top: Path, text: str) -> str:
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


def of_file(name: str) -> Plant:
    def plant(top: Path, text: str) -> None:
        made = unnamed(top, text)
        path = top / ".git" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{made}\n")

    return plant


def of_ref(name: str) -> Plant:
    return lambda top, text: run(top, "update-ref", name, unnamed(top, text)) and None


def detached_head(top: Path, text: str) -> None:
    run(top, "checkout", "-q", "--detach", unnamed(top, text))
    forget(top)


def index(top: Path, text: str) -> None:
    write(top, NAME, text)
    run(top, "add", NAME)
    write(top, NAME, "other")


def unmerged(top: Path, text: str) -> None:
    fail(top, "merge", "-q", side(top, text))
    for name in ("MERGE_HEAD", "MERGE_MSG", "AUTO_MERGE"):
        (top / ".git" / name).unlink(missing_ok=True)
    forget(top)


def resolved(top: Path, text: str) -> None:
    unmerged(top, text)
    run(top, "add", NAME)


def merge(top: Path, text: str) -> None:
    fail(top, "merge", "-q", side(top, text))
    run(top, "rm", "-q", "--cached", NAME)
    (top / ".git" / "AUTO_MERGE").unlink(missing_ok=True)
    forget(top)


def auto_merge(top: Path, text: str) -> None:
    made = unnamed(top, text)
    run(top, "update-ref", "AUTO_MERGE", run(top, "rev-parse", f"{made}^{{tree}}"))


def cherry_pick(top: Path, text: str) -> None:
    fail(top, "cherry-pick", side(top, text))
    run(top, "rm", "-q", "--cached", NAME)
    (top / ".git" / "AUTO_MERGE").unlink(missing_ok=True)
    forget(top)


def cherry_picks_to_come(top: Path, text: str) -> None:
    """Git writes these ids in short, and nowhere else."""
    run(top, "checkout", "-q", "-b", "side", "HEAD~")
    commit(top, {NAME: "first"})
    commit(top, {NAME: text})
    commit(top, {NAME: "last"})
    tip = run(top, "rev-parse", "HEAD~")
    run(top, "checkout", "-q", "main")
    run(top, "branch", "-q", "-D", "side")
    forget(top)
    fail(top, "cherry-pick", f"{tip}~", tip)
    run(top, "rm", "-q", "--cached", NAME)
    todo = (top / ".git" / "sequencer" / "todo").read_text()
    assert tip not in todo and f"pick {tip[:7]}" in todo


def revert(top: Path, text: str) -> None:
    made = side(top, text)
    fail(top, "revert", "--no-edit", made)
    run(top, "rm", "-q", "--cached", NAME)
    forget(top)


def rebase(top: Path, text: str, *options: str) -> None:
    made = side(top, text)
    run(top, "checkout", "-q", "--detach", made)
    fail(top, "rebase", *options, "main")
    run(top, "rm", "-q", "--cached", NAME)
    for name in ("REBASE_HEAD", "ORIG_HEAD", "AUTO_MERGE"):
        (top / ".git" / name).unlink(missing_ok=True)
    forget(top)


def rebase_by_am(top: Path, text: str) -> None:
    rebase(top, text, "--apply")


def am(top: Path, text: str) -> None:
    made = side(top, text)
    run(top, "format-patch", "-q", "-o", str(top / "patches"), f"{made}~..{made}")
    forget(top)
    fail(top, "am", *(str(path) for path in (top / "patches").iterdir()))


def autostash(top: Path, text: str) -> None:
    made = side(top, "other")
    run(top, "checkout", "-q", "--detach", made)
    commit(top, {"plain": "1"})
    write(top, "plain", "2")
    write(top, "new.dv.json", text)
    run(top, "add", "new.dv.json")
    fail(top, "rebase", "--autostash", "main")
    forget(top)


def bisect(top: Path, text: str) -> None:
    made = unnamed(top, text)
    run(top, "bisect", "start", made, "HEAD~")
    forget(top)


def bisect_of_a_worktree(top: Path, text: str) -> None:
    other = top.parent / "other"
    run(top, "worktree", "add", "-q", "--detach", str(other))
    run(other, "bisect", "start", unnamed(top, text), "HEAD~")
    for name in ("BISECT_LOG", "BISECT_START", "BISECT_EXPECTED_REV"):
        (top / ".git" / "worktrees" / "other" / name).unlink(missing_ok=True)
    run(other, "checkout", "-q", "main~")
    forget(top)


def fetch(top: Path, text: str) -> None:
    clone = top.parent / "clone"
    run(top.parent, "clone", "-q", "repo", "clone")
    commit(clone, {NAME: text})
    run(top, "fetch", "-q", str(clone))


def remote_branch(top: Path, text: str) -> None:
    clone = top.parent / "clone"
    run(top.parent, "clone", "-q", "repo", "clone")
    commit(clone, {NAME: text})
    run(top, "remote", "add", "origin", str(clone))
    run(top, "fetch", "-q", "origin")
    (top / ".git" / "FETCH_HEAD").unlink()


def reflog(top: Path, text: str) -> None:
    commit(top, {NAME: text})
    run(top, "reset", "-q", "--hard", "HEAD~")
    (top / ".git" / "ORIG_HEAD").unlink()


def reflog_of_a_worktree(top: Path, text: str) -> None:
    other = top.parent / "other"
    run(top, "worktree", "add", "-q", "--detach", str(other))
    reflog_dir = top / ".git" / "worktrees" / "other"
    commit(other, {NAME: text})
    run(other, "reset", "-q", "--hard", "HEAD~")
    (reflog_dir / "ORIG_HEAD").unlink()


def stash(top: Path, text: str) -> None:
    write(top, NAME, text)
    run(top, "stash", "-q")
    write(top, NAME, "a later stash")
    run(top, "stash", "-q")


def stashed_index(top: Path, text: str) -> None:
    write(top, NAME, text)
    run(top, "add", NAME)
    write(top, NAME, "of the worktree")
    run(top, "stash", "-q")


def stashed_untracked(top: Path, text: str) -> None:
    write(top, "new.dv.json", text)
    run(top, "stash", "-q", "--include-untracked")


def worktree_head(top: Path, text: str) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"), unnamed(top, text))
    forget(top)


def worktree_index(top: Path, text: str) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"))
    write(top.parent / "other", NAME, text)
    run(top.parent / "other", "add", NAME)


def worktree_state(top: Path, text: str) -> None:
    run(top, "worktree", "add", "-q", "--detach", str(top.parent / "other"))
    run(top.parent / "other", "update-ref", "ORIG_HEAD", unnamed(top, text))


def gone(plant: Plant) -> Plant:
    def plant_and_remove(top: Path, text: str) -> None:
        plant(top, text)
        shutil.rmtree(top.parent / "other")

    return plant_and_remove


def replaced_commit(top: Path, text: str) -> None:
    made = unnamed(top, text)
    run(top, "branch", "replaced", made)
    run(top, "replace", made, "HEAD~")


def replacing_commit(top: Path, text: str) -> None:
    write(top, NAME, text)
    run(top, "add", NAME)
    tree = run(top, "write-tree")
    run(top, "replace", "HEAD", run(top, "commit-tree", "-p", "HEAD~", "-m", "other", tree))
    run(top, "reset", "-q", "--hard", "HEAD~")


def replaced_blob(top: Path, text: str) -> None:
    commit(top, {NAME: text})
    shown = run(top, "hash-object", "-w", "--stdin", stdin=b"shown")
    run(top, "replace", f"HEAD:{NAME}", shown)


def replacing_blob(top: Path, text: str) -> None:
    shown = run(top, "hash-object", "-w", "--stdin", stdin=text.encode())
    run(top, "replace", f"HEAD:{NAME}", shown)


def tagged_tree(top: Path, text: str) -> None:
    run(top, "tag", "-a", "-m", "a tree", "tree", f"{unnamed(top, text)}^{{tree}}")


def tagged_blob(top: Path, text: str) -> None:
    run(top, "tag", "blob", f"{unnamed(top, text)}:{NAME}")


PLACES: dict[str, Plant] = {
    "HEAD": lambda top, text: commit(top, {NAME: text}) and None,
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
