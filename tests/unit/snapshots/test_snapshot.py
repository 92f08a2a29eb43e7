"""The paths and the bytes of a commit's data, from the local store and from a folder remote."""

from __future__ import annotations

import io
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import dvtool
from dvtool import (
    CorruptError,
    MissingError,
    PathIsFolder,
    PathMissing,
    PathNotFolder,
    SetupError,
    Snapshot,
    UsageError,
)
from dvtool.format.locations import encode_object
from tests.scenario import Clone, Remote, noise
from tests.unit.snapshots.conftest import BIG, TABLE, Dataset


def names_below(files: dict[str, bytes], folder: str) -> list[str]:
    return sorted(path for path in files if path.startswith(folder + "/"))


# --- paths ----------------------------------------------------------------------------------


def test_a_snapshot_says_what_it_is(data: Snapshot, dataset: Dataset) -> None:
    assert data.commit == dataset.commit
    assert data.targets == tuple(
        sorted(["data/images", "data/images.txt", "data/big.bin", "data/table.csv", "data/empty"])
    )
    with dataset.mine.repo() as repo:
        assert data.data_id == repo.describe("HEAD").data_id
    assert data.files == len(dataset.files) + 6  # five links and an empty folder
    assert dataset.commit[:10] in repr(data)
    assert "<table>" in data._repr_html_()


@pytest.mark.parametrize("name", ["commit", "data_id", "targets", "files", "note"])
def test_a_snapshot_never_changes(data: Snapshot, name: str) -> None:
    before = getattr(data, name, None)
    with pytest.raises(AttributeError, match=name):
        setattr(data, name, "other")
    assert getattr(data, name, None) == before


def test_find_gives_all_files_sorted(data: Snapshot, dataset: Dataset) -> None:
    assert data.find() == sorted(dataset.files)
    assert data.find("data/images") == names_below(dataset.files, "data/images")
    assert data.find("data/images/3") == names_below(dataset.files, "data/images/3")
    assert data.find("data/images.txt") == ["data/images.txt"]
    assert data.find("data/images/0/0007.jpg") == ["data/images/0/0007.jpg"]
    assert data.find("data/images/zero") == names_below(dataset.files, "data/images/0")
    assert data.find("./data//images/3/") == names_below(dataset.files, "data/images/3")


def test_info_says_what_is_at_a_path(data: Snapshot, dataset: Dataset) -> None:
    file = data.info("data/images/0/0007.jpg")
    assert (file.type, file.size, file.exec) == ("file", 7, True)
    assert (file.path, file.target) == ("data/images/0/0007.jpg", "data/images")
    assert file.blake3 is not None and len(file.blake3) == 64
    assert data.info("data/images/first").symlink == "0/0007.jpg"
    assert data.info("data/images/zero/0007.jpg") == file
    for folder in ("", "data", "data/images", "data/images/3", "data/images/hollow"):
        assert data.info(folder).type == "folder"
    assert data.info("data/table.csv").size == len(TABLE)


def test_ls_lists_one_level(data: Snapshot) -> None:
    assert [each.path for each in data.ls()] == ["data"]
    assert [each.path for each in data.ls("data")] == sorted(
        ["data/images", "data/images.txt", "data/big.bin", "data/table.csv", "data/empty"]
    )
    inside = {each.path.rpartition("/")[2]: each.type for each in data.ls("data/images")}
    assert inside == dict.fromkeys(map(str, range(7)), "folder") | {
        "first": "symlink",
        "zero": "symlink",
        "loop": "symlink",
        "loop2": "symlink",
        "hollow": "folder",
    }
    assert data.ls("data/images.txt") == [data.info("data/images.txt")]
    assert data.ls("data/images/hollow") == []


def test_walk_goes_where_os_walk_goes(data: Snapshot, dataset: Dataset) -> None:
    walked = {folder: (set(folders), set(files)) for folder, folders, files in data.walk("data")}
    expected = {}
    for folder, folders, files in os.walk(dataset.mine.path / "data"):
        links = {name for name in folders if (Path(folder) / name).is_symlink()}
        name = os.path.relpath(folder, dataset.mine.path)
        kept = {file for file in files if not file.endswith(".dv.json") and file != ".gitignore"}
        expected[name] = (set(folders) - links, kept | links)
    assert walked == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/images/3/000*.jpg", ["data/images/3/0003.jpg"]),
        ("data/*.txt", ["data/images.txt"]),
        ("**/0007.jpg", ["data/images/0/0007.jpg"]),
        ("data/images/?/0008.jpg", ["data/images/1/0008.jpg"]),
        ("data/nothing*", []),
        ("data/images/3/0003.jpg", ["data/images/3/0003.jpg"]),
        ("data/big.bin", ["data/big.bin"]),
    ],
)
def test_glob(data: Snapshot, pattern: str, expected: list[str]) -> None:
    assert data.glob(pattern) == expected


