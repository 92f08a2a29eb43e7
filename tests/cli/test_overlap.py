from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dvtool import OverlapReport, Repo
from dvtool.verbs.overlap import check
from tests.cli.conftest import Work

PARQUET_ROWS = [{"id": 7, "text": "seven", "score": 0.5}, {"id": 8, "text": "eight", "score": None}]


@pytest.fixture
def splits(work: Work) -> Work:
    """Train, val and test; val has a file of train, test nothing but an empty file of val."""
    for name in ("a", "b", "c"):
        work.write(f"data/train/{name}.txt", f"train {name}")
    work.write("data/train/again/b.txt", "train b")
    work.write("data/val/other-name.txt", "train b")
    work.write("data/val/d.txt", "val d")
    work.write("data/val/empty.txt", "")
    work.write("data/test/e.txt", "test e")
    work.write("data/test/empty.txt", "")
    work.dv("add", "data/train", "data/val", "data/test")
    work.commit()
    return work


def test_a_file_in_two_splits_is_named_and_ends_with_1(splits: Work) -> None:
    ran = splits.dv("check-overlap", "data/train", "data/val", "data/test", code=1)
    assert "data/train and data/val share 1:" in ran.lines
    assert "  data/train: data/train/again/b.txt and 1 more" in ran.lines
    assert "  data/val: data/val/other-name.txt" in ran.lines
    found = splits.dv("check-overlap", "--json", "data/train", "data/val", code=1).json
    assert (found["overlap"], found["shared"]) == (True, 1)
    assert [one["files"] for one in found["splits"]] == [4, 2]
    assert found["pairs"] == [{"first": "data/train", "second": "data/val", "shared": 1}]
    places = [[place["path"] for place in part["places"]] for part in found["listed"][0]["splits"]]
    assert places == [["data/train/again/b.txt", "data/train/b.txt"], ["data/val/other-name.txt"]]


def test_splits_that_are_apart_end_with_0(splits: Work) -> None:
    ran = splits.dv("check-overlap", "data/train", "data/test")
    assert ran.lines[-1] == "nothing is in more than one split"
    assert splits.dv("check-overlap", "data/val", "data/test", "--json").json["shared"] == 0


def test_globs_parts_of_targets_and_the_current_folder(splits: Work) -> None:
    splits.dv("check-overlap", "data/train/a.txt", "data/val")
    splits.dv("check-overlap", "data/train/again", "data/val", code=1)
    splits.dv("check-overlap", "data/train/[ac]*.txt", "data/val")
    splits.dv("check-overlap", "train", "val", cwd="data", code=1)
    splits.dv("check-overlap", "HEAD:./train", "HEAD:data/val", cwd="data", code=1)


def test_a_path_means_what_is_staged_and_rev_path_a_revision(splits: Work) -> None:
    (splits.root / "data/val/other-name.txt").unlink()
    splits.dv("check-overlap", "data/train", "data/val", code=1)  # the workspace is not looked at
    splits.dv("add", "data/val")
    splits.dv("check-overlap", "data/train", "data/val")
    splits.dv("check-overlap", ":data/train", ":data/val")
    splits.dv("check-overlap", "data/train", "HEAD:data/val", code=1)
    splits.commit()
    splits.dv("check-overlap", "data/train", "HEAD:data/val")
    assert "HEAD~1:data/val: " in (
        splits.dv("check-overlap", "data/train", "HEAD~1:data/val", code=1).out
    )


def test_manifests_are_enough(splits: Work) -> None:
    shutil.rmtree(splits.root / "data")
    splits.git("checkout", "--", "data")
    shutil.rmtree(splits.root / ".git/dv")
    splits.dv("check-overlap", "data/train", "data/val", code=1)


