"""Rows compared, each format as its own library writes it, and against DuckDB's answer."""

from __future__ import annotations

import datetime
import io
import json
import os
import random
import sqlite3
import tracemalloc
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from dvtool import TableDiff, UsageError
from dvtool.reports.annotations import annotation_tables
from dvtool.reports.cells import cell_texts
from dvtool.reports.row_diff import compare_tables
from dvtool.reports.tables import tables_of
from dvtool.system.sorting import Sorter
from tests.unit.reports.files import label_studio
from tests.unit.reports.tables import compare, counts, json_lines

ROWS = int(os.environ.get("DV_TEST_ROWS", "3000"))
"""So many rows are compared with DuckDB's answer; scripts and people may ask for a million."""
OLD = b"id,name,n\n1,a,10\n2,b,20\n3,c,30\n4,d,40\n"
NEW = b"id,name,n\n4,d,40\n1,a,11\n3,c,30\n5,e,50\n"


def test_rows_by_key() -> None:
    diff = compare("t.csv", OLD, NEW, "id")
    assert counts(diff) == (1, 1, 1, 2)
    assert (diff.old_rows, diff.new_rows, diff.cells) == (4, 4, {"n": 1})
    changed, added, removed = diff.rows
    assert (changed.change, changed.key, changed.old_row, changed.new_row) == (
        *("changed", ["1"]),
        *(1, 2),
    )
    assert [(cell.column, cell.old, cell.new) for cell in changed.cells] == [("n", "10", "11")]
    assert (added.change, added.new_row, added.key) == ("added", 4, ["5"])
    assert (removed.change, removed.old_row, removed.key) == ("removed", 2, ["2"])


def test_rows_without_a_key_are_a_multiset() -> None:
    assert counts(compare("t.csv", OLD, NEW)) == (2, 2, 0, 2)
    twice = b"a\nx\nx\ny\n"
    assert counts(compare("t.csv", twice, b"a\nx\nx\nx\n")) == (1, 1, 0, 2)


def test_many_equal_rows_show_what_is_left_over() -> None:
    diff = compare("t.csv", b"a\n" + b"x\n" * 100, b"a\n" + b"x\n" * 102)
    assert counts(diff) == (2, 0, 0, 100)
    assert [row.new_row for row in diff.rows] == [101, 102]


def test_a_repeated_key_is_matched_by_content_first() -> None:
    old, new = b"k,v\n1,a\n1,b\n1,c\n2,z\n", b"k,v\n1,c\n1,x\n2,z\n"
    diff = compare("t.csv", old, new, "k")
    assert counts(diff) == (0, 1, 1, 2)
    assert diff.repeated_keys == 1


def test_a_schema_that_changed() -> None:
    diff = compare("t.csv", b"a,b\n1,2\n", b"b,c\n2,3\n")
    assert counts(diff) == (0, 0, 0, 1)  # by the columns that both have
    assert {(c.column, c.old_type, c.new_type) for c in diff.columns} == {
        ("a", "text", None),
        ("c", None, "text"),
    }


def test_a_key_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"t.csv has no column uid before; it has:\n  id"):
        compare("t.csv", OLD, NEW, "uid")


def _parquet(table: pyarrow.Table) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def _feather(table: pyarrow.Table) -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(table, file)
    return file.getvalue()


@pytest.mark.parametrize(("name", "write"), [("t.parquet", _parquet), ("t.feather", _feather)])
def test_arrow_tables_with_types(name: str, write: object) -> None:
    day = datetime.date(2020, 1, 1)
    old = {"id": [1, 2, 3], "x": [1, 2, 3], "day": [day] * 3, "tags": [["a"], [], None]}
    new = {"id": [1, 2, 3], "x": [1.0, 2.5, 3.0], "day": [day] * 3, "tags": [["a"], [], ["b"]]}
    diff = compare(name, write(pyarrow.table(old)), write(pyarrow.table(new)), "id")  # type: ignore[operator]
    assert counts(diff) == (0, 0, 2, 1)
    assert [(c.column, c.old_type, c.new_type) for c in diff.columns] == [("x", "int64", "double")]
    assert diff.cells == {"x": 1, "tags": 1}


