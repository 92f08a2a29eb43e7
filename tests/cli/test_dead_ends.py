"""States from which a command must lead out: each was once a dead end."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Work

ROOT = os.geteuid() == 0


def roots(work: Work) -> list[Path]:
    return sorted((work.root.parent / "remote/roots").rglob("*.json"))


def all_of(place: Path) -> dict[str, int]:
    """Return every path below a folder with its mtime."""
    return {str(path): path.lstat().st_mtime_ns for path in place.rglob("*")}


# A file that became an empty folder


def test_a_file_and_a_link_become_empty_folders_and_back(work: Work) -> None:
    work.write("data/file", "1")
    work.write("data/keep", "k")
    (work.root / "data/link").symlink_to("keep")
    work.dv("add", "data")
    work.commit("one")
    work.dv("push")
    clone = work.clone()
    clone.dv("pull")
    for name in ("file", "link"):
        (work.root / "data" / name).unlink()
        (work.root / "data" / name).mkdir()
    work.dv("add", "data")
    work.commit("two")
    work.dv("push")
    clone.git("-c", "core.hooksPath=/dev/null", "pull", "-q")
    clone.dv("pull")
    assert (clone.root / "data/file").is_dir()
    assert (clone.root / "data/link").is_dir()
    assert not (clone.root / "data/link").is_symlink()
    assert clone.dv("status").out.startswith("Clean")
    clone.git("-c", "core.hooksPath=/dev/null", "checkout", "-q", "HEAD~1")
    clone.dv("checkout")
    assert clone.read("data/file") == b"1"
    assert os.readlink(clone.root / "data/link") == "keep"


def test_a_changed_file_is_not_lost_to_an_empty_folder(work: Work) -> None:
    work.write("data/file", "1")
    work.write("data/keep", "k")
    work.dv("add", "data")
    work.commit("one")
    (work.root / "data/file").unlink()
    (work.root / "data/file").mkdir()
    work.dv("add", "data")
    work.commit("two")
    (work.root / "data/file").rmdir()
    work.write("data/file", "nowhere else")
    work.dv("checkout", code=5)
    assert work.read("data/file") == b"nowhere else"


# Remotes that may only be read


def test_a_clone_that_pushes_nothing_new_leaves_nothing_on_the_remote(pushed: Work) -> None:
    before = all_of(pushed.root.parent / "remote")
    clone = pushed.clone()
    clone.dv("pull")
    clone.write("code.py", "x")
    clone.commit("code only")
    assert "everything is on" in clone.dv("push").out
    assert all_of(pushed.root.parent / "remote") == before
    assert len(roots(pushed)) == 1


def test_new_data_of_a_clone_still_gets_its_root(pushed: Work) -> None:
    clone = pushed.clone()
    clone.dv("pull")
    clone.write("data/images/new.txt", "new")
    clone.dv("add", "data/images")
    clone.commit("data")
    clone.dv("push")
    assert len(roots(pushed)) == 2


@pytest.mark.skipif(not ROOT, reason="only root can mount")
def test_code_is_pushed_by_who_may_only_read_the_data(pushed: Work, tmp_path: Path) -> None:
    hub = tmp_path / "hub.git"
    pushed.git("clone", "-q", "--bare", ".", str(hub))
    clone = Work(tmp_path / "reader")
    pushed.git("clone", "-q", str(hub), str(clone.root))
    clone.dv("remote", "add", "origin", tmp_path / "remote", "--local")
    clone.dv("pull")
    clone.write("code.py", "x")
    clone.commit("code only")
    done = read_only(tmp_path / "remote", "git push -q origin HEAD", clone.root)
    assert done.returncode == 0, done.stderr


def read_only(place: Path, command: str, cwd: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell while nothing below a folder can be written."""
    script = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 99; cd "$2" || exit 98; '
        + command
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "-", str(place), str(cwd), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99:
        pytest.skip(f"cannot mount here: {done.stderr}")
    return done


# Disks that keep no executable bits


@contextmanager
def all_executable(work: Work) -> Iterator[None]:
    """Have every file of a target look executable, as on exFAT or a share; git noticed that."""
    work.git("config", "core.filemode", "false")
    for path in (work.root / "data").rglob("*"):
        if path.is_file():
            path.chmod(0o755)
    yield


def test_nothing_is_modified_for_bits_that_the_disk_does_not_keep(work: Work) -> None:
    for name in ("plain", "script", "edited"):
        work.write(f"data/{name}", name)
    (work.root / "data/script").chmod(0o755)
    work.dv("add", "data")
    before = work.read("data.dv.json")
    work.commit("one")
    work.dv("push")
    clone = work.clone()
    clone.dv("pull")
    with all_executable(clone):
        assert clone.dv("status").out.startswith("Clean")
        assert "nothing" in clone.dv("checkout").out or clone.dv("status").out.startswith("Clean")
        clone.dv("add", "data")
        assert clone.read("data.dv.json") == before
        clone.write("data/edited", "again")
        clone.write("data/new", "new")
        (clone.root / "data/new").chmod(0o755)
        clone.dv("add", "data")
        listed = json.loads(clone.read("data.dv.json"))["entries"]
    assert [path for path, entry in listed.items() if entry.get("exec")] == ["script"]
    assert set(listed) == {"plain", "script", "edited", "new"}