def test_a_bare_repository_has_the_splits_of_head(splits: Work) -> None:
    splits.git("clone", "-q", "--bare", str(splits.root), "../bare.git")
    bare = Work(splits.root.parent / "bare.git")
    bare.dv("check-overlap", "data/train", "data/val", code=1)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("data/train",), "one split alone"),
        (("data/train", "nothing"), "nothing is and holds no target of dvtool in git's index"),
        (("data/train", "HEAD:nothing"), "no target of dvtool at HEAD"),
        (("data/train", "nope:data"), "unknown revision: nope"),
        (("data/train", "data/val/nothing"), "data/val/nothing has no file that is not empty"),
        (("data/train", "../elsewhere"), "outside of this repository"),
    ],
)
def test_a_split_that_is_none_is_an_error(splits: Work, args: tuple[str, ...], says: str) -> None:
    ran = splits.dv("check-overlap", *args, code=2)
    assert says in ran.err
    assert "hint:" in ran.err


# --- rows -----------------------------------------------------------------------------------


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.fixture
def tables(work: Work) -> Work:
    work.write("t/train.csv", 'id,text,score\n1,one,1.5\n2,"two\nlines",\n7,seven,0.5\n')
    work.write("t/train-2.csv", "\ufefftext,score,id\nnine,,9\n\n")
    work.write("t/val.parquet", _parquet(PARQUET_ROWS))
    work.write("t/test.jsonl", '{"id": 2, "text": "two\\nlines"}\n\n{"id": 5, "text": "five"}\n')
    work.write("t/more.tsv.gz", gzip.compress(b"id\ttext\tscore\n5\tfive\t\n"))
    work.write("t/note.txt", "a note")
    work.dv("add", "t")
    return work


def _rows(ran: Any) -> list[list[tuple[str, int | None]]]:
    return [
        [(place["path"], place["row"]) for part in shared["splits"] for place in part["places"]]
        for shared in ran.json["listed"]
    ]


def test_rows_of_tables_of_different_formats(tables: Work) -> None:
    ran = tables.dv("check-overlap", "--json", "--rows", "t/train*.csv", "t/val.parquet", code=1)
    assert _rows(ran) == [[("t/train.csv", 3), ("t/val.parquet", 1)]]
    assert [one["rows"] for one in ran.json["splits"]] == [4, 2]
    ran = tables.dv("check-overlap", "--json", "--rows", "t/train.csv", "t/test.jsonl", code=1)
    assert _rows(ran) == [[("t/train.csv", 2), ("t/test.jsonl", 1)]]
    ran = tables.dv("check-overlap", "--json", "--rows", "t/more.tsv.gz", "t/test.jsonl", code=1)
    assert _rows(ran) == [[("t/more.tsv.gz", 1), ("t/test.jsonl", 2)]]
    tables.dv("check-overlap", "--rows", "t/val.parquet", "t/test.jsonl")
    tables.dv("check-overlap", "t/train.csv", "t/val.parquet")  # as files they are apart


def test_rows_by_key_columns(tables: Work) -> None:
    tables.write("u/labels.csv", "id,label\n7,dog\n70,cat\n")
    tables.write("u/blank.csv", "id,label\n,dog\n")
    tables.write("u/blank-2.csv", "id,label\n,cat\n")
    tables.dv("add", "u")
    by_id = ("check-overlap", "--json", "--key", "id")
    ran = tables.dv(*by_id, "t/val.parquet", "u/labels.csv", code=1)
    assert _rows(ran) == [[("t/val.parquet", 1), ("u/labels.csv", 1)]]
    ran = tables.dv("check-overlap", "--key", "id", "u/blank.csv", "u/blank-2.csv")
    assert "u/blank.csv: 1 row without any value to compare by was passed over" in ran.err
    for table in ("u/labels.csv", "t/val.parquet", "t/test.jsonl"):
        ran = tables.dv("check-overlap", "--key", "name", table, "u/blank.csv", code=2)
        assert f"{table}, row 1, has no column name" in ran.err


