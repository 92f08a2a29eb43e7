"""The wheel, the steps of the action, the release, and the pre-commit entries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dvtool
from dvtool import cli
from tests.cli.conftest import Work
from tests.layers import PROJECT

ACTION = PROJECT / "scripts" / "action"


@pytest.fixture
def dv_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dvtool "$@"\n')
    (folder / "dv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON", sys.executable)


def _step(work: Work, name: str, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        ["bash", str(ACTION), name],
        cwd=work.root,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.usefixtures("dv_on_path")
def test_the_steps_of_the_action(pushed: Work, tmp_path: Path) -> None:
    clone = pushed.clone()
    output, report = tmp_path / "output", tmp_path / "report.md"
    _step(clone, "key", GITHUB_OUTPUT=str(output))
    assert re.fullmatch(r"key=[0-9a-f]{64}\n", output.read_text())
    _step(clone, "pull", DV_ACTION_PATHS="data/images/*.txt\n\n")
    assert sorted(os.listdir(clone.root / "data/images")) == ["a.txt", "b.txt"]
    _step(clone, "pull")
    _step(clone, "check")
    clone.write("data/images/a.txt", "changed")
    _step(clone, "check", code=1)
    clone.write("data/images/<b>|x.txt", "new")
    clone.dv("add", "data/images")
    clone.commit("second")
    env = {"GITHUB_OUTPUT": str(output), "DV_ACTION_REPORT": str(report)}
    shown = _step(clone, "diff", DV_ACTION_BASE="HEAD~1", **env)
    assert "| <code>data/images</code> | 1 | 1 | 0 | 0 | -6 B |" in shown
    assert "added: <code>data/images</code> <code>&lt;b&gt;&#124;x.txt</code>" in shown
    assert report.read_text() == shown
    assert "No data changed." in _step(clone, "diff", DV_ACTION_BASE="HEAD", **env)
    _step(clone, "diff", code=1, **env)
    _step(clone, "nosuch", code=2)


@pytest.mark.usefixtures("dv_on_path")
def test_the_comment_is_the_report(data: Work, tmp_path: Path) -> None:
    said = tmp_path / "said"
    gh = tmp_path / "bin" / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" > {said}\n')
    gh.chmod(0o755)
    _step(data, "comment", PR_NUMBER="7", DV_ACTION_REPORT="report.md")
    assert said.read_text().startswith("pr comment 7 --body-file report.md")
    _step(data, "comment", code=1)


def test_the_action_runs_steps_that_there_are_and_no_input_as_code() -> None:
    text = (PROJECT / "action.yml").read_text()
    steps = re.findall(r"scripts/action\" (\w+)", text)
    script = ACTION.read_text()
    assert set(steps) == {"install", "key", "pull", "check", "diff", "comment"}
    assert all(f"\n{step})" in script for step in steps)
    assert not [line for line in text.splitlines() if "run:" in line and "${{" in line]
    inputs = re.findall(r"^  ([\w-]+):$", text.partition("\noutputs:")[0], re.MULTILINE)
    page = (PROJECT / "docs" / "install.md").read_text("utf-8")
    assert len(inputs) > 5 and all(f"| `{name}` |" in page for name in inputs)


def test_the_wheel_has_what_dv_needs(tmp_path: Path) -> None:
    shutil.copytree(
        PROJECT / "dvtool", tmp_path / "dvtool", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, tmp_path)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"dvtool/cli/shells/dv.{shell}" for shell in ("bash", "zsh", "fish")} <= names
    assert "dvtool/py.typed" in names
    (entry,) = (name for name in names if name.endswith("entry_points.txt"))
    assert b"dv = dvtool.cli:main" in zipfile.ZipFile(wheel).read(entry)
    assert not [name for name in names if name.startswith(("tests", "scripts"))]


def test_a_release_is_made_of_what_fits_together_only(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    shutil.copytree(
        PROJECT / "scripts", work.root / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        PROJECT / "dvtool", work.root / "dvtool", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, work.root)
    work.write(".gitignore", "__pycache__\n.stub\ndist\n")
    # The virtual environment is the one of these tests.
    work.write("scripts/venv.sh", 'set -euo pipefail\ncd "$(dirname "${BASH_SOURCE[0]}")/.."\n')
    version = dvtool.__version__
    work.write("CHANGELOG.md", f"# Changelog\n\n## {version} (not released)\n\n- one\n")
    work.git("init", "-q")
    work.commit("first")
    assert "has to be" in _release(work, code=3)
    work.write(
        "CHANGELOG.md", f"# Changelog\n\n## {version} (2026-01-31)\n\n- one\n\n## 0.0.1\n\n- old\n"
    )
    assert "not committed" in _release(work, code=3)
    work.commit("release")
    said = _release(work)
    assert f"git tag --sign v{version}" in said
    assert (work.root / "dist/CHANGES.md").read_text() == f"## {version} (2026-01-31)\n\n- one\n\n"
    sums = (work.root / "dist/SHA256SUMS").read_text()
    _release(work)
    assert (work.root / "dist/SHA256SUMS").read_text() == sums
    work.git("tag", f"v{version}")
    assert "a tag" in _release(work, code=3)


def _release(work: Work, code: int = 0) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "scripts/release", "--no-tests"],
        cwd=work.root,
        env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_pre_commit_entries_are_hooks_that_there_are(data: Work) -> None:
    text = (PROJECT / ".pre-commit-hooks.yaml").read_text()
    entries = re.findall(r"entry: dv hooks run ([\w-]+)\n", text)
    stages = re.findall(r"stages: \[([\w-]+)\]", text)
    assert [stage for stage in entries if stage not in stages] == []
    assert len(set(entries)) == len(entries)
    assert text.count("language: python") == text.count("- id: ")
    assert text.count("minimum_pre_commit_version: 3.2.0") >= len(entries)
    assert "pre-commit" in entries
    data.dv("hooks", "run", "pre-commit")


def test_no_message_names_a_package_index() -> None:
    for path in (PROJECT / "dvtool").rglob("*.py"):
        assert "pip install" not in path.read_text(encoding="utf-8"), path


def test_windows_is_refused_with_what_works(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "PLATFORM", "nt")
    ran = data.dv("status", code=3)
    assert "does not run on Windows" in ran.err
    assert "WSL 2" in ran.err
    assert data.dv("--version").out == f"dv {dvtool.__version__}\n"
    assert "Usage: dv add" in data.dv("add", "--help").out
