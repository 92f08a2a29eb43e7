"""Which paths of a prefix are leftovers of jobs, and what they say of these."""

from __future__ import annotations

import pytest

from dvtool.format.source import DataSource
from dvtool.verbs.imports.leftovers import Leftovers

LEFT = {
    "_SUCCESS": "_SUCCESS",
    "day=1/_SUCCESS": "_SUCCESS",
    "._SUCCESS.crc": "._SUCCESS.crc",
    "day=1/.part-00000.snappy.parquet.crc": ".part-00000.snappy.parquet.crc",
    "_started_123": "_started_123",
    "_committed_123": "_committed_123",
    "_committed_vacuum123": "_committed_vacuum123",
    "_temporary/0/_temporary/attempt_1/part-1.parquet": "_temporary",
    "day=1/_temporary/": "_temporary",
    "__magic/job/x": "__magic",
    "__magic_job-1/x": "__magic_job-1",
    ".spark-staging-1234/day=1/x": ".spark-staging-1234",
    ".hive-staging_hive_2026-01-01/x": ".hive-staging_hive_2026-01-01",
    "_delta_log/.00000000000000000000.json.crc": ".00000000000000000000.json.crc",
}
DATA = (
    "part-00000.parquet",
    "_metadata",
    "_common_metadata",
    "_SUCCESS/x",
    "_SUCCESS.txt",
    "my_SUCCESS",
    "_temporary",
    "my_temporary/x",
    "_temporary_notes/x",
    "_started_it",
    "x.crc",
    ".crc",
    ".hidden",
    "_delta_log/00000000000000000000.crc",
    "_delta_log/00000000000000000000.json",
    "_spark_metadata/0",
    ".hoodie/hoodie.properties",
    "_labels/x",
)


def leftovers(*include: str) -> Leftovers:
    return Leftovers.of(DataSource("s3", "s3://b/p/", "", include=include))


@pytest.mark.parametrize("path", LEFT)
def test_a_leftover_is_told_by_its_name(path: str) -> None:
    assert leftovers().look_at(path) == LEFT[path]


@pytest.mark.parametrize("path", DATA)
def test_what_is_called_otherwise_is_data(path: str) -> None:
    assert leftovers().look_at(path) == ""


@pytest.mark.parametrize(
    ("include", "taken"),
    [
        ((), []),
        (("*", "**", "?SUCCESS", "[_]SUCCESS"), []),
        (("_SUCCESS",), ["_SUCCESS"]),
        (("day=1/_*",), ["_SUCCESS", "_temporary"]),
        (("*", "_*", ".*"), ["_SUCCESS", ".x.crc", "_temporary"]),
    ],
)
def test_a_glob_takes_what_it_spells(include: tuple[str, ...], taken: list[str]) -> None:
    found = leftovers(*include)
    names = ["_SUCCESS", ".x.crc", "_temporary"]
    assert [name for name in names if not found.leaves_out(name)] == taken
    assert found.names == [name for name in names if name not in taken]


def test_a_job_that_is_not_done_is_told() -> None:
    done = leftovers()
    for path in ("_started_7", "day=1/_started_7", "_committed_7", "day=1/_committed_7"):
        done.look_at(path)
    assert done.warnings() == []
    for path, says in (("a/_temporary/0/", "a/_temporary/"), ("_started_8", "_started_8 without")):
        running = leftovers()
        running.look_at(path)
        assert says in "".join(running.warnings())


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("_delta_log/0.json", "_delta_log is the log of a table of Delta Lake"),
        ("t/.hoodie/x", "t/.hoodie is the log of a table of Apache Hudi"),
        ("metadata/v1.metadata.json", "log of a table of Apache Iceberg"),
        ("_spark_metadata/0", "_spark_metadata is the log"),
    ],
)
def test_a_table_with_a_log_is_told(path: str, says: str) -> None:
    found = leftovers()
    assert found.look_at(path) == ""
    assert says in "".join(found.warnings())


def test_only_a_prefix_has_leftovers() -> None:
    for source in (
        DataSource("s3", "s3://b/p/_SUCCESS", ""),
        DataSource("s3", "s3://b/p.tar", "", unpack=True),
        DataSource("hf", "hf://datasets/a/b", ""),
        DataSource("dvc", "https://example.org/r.git", ""),
    ):
        found = Leftovers.of(source)
        assert found.look_at("_SUCCESS") == found.look_at("_temporary/x") == ""
        assert not found.warnings()
