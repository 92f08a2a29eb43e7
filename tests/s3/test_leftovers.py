"""What jobs leave in a prefix, imported from a real S3 server; and what Spark really writes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Work
from tests.s3.conftest import use
from tests.s3.servers import S3Server
from tests.s3.test_import import Bucket, files, work
from tests.site.blocks import DOCS, blocks

__all__ = ["work"]
DATA = {"day=1/part-0.parquet": b"one", "day=2/part-0.parquet": b"two", "_metadata": b"both"}
DONE = {"_SUCCESS": b"", "day=1/.part-0.parquet.crc": b"sum", "day=1_$folder$": b""}
RUNNING = {"_temporary/": b"", "_temporary/0/part-1.parquet": b"thr"}


@pytest.fixture
def bucket(work: Work, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    use(moto_server, monkeypatch)
    return Bucket(work, moto_server)


def test_leftovers_change_neither_data_nor_manifest(bucket: Bucket) -> None:
    bucket.put(DATA)
    assert "left out" not in bucket.dv("import", bucket.url, "out").err
    manifest = bucket.work.read("out.dv.json")
    bucket.put({**DONE, **RUNNING})
    assert "out  as the source has it" in bucket.dv("status", "--sources").out
    ran = bucket.dv("update", "out")
    assert "left out what jobs leave beside their data: 3 objects" in ran.err
    assert "2 empty keys" in ran.err
    assert "a job is writing there, or was killed: _temporary/ is there" in ran.err
    assert bucket.work.read("out.dv.json") == manifest
    again = bucket.dv("import", bucket.url, "again", "--json").json
    assert len(again["warnings"]) == 3
    assert bucket.work.read("again.dv.json") == manifest
    assert files(bucket.work.root / "again") == DATA


def test_filters_and_leftovers(bucket: Bucket) -> None:
    bucket.put({**DATA, **DONE, **RUNNING})
    ran = bucket.dv("import", bucket.url, "parts", "--include", "*.parquet")
    assert sorted(files(bucket.work.root / "parts")) == sorted(DATA)[1:]
    assert "a job is writing there" in ran.err
    ran = bucket.dv("import", bucket.url, "quiet", "--exclude", "_temporary")
    assert "a job is writing" not in ran.err
    every = ("--include", "*", "--include", "_*", "--include", ".*")
    ran = bucket.dv("import", bucket.url, "all", *every)
    assert "left out" not in ran.err
    full = {key: data for key, data in {**DATA, **DONE, **RUNNING}.items() if data}
    assert files(bucket.work.root / "all") == {**full, "_SUCCESS": b""}
    manifest = bucket.work.read("all.dv.json")
    bucket.dv("update", "all")
    assert bucket.work.read("all.dv.json") == manifest


def test_leftovers_alone_are_nothing_to_take(bucket: Bucket) -> None:
    bucket.put({"_SUCCESS": b"{}"})
    ran = bucket.dv("import", bucket.url, "out", code=4)
    assert "only what jobs leave beside their data is there: _SUCCESS" in ran.err
    bucket.dv("import", f"{bucket.url}/_SUCCESS", "out")
    assert bucket.work.read("out") == b"{}"


@pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pyspark") is None,
    reason="needs Java, and pyspark of pip",
)
def test_spark_reads_a_commit_and_its_result_is_imported(bucket: Bucket, tmp_path: Path) -> None:
    """Runs the block of docs/howto/lake.md that the page itself cannot."""
    root = bucket.work.root
    (root / "data" / "visits").mkdir(parents=True)
    for at, city in enumerate(("Bonn", "Ulm")):
        table = pa.table({"city": [city, "Kiel"], "n": [1, 2]})
        pq.write_table(table, root / f"data/visits/{at}.parquet")
    bucket.dv("add", "data/visits")
    bucket.work.commit("visits")
    bucket.dv("export", "HEAD", "data/visits", "--to", "../visits-v1.0")
    page = (DOCS / "howto" / "lake.md").read_text("utf-8")
    (source,) = [block.body for block in blocks(page) if block.not_run and "pyspark" in block.body]
    small = "--master local[1] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1"
    environ = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": f"{small} pyspark-shell",
    }
    subprocess.run([sys.executable, "-c", source], cwd=root, env=environ, check=True, timeout=300)
    written = files(root.parent / "by-city-spark")
    assert "_SUCCESS" in written and "._SUCCESS.crc" in written
    bucket.put(written)
    ran = bucket.dv("import", bucket.url, "data/by-city")
    assert "left out what jobs leave beside their data" in ran.err
    taken = files(root / "data" / "by-city")
    assert taken and all(name.startswith("part-") for name in taken)
    rows = pq.read_table(root / "data" / "by-city").to_pylist()
    assert {row["city"]: row["sum(n)"] for row in rows} == {"Bonn": 1, "Ulm": 1, "Kiel": 4}
