from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dvtool.errors import DvError
from dvtool.git import Git
from dvtool.git.saving import FileChange


def _git(top: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=top, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "saving"
    top.mkdir()
    _git(top, "init", "-q")
    for name in ("a", "b", "with space", "left/out"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(name)
    (top / ".gitignore").write_text("*.log\n")
    _git(top, "add", "-A")
    _git(top, "commit", "-qm", "one")
    return top


def test_changes_are_told_apart(repository: Path) -> None:
    with Git.discover(str(repository)) as git:
        assert git.changes() == []
        (repository / "with space").write_text("changed")
        (repository / "a").unlink()
        _git(repository, "rm", "-q", "--cached", "b")
        (repository / "new\nline").touch()
        (repository / "x.log").touch()
        (repository / "left/new").touch()
        _git(repository, "init", "-q", "nested")
        (repository / "nested/file").touch()
        assert git.changes(exclude=["left"]) == [
            FileChange("a", "tracked"),
            FileChange("b", "tracked"),
            FileChange("b", "untracked"),
            FileChange("nested/", "repository"),
            FileChange("new\nline", "untracked"),
            FileChange("with space", "tracked"),
        ]


def test_a_commit_of_the_worktree_changes_nothing_else(repository: Path) -> None:
    (repository / "a").write_text("changed")
    (repository / "new").write_text("new")
    (repository / "left/out").write_text("not this")
    (repository / "x.log").touch()
    before = (repository / ".git/index").read_bytes()
    with Git.discover(str(repository)) as git:
        commit = git.commit_worktree(
            "subject", exclude=["left", "x.log"], instead={"b": b"put", "more/c": b"put too"}
        )
        git.make_ref("refs/dv/runs/one", commit)
        with pytest.raises(DvError):
            git.make_ref("refs/dv/runs/one", commit)
    assert (repository / ".git/index").read_bytes() == before
    assert _git(repository, "rev-parse", "refs/dv/runs/one^") == _git(
        repository, "rev-parse", "HEAD"
    )
    names = _git(repository, "diff", "--name-only", "HEAD", "refs/dv/runs/one").splitlines()
    assert names == ["a", "b", "more/c", "new"]
    assert _git(repository, "show", "refs/dv/runs/one:more/c") == "put too"
    assert _git(repository, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_records_of_runs_make_nothing_dirty(repository: Path) -> None:
    (repository / ".dv-runs").mkdir()
    (repository / ".dv-runs/one.json").touch()
    _git(repository, "add", ".dv-runs")
    _git(repository, "commit", "-qm", "record")
    (repository / ".dv-runs/one.json").write_text("other")
    with Git.discover(str(repository)) as git:
        assert not git.is_dirty()
        assert not git.is_dirty(exclude_untracked=False)
        (repository / "a").write_text("changed")
        assert git.is_dirty()
