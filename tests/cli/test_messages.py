"""Messages that say the cause, the whole path or place, and a next step that works."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dvtool.workspace.files import Workspace
from tests.cli.conftest import Work

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


# Remotes


def test_the_default_remote_is_marked_as_push_uses_it(pushed: Work, tmp_path: Path) -> None:
    pushed.dv("config", "--unset", "core.remote", code=None)
    pushed.dv("remote", "add", "backup", tmp_path / "backup")
    shown = pushed.dv("remote", "list").out.splitlines()
    assert [line[:1] for line in shown] == [" ", "*"]
    rows = pushed.dv("remote", "list", "--json").json["remotes"]
    assert {row["name"]: row["default"] for row in rows} == {"backup": False, "origin": True}
    assert str(tmp_path / "remote") in pushed.dv("push").out


def test_a_part_of_a_remote_is_said_to_be_where_it_went(bare: Work) -> None:
    bare.dv("init")
    ran = bare.dv("remote", "add", "s3", "s3://bucket/p", "--profile", "work")
    assert "in .dvconfig, for every clone" in ran.err
    assert "profile: is in .git/config, for this clone only" in ran.err
    ran = bare.dv("remote", "set", "s3", "--profile", "other")
    assert "profile: is in .git/config, for this clone only" in ran.err
    assert ".dvconfig" not in ran.err
    assert ".git/config" not in bare.dv("remote", "set", "s3", "--region", "eu-west-1").err


def test_what_came_from_another_remote_is_said_to_come_from_it(
    pushed: Work, tmp_path: Path
) -> None:
    clone = pushed.clone()
    pushed.dv("remote", "add", "b", tmp_path / "b")
    clone.dv("remote", "add", "b", tmp_path / "b")
    pushed.write("data/images/new", "on b alone")
    pushed.dv("add", "data/images")
    pushed.commit("new")
    pushed.dv("push", "--remote", "b")
    clone.git("-c", "core.hooksPath=/dev/null", "pull", "-q")
    fetched = clone.dv("fetch", "--", "data/images/new")
    assert fetched.out.startswith(f"fetched from {tmp_path / 'b'}: 1 file")
    whole = pushed.clone(name="another")
    whole.dv("remote", "add", "b", tmp_path / "b")
    got = whole.dv("fetch", "--json").json
    assert sorted(got["sources"]) == sorted({got["remote"], str(tmp_path / "b")})


@pytest.mark.parametrize("known", [True, False])
def test_a_push_names_the_remote_that_has_what_is_lacking(
    pushed: Work, tmp_path: Path, known: bool
) -> None:
    pushed.dv("remote", "add", "b", tmp_path / "b")
    pushed.write("data/images/new", "on b alone")
    pushed.dv("add", "data/images")
    pushed.commit("new")
    pushed.dv("push", "--remote", "b")
    clone = pushed.clone()
    clone.dv("remote", "add", "b", tmp_path / "b")
    if known:
        clone.dv("push", "--remote", "b")
    refused = clone.dv("push", code=4)
    assert "content of 1 file is neither here nor on" in refused.err
    assert f"{tmp_path / 'remote'}; nothing was published there" in refused.err
    said = "remote b has them" if known else "if remote b has them"
    assert f"hint: {said}: dv remote copy b origin" in refused.err
    clone.dv("remote", "copy", "b", "origin")
    clone.dv("push")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("S3://bucket/p", "s3://bucket/p"),
        ("s3://bucket//p/", "s3://bucket/p"),
        ("s3://bucket/", "s3://bucket"),
    ],
)
def test_a_url_is_kept_in_its_plain_form(bare: Work, url: str, kept: str) -> None:
    bare.dv("init")
    assert bare.dv("remote", "add", "origin", url).out == f"remote origin: {kept}\n"
    assert kept in bare.read(".dvconfig").decode()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("s3://bucket/a//b", "write s3://bucket/a/b"),
        ("s3://arn:aws:s3:::bucket", "write s3://bucket"),
        ("s3://arn:aws:s3:::bucket/p", "write s3://bucket/p"),
        ("s3://arn:aws:s3:eu-west-1:1234:accesspoint/mine/p", "--name mine says it"),
        ("arn:aws:s3:eu-west-1:1234:accesspoint/mine", "the alias is the bucket"),
        ("S3://B/p", "write s3://bucket/prefix"),
    ],
)
def test_a_url_that_is_refused_has_a_way(bare: Work, url: str, hint: str) -> None:
    bare.dv("init")
    ran = bare.dv("remote", "add", "origin", url, code=2)
    assert ran.err.count("hint:") == 1
    assert ran.err.rstrip().split("hint: ")[1].find(hint) >= 0
    assert bare.dv("remote", "list", "--json").json["remotes"] == []


# Paths, revisions and manifests


def test_a_manifest_that_git_lfs_took_is_named_as_that(pushed: Work) -> None:
    (pushed.root / "data/images.dv.json").write_bytes(POINTER)
    for command in (("status",), ("ls", "data/images"), ("pull",)):
        ran = pushed.dv(*command, code=6)
        assert "data/images.dv.json: git-lfs took the manifest" in ran.err
        assert "git check-attr filter -- data/images.dv.json" in ran.err
        assert "*.dv.json -filter" in ran.err


def test_a_clone_inside_a_target_is_named_in_one_line_with_a_way(work: Work) -> None:
    subprocess.run(["git", "init", "-q", str(work.root / "hf/ds")], check=True)
    work.write("hf/ds/x", "x")
    ran = work.dv("add", "hf", code=8)
    assert ran.err.count(".git is git's own") == 1
    assert ran.err.count("\n") <= 4
    alone = work.dv("add", "hf/ds", code=2)
    assert "echo .git >> .dvignore" in alone.err
    work.write(".dvignore", ".git\n")
    work.dv("add", "hf/ds")
    assert work.dv("ls", "hf/ds").out == "hf/ds/x\n"
    assert work.dv("status").out.startswith("Manifests")


def test_a_path_below_a_target_that_is_a_file(work: Work) -> None:
    work.write("single", "1")
    work.dv("add", "single")
    ran = work.dv("add", "single/x", code=2)
    assert "single/x would lie in the target single, which is one file" in ran.err
    assert "dv rm single" in ran.err


def test_a_move_into_another_target_says_how(work: Work) -> None:
    work.write("one/x", "1")
    work.write("two/y", "2")
    work.dv("add", "one", "two")
    assert "then dv add two" in work.dv("mv", "one", "two/one", code=2).err


def test_a_revision_that_a_shallow_clone_lacks(pushed: Work, tmp_path: Path) -> None:
    pushed.write("code", "x")
    pushed.commit("two")
    place = tmp_path / "shallow"
    pushed.git("clone", "-q", "--depth", "1", f"file://{pushed.root}", str(place))
    ran = Work(place).dv("diff", "HEAD~1", code=2)
    assert "git fetch --unshallow" in ran.err
    assert "unshallow" not in pushed.dv("diff", "nosuch", code=2).err
    for command in ("log", "show", "cat", "drop"):
        ran = Work(place).dv(command, "HEAD~1:data/table.csv", code=2)
        assert "git fetch --unshallow" in ran.err
    assert "git fetch --unshallow" in Work(place).dv("show", "HEAD~1", code=2).err


def test_the_hint_of_status_undoes_an_edit(pushed: Work) -> None:
    pushed.write("data/table.csv", "edited")
    shown = pushed.dv("status").out
    hint = shown.split("keeps them, ")[1].split(" undoes")[0]
    assert hint == "dv restore data/table.csv"
    pushed.dv(*hint.split()[1:])
    assert pushed.dv("status").out.startswith("Clean")


# Disks and streams


def test_errors_of_the_system_have_the_whole_path(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(str(work.root)) as workspace:
        workspace.make_folder("data")
        real = os.open

        def refuse(path: str, flags: int, *args: int, **options: int) -> int:
            if flags & os.O_CREAT:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return real(path, flags, *args, **options)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(PermissionError) as caught:
            workspace.write_bytes("data/x", b"x")
    assert caught.value.filename == str(work.root / "data/x")


def test_a_disk_without_links_is_written_to_all_the_same(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "/proc/self/fd/11", None, "a")

    work.write("data/a", "1")
    work.dv("add", "data")
    (work.root / "data/a").unlink()
    monkeypatch.setattr(os, "link", refuse)
    work.dv("checkout")
    assert work.read("data/a") == b"1"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_command_works_with_a_closed_stream(pushed: Work, stream: str) -> None:
    line = f"{sys.executable} -m dvtool status {stream}>&-"
    ran = subprocess.run(["bash", "-c", line], cwd=pushed.root, capture_output=True, check=False)
    assert ran.returncode == 0
    assert ran.stdout.startswith(b"Clean") == (stream == "2")


def test_a_store_in_the_worktree_is_not_for_git(work: Work) -> None:
    work.dv("config", "--local", "store.path", "packs here")
    work.write("data/a", "1")
    work.dv("add", "data")
    assert (work.root / "packs here/packs").is_dir()
    work.git("add", "-A")
    assert "packs here" not in work.git("diff", "--cached", "--name-only")
    assert work.dv("fsck").code == 0


def test_an_index_without_its_version_is_damaged_and_mended(pushed: Work) -> None:
    db = sqlite3.connect(pushed.root / ".git/dv/store.db")
    db.execute("PRAGMA user_version = 0")
    db.commit()
    db.close()
    ran = pushed.dv("cat", "data/table.csv", code=6)
    assert "it has tables, and says no version" in ran.err
    assert "dv fsck --rebuild" in ran.err
    pushed.dv("fsck", "--rebuild")
    assert pushed.dv("cat", "data/table.csv").out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("command", ["add", "pull"])
def test_a_full_disk_says_which_and_how_much_is_needed(
    work: Work, tmp_path: Path, command: str
) -> None:
    (work.root / "data").mkdir()
    (work.root / "data/large").write_bytes(os.urandom(3 << 20))
    if command == "pull":
        work.dv("add", "data")
        work.commit("one")
        work.dv("push")
        (work.root / "data/large").unlink()
        for path in (work.root / ".git/dv/packs").rglob("*"):
            if path.is_file():
                path.unlink()
    small = tmp_path / "small"
    small.mkdir()
    script = (
        'mount -t tmpfs -o size=1m tmpfs "$1" || exit 99; cd "$2"; DV_STORE_PATH="$1/store" '
        f"{sys.executable} -m dvtool {command} data"
    )
    ran = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "-", str(small), str(work.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 99:
        pytest.skip(f"cannot mount here: {ran.stderr}")
    assert ran.returncode == 1
    assert f"the disk is full ({small}: " in ran.stderr
    assert "of 1.0 MiB free; up to 3.0 MiB are to be written)" in ran.stderr


def test_what_is_not_there_has_a_next_step(work: Work) -> None:
    ran = work.dv("add", "nosuch", code=2)
    assert "there is nothing at nosuch" in ran.err
    assert "hint: see what is there: ls" in ran.err


def test_a_revision_where_paths_are_taken(pushed: Work) -> None:
    for command in ("ls", "drop", "status"):
        ran = pushed.dv(command, "HEAD", code=2)
        assert "HEAD is a revision, and paths are taken here" in ran.err
    assert "dv ls --rev HEAD," in ran.err
    assert pushed.dv("ls", "--rev", "HEAD").lines
