"""The line in .gitignore: real git agrees that it matches the target and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.workspace.files import Workspace
from dvtool.workspace.gitignore import escape, ignore_target, unignore_target

ODD_NAMES = [
    "images",
    "a b",
    "end ",
    "two  ",
    " start",
    "tab\t",
    "#hash",
    "!not",
    "\\back",
    "back\\",
    "back\\ ",
    "star*",
    "que?y",
    "[set]",
    "[!a-z]",
    "**",
    "{a,b}",
    "é",
    "\u2028line",
    "form\x0cfeed",
    "next\x85line",
    "\U0001f600",
    "-dash",
    '"quoted"',
    "~",
    "...",
]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", root], check=True)
    with Workspace(str(root)) as workspace:
        yield workspace


def ignored(workspace: Workspace, *paths: str) -> list[str]:
    asked = "\0".join(paths).encode()
    command = ["git", "check-ignore", "--no-index", "-z", "--stdin"]
    done = subprocess.run(
        command, cwd=workspace.root, input=asked, capture_output=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return [path for path in done.stdout.decode().split("\0") if path]


def gitignore(workspace: Workspace, folder: str = "") -> Path:
    return Path(workspace.root, folder, ".gitignore")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_git_ignores_the_target_and_nothing_like_it(workspace: Workspace, name: str) -> None:
    assert ignore_target(workspace, name) == [".gitignore"]
    others = [f"x{name}", f"{name}x", f"sub/{name}", f"{name}.dv.json", "starx", "queey", "s", "b"]
    assert ignored(workspace, name, *others) == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_ignoring_twice_writes_one_line_and_unignoring_leaves_no_trace(
    workspace: Workspace, name: str
) -> None:
    for _ in range(3):
        ignore_target(workspace, name)
    assert gitignore(workspace).read_bytes() == f"/{escape(name)}\n".encode()
    assert unignore_target(workspace, name) == [".gitignore"]
    assert not gitignore(workspace).exists()
    assert unignore_target(workspace, name) == []


def test_all_odd_names_at_once(workspace: Workspace) -> None:
    for name in ODD_NAMES:
        ignore_target(workspace, name)
    assert ignored(workspace, *ODD_NAMES) == ODD_NAMES
    for name in ODD_NAMES[::2]:
        unignore_target(workspace, name)
    assert ignored(workspace, *ODD_NAMES) == ODD_NAMES[1::2]


def test_the_line_stands_in_the_gitignore_beside_the_target(workspace: Workspace) -> None:
    Path(workspace.root, "data/raw").mkdir(parents=True)
    assert ignore_target(workspace, "data/raw/images") == ["data/raw/.gitignore"]
    assert gitignore(workspace, "data/raw").read_text() == "/images\n"
    assert ignored(workspace, "data/raw/images", "data/images") == ["data/raw/images"]


@pytest.mark.parametrize(
    "before",
    [
        b"*.pyc\n\n# note\n",
        b"*.pyc",
        b"a\r\nb\r\n",
        b"latin \xe9\n",
        b"page\x0cbreak\n\xe2\x80\xa8x\n",
    ],
)
def test_other_lines_stay_byte_for_byte(workspace: Workspace, before: bytes) -> None:
    gitignore(workspace).write_bytes(before)
    ignore_target(workspace, "data")
    kept = before if before.endswith(b"\n") else before + b"\n"
    assert gitignore(workspace).read_bytes() == kept + b"/data\n"
    unignore_target(workspace, "data")
    assert gitignore(workspace).read_bytes() == kept


def test_a_line_that_ends_as_on_windows_counts(workspace: Workspace) -> None:
    gitignore(workspace).write_bytes(b"/data\r\n/other\r\n")
    ignore_target(workspace, "data")
    assert gitignore(workspace).read_bytes() == b"/data\r\n/other\r\n"
    unignore_target(workspace, "data")
    assert gitignore(workspace).read_bytes() == b"/other\r\n"


def test_an_empty_gitignore_gains_only_the_line(workspace: Workspace) -> None:
    gitignore(workspace).write_bytes(b"")
    ignore_target(workspace, "data")
    assert gitignore(workspace).read_bytes() == b"/data\n"
