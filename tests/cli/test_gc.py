from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Work, command
from tests.scenario import noise

DAY_S = 24 * 3600


def packs(work: Work) -> dict[str, int]:
    folder = work.root / ".git/dv/packs"
    return {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def there(work: Work, kind: str) -> set[str]:
    folder = work.root.parent / "remote" / kind
    return {path.name for path in folder.rglob("*") if path.is_file()}


def age(work: Work, days: float) -> None:
    """Make every pack and list in the local store older."""
    then = time.time() - days * DAY_S
    for path in (work.root / ".git/dv").rglob("*"):
        if path.is_file() and path.parent.parent.name in ("packs", "shards"):
            os.utime(path, (then, then))


def forget(work: Work) -> None:
    """Take from git what is not reachable any more."""
    work.git("reflog", "expire", "--expire=now", "--all")
    work.git("gc", "-q", "--prune=now")


@pytest.fixture
def abandoned(work: Work) -> Work:
    """Two versions pushed; the newer one was reset away, and git has forgotten it."""
    work.write("data/a.bin", noise(300_000, 1))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.write("data/b.bin", noise(400_000, 2))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.dv("checkout")
    (work.root / "data/b.bin").unlink(missing_ok=True)
    return work


def test_gc_keeps_what_the_reflog_has(abandoned: Work) -> None:
    before = packs(abandoned)
    assert abandoned.dv("gc").out == "nothing to free\n"
    assert packs(abandoned) == before


@pytest.mark.parametrize("keep", ["all", "unpushed"])
def test_gc_frees_nothing_that_rotted_on_the_remote(abandoned: Work, keep: str) -> None:
    """Every pack there has its size; the copies here are the last good ones."""
    forget(abandoned)
    if keep == "unpushed":
        abandoned.dv("config", "store.keep", "unpushed")
    before = packs(abandoned)
    for name in there(abandoned, "packs"):
        path = abandoned.root.parent / "remote/packs" / name[:2] / name
        rotten = bytearray(path.read_bytes())
        rotten[len(rotten) // 3] ^= 1
        path.write_bytes(rotten)
    dry = abandoned.dv("gc", "--dry-run", "--json").json
    assert dry["read_back_bytes"] > 390_000
    ran = abandoned.dv("gc")
    assert "back from" in ran.err
    assert "holds damaged objects" in ran.err
    assert "dv fsck --remote origin --deep --repair" in ran.err
    assert packs(abandoned) == before


def test_gc_frees_no_list_that_rotted_on_the_remote(work: Work) -> None:
    for number in range(1_050):
        work.write(f"data/{number:04}", b"%d" % number)
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.git("checkout", "-q", "--orphan", "new")
    work.git("rm", "-qf", "data.dv.json")
    work.git("commit", "-q", "-m", "without")
    work.git("branch", "-q", "-D", "main")
    forget(work)
    lists = {path.name for path in (work.root / ".git/dv/shards").rglob("*") if path.is_file()}
    victim = sorted(lists & there(work, "shards"))[0]
    path = work.root.parent / "remote/shards" / victim[:2] / victim
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    work.dv("gc")
    left = {path.name for path in (work.root / ".git/dv/shards").rglob("*") if path.is_file()}
    assert victim in left


def test_gc_frees_what_the_remote_has_and_nothing_needs(abandoned: Work) -> None:
    forget(abandoned)
    before = sum(packs(abandoned).values())
    dry = abandoned.dv("gc", "--dry-run").out
    assert dry.startswith("would free 390.6 KiB")
    assert sum(packs(abandoned).values()) == before
    ran = abandoned.dv("gc", "--json").json
    assert ran["chunk_bytes"] == 400_000
    assert 390_000 < ran["freed_bytes"] < 410_000
    assert sum(packs(abandoned).values()) == before - ran["freed_bytes"]
    assert abandoned.dv("gc").out == "nothing to free\n"
    shutil.rmtree(abandoned.root / "data")
    abandoned.dv("checkout", "--no-fetch")
    assert abandoned.read("data/a.bin") == noise(300_000, 1)


def test_gc_keeps_what_no_remote_has_unless_asked(abandoned: Work) -> None:
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    forget(abandoned)
    age(abandoned, days=15)
    before = packs(abandoned)
    ran = abandoned.dv("gc")
    assert ran.out == "nothing to free\n"
    assert "dv gc --unpushed" in ran.err
    assert packs(abandoned) == before
    assert abandoned.dv("gc", "--unpushed", "--dry-run", "--json").json["chunk_bytes"] == 400_000
    abandoned.dv("gc", "--unpushed")
    assert len(packs(abandoned)) == 1
    shutil.rmtree(abandoned.root / "data")
    abandoned.dv("checkout", "--no-fetch")
    assert abandoned.read("data/a.bin") == noise(300_000, 1)


def test_a_dry_run_says_what_goes_and_what_stays(abandoned: Work) -> None:
    """What is no more needed and on no remote is counted as what the run will make of it."""
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    forget(abandoned)
    kept = "390.6 KiB that nothing here needs are on no remote and stay"
    young = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert young.lines[0] == "nothing to free"
    assert f"{kept}; they are younger than --grace" in young.err
    assert f"{kept}; to free them when they are old enough" in abandoned.dv("gc", "--dry-run").err
    age(abandoned, days=15)
    dry = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert dry.lines[0].startswith("would free 390.6 KiB in ")
    assert "stay" not in dry.out + dry.err
    assert abandoned.dv("gc", "--unpushed", "--dry-run", "--json").json["kept_unpushed_bytes"] == 0
    assert f"{kept}; to free them" in abandoned.dv("gc", "--dry-run").err
    real = abandoned.dv("gc", "--unpushed")
    assert real.out.startswith("freed 391.0 KiB; ")
    assert "stay" not in real.out + real.err


def test_a_dry_run_names_the_commits_that_would_lose_data(abandoned: Work) -> None:
    lost = abandoned.git("rev-parse", "ORIG_HEAD")
    assert abandoned.dv("gc", "--dry-run").lines[-1] == "no commit would lose data"
    # Nothing refers to the commit any more, but git has not yet removed it.
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    ran = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert ran.lines[-1] == "no commit would lose data", "the remote has it"
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    ran = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert ran.lines[-1].endswith(f"would lose data which no remote has: {lost[:10]}")
    assert abandoned.dv("gc", "--unpushed", "--dry-run", "--json").json["losing"] == [lost]
    assert abandoned.dv("gc", "--dry-run", "--json").json["losing"] == []
    abandoned.git("gc", "-q", "--prune=now")
    ran = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert ran.lines[-1] == "no commit would lose data"


def object_path(work: Work, name: str) -> Path:
    """The file of a loose object; `name` as `git rev-parse` takes it."""
    object_id = work.git("rev-parse", name)
    return work.root / ".git/objects" / object_id[:2] / object_id[2:]


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"no object at all")


@pytest.mark.parametrize("lost", ["^{tree}", ":sub", ":sub/more.dv.json", "^", "^^{tree}"])
@pytest.mark.parametrize("harm", [Path.unlink, overwrite])
def test_a_dry_run_gets_by_what_git_has_lost(
    abandoned: Work, lost: str, harm: Callable[[Path], None]
) -> None:
    """Of two commits that nothing refers to, one behind the other, something of the second."""
    first = abandoned.git("rev-parse", "ORIG_HEAD")
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    abandoned.git("reset", "-q", "--hard", first)
    abandoned.write("sub/more.dv.json", '{"dv": 1, "kind": "dir", "entries": {}}')
    second = abandoned.commit("second")
    path = object_path(abandoned, second + lost)
    abandoned.git("reset", "-q", "--hard", "HEAD~2")
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    harm(path)
    ran = abandoned.dv("gc", "--unpushed", "--dry-run")
    got = abandoned.dv("gc", "--unpushed", "--dry-run", "--json").json
    # What is of the second only leaves the first as it was, and the other way round.
    whole = {first} if lost in ("^{tree}", ":sub", ":sub/more.dv.json") else {second}
    if lost in (":sub/more.dv.json",):
        whole.add(second)  # its other manifest is enough to know
    assert set(got["losing"]) == whole
    assert set(got["unread"]) == ({first, second} - whole if lost != "^" else set())
    for commit in got["unread"]:
        assert f"is not known: {commit[:10]}\n" in ran.err
    assert ran.lines[-1].startswith("1 commit" if len(whole) == 1 else "2 commits")
    assert abandoned.dv("gc", "--unpushed").out.startswith("freed")


def test_a_dry_run_in_which_no_commit_can_be_read(abandoned: Work) -> None:
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    path = object_path(abandoned, "ORIG_HEAD^{tree}")
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    path.unlink()
    ran = abandoned.dv("gc", "--unpushed", "--dry-run")
    assert "warning: 1 commit that nothing refers to cannot be read in full" in ran.err
    assert ran.lines[-1] == "no commit that can be read would lose data"


def test_a_dry_run_starts_as_many_gits_for_many_commits(
    abandoned: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.git import process

    started: list[object] = []
    real = process._start

    def start(args: Any, *rest: Any, **options: Any) -> Any:
        started.append(args)
        return real(args, *rest, **options)

    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    tip = abandoned.git("rev-parse", "ORIG_HEAD")
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    monkeypatch.setattr(process, "_start", start)
    counts = []
    for commits in (1, 11):
        while (
            len(seen := abandoned.dv("gc", "--unpushed", "-n", "--json").json["losing"]) < commits
        ):
            tree = f"{tip}^{{tree}}"
            tip = abandoned.git("commit-tree", "-p", tip, "-m", "more", tree)
        assert len(seen) == commits
        started.clear()
        abandoned.dv("gc", "--unpushed", "--dry-run")
        counts.append(len(started))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("remote", [False, True])
def test_gc_frees_nothing_on_the_word_of_a_manifest_that_git_has_lost(
    abandoned: Work, remote: bool
) -> None:
    """A branch has it, so `git fetch` may bring it back: what it names is needed, and not known."""
    abandoned.git("branch", "newer", "ORIG_HEAD")
    path = object_path(abandoned, "newer:data.dv.json")
    path.rename(abandoned.root / "lost")
    if not remote:
        shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    age(abandoned, days=15)
    args = ("--remote", "--expire", "--grace", "0d") if remote else ("--unpushed",)
    before = packs(abandoned)
    ran = abandoned.dv("gc", *args, code=4)
    assert "git has no object" in ran.err and "git fetch" in ran.err
    assert packs(abandoned) == before
    path.parent.mkdir(exist_ok=True)
    (abandoned.root / "lost").rename(path)
    abandoned.dv("gc", *args)
    abandoned.dv("checkout", "newer", *([] if remote else ["--no-fetch"]), "--", "data")
    assert abandoned.read("data/b.bin") == noise(400_000, 2)


@pytest.mark.parametrize("place", ["history", "worktree"])
def test_gc_frees_nothing_on_the_word_of_a_manifest_of_a_later_format(
    abandoned: Work, place: str
) -> None:
    """What it names, a later version of dvtool knows."""
    abandoned.write("later.dv.json", '{"dv": 2, "kind": "dir", "trees": {"a": [1]}}\n')
    if place == "history":
        abandoned.commit("later")
        abandoned.git("rm", "-q", "later.dv.json")
        abandoned.commit("and gone again")
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    before = packs(abandoned)
    for args in (["--unpushed"], ["--unpushed", "-n"], ["--remote", "--expire", "--grace", "0d"]):
        ran = abandoned.dv("gc", *args, code=6)
        assert "later.dv.json: is of format 2" in ran.err
        assert "newer dvtool" in ran.err
    assert packs(abandoned) == before
    abandoned.dv("gc")
    assert sum(packs(abandoned).values()) < sum(before.values())


def test_a_dry_run_says_that_a_later_format_is_not_known(abandoned: Work) -> None:
    lost = abandoned.git("rev-parse", "ORIG_HEAD")
    shutil.rmtree(abandoned.root.parent / "remote" / "roots")
    abandoned.write("later.dv.json", '{"dv": 2, "kind": "dir", "trees": {"a": [1]}}\n')
    later = abandoned.commit("later")
    abandoned.git("reset", "-q", "--hard", "HEAD~1")
    abandoned.git("update-ref", "-d", "ORIG_HEAD")
    abandoned.git("reflog", "expire", "--expire=now", "--all")
    age(abandoned, days=15)
    ran = abandoned.dv("gc", "--unpushed", "--dry-run", "--json").json
    assert (ran["losing"], ran["unread"]) == ([lost], [later])


def test_gc_keeps_what_is_young(work: Work) -> None:
    work.write("data/a.bin", noise(100_000, 1))
    work.dv("add", "data")
    work.commit()
    work.write("data/b.bin", noise(100_000, 2))
    work.dv("add", "data")
    work.git("reset", "-q", "--hard")
    (work.root / "data/b.bin").unlink()
    assert work.dv("gc", "--unpushed").out == "nothing to free\n"
    assert len(packs(work)) == 2
    assert "freed" in work.dv("gc", "--unpushed", "--grace", "0d").out
    assert len(packs(work)) == 1
    age(work, days=15)
    work.dv("gc", "--unpushed")
    assert len(packs(work)) == 1


def unreachable_but_for(work: Work, how: str) -> None:
    """Leave content of `data` that only one thing in git or a worktree still names."""
    work.write("data/a.bin", noise(100_000, 1))
    work.dv("add", "data")
    work.commit()
    work.write("data/b.bin", noise(100_000, 2))
    work.dv("add", "data")
    if how == "index":
        work.git("show", "HEAD:data.dv.json")
        (work.root / "data.dv.json").write_bytes(
            work.git("show", "HEAD:data.dv.json").encode() + b"\n"
        )
    elif how == "worktree file":
        work.git("restore", "--staged", "data.dv.json")
    elif how == "stash":
        work.git("stash", "-q")
    elif how == "reflog":
        work.commit()
        work.git("reset", "-q", "--hard", "HEAD~1")
        (work.root / ".git/ORIG_HEAD").unlink()
    elif how == "ORIG_HEAD":
        work.commit()
        work.git("reset", "-q", "--hard", "HEAD~1")
        work.git("reflog", "expire", "--expire=now", "--all")
    elif how == "other worktree":
        work.git("worktree", "add", "-q", "../second", "HEAD")
        second = Work(work.root.parent / "second")
        second.write("data.dv.json", work.read("data.dv.json"))
        second.git("add", "data.dv.json")
        work.git("reset", "-q", "--hard")
    elif how == "worktree that is not mounted":
        unreachable_but_for_rest(work)
    elif how == "saved":
        place = work.root / ".git/dv/saved/1.dv.json"
        place.parent.mkdir()
        place.write_bytes(work.read("data.dv.json"))
        work.git("reset", "-q", "--hard")
    elif how == "detached HEAD":
        work.git("checkout", "-q", "--detach")
        work.commit()
        work.git("reflog", "expire", "--expire=now", "--all")
    elif how == "merge":
        work.commit()
        theirs = work.git("rev-parse", "HEAD")
        work.git("reset", "-q", "--hard", "HEAD~1")
        work.write("data/c.bin", noise(1_000, 3))
        (work.root / "data/b.bin").unlink()
        work.dv("add", "data")
        work.commit()
        work.git("merge", "-q", "--no-commit", "--no-ff", "-s", "ours", theirs)
        (work.root / ".git/ORIG_HEAD").unlink(missing_ok=True)
        work.git("reflog", "expire", "--expire=now", "--all")
    elif how == "rebase":
        work.commit()
        work.git("commit", "-q", "--allow-empty", "-m", "next")
        editor = "sed -i 1s/pick/edit/"
        work.git("-c", f"sequence.editor={editor}", "rebase", "-q", "-i", "--root")
        work.git("update-ref", "-d", "refs/heads/main")
        (work.root / ".git/ORIG_HEAD").unlink(missing_ok=True)
        work.git("reflog", "expire", "--expire=now", "--all")


def unreachable_but_for_rest(work: Work) -> None:
    unreachable = work.read("data.dv.json")
    work.git("worktree", "add", "-q", "../second", "HEAD")
    second = Work(work.root.parent / "second")
    second.write("data.dv.json", unreachable)
    second.git("add", "data.dv.json")
    work.git("reset", "-q", "--hard")
    shutil.move(second.root, second.root.parent / "elsewhere")


@pytest.mark.parametrize(
    "how",
    [
        "index", "worktree file", "stash", "reflog", "ORIG_HEAD", "other worktree", "saved",
        "worktree that is not mounted", "detached HEAD", "merge", "rebase",
    ],
)  # fmt: skip
def test_gc_keeps_what_can_still_be_asked_for(work: Work, how: str) -> None:
    unreachable_but_for(work, how)
    age(work, days=30)
    before = packs(work)
    assert work.dv("gc", "--unpushed").out == "nothing to free\n"
    assert packs(work) == before


def test_gc_of_what_no_one_names_at_all(work: Work) -> None:
    """The counterpart of the test above: without any of these it does go."""
    unreachable_but_for(work, "reflog")
    forget(work)
    age(work, days=30)
    work.dv("gc", "--unpushed")
    assert len(packs(work)) == 1


def test_gc_merges_small_packs(work: Work) -> None:
    for number in range(12):
        work.write(f"data/{number}", noise(70_000 + number, number))
        work.dv("add", "data")
        work.commit()
    assert len(packs(work)) == 12
    assert "12 to merge" in work.dv("gc", "--dry-run").out
    work.dv("gc")
    assert len(packs(work)) == 1
    assert work.dv("gc").out == "nothing to free\n"
    shutil.rmtree(work.root / "data")
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (work.root / ".git/dv" / name).unlink(missing_ok=True)
    work.dv("checkout", "--no-fetch")
    assert work.read("data/11") == noise(70_011, 11)


def test_gc_with_keep_unpushed_frees_what_is_used_too(abandoned: Work) -> None:
    abandoned.dv("config", "store.keep", "unpushed", "--local")
    abandoned.write("data/new.bin", noise(50_000, 9))
    abandoned.dv("add", "data")
    abandoned.commit()
    abandoned.dv("gc")
    # What was not pushed stays, with all that its manifest names.
    assert abandoned.dv("cat", "data/new.bin").raw == noise(50_000, 9)
    abandoned.dv("push")
    abandoned.dv("gc")
    assert not packs(abandoned)
    shutil.rmtree(abandoned.root / "data")
    abandoned.dv("pull")
    assert abandoned.read("data/a.bin") == noise(300_000, 1)


def test_gc_sweeps_unfinished_files(pushed: Work) -> None:
    name = ".dv-tmp-123-0123456789ab"
    pushed.git("worktree", "add", "-q", "../tree")
    tree = Work(pushed.root.parent / "tree")
    left = [
        work.write(f"{folder}{name}", b"x" * 1000)
        for work, folder in [
            (pushed, ""), (pushed, "data/"), (pushed, "data/images/sub/"), (pushed, "code/deep/"),
            (tree, "data/"),
        ]
    ]  # fmt: skip
    hour = time.time() - 3601
    for path in left:
        os.utime(path, (hour, hour))
    assert not pushed.git("status", "--porcelain", "-uall"), "git is not shown them"
    assert not tree.git("status", "--porcelain", "-uall")
    in_store = [
        pushed.write(f".git/dv/{folder}/{name}", b"x" * 1000) for folder in ("tmp", "packs/ab")
    ]
    old = time.time() - 3 * DAY_S
    for path in in_store:
        os.utime(path, (old, old))
    left += [  # as an import that was killed left it
        pushed.write(f"{folder}/staged-123-0123456789ab/a/b", b"x" * 1000)
        for folder in (".git/dv", ".git/worktrees/tree/dv")
    ]
    young = pushed.write("data/images/.dv-tmp-123-ffffffffffff")
    mine = [pushed.write(f"{folder}/.dv-tmp-mine") for folder in ("data/images", "code")]
    tracked = pushed.write(f"lib/{name}")
    pushed.git("add", "-f", str(tracked))
    for path in (*mine, tracked):
        os.utime(path, (old, old))
    assert ".dv-tmp-mine" in pushed.git("status", "--porcelain", "-uall")
    pushed.dv("gc", "--dry-run")
    assert all(path.exists() for path in (*left, *in_store))
    ran = pushed.dv("gc", "--json").json
    assert ran["freed_bytes"] >= 1000 * len(left + in_store)
    assert not any(path.exists() for path in (*left, *in_store))
    assert not [*pushed.root.glob(".git/**/staged*")]
    assert tracked.exists()
    assert young.exists()
    assert all(path.exists() for path in mine)


def test_what_git_is_told_to_pass_over_is_added_once(data: Work) -> None:
    exclude = data.root / ".git/info/exclude"
    exclude.write_text("own line, without an end")
    data.dv("add", "data/images")
    data.dv("add", "data/table.csv")
    first, second = exclude.read_text().splitlines()
    assert first == "own line, without an end"
    assert second.startswith(".dv-tmp-")
    shutil.rmtree(exclude.parent)
    exclude.parent.write_text("in the way")
    data.write("data/table.csv", "other")
    data.dv("add", "data/table.csv")


def test_gc_when_the_remote_cannot_be_reached(abandoned: Work) -> None:
    forget(abandoned)
    shutil.move(abandoned.root.parent / "remote", abandoned.root.parent / "unplugged")
    before = packs(abandoned)
    ran = abandoned.dv("gc")
    assert "warning: remote origin was not asked" in ran.err
    assert packs(abandoned) == before


def test_gc_believes_no_damaged_remote(abandoned: Work) -> None:
    forget(abandoned)
    for pack in (abandoned.root.parent / "remote/packs").rglob("*"):
        if pack.is_file():
            os.truncate(pack, pack.stat().st_size - 1)
    before = packs(abandoned)
    abandoned.dv("gc")
    assert packs(abandoned) == before


def test_gc_remote_by_the_command_line(pushed: Work) -> None:
    remote = pushed.root.parent / "remote"
    (remote / "shards/07").mkdir()
    (remote / "shards/07" / ("07" * 32)).write_bytes(b"stray")
    assert pushed.dv("gc", "--remote", "-n").out.splitlines() == [
        "would bury 1 object, 5 B", "all that was pushed there stays whole",
    ]  # fmt: skip
    assert "buried 1 object, 5 B" in pushed.dv("gc", "--remote").out
    ran = pushed.dv("gc", "--remote=origin")
    assert "nothing is dead that is not buried already" in ran.out
    assert "waiting: 1 object, due in 14 days" in ran.out
    assert "took back 1 tombstone" in pushed.dv("gc", "--remote", "--undo").out
    assert pushed.dv("gc", "--remote", "--json").json["dead"] == 1
    ran = pushed.dv("gc", "--remote", "--grace", "0d")
    assert ran.lines[0] == "removed 1 object, 5 B"
    assert not (remote / "shards/07" / ("07" * 32)).exists()
    assert pushed.dv("gc", "--remote", "--undo").out == "nothing was buried there\n"


@pytest.mark.parametrize(
    "args",
    [
        ("--expire",), ("--undo",), ("--remote", "--unpushed"), ("--grace", "soon"),
        ("--remote", "--undo", "--expire"),
    ],
)  # fmt: skip
def test_gc_refuses_what_makes_no_sense(pushed: Work, args: tuple[str, ...]) -> None:
    assert "hint" in pushed.dv("gc", *args, code=2).err or args[-1] == "--expire"


def test_gc_remote_before_any_push(data: Work) -> None:
    assert "dv push" in data.dv("gc", "--remote", code=3).err


def test_remote_roots_by_the_command_line(pushed: Work) -> None:
    own = pushed.git("config", "--file", ".dvconfig", "core.repoid")
    assert pushed.dv("remote", "roots").out.startswith(f"* {own}  2 manifests in 1 root, ")
    assert pushed.dv("remote", "roots", "--json").json["repositories"][0]["this"]
    assert "not gone" in pushed.dv("remote", "roots", "--retire", own, code=2).err
    assert "no roots" in pushed.dv("remote", "roots", "--retire", "0" * 32, code=2).err


POINTS = ["plan", "locks", "apply", "adopt", "replace_packs", "finish"]


@pytest.mark.parametrize("point", POINTS)
def test_an_add_at_any_moment_of_a_gc_loses_nothing(
    work: Work, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The add relies on content that the gc has planned to remove, and that is nowhere else."""
    from dvtool.store.database import Database
    from dvtool.store.local import LocalStore
    from dvtool.verbs.gc import local as store_gc

    unreachable_but_for(work, "reflog")
    forget(work)
    work.write("other/c.bin", noise(200_000, 4))
    work.dv("add", "other")
    work.git("reset", "-q", "--hard")
    age(work, days=30)
    work.write("again/b.bin", noise(100_000, 2))
    started: list[subprocess.Popen[bytes]] = []
    owner, name = {
        "plan": (store_gc, "candidates"),
        "locks": (store_gc, "all_worktrees_locked"),
        "apply": (store_gc, "apply_gc"),
        "adopt": (LocalStore, "adopt"),
        "replace_packs": (Database, "replace_packs"),
        "finish": (store_gc, "sweep_unfinished"),
    }[point]
    real = getattr(owner, name)

    def beside(*args: Any, **kwargs: Any) -> Any:
        if not started:
            add = subprocess.Popen(command("add", "again"), cwd=work.root, stderr=subprocess.PIPE)
            started.append(add)
            if point in ("plan", "locks"):
                assert add.wait(60) == 0  # nothing keeps it waiting
            else:
                with pytest.raises(subprocess.TimeoutExpired):
                    add.wait(1.5)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, beside)
    work.dv("gc", "--unpushed", "--grace", "1d")
    assert started[0].wait(60) == 0
    if started[0].stderr is not None:
        started[0].stderr.close()
    shutil.rmtree(work.root / "again")
    work.dv("checkout", "--no-fetch", "--", "again")
    assert work.read("again/b.bin") == noise(100_000, 2)
    work.dv("gc")


def test_gc_interrupted_anywhere_and_repeated(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvtool.store import freeing, local

    for number in range(10):
        work.write(f"data/{number}", noise(70_000 + number, number))
        work.dv("add", "data")
        work.commit()

    class Killed(BaseException):
        pass

    left = 0
    names = ("replace", "unlink", "fsync", "utime", "makedirs")

    def counted(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return getattr(os, name)(*args, **kwargs)

        return staticmethod(call)

    points = 0
    done = False
    while not done:
        left = points
        fake = type("os", (), {**vars(os), **{name: counted(name) for name in names}})
        copy = Work(work.root.parent / "copy")
        shutil.copytree(work.root, copy.root, symlinks=True)
        with monkeypatch.context() as patch:
            for module in (local, freeing):
                patch.setattr(module, "os", fake)
            # As kill -9 would: no handler runs in between that knows of this exception.
            try:
                copy.dv("gc")
                done = True
            except AssertionError:  # its exit code is not 0
                done = False
        copy.dv("gc")
        assert len(packs(copy)) == 1
        shutil.rmtree(copy.root / "data")
        copy.dv("checkout", "--no-fetch")
        assert copy.read("data/9") == noise(70_009, 9)
        shutil.rmtree(copy.root)
        points += 1
    assert points > 10


@pytest.fixture
def fork(work: Work) -> Work:
    """A fork of a repository, with its id, that has not heard of the newer version upstream."""
    upstream = work.root.parent / "upstream.git"
    work.git("init", "-q", "--bare", str(upstream))
    work.git("remote", "add", "origin", str(upstream))
    work.write("data/a.bin", noise(50_000, 1))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.git("push", "-q", "origin", "HEAD:refs/heads/main")
    work.git("clone", "-q", "--bare", str(upstream), str(work.root.parent / "fork.git"))
    forked = Work(work.root.parent / "fork")
    work.git("clone", "-q", "-b", "main", str(work.root.parent / "fork.git"), str(forked.root))
    forked.dv("init", "--remote", str(work.root.parent / "remote"))
    forked.dv("pull")
    work.write("data/a.bin", noise(50_000, 2))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    return forked


def test_expire_in_a_fork_leaves_what_upstream_pushed(work: Work, fork: Work) -> None:
    before = there(work, "packs")
    assert (
        "1 manifest of this repository that no commit here ever had"
        in fork.dv("gc", "--remote", "--expire", "--grace", "0d", "--dry-run").out
    )
    for _ in range(3):
        ran = fork.dv("gc", "--remote", "--expire", "--grace", "0d", "--json").json
        assert (ran["unseen"], ran["expired"], ran["removed"]) == (1, [], 0)
    assert there(work, "packs") >= before
    clone = work.clone()
    clone.dv("pull")
    assert clone.read("data/a.bin") == noise(50_000, 2)


def test_expire_gives_up_what_was_pushed_from_here_though_git_forgot_it(work: Work) -> None:
    """Git has no commit any more that had it; the push remembered it."""
    work.write("data/a.bin", noise(50_000, 1))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    work.write("data/a.bin", noise(50_000, 2))
    work.dv("add", "data")
    work.git("add", "-A")
    work.git("commit", "-q", "--amend", "-m", "again")
    work.dv("push")
    forget(work)
    ran = work.dv("gc", "--remote", "--expire", "--grace", "0d", "--json").json
    assert (len(ran["expired"]), ran["unseen"]) == (1, 0)


def test_what_another_clone_gave_up_is_removed_only_where_it_was_seen(
    work: Work, fork: Work
) -> None:
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.dv("checkout", "--force")
    forget(work)
    args = ("gc", "--remote", "--expire", "--grace", "0d")
    assert len(work.dv(*args, "--json").json["expired"]) == 1
    ran = fork.dv(*args)
    assert "another clone gave up 1 manifest that" in ran.err
    assert "waiting" in ran.out
    assert work.dv(*args, "--json").json["removed"] > 0


def test_objects_that_git_still_has_show_what_this_clone_saw(work: Work) -> None:
    """Whatever was remembered is lost, and no ref leads to the commit; git has it still."""
    work.write("data/a.bin", noise(50_000, 1))
    work.dv("add", "data")
    first = work.commit()
    work.write("data/a.bin", noise(50_000, 2))
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (work.root / ".git/dv" / name).unlink(missing_ok=True)
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.git("reflog", "expire", "--expire=now", "--all")
    (work.root / ".git/ORIG_HEAD").unlink(missing_ok=True)
    assert first == work.git("rev-parse", "HEAD")
    ran = work.dv("gc", "--remote", "--expire", "--grace", "0d", "--json").json
    assert (len(ran["expired"]), ran["unseen"]) == (1, 0)
