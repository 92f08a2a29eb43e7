"""The base of a target: outdated is told from edited, whichever git command moved the manifest."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from dvtool.format.digest import digest_of
from dvtool.hooks.interpreter import Interpreter
from dvtool.hooks.scripts import script
from tests.cli.conftest import Work
from tests.cli.spoils import SPOILS, spoil
from tests.cli.test_hooks import sh
from tests.scenario import noise, tree

RECORD = ".git/dv/base/data/images.dv.json"


@pytest.fixture
def behind(pushed: Work) -> Work:
    """A clone with version 1 in its workspace and version 2 in its manifest, without hooks."""
    clone = pushed.clone()
    clone.dv("pull")
    pushed.write("data/images/a.txt", "a colleague's fix")
    pushed.write("data/images/new.txt", "new")
    (pushed.root / "data/images/b.txt").unlink()
    pushed.dv("add", "data/images")
    pushed.commit("two")
    pushed.dv("push")
    clone.git("pull", "-q")
    return clone


@pytest.fixture
def hooked(pushed: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Three versions of a target, with the hooks in place."""
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    pushed.dv("hooks", "install")
    pushed.write("code", "1")
    pushed.commit("hooks")
    for number in (2, 3):
        version(pushed, number)
    return pushed


def version(work: Work, number: int) -> None:
    work.write("data/images/a.txt", f"version {number}")
    work.write(f"data/images/only{number}.txt", f"only {number}")
    work.write("code", str(number))
    work.dv("add", "-q", "data/images")
    work.commit(f"version {number}")


def target_status(work: Work, target: str = "data/images") -> dict[str, list[str]]:
    found = next(
        one for one in work.dv("status", "--json").json["targets"] if one["target"] == target
    )
    names = ("added", "modified", "deleted", "outdated", "conflicting")
    return {name: found[name] for name in names if found[name]}


# --- without hooks ----------------------------------------------------------------------------


def test_what_a_pull_of_git_left_behind_is_outdated(behind: Work) -> None:
    assert target_status(behind) == {"outdated": ["a.txt", "b.txt"]}
    text = behind.dv("status").out
    assert "Outdated in data/images: 2 files" in text
    assert "dv pull data/images" in text
    assert "modified" not in text
    assert "Clean: 1 target" in text  # the other one
    behind.dv("status", "--exit-code", code=1)
    behind.dv("pull")
    behind.dv("status", "--exit-code")
    assert behind.read("data/images/a.txt") == b"a colleague's fix"
    assert not (behind.root / "data/images/b.txt").exists()


@pytest.mark.parametrize("path", ["data/images", "data/images/a.txt"])
def test_add_leaves_what_is_outdated_and_says_so(behind: Work, path: str) -> None:
    before = behind.read("data/images.dv.json")
    ran = behind.dv("add", path)
    assert "data/images/a.txt" in ran.err
    assert "--ours" in ran.err
    assert behind.read("data/images.dv.json") == before
    assert "a.txt" in target_status(behind)["outdated"]


def test_add_records_edits_beside_outdated_files(behind: Work) -> None:
    behind.write("data/images/sub/c.txt", "edited here")
    result = behind.dv("add", "--json", "data/images").json["targets"][0]
    assert (result["modified"], result["outdated"]) == (1, ["a.txt", "b.txt"])
    assert target_status(behind) == {"outdated": ["a.txt", "b.txt"]}
    behind.dv("pull")
    behind.commit()
    behind.dv("status", "--exit-code")
    assert behind.read("data/images/a.txt") == b"a colleague's fix"
    assert behind.read("data/images/sub/c.txt") == b"edited here"


def test_add_records_outdated_files_on_purpose(behind: Work) -> None:
    behind.dv("add", "--ours", "data/images")
    assert target_status(behind) == {}
    assert behind.dv("cat", "data/images/a.txt").raw == b"content of a.txt"