# Repositories that may only be read


@pytest.mark.skipif(not ROOT, reason="only root can mount")
@pytest.mark.parametrize("state", ["as it is", "logged", "no index"])
def test_a_repository_that_may_only_be_read(pushed: Work, tmp_path: Path, state: str) -> None:
    index = pushed.root / ".git/dv/store.db"
    if state == "no index":
        for path in index.parent.glob("store.db*"):
            path.unlink()
    holder = sqlite3.connect(index) if state == "logged" else None
    if holder is not None:  # whose connection keeps the log from being written back
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("CREATE TABLE noise (x)")
        holder.execute("DROP TABLE noise")
        holder.commit()
    before = all_of(tmp_path)
    try:
        for command, said in (
            ("status", "Clean: 2 targets"),
            ("ls", "data/table.csv"),
            ("cat data/table.csv", "x,y"),
            ("fsck", ""),
            ("diff", ""),
            ("log data/table.csv", ""),
            ("push --plan", "everything is on"),
            ("pull --plan", ""),
        ):
            line = f"{sys.executable} -m dvtool {command}"
            done = read_only(tmp_path, line, pushed.root)
            assert done.returncode == 0, (command, done.stderr)
            assert said in done.stdout
        refused = read_only(tmp_path, f"{sys.executable} -m dvtool add data/images", pushed.root)
        assert refused.returncode == 1
        assert "read-only" in refused.stderr
        assert "bug" not in refused.stderr
        after = all_of(tmp_path)
    finally:
        if holder is not None:
            holder.close()
    assert after == before


# Manifests that git lost


def test_a_manifest_that_git_lost_in_history_is_passed_over(work: Work) -> None:
    work.write("data/a", "1")
    work.dv("add", "data")
    work.commit("one")
    blob = work.git("rev-parse", "HEAD:data.dv.json")
    work.write("data/a", "2")
    work.dv("add", "data")
    work.commit("two")
    (work.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    ran = work.dv("push")
    assert "proven there" in ran.out
    assert f"data.dv.json of an earlier commit was passed over: git has no object {blob}" in ran.err
    assert work.dv("push").code == 0


def test_a_file_too_large_for_a_manifest_in_history_is_passed_over(work: Work) -> None:
    place = work.root / "x.dv.json"
    with open(place, "wb") as file:
        file.truncate(70_000_000)
    work.git("add", "-f", "x.dv.json")
    work.git("commit", "-q", "--no-verify", "-m", "large")
    work.git("rm", "-q", "x.dv.json")
    work.write("data/a", "2")
    work.dv("add", "data")
    work.commit("two")
    ran = work.dv("push")
    assert "proven there" in ran.out
    assert "x.dv.json of an earlier commit was passed over" in ran.err


# Places that git ignores


def test_data_that_a_team_ignores_already_needs_no_line(work: Work) -> None:
    rules = "/ds/*\n!/ds/labels/\n/ds/labels/*\n!/ds/labels/*.dv.json\n"
    work.write(".gitignore", rules)
    work.write("ds/labels/one/x", "1")
    for content in ("1", "2"):
        work.write("ds/labels/one/x", content)
        work.dv("add", "ds/labels/one")
        assert not (work.root / "ds/labels/.gitignore").exists()
        assert work.read(".gitignore").decode() == rules
    assert work.git("ls-files", "ds") == "ds/labels/one.dv.json"
    work.git("commit", "-q", "-m", "one")
    assert work.dv("status").out.startswith("Clean")


@pytest.mark.parametrize("rule", ["out/", "*.dv.json", "/out/.gitignore"])
def test_a_manifest_or_line_that_git_would_not_see_is_refused_before(work: Work, rule: str) -> None:
    work.write(".gitignore", f"{rule}\n")
    work.write("out/model.bin", "data")
    before = set(all_of(work.root / "out"))
    ran = work.dv("add", "out/model.bin", code=3)
    assert "git ignores out/" in ran.err
    assert "git check-ignore -v out/" in ran.err
    assert set(all_of(work.root / "out")) == before
    assert work.read(".gitignore").decode() == f"{rule}\n"


def test_a_target_moves_to_the_top(work: Work) -> None:
    work.write("sub/deep/file", "1")
    work.dv("add", "sub/deep/file")
    work.commit("one")
    assert work.dv("mv", "sub/deep/file", ".").out == "sub/deep/file -> file\n"
    assert work.read("file") == b"1"
    work.dv("mv", "file", "..", cwd="sub", code=2)  # where it is already
