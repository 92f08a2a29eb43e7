from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import ODD_NAMES, Work


@pytest.fixture
def near(pushed: Work) -> Work:
    """A folder beside the origin and the remote, from which to clone."""
    place = Work(pushed.root.parent / "near")
    place.root.mkdir()
    return place


REMOTE = ("--remote", "../remote")


def test_clone_brings_code_and_data(near: Work) -> None:
    ran = near.dv("clone", *REMOTE, "../work")
    assert ran.lines[0] == "cloned into work"
    assert near.read("work/data/images/sub/c.txt") == b"content of sub/c.txt"
    clone = Work(near.root / "work")
    assert clone.dv("status", "--exit-code").out.startswith("Clean: 2 targets")
    assert clone.git("status", "--porcelain") == ""
    clone.dv("push")


def test_clone_into_a_folder_and_a_part(near: Work) -> None:
    ran = near.dv("clone", *REMOTE, "../work", "here/it is", "data/images/sub", "--json")
    assert ran.json["fetched"]["files"] == 1
    assert near.read("here/it is/data/images/sub/c.txt") == b"content of sub/c.txt"
    assert not (near.root / "here/it is/data/table.csv").exists()
    near.dv("clone", *REMOTE, "../work", "--", "data/table.csv")
    assert (near.root / "work/data/table.csv").exists()
    assert not (near.root / "work/data/images").exists()


def test_clone_with_global_folder(near: Work) -> None:
    Work(near.root.parent).dv("-C", "near", "clone", *REMOTE, "../work", "there")
    assert (near.root / "there/data/table.csv").exists()


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_clone_as_of_a_revision(pushed: Work, near: Work, kind: str) -> None:
    pushed.git("branch", "old/er")
    pushed.git("tag", "-a", "-m", "tag", "v1.0")
    first = pushed.git("rev-parse", "HEAD")
    pushed.write("data/table.csv", "newer")
    pushed.dv("add", "data/table.csv")
    pushed.commit()
    pushed.dv("push")
    rev = {"branch": "old/er", "tag": "v1.0", "commit": first}[kind]
    near.dv("clone", *REMOTE, "../work", "--rev", rev)
    clone = Work(near.root / "work")
    assert clone.read("data/table.csv") == b"x,y\n1,2\n"
    assert clone.git("rev-parse", "HEAD") == first
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("branch", "--show-current") == ("old/er" if kind == "branch" else "")


def test_clone_of_an_unknown_revision_leaves_the_clone(near: Work) -> None:
    ran = near.dv("clone", *REMOTE, "../work", "--rev", "nope", code=2)
    assert "nope" in ran.err
    assert (near.root / "work/data/table.csv.dv.json").exists()
    assert "nope" not in near.dv("clone", "../work", "x", "--rev", "--upload-pack=nope", code=2).out


def test_clone_says_how_to_name_a_folder_remote(near: Work) -> None:
    ran = near.dv("clone", "../work", "my data", "data/table.csv", code=4)
    assert "go on: cd 'my data'; dv remote add origin URL; dv pull -- data/table.csv" in ran.err
    clone = Work(near.root / "my data")
    clone.dv("remote", "add", "origin", near.root.parent / "remote")
    clone.dv("pull", "--", "data/table.csv")
    assert clone.read("data/table.csv") == b"x,y\n1,2\n"


def test_clone_stays_when_the_data_cannot_be_had(near: Work) -> None:
    shutil.rmtree(near.root.parent / "remote/packs")
    ran = near.dv("clone", *REMOTE, "../work", code=4)
    assert "go on: cd work; dv pull" in ran.err
    assert (near.root / "work/data/table.csv.dv.json").exists()
    assert "no folder" in near.dv("clone", "--remote", "gone", "../work", "w", code=3).err
    assert not (near.root / "gone").exists()


def test_clone_of_a_repository_without_dv(near: Work) -> None:
    plain = Work(near.root / "plain")
    plain.root.mkdir()
    plain.git("init", "-q")
    plain.commit()
    assert "dv init" in near.dv("clone", "plain", "copy").err


@pytest.mark.parametrize("url", ["-x", "--upload-pack=touch pwned", ""])
def test_clone_takes_no_option_for_a_url(near: Work, url: str) -> None:
    near.dv("clone", "--", url, code=2)
    assert not (near.root / "pwned").exists()


def test_clone_leaves_protocols_to_git(near: Work) -> None:
    ran = near.dv("clone", "ext::sh -c touch% pwned", "x", code=1)
    assert "not allowed" in ran.err
    assert not (near.root / "pwned").exists()
    near.dv("clone", *REMOTE, "../work", "./-odd")
    assert (near.root / "-odd/data/table.csv").exists()


def test_clone_needs_a_url_and_a_free_folder(near: Work) -> None:
    assert "dv clone URL" in near.dv("clone", code=2).err
    near.write("taken/file")
    assert "already exists" in near.dv("clone", "../work", "taken", code=1).err
    assert "\x1b" not in near.dv("clone", "esc\x1b[31maped", code=1).err


def test_clone_of_odd_names(work: Work) -> None:
    for name in ODD_NAMES:
        work.write(f"data/{name}", name)
    work.dv("add", "data")
    work.commit()
    work.dv("push")
    near = Work(work.root.parent)
    near.dv("clone", "--remote", "remote", "work", "line\nbreak")
    for name in ODD_NAMES:
        assert near.read(f"line\nbreak/data/{name}") == name.encode()


@pytest.mark.parametrize("options", [("--depth", "1"), ("--filter", "blob:none")])
def test_shallow_and_partial_clones(pushed: Work, tmp_path: Path, options: tuple[str, str]) -> None:
    for number in range(3):
        pushed.write("data/table.csv", f"version {number}")
        pushed.dv("add", "data/table.csv")
        pushed.commit()
    pushed.dv("push")
    pushed.git("config", "uploadpack.allowFilter", "true")
    pushed.git("clone", "-q", *options, f"file://{pushed.root}", str(tmp_path / "clone"))
    clone = Work(tmp_path / "clone")
    clone.dv("remote", "add", "origin", tmp_path / "remote")
    clone.dv("pull")
    assert clone.read("data/table.csv") == b"version 2"
    clone.write("data/table.csv", "version 3")
    clone.dv("add", "data/table.csv")
    clone.commit()
    clone.dv("push")
    clone.dv("push", "--all")
    clone.dv("drop", "data")
    clone.dv("log", "data/table.csv")
    clone.git("push", "-q", "origin", "HEAD:new")
    pushed.dv("pull", "new", "--", "data/table.csv")
    assert pushed.read("data/table.csv") == b"version 3"
