"""Files that are read without a look at each before: the same as with one, or they are left."""

from __future__ import annotations

import mmap
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dvtool.errors import InputError, UsageError
from dvtool.format.digest import EMPTY, digest_of
from dvtool.format.manifest import ShardRef, decode
from dvtool.format.packing import discard_packs
from dvtool.format.pointer import LFS_FIRST_LINE
from dvtool.jobs import small_files
from dvtool.jobs.small_files import SmallFilesBatch, read_small_files, small_files_batches
from dvtool.store.local import LocalStore
from dvtool.system import writeback
from dvtool.system.stat import stat_of
from dvtool.system.workers import can_fork
from dvtool.verbs.add import manifest as add_manifest, publish
from dvtool.workspace.hashing import clock_ns
from dvtool.workspace.statcache import WHOLE_SECOND_NS
from tests.scenario import Clone, Remote

KIB = 1 << 10


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone.new(tmp_path / "work", Remote(str(tmp_path / "remote")))


@pytest.fixture(autouse=True)
def leases(tmp_path: Path) -> None:
    if not writeback.gives_leases(str(tmp_path)):
        pytest.skip("the disk of temporary files gives no leases")


def test_small_files_are_read_and_all_others_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_files, "LEFT_MIN", 5)
    contents = {"a": b"alpha", "b": b"", "c": bytes(64 * KIB), "d": LFS_FIRST_LINE.ljust(100)}
    (tmp_path / "data").mkdir()
    for name, data in contents.items():
        (tmp_path / "data" / name).write_bytes(data)
    (tmp_path / "data/large").write_bytes(bytes(64 * KIB + 1))
    (tmp_path / "data/mapped").write_bytes(b"mapped")
    (tmp_path / "data/link").symlink_to("a")
    paths = ["a", "b", "c", "d", "gone", "large", "link", "mapped"]
    with open(tmp_path / "data/mapped", "r+b") as file:
        pages = mmap.mmap(file.fileno(), 0)
    with pages:
        batch = SmallFilesBatch(str(tmp_path), str(tmp_path / "store"), "data", paths)
        result = pickle.loads(pickle.dumps(read_small_files(pickle.loads(pickle.dumps(batch)))))
    assert [paths[number] for number in result.left] == paths[4:]
    digests = [digest_of(data) for data in contents.values()]
    assert list(result.files.digests()) == digests
    assert digests[1] == EMPTY
    assert list(result.files.stats()) == [
        stat_of((tmp_path / "data" / name).stat()) for name in contents
    ]
    assert result.pointers == ["d"]
    with LocalStore(str(tmp_path / "store")) as store:
        store.adopt(result.packs)
        assert not store.lacking(digests)


@pytest.mark.parametrize(("size", "read"), [(64 * KIB, 2), (65 * KIB, 0)])
def test_a_batch_ends_early_where_files_are_not_as_small_as_hoped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, read: int
) -> None:
    monkeypatch.setattr(small_files, "BATCH_SIZE_MAX_BYTES", 100 * KIB)
    monkeypatch.setattr(small_files, "LEFT_MIN", 3)
    paths = [f"{number:02}" for number in range(20)]
    (tmp_path / "data").mkdir()
    for path in paths:
        (tmp_path / "data" / path).write_bytes(path.encode().ljust(size))
    opened = []
    open_file = small_files.Opener.file
    monkeypatch.setattr(
        small_files.Opener, "file", lambda *args: opened.append(args) or open_file(*args)
    )
    (batch,) = small_files_batches(str(tmp_path), str(tmp_path / "store"), "data", paths)
    result = read_small_files(batch)
    assert (len(result.files), list(result.left)) == (read, list(range(read, 20)))
    assert len(opened) == (read or 3)
    discard_packs(result.packs)


@pytest.mark.parametrize("others", ["none", "large", "link"])
@pytest.mark.parametrize("later_s", [0, -100, 100])
def test_an_add_without_a_look_records_what_one_with_a_look_does(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, others: str, later_s: int
) -> None:
    _write_many(clone)
    if others != "large":  # with none, all goes by columns
        (clone.path / "data/many/large").unlink()
    if others == "link":
        (clone.path / "data/many/link").symlink_to("007")
    time.sleep(0.05)  # else some files would have been stamped in the tick in which they are read
    monkeypatch.setattr(
        "dvtool.verbs.add.store.clock_ns",
        lambda *args: clock_ns(*args) + later_s * WHOLE_SECOND_NS,
    )
    monkeypatch.setattr("dvtool.workspace.added.SAVED_AT_ONCE", 70)
    monkeypatch.setattr("dvtool.verbs.add.manifest.INLINE_ENTRIES_MAX", 50)
    seen = []
    for at_least in (1_000, 0):
        monkeypatch.setattr(publish, "LISTED_MIN_FILES", at_least)
        with clone.repo() as repo:
            (added,) = repo.add("data", stage=False)
            cache = repo._project.statcache
            seen.append(
                (
                    (clone.path / "data.dv.json").read_bytes(),
                    added.files,
                    cache.folders_below("data"),
                    cache.agreed_folders("data"),
                )
            )
            cache.forget_below("data")
        (clone.path / "data.dv.json").unlink()
    assert seen[0] == seen[1]
    folders = {"data", "data/few", "data/many", "data/many/inside"}
    assert seen[0][3].keys() == ({"data"} if later_s < 0 else folders)


