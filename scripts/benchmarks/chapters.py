"""The workloads: which data, which tools, which steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.data import (
    big_file,
    checkpoint,
    labels,
    mixed,
    parquet,
    renamed_folder,
    short_labels,
    small_files,
    tables_as_text,
)
from benchmarks.scale import GIB, MIB, Scale
from benchmarks.story import EDITING, NO_OPS, Chapter
from benchmarks.tools import (
    ADD_AGAIN,
    BACKUP_AGAIN,
    CHECKOUT_AGAIN,
    FETCH_AGAIN,
    PULL_AGAIN,
    STATUS,
)

GROWTH_FILES, GROWTH_BYTES, GROWTH_VERSIONS = "growth-files", "growth-bytes", "growth-versions"
START, STATUS_MANY, REQUESTS, FLUSHES = "start", "status-many", "requests", "flushes"
READ, STREAM, IMPORT, PULL_S3 = "read", "stream", "import", "pull-s3"
SPECIAL = {
    START: "Start-up: `--version`",
    STATUS_MANY: "Status of many files, nothing changed",
    GROWTH_VERSIONS: "Number of versions",
    REQUESTS: "Requests to an S3 server",
    FLUSHES: "Calls that wait for the disk",
    PULL_S3: "Pull from S3: 600 MB in six files and 5,000 files of 20 KB",
    READ: "Reading a commit from Python",
    IMPORT: "Imports: from a bucket, from another repository, from PostgreSQL",
    STREAM: "Streams for training",
}
"""Workloads that do not go through the story."""
MANY_FILES, MANY_BYTES = 50_000, 512 * MIB
"""From here on one timed round of a curve is enough."""
MOST_FILES, MOST_BYTES = 1_000_000, 10 * GIB
"""With so much the warm-up is all there is. With so many, a copy of the files is measured too."""

ALL = ("dv", "dvc", "git-lfs", "git-annex", "restic", "cp", "git")
LIGHT = ("dv", "restic", "cp")
IN_GIT_OR_BACKUP = ("dv", "dvc", "git-lfs", "git-annex", "restic")
QUICK_PEERS = ("dv", "restic", "cp", "git")
QUICK_ONLY = ("S", "B", START, STATUS_MANY, REQUESTS)
"""What a quick run measures with whom, unless told otherwise."""
UNMEASURED_HERE = frozenset(NO_OPS | {STATUS})
FEWER = frozenset({ADD_AGAIN, BACKUP_AGAIN, PULL_AGAIN, FETCH_AGAIN, CHECKOUT_AGAIN})
"""What changes nothing is measured with fewer files, by all tools."""


def main(scale: Scale) -> list[Chapter]:
    """Return S and B."""
    return [
        Chapter(
            "S",
            f"S: {scale.s_files:,} random files of 8 KiB; one grows by a byte",
            small_files(scale.s_files),
            ("dv", "dvc", "restic", "cp", "git"),
            leave_out=FEWER,
        ),
        Chapter(
            "B",
            f"B: one random file of {scale.b_bytes // MIB} MiB; 1,000 bytes inserted in the middle,"
            " 4 KiB overwritten at a quarter, 100 KB appended",
            big_file(scale.b_bytes),
            tuple(name for name in ALL if name != "git"),
            leave_out=FEWER,
        ),
    ]


def lesser(scale: Scale, cache: Path) -> list[Chapter]:
    """Return what is measured last, in fewer rounds."""
    few = small_files(scale.few_files)
    title = f"{scale.few_files:,} random files of 8 KiB, all tools"
    found = [Chapter("few", title, few, ALL), *edits(scale, cache)]
    return [replace(one, rounds=scale.lesser_rounds) for one in found]


def chapters(scale: Scale, cache: Path) -> list[Chapter]:
    """Return all workloads that go through the story, in order."""
    return [*main(scale), *curves(scale), *lesser(scale, cache)]


def edits(scale: Scale, cache: Path) -> list[Chapter]:
    """Return other kinds of data, and what an edit of each costs."""
    few = small_files(scale.few_files)
    big = big_file(scale.b_bytes)
    real = IN_GIT_OR_BACKUP
    return [
        Chapter(
            "few-cold",
            f"{scale.few_files:,} random files of 8 KiB, with the kernel's cache empty",
            few,
            ("dv", "dvc", "git-lfs", "restic", "cp", "git"),
            cold=True,
            leave_out=frozenset(NO_OPS - {ADD_AGAIN}),
        ),
        Chapter(
            "B-cold",
            f"One random file of {scale.b_bytes // MIB} MiB, with the kernel's cache empty",
            big,
            ("dv", "dvc", "restic", "cp"),
            cold=True,
            leave_out=UNMEASURED_HERE,
        ),
        Chapter(
            "mixed",
            "Images and tables from PyPI packages; rows go from five tables, an image goes",
            mixed(cache),
            ALL,
        ),
        Chapter(
            "text",
            f"A CSV of {scale.text_bytes // MIB} MiB, and as JSON lines; four rows change",
            tables_as_text(scale.text_bytes),
            real,
            leave_out=UNMEASURED_HERE,
        ),
        Chapter(
            "labels",
            f"{scale.labels:,} labels of 300 bytes of text; one changes",
            labels(scale.labels),
            LIGHT,
        ),
        *(
            Chapter(
                name,
                f"Parquet, {scale.parquet_rows:,} rows, {how} content-defined chunking;"
                " written again without one row",
                parquet(scale.parquet_rows, content_defined=how == "with"),
                real,
                leave_out=UNMEASURED_HERE,
            )
            for name, how in (("parquet", "without"), ("parquet-cdc", "with"))
        ),
        Chapter(
            "checkpoint",
            f"A checkpoint of {scale.checkpoint_bytes // MIB} MiB in 200 tensors; two change",
            checkpoint(scale.checkpoint_bytes),
            real,
            leave_out=UNMEASURED_HERE,
        ),
        Chapter(
            "rename",
            f"A folder of {scale.few_files:,} random files of 8 KiB gets another name",
            renamed_folder(scale.few_files),
            real,
            leave_out=UNMEASURED_HERE,
        ),
    ]


def curves(scale: Scale) -> list[Chapter]:
    """Return dvtool's points against the number of files and the size of a file."""
    by_files = [
        Chapter(
            f"{GROWTH_FILES}-{count}",
            f"{count:,} files of 75 bytes",
            short_labels(count),
            ("dv", "cp") if count >= MOST_FILES else ("dv",),
            leave_out=frozenset(NO_OPS),
            curve=GROWTH_FILES,
            x=count,
            rounds=rounds_at(count, MANY_FILES, MOST_FILES),
        )
        for count in scale.growth_files
    ]
    by_size = [
        Chapter(
            f"{GROWTH_BYTES}-{size}",
            f"One file of {size // MIB:,} MiB",
            big_file(size, edited=size <= GIB),
            ("dv",),
            leave_out=frozenset(NO_OPS if size <= GIB else NO_OPS | EDITING),
            curve=GROWTH_BYTES,
            x=size,
            rounds=rounds_at(size, MANY_BYTES, MOST_BYTES),
        )
        for size in scale.growth_bytes
    ]
    return by_files + by_size


def rounds_at(x: int, many: int, most: int) -> int:
    """Return how many timed rounds a point of a curve has beside the warm-up."""
    return 0 if x >= most else 1 if x >= many else 2


def special_title(name: str, scale: Scale) -> str:
    """Return the title of a workload that does not go through the story."""
    if name == STATUS_MANY:
        return f"Status of {scale.many_files:,} files, nothing changed"
    return SPECIAL[name]


def names(scale: Scale) -> list[str]:
    """Return what --only takes: workloads, with each curve as one."""
    return list(dict.fromkeys([*(group(one) for one in chapters(scale, Path())), *SPECIAL]))


def group(chapter: Chapter) -> str:
    """Return the name by which --only means a workload: of a curve its own."""
    return chapter.curve or chapter.name