def test_entries_are_all_there_is(data: Snapshot, dataset: Dataset) -> None:
    kinds: dict[str, list[str]] = {}
    for entry in data.entries():
        kinds.setdefault(entry.type, []).append(entry.path)
    assert kinds["file"] == sorted(dataset.files)
    assert kinds["folder"] == ["data/images/hollow"]
    assert len(kinds["symlink"]) == 5


@pytest.mark.parametrize(
    "path", ["nothing", "data/images/3/none", "data/images.txt/x", "../x", "code.py", "data/imag"]
)
def test_a_path_that_is_not_there_is_said_so(data: Snapshot, path: str) -> None:
    for ask in (data.read, data.find, data.ls, data.info, data.open):
        with pytest.raises(FileNotFoundError) as caught:
            ask(path)
        assert isinstance(caught.value, PathMissing)
        assert caught.value.filename is not None
        assert caught.value.strerror == "No such file or directory"
        assert path.rpartition("/")[2] in str(caught.value)
    assert not data.exists(path)


def test_folders_and_files_are_told_apart(data: Snapshot) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        data.read("data/images")
    assert isinstance(caught.value, PathIsFolder)
    with pytest.raises(PathIsFolder):
        data.open("data/images/zero")
    with pytest.raises(NotADirectoryError) as not_folder:
        list(data.walk("data/images.txt"))
    assert isinstance(not_folder.value, PathNotFolder)
    with pytest.raises(PathMissing):
        data.read("data/images/loop")


# --- bytes ----------------------------------------------------------------------------------


def test_every_file_has_the_bytes_that_were_added(data: Snapshot, dataset: Dataset) -> None:
    paths = data.find()
    assert data.read_ranges([(path, None, None) for path in paths]) == [
        dataset.files[path] for path in paths
    ]
    for path in random.Random(1).sample(paths, 25):
        assert data.read(path) == dataset.files[path]
    assert data.read("data/images/first") == dataset.files["data/images/0/0007.jpg"]
    assert data.read("data/empty/link") == b""


