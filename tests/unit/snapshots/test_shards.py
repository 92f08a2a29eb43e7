"""Verbs that only look read shards through a snapshot: the store stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from dvtool.errors import DvError, ManifestError, MissingError
from dvtool.format.manifest import Entries, Entry, Manifest, ShardRef, build, encode
from dvtool.snapshots.cache import default_folder
from dvtool.snapshots.columns import EntryColumns
from dvtool.snapshots.targets import TargetEntries
from tests.scenario import Clone, Remote

FILES = 1_100
FILE = Entry(blake3="1" * 64, size=1)


def entries(marks: dict[int, str]) -> Entries:
    """Return a large manifest's entries; `marks` are digests that differ from the usual."""
    return {
        f"{n % 9}/{n:05}.bin": Entry(blake3=marks.get(n, f"{n:064x}"), size=1 + n % 7)
        for n in sorted(range(FILES), key=lambda n: f"{n % 9}/{n:05}")
    }


def commit_manifest(clone: Clone, marks: dict[int, str]) -> str:
    """Commit a large manifest whose shards are in the store, its content nowhere."""
    built = build("dir", entries(marks))
    with clone.repo() as repo:
        repo.config.init()
        repo._project.store.put_shards(built.shards)
    (clone.path / "many.dv.json").write_bytes(encode(built.manifest))
    clone.git("add", "--all")
    return clone.commit(f"{len(marks)} marked")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clone]:
    """A clone of two commits whose shards are on the remote only, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote(str(tmp_path / "remote"))
    mine = Clone.new(tmp_path / "mine", remote)
    for n in range(FILES):
        mine.write(f"many/{n % 9}/{n:05}.bin", b"%d" % n)
    mine.add("many")
    mine.commit("one")
    mine.write("many/3/00003.bin", b"changed")
    mine.add("many")
    mine.commit("two")
    with mine.repo() as repo:
        repo.push(every=True)
    yield mine.clone(tmp_path / "far", remote)


def shards_in_store(clone: Clone) -> list[Path]:
    return list((clone.path / ".git/dv/shards").glob("*/*"))


def test_ls_and_diff_put_no_shard_into_the_store(far: Clone, tmp_path: Path) -> None:
    with far.repo() as repo:
        listed = [entry.path for entry in repo.ls()]
        picked = [entry.path for entry in repo.ls("many/3/0000*.bin")]
        (changed,) = repo.diff("HEAD~1", "HEAD")
    assert len(listed) == FILES and listed == sorted(listed)
    assert picked == ["many/3/00003.bin"]
    assert [(each.change, each.path) for each in changed.changes] == [("modified", "3/00003.bin")]
    assert shards_in_store(far) == []
    # What was read is in the cache: nothing is asked for again.
    (tmp_path / "remote").rename(tmp_path / "away")
    with far.repo() as repo:
        assert [entry.path for entry in repo.ls()] == listed
        assert repo.diff("HEAD~1", "HEAD")[0].changes == changed.changes
        with repo.snapshot() as data:
            assert data.find("many/3") == [path for path in listed if path.startswith("many/3/")]


def test_git_sees_what_is_in_the_cache_and_never_asks_a_remote(far: Clone) -> None:
    with far.repo() as repo:
        (ref, *_) = repo._project.manifest("many").shards
        with pytest.raises(MissingError):
            repo.for_git.entries_here(ref)
        list(repo.ls())
        assert next(iter(repo.for_git.entries_here(ref))) == ref.first
    cached = Path(default_folder({"XDG_CACHE_HOME": str(far.path.parent / "cache")})) / "frames"
    for path in cached.glob("*/*-*"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with far.repo() as repo:
        with pytest.raises(MissingError):
            repo.for_git.entries_here(ref)  # damage there is as nothing there
        assert sum(1 for _ in repo.ls()) == FILES  # from the remote, anew
        assert next(iter(repo.for_git.entries_here(ref))) == ref.first


def test_a_shard_that_is_nowhere_is_said_so(tmp_path: Path) -> None:
    clone = Clone.new(tmp_path / "alone")
    commit_manifest(clone, {})
    commit_manifest(clone, {5: "f" * 64})
    shutil.rmtree(clone.path / ".git/dv/shards")
    with clone.repo() as repo:
        for look in (lambda: list(repo.ls()), lambda: repo.diff("HEAD~1", "HEAD")):
            with pytest.raises(DvError, match="shard") as caught:
                look()
            assert caught.value.exit_code == 4 and "dv remote add" in (caught.value.hint or "")


def test_shards_that_overlap_are_refused() -> None:
    """With the same path in two shards, two files would have one name."""
    first, second = (ShardRef(path, 2, 2, name * 64) for name, path in (("a", "1"), ("b", "5")))
    manifest = Manifest("dir", None, (first, second))
    for last, is_refused in (("4", False), ("5", True), ("7", True)):
        held = {
            first.digest: EntryColumns({"1": FILE, last: FILE}),
            second.digest: EntryColumns({"5": FILE, "8": FILE}),
        }
        target = TargetEntries("many", manifest, lambda refs, held=held: held)
        with pytest.raises(ManifestError) if is_refused else nullcontext():
            assert target.entry("5") is not None and target.entry("1") is not None


def test_lists_on_a_remote_that_does_not_answer_are_missing(far: Clone, tmp_path: Path) -> None:
    """Exit code 4, as docs/partial-data.md says."""
    (tmp_path / "remote").rename(tmp_path / "away")
    with far.repo() as repo:
        for look in (lambda: list(repo.ls()), lambda: repo.diff("HEAD~1", "HEAD")):
            with pytest.raises(MissingError, match="shards of"):
                look()
