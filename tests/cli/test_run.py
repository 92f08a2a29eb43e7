from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dvtool import DvError, Repo
from dvtool.format.digest import digest_of
from dvtool.project.history import FOR_GC_UNPUSHED, needed_content
from tests.cli.conftest import Ran, Work, command

PYTHON = shlex.quote(sys.executable)


@pytest.fixture
def clean(data: Work) -> Work:
    """Code and data, all of it committed."""
    data.write("train.py", "print('training')\n")
    data.write(".gitignore", "*.log\n")
    data.commit("Add the code")
    return data


def record(work: Work, number: int = -1) -> Any:
    paths = sorted((work.root / ".dv-runs").glob("*.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(paths[number].read_text())


def shell(work: Work, script: str, *options: str, code: int = 0, **kwargs: Any) -> Ran:
    return work.process("run", *options, "--", "sh", "-c", script, code=code, **kwargs)


def test_a_run_is_recorded(clean: Work) -> None:
    ran = shell(clean, "echo $DV_COMMIT $DV_DATA_ID $DV_RUN_ID; echo said >&2")
    described = clean.dv("describe", "--json").json
    found = record(clean)
    assert ran.out == f"{described['commit']} {described['data_id']} {found['id']}\n"
    assert ran.err.startswith("said\n")
    assert found["commit"] == described["commit"]
    assert (found["data_id"], found["targets"]) == (described["data_id"], described["targets"])
    assert (found["state"], found["exit_status"], found["ref"]) == ("ended", 0, None)
    assert found["command"][:2] == ["sh", "-c"]
    assert found["start"] <= found["end"]
    assert found["seconds"] >= 0
    assert found["reads"]["count"] == 0
    assert not list((clean.root / ".git/dv/runs").iterdir())


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_that_of_the_command(clean: Work, script: str, code: int) -> None:
    shell(clean, script, code=code)
    assert (record(clean)["exit_status"], record(clean)["state"]) == (code, "ended")


def test_a_command_that_cannot_be_started_is_recorded(clean: Work) -> None:
    ran = clean.dv("run", "--", "no-such-command", code=127)
    assert "error: command not found: no-such-command" in ran.err
    assert record(clean)["exit_status"] == 127
    clean.dv("run", "--", "./train.py", code=126)
    assert "cannot be started" in record(clean)["problem"]


def test_no_command_is_a_usage_error(clean: Work) -> None:
    assert "no command is given" in clean.dv("run", code=2).err
    assert "dv run -- python train.py" in clean.dv("run", "python", "train.py", code=2).err
    clean.dv("run", "--", code=2)
    assert not (clean.root / ".dv-runs").exists()


@pytest.mark.parametrize("change", ["code", "untracked", "staged", "data", "manifest"])
def test_nothing_runs_if_code_or_data_is_not_committed(clean: Work, change: str) -> None:
    names = {"data": "data/images", "manifest": "data/table.csv"}
    if change == "data":
        clean.write("data/images/new.txt")
    elif change == "manifest":
        clean.write("data/table.csv", "x\n")
        clean.dv("add", "data/table.csv")
    else:
        clean.write("new.py" if change == "untracked" else "train.py", "other")
        if change == "staged":
            clean.git("add", "train.py")
    ran = shell(clean, "echo ran", code=1)
    assert ran.out == ""
    assert "not all of code and data is committed" in ran.err
    assert names.get(change, "new.py" if change == "untracked" else "train.py") in ran.err
    assert not (clean.root / ".dv-runs").exists()


def test_before_the_first_commit_nothing_runs(work: Work) -> None:
    work.git("rm", "-q", "--cached", ".dvconfig")
    (work.root / ".git/info/exclude").write_text("*\n")
    assert "no commit yet" in work.dv("run", "--", "true", code=3).err


def test_records_and_ignored_files_make_nothing_dirty(clean: Work) -> None:
    clean.write("train.log", "ignored")
    for _ in range(2):
        shell(clean, "true")
        clean.dv("describe", "--check")
    clean.commit("Commit the records")
    data_id = clean.dv("describe", "--json").json["data_id"]
    path = next((clean.root / ".dv-runs").iterdir())
    path.write_text(path.read_text() + "\n")
    assert clean.dv("describe", "--check", "--json").json["data_id"] == data_id
    assert clean.dv("status", "--json").json["clean"]
    shell(clean, "true")
    assert len(list((clean.root / ".dv-runs").glob("*.json"))) == 3


def test_a_record_goes_where_it_is_told(clean: Work) -> None:
    place = clean.root.parent / "records/this.json"
    shell(clean, "true", "--record", str(place))
    assert json.loads(place.read_text())["exit_status"] == 0
    assert not (clean.root / ".dv-runs").exists()


def test_a_link_in_the_place_of_the_records_is_refused(clean: Work, tmp_path: Path) -> None:
    (clean.root / ".dv-runs").symlink_to(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert ".dv-runs at the top of the worktree is no folder" in (
        clean.dv("run", "--", "true", code=3).err
    )
    assert sorted(tmp_path.iterdir()) == before


def test_the_record_of_python_has_its_packages_and_no_secret(clean: Work) -> None:
    code = "import os; print(os.environ['API_TOKEN'])"
    env = {"API_TOKEN": "hunter2", "PYTHONHASHSEED": "7"}
    ran = clean.process("run", "--", sys.executable, "-c", code, env=env)
    assert ran.out == "hunter2\n"
    found = record(clean)
    assert found["environment"]["PYTHONHASHSEED"] == "7"
    assert "hunter2" not in json.dumps(found)
    assert "pytest" in found["packages"]["distributions"]
    assert found["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
    script = clean.write("script", f"#!{sys.executable}\nprint('hello')\n")
    script.chmod(0o755)
    clean.commit()
    assert clean.process("run", "--", "./script").out == "hello\n"
    assert record(clean)["packages"]["how"] == "the first line of ./script names it"
    shell(clean, "true")
    assert record(clean)["packages"] is None


def test_the_folder_is_the_current_one(clean: Work) -> None:
    clean.write("inner/code.py")
    clean.commit()
    ran = clean.process("-C", "inner", "run", "--", "pwd")
    assert ran.out == f"{clean.root}/inner\n"
    assert record(clean)["folder"] == "inner"


# --- outputs --------------------------------------------------------------------------------


def test_outputs_are_added_after_success(clean: Work) -> None:
    script = "mkdir -p model; echo weights > model/w; echo 1 > score.txt"
    shell(clean, script, "--out", "model", "--out", "score.txt")
    found = record(clean)
    assert [output["target"] for output in found["outputs"]] == ["model", "score.txt"]
    assert (
        clean.dv("status", "--json").json["targets"][2]["blake3"] == found["outputs"][0]["blake3"]
    )
    clean.commit("Add the model")
    clean.write("model/unfinished", "")
    clean.dv("run", "--out", "model", "--", "true", code=1)  # a target that was changed is data
    clean.dv("checkout", "--force", "--", "model")
    (clean.root / "model/unfinished").unlink(missing_ok=True)
    shell(clean, "echo 2 > score.txt; exit 4", "--out", "score.txt", code=4)
    assert record(clean)["outputs"] == []
    assert not clean.dv("status", "--json").json["clean"]


def test_what_a_failed_run_left_of_an_output_does_not_stop_the_next(clean: Work) -> None:
    shell(clean, "echo half > result; exit 1", "--out", "result", code=1)
    shell(clean, "cat result; echo whole > result", "--out", "result")
    assert record(clean)["outputs"][0]["target"] == "result"


def test_an_output_that_is_not_there_is_an_error(clean: Work) -> None:
    ran = shell(clean, "true", "--out", "model", code=2)
    assert "there is nothing at model" in ran.err
    assert "outputs were not added" in record(clean)["problem"]
    assert "has ended with 0, but the outputs were not added" in ran.err
    assert record(clean)["exit_status"] == 0


def test_an_output_that_cannot_be_one_is_refused_before_the_run(clean: Work) -> None:
    for path in ("../elsewhere", "train.py", "data", "."):
        assert shell(clean, "echo ran", "--out", path, code=2).out == ""


# --- what is not committed ------------------------------------------------------------------


@pytest.fixture
def dirty(clean: Work) -> Work:
    """Code and data that differ from HEAD in every way."""
    clean.write("train.py", "print('changed')\n")
    clean.write("new.py", "print('new')\n")
    clean.write("staged.py", "staged")
    clean.git("add", "staged.py")
    clean.write("staged.py", "staged, then changed")
    clean.write("data/images/a.txt", "changed a")
    clean.write("data/images/new.txt", "a new one")
    (clean.root / "data/images/b.txt").unlink()
    clean.write("more/file", "another target")
    clean.dv("add", "more")
    clean.write("train.log", "ignored")
    return clean


def _state(work: Work) -> tuple[str, str, bytes, Any]:
    index = (work.root / ".git/index").read_bytes()
    return (
        work.git("status", "--porcelain"),
        work.git("rev-parse", "HEAD"),
        index,
        work.dv("status").out,
    )


def test_allow_dirty_keeps_exactly_what_is_not_committed(dirty: Work) -> None:
    (dirty.root / ".git/info/exclude").write_text(".dv-runs\n")
    before = _state(dirty)
    shell(dirty, "true", "--allow-dirty")
    assert _state(dirty) == before
    found = record(dirty)
    ref = f"refs/dv/runs/{found['id']}"
    assert (found["ref"], found["parent"]) == (ref, dirty.git("rev-parse", "HEAD"))
    assert dirty.git("rev-parse", ref) == found["commit"]
    assert dirty.git("rev-parse", f"{ref}^") == found["parent"]
    changed = dirty.git("diff", "--name-only", f"{ref}^", ref).splitlines()
    assert changed == [
        *(".gitignore", "data/images.dv.json", "more.dv.json", "new.py", "staged.py", "train.py"),
    ]
    assert dirty.git("show", f"{ref}:staged.py") == "staged, then changed"
    listed = [one["path"] for one in dirty.dv("ls", "--rev", ref, "data", "--json").json["entries"]]
    assert listed == [
        *("data/images/a.txt", "data/images/new.txt", "data/images/sub/c.txt", "data/table.csv"),
    ]
    assert dirty.dv("cat", "--rev", ref, "data/images/a.txt").out == "changed a"
    assert dirty.dv("describe", ref, "--json").json["data_id"] == found["data_id"]


READS = """
import dvtool, os, subprocess
print(dvtool.read("data/images/a.txt").decode())
print(dvtool.read("data/images/a.txt", rev="HEAD").decode())
subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "moves HEAD"], check=True)
print(dvtool.read("data/images/a.txt").decode(), dvtool.snapshot().commit)
"""


def test_what_a_run_reads_is_of_the_commit_in_its_record(dirty: Work) -> None:
    head = dirty.dv("cat", "--rev", "HEAD", "data/images/a.txt").out
    ran = dirty.process("run", "--allow-dirty", "--", sys.executable, "-c", READS)
    found = record(dirty)
    assert ran.out.splitlines() == ["changed a", head, f"changed a {found['commit']}"]
    assert found["reads"]["count"] == 2
    (change,) = [each for each in found["reads"]["entries"] if each["blake3"] != _hash(head)]
    assert change == {"blake3": _hash("changed a"), "path": "data/images/a.txt"}


def _hash(text: str) -> str:
    return digest_of(text.encode()).hex()


def test_gc_keeps_what_only_a_run_needs(dirty: Work) -> None:
    shell(dirty, "true", "--allow-dirty")
    commit = record(dirty)["commit"]
    dirty.git("reset", "-q", "--hard")
    dirty.dv("checkout", "--force")
    dirty.dv("gc", "--unpushed", "--grace", "0d")
    assert dirty.dv("cat", "--rev", commit, "data/images/new.txt").out == "a new one"
    with Repo.open(dirty.root) as repo:
        needed = needed_content(repo._project, FOR_GC_UNPUSHED).contents
        lacking = repo._project.store.lacking(needed)
    assert lacking == set()
    # Once the ref is gone nothing needs it: the ref alone has kept it.
    dirty.git("update-ref", "-d", record(dirty)["ref"])
    dirty.dv("gc", "--unpushed", "--grace", "0d")
    dirty.dv("cat", "--rev", commit, "data/images/new.txt", code=3)


def test_a_dirty_run_may_be_pushed(dirty: Work) -> None:
    shell(dirty, "true", "--allow-dirty")
    ref = record(dirty)["ref"]
    dirty.dv("push", "--all")
    clone = dirty.clone()
    clone.git("fetch", "-q", "origin", f"{ref}:{ref}")
    assert clone.dv("cat", "--rev", ref, "data/images/new.txt").out == "a new one"


@pytest.mark.parametrize("kind", ["conflict", "nested", "submodule", "large", "socket"])
def test_what_cannot_be_kept_is_refused_and_named(clean: Work, kind: str) -> None:
    if kind == "conflict":
        clean.git("checkout", "-q", "-b", "side")
        clean.write("train.py", "side")
        clean.commit()
        clean.git("checkout", "-q", "main")
        clean.write("train.py", "main")
        clean.commit()
        subprocess.run(["git", "merge", "-q", "side"], cwd=clean.root, capture_output=True)
        code, name = 2, "train.py"
    elif kind == "nested":
        clean.git("init", "-q", "nested")
        clean.write("nested/file")
        code, name = 2, "nested/"
    elif kind == "submodule":
        clean.git("clone", "-q", str(clean.root), "../other")
        clean.git("submodule", "--quiet", "add", "../other", "sub")
        clean.commit()
        clean.write("sub/train.py", "changed")
        code, name = 2, "sub"
    elif kind == "large":
        clean.dv("config", "hooks.maxfilesize", "1k")
        clean.commit()
        clean.write("large.bin", b"x" * 2_000)
        code, name = 8, "large.bin (2.0 KiB)"
    else:
        os.mkfifo(clean.root / "data/images/pipe")
        code, name = 8, "data/images/pipe"
    ran = shell(clean, "echo ran", "--allow-dirty", code=code)
    assert (ran.out, name in ran.err) == ("", True)
    assert clean.git("for-each-ref", "refs/dv") == ""


@pytest.mark.parametrize("way", ["worktree", "sha256", "hooks"])
def test_a_dirty_run_in_other_kinds_of_repositories(clean: Work, tmp_path: Path, way: str) -> None:
    work = clean
    if way == "worktree":
        clean.git("worktree", "add", "-q", "../linked")
        work = Work(clean.root.parent / "linked")
        work.dv("checkout")
    elif way == "sha256":
        work = Work(tmp_path / "sha256")
        work.root.mkdir()
        work.git("init", "-q", "--object-format=sha256")
        work.dv("init")
        work.write("data/images/a.txt", "a")
        work.dv("add", "data/images")
        work.commit()
    else:
        clean.dv("hooks", "install")
        clean.commit()
    work.write("data/images/a.txt", "changed here")
    work.write("new.py", "new")
    shell(work, "cat data/images/a.txt", "--allow-dirty")
    ref = record(work)["ref"]
    assert work.dv("cat", "--rev", ref, "data/images/a.txt").out == "changed here"
    assert work.git("show", f"{ref}:new.py") == "new"
    assert work.read("data/images/a.txt") == b"changed here"
    ran = work.process("runs", "reproduce", "last")
    assert ran.out.startswith("changed here")


def test_a_repository_without_a_commit_can_run_dirty(work: Work) -> None:
    work.write("code.py", "pass")
    shell(work, "true", "--allow-dirty")
    assert record(work)["parent"] is None
    assert work.git("show", record(work)["ref"] + ":code.py") == "pass"


# --- signals and terminals ------------------------------------------------------------------

COUNT = """
import signal, sys, time
got = []
def note(number, _):
    got.append(number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, note)
open("ready", "w").close()
while not got:
    time.sleep(0.01)
time.sleep(0.5)
open("got", "w").write(" ".join(map(str, map(int, got))))
sys.exit(5)
"""


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)


@pytest.fixture
def counting(clean: Work) -> Work:
    clean.write("count.py", COUNT)
    clean.write(".gitignore", clean.read(".gitignore") + b"/ready\n/got\n")
    clean.commit()
    return clean


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_group", [True, False])
def test_a_signal_reaches_the_command_once(
    counting: Work, number: signal.Signals, to_group: bool
) -> None:
    words = command("run", "--", sys.executable, "count.py")
    process = subprocess.Popen(
        words, cwd=counting.root, start_new_session=True, stderr=subprocess.PIPE
    )
    _wait_for(counting.root / "ready")
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err.decode()
    assert counting.read("got").decode() == str(int(number))
    assert record(counting)["exit_status"] == 5


def test_ctrl_c_in_a_terminal_ends_the_command_and_is_recorded(counting: Work) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(counting.root)
        code = "import time, sys; assert sys.stdout.isatty(); open('ready', 'w'); time.sleep(99)"
        os.execv(sys.executable, command("run", "--", sys.executable, "-c", code))
    try:
        _wait_for(counting.root / "ready")
        os.write(terminal, b"\x03")
        text = b""
        with contextlib.suppress(OSError):  # what Linux says at the end
            while part := os.read(terminal, 1_000):
                text += part
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130, text.decode()
    assert text.count(b"KeyboardInterrupt") == 1
    assert record(counting)["exit_status"] == 130


def test_the_record_as_json_is_alone_on_standard_output(clean: Work) -> None:
    ran = shell(clean, "echo said; exit 3", "--json", code=3)
    assert ran.json == {"schema": 1, **record(clean)}
    assert ran.err.startswith("said\n")


def test_two_runs_at_once_do_not_collide(clean: Work) -> None:
    words = command("run", "--", "sh", "-c", "sleep 0.3")
    runs = [subprocess.Popen(words, cwd=clean.root, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert len(list((clean.root / ".dv-runs").iterdir())) == 3


def test_the_library_runs_too(clean: Work) -> None:
    with Repo.open(clean.root) as repo:
        done = repo.run(["sh", "-c", "exit 2"])
        assert done.exit_status == 2
        assert repo.runs.list().runs == [done]
        (clean.root / "new.py").touch()
        with pytest.raises(DvError, match="not all of code and data"):
            repo.run(["true"])
