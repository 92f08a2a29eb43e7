"""Following git by the lines that differ does what a look at the whole does, and claims no more."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dvtool.format import manifest as manifests
from dvtool.repo import Repo
from dvtool.store.freeing import drop_chunks
from dvtool.verbs.checkout import follow
from dvtool.workspace.statcache import StatCache
from tests.property.test_agreement import seen_by, without_agreed_folders

FILES = 40
SEEDS = 6


@pytest.fixture(autouse=True)
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "INLINE_ENTRIES_MAX", 10)
    monkeypatch.setattr(manifests, "SHARD_ENTRIES_AVERAGE", 8)


def git(root: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=root, check=True, capture_output=True)


def put(root: Path, number: int, text: str) -> None:
    path = root / f"data/{'abc'[number % 3]}/f{number:02}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def two_versions(root: Path, chance: random.Random) -> None:
    """Make a repository with two commits, which differ in some files, and have it at the second."""
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for number in range(FILES):
        put(root, number, f"{number}")
    with Repo.open(str(root)) as repo:
        repo.config.init()
        repo.add(["data"])
        git(root, "add", "-A")
        git(root, "commit", "-qm", "before")
        git(root, "tag", "before")
        for number in chance.sample(range(FILES), chance.randint(1, 3)):
            put(root, number, f"other {number}")
        if chance.random() < 0.4:
            path = root / "data/a/f03"
            path.chmod(path.stat().st_mode | 0o111)
        if chance.random() < 0.2:
            (root / "data/b/f01").unlink()
        repo.add(["data"])
        git(root, "add", "-A")
        git(root, "commit", "-qm", "after")
        repo.status()


def meddle(root: Path, chance: random.Random) -> None:
    """Do what a user may have done before git switches."""
    for _ in range(chance.randrange(3)):
        number = chance.randrange(FILES)
        path = root / f"data/{'abc'[number % 3]}/f{number:02}"
        kind = chance.choice(("edit", "remove", "link", "touch", "folder"))
        if kind == "edit":
            put(root, number, "the user's own") if path.is_file() else None
        elif kind == "touch" and path.exists():
            os.utime(path)
        elif path.is_file():
            path.unlink()
            if kind == "link":
                path.symlink_to("elsewhere")
            elif kind == "folder":
                path.mkdir()
    if chance.random() < 0.2:
        (root / ".git/dv/statcache.db").unlink()


def synced(root: Path) -> dict[str, Any]:
    with Repo.open(str(root)) as repo:
        result = repo.for_git.sync()
    return {
        "kept": sorted(result.kept),
        "missing": result.missing_files,
        "failed": result.failed,
        "written": result.written,
        "removed": result.removed,
        "files": {
            str(path.relative_to(root)): (
                os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes(),
                path.lstat().st_mode,
            )
            for path in sorted((root / "data").rglob("*"))
        },
        "base": (root / ".git/dv/base/data.dv.json").read_bytes(),
    }


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_short_way_does_what_a_look_at_the_whole_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    root, other = tmp_path / "short", tmp_path / "whole"
    two_versions(root, chance)
    for rev in ("before", "main", "before"):
        meddle(root, chance)
        shutil.rmtree(other, ignore_errors=True)
        git(root, "checkout", "-q", rev)
        shutil.copytree(root, other, symlinks=True)
        short = synced(root)
        with monkeypatch.context() as patch:
            patch.setattr(follow, "_plan_edits", lambda *_: None)
            assert synced(other) == short
        with without_agreed_folders():
            expected = seen_by(other)
        assert seen_by(root) == expected


def test_a_switch_looks_at_no_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "work"
    two_versions(root, random.Random(1))
    git(root, "checkout", "-q", "before")

    def looked(*_: object, **__: object) -> object:
        raise AssertionError("a look at the whole target")

    with monkeypatch.context() as patch:
        for name in ("scan_target", "agreeing"):
            patch.setattr(follow, name, looked)
        assert synced(root)["written"] > 0
    # What is known of the folders in which nothing changed holds for the other version too.
    with Repo.open(str(root)) as repo:
        manifest = repo._project.manifest("data")
        keys = {ref.digest[:16] for ref in manifest.shards}
        statcache: StatCache = repo._project.statcache
        agreed = [row.entries.keys() <= keys for row in statcache.agreed_folders("data").values()]
    assert any(agreed)


def test_a_file_that_cannot_be_written_is_not_called_as_the_manifest_has_it(
    tmp_path: Path,
) -> None:
    root = tmp_path / "work"
    two_versions(root, random.Random(1))
    git(root, "checkout", "-q", "before")
    with Repo.open(str(root)) as repo:
        repo.for_git.sync()
        repo.status()
        manifest = repo._project.manifest("data")
        git(root, "checkout", "-q", "main")
        new = repo._project.entries(repo._project.manifest("data"))
        old = repo._project.entries(manifest)
        changed = {path for path in new if new[path] != old[path]}
        drop_chunks(repo._project.store, {new[path].digest for path in changed})
    with Repo.open(str(root)) as repo:
        result = repo.for_git.sync()
        assert result.missing_files == len(changed)
        (status,) = repo.status()
        assert sorted(status.outdated) == sorted(changed)


def test_an_edit_to_what_the_store_has_is_kept_too(tmp_path: Path) -> None:
    root = tmp_path / "work"
    two_versions(root, random.Random(1))
    git(root, "checkout", "-q", "before")
    with Repo.open(str(root)) as repo:
        repo.for_git.sync()
        old = repo._project.entries(repo._project.manifest("data"))
        git(root, "checkout", "-q", "main")
        new = repo._project.entries(repo._project.manifest("data"))
    edited = min(path for path in new if new[path] != old[path])
    text = (root / "data/a/f00").read_text() if edited != "a/f00" else "1"
    (root / "data" / edited).write_text(text)
    assert synced(root)["kept"] == [f"data/{edited}"]
    assert (root / "data" / edited).read_text() == text
