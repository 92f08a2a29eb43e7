"""The data of a commit as a filesystem of fsspec: paths, bytes, errors, and its users."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dvtool import UsageError
from tests.scenario import Clone

fsspec = pytest.importorskip("fsspec")
adapters = pytest.importorskip("dvtool.filesystem.dv")


@pytest.fixture
def fs(stored: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The filesystem of HEAD, with the repository as the current folder."""
    monkeypatch.chdir(stored.path)
    filesystem = fsspec.filesystem("dv")
    assert type(filesystem) is adapters.DvFileSystem
    yield filesystem
    filesystem.snapshot.close()


# --- paths --------------------------------------------------------------------------------


def test_files_and_folders_are_described(fs: Any, stored: Clone) -> None:
    names = ["a.h5", "a.txt", "abstract", "dead", "link", "sub", "t.csv", "wide.parquet", "z.zarr"]
    assert fs.ls("data", detail=False) == [f"data/{name}" for name in names]
    assert fs.ls("", detail=False) == ["data"]
    info = fs.info("data/a.txt")
    assert (info["type"], info["size"], info["target"]) == ("file", 15, "data")
    assert info["blake3"] == stored_hash(stored, "data/a.txt") == fs.ukey("data/a.txt")
    assert fs.checksum("data/a.txt") == int(info["blake3"][:32], 16)
    assert fs.info("data/sub")["type"] == "directory"
    assert fs.isdir("data/sub") and fs.isfile("data/a.txt") and not fs.exists("data/none")


def stored_hash(clone: Clone, path: str) -> str:
    with clone.repo() as repo:
        (listed,) = repo.ls([path])
        return str(listed.blake3)


def test_an_option_that_nobody_knows_is_refused(stored: Clone) -> None:
    """A revision by another name would be passed over, and HEAD be read in its place."""
    with pytest.raises(TypeError, match=r"no option 'revision'.*'repo'.*'rev'"):
        fsspec.filesystem("dv", repo=str(stored.path), revision="v1")
    with pytest.raises(TypeError, match="no option 'revision'"):
        fsspec.open(f"dv://{stored.path}:data/a.txt", revision="v1").open()
    of_all: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    made = fsspec.filesystem("dv", repo=str(stored.path), **of_all, listings_expiry_time=9)
    assert made.cat("data/a.txt")


def test_filesystems_of_one_commit_are_equal(fs: Any, stored: Clone) -> None:
    again = pickle.loads(pickle.dumps(fs))
    by_id = fsspec.filesystem("dv", repo=str(stored.path), rev=fs.commit)
    assert again == fs == by_id
    assert hash(again) == hash(fs)
    stored.git("commit", "-q", "--allow-empty", "-m", "another")
    assert fsspec.filesystem("dv", repo=str(stored.path)) != fs
    stored.git("reset", "-q", "--hard", fs.commit)


def test_symlinks_are_what_they_lead_to(fs: Any) -> None:
    assert fs.cat("data/link") == fs.cat("data/a.txt")
    link = fs.info("data/link")
    assert (link["type"], link["islink"], link["destination"]) == ("file", True, "a.txt")
    assert fs.info("data/dead")["type"] == "other"


def test_find_glob_and_walk(fs: Any) -> None:
    assert fs.find("data/sub") == ["data/sub/b@c:d.txt", "data/sub/z.bin"]
    assert sorted(fs.find("data/sub", detail=True)) == fs.find("data/sub")
    assert fs.find("data/none") == []
    assert fs.find("data") == sorted(fs.find("data", detail=True))
    assert "data/link" in fs.find("data") and "data/dead" not in fs.find("data")
    assert fs.glob("data/*.txt") == ["data/a.txt"]
    assert fs.glob("data/s*/*") == ["data/sub/b@c:d.txt", "data/sub/z.bin"]
    assert ("data/sub", [], ["b@c:d.txt", "z.bin"]) in list(fs.walk("data"))