def test_json_lines_with_keys_in_another_order() -> None:
    old = json_lines([{"id": 1, "v": {"a": 1, "b": [2]}}, {"id": 2, "v": None}, {"id": 3}])
    new = json_lines([{"v": {"b": [2], "a": 1}, "id": 1}, {"id": 2}, {"id": 3, "w": True}])
    diff = compare("t.jsonl", old, new, "id")
    assert counts(diff) == (0, 0, 0, 3)
    assert [(c.column, c.new_type) for c in diff.columns] == [("w", "boolean")]


def _sqlite(path: Path, rows: list[tuple[int, str]]) -> bytes:
    database = sqlite3.connect(path)
    database.execute('create table "odd ""name" (id integer primary key, v text)')
    database.execute("create table other (x)")
    database.execute("create view v as select * from other")
    database.executemany('insert into "odd ""name" values (?, ?)', rows)
    database.commit()
    database.close()
    return path.read_bytes()


def test_sqlite_tables(tmp_path: Path) -> None:
    old = _sqlite(tmp_path / "old.db", [(1, "a"), (2, "b")])
    new = _sqlite(tmp_path / "new.db", [(1, "a"), (2, "c")])
    with ExitStack() as held:
        before = tables_of("t.db", io.BytesIO(old), held)
        after = tables_of("t.db", io.BytesIO(new), held)
        assert [table.name for table in before] == ['odd "name', "other"]
        assert counts(compare_tables("t.db", before[0], after[0], ["id"])) == (0, 0, 1, 1)
        assert counts(compare_tables("t.db", before[1], after[1], [])) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b"a,a\n1,2\n"),
        ("t.csv", b"a\n1,2\n"),
        ("t.csv", b'a\n"1\n'),
        ("t.csv", b"a\n\xff\n"),
        ("t.jsonl", b"{\n"),
        ("t.jsonl", b"[" * 100_000),
        ("t.parquet", b"PAR1 no such thing PAR1"),
        ("t.feather", b"ARROW1 no such thing"),
        ("t.db", b"no such thing" * 100),
    ],
)
def test_what_is_no_table_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        compare(name, data, data)


# --- exports of annotations -----------------------------------------------------------------


def _compare_exports(old: object, new: object) -> dict[str | None, TableDiff]:
    pairs = zip(
        annotation_tables(io.BytesIO(json_lines([old]))),
        annotation_tables(io.BytesIO(json_lines([new]))),
        strict=True,
    )
    return {a.name: compare_tables("a.json", a, b, b.key) for a, b in pairs}


