"""Real repositories, made by the git program, and what tests do in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.git import Git


def run(folder: Path, *args: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, input=stdin)
    return os.fsdecode(done.stdout).strip()


def write(folder: Path, name: str, text: str = "{}\n") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(folder: Path, files: dict[str, str], message: str = "change") -> str:
    for name, text in files.items():
        write(folder, name, text)
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "-m", message)
    return run(folder, "rev-parse", "HEAD")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    run(tmp_path, "init", "-q", "repo")
    return tmp_path / "repo"


@pytest.fixture
def git(top: Path) -> Iterator[Git]:
    with Git.discover(str(top)) as found:
        yield found


@pytest.fixture
def linked(top: Path, tmp_path: Path) -> Path:
    """A second worktree, of a repository with one commit of ``a.dv.json``."""
    commit(top, {"a.dv.json": "1"})
    run(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    return tmp_path / "linked"


def texts_in(git: Git, found: dict[str, set[str]]) -> dict[str, list[str]]:
    """Return the content of blobs in place of their ids."""
    return {
        path: sorted(git.read_blob(blob).decode() for blob in blobs)
        for path, blobs in found.items()
    }
