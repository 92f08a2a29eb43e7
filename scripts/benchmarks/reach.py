"""The table of what is to be reached, each row worked out from results."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.chapters import (
    GROWTH_BYTES,
    GROWTH_FILES,
    MOST_FILES,
    PULL_S3,
    START,
    STATUS_MANY,
)
from benchmarks.results import Results
from benchmarks.special import CLICK, VERSION
from benchmarks.tools import ADD, BACK, BACKUP, PULL, PULL_AGAIN, PUSH, PUSH_AGAIN, STATUS

MB = 1_000_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to reach. `value` is None where it was not measured."""

    what: str
    reach: str
    measured: str
    reached: bool | None


def rows(results: Results) -> list[Row]:
    """Return all rows, in the order of the design's table."""
    return [*times(results), *sizes(results), *requests(results), *memory(results), start(results)]


def times(results: Results) -> list[Row]:
    def share(
        what: str, most: float, ours: tuple[str, str, str], theirs: tuple[str, str, str]
    ) -> Row:
        return at_most(results, what, most, ours, theirs)

    dv, copied = ("S", "dv"), ("S", "cp")
    many = results.workload(STATUS_MANY)
    of_many = many.title[:1].lower() + many.title[1:] if many else "status of many files, unchanged"
    return [
        share("add S, dv / `cp -r` + `sync`", 0.5, (*dv, ADD), (*copied, ADD)),
        share("clone and pull S, dv / `cp -r` + `sync`", 1.1, (*dv, PULL), (*copied, PULL)),
        share(
            "switch of S that differs in a file, hooks included, dv / `git checkout`",
            3,
            (*dv, BACK),
            ("S", "git", BACK),
        ),
        share("status of S unchanged, dv / `git status`", 2.5, (*dv, STATUS), ("S", "git", STATUS)),
        share(
            f"{of_many}, dv / `git status`",
            2,
            (STATUS_MANY, "dv", STATUS),
            (STATUS_MANY, "git", STATUS),
        ),
        *times_of_most(results),
        share("add and push B, dv / DVC", 0.5, ("B", "dv", BACKUP), ("B", "dvc", BACKUP)),
        share("add and push B, dv / restic", 0.5, ("B", "dv", BACKUP), ("B", "restic", BACKUP)),
        share(
            "pull of 600 MB and 5,000 files of 20 KB from S3, dv / `rclone copy`",
            0.7,
            (PULL_S3, "dv", PULL),
            (PULL_S3, "rclone copy", PULL),
        ),
        share(
            "the same pull, dv / `rclone copy --transfers 16`",
            0.7,
            (PULL_S3, "dv", PULL),
            (PULL_S3, "rclone copy --transfers 16", PULL),
        ),
    ]


def times_of_most(results: Results) -> list[Row]:
    """Return the rows of the million of small files."""
    name, of = f"{GROWTH_FILES}-{MOST_FILES}", f"{MOST_FILES:,} files of 75 bytes"
    rows = []
    for step, most_s in ((STATUS, 1), (ADD, 18), (PUSH, 10)):
        found = results.median(name, "dv", step)
        what, reach = f"{step} of {of}", f"at most {most_s} s"
        if found is None:
            rows.append(Row(what, reach, "not measured", None))
        else:
            rows.append(Row(what, reach, f"{found:.1f} s", found <= most_s))
    peak = results.median(name, "dv", PUSH, "peak_bytes")
    rows.append(peak_row(f"peak memory of the push of {of}", peak, 200))
    what = f"clone and pull of {of}, dv / `cp -r` + `sync`"
    return [*rows, at_most(results, what, 1.2, (name, "dv", PULL), (name, "cp", PULL))]


Quantity = tuple[str, str, str]


def at_most(results: Results, what: str, most: float, above: Quantity, below: Quantity) -> Row:
    value = ratio(results, above, below)
    return Row(what, f"at most {most:g}", shown(value), None if value is None else value <= most)


def ratio(results: Results, above: Quantity, below: Quantity) -> float | None:
    """Return the ratio of two medians of wall time."""
    one, other = results.median(*above), results.median(*below)
    return None if one is None or not other else one / other


def shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def sizes(results: Results) -> list[Row]:
    found = results.stored("B", "dv", "growth")
    if found is None:
        return [Row("remote growth from B to B'", "at most 0.6 MB", "not measured", None)]
    peers = [
        f"{name} {theirs.bytes / MB:.1f}"
        for name in ("dvc", "restic")
        if (theirs := results.stored("B", name, "growth")) is not None
    ]
    measured = f"{found.bytes / MB:.3f} MB" + (f" ({', '.join(peers)})" if peers else "")
    return [Row("remote growth from B to B'", "at most 0.6 MB", measured, found.bytes <= 0.6 * MB)]


def requests(results: Results) -> list[Row]:
    found = []
    for what, step, most in (
        ("requests, push S to an empty bucket", PUSH, 30),
        ("requests, pull S", PULL, 30),
        ("requests, push again", PUSH_AGAIN, 3),
        ("requests, pull again", PULL_AGAIN, 0),
    ):
        ours, theirs = results.requests_of("dv", step), results.requests_of("dvc", step)
        if ours is None:
            found.append(Row(what, f"at most {most}", "not measured", None))
            continue
        measured = f"{ours.count} for {ours.files:,} files"
        if theirs is not None:
            measured += f" (DVC {theirs.count:,} for {theirs.files:,})"
        found.append(Row(what, f"at most {most}", measured, ours.count <= most))
    return found


def memory(results: Results) -> list[Row]:
    found = []
    for name in ("S", "B"):
        peak = results.peak_bytes(name, "dv")
        found.append(peak_row(f"peak memory on {name}, all processes", peak, 150))
    for curve, what, most in (
        (GROWTH_BYTES, "one large file", 300),
        (GROWTH_FILES, "many files", 1_000),
    ):
        points = [one for one in results.workloads if one.curve == curve and one.x is not None]
        if not points:
            found.append(peak_row(f"peak memory, {what}", None, most))
            continue
        largest = max(points, key=lambda one: one.x or 0)
        title = largest.title[:1].lower() + largest.title[1:]
        found.append(
            peak_row(f"peak memory, {title}", results.peak_bytes(largest.name, "dv"), most)
        )
    return found


def peak_row(what: str, peak_bytes: float | None, most_mb: int) -> Row:
    if peak_bytes is None:
        return Row(what, f"at most {most_mb:,} MB", "not measured", None)
    return Row(
        what, f"at most {most_mb:,} MB", f"{peak_bytes / MB:.0f} MB", peak_bytes <= most_mb * MB
    )


def start(results: Results) -> Row:
    ours, click = (START, "dv", VERSION), (START, CLICK, VERSION)
    return at_most(results, '`dv --version` / `python -c "import click"`', 2, ours, click)
