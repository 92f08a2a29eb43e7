"""``dv export`` and ``dv get``, and ls, cat and describe of a repository by its URL."""

from __future__ import annotations

import fcntl
import io
import os
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest

from dvtool.repo import Repo
from dvtool.system.atomic import TEMP_PREFIX, aside_name, is_of_export, is_temp_name, temp_name
from dvtool.verbs.export.folder import _file_above
from tests.cli.conftest import Work
from tests.scenario import tree


@pytest.fixture
def varied(work: Work) -> Work:
    """A pushed dataset with a link, an executable, an empty folder and a large file."""
    pushed = work
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        work.write(f"data/images/{name}", f"content of {name}")
    work.dv("add", "data")
    work.commit("Add the data")
    pushed.write("data/run.sh", "#!/bin/sh\n")
    (pushed.root / "data/run.sh").chmod(0o755)
    (pushed.root / "data/link").symlink_to("run.sh")
    (pushed.root / "data/empty").mkdir()
    (pushed.root / "data/large.bin").write_bytes(bytes(range(256)) * 40_000)
    pushed.dv("add", "data")
    pushed.commit("More")
    pushed.dv("push")
    return pushed


def test_a_folder_gets_ordinary_files(varied: Work, tmp_path: Path) -> None:
    ran = varied.dv("export", "data", "--to", str(tmp_path / "out"))
    assert tree(tmp_path / "out") == tree(varied.root / "data")
    assert "5 files, 9.8 MiB in " in ran.out
    again = varied.dv("export", "data", "--to", str(tmp_path / "out"), "--json").json
    assert again["kept"] == again["files"] and again["commit"] == varied.git("rev-parse", "HEAD")


