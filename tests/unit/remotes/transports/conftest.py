"""A folder as a remote."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.remotes.transports.local.backend import LocalBackend


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "remote"
    path.mkdir()
    return path


@pytest.fixture
def local(root: Path) -> LocalBackend:
    return LocalBackend(str(root))
