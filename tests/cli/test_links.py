"""Folders of data that are symlinks, or have such in them: `dv add --dereference` follows them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Work

TARGETS = [("all", "all"), ("exp", "exp/d")]
"""A target that is a link itself, and one with a link in it."""


@pytest.fixture
def linked(work: Work, tmp_path: Path) -> Work:
    """Two targets added through links to folders outside of the repository."""
    disk = tmp_path / "disk"
    (disk / "sub").mkdir(parents=True)
    for number in range(3):
        (disk / f"sub/x{number}").write_text(f"{number}")
    other = tmp_path / "other disk"
    other.mkdir()
    (other / "y").write_text("y")
    work.write("exp/own", "own")
    (work.root / "exp/d").symlink_to(disk)
    (work.root / "all").symlink_to("../other disk")
    ran = work.dv("add", "--dereference", "exp", "all")
    assert f"exp/d is followed from now on: dvtool reads and writes the data in {disk}" in ran.err
    assert f"all is followed from now on: dvtool reads and writes the data in {other}" in ran.err
    work.commit("one")
    return work


def test_what_is_behind_a_link_is_clean_added_by_path_and_restored(
    linked: Work, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    assert linked.dv("status").out.startswith("Clean: 2 targets, 5 files")
    assert linked.git("status", "--short") == ""
    (disk / "sub/x1").write_text("changed")
    (disk / "sub/new").write_text("new")
    (disk / "sub/x2").unlink()
    shown = linked.dv("status").out
    assert "modified:  exp/d/sub/x1" in shown
    assert "added:     exp/d/sub/new" in shown
    assert "deleted:   exp/d/sub/x2" in shown
    linked.dv("checkout", "--", "exp/d/sub/x2")
    assert (disk / "sub/x2").read_text() == "2"
    assert "1 modified" in linked.dv("add", "exp/d/sub/x1").out
    assert "1 added" in linked.dv("add", "exp").out
    assert linked.dv("add", "--dereference", "exp").err == ""  # said once
    linked.commit("two")
    linked.dv("checkout", "HEAD~1", "exp")
    assert (disk / "sub/x1").read_text() == "1"
    assert not (disk / "sub/new").exists()
    assert (linked.root / "exp/d").is_symlink()


def test_git_switches_what_is_behind_a_link(linked: Work, tmp_path: Path) -> None:
    (tmp_path / "other disk/y").write_text("changed")
    ran = subprocess.run(
        ["git", "commit", "-qam", "no data"], cwd=linked.root, capture_output=True, check=False
    )
    assert ran.returncode == 1  # nothing to commit
    linked.dv("hooks", "install")
    linked.write("code", "x")
    linked.git("add", "code")
    ran = subprocess.run(
        ["git", "commit", "-qm", "code"], cwd=linked.root, capture_output=True, check=False
    )
    assert b"all has changed since dv add" in ran.stderr
    linked.dv("add", "all")
    linked.git("commit", "-qm", "data")
    linked.git("checkout", "-q", "HEAD~1")
    assert (tmp_path / "other disk/y").read_text() == "y"
    assert linked.dv("status").out.startswith("Clean")
    linked.git("checkout", "-q", "main")
    assert (tmp_path / "other disk/y").read_text() == "changed"


def test_a_clone_has_folders_and_may_use_a_link_of_its_own(linked: Work, tmp_path: Path) -> None:
    linked.dv("push")
    clone = linked.clone()
    clone.dv("pull")
    assert not (clone.root / "all").is_symlink()
    assert clone.read("exp/d/sub/x1") == b"1"
    (clone.root / "all/y").unlink()
    (clone.root / "all").rmdir()
    mine = tmp_path / "mine"
    mine.mkdir()
    (clone.root / "all").symlink_to(mine)
    shown = clone.dv("status", "all").out
    assert "all is a symlink; to have it followed: dv add --dereference all" in shown
    assert "deleted" not in shown
    assert "--dereference" in clone.dv("checkout", code=5).err
    (mine / "y").write_text("y")
    clone.dv("add", "--dereference", "all")
    assert clone.dv("status").out.startswith("Clean")
    (mine / "y").unlink()
    clone.dv("pull")
    assert (mine / "y").read_text() == "y"


@pytest.mark.parametrize(("target", "link"), TARGETS)
@pytest.mark.parametrize("how", ["gone", "another", "in the repository"])
def test_a_link_that_leads_elsewhere_by_now_is_not_followed(
    linked: Work, tmp_path: Path, target: str, link: str, how: str
) -> None:
    before = linked.read(f"{target}.dv.json")
    place = linked.root / link
    old = Path(os.path.realpath(place))
    if how == "gone":  # a disk that is not mounted
        old.rename(tmp_path / "away")
    else:
        new = linked.root / "code" if how == "in the repository" else tmp_path / "secret"
        new.mkdir()
        (new / "kept").write_text("kept")
        place.unlink()
        place.symlink_to(new)
    shown = linked.dv("status", target).out
    assert "is a symlink that dvtool followed" in shown
    assert "deleted" not in shown
    linked.dv("add", target, code=None)
    linked.dv("add", f"{link}/sub", code=2)
    assert linked.read(f"{target}.dv.json") == before
    linked.dv("checkout", "--force", "--", target, code=None)
    linked.dv("rm", "--data", target, code=None)
    if how == "gone":
        assert not old.exists()
    else:
        assert sorted(os.listdir(new)) == ["kept"]
    linked.git("checkout", "-q", "HEAD", "--", ".")
    if how == "another":
        linked.dv("add", "--dereference", target)
        assert linked.dv("cat", f"{link}/kept").out == "kept"


def test_a_link_of_a_branch_is_never_written_through(work: Work, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("key")
    work.write("data/key", "theirs")
    work.dv("add", "data")
    work.commit("one")
    (work.root / "data/key").unlink()
    (work.root / "data").rmdir()
    (work.root / "data").symlink_to(tmp_path / "secret")
    for command in (("checkout",), ("checkout", "--force"), ("pull",)):
        work.dv(*command, code=5)
    work.dv("add", "data", code=8)
    work.dv("drop", "data", code=None)
    work.dv("rm", "--data", "data", code=None)
    assert (tmp_path / "secret/key").read_text() == "key"


def test_a_link_stays_when_its_target_is_renamed_or_goes(linked: Work, tmp_path: Path) -> None:
    linked.dv("mv", "exp/d", "exp/e")
    assert (tmp_path / "disk/sub/x1").read_text() == "1"
    assert linked.dv("status").out.startswith(("Clean", "Manifests"))
    linked.dv("mv", "exp", "renamed")
    (tmp_path / "disk/sub/x1").unlink()
    linked.dv("checkout")
    assert (tmp_path / "disk/sub/x1").read_text() == "1"
    linked.dv("rm", "--data", "renamed")
    assert not (tmp_path / "disk/sub").exists()
    assert (linked.root / "renamed/e").is_symlink()
    assert (tmp_path / "disk").is_dir()


def test_a_large_target_behind_a_link(work: Work, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for number in range(1_100):
        (disk / f"f{number // 100}").mkdir(parents=True, exist_ok=True)
        (disk / f"f{number // 100}/{number}").write_text(f"{number}")
    (work.root / "data").symlink_to(disk)
    work.dv("add", "--dereference", "data")
    work.commit("one")
    assert work.dv("status").out.startswith("Clean: 1 target, 1,100 files")
    (disk / "f3/305").write_text("changed")
    (disk / "f5/505").unlink()
    shown = work.dv("status").out
    assert "modified:  data/f3/305" in shown
    assert "deleted:   data/f5/505" in shown
    work.dv("checkout", "--force")
    assert (disk / "f5/505").read_text() == "505"
    assert work.dv("status").out.startswith("Clean")


@pytest.mark.parametrize("outside", [True, False])
def test_a_new_target_behind_a_link_is_refused_with_a_way(
    work: Work, tmp_path: Path, outside: bool
) -> None:
    real = (tmp_path if outside else work.root) / "nas/images"
    real.mkdir(parents=True)
    (real / "x").write_text("x")
    (work.root / "below").symlink_to(real.parent)
    for flags in ((), ("--dereference",)):
        refused = work.dv("add", *flags, "below/images", code=2)
        assert "below/images is behind the symlink below: git keeps nothing there" in refused.err
        way = "dv add --dereference below" if outside else "dv add nas/images"
        assert refused.err.rstrip().endswith(way)
    if outside:
        work.dv("add", "--dereference", "below")
        assert "1 file" in work.dv("add", "below/images").out
        assert work.dv("status").out.startswith("Manifests")


@pytest.mark.parametrize("flags", [(), ("--dereference",)])
def test_a_path_behind_a_link_that_nobody_added_is_refused_or_followed(
    work: Work, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/x").write_text("x")
    work.write("data/own", "own")
    work.dv("add", "data")
    (work.root / "data/d").symlink_to(tmp_path / "disk")
    ran = work.dv("add", *flags, "data/d/x", code=0 if flags else 2)
    if flags:
        assert work.dv("cat", "data/d/x").out == "x"
        assert "data/d is followed from now on" in ran.err
    else:
        assert "data/d/x is behind the symlink data/d\n" in ran.err
        assert "hint: to add what the link leads to: dv add --dereference data/d/x" in ran.err


def test_a_relative_link_is_not_moved_to_where_it_would_mislead(linked: Work) -> None:
    refused = linked.dv("mv", "all", "sub/all", code=2)
    assert "all is a relative symlink" in refused.err
    assert "ln -sfn '" in refused.err
    assert linked.dv("status").out.startswith("Clean")
    linked.dv("mv", "all", "every")
    assert linked.dv("status", "every").out.count("problem") == 0
