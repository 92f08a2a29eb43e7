from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from blake3 import blake3

from dvtool.format import manifest
from tests.cli.conftest import ODD_NAMES, Work


def test_add_says_what_changed_and_what_is_next(work: Work) -> None:
    work.write("data/images/a.txt", "one")
    work.write("data/images/b.txt", "two")
    ran = work.dv("add", "data/images")
    assert ran.lines[0].startswith("data/images  2 files, 6 B: 2 added; stored ")
    assert ran.err == "next: git commit\n"
    assert work.git("diff", "--cached", "--name-only").splitlines() == [
        ".dvconfig",
        "data/.gitignore",
        "data/images.dv.json",
    ]
    work.write("data/images/a.txt", "changed")
    (work.root / "data/images/b.txt").unlink()
    assert ": 1 modified, 1 removed; stored" in work.dv("add", "data/images").out
    again = work.dv("add", "data/images")
    assert again.out == "data/images  1 file, 7 B: unchanged\n"
    assert again.err == ""


def test_add_json(work: Work) -> None:
    work.write("data/images/a.txt", "one")
    work.write("data/images/A.txt", "two")
    ran = work.dv("add", "data/images", "--json")
    (target,) = ran.json["targets"]
    assert target["stored_bytes"] > 0
    assert len(target["warnings"]) == 1
    assert {key: target[key] for key in ("target", "files", "bytes", "added")} == {
        "target": "data/images",
        "files": 2,
        "bytes": 6,
        "added": 2,
    }
    assert "warning: these differ only in case" in ran.err


def test_add_from_a_subfolder(work: Work) -> None:
    work.write("data/images/a.txt")
    ran = work.dv("add", "images", cwd="data")
    assert ran.out.startswith("images  1 file")
    assert (work.root / "data/images.dv.json").exists()


def test_add_with_c_option(work: Work) -> None:
    work.write("data/images/a.txt")
    work.dv("-C", "data", "-C", "images", "add", "a.txt")
    assert (work.root / "data/images/a.txt.dv.json").exists()


def test_add_a_part_of_a_target(data: Work) -> None:
    data.write("data/images/b.txt", "other")
    data.write("data/images/new.txt", "new")
    ran = data.dv("add", "data/images/new.txt")
    assert ran.out.startswith("data/images  4 files")
    assert ": 1 added" in ran.out


def test_add_odd_names(work: Work) -> None:
    for name in ODD_NAMES:
        work.write(f"data/odd/{name}", name)
    ran = work.dv("add", "data/odd")
    assert f": {len(ODD_NAMES)} added" in ran.out
    listed = work.dv("ls", "--json").json["entries"]
    assert {one["path"] for one in listed} == {f"data/odd/{name}" for name in ODD_NAMES}
    by_path = {one["path"]: one["blake3"] for one in listed}
    for name in ODD_NAMES:
        assert by_path[f"data/odd/{name}"] == blake3(name.encode()).hexdigest()


def test_add_a_target_with_an_odd_name_prints_no_escape(work: Work) -> None:
    work.write("data/esc\x1b[31mred")
    ran = work.dv("add", "data/esc\x1b[31mred", terminal=False)
    assert "\x1b" not in ran.out + ran.err
    assert "data/esc\\x1b[31mred" in ran.out


def test_add_quiet_prints_nothing(work: Work) -> None:
    work.write("data/a.txt")
    for args in (("-q", "add"), ("add", "-q")):
        work.write("data/a.txt", str(args))
        ran = work.dv(*args, "data")
        assert (ran.out, ran.err) == ("", "")


def test_add_no_stage(work: Work) -> None:
    work.write("data/a.txt")
    ran = work.dv("add", "--no-stage", "data")
    assert "git add the manifests" in ran.err
    assert work.git("diff", "--cached", "--name-only") == ".dvconfig"


def test_add_what_git_tracks_needs_untrack(work: Work) -> None:
    work.write("data/a.txt")
    work.commit()
    ran = work.dv("add", "data", code=2)
    assert "git tracks what should come under dv:\n  data/a.txt" in ran.err
    assert "--untrack" in ran.err
    assert not (work.root / "data.dv.json").exists()
    work.dv("add", "--untrack", "data")
    assert work.git("ls-files", "data") == ""
    assert (work.root / "data/a.txt").exists()


def test_add_jobs_make_no_difference(work: Work) -> None:
    for number in range(50):
        work.write(f"data/{number}", str(number))
    work.dv("add", "data", "-j", "1")
    first = work.read("data.dv.json")
    work.dv("rm", "data")
    work.dv("add", "data", "--jobs", "2")
    assert work.read("data.dv.json") == first
    assert "error: " in work.dv("add", "data", "-j", "0", code=2).err