def test_times_are_those_of_the_commit(fs: Any, stored: Clone) -> None:
    seconds = int(stored.git("log", "-1", "--format=%ct"))
    assert fs.modified("data/a.txt").timestamp() == seconds == fs.created("data").timestamp()


# --- bytes --------------------------------------------------------------------------------


def test_bytes_and_ranges(fs: Any) -> None:
    whole = bytes(range(256)) * 40
    assert fs.cat_file("data/sub/z.bin", 10, 20) == whole[10:20]
    assert fs.cat_file("data/sub/z.bin", -5) == whole[-5:]
    assert fs.cat_ranges(["data/sub/z.bin", "data/a.txt"], [0, 6], [3, 7]) == [
        whole[:3],
        b"\xc3",
    ]
    assert fs.cat("data/sub", recursive=True) == {
        "data/sub/b@c:d.txt": b"odd",
        "data/sub/z.bin": whole,
    }
    with fs.open("data/sub/z.bin") as file:
        assert file.seek(-4, 2) == len(whole) - 4
        assert file.read() == whole[-4:]
    with fs.open("data/a.txt", "r", encoding="utf-8") as file:
        assert file.readlines() == ["hello ä\n", "world\n"]


def test_blocks_end_at_a_delimiter(fs: Any) -> None:
    assert fs.open("data/a.txt").size == 15
    assert fs.read_block("data/a.txt", 3, 8, b"\n") == b"world\n"


def test_ranges_that_fail_are_told_one_by_one(fs: Any) -> None:
    results = fs.cat_ranges(["data/a.txt", "data/none"], 0, 5)
    assert results[0] == b"hello" and isinstance(results[1], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["data/a.txt", "data/none"], 0, 5, on_error="raise")


def test_files_are_copied_to_the_disk(fs: Any, tmp_path: Path) -> None:
    fs.get("data/sub/", str(tmp_path / "copy"), recursive=True)
    assert (tmp_path / "copy/z.bin").read_bytes() == bytes(range(256)) * 40
    assert (tmp_path / "copy/b@c:d.txt").read_bytes() == b"odd"


# --- errors -------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found(fs: Any, tmp_path: Path) -> None:
    for act in (fs.info, fs.cat_file, fs.open, fs.ls, fs.ukey, fs.modified):
        with pytest.raises(FileNotFoundError):
            act("data/none")
    with pytest.raises(IsADirectoryError):
        fs.cat_file("data/sub")
    with pytest.raises(UsageError, match="there is no folder"):
        fsspec.open(f"dv://{tmp_path}/no:data/a.txt").open()
    with pytest.raises(UsageError, match="no-such"):
        fsspec.filesystem("dv", rev="no-such")


def test_writing_says_how_to_write(fs: Any) -> None:
    for act in (
        lambda: fs.open("data/new", "wb"),
        lambda: fs.pipe("data/new", b""),
        lambda: fs.rm("data/a.txt"),
        lambda: fs.mkdir("data/new"),
        lambda: fs.put("x", "data/x"),
        lambda: fs.mv("data/a.txt", "data/b.txt"),
        lambda: fs.touch("data/new"),
    ):
        with pytest.raises(OSError, match="dv add"):
            act()


# --- one commit ---------------------------------------------------------------------------