def test_a_plan_of_an_export_writes_nothing(varied: Work, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    ran = varied.dv("export", "data", "--to", out, "-n")
    assert ran.out == f"5 files, 9.8 MiB would be in {out}\n"
    assert ran.err == "nothing was written\n"
    archive = varied.dv("export", "data", "--to", "tar:-", "--plan", "--json")
    assert archive.json["files"] == 5
    got = varied.dv("get", str(varied.root), "data", "-o", out, "-n")
    assert got.out == ran.out
    assert not (tmp_path / "out").exists()
    varied.dv("export", "data/large.bin", "--rev", "HEAD", "--to", out)
    planned = varied.dv("export", "data", "--to", out, "-n")
    assert planned.out.endswith("; 1 of them is there already\n")
    (tmp_path / "out/large.bin").write_bytes(b"mine")
    assert "large.bin" in varied.dv("export", "data", "--to", out, "-n", code=5).err
    assert (
        "--rev HEAD~1"
        in varied.dv(*("export", "HEAD", "data", "--rev", "HEAD~1", "--to", out), code=2).err
    )


def test_an_interrupted_export_goes_on(varied: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    varied.dv("export", "data", "--to", str(out))
    whole = tree(out)
    (out / "large.bin").unlink()
    (out / ".dv-tmp-1-export-aaaaaaaaaaaa").write_bytes(b"half")
    result = varied.dv("export", "data", "--to", str(out), "--json").json
    assert result["kept"] == result["files"] - 1
    assert tree(out) == whole


def test_other_content_in_the_place_is_kept(varied: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "large.bin").write_bytes(b"mine")
    ran = varied.dv("export", "data", "--to", str(out), code=5)
    assert "large.bin" in ran.err and "--force" in ran.err
    assert [path.name for path in out.iterdir()] == ["large.bin"]
    varied.dv("export", "data", "--to", str(out), "--force")
    assert tree(out) == tree(varied.root / "data")


def test_a_file_in_the_place_of_a_folder_is_named(varied: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    for options in ((), ("--force",), ("--plan",)):
        result = varied.dv("export", "data", "--to", str(out), *options, code=5)
        assert str(out) in result.err and "another folder" in result.err
    assert out.read_text() == "mine"


def test_what_a_killed_export_left_goes(varied: Work, tmp_path: Path) -> None:
    """But not what another export is writing, nor what a checkout has under such a name."""
    out = tmp_path / "out"
    out.mkdir()
    left, used = (out / f"{TEMP_PREFIX}{number}-export-0123456789ab" for number in (1, 2))
    new, aside = out / temp_name(), out / aside_name(b"d" * 32, b"m" * 8)
    for path in (left, used, new, aside):
        path.write_bytes(b"part")
    with used.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        varied.dv("export", "data", "--to", str(out))
    assert used.exists() and not left.exists()
    varied.dv("export", "data", "--to", str(out))
    assert not used.exists() and aside.read_bytes() == new.read_bytes() == b"part"


def test_a_file_under_way_is_no_leftover_to_another_export(
    varied: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment it has a name to the moment it takes its place, whatever is removed then."""
    varied.dv("add", "data")
    out, flock, replace = tmp_path / "out", fcntl.flock, os.replace
    swept = []

    def sweep() -> None:
        for path in out.rglob(f"{TEMP_PREFIX}*"):
            assert is_of_export(path.name) and is_temp_name(path.name)
            with path.open("r+b") as other:
                try:
                    flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                path.unlink()
                swept.append(path)

    def locked_late(file: BinaryIO, how: int) -> None:
        if not swept:
            sweep()
        flock(file, how)

    def replaced(temp: str, path: str) -> None:
        if str(path).startswith(str(out)):
            sweep()
        replace(temp, path)

    monkeypatch.setattr(fcntl, "flock", locked_late)
    monkeypatch.setattr(os, "replace", replaced)
    with Repo.open(str(varied.root)) as repo:
        repo.export("data", str(out))
    assert len(swept) == 1 and tree(out) == tree(varied.root / "data")


def test_what_is_in_the_place_of_a_folder_may_go_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _file_above("gone/a/b") == "gone"
    assert _file_above("b") == ""
    (tmp_path / "file").write_bytes(b"")
    assert _file_above("file/a/b") == "file"


def test_nothing_is_written_through_a_symlink(varied: Work, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "images").symlink_to(elsewhere)
    ran = varied.dv("export", "data", "--to", str(out), "--force", code=8)
    assert "symlink" in ran.err
    assert list(elsewhere.iterdir()) == []


def test_a_commit_and_a_file_can_be_named(varied: Work, tmp_path: Path) -> None:
    varied.dv("export", "HEAD~1", "data", "--to", str(tmp_path / "old"))
    assert not (tmp_path / "old/large.bin").exists()
    varied.dv("export", "HEAD~1:data", "--to", str(tmp_path / "colon"))
    assert tree(tmp_path / "colon") == tree(tmp_path / "old")
    varied.dv("export", "data/run.sh", "--to", str(tmp_path / "one"))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["run.sh"]
    assert os.access(tmp_path / "one/run.sh", os.X_OK)


def test_content_comes_from_the_remote(varied: Work, tmp_path: Path) -> None:
    varied.dv("drop", "data")
    varied.dv("export", "data", "--to", str(tmp_path / "out"))
    assert (tmp_path / "out/large.bin").stat().st_size == 10_240_000


def test_an_archive_is_the_same_each_time(varied: Work, tmp_path: Path) -> None:
    first = varied.dv("export", "data", "--to", "tar:-").raw
    varied.dv("export", "data", "--to", f"tar:{tmp_path}/file.tar")
    assert first == (tmp_path / "file.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        tar.extractall(tmp_path / "out", filter="tar")
    assert tree(tmp_path / "out") == tree(varied.root / "data")


def test_an_archive_takes_the_place_of_nothing_unasked(varied: Work, tmp_path: Path) -> None:
    archive, link = tmp_path / "file.tar", tmp_path / "link.tar"
    archive.write_bytes(b"mine")
    link.symlink_to(archive)
    ran = varied.dv("export", "data", "--to", f"tar:{archive}", code=5)
    assert "is there already" in ran.err and "--force" in ran.err
    ran = varied.dv("export", "data", "--to", f"tar:{link}", "--force", code=2)
    assert "tar:-" in ran.err and link.is_symlink()
    assert archive.read_bytes() == b"mine"
    varied.dv("export", "data", "--to", f"tar:{archive}", "--force")
    assert tarfile.is_tarfile(archive)


def test_what_cannot_be_is_refused(varied: Work, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert "nowhere" in varied.dv("export", "nowhere", "--to", out, code=2).err
    for nowhere in ("ftp://x/y", "tar:", ""):
        assert "cannot export" in varied.dv("export", "data", "--to", nowhere, code=2).err
    assert varied.dv("export", "no-such", "data", "--to", out, code=2)
    assert varied.dv("export", "a", "b", "c", "--to", out, code=2)
    assert not (tmp_path / "out").exists()


# --- a repository by its URL --------------------------------------------------------------


@pytest.fixture
def url(varied: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a repository whose data is on a folder remote that the reader names too."""
    monkeypatch.setenv(
        "DV_REMOTE_ORIGIN_URL", varied.dv("remote", "list", "--json").json["remotes"][0]["url"]
    )
    return f"file://{varied.root}"


def test_data_is_got_by_url_and_no_clone_stays(
    url: str, varied: Work, bare: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    here = Work(tmp_path / "here")
    here.root.mkdir()
    here.dv("get", url, "data")
    assert tree(here.root / "data") == tree(varied.root / "data")
    here.dv("get", url, "data/run.sh", "--rev", "HEAD", "-o", "elsewhere")
    assert [path.name for path in (here.root / "elsewhere").iterdir()] == ["run.sh"]
    assert not cache.exists() and sorted(p.name for p in here.root.iterdir()) == [
        "data",
        "elsewhere",
    ]


def test_a_repository_is_looked_at_by_url(url: str, varied: Work, tmp_path: Path) -> None:
    here = Work(tmp_path / "here")
    here.root.mkdir()
    listed = varied.dv("ls", "--json").json["entries"]
    assert here.dv("ls", url, "--json").json["entries"] == listed
    assert here.dv("ls", url, "data/run.sh").lines == ["data/run.sh"]
    assert here.dv("cat", url, "data/run.sh").out == "#!/bin/sh\n"
    described = here.dv("describe", url, "--json").json
    assert described["data_id"] == varied.dv("describe", "HEAD", "--json").json["data_id"]
    first = here.dv("describe", url, "HEAD~1", "--json").json
    assert here.dv("describe", url, "--rev", "HEAD~1", "--json").json == first != described
    assert varied.dv("describe", "--rev", "HEAD~1", "--json").json["data_id"] == first["data_id"]
    assert "one REV" in here.dv("describe", url, "HEAD", "--rev", "HEAD", code=2).err
    assert here.dv("cat", url, "data/nowhere", code=2).err


def test_a_revision_may_stand_before_a_path_of_a_url(
    url: str, varied: Work, tmp_path: Path
) -> None:
    here = Work(tmp_path / "here")
    here.root.mkdir()
    varied.write("data/12:30.txt", "half past")
    varied.dv("add", "data")
    varied.commit("A name with a colon")
    varied.dv("push")
    assert "data/large.bin" in here.dv("ls", url, "HEAD~1:data").lines
    assert "data/large.bin" not in here.dv("ls", url, "HEAD~2:data").lines
    assert here.dv("cat", url, "HEAD:data/run.sh").out == "#!/bin/sh\n"
    assert here.dv("cat", url, "data/12:30.txt").out == "half past"
    here.dv("get", url, "HEAD~2:data/a.txt", "-o", "one", code=2)
    here.dv("get", url, "HEAD~1:data/run.sh", "-o", "one")
    assert [path.name for path in (here.root / "one").iterdir()] == ["run.sh"]
    assert "too many revisions" in here.dv("ls", url, "A:data", "B:data", code=2).err
