"""Completion, in real shells: what is typed there, and what each of them makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Work

SHELLS = ("bash", "zsh", "fish")
BASH = """
source {script}
COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}
_dv_completion dv
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# Outside of zsh's line editor the builtins that take completions are not there: these print them.
ZSH = """
source {script}
[[ $_comps[dv] == _dv_completion ]] || print -u2 'command not found: the script did not register'
compadd() {{ local name=${{@[-1]}}; print -rl -- ${{(P)name}} }}
_describe() {{ local name=${{@[-1]}}; print -rl -- ${{${{(P)name}}%%:*}} }}
words=(${{(z)line}}); [[ $line == *' ' ]] && words+=(''); CURRENT=$#words
_dv_completion
"""


@pytest.fixture(scope="session")
def shells() -> None:
    """Install zsh and fish, where that is possible."""
    missing = [shell for shell in SHELLS if shutil.which(shell) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
            check=False,
            capture_output=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )


@pytest.fixture
def rich(pushed: Work) -> Work:
    """A repository with a branch, a second remote, and an entry that is not in the workspace."""
    pushed.git("branch", "topic")
    pushed.git("tag", "v1.0")
    pushed.dv("remote", "add", "backup", pushed.root.parent / "backup")
    pushed.dv("drop", "data/images/b.txt")
    pushed.write("data/with space.txt", "x")
    return pushed


CASES = (
    ("dv pu", {"push", "pull"}),
    ("dv add --no-st", {"--no-stage"}),
    ("dv remote re", {"remove", "rename"}),
    ("dv pull data/im", {"data/images/"}),
    ("dv pull -- data/images/", {"data/images/a.txt", "data/images/b.txt", "data/images/sub/"}),
    ("dv diff to", {"topic"}),
    ("dv diff v1.0..to", {"v1.0..topic"}),
    ("dv cat --rev v1", {"v1.0"}),
    ("dv cat topic:data/ta", {"topic:data/table.csv"}),
    ("dv push --remote ba", {"backup"}),
    ("dv remote remove b", {"backup"}),
    ("dv config hooks.m", {"hooks.maxfilesize"}),
    ("dv restore --source to", {"topic"}),
    ("dv -C data add tab", {"table.csv"}),
    ("dv add data/wi", {"data/with space.txt"}),
)


def _asked(work: Work, line: str) -> set[str]:
    """Ask as fish does."""
    env = {**os.environ, "_DV_COMPLETE": "fish_complete", "COMP_LINE": line.replace(" ", "\n")}
    done = subprocess.run(
        [sys.executable, "-m", "dvtool"],
        env=env,
        cwd=work.root,
        capture_output=True,
        text=True,
        check=True,
    )
    return {answer.split("\t")[1] for answer in done.stdout.splitlines()}


def test_what_may_follow(rich: Work) -> None:
    for line, values in CASES:
        assert _asked(rich, line) == values, line
    assert {"add", "push", "restore"} <= _asked(rich, "dv ")
    assert "main" in _asked(rich, "dv checkout ")
    assert _asked(rich, "dv pull -- to") == set()


def _run(shell: str, program: str, work: Work, tmp_path: Path) -> str:
    """Run a program in a shell in which the command `dv` is this one."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir(exist_ok=True)
    dv = bin_folder / "dv"
    dv.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dvtool "$@"\n')
    dv.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [shell, "-c", program],
        cwd=work.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert "command not found" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.usefixtures("shells")
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(rich: Work, tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here, and cannot be installed (root and apt-get are needed)")
    script = tmp_path / f"dv.{shell}"
    script.write_text(rich.dv("completion", shell).out)
    for line, values in (CASES[0], CASES[4], CASES[6], CASES[8], CASES[9]):
        if shell == "bash":
            out = _run(shell, BASH.format(script=script, line=f"'{line}'"), rich, tmp_path)
            # bash breaks words at a colon: what is before it stays on the line.
            assert set(out.split("\n")) - {""} == {value.rpartition(":")[2] for value in values}
        elif shell == "fish":
            out = _run(shell, f"source {script}; complete -C '{line}'", rich, tmp_path)
            assert {each.split("\t")[0] for each in out.splitlines()} == values
        else:
            program = f"line='{line}'\n" + ZSH.format(script=script)
            out = _run(shell, program, rich, tmp_path)
            assert set(out.split("\n")) - {""} == {value.rstrip("/") for value in values}


def test_completion_of_an_unknown_shell(bare: Work) -> None:
    assert "hint: run: dv completion --help" in bare.dv("completion", "csh", code=2).err


def test_outside_of_a_repository_only_files_and_commands_follow(tmp_path: Path) -> None:
    work = Work(tmp_path)
    assert _asked(work, "dv push --remote ") == set()
    assert "push" in _asked(work, "dv pus")