def test_add_needs_init(bare: Work) -> None:
    bare.write("data/a.txt")
    ran = bare.dv("add", "data", code=3)
    assert "hint: run: dv init" in ran.err


def test_add_nothing_there(work: Work) -> None:
    assert "there is nothing at nope" in work.dv("add", "nope", code=2).err


def test_add_without_path(work: Work) -> None:
    assert "hint: run: dv add --help" in work.dv("add", code=2).err


def test_add_outside(work: Work) -> None:
    assert "outside of this repository" in work.dv("add", "../elsewhere", code=2).err


def test_add_the_whole_repository(work: Work) -> None:
    assert "the whole repository" in work.dv("add", ".", code=2).err


def _link_outside(work: Work) -> str:
    (work.root / "data/link").symlink_to("../../elsewhere")
    return "data/link"


def _link_absolute(work: Work) -> str:
    (work.root / "data/link").symlink_to("/etc/hostname")
    return "data/link"


def _not_utf8(work: Work) -> str:
    (work.root / os.fsdecode(b"data/latin-\xe9")).write_text("x")
    return "data/latin-\\udce9"


def _pipe(work: Work) -> str:
    os.mkfifo(work.root / "data/pipe")
    return "data/pipe"


def _socket(work: Work) -> str:
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made,
    ):
        patch.chdir(work.root / "data")
        made.bind("socket")
    return "data/socket"


@pytest.mark.parametrize("fault", [_link_outside, _link_absolute, _not_utf8, _pipe, _socket])
def test_add_refuses_by_name_what_cannot_be_versioned(work: Work, fault: object) -> None:
    work.write("data/a.txt")
    work.dv("add", "data")
    before = work.read("data.dv.json")
    assert callable(fault)
    name = fault(work)
    ran = work.dv("add", "data", code=8)
    assert name in ran.err
    assert work.read("data.dv.json") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_add_unreadable_file(work: Work) -> None:
    place = work.write("data/secret.txt")
    place.chmod(0)
    try:
        assert "data/secret.txt" in work.dv("add", "data", code=8).err
    finally:
        place.chmod(0o600)


def test_add_dereference(work: Work) -> None:
    work.write("elsewhere/real.txt", "real")
    (work.root / "data").mkdir()
    (work.root / "data/link").symlink_to("../elsewhere/real.txt")
    ran = work.dv("add", "data", code=8)
    assert "--dereference" in ran.err
    work.dv("add", "--dereference", "data")
    assert work.dv("cat", "data/link").out == "real"


@pytest.mark.parametrize("flags", [(), ("--dereference",)])
def test_a_path_behind_a_link_that_is_an_entry_is_refused(
    work: Work, flags: tuple[str, ...]
) -> None:
    work.write("data/real/x", "x")
    (work.root / "data/link").symlink_to("real")
    work.dv("add", "data")
    before = (work.root / "data.dv.json").read_bytes()
    work.write("data/real/x", "changed")
    refused = work.dv("add", *flags, "data/link/x", code=2)
    assert "data/link/x is behind the symlink data/link\n" in refused.err
    assert "by its own path" in refused.err
    assert (work.root / "data.dv.json").read_bytes() == before


def test_add_as_a_process(work: Work) -> None:
    work.write("data/a.txt", "x" * 100_000)
    ran = work.process("add", "data")
    assert ran.out.startswith("data  1 file, 97.7 KiB: 1 added")


_ANEW = """
from dvtool.cli import main
from dvtool.jobs import engine, ingest, small_files
from dvtool.system.workers import Worker
from dvtool.verbs.add import publish, store

publish.LISTED_MIN_FILES = {listed_min}
small_files.BATCH_FILES_MIN = 5
store.ANEW_MIN_FILES = engine.PARALLEL_MIN_FILES = 0
ingest.BATCH_FILES_MAX = 5
begin = Worker.anew
Worker.anew = lambda: print("begun anew") or begin()
main()
"""


