"""No code of a repository runs: not by what git starts, nor by what dvtool starts itself.

The worktree has a module for each that Python and dvtool import, and a program for each that is
started; all of them leave a mark. The environment is as bad as people have it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.hooks.scripts import NAMES
from tests.cli.conftest import Work

MODULES = (
    "click",
    "msgspec",
    "sitecustomize",
    "usercustomize",
    "encodings",
    "re",
    "json",
    "dvtool",
    "zstandard",
    "multiprocessing",
    "subprocess",
    "boto3",
)
PROGRAMS = ("git", "dv", "python", "python3", "rclone", "ssh")
ENVIRONMENTS = {
    "nothing": {},
    "PYTHONPATH-here": {"PYTHONPATH": "."},
    "PYTHONPATH-empty-entry": {"PYTHONPATH": f":{os.sep}nowhere"},
    "PYTHONPATH-absolute": {"PYTHONPATH": "WORKTREE"},
    "PYTHONSTARTUP": {"PYTHONSTARTUP": "click.py", "PYTHONINSPECT": "1"},
    "PYTHONHOME": {"PYTHONHOME": "WORKTREE"},
    "PYTHONUSERBASE": {"PYTHONUSERBASE": "WORKTREE"},
    "PATH-here-first": {"PATH": f".{os.pathsep}{os.environ['PATH']}"},
    "PATH-empty-entry-first": {"PATH": f"{os.pathsep}{os.environ['PATH']}"},
}


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), path.read_text()


@pytest.fixture
def hostile(work: Work, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A clone with hooks, drivers and two branches, full of code that leaves a mark."""
    monkeypatch.delenv("DV_HOOKS_INSTALL")
    work.dv("hooks", "install")
    place_code(work, mark)
    work.write("data/f", "one\n")
    work.dv("add", "data")
    work.commit("data")
    for branch in ("ours", "theirs"):
        work.git("checkout", "--quiet", "-b", branch, "main")
        work.write(f"data/{branch}", branch)
        work.dv("add", "data")
        work.git("commit", "--quiet", "--all", "--message", branch)
    assert not mark.exists()
    return work


def place_code(work: Work, mark: Path) -> None:
    line = f"open({str(mark)!r}, 'a').write(__name__ + chr(10))\n"
    for name in MODULES:
        work.write(f"{name}.py", line)
    user_site = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    work.write(f"{user_site}/usercustomize.py", line)
    work.write(f"{user_site}/x.pth", f"import sys; {line}")
    for name in PROGRAMS:
        work.write(name, f"#!/bin/sh\necho {name} >> {shlex.quote(str(mark))}\n").chmod(0o755)


def environment(name: str, work: Work) -> dict[str, str]:
    given = {
        variable: value.replace("WORKTREE", str(work.root))
        for variable, value in ENVIRONMENTS[name].items()
    }
    return {**os.environ, **given}