def test_a_file_changed_here_and_in_the_manifest_conflicts(behind: Work) -> None:
    behind.write("data/images/a.txt", "edited here")
    behind.write("data/images/b.txt", "edited here, too")
    assert target_status(behind) == {"conflicting": ["a.txt", "b.txt"]}
    assert "conflict:" in behind.dv("status").out
    before = behind.read("data/images.dv.json")
    ran = behind.dv("add", "data/images", code=2)
    assert "data/images/a.txt" in ran.err
    assert "dv add --ours PATH" in ran.err
    assert behind.read("data/images.dv.json") == before
    behind.dv("add", "--ours", "data/images/a.txt")
    assert target_status(behind) == {"conflicting": ["b.txt"]}
    behind.dv("checkout", "--force")
    assert target_status(behind) == {}
    assert behind.read("data/images/a.txt") == b"edited here"


@pytest.mark.parametrize("how", ["lost", "damaged", "empty"])
def test_without_a_record_history_is_asked(behind: Work, how: str) -> None:
    behind.write("data/images/sub/c.txt", "edited here")
    record = behind.root / RECORD
    if how == "lost":
        shutil.rmtree(behind.root / ".git/dv/base")
    else:
        record.write_bytes(b"" if how == "empty" else b'{"dv": 1, "kind": ')
    assert target_status(behind) == {"modified": ["sub/c.txt"], "outdated": ["a.txt", "b.txt"]}
    behind.dv("add", "data/images")
    assert target_status(behind) == {"outdated": ["a.txt", "b.txt"]}


def test_a_record_that_is_no_file_of_ours_is_none(behind: Work, tmp_path: Path) -> None:
    record = behind.root / RECORD
    text = record.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(text)
    for how in SPOILS:
        spoil(record, how, elsewhere)
        assert target_status(behind) == {"outdated": ["a.txt", "b.txt"]}, how
    behind.dv("pull")
    # Written anew it is a file again, and what the link led to is as it was.
    assert not record.is_symlink()
    assert record.read_bytes() == behind.read("data/images.dv.json")
    assert elsewhere.read_bytes() == text


def test_a_part_that_is_checked_out_follows_alone(behind: Work) -> None:
    behind.dv("pull", "data/images/a.txt")
    assert target_status(behind) == {"outdated": ["b.txt"]}
    behind.write("data/images/a.txt", "edited after that")
    assert target_status(behind) == {"modified": ["a.txt"], "outdated": ["b.txt"]}


def test_a_deletion_here_of_what_the_manifest_changed_conflicts(behind: Work) -> None:
    (behind.root / "data/images/a.txt").unlink()
    assert target_status(behind) == {"conflicting": ["a.txt"], "outdated": ["b.txt"]}
    behind.dv("add", "data/images", code=2)


def test_the_base_goes_with_rm_and_mv(behind: Work) -> None:
    behind.dv("mv", "data/images", "pictures")
    assert target_status(behind, "pictures") == {"outdated": ["a.txt", "b.txt"]}
    assert not (behind.root / RECORD).exists()
    behind.dv("rm", "pictures")
    assert not (behind.root / ".git/dv/base/pictures.dv.json").exists()
    assert behind.read("pictures/a.txt") == b"content of a.txt"


# --- with hooks -------------------------------------------------------------------------------


def patch_of(work: Work) -> None:
    work.git("format-patch", "-q", "-1", "-o", "../patches", "main")
    sh(work, "git diff --no-textconv main~1 main >../patch")


MOVES = {
    "reset --hard": "git reset -q --hard HEAD~1",
    "reset --keep": "git reset -q --keep HEAD~1",
    "reset --merge": "git reset -q --merge HEAD~1",
    "checkout FILE": "git checkout -q HEAD~1 -- data/images.dv.json",
    "restore": "git restore --source HEAD~1 --staged --worktree data/images.dv.json",
    "restore, worktree only": "git restore --source HEAD~1 data/images.dv.json",
    "switch": "git switch -q --detach HEAD~1",
    "apply --index": "git reset -q --hard HEAD~1 && git apply --index ../patch",
    "am": "git reset -q --hard HEAD~1 && git am -q ../patches/*",
    "merge --no-commit": "git checkout -q -b side HEAD~1 && git merge -q --no-commit --no-ff main",
    "cherry-pick -n": "git checkout -q -b side HEAD~1 && git cherry-pick -n main",
    "revert -n": "git revert -n HEAD",
    "read-tree": "git read-tree -u -m HEAD HEAD~1",
    "bisect": "git bisect start -q HEAD HEAD~2 2>/dev/null || git bisect start HEAD HEAD~2",
    "rebase --root": "git rebase -q --root",
    "rebase, break": "GIT_SEQUENCE_EDITOR='sed -i 1abreak' git rebase -q -i HEAD~2",
    "rebase, edit": "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -q -i HEAD~2",
    "rebase --onto": "git commit -q --allow-empty -m x && git rebase -q --onto HEAD~2 HEAD~1",
    "git rm": "git rm -q data/images.dv.json",
}


