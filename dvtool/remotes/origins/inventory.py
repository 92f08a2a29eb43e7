"""The objects of a bucket, from a file instead of a listing: an S3 Inventory, or a list of keys.

An inventory is what AWS describes under "Amazon S3 Inventory": a manifest.json that names files of
CSV (gzip) or Parquet, with a row for each object. All is foreign input, and checked.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import IO, Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from dvtool.errors import CorruptError, InputError, MissingError, UsageError, printable
from dvtool.format.source import DataSource
from dvtool.remotes.origins.base import Origin, OriginObject
from dvtool.remotes.origins.reading import READ_AT_ONCE_BYTES, ObjectReader
from dvtool.remotes.origins.registry import open_origin
from dvtool.remotes.transports.retry import Attempts
from dvtool.system.decoders import json_decoder
from dvtool.system.extras import import_extra
from dvtool.system.parallel import run_bounded

ROWS_A_BATCH = 1_000
INVENTORY_SIZE_MAX_BYTES = 64 << 20
DESCRIBED_AT_ONCE = 32
COLUMNS = {
    "bucket": "bucket",
    "key": "key",
    "islatest": "latest",
    "isdeletemarker": "deleted",
    "size": "size",
    "etag": "tag",
}
"""Names of columns, in lower case without underscores, as CSV and Parquet have them."""


class _DataFile(msgspec.Struct):
    key: str
    MD5checksum: str = ""


class _InventoryManifest(msgspec.Struct):
    sourceBucket: str
    fileFormat: str
    files: list[_DataFile]
    fileSchema: str = ""
    destinationBucket: str = ""


class InventoryBucket(NamedTuple):
    """The part of a bucket that is wanted, and how it is asked."""

    source: DataSource
    local: Mapping[str, str]

    @property
    def name(self) -> str:
        """The bucket."""
        return self.source.url.partition("://")[2].partition("/")[0]

    @property
    def prefix(self) -> str:
        """The prefix of the keys that are wanted."""
        return self.source.url.partition("://")[2].partition("/")[2]


def inventory_batches(address: str, bucket: InventoryBucket) -> Iterator[list[OriginObject]]:
    """Yield the objects of a bucket that an inventory names, some at a time.

    `address` is its manifest.json: a file here, with the data files beside it or as they are in the
    bucket, or s3://BUCKET/KEY. UsageError for an inventory of another bucket, or without sizes and
    ETags; CorruptError for a file that is not as the manifest says.
    """
    with _local_file(address, bucket) as path:
        manifest = _manifest(path, address)
    if manifest.sourceBucket != bucket.name:
        raise UsageError(
            f"{printable(address)} is the inventory of another bucket, "
            f"{printable(manifest.sourceBucket)}",
            hint=f"name the one of {bucket.name}",
        )
    columns = [name.strip() for name in manifest.fileSchema.split(",")]
    read = {"CSV": _rows_of_csv, "PARQUET": _parquet_rows}.get(manifest.fileFormat.upper())
    if read is None:
        raise UsageError(
            f"{printable(address)} is of the format {printable(manifest.fileFormat)}",
            hint="have it written as CSV or Parquet",
        )
    for file in manifest.files:
        where = _data_file_of(file.key, address, manifest)
        with _local_file(where, bucket) as path:
            _check_md5(path, file, where)
            yield from _in_batches(_objects(read(path, columns, where), bucket, where))


def keys_batches(
    path: str, bucket: InventoryBucket, origin: Origin
) -> Iterator[list[OriginObject]]:
    """Yield the objects that a file names, a line each: KEY, or KEY, SIZE and ETAG with tabs.

    Keys are whole, from the top of the bucket. Keys alone are asked for by a request each. The file
    may be compressed (``.gz``). InputError for a line that is none; MissingError for a key that is
    not there.
    """
    try:
        opened: IO[str] = _text_of(path)
    except OSError as error:
        raise MissingError(
            f"{printable(path)} cannot be read: {error.strerror}",
            hint="check the path after --keys",
        ) from error
    with opened as lines:
        for batch in _in_batches(_key_lines(lines, path, bucket)):
            unknown = {
                described.key: number for number, described in enumerate(batch) if not described.tag
            }
            for key, answer in run_bounded(
                partial(_object_of_key, origin), unknown, workers=DESCRIBED_AT_ONCE
            ):
                batch[unknown[key]] = answer
            yield batch


def _key_lines(lines: Iterable[str], path: str, bucket: InventoryBucket) -> Iterator[OriginObject]:
    for number, line in enumerate(lines, 1):
        fields = line.rstrip("\r\n").split("\t")
        if fields == [""]:
            continue
        sound = len(fields) == 1 or (len(fields) == 3 and fields[1].isdecimal() and fields[2])
        if not sound or not fields[0].startswith(bucket.prefix):
            raise InputError(
                f"{printable(path)}, line {number:,}: {printable(line.strip())} is no object of "
                f"{printable(bucket.source.url)}; nothing was recorded",
                hint="a line is KEY, or KEY, SIZE and ETAG with tabs between; keys are whole",
            )
        if len(fields) == 1:
            yield OriginObject(fields[0], -1, "")
        else:
            yield OriginObject(fields[0], int(fields[1]), fields[2].strip('"'))


def _object_of_key(origin: Origin, key: str) -> OriginObject:
    describe: Callable[[str], OriginObject | None] | None = getattr(origin, "describe", None)
    answer = describe(key) if describe is not None else None
    if answer is None:
        raise MissingError(
            f"{origin.url} has no object {printable(key)}; nothing was recorded",
            hint="take its line out of the file of keys, or list the bucket: leave --keys out",
        )
    return answer


def _text_of(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def _in_batches(objects: Iterable[OriginObject]) -> Iterator[list[OriginObject]]:
    batch: list[OriginObject] = []
    for described in objects:
        batch.append(described)
        if len(batch) == ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _manifest(path: str, address: str) -> _InventoryManifest:
    if os.path.getsize(path) > INVENTORY_SIZE_MAX_BYTES:
        raise UsageError(
            f"{printable(address)} is too large for the manifest of an inventory",
            hint="name its manifest.json",
        )
    with open(path, "rb") as file:
        text = file.read()
    try:
        return json_decoder(_InventoryManifest).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{printable(address)} is not the manifest of an S3 Inventory: {printable(str(error))}",
            hint="name its manifest.json",
        ) from error


def _data_file_of(key: str, address: str, manifest: _InventoryManifest) -> str:
    """Return where a data file is: in the bucket of the inventory, or beside a manifest here."""
    if address.startswith("s3://"):
        named = manifest.destinationBucket.rpartition(":")[2]
        return f"s3://{named or address.partition('://')[2].partition('/')[0]}/{key}"
    folder, name = os.path.dirname(address), key.rpartition("/")[2]
    choices = [
        os.path.join(folder, *parts) for parts in ((name,), ("data", name), ("..", "data", name))
    ]
    answer = next((path for path in choices if os.path.isfile(path)), None)
    if answer is None:
        raise MissingError(
            f"the inventory names {printable(key)}, and there is no {printable(choices[0])}",
            hint="put the data files beside manifest.json, or name it as s3://BUCKET/KEY",
        )
    return answer


@contextlib.contextmanager
def _local_file(address: str, bucket: InventoryBucket) -> Iterator[str]:
    """Yield the path of a file that is here, or that is copied here from a bucket meanwhile."""
    if not address.startswith("s3://"):
        if not os.path.isfile(address):
            raise MissingError(
                f"there is no file {printable(address)}", hint="check the path after --inventory"
            )
        yield address
        return
    source = DataSource("s3", address, "", options=bucket.source.options)
    origin = open_origin(source, bucket.local)
    described = next((each for batch in origin.batches() for each in batch), None)
    if described is None:
        raise MissingError(
            f"there is nothing at {printable(address)}",
            hint="check the address, or list the bucket: leave --inventory out",
        )
    with tempfile.TemporaryDirectory(prefix="dv-inventory-") as folder:
        path = os.path.join(folder, address.rpartition("/")[2] or "file")
        with ObjectReader(origin, described, Attempts()) as reader, open(path, "wb") as file:
            while block := reader.read(READ_AT_ONCE_BYTES):
                file.write(block)
        origin.close()
        yield path


def _check_md5(path: str, file: _DataFile, where: str) -> None:
    if not file.MD5checksum:
        return
    md5 = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(1 << 20):
            md5.update(block)
    if md5.hexdigest() != file.MD5checksum.lower():
        raise CorruptError(
            f"{printable(where)} is not the file that the inventory's manifest names",
            hint="take manifest and files of described day",
        )


InventoryRow = dict[str, Any]


def _objects(
    rows: Iterable[InventoryRow], bucket: InventoryBucket, where: str
) -> Iterator[OriginObject]:
    """Yield the objects of rows that are wanted: the newest version of each, if not deleted."""
    prefix = bucket.prefix
    for row in rows:
        key = row["key"]
        if row.get("bucket", bucket.name) != bucket.name or not key.startswith(prefix):
            continue
        if not _is(row.get("latest", True)) or _is(row.get("deleted", False)):
            continue
        try:
            size, tag = int(row["size"]), str(row["tag"] or "").strip('"')
        except (TypeError, ValueError):
            size, tag = -1, ""
        if size < 0 or not tag:
            raise CorruptError(
                f"{printable(where)}: {printable(key)} has no size or no ETag",
                hint="have the inventory written with the fields Size and ETag",
            )
        yield OriginObject(key, size, tag)


def _is(value: object) -> bool:
    return value is True or str(value).lower() == "true"


def _column_numbers(columns: Iterable[str], where: str) -> dict[str, int]:
    names = {COLUMNS.get(name.lower().replace("_", "")): at for at, name in enumerate(columns)}
    lacking = [name for name in ("key", "size", "tag") if name not in names]
    if lacking:
        text = " and ".join({"tag": "ETag"}.get(name, name) for name in lacking)
        raise UsageError(
            f"{printable(where)} has no column for {text}",
            hint="have the inventory written with the fields Size and ETag",
        )
    return {name: at for name, at in names.items() if name is not None}


def _rows_of_csv(path: str, columns: list[str], where: str) -> Iterator[InventoryRow]:
    names = _column_numbers(columns, where)
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
            for fields in csv.reader(text):
                if len(fields) < len(columns):
                    raise CorruptError(
                        f"{printable(where)} has a row of {len(fields)} fields",
                        hint="copy it again, or list the bucket: leave --inventory out",
                    )
                row: InventoryRow = {name: fields[at] for name, at in names.items()}
                row["key"] = unquote_plus(row["key"], errors="strict")
                yield row
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise CorruptError(
            f"{printable(where)} cannot be read: {printable(str(error))}",
            hint="copy it from the bucket again, or list the bucket: leave --inventory out",
        ) from error


def _parquet_rows(path: str, _: list[str], where: str) -> Iterator[InventoryRow]:
    parquet = import_extra("pyarrow.parquet", extra="parquet", user="inventories in Parquet")
    arrow = import_extra("pyarrow", extra="parquet", user="inventories in Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
            names = _column_numbers(columns, where)
            wanted = [columns[at] for at in names.values()]
            for table in file.iter_batches(ROWS_A_BATCH, columns=wanted):
                values = [table.column(name).to_pylist() for name in wanted]
                for row in zip(*values, strict=True):
                    yield dict(zip(names, row, strict=True))
    except (OSError, arrow.ArrowException, arrow.ArrowInvalid) as error:
        raise CorruptError(
            f"{printable(where)} cannot be read: {printable(str(error))}",
            hint="copy it from the bucket again, or list the bucket: leave --inventory out",
        ) from error