def test_a_filesystem_stays_at_its_commit(tmp_path: Path) -> None:
    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    for text in (b"first", b"second"):
        clone.write("data/a.txt", text)
        clone.add("data")
        clone.git("add", "--all")
        clone.commit("change")
        if text == b"first":
            before = adapters.DvFileSystem(repo=str(clone.path), rev="main")
            assert before.cat("data/a.txt") == b"first"
    assert before.cat("data/a.txt") == b"first"
    sent = pickle.dumps(before)
    assert len(sent) < 1000
    assert pickle.loads(sent).cat("data/a.txt") == b"first"
    after = adapters.DvFileSystem(repo=str(clone.path), rev="main")
    assert after.cat("data/a.txt") == b"second"
    assert before.ukey("data/a.txt") != after.ukey("data/a.txt")
    with fsspec.open(f"dv://{clone.path}:HEAD~1@data/a.txt") as file:
        assert file.read() == b"first"
    url = before.unstrip_protocol("data/a.txt")
    with fsspec.open(url) as file:
        assert file.read() == b"first"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository around the current folder, in which HEAD has another table than HEAD~1."""
    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    for text in (b"n\n1\n", b"n\n2\n"):
        clone.write("data/a.csv", text)
        clone.add("data")
        clone.git("add", "--all")
        clone.commit("change")
    monkeypatch.chdir(clone.path)
    return clone


def test_a_url_of_another_revision_is_refused_and_not_read_as_this(two: Clone) -> None:
    here = fsspec.filesystem("dv")
    commit = two.git("rev-parse", "HEAD")
    for url in ("dv://HEAD@data/a.csv", f"dv://{two.path}:{commit}@data/a.csv"):
        assert here.cat(url) == b"n\n2\n"
    for url in ("dv://HEAD~1@data/a.csv", f"dv://{two.path}:HEAD~1@data/a.csv"):
        for read in (here.cat, here.info, here.ls, here.glob, here.find, here.open, here.exists):
            with pytest.raises(UsageError, match="not of this filesystem") as raised:
                read(url)
            assert "rev='HEAD~1'" in (raised.value.hint or "")
    with pytest.raises(UsageError, match="unknown revision: data/me") as raised:
        fsspec.open("dv://data/me@home.csv").open()
    assert "dv://@PATH" in (raised.value.hint or "")


def test_what_a_url_matches_is_named_by_urls_of_its_commit(two: Clone) -> None:
    before, commit = fsspec.core.url_to_fs("dv://HEAD~1@data")[0], two.git("rev-parse", "HEAD~1")
    urls = before.glob("data/*.csv")
    assert urls == [f"dv://{commit}@data/a.csv"] == list(before.glob("data/*", detail=True))
    assert before.cat("data/*.csv") == {"data/a.csv": b"n\n1\n"}
    assert before.ls("data", detail=False) == before.find("data") == ["data/a.csv"]
    for made in (before, pickle.loads(pickle.dumps(before))):
        assert [made.cat(url) for url in made.glob("data/*.csv")] == [b"n\n1\n"]
    with fsspec.open_files("dv://HEAD~1@data/*.csv")[0] as file:
        assert file.read() == b"n\n1\n"
    named = fsspec.filesystem("dv", rev="HEAD~1")
    assert named.glob("data/*.csv") == ["data/a.csv"]


@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_programs_read_the_revision_of_a_url(two: Clone, tmp_path: Path) -> None:
    import datasets
    import duckdb

    options = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    for name, value in (("dv://HEAD~1@data/a.csv", 1), ("dv://data/*.csv", 2)):
        for streaming in (False, True):
            rows = datasets.load_dataset("csv", data_files=name, streaming=streaming, **options)
            assert list(rows) == [{"n": value}]
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("dv"))
    with pytest.raises(duckdb.Error, match="not of this filesystem"):
        connection.execute("from read_csv('dv://HEAD~1@data/*.csv')")
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("dv", rev="HEAD~1"))
    for url in ("dv://HEAD~1@data/*.csv", "dv://data/a.csv"):
        assert connection.execute(f"from read_csv('{url}')").fetchall() == [(1,)]


# --- programs -----------------------------------------------------------------------------


def test_it_is_made_again_wherever_the_process_is(
    fs: Any, stored: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = adapters.DvFileSystem(str(stored.path), "HEAD")
    told, url = pickle.dumps(fs), fs.unstrip_protocol("data/a.txt")
    monkeypatch.chdir(tmp_path)
    made = [pickle.loads(told)]
    made += [fsspec.AbstractFileSystem.from_json(each.to_json()) for each in (fs, named)]
    assert {each.cat("data/a.txt") for each in made} == {(stored.path / "data/a.txt").read_bytes()}
    with fsspec.open(url) as file:
        assert file.read() == (stored.path / "data/a.txt").read_bytes()
    for each in [*made, named]:
        each.snapshot.close()


def test_pandas_polars_and_duckdb_read_urls(fs: Any) -> None:
    import duckdb
    import pandas
    import polars

    assert pandas.read_csv("dv://data/t.csv").shape == (100, 2)
    assert pandas.read_parquet("dv://HEAD@data/wide.parquet", columns=["c1"]).shape == (60_000, 1)
    with fs.open("data/wide.parquet") as file:
        assert polars.read_parquet(file, columns=["c2"]).shape == (60_000, 1)
    connection = duckdb.connect()
    connection.register_filesystem(fs)
    query = "select count(*) from read_parquet('dv://data/wide.parquet')"
    assert connection.execute(query).fetchall() == [(60_000,)]


def test_of_a_wide_table_the_columns_asked_for_are_read(
    fs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.dataset
    import pyarrow.parquet

    from dvtool.snapshots.file import SnapshotFile

    read = 0
    real = SnapshotFile.readinto

    def counted(self: SnapshotFile, buffer: Any, /) -> int:
        nonlocal read
        size = real(self, buffer)
        read += size
        return size

    table = pyarrow.dataset.dataset("data/wide.parquet", filesystem=fs)
    with fs.open("data/wide.parquet") as file:
        group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
        column = group.column(3).total_compressed_size
    monkeypatch.setattr(SnapshotFile, "readinto", counted)
    assert table.to_table(columns=["c3"]).shape == (60_000, 1)
    assert column <= read <= 1.2 * column + 2 * 128 * 1024  # and the buffers of the footer


@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_hugging_face_datasets_read_urls(fs: Any, tmp_path: Path) -> None:
    import datasets

    options = {"data_files": "dv://HEAD@data/t.csv", "split": "train"}
    streamed = datasets.load_dataset("csv", streaming=True, cache_dir=str(tmp_path), **options)
    assert next(iter(streamed)) == {"n": 0, "name": "x0"}
    assert datasets.load_dataset("csv", cache_dir=str(tmp_path), **options).num_rows == 100


def test_arrays_of_zarr_and_hdf5(fs: Any) -> None:
    import h5py
    import zarr

    array = zarr.open_array("dv://data/z.zarr", mode="r")
    assert array[:].sum() == 400
    with fs.open("data/a.h5") as file, h5py.File(file) as stored:
        assert stored["x"][5:8].tolist() == [5, 6, 7]


def test_universal_pathlib_has_paths_of_commits(fs: Any) -> None:
    upath = pytest.importorskip("upath")

    folder = upath.UPath("dv://HEAD@data/sub")
    assert type(folder).__name__ == "DvPath"
    assert sorted(path.name for path in folder.iterdir()) == ["b@c:d.txt", "z.bin"]
    file = folder.parent / "a.txt"
    assert file.read_text(encoding="utf-8") == "hello ä\nworld\n"
    assert str(file) == "dv://HEAD@data/a.txt"
    assert not (folder / "none").exists()
    assert [str(path) for path in folder.parent.glob("a.*t")] == [str(file)]
    assert [path.read_bytes() for path in folder.parent.rglob("b@*")] == [b"odd"]
    assert file.parts == ("data", "a.txt")
    assert file.stat().st_mtime == file.fs.modified("data/a.txt").timestamp() > 0


def test_universal_pathlib_alone_takes_urls_apart(two: Clone) -> None:
    """In a process that has not used fsspec before."""
    pytest.importorskip("upath")
    script = """
from upath import UPath
folder = UPath("dv://HEAD~1@data")
print([(str(path), path.read_text()) for way in (folder.iterdir(), folder.glob("*.csv"))
       for path in way], UPath("dv://@data/a.csv").read_text())
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    expected = [("dv://HEAD~1@data/a.csv", "n\n1\n")] * 2
    assert (told.stdout, told.stderr) == (f"{expected!r} n\n2\n\n", "")
