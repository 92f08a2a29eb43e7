from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import dvtool
from dvtool import Repo
from tests.cli.conftest import Work

READER = """
import os, sys, threading
import dvtool

snapshot = dvtool.snapshot()
threads = [
    threading.Thread(target=snapshot.read, args=(path,))
    for path in snapshot.find("data/images") for _ in range(3)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if os.fork() == 0:
    snapshot.read_ranges([("data/table.csv", 0, 1), ("data/table.csv", 2, 3)])
    os.kill(os.getpid(), 9)
os.wait()
with open("result", "w") as file:
    file.write(sys.argv[1])
"""


STREAMED = """
from dvtool.stream import Stream
print(len(list(Stream("data/images").epoch(0))))
"""
THROUGH_FSSPEC = """
import fsspec
files = fsspec.filesystem("dv")
for path in files.find("data/images"):
    files.cat_file(path, 0, 3)
"""


@pytest.fixture
def coded(data: Work) -> Work:
    data.write("read.py", READER)
    data.write(".gitignore", ".dv-runs\n")
    data.commit("Add the code")
    return data


def run(work: Work, *args: str, code: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
    work.process("run", *args, code=code, env=env)
    shown: dict[str, Any] = work.dv("runs", "show", "last", "--json").json
    return shown


def test_runs_are_listed_newest_first(coded: Work) -> None:
    assert coded.dv("runs", "--json").json["runs"] == []
    assert "no run is recorded here" in coded.dv("runs").err
    first = run(coded, "--", "sh", "-c", "exit 3", code=3)
    path = coded.root / ".dv-runs" / f"{first['id']}.json"
    earlier = "20200101T000000Z-0a0b0c"
    path.rename(path.with_name(f"{earlier}.json"))
    text = path.with_name(f"{earlier}.json").read_text()
    path.with_name(f"{earlier}.json").write_text(text.replace(first["id"], earlier))
    second = run(coded, "--", "echo", "a b")
    lines = coded.dv("runs").lines
    assert lines[0].startswith(second["id"])
    assert lines[0].endswith("exit 0  echo 'a b'")
    assert lines[1].startswith(earlier)
    assert "exit 3" in lines[1]
    found = coded.dv("runs", "list", "--json").json["runs"]
    assert [one["exit_status"] for one in found] == [0, 3]
    assert coded.dv("runs", "show", "2020", "--json").json["id"] == earlier
    assert coded.dv("runs", "show", f".dv-runs/{earlier}.json", "--json").json["id"] == earlier
    assert coded.dv("runs", "2020").out == coded.dv("runs", "show", "2020").out
    assert "there is no run 1999" in coded.dv("runs", "1999", code=2).err
    assert "could be any of" in coded.dv("runs", "show", "20", code=2).err
    assert "there is no run 1999" in coded.dv("runs", "show", "1999", code=2).err
    assert "there is no file nothing.json" in coded.dv("runs", "show", "nothing.json", code=2).err


def test_a_record_that_is_none_is_named(coded: Work) -> None:
    coded.write(".dv-runs/20200101T000000Z-0a0b0c.json", "{")
    coded.write(".dv-runs/20200101T000000Z-0a0b0d.json", '{"id": "../../x", "version": 1}')
    coded.write(".dv-runs/notes.txt", "no record")
    ran = coded.dv("runs")
    assert ran.err.count("is no record of a run") == 2
    coded.dv("runs", "show", "last", code=6)


def test_a_run_that_was_killed_shows_as_not_ended(coded: Work) -> None:
    run(coded, "--", "true")
    (path,) = (coded.root / ".dv-runs").glob("*.json")
    record = json.loads(path.read_text())
    coded.process("run", "--", "sh", "-c", "kill -9 $PPID", code=-9)
    assert len(list((coded.root / ".dv-runs").glob("*.json"))) == 2
    shown = coded.dv("runs", "show", "last", "--json").json
    unfinished = [one for one in coded.dv("runs", "--json").json["runs"] if one["end"] is None]
    assert [one["state"] for one in unfinished] == ["running"]
    assert "not ended" in coded.dv("runs").out
    assert shown["id"] >= record["id"]
    run(coded, "--", "true")  # and nothing is in the way of the next


# --- what was read --------------------------------------------------------------------------


def test_every_entry_that_was_read_is_recorded_once(coded: Work) -> None:
    record = run(coded, "--out", "result", "--", sys.executable, "read.py", "1")
    snapshot = dvtool.snapshot("HEAD", coded.root)
    wanted = sorted((snapshot.info(path).blake3, path) for path in snapshot.find())
    reads = record["reads"]
    assert [(one["blake3"], one["path"]) for one in reads["entries"]] == wanted
    assert reads["count"] == 4
    listed = (coded.root / ".dv-runs" / reads["file"]).read_text().splitlines()
    assert listed == [f'{blake3} "{path}"' for blake3, path in wanted]
    assert len(reads["root"]) == 64
    again = run(coded, "--allow-dirty", "--", sys.executable, "read.py", "2")
    assert again["reads"]["root"] == reads["root"]
    listed_paths = [one["path"] for one in reads["entries"]]
    for code in (STREAMED, THROUGH_FSSPEC):
        reads = run(coded, "--allow-dirty", "--", sys.executable, "-c", code)["reads"]
        assert [one["path"] for one in reads["entries"]] == [
            path for path in listed_paths if path.startswith("data/images/")
        ]
    part = run(
        coded,
        *("--allow-dirty", "--", sys.executable, "-c"),
        "import dvtool; dvtool.read('data/table.csv')",
    )
    assert part["reads"]["count"] == 1
    assert part["reads"]["root"] != reads["root"]
    assert "read      4 entries, root " in coded.dv("runs", "show", record["id"]).out


def test_without_a_run_nothing_is_noted(coded: Work) -> None:
    os.environ.pop("DV_LEDGER", None)
    dvtool.snapshot("HEAD", coded.root).read("data/table.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DV_LEDGER", str(coded.root / "gone"))  # as of a run that has ended
        dvtool.snapshot("HEAD", coded.root).read("data/table.csv")
    assert not (coded.root / "gone").exists()


# --- running again --------------------------------------------------------------------------


def test_a_run_that_can_be_repeated_is_the_same(coded: Work) -> None:
    record = run(coded, "--out", "result", "--", sys.executable, "read.py", "1")
    coded.write("read.py", "this is another program")
    coded.write("data/images/a.txt", "other data")
    place = coded.root.parent / "again"
    ran = coded.process("runs", "reproduce", "last", "--worktree", str(place), "--json")
    assert ran.json["same"]
    assert ran.json["run"] == record["id"]
    assert ran.json["roots"] == [record["reads"]["root"]] * 2
    assert [one["target"] for one in ran.json["outputs"]] == ["result"]
    assert ran.json["again"]["reproduces"] == record["id"]
    assert (place / "data/images/a.txt").read_text() == "content of data/images/a.txt"[
        :11
    ] + "a.txt"
    assert coded.read("read.py") == b"this is another program"
    assert len(list((coded.root / ".dv-runs").glob("*.json"))) == 1
    ran = coded.process("runs", "reproduce", "last", "--worktree", str(place), code=2)
    assert "is there already" in ran.err


def test_what_differs_is_said(coded: Work, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    script = (
        f"echo x >> {counter}; n=$(wc -l < {counter}); mkdir -p model; "
        "echo same > model/same; echo $n > model/other; exit $((n - 1))"
    )
    run(coded, "--out", "model", "--", "sh", "-c", script)
    ran = coded.process("runs", "reproduce", "last", code=1)
    name = coded.dv("runs", "show", "last", "--json").json["id"]
    place = coded.root.parent / f"work-run-{name}"
    assert place.is_dir()
    assert "exit code   0 -> 1" in ran.out
    assert "not the same" in ran.out
    # A run that succeeds again, with another output.
    counter.write_text("")
    run(coded, "--allow-dirty", "--out", "model", "--", "sh", "-c", script.replace("(n - 1)", "0"))
    ran = coded.process("runs", "reproduce", "last", "--json", code=1)
    (output,) = ran.json["outputs"]
    assert output["before"] != output["now"]
    assert [one["path"] for one in output["changes"]] == ["other"]


def test_what_was_not_committed_is_run_again_too(coded: Work) -> None:
    coded.write("new.py", "print(open('data/images/a.txt').read())")
    coded.write("data/images/a.txt", "changed a")
    run(coded, "--allow-dirty", "--", sys.executable, "new.py")
    coded.git("stash", "-q", "-u")
    coded.dv("checkout", "--force")
    ran = coded.process("runs", "reproduce", "last")
    assert ran.out.splitlines()[0] == "changed a"
    assert ": the same; its worktree is " in ran.out


def test_a_run_in_a_folder_is_repeated_there(coded: Work) -> None:
    coded.write("inner/where.sh", "pwd > here; cat here")
    coded.commit()
    coded.process("-C", "inner", "run", "--", "sh", "where.sh")
    coded.git("clean", "-qfd", "-e", ".dv-runs")
    place = coded.root.parent / "again"
    ran = coded.process("runs", "reproduce", "last", "--worktree", str(place))
    assert ran.out.splitlines()[0] == f"{place}/inner"


def test_code_on_the_pythonpath_is_that_of_the_run(coded: Work) -> None:
    coded.write("lib/version.py", "NAME = 'old'")
    coded.commit()
    env = {"PYTHONPATH": f"{coded.root}/lib", "PYTHONDONTWRITEBYTECODE": "1"}
    run(coded, "--", sys.executable, "-c", "import version; print(version.NAME)", env=env)
    coded.write("lib/version.py", "NAME = 'new'")
    assert coded.process("runs", "reproduce", "last", env=env).out.splitlines()[0] == "old"


def test_a_commit_that_is_gone_or_data_that_is_gone_is_an_error(coded: Work) -> None:
    record = run(coded, "--", "true")
    (path,) = (coded.root / ".dv-runs").glob("*.json")
    text = path.read_text()
    path.write_text(text.replace(record["commit"], "0" * 40))
    assert "git does not have the commit" in coded.dv("runs", "reproduce", "last", code=4).err
    path.write_text(text)
    shutil.rmtree(coded.root / ".git/dv/packs")
    (coded.root / ".git/dv/store.db").unlink()
    place = coded.root.parent / "again"
    ran = coded.process("runs", "reproduce", "last", "--worktree", str(place), code=None)
    assert ran.code in (3, 4)
    assert not place.exists()
    assert "again" not in coded.git("worktree", "list")


def test_a_record_that_others_wrote_is_not_trusted(coded: Work) -> None:
    coded.dv("runs", "--json", "show", "last", code=2)
    run(coded, "--", "sh", "-c", "echo $EVIL$PYTHONHASHSEED", env={"PYTHONHASHSEED": "5"})
    (path,) = (coded.root / ".dv-runs").glob("*.json")
    record = json.loads(path.read_text())
    record["environment"]["EVIL"] = "evil"
    path.write_text(json.dumps(record))
    ran = coded.process("runs", "reproduce", "last")
    assert ran.out.splitlines()[0] == "5"
    record["folder"] = "../.."
    path.write_text(json.dumps(record))
    place = str(coded.root.parent / "again")
    ran = coded.process("runs", "reproduce", "last", "--worktree", place, code=6)
    assert "outside of the worktree" in ran.err
    assert not os.path.exists(place)
    record["folder"], record["command"] = "", ["\x1b[31mred"]
    path.write_text(json.dumps(record))
    assert "\x1b" not in coded.dv("runs").out + coded.dv("runs", "show", "last").out


def test_the_library_shows_and_repeats(coded: Work) -> None:
    with Repo.open(coded.root) as repo:
        done = repo.run(["sh", "-c", "echo text > result"], out=["result"])
        assert repo.runs.show(done.id) == done
        again = repo.runs.reproduce("last", worktree=coded.root.parent / "again")
        assert again.same
        assert again.again.commit == done.commit
