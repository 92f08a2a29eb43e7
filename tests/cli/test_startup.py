"""What a command starts and loads: no more than it uses. Counted, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Work

# Settings need what the transports declare, and nothing that moves a byte.
LOADED = """
import sys
from dvtool import cli
code = cli.run_command(sys.argv[1:])
heavy = ("git", "boto3", "botocore", "filelock", "tqdm", "pyfastcdc", "multiprocessing",
    "concurrent.futures", "logging", "importlib.metadata", "json", "hypothesis")
rooms = ("dvtool.verbs.", "dvtool.remotes.transports")
declared = ("dvtool.remotes.transports", "dvtool.remotes.transports.local",
    "dvtool.remotes.transports.s3", "dvtool.remotes.transports.registry",
    *(f"dvtool.remotes.transports{kind}.declaration" for kind in ("", ".local", ".s3")))
own = [name for name in sys.modules if name.startswith(rooms) and name not in declared]
print("LOADED", *sorted([name for name in heavy if name in sys.modules] + own))
sys.exit(code)
"""


def loaded_by(work: Work, *args: str) -> set[str]:
    """Run a command; return which modules of note it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *args], cwd=work.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("LOADED")[2].split()) - {"dvtool.verbs.__init__"}


def git_commands(work: Work, log: Path, *args: str) -> list[str]:
    """Run a command; return the git commands that it ran."""
    log.unlink(missing_ok=True)
    work.process(*args, env={"GIT_TRACE": str(log)})
    lines = log.read_text().splitlines() if log.exists() else []
    return [
        line.partition("built-in: git ")[2].split(" ")[0] for line in lines if "built-in" in line
    ]


@pytest.mark.parametrize(
    ("args", "verbs"),
    [
        (("status",), {"status", "resolve", "resolve.conflicts", "resolve.records"}),
        (("ls",), {"read"}),
        (("config",), set()),
        (("diff",), {"diff"}),
        (("log", "data/images"), {"log"}),
        (("cat", "data/table.csv"), {"read"}),
    ],
)
def test_a_command_that_looks_loads_what_it_uses(
    data: Work, args: tuple[str, ...], verbs: set[str]
) -> None:
    loaded = loaded_by(data, *args)
    assert loaded - {"json"} == {f"dvtool.verbs.{verb}" for verb in verbs}


