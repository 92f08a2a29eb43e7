"""`dv cache`: where it is, how much is in it, and cleaning it, inside a repository and outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.snapshots.cache import FrameCache
from tests.cli.conftest import Work


def test_the_cache_is_shown_and_cleaned(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    work.dv("config", "cache.path", str(folder))
    work.dv("config", "cache.size", "1M")
    cache = FrameCache(str(folder), 1 << 20)
    for number in range(3):
        cache.put(f"{number:03}", b"x" * 1_000)
    shown = work.dv("cache").lines
    assert shown[0] == f"path    {folder}"
    assert shown[1] == "files   3, 2.9 KiB, at most 1.0 MiB"
    assert shown[2] == "clones  0, 0 B"
    document = work.dv("cache", "show", "--json").json
    assert (document["files"], document["limit_bytes"]) == (3, 1 << 20)
    assert work.dv("cache", "clean").lines == ["removed 3 files of frames and 0 clones, 2.9 KiB"]
    assert work.dv("cache", "clean", "--json").json["files"] == 0


def test_outside_of_a_repository_it_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    done = Work(tmp_path).process("cache")
    assert done.lines[0] == f"path    {tmp_path / 'home' / 'dvtool'}"