def git(work: Work, env: dict[str, str], *args: str) -> str:
    program = subprocess.run(["which", "git"], capture_output=True, check=True).stdout.strip()
    done = subprocess.run(
        [program, *args], cwd=work.root, env=env, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return os.fsdecode(done.stdout + done.stderr)


def dv(work: Work, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run `dv` as its entry point does, which has no current folder among its modules."""
    command = [sys.executable, "-P", "-m", "dvtool", *args]
    return subprocess.run(command, cwd=work.root, env=env, capture_output=True, check=False)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_hooks_and_drivers_import_and_start_nothing_of_the_worktree(
    hostile: Work, tmp_path: Path, name: str
) -> None:
    env = environment(name, hostile)
    git(hostile, env, "checkout", "ours")
    assert hostile.read("data/ours") == b"ours"
    assert "theirs  6 B" in git(hostile, env, "diff", "ours", "theirs")
    git(hostile, env, "merge", "--no-edit", "theirs")
    assert hostile.read("data/theirs") == b"theirs"
    hostile.write("data/more", "more")
    hostile.dv("add", "data")
    git(hostile, env, "commit", "--all", "--message", "more")
    git(hostile, env, "init", "--quiet", "--bare", str(tmp_path / "hub.git"))
    git(hostile, env, "push", str(tmp_path / "hub.git"), "HEAD:main")
    assert "proven" in hostile.dv("push").out


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_hooks_and_drivers_without_their_interpreter_run_nothing_of_the_worktree(
    hostile: Work, tmp_path: Path, name: str
) -> None:
    """What they fall back on is a `dv` of the PATH, an absolute one."""
    installed = tmp_path / "bin/dv"
    installed.parent.mkdir()
    installed.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m dvtool "$@"\n')
    installed.chmod(0o755)
    gone = shlex.quote(sys.executable)
    for hook in NAMES:
        path = hostile.root / ".git/hooks" / hook
        path.write_text(path.read_text().replace(f"python={gone}", "python=/gone"))
    for key in ("merge.dv.driver", "diff.dv.textconv"):
        command = hostile.git("config", key).replace(gone, "/gone")
        hostile.git("config", key, command)
    env = environment(name, hostile)
    env["PATH"] = f"{env['PATH'].partition(os.pathsep)[0]}:{installed.parent}:/usr/bin:/bin"
    said = git(hostile, env, "checkout", "ours")
    if name.startswith("PATH-"):  # the first `dv` of the PATH is the worktree's
        assert "not installed here" in said
        assert '"blake3"' in git(hostile, env, "diff", "ours", "theirs")
        return
    assert hostile.read("data/ours") == b"ours"
    assert "theirs  6 B" in git(hostile, env, "diff", "ours", "theirs")
    git(hostile, env, "merge", "--no-edit", "theirs")
    installed.unlink()
    git(hostile, env, "checkout", "theirs")


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name.startswith("PATH")])
def test_a_command_starts_no_program_of_the_current_folder(
    hostile: Work, tmp_path: Path, name: str
) -> None:
    env = environment(name, hostile)
    for verb in ("status", "diff ours theirs", "checkout", "doctor", "push", "fetch"):
        assert dv(hostile, env, *verb.split()).returncode == 0, verb
    code = "import sys; import dvtool; dvtool.clone(sys.argv[1], sys.argv[2])"
    subprocess.run(
        [sys.executable, "-P", "-c", code, str(hostile.root), str(tmp_path / "clone")],
        cwd=hostile.root,
        env=env,
        check=True,
    )
    assert (tmp_path / "clone/data.dv.json").exists()


def test_a_program_for_credentials_is_none_of_the_current_folder(
    hostile: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "aws"
    settings.write_text("[default]\ncredential_process = rclone\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    env = environment("PATH-here-first", hostile)
    endpoint = ("--endpoint-url", "http://127.0.0.1:9")
    assert dv(hostile, env, "remote", "add", "s3", "s3://bucket", *endpoint).returncode == 0
    ran = dv(hostile, env, "push", "--remote", "s3")
    assert ran.returncode != 0
    assert b"rclone" in ran.stdout + ran.stderr


# --- repositories within the repository -----------------------------------------------------


@pytest.fixture
def embedded(work: Work, mark: Path) -> Path:
    """A bare repository committed as files, whose configuration names a program."""
    place = work.root / "docs/example"
    work.git("init", "--quiet", "--bare", str(place))
    command = f"touch {shlex.quote(str(mark))}"
    with (place / "config").open("a") as file:
        file.write(
            f"[core]\n\tfsmonitor = {command}\n\tsshCommand = {command}\n\tpager = {command}\n"
            f"\tworktree = ..\n"
        )
    (place / "refs/heads/.keep").write_text("")
    (place / "objects/.keep").write_text("")
    work.git("add", "--all", "--force")
    work.git("commit", "--quiet", "--message", "docs")
    return place


@pytest.mark.parametrize("verb", ["status", "ls", "log data", "describe", "fetch", "doctor"])
@pytest.mark.parametrize("below", ["", "/objects", "/refs/heads"])
def test_a_bare_repository_among_the_files_of_another_is_refused(
    work: Work, embedded: Path, verb: str, below: str
) -> None:
    text = (embedded / "config").read_text().replace("\tworktree = ..\n", "")
    (embedded / "config").write_text(text)
    ran = work.dv(*verb.split(), cwd=f"docs/example{below}", code=None)
    assert ran.code in (1, 3)
    assert "is a bare repository among the files of another one" in " ".join(
        (ran.out + ran.err).split()
    )


def test_a_bare_repository_that_is_named_is_used(
    work: Work, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (embedded / "config").write_text("[core]\n\tbare = true\n")
    monkeypatch.setenv("GIT_DIR", str(embedded))
    assert "is not set up" in work.dv("log", "data", cwd="docs/example", code=3).err