def test_rows_that_can_never_be_equal_are_an_error(tables: Work) -> None:
    tables.write("u/a.csv", "1,2\n3,4\n")
    tables.write("u/b.csv", "3,4\n5,6\n")
    tables.dv("add", "u")
    ran = tables.dv("check-overlap", "--rows", "u/a.csv", "u/b.csv", code=2)
    assert "no row of u/a.csv can be equal to one of u/b.csv" in ran.err
    assert "--no-header" in ran.err
    ran = tables.dv("check-overlap", "--no-header", "--json", "u/a.csv", "u/b.csv", code=1)
    assert _rows(ran) == [[("u/a.csv", 2), ("u/b.csv", 1)]]


def test_with_rows_other_files_are_compared_whole(tables: Work) -> None:
    tables.write("u/copy.txt", "a note")
    tables.dv("add", "u")
    ran = tables.dv("check-overlap", "--rows", "--json", "t", "u", code=1)
    assert _rows(ran) == [[("t/note.txt", None), ("u/copy.txt", None)]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.csv", b"a,b\n1,2,3\n"),
        ("twice.csv", b"a,a\n1,2\n"),
        ("quote.csv", b'a\n"open'),
        ("latin.csv", b"a\n\xff\n"),
        ("bad.jsonl", b'{"a": 1}\n{"a": \n'),
        ("list.jsonl", b"[1]\n"),
        ("bad.parquet", b"no parquet"),
        ("bad.csv.gz", b"no gzip"),
    ],
)
def test_a_damaged_table_is_named(tables: Work, name: str, content: bytes) -> None:
    tables.write(f"u/{name}", content)
    tables.dv("add", "u")
    ran = tables.dv("check-overlap", "--rows", "t", "u", code=8)
    assert f"u/{name} cannot be read as a table, at row " in ran.err


def test_tables_that_are_not_here_are_fetched(tables: Work) -> None:
    tables.commit()
    tables.dv("push")
    clone = tables.clone()
    ran = clone.dv("check-overlap", "--rows", "--json", "t/train.csv", "t/val.parquet", code=1)
    assert len(_rows(ran)) == 1
    assert not (clone.root / "t/train.csv").exists()


def test_long_fields_are_read(work: Work) -> None:
    text = "x" * 200_000
    work.write("a.csv", f"text\n{text}\n")
    work.write("b.jsonl", json.dumps({"text": text}))
    work.dv("add", "a.csv", "b.jsonl")
    work.dv("check-overlap", "--rows", "a.csv", "b.jsonl", code=1)


def test_the_library_gives_the_same(splits: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SHARED_LISTED_MAX", 0)
    with Repo.open(splits.root) as repo:
        report = repo.reports.overlap(["data/train", "HEAD:data/val"])
    assert isinstance(report, OverlapReport)
    assert (report.overlap, report.shared, report.listed) == (True, 1, [])


def test_the_hook_of_pre_commit_checks_what_is_staged(splits: Work) -> None:
    """As the framework runs it: the entry and the user's args, in the hook of git."""
    text = Path(__file__).parents[2].joinpath(".pre-commit-hooks.yaml").read_text()
    hook = text.partition("- id: dv-check-overlap")[2].partition("- id:")[0]
    entry = hook.partition("entry: ")[2].partition("\n")[0]
    assert entry == "dv check-overlap"
    script = splits.root / ".git/hooks/pre-commit"
    script.parent.mkdir(exist_ok=True)
    programs = shlex.quote(str(Path(sys.executable).parent))
    script.write_text(f"#!/bin/sh\nPATH={programs}:$PATH exec {entry} data/train data/test\n")
    script.chmod(0o755)
    splits.git("commit", "-q", "--allow-empty", "-m", "apart")
    splits.write("data/test/leak.txt", "train a")
    splits.dv("add", "data/test")
    done = subprocess.run(
        ["git", "commit", "-qam", "leak"], cwd=splits.root, capture_output=True, env=os.environ
    )
    assert done.returncode != 0
    assert b"data/test: data/test/leak.txt" in done.stdout + done.stderr