@pytest.mark.parametrize("name", MOVES)
def test_unedited_files_are_in_step_when_git_returns(hooked: Work, name: str) -> None:
    patch_of(hooked)
    text = sh(hooked, MOVES[name])
    assert "warning" not in text
    there = {p.name for p in (hooked.root / "data/images").rglob("*.txt")}
    if name == "git rm":
        assert there == set()
        return
    assert target_status(hooked) == {}
    listed = {Path(line.rpartition("  ")[2]).name for line in hooked.dv("ls", "data/images").lines}
    assert there == listed


def test_an_aborted_rebase_and_a_stash_bring_the_data_back(hooked: Work) -> None:
    hooked.git("checkout", "-q", "-b", "side", "HEAD~1")
    hooked.write("code", "other")
    hooked.git("commit", "-qam", "conflicts in the code")
    sh(hooked, "git rebase -q main", code=1)
    assert hooked.read("data/images/a.txt") == b"version 3"
    sh(hooked, "git rebase --abort")
    assert hooked.read("data/images/a.txt") == b"version 2"
    hooked.write("data/images/a.txt", "stashed")
    hooked.dv("add", "-q", "data/images")
    sh(hooked, "git stash -q")
    assert hooked.read("data/images/a.txt") == b"version 2"
    sh(hooked, "git stash branch -q popped || git stash branch popped")
    assert hooked.read("data/images/a.txt") == b"stashed"
    assert target_status(hooked) == {}


def test_rebase_exec_runs_with_the_data_of_each_commit(hooked: Work) -> None:
    seen = "echo code $(cat code) data $(cat data/images/a.txt) >>../seen"
    sh(hooked, f"git rebase -q --exec '{seen}' HEAD~2")
    lines = (hooked.root / "../seen").read_text().splitlines()
    assert lines == ["code 2 data version 2", "code 3 data version 3"]
    hooked.dv("status", "--exit-code")


def test_a_target_that_git_brings_gets_its_data(hooked: Work) -> None:
    hooked.git("checkout", "-q", "-b", "more")
    hooked.write("data/new/x.txt", "x")
    hooked.dv("add", "-q", "data/new")
    hooked.commit("a target more")
    hooked.git("switch", "-q", "main")
    assert not (hooked.root / "data/new").exists()
    hooked.git("merge", "-q", "more")
    assert hooked.read("data/new/x.txt") == b"x"


def test_a_manifest_deleted_by_hand_takes_no_data_with_it(hooked: Work) -> None:
    (hooked.root / "data/images.dv.json").unlink()
    sh(hooked, "git status --short >/dev/null; touch other; git add other")
    assert hooked.read("data/images/a.txt") == b"version 3"


