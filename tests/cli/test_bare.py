"""Reading in a bare repository, where HEAD stands for the worktree that is not there."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Work


@pytest.fixture
def mirror(pushed: Work) -> Work:
    """A bare clone of two commits, with nothing in its store."""
    pushed.write("data/table.csv", "newer")
    pushed.dv("add", "data/table.csv")
    pushed.commit("Second")
    pushed.dv("push")
    place = pushed.root.parent / "mirror.git"
    pushed.git("clone", "-q", "--bare", str(pushed.root), str(place))
    work = Work(place)
    work.dv("remote", "add", "origin", pushed.root.parent / "remote")
    return work


def test_ls_and_cat(mirror: Work) -> None:
    assert mirror.dv("ls").lines == [
        "data/images/a.txt",
        "data/images/b.txt",
        "data/images/sub/c.txt",
        "data/table.csv",
    ]
    assert mirror.dv("ls", "data/images/sub", cwd="refs").out == "data/images/sub/c.txt\n"
    assert mirror.dv("cat", "data/table.csv").out == "newer"
    assert mirror.dv("cat", "--rev", "HEAD~1", "data/table.csv").out == "x,y\n1,2\n"


def test_describe_log_and_diff(pushed: Work, mirror: Work) -> None:
    assert mirror.dv("describe", "--json", "HEAD").json == (
        pushed.dv("describe", "--json", "HEAD").json
    )
    mirror.dv("describe")
    assert "Second" in mirror.dv("log", "data/table.csv").out
    assert "1 modified" in mirror.dv("diff", "HEAD~1", "HEAD").out
    assert "data/table.csv" in mirror.dv("diff", "HEAD~1", "HEAD", "--", "data/table.csv").out


def test_fetch(mirror: Work) -> None:
    assert "4 files" in mirror.dv("fetch").out
    assert "1 file" in mirror.dv("fetch", "HEAD~1").out
    assert mirror.dv("fetch").out.startswith("nothing to fetch")
    assert "mirror.git/dv/packs" in str(next((mirror.root / "dv/packs").iterdir()))


@pytest.mark.parametrize(
    "args",
    [
        ("add", "data"),
        ("status",),
        ("checkout",),
        ("pull",),
        ("rm", "data/table.csv"),
        ("mv", "data/table.csv", "data/x"),
        ("drop", "data"),
        ("diff",),
        ("diff", "HEAD"),
        ("init",),
        ("remote", "add", "other", "s3://bucket"),
        ("config", "core.remote", "origin"),
    ],
)
def test_other_commands_say_why_not(mirror: Work, args: tuple[str, ...]) -> None:
    ran = mirror.dv(*args, code=3)
    assert "bare repository" in ran.err
    assert "git worktree add" in ran.err
    assert not (mirror.root / "dv/no-worktree").exists()


def test_a_worktree_of_a_bare_repository_is_whole(mirror: Work) -> None:
    mirror.git("worktree", "add", "-q", "../tree", "HEAD")
    tree = Work(mirror.root.parent / "tree")
    tree.dv("pull")
    assert tree.read("data/table.csv") == b"newer"
    assert tree.dv("status", "--exit-code").out.startswith("Clean: 2 targets")
    # One store for both.
    assert mirror.dv("fetch").out.startswith("nothing to fetch")


def test_an_empty_bare_repository(bare: Work) -> None:
    bare.git("init", "-q", "--bare", "../empty.git")
    empty = Work(bare.root.parent / "empty.git")
    assert "dv init" in empty.dv("ls", code=3).err


def test_inside_the_git_folder(pushed: Work) -> None:
    assert "data/table.csv" in Work(pushed.root / ".git").dv("ls").lines
    Work(pushed.root / ".git").dv("status", code=3)


def test_fsck(pushed: Work, mirror: Work) -> None:
    assert mirror.dv("fsck", "--workspace").lines[-1].startswith("what is here is whole; ")
    mirror.dv("fetch", "HEAD~1", "HEAD")
    assert mirror.dv("fsck", "--remote", "--deep").lines[-1] == "all of it is whole"
    pack = max((mirror.root / "dv/packs").glob("*/*"), key=lambda path: path.stat().st_size)
    pack.write_bytes(bytes(byte ^ 0x55 for byte in pack.read_bytes()))
    damaged = mirror.dv("fsck", "--json", code=6).json["damage"]
    assert [one["kind"] for one in damaged] == ["pack"]
    assert damaged[0]["targets"] and damaged[0]["commits"]
    mirror.dv("fsck", "--repair")
    assert mirror.dv("fsck").lines[-1] == "all of it is whole"
    mirror.dv("fsck", "--rebuild")
    assert mirror.dv("cat", "data/table.csv").out == "newer"
    assert mirror.dv("cat", "--rev", "HEAD~1", "data/table.csv").out == "x,y\n1,2\n"
    (pushed.root.parent / "remote/packs").rename(pushed.root.parent / "lost")
    mirror.dv("fsck", "--remote", "--repair")
    assert mirror.dv("fsck", "--remote", "--deep").lines[-1] == "all of it is whole"
