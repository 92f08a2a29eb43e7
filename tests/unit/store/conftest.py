"""A local store, read in both of the ways that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.store import reader as readers
from dvtool.store.local import LocalStore


@pytest.fixture(params=["one by one", "ahead"])
def how_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of files of several chunks are read one by one, or some ahead in a thread."""
    if request.param == "ahead":
        monkeypatch.setattr(readers, "AHEAD_MIN_BYTES", 0)
        monkeypatch.setattr(readers, "PACKED_SHARE_MAX", 100)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with LocalStore(str(tmp_path / "dv")) as store:
        yield store
