"""Opening a repository from a program: by which path, and with whose settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool import Repo
from tests.scenario import Clone


@pytest.fixture
def mine(tmp_path: Path) -> Clone:
    return Clone.new(tmp_path / "mine")


def test_settings_are_those_of_the_environment_unless_some_are_given(
    mine: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DV_CORE_JOBS", "3")

    def jobs(repo: Repo) -> tuple[int, str]:
        with repo:
            repo.config.init()  # which reads the settings again
            values = repo.config.values
            return values.number("core.jobs"), values.source("core.jobs")

    assert jobs(Repo.open(mine.path)) == (3, "environment")
    assert jobs(Repo.open(mine.path, environ={})) == (0, "default")
    assert jobs(Repo.open(mine.path, environ={"DV_CORE_JOBS": "5"})) == (5, "environment")


def test_a_folder_may_be_a_path(mine: Clone) -> None:
    mine.write("data/one.txt", b"one")
    with Repo.open(mine.path / "data") as repo:
        repo.config.init()
        (added,) = repo.add(Path("one.txt"))
        assert added.target == "data/one.txt"