# Loading click takes a quarter of what these commands take, and what it loads besides as long.
BY_ITSELF = """
import sys
from dvtool import cli
code = cli.run_command(sys.argv[1:])
names = ("click", "inspect", "typing_extensions", "dataclasses", "dvtool.workspace.walk")
print("LOADED", *[name for name in names if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("args", "loaded"),
    [
        (("status",), {"dvtool.workspace.walk"}),  # which small targets need
        (("status", "data"), {"dvtool.workspace.walk"}),
        (("hooks", "run", "post-checkout", "1" * 40, "2" * 40, "1"), set()),
        (("status", "--exit-code"), {"click", "inspect", "dvtool.workspace.walk"}),
        (("-C", ".", "status"), {"click", "inspect", "dvtool.workspace.walk"}),
    ],
)
def test_what_prompts_and_git_run_begins_without_click(
    data: Work, args: tuple[str, ...], loaded: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BY_ITSELF, *args], cwd=data.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.partition("LOADED")[2].split()) == loaded


def test_a_switch_loads_nothing_that_brings_files_into_the_store(data: Work) -> None:
    data.write("data/images/a.txt", "other content")
    data.process("add", "data/images")
    data.commit("Other data")
    data.process("hooks", "uninstall")
    data.git("checkout", "-q", "HEAD~1")
    script = BY_ITSELF.replace('"inspect", ', '"inspect", "tempfile", "dvtool.jobs.ingest", ')
    hook = ("hooks", "run", "post-checkout", "1" * 40, "2" * 40, "1")
    done = subprocess.run(
        [sys.executable, "-c", script, *hook], cwd=data.root, capture_output=True, text=True
    )
    assert "1 file written" in done.stderr
    assert done.stdout.split() == ["LOADED", "dvtool.workspace.walk"]


def test_an_early_look_begins_before_anything_large_is_loaded() -> None:
    script = "import sys, dvtool.project.early_look; print('msgspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


def test_without_click_a_command_says_the_same(data: Work) -> None:
    data.write("data/images/a.txt", "other content")
    for paths in ((), ("data/images",), ("data/nowhere",)):
        plainly = data.process("status", *paths, code=None)
        by_click = data.process("status", "--progress", "auto", *paths, code=None)
        assert plainly == by_click
    unknown = data.process("hooks", "run", "post-nothing", code=2)
    assert "no hook of dvtool: post-nothing" in unknown.err


def test_adding_loads_no_remote(data: Work) -> None:
    data.write("data/images/new.txt", "new")
    loaded = loaded_by(data, "add", "data/images")
    assert not loaded & {
        "git",
        "boto3",
        "pyfastcdc",
        "multiprocessing",
        "dvtool.remotes.transports.base",
    }
    assert "dvtool.verbs.push.upload" not in loaded


def test_a_checkout_loads_no_remote_unless_content_is_missing(data: Work) -> None:
    data.write("data/images/a.txt", "other content")
    data.process("add", "data/images")
    data.commit("Other data")
    loaded = loaded_by(data, "checkout", "HEAD~1", "--", "data/images")
    assert "dvtool.verbs.checkout.plan" in loaded
    assert not loaded & {
        "git",
        "dvtool.remotes.transports.base",
        "dvtool.verbs.push.upload",
        "dvtool.verbs.fetch.download",
    }
    assert not loaded & {"dvtool.verbs.status", "dvtool.verbs.add.publish"}


def test_status_reads_no_pack(data: Work) -> None:
    script = LOADED.replace(
        '"git", ', '"git", "dvtool.format.pack", "dvtool.format.locations", "zstandard", '
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "status"], cwd=data.root, capture_output=True, text=True
    )
    loaded = set(done.stdout.partition("LOADED")[2].split())
    assert "dvtool.verbs.status" in loaded
    assert not loaded & {"dvtool.format.pack", "dvtool.format.locations", "zstandard"}


def test_a_push_to_a_folder_loads_nothing_of_s3(pushed: Work) -> None:
    assert not loaded_by(pushed, "push") & {
        "git",
        "boto3",
        "botocore",
        "dvtool.remotes.transports.s3.backend",
    }


def test_how_often_git_is_asked(data: Work, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    status = git_commands(data, log, "status")
    asked = ["config", "config", "diff-index", "ls-files", "rev-parse"]
    assert sorted(status) == sorted([*asked, "log"])  # log: what is not pushed
    data.process("push")
    assert sorted(git_commands(data, log, "status")) == asked
    data.write("data/images/a.txt", "other content")
    add = git_commands(data, log, "add", "data/images")
    assert len(add) <= 9, add
    assert git_commands(data, log, "--version") == []
    assert len(git_commands(data, log, "ls")) <= 4
    hook = git_commands(data, log, "hooks", "run", "post-checkout", "1" * 40, "2" * 40, "1")
    assert sorted(hook) == ["config", "config", "ls-files", "rev-parse"]


def test_a_push_lists_the_manifests_of_a_commit_once(pushed: Work, tmp_path: Path) -> None:
    assert git_commands(pushed, tmp_path / "trace", "push").count("diff-tree") == 1


def test_a_commit_without_data_starts_no_python(data: Work, tmp_path: Path) -> None:
    data.process("hooks", "install")
    hook = (data.root / ".git/hooks/pre-commit").read_text()
    counter = data.root.parent / "python"
    counter.write_text(
        f'#!/bin/sh\necho started >> "{tmp_path}/started"\nexec "{sys.executable}" "$@"\n'
    )
    counter.chmod(0o755)
    assert sys.executable in hook
    for name in ("pre-commit", "post-commit"):
        path = data.root / ".git/hooks" / name
        path.write_text(path.read_text().replace(sys.executable, str(counter)))
    data.write("code.py", "print(1)")
    data.commit("A first look at the data")
    (tmp_path / "started").unlink()
    os.utime(data.root / ".git/dv/clean")  # as if the data was not as young as the look at it
    data.write("code.py", "print(2)")
    data.commit("Only code")
    assert not (tmp_path / "started").exists()
    data.write("data/images/a.txt", "other content")
    data.process("add", "data/images")
    data.commit("Data, too")
    assert (tmp_path / "started").exists()


INTERRUPTED_LOADING = """
import os, signal, sys
from dvtool import cli

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "msgspec":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            print("loads on")

sys.meta_path.insert(0, Interrupting())
sys.exit(cli.run_command(["status"]))
"""


def test_ctrl_c_waits_until_msgspec_is_loaded(data: Work) -> None:
    # Its C code takes an interrupt in there for a missing module, and crashes later.
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_LOADING], cwd=data.root, capture_output=True, text=True
    )
    assert ran.stdout == "loads on\n"
    assert (ran.returncode, "interrupted" in ran.stderr) == (130, True)
