"""Importing by an S3 Inventory or a file of keys: the same manifest as by listing, or an error."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
import pytest

from tests.s3.test_import import SMALL, Bucket, files, moto, work  # noqa: F401

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"
Rows = list[tuple[str, str, int, str]]


@pytest.fixture
def bucket(moto: Bucket) -> Bucket:  # noqa: F811
    moto.put(SMALL)
    moto.put({"elsewhere": b"not below the prefix"}, prefix="")
    moto.dv("import", moto.url, "listed", "--no-checkout")
    return moto


def rows(bucket: Bucket) -> Rows:
    contents: dict[str, bytes] = {f"data/{key}": data for key, data in SMALL.items()}
    contents["elsewhere"] = b"not below the prefix"
    return [
        (bucket.name, key, len(data), hashlib.md5(data).hexdigest())
        for key, data in contents.items()
    ]


def csv_file(found: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    for name, key, size, tag in found:
        row = (name, quote(key), "v1", "true", "false", size, "2026-01-01T00:00:00.000Z", tag)
        writer.writerow(row)
        # Versions before, and what is deleted, are in an inventory too.
        writer.writerow((name, quote(key), "v0", "false", "false", 7, "2025-01-01", "0" * 32))
        writer.writerow((name, "data/gone", "v2", "true", "true", "", "2025-01-01", ""))
    return gzip.compress(text.getvalue().encode())


def parquet_file(found: Rows) -> bytes:
    table = pyarrow.table(
        {
            "bucket": [row[0] for row in found],
            "key": [row[1] for row in found],
            "is_latest": [True] * len(found),
            "is_delete_marker": [False] * len(found),
            "size": [row[2] for row in found],
            "e_tag": [row[3] for row in found],
        }
    )
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def manifest(bucket: Bucket, files: dict[str, bytes], **more: Any) -> bytes:
    return json.dumps(
        {
            "sourceBucket": bucket.name,
            "destinationBucket": f"arn:aws:s3:::{bucket.name}",
            "version": "2016-11-30",
            "fileFormat": "CSV",
            "fileSchema": SCHEMA,
            "files": [
                {"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()}
                for key, data in files.items()
            ],
            **more,
        }
    ).encode()


def test_an_inventory_in_csv_in_its_bucket(bucket: Bucket) -> None:
    found = rows(bucket)
    parts = {"inv/data/1.csv.gz": csv_file(found[:3]), "inv/data/2.csv.gz": csv_file(found[3:])}
    bucket.put({**parts, "inv/2026/manifest.json": manifest(bucket, parts)}, prefix="")
    place = f"s3://{bucket.name}/inv/2026/manifest.json"
    bucket.dv("import", bucket.url, "taken", "--inventory", place)
    assert bucket.work.read("taken.dv.json") == bucket.work.read("listed.dv.json")
    assert files(bucket.work.root / "taken") == SMALL
    plan = bucket.dv("import", "--plan", bucket.url, "other", "--inventory", place)
    assert "5 files" in plan.out


def test_an_inventory_in_parquet_here(bucket: Bucket, tmp_path: Path) -> None:
    data = parquet_file(rows(bucket))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.parquet").write_bytes(data)
    text = manifest(
        bucket, {"inv/data/1.parquet": data}, fileFormat="Parquet", fileSchema="message s3 {…}"
    )
    (tmp_path / "manifest.json").write_bytes(text)
    bucket.dv("import", bucket.url, "taken", "--inventory", str(tmp_path / "manifest.json"))
    assert bucket.work.read("taken.dv.json") == bucket.work.read("listed.dv.json")


@pytest.mark.parametrize("described", [True, False])
def test_a_file_of_keys(bucket: Bucket, tmp_path: Path, described: bool) -> None:
    found = [row for row in rows(bucket) if row[1].startswith("data/")]
    lines = [f"{key}\t{size}\t{tag}" if described else key for _, key, size, tag in found]
    with gzip.open(tmp_path / "keys.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    bucket.dv("import", bucket.url, "taken", "--keys", str(tmp_path / "keys.gz"))
    assert bucket.work.read("taken.dv.json") == bucket.work.read("listed.dv.json")


def test_what_is_no_inventory_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    def refused(place: Path | str, code: int, *texts: str, option: str = "--inventory") -> None:
        ran = bucket.dv("import", bucket.url, "bad", option, str(place), code=code)
        assert all(text in ran.err for text in texts), ran.err
        assert not (bucket.work.root / "bad.dv.json").exists()

    place = tmp_path / "manifest.json"
    refused(place, 4, "there is no file")
    place.write_text("{}")
    refused(place, 2, "is not the manifest of an S3 Inventory")
    data = csv_file(rows(bucket))
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data}))
    refused(place, 4, "the inventory names a/1.csv.gz", "put the data files beside")
    (tmp_path / "1.csv.gz").write_bytes(data[:-9])
    refused(place, 6, "is not the file that the inventory's manifest names")
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data[:-9]}))
    refused(place, 6, "1.csv.gz cannot be read")
    (tmp_path / "1.csv.gz").write_bytes(data)
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data}, sourceBucket="another"))
    refused(place, 2, "is the inventory of another bucket, another")
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data}, fileFormat="ORC"))
    refused(place, 2, "is of the format ORC", "CSV or Parquet")
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data}, fileSchema="Bucket, Key, Size"))
    refused(place, 2, "has no column for ETag", "fields Size and ETag")
    keys = tmp_path / "keys"
    keys.write_text("data/a.txt\ndata/none\n")
    refused(keys, 4, "has no object data/none", option="--keys")
    keys.write_text("data/a.txt\t6\n")
    refused(keys, 8, "line 1", "KEY, SIZE and ETAG", option="--keys")
    keys.write_text("elsewhere\n")
    refused(keys, 8, "elsewhere is no object of", option="--keys")
    # An inventory of yesterday: what changed since is named, and nothing is recorded.
    bucket.put({"new": b"changed since"})
    before = (bucket.name, "data/new", 6, hashlib.md5(b"before").hexdigest())
    data = csv_file([*rows(bucket), before])
    (tmp_path / "1.csv.gz").write_bytes(data)
    place.write_bytes(manifest(bucket, {"a/1.csv.gz": data}))
    refused(place, 7, "data/new changed after it was listed")