@pytest.mark.parametrize("ends", ["well", "early", "with an error"])
def test_lists_made_by_a_second_process_are_made_here_if_that_fails(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    _write_many(clone)
    (clone.path / "data/many/large").unlink()
    monkeypatch.setattr(publish, "LISTED_MIN_FILES", 0)
    monkeypatch.setattr(add_manifest, "INLINE_ENTRIES_MAX", 50)
    with clone.repo() as repo:
        repo.add("data", stage=False)
        expected = (clone.path / "data.dv.json").read_bytes()
        (clone.path / "data.dv.json").unlink()
        repo._project.statcache.forget_below("data")
    for shard in list((clone.path / ".git/dv/shards").glob("*/*")):
        shard.unlink()
    put, here = add_manifest._put_lists, os.getpid()
    made_here = []

    def put_noted(*args: Any) -> list[ShardRef]:
        if os.getpid() == here:
            made_here.append(args)
        elif ends == "with an error":
            raise MemoryError
        elif ends == "early":
            os._exit(1)
        return put(*args)

    monkeypatch.setattr(add_manifest, "_put_lists", put_noted)
    monkeypatch.setattr(add_manifest, "BESIDE_MIN_FILES", 1)
    monkeypatch.setattr(add_manifest, "may_fork", can_fork)
    with clone.repo() as repo:
        repo.add("data", stage=False)
        manifest = decode(expected, "data")
        assert all(repo._project.store.load_shard(ref) for ref in manifest.shards)
        assert repo._project.statcache.agreed_folders("data").keys() >= {"data", "data/many"}
    assert (clone.path / "data.dv.json").read_bytes() == expected
    assert len(made_here) == (ends != "well" or not can_fork())


LOST_ONCE = """
import errno, os, sys
from dvtool.repo import Repo
from dvtool.system.workers import can_fork
from dvtool.verbs.add import manifest, publish

put, here = manifest._put_lists, os.getpid()

def lost_once(*arguments):
    refs = put(*arguments)
    if os.getpid() != here:
        raise OSError(errno.EIO, "it was lost", "shards/ab")
    return refs

publish.LISTED_MIN_FILES = 0
manifest.INLINE_ENTRIES_MAX = 50
manifest.BESIDE_MIN_FILES = 1
manifest.may_fork = can_fork
manifest._put_lists = lost_once
with Repo.open(".") as repo:
    try:
        repo.add(["data"], stage=False)
    except OSError as error:
        print(can_fork(), (error.errno, error.filename) == (errno.EIO, "shards/ab"))
    else:
        print(can_fork(), "added")
"""


def test_what_a_disk_says_to_a_second_process_is_said(clone: Clone) -> None:
    """It says only once that a write was lost: another flush would tell of no error."""
    _write_many(clone)
    (clone.path / "data/many/large").unlink()
    done = subprocess.run(
        [sys.executable, "-c", LOST_ONCE], cwd=clone.path, capture_output=True, text=True
    )
    # Where no copy of a process can begin, there is no second one.
    assert done.stdout.split() in (["True", "True"], ["False", "added"]), done.stderr
    assert (clone.path / "data.dv.json").exists() == ("added" in done.stdout)


def test_a_file_that_is_gone_when_it_would_be_read_is_named(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_many(clone)
    monkeypatch.setattr(publish, "LISTED_MIN_FILES", 0)
    read = small_files.read_small_files

    def read_without_one(*args: object) -> object:
        (clone.path / "data/many/007").unlink(missing_ok=True)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("dvtool.verbs.add.store.read_small_files", read_without_one)
    with clone.repo() as repo, pytest.raises(InputError, match="data/many/007 cannot be read"):
        repo.add("data")
    assert not os.path.exists(clone.path / "data.dv.json")


def test_a_pointer_among_many_files_is_refused(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_many(clone)
    monkeypatch.setattr(publish, "LISTED_MIN_FILES", 0)
    clone.write("data/many/pointer", LFS_FIRST_LINE.ljust(120))
    with clone.repo() as repo:
        with pytest.raises(UsageError, match=r"pointers of git-lfs(.|\n)*data/many/pointer"):
            repo.add("data")
        repo.add("data", as_is=True)


def _write_many(clone: Clone) -> None:
    for number in range(100):
        clone.write(f"data/many/{number:03}", b"%d" % number)
        clone.write(f"data/many/inside/{number:03}", b"inside %d" % number)
    clone.write("data/few/a", b"few")
    for folder in ("few", "many"):
        clone.write(f"data/{folder}/tool", b"#!/bin/sh", executable=True)
    clone.write("data/many/large", bytes(300 * KIB))