@pytest.mark.parametrize("listed_min", [0, 2_000])
def test_add_of_many_files_begins_workers_anew(work: Work, listed_min: int) -> None:
    for number in range(20):
        work.write(f"data/{number:02}", f"content {number}")
    program = work.root.parent / "dv.py"
    program.write_text(_ANEW.format(listed_min=listed_min))
    ran = subprocess.run(
        [sys.executable, str(program), "add", "data", "--jobs", "2"],
        cwd=work.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("begun anew\nbegun anew\n")
    assert "20 files" in ran.stdout
    work.commit()
    assert work.dv("status").out.startswith("Clean: 1 target, 20 files")
    work.dv("fsck")


_PLAIN_SCRIPT = """
import threading, time
from dvtool import Repo

print("the script runs")
threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
with Repo.open() as repo:
    (added,) = repo.add("data")
print(added.files, "files", added.bytes, "bytes")
"""
SCRIPT_FILES = 6
SCRIPT_FILE_BYTES = 30 << 20


def test_a_plain_script_with_threads_adds_180_mb(work: Work) -> None:
    """It has no `if __name__ == "__main__"`, so no worker may import it."""
    (work.root / "data").mkdir()
    for number in range(SCRIPT_FILES):
        with open(work.root / f"data/{number}", "wb") as file:
            file.write(blake3(b"%d" % number).digest(SCRIPT_FILE_BYTES // 10))
            file.truncate(SCRIPT_FILE_BYTES)
    work.write("script.py", _PLAIN_SCRIPT)
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=work.root, capture_output=True, text=True
    )
    assert ran.stderr == ""
    total = SCRIPT_FILES * SCRIPT_FILE_BYTES
    assert ran.stdout == f"the script runs\n{SCRIPT_FILES} files {total} bytes\n"
    work.commit()
    assert work.dv("status").out.startswith(f"Clean: 1 target, {SCRIPT_FILES} files")
    work.dv("fsck")


def test_a_rule_that_comes_to_match_what_is_tracked_changes_nothing(data: Work) -> None:
    """As in git: rules are for what is not tracked, be it a file, an empty folder or a whole."""
    (data.root / "data/images/empty").mkdir()
    (data.root / "data/images/below/empty").mkdir(parents=True)
    data.dv("add", "data/images")
    data.commit()
    data.write("data/.dvignore", "empty\nbelow\nsub/*\na.txt\n")
    assert data.dv("diff").out == "no difference\n"
    assert data.dv("status", "--exit-code").out.startswith("Clean")
    assert "unchanged" in data.dv("add", "data/images").out
    # What is new in such a folder is no entry.
    data.write("data/images/empty/new", "new")
    assert data.dv("diff").out == "no difference\n"
    assert data.dv("status", "--exit-code").out.startswith("Clean")
    assert "unchanged" in data.dv("add", "data/images").out
    # What is gone is gone.
    (data.root / "data/images/below/empty").rmdir()
    ran = data.dv("status", "--json")
    assert ran.json["targets"][0]["deleted"] == ["below/empty"]
    assert "1 removed" in data.dv("add", "data/images").out


def test_what_add_refuses_for_a_rule_is_named(data: Work) -> None:
    data.write("data/.dvignore", "sub\n")
    assert "leave out data/images/sub" in data.dv("add", "data/images/sub", code=2).err


def test_add_takes_globs(work: Work) -> None:
    for name in ("a.csv", "b.csv", "c.txt", ".gitignore"):
        work.write(f"d/{name}", f"# {name}")
    assert [line.partition("  ")[0] for line in work.dv("add", "d/*.csv").lines] == [
        "d/a.csv",
        "d/b.csv",
    ]
    work.write("d/a.csv", "changed")
    assert len(work.dv("add", "*", cwd="d").lines) == 3  # with c.txt, not what git keeps
    assert "matches nothing" in work.dv("add", "d/*.png", code=2).err


def test_add_a_glob_in_a_target_takes_what_is_gone_too(data: Work) -> None:
    (data.root / "data/images/a.txt").unlink()
    data.write("data/images/b.txt", "changed")
    data.write("data/images/sub/c.txt", "not meant")
    said = ["data/images  2 files, 27 B: 1 modified, 1 removed"]
    planned = data.dv("add", "-n", "data/images/*.txt").lines
    assert [line.replace("would have ", "") for line in planned] == said
    out = data.dv("add", "data/images/*.txt").lines
    assert [line.partition(";")[0] for line in out] == said
    status = data.dv("status", "--json").json["targets"][0]
    assert status["modified"] == ["sub/c.txt"]
    assert status["deleted"] == []


@pytest.mark.parametrize("inline_max", [1000, 2])
def test_add_update_takes_nothing_new(
    work: Work, monkeypatch: pytest.MonkeyPatch, inline_max: int
) -> None:
    monkeypatch.setattr(manifest, "INLINE_ENTRIES_MAX", inline_max)
    for name in ("a", "b", "c", "sub/d", "sub/e", "turned", "deep/er/f"):
        work.write(f"data/{name}", f"content of {name}")
    (work.root / "data/empty").mkdir()
    work.dv("add", "data")
    work.commit("data")
    (work.root / "data/a").write_text("changed")
    for gone in ("b", "sub/d", "turned"):
        (work.root / "data" / gone).unlink()
    for new in ("new", "sub/new", "newer/x/y", "empty/x", "turned/x"):
        work.write(f"data/{new}", f"new {new}")
    assert work.dv("add", "-u", "-n").out.endswith(": 1 modified, 3 removed\n")
    ran = work.dv("add", "-u")
    assert ": 1 modified, 3 removed" in ran.out
    assert ran.err.startswith("5 new paths are left: to take what is new too: dv add data\n")
    assert work.dv("ls").lines == [
        "data/a",
        "data/c",
        "data/deep/er/f",
        "data/empty/",
        "data/sub/e",
    ]
    added = work.dv("status", "--json").json["targets"][0]["added"]
    assert added == ["empty/x", "new", "newer/x/y", "sub/new", "turned/x"]
    assert "unchanged" in work.dv("add", "-u", "data/newer", "data/sub/*").out
    assert "5 added, 1 removed" in work.dv("add", "data").out  # the folder is empty no more
    assert work.dv("status", "--json").json["targets"][0]["added"] == []


def test_add_update_of_paths_in_a_target(data: Work) -> None:
    for name in ("a.txt", "b.txt", "sub/c.txt", "sub/new.txt"):
        data.write(f"data/images/{name}", "changed")
    assert "1 modified" in data.dv("add", "-u", "data/images/sub").out
    assert data.dv("status", "--json").json["targets"][0]["modified"] == ["a.txt", "b.txt"]
    (data.root / "data/images/a.txt").unlink()
    assert "1 modified, 1 removed" in data.dv("add", "-u", "data/images/*.txt").out
    assert data.dv("status", "--json").json["targets"][0]["added"] == ["sub/new.txt"]
    assert "no target" in data.dv("add", "-u", "README", code=2).err


def test_add_update_and_the_dot(data: Work) -> None:
    data.write("data/images/a.txt", "changed")
    data.write("data/table.csv", "changed")
    data.write("data/other.bin", "no target")
    assert len(data.dv("add", "-u", "data/images").lines) == 1
    assert "data/table.csv  1 file, 7 B: 1 modified" in data.dv("add", "-u").out
    data.write("data/table.csv", "changed again")
    assert "table.csv  1 file, 13 B: 1 modified" in data.dv("add", ".", cwd="data").out
    assert len(data.dv("add", ".").lines) == 2
    assert not (data.root / "data/other.bin.dv.json").exists()
    assert "every target with -u" in data.dv("add", code=2).err


def test_add_dry_run_adds_nothing(data: Work) -> None:
    data.write("data/images/a.txt", "changed")
    data.write("data/images/new.txt", "new")
    (data.root / "data/images/b.txt").unlink()
    data.write("fresh/x", "12345")
    before = data.git("status", "--porcelain")
    ran = data.dv("add", "-n", "data/images", "fresh")
    assert "data/images  would have 3 files, 30 B: 1 added, 1 modified, 1 removed" in ran.out
    assert "fresh  would have 1 file, 5 B: 1 added" in ran.out
    assert ran.err == "nothing was added\n"
    assert data.git("status", "--porcelain") == before
    assert "3 files, 30 B: 1 added, 1 modified, 1 removed" in data.dv("add", "data/images").out


def test_add_names_litter_and_the_rules_that_keep_it_out(work: Work) -> None:
    work.write("data/a.txt", "one")
    work.write("data/.DS_Store", "x")
    work.write("data/__pycache__/a.cpython-311.pyc", "x")
    ran = work.dv("add", "data")
    assert "2 paths are taken too" in ran.err
    assert "data/__pycache__" in ran.err
    rules = [line.strip() for line in ran.err.splitlines() if line.startswith("  ")][-2:]
    assert rules == [".DS_Store", "__pycache__"]
    assert work.dv("add", "data").err == ""  # said once
    work.write(".dvignore", "\n".join(rules))
    assert "dv rm data/.DS_Store data/__pycache__;" in ran.err
    work.dv("rm", "data/.DS_Store", "data/__pycache__")
    ran = work.dv("add", "data")
    assert "1 file" in ran.out
    assert "left behind" not in ran.err