def test_a_file_that_is_written_to_keeps_itself_back(hooked: Work) -> None:
    log = hooked.write("data/images/train.log", b"x" * 3_000_000)
    hooked.dv("add", "-q", "data/images")
    hooked.commit("a log")
    stop = threading.Event()

    def grow() -> None:
        with log.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"line\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        text = sh(hooked, "git checkout -q HEAD~2")
    finally:
        stop.set()
        writer.join()
    assert "train.log" in text
    assert hooked.read("data/images/a.txt") == b"version 2"
    assert not (hooked.root / "data/images/only3.txt").exists()
    assert log.exists()
    assert target_status(hooked) == {"conflicting": ["train.log"]}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_names_that_git_quotes(hooked: Work, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    for name in ("dätä", 'quo"te', " lead"):
        hooked.write(f"{name}/f", "1")
        hooked.dv("add", "-q", name)
    hooked.commit("one")
    for name in ("post-checkout", "post-index-change"):
        path = hooked.root / ".git/hooks" / name
        text = path.read_text().replace("#!/bin/sh", f"#!{shutil.which(shell)}", 1)
        path.write_text(text)
    for name in ("dätä", 'quo"te', " lead"):
        hooked.write(f"{name}/f", "2")
        hooked.dv("add", "-q", name)
    hooked.commit("two")
    for name in ("dätä", 'quo"te', " lead"):
        hooked.git("checkout", "-q", "HEAD~1", "--", f"{name}.dv.json")
        assert hooked.read(f"{name}/f") == b"1"


def test_commands_without_data_start_no_python(hooked: Work) -> None:
    for name in ("post-index-change", "post-checkout", "post-commit", "post-merge"):
        path = hooked.root / ".git/hooks" / name
        path.write_bytes(script(name, Interpreter("/nonexistent/python")))
    for command in (
        "git status --short",
        "echo more >code && git add code",
        "git commit -qm code",
        "git checkout -q -b side && git checkout -q main",
        "git stash list",
    ):
        text = sh(hooked, f"PATH=/usr/bin:/bin; {command}")
        assert "not installed" not in text, command


# --- sparse checkout --------------------------------------------------------------------------


def test_sparse_checkout(hooked: Work) -> None:
    hooked.dv("push")
    everything = hooked.dv("describe", "--json").json["data_id"]
    hooked.write("other/set.csv", "1,2")
    hooked.dv("add", "-q", "other/set.csv")
    hooked.commit("another target")
    whole = hooked.dv("describe", "--json").json["data_id"]
    assert whole != everything
    sh(hooked, "git sparse-checkout set --cone other")
    assert not (hooked.root / "data/images/a.txt").exists()
    assert hooked.dv("describe", "--json").json["data_id"] == whole
    text = hooked.dv("status").out
    assert "deleted" not in text
    assert "Clean: 1 target" in text
    assert hooked.dv("cat", "data/images/a.txt").raw == b"version 3"
    assert "data/images/a.txt" in hooked.dv("ls", "data/images").out
    hooked.dv("checkout")
    hooked.dv("checkout", "HEAD")
    assert not (hooked.root / "data").exists()
    assert "sparse" in hooked.dv("checkout", "--", "data/images", code=2).err
    hooked.write("data/images/a.txt", "mine")
    assert "sparse" in hooked.dv("add", "data/images", code=2).err
    assert hooked.dv("diff", "HEAD").out == "no difference\n"
    (hooked.root / "data/images/a.txt").unlink()
    sh(hooked, "git sparse-checkout disable")
    hooked.dv("checkout")
    assert hooked.read("data/images/a.txt") == b"version 3"


# --- what destroys asks the same question -------------------------------------------------------


def test_drop_takes_what_is_outdated_and_keeps_its_content(behind: Work) -> None:
    behind.dv("drop", "data/images")
    assert not (behind.root / "data/images").exists()
    assert target_status(behind) == {}
    for path in ("a.txt", "b.txt"):
        stored = behind.dv("cat", "--rev", "HEAD~1", f"data/images/{path}")
        assert stored.raw == f"content of {path}".encode()
    behind.dv("pull")
    assert behind.read("data/images/a.txt") == b"a colleague's fix"
    assert not (behind.root / "data/images/b.txt").exists()


def test_drop_names_edits_alone(behind: Work) -> None:
    behind.write("data/images/sub/c.txt", "edited here")
    ran = behind.dv("drop", "data/images", code=5)
    assert "data/images/sub/c.txt" in ran.err
    assert "a.txt" not in ran.err
    behind.write("data/images/sub/c.txt", "content of sub/c.txt")
    behind.write("data/images/b.txt", "edited, though the manifest has it no more")
    behind.dv("drop", "data/images")
    assert tree(behind.root / "data/images").keys() == {"b.txt"}
    assert target_status(behind) == {"conflicting": ["b.txt"]}


def test_drop_keeps_all_chunks_of_what_was_never_pushed(pushed: Work) -> None:
    """Another version that shares chunks with what is dropped, and is in no manifest any more."""
    pushed.write("data/images/big", noise(400_000, 1))
    pushed.dv("add", "data/images")
    pushed.commit("big")
    pushed.dv("push")
    edited = noise(400_000, 1)[:200_000] + b"edited" + noise(400_000, 1)[200_000:]
    pushed.write("data/images/big", edited)
    pushed.dv("add", "data/images")
    pushed.git("checkout", "-q", "HEAD", "--", "data/images.dv.json")
    pushed.dv("drop", "data/images")
    assert pushed.dv("cat", "--hash", digest_of(edited).hex()).raw == edited


@pytest.fixture
def unstored(behind: Work) -> Work:
    """As `behind`, and the store has nothing any more of what the workspace was given."""
    behind.git("checkout", "-q", "HEAD~1")
    behind.dv("drop", "--store", "data/images")
    behind.git("checkout", "-q", "main")
    return behind


def test_drop_frees_no_outdated_file_that_the_store_lacks(unstored: Work) -> None:
    ran = unstored.dv("drop", "data/images", code=5)
    assert "as the manifest had them before it changed" in ran.err
    assert "dv pull" in ran.err
    assert unstored.read("data/images/a.txt") == b"content of a.txt"


def test_pull_stores_what_it_replaces_and_does_not_call_it_changed(unstored: Work) -> None:
    assert unstored.dv("pull", "--json").json["saved"] == []
    assert unstored.read("data/images/a.txt") == b"a colleague's fix"
    remote = unstored.root.parent / "remote"
    remote.rename(remote.with_name("away"))
    assert unstored.dv("cat", "--rev", "HEAD~1", "data/images/a.txt").raw == b"content of a.txt"


def test_hooks_store_what_they_replace(hooked: Work) -> None:
    hooked.dv("push")
    hooked.dv("drop", "--store", "data/images")
    hooked.dv("fetch", "HEAD~1")
    line = ["git", "switch", "-q", "--detach", "HEAD~1"]
    ran = subprocess.run(line, cwd=hooked.root, check=True, capture_output=True)
    assert b"changed here" not in ran.stderr
    assert hooked.read("data/images/a.txt") == b"version 2"
    assert target_status(hooked) == {}
    assert hooked.dv("cat", "--rev", "main", "data/images/a.txt").raw == b"version 3"


@pytest.mark.parametrize("path", ["data/images", "data/images/**"])
def test_rm_data_takes_what_is_outdated(behind: Work, path: str) -> None:
    behind.write("data/images/mine.txt", "in no manifest")
    behind.dv("rm", "--data", path)
    assert tree(behind.root / "data/images").keys() == {"mine.txt"}


def test_rm_data_keeps_an_edit_of_what_the_manifest_has_no_more(behind: Work) -> None:
    behind.write("data/images/b.txt", "edited here")
    behind.dv("rm", "--data", "data/images/*.txt")
    assert target_status(behind) == {"conflicting": ["b.txt"]}
    assert tree(behind.root / "data/images").keys() == {"b.txt", "sub/c.txt"}


def test_rm_of_a_part_leaves_the_rest_outdated(behind: Work) -> None:
    behind.dv("rm", "data/images/*.txt")
    assert target_status(behind) == {"added": ["a.txt"], "outdated": ["b.txt"]}


def test_rm_data_stores_what_it_removes(unstored: Work) -> None:
    unstored.dv("rm", "--data", "data/images")
    assert not (unstored.root / "data/images").exists()
    assert unstored.dv("cat", "--rev", "HEAD~1", "data/images/a.txt").raw == b"content of a.txt"


def test_a_folder_that_the_manifest_made_a_file_is_outdated(pushed: Work) -> None:
    clone = pushed.clone()
    clone.dv("pull")
    shutil.rmtree(pushed.root / "data/images/sub")
    pushed.write("data/images/sub", "a file now")
    pushed.dv("add", "data/images")
    pushed.commit("two")
    pushed.dv("push")
    clone.git("pull", "-q")
    assert target_status(clone) == {"outdated": ["sub", "sub/c.txt"]}
    clone.dv("pull")
    assert clone.read("data/images/sub") == b"a file now"