@given(
    cuts=st.lists(
        st.tuples(
            st.sampled_from(["data/big.bin", "data/table.csv", "data/images.txt"]),
            st.none() | st.integers(-4 << 20, 4 << 20),
            st.none() | st.integers(-4 << 20, 4 << 20),
        ),
        max_size=6,
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_ranges_are_slices_of_the_bytes(
    data: Snapshot, dataset: Dataset, cuts: list[tuple[str, int | None, int | None]]
) -> None:
    assert data.read_ranges(cuts) == [dataset.files[path][a:b] for path, a, b in cuts]


@given(steps=st.lists(st.tuples(st.integers(0, 3 << 20), st.integers(-1, 1 << 20)), max_size=8))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_open_file_is_read_as_one_of_the_disk(
    data: Snapshot, steps: list[tuple[int, int]]
) -> None:
    like = io.BytesIO(BIG)
    with data.open("data/big.bin") as file:
        for offset, size in steps:
            assert file.seek(offset) == like.seek(offset)
            assert file.read(size) == like.read(size)
            assert file.tell() == like.tell()


def test_a_file_is_read_in_order(data: Snapshot) -> None:
    with data.open("data/big.bin") as file:
        blocks = []
        while block := file.read(100_000):
            blocks.append(block)
    assert b"".join(blocks) == BIG
    with data.open("data/big.bin", buffering=0) as raw:
        assert raw.read() == BIG
        assert raw.read() == b""


@pytest.mark.parametrize(
    ("place", "size"),
    [("store", 1 << 20), ("store", 5 << 20), ("store", -1), ("remote", 3 << 20)],
)
def test_memory_that_is_used_again_is_not_that_of_a_call_under_way(
    tmp_path: Path, place: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next stretch is read while a call joins what it has."""
    monkeypatch.setattr("dvtool.snapshots.file.FAR_WINDOW_BYTES", 1 << 20)
    mine = Clone.new(tmp_path / "large", Remote(str(tmp_path / "remote")))
    large = noise(12 << 20, 5)
    mine.write("large", large)
    mine.add("large")
    mine.commit("large")
    if place == "remote":
        with mine.repo() as repo:
            repo.push()
        mine = mine.clone(tmp_path / "theirs", Remote(str(tmp_path / "remote")))
    with dvtool.snapshot(repo=mine.path) as data, data.open("large", buffering=0) as file:
        assert b"".join(iter(lambda: file.read(size), b"")) == large


def test_text_is_read_as_open_reads_it(data: Snapshot, dataset: Dataset) -> None:
    place = dataset.mine.path / "data/table.csv"
    with data.open("data/table.csv", "r", newline="") as file, open(place, newline="") as plain:
        assert file.readlines() == plain.readlines()
    with data.open("data/table.csv", "rt", encoding="ascii") as text:
        assert (text.readline(), text.mode, text.encoding) == ("a,b\n", "rt", "ascii")
    picture = data.open("data/images/3/0003.jpg", "r", encoding="ascii")
    with picture, pytest.raises(UnicodeDecodeError):
        picture.read()


@pytest.mark.parametrize("mode", ["w", "wb", "a", "r+", "x"])
def test_writing_is_refused(data: Snapshot, mode: str) -> None:
    with pytest.raises(io.UnsupportedOperation, match="dv add"):
        data.open("data/table.csv", mode)


@pytest.mark.parametrize("mode", ["", "q", "rr", "b", "rbt", "rw"])
def test_modes_that_make_no_sense_are_value_errors(data: Snapshot, mode: str) -> None:
    with pytest.raises(ValueError):
        data.open("data/table.csv", mode)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("rbt", {}),
        ("q", {}),
        ("rb", {"newline": ""}),
        ("rb", {"errors": "x"}),
        ("r", {"buffering": 0}),
    ],
)
def test_errors_are_worded_as_those_of_open(
    data: Snapshot, dataset: Dataset, mode: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError) as ours:
        data.open("data/table.csv", mode, **options)
    with pytest.raises(ValueError) as pythons:
        open(dataset.mine.path / "data/table.csv", mode, **options)
    assert str(ours.value) == str(pythons.value)


def test_a_closed_file_gives_nothing(data: Snapshot) -> None:
    file = data.open("data/table.csv", buffering=0)
    file.close()
    for use in (file.read, file.tell, lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed file"):
            use()


# --- functions of the module ----------------------------------------------------------------


def test_open_read_and_ls_find_the_repository(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.mine.path / "data/images")
    assert dvtool.read("data/images.txt") == b"beside"
    with dvtool.open("data/table.csv") as file:
        assert file.readline() == "a,b\n"
    assert [each.path for each in dvtool.ls()] == ["data"]
    assert dvtool.read("data/images.txt", rev=dataset.commit) == b"beside"
    assert dvtool.read("data/images.txt", repo=dataset.bare.path, rev="HEAD") == b"beside"


def test_head_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Clone.new(tmp_path / "mine")
    monkeypatch.chdir(mine.path)
    with mine.repo() as repo:
        repo.init()
    for number in range(3):
        mine.write("data/value", b"%d" % number)
        mine.add("data")
        mine.commit(f"number {number}")
        assert dvtool.read("data/value") == b"%d" % number
    mine.git("checkout", "--quiet", "HEAD~1")
    assert dvtool.read("data/value") == b"1"
    mine.git("pack-refs", "--all")
    mine.git("checkout", "--quiet", "main")
    assert dvtool.read("data/value") == b"2"
    assert dvtool.read("data/value", rev="HEAD~2") == b"0"
    with mine.repo() as repo:
        assert repo.snapshot("HEAD~1").read("data/value") == b"1"


def test_unknown_revisions_and_folders_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown revision: nothing"):
        dvtool.snapshot("nothing", dataset.mine.path)
    with pytest.raises(SetupError, match=f"not inside a git repository: {tmp_path}"):
        dvtool.snapshot(repo=tmp_path)


# --- what is missing or damaged -------------------------------------------------------------


def test_reading_writes_nothing(dataset: Dataset) -> None:
    def everything(top: Path) -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns
            for path in top.rglob("*")
            if path.is_file() and not path.name.endswith("-shm")  # readers of SQLite meet there
        }

    before = everything(dataset.bare.path)
    with dvtool.snapshot(repo=dataset.bare.path) as data:
        data.read_ranges([(path, None, None) for path in data.find()])
    assert everything(dataset.bare.path) == before


@pytest.fixture
def small(tmp_path: Path) -> Clone:
    mine = Clone.new(tmp_path / "small", Remote(str(tmp_path / "remote")))
    mine.write("data/one", noise(200_000, 3))
    mine.write("data/two", b"two")
    mine.add("data")
    mine.commit("one")
    return mine


def damage_packs(top: Path) -> None:
    for pack in (top / "packs").glob("*/*"):
        data = bytearray(pack.read_bytes())
        data[100] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)


def test_a_damaged_pack_is_named_or_read_from_the_remote(small: Clone) -> None:
    damage_packs(small.path / ".git/dv")
    with dvtool.snapshot(repo=small.path) as data, pytest.raises(CorruptError, match="packs/"):
        data.read("data/one")


def test_a_damaged_pack_here_is_no_harm_if_the_remote_has_it(small: Clone) -> None:
    with small.repo() as repo:
        repo.push()
    damage_packs(small.path / ".git/dv")
    with dvtool.snapshot(repo=small.path) as data:
        assert data.read("data/one") == noise(200_000, 3)
        with data.open("data/one") as file:
            assert file.read() == noise(200_000, 3)


def test_content_that_is_nowhere_is_named(small: Clone, tmp_path: Path) -> None:
    with small.repo() as repo:
        repo.push()
    shutil.rmtree(small.path / ".git/dv/packs")
    shutil.rmtree(tmp_path / "remote/packs")
    with dvtool.snapshot(repo=small.path) as data, pytest.raises(MissingError):
        data.read("data/one")


def test_a_clone_without_a_remote_says_what_to_do(small: Clone, tmp_path: Path) -> None:
    small.git("clone", "--quiet", ".", str(tmp_path / "alone"))
    data = dvtool.snapshot(repo=tmp_path / "alone")
    with data, pytest.raises(MissingError, match="data/one") as caught:
        data.read("data/one")
    assert "dv remote add" in (caught.value.hint or "")


def test_a_pack_that_was_moved_meanwhile_is_found(small: Clone) -> None:
    with dvtool.snapshot(repo=small.path) as data:
        assert data.read("data/two") == b"two"
        small.write("data/two", b"changed")
        small.add("data")
        small.git("commit", "--quiet", "--amend", "--message", "other")
        small.git("reflog", "expire", "--expire=now", "--all")
        with small.repo() as repo:
            repo.gc()
        assert data.read("data/one") == noise(200_000, 3)


def test_a_remote_that_names_other_chunks_is_not_believed(small: Clone, tmp_path: Path) -> None:
    with small.repo() as repo:
        repo.push()
        remote = repo.config.open_remote()
        (target,) = dvtool.snapshot(repo=small.path)._tree.targets.values()
        ref = target.shard_of("one")
        shard = remote.get_shard(ref)
        swapped = {digest: chunks[::-1] for digest, chunks in shard.locations.items()}
        assert swapped != shard.locations
        remote.put_shard(ref.digest, encode_object(shard.text, swapped))
    theirs = small.clone(tmp_path / "theirs", Remote(str(tmp_path / "remote")))
    with dvtool.snapshot(repo=theirs.path) as data:
        with pytest.raises(CorruptError, match="do not make this file"):
            data.read("data/one")
        with pytest.raises(CorruptError), data.open("data/one") as file:
            while file.read(10_000):
                pass
        assert data.read("data/two") == b"two"


SIZES: dict[str, list[int]] = {
    "large calls": [1 << 20],
    "small calls": [50_000],
    "mixed calls": [200_000, 10, 70_000, 1 << 20, 1, 65_536],
    "a large call at the end": [100_000, 6 << 20],
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("honest", [True, False])
def test_a_file_read_in_order_is_proven_by_its_hash(
    tmp_path: Path, sizes: list[int], honest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the calls; none of the last window is given where the hash is another."""
    monkeypatch.setattr("dvtool.snapshots.file.FAR_WINDOW_BYTES", 1 << 20)
    mine = Clone.new(tmp_path / "mine", Remote(str(tmp_path / "remote")))
    large = noise(4 << 20, 7)
    mine.write("data/large", large)
    mine.add("data")
    mine.commit("large")
    with mine.repo() as repo:
        repo.push()
        remote = repo.config.open_remote()
        (target,) = dvtool.snapshot(repo=mine.path)._tree.targets.values()
        shard = remote.get_shard(target.shard_of("large"))
        ((digest, chunks),) = shard.locations.items()
        if not honest:  # two chunks of the first window change places
            swapped = [chunks[1], chunks[0], *chunks[2:]]
            remote.put_shard(
                target.shard_of("large").digest, encode_object(shard.text, {digest: swapped})
            )
    theirs = mine.clone(tmp_path / "theirs", Remote(str(tmp_path / "remote")))
    with dvtool.snapshot(repo=theirs.path) as data:
        with data.open("data/large", buffering=0) as file:
            file.seek(10)
            assert len(file.read(100)) == 100
            file.seek(0)
            blocks = list[bytes]()
            call = 0
            try:
                while block := file.read(sizes[call % len(sizes)]):
                    blocks.append(block)
                    call += 1
            except CorruptError as error:
                assert not honest and "do not make this file" in str(error)
            else:
                assert honest
            assert file._known_layout().proven == honest
        given = b"".join(blocks)
        assert given == large if honest else len(given) < len(large) - (1 << 18)
