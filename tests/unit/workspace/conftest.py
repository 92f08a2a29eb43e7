"""A worktree to work in, and a folder beside it that must stay as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.workspace.files import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the worktree with a file in it, which must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("theirs")
    (folder / "sub" / "file").write_text("theirs")
    return folder


@pytest.fixture
def workspace(root: Path) -> Iterator[Workspace]:
    with Workspace(str(root)) as workspace:
        yield workspace