def _coco(first: int, boxes: dict[str, list[list[int]]], names: list[str]) -> object:
    images = [{"id": first + n, "file_name": name, "width": 9} for n, name in enumerate(boxes)]
    annotations = [
        {"id": first * 7 + n, "image_id": first + at, "category_id": first, "bbox": box}
        for at, found in enumerate(boxes.values())
        for n, box in enumerate(found)
    ]
    categories = [{"id": first + n, "name": name} for n, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_coco_by_content_whatever_the_numbers() -> None:
    boxes = {"a.jpg": [[1, 1, 2, 2], [5, 5, 2, 2]], "b.jpg": [[3, 3, 1, 1]]}
    same = _compare_exports(_coco(1, boxes, ["cat"]), _coco(50, boxes, ["cat"]))
    assert [counts(same[n]) for n in ("images", "annotations", "categories")] == [
        (0, 0, 0, 2),
        (0, 0, 0, 3),
        (0, 0, 0, 1),
    ]
    moved = {"a.jpg": [[5, 5, 2, 2], [1, 1, 3, 3]], "c.jpg": [[3, 3, 1, 1]]}
    diff = _compare_exports(_coco(1, boxes, ["cat"]), _coco(9, moved, ["cat", "dog"]))
    assert counts(diff["images"]) == (1, 1, 0, 1)
    assert counts(diff["annotations"]) == (1, 1, 1, 1)
    assert counts(diff["categories"]) == (1, 0, 0, 1)
    assert diff["annotations"].cells == {"bbox": 1}


def test_label_studio_by_content() -> None:
    def export(first: int, choice: str) -> object:
        result = [{"id": "r", "type": "choices", "value": {"choices": [choice]}}]
        return [
            {"id": first, "data": {"image": "a.jpg"}, "annotations": [{"id": 1, "result": result}]},
            {"id": first + 1, "data": {"image": "b.jpg"}, "annotations": []},
        ]

    same = _compare_exports(export(1, "cat"), export(70, "cat"))
    assert (counts(same["tasks"]), counts(same["annotations"])) == ((0, 0, 0, 2), (0, 0, 0, 1))
    changed = _compare_exports(export(1, "cat"), export(1, "dog"))
    assert counts(changed["annotations"]) == (0, 0, 1, 0)
    numbered = _compare_exports(label_studio(0), label_studio(1))
    assert counts(numbered["tasks"]) == (1, 0, 0, 3)
    for name in ("annotations", "regions"):
        assert counts(numbered[name]) == (1, 0, 1, 2)
    (row, _) = numbered["regions"].rows
    assert row.key == ["s3://lab-data/1.jpg"]
    assert [(cell.old, cell.new) for cell in row.cells] == [
        ('{"choices":["dog"]}', '{"choices":["wolf"]}')
    ]


def test_an_array_of_objects_is_a_table() -> None:
    def minimal(*labels: str) -> bytes:
        return json.dumps(
            [{"image": f"{n}.jpg", "label": of} for n, of in enumerate(labels)]
        ).encode()

    diff = compare("a.json", minimal("cat", "dog"), minimal("cat", "cat", "dog"), "image")
    assert (diff.table, counts(diff)) == (None, (1, 0, 1, 1))
    for other in (b"[1, 2]", b'[{"a": 1}, 2]', b'{"images": 1}', b"3"):
        assert annotation_tables(io.BytesIO(other)) == []


def test_of_long_values_the_difference_is_seen() -> None:
    old, new = "a" * 500 + "b" * 300, "a" * 500 + "c" * 300
    diff = compare("t.csv", f"id,v\n1,{old}\n".encode(), f"id,v\n1,{new}\n".encode(), "id")
    (cell,) = diff.rows[0].cells
    assert (
        cell.old == "…" + "a" * 50 + "b" * 148 + "…"
        and cell.new == "…" + "a" * 50 + "c" * 148 + "…"
    )
    assert cell_texts("x" * 300, "x" * 299) == ("…" + "x" * 51, "…" + "x" * 50)
    assert cell_texts("y" + "x" * 300, None) == ("y" + "x" * 198 + "…", None)
    assert cell_texts("same", "sane") == ("same", "sane")


def test_other_json_is_no_export() -> None:
    assert annotation_tables(io.BytesIO(b'{"a": 1}')) == []
    with pytest.raises(ValueError, match="nested too deeply"):
        annotation_tables(io.BytesIO(b'{"images": [' + b"[" * 100_000))


# --- the answer of another --------------------------------------------------------------------


def _random_csv(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    order = random.Random(1).sample(range(ROWS), ROWS)
    with open(path, "w", encoding="utf-8") as file:
        file.write("id,word,value\n")
        for number in order:
            if chance.random() < 0.9:
                value = number % 7 if chance.random() < 0.9 else chance.randrange(3)
                file.write(f"{number},w{number % 11},{value}\n")


def test_the_counts_are_those_of_duckdb(tmp_path: Path) -> None:
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    _random_csv(old, 1)
    _random_csv(new, 2)
    database = duckdb.connect()
    for name, path in (("a", old), ("b", new)):
        database.execute(f"create table {name} as from read_csv('{path}', all_varchar = true)")

    def count(query: str) -> int:
        answer = database.execute(f"select count(*) from ({query})").fetchone()
        assert answer is not None
        return int(answer[0])

    by_key = compare("t.csv", old.read_bytes(), new.read_bytes(), "id")
    changed = "from a join b using (id) where (a.word, a.value) <> (b.word, b.value)"
    assert counts(by_key) == (
        count("from b anti join a using (id)"),
        count("from a anti join b using (id)"),
        count(changed),
        count("from a intersect all from b"),
    )
    whole = compare("t.csv", old.read_bytes(), new.read_bytes())
    assert counts(whole)[:2] == (
        count("from b except all from a"),
        count("from a except all from b"),
    )


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(Sorter, run_bytes_max=1 << 18)
    monkeypatch.setattr("dvtool.reports.row_diff.Sorter", small)
    old = b"id,v\n" + b"".join(b"%d,%060d\n" % (n, n) for n in range(20_000))
    new = old.replace(b"7,", b"8,")
    tracemalloc.start()
    try:
        diff = compare("t.csv", old, new)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert diff.old_rows == 20_000 and diff.added
    assert peak < 2 << 20, peak  # the rows themselves have 5 MB on both sides
