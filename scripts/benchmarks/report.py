"""Writes docs/benchmarks.md and its plots from results, and the summary that a run prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import chapters, reach
from benchmarks.plots import draw
from benchmarks.results import Results, Workload, slope
from benchmarks.special import LOG, VERSION
from benchmarks.tools import STEPS, TOOLS

MB = 1_000_000
NOTES_BEGIN, NOTES_END = (
    "<!-- notes: kept when the report is written again -->",
    "<!-- end of notes -->",
)
WHAT = {"wall_s": "wall time", "cpu_s": "CPU time", "peak_bytes": "peak memory"}
CURVES = {
    chapters.GROWTH_FILES: "the number of files",
    chapters.GROWTH_BYTES: "the size of a file",
    chapters.GROWTH_VERSIONS: "the number of versions",
}
LEAST_X = {
    chapters.GROWTH_FILES: (10_000, "from 10,000 files on"),
    chapters.GROWTH_BYTES: (16 << 20, "from 16 MiB on"),
}
"""Below, what a command costs to start outweighs the rest, and the slope would flatter."""


def summary(results: Results) -> str:
    """Return the tables that a run prints."""
    parts = [f"\n{one.title}\n\n{timed(results, one)}" for one in plain(results)]
    goals = [row for row in reach.rows(results) if row.reached is not None]
    if goals:
        said = "; with small data it only hints" if results.scale == "quick" else ""
        parts.append(f"\nTo reach, as far as it was measured{said}\n\n{reach_table(goals)}")
    return "\n".join(parts)


def write_report(results: Results, docs: Path) -> None:
    """Write benchmarks.md and the plots beside it. Notes in an earlier one are kept."""
    place = docs / "benchmarks.md"
    notes = notes_of(place.read_text()) if place.exists() else ""
    names = draw(results, docs)
    place.write_text(text_of(results, names, notes))


def notes_of(text: str) -> str:
    """Return what a person wrote between the marks of a report."""
    _, _, rest = text.partition(NOTES_BEGIN)
    notes, mark, _ = rest.partition(NOTES_END)
    return notes.strip() if mark else ""


def text_of(results: Results, plots: Sequence[str], notes: str) -> str:
    """Return the whole report."""
    sections = [
        head(results),
        "## To reach\n\n" + reach_table(reach.rows(results)),
        f"## What is missed, and why\n\n{NOTES_BEGIN}\n{notes}\n{NOTES_END}",
        *(section(results, one) for one in plain(results)),
        stored_section(results),
        requests_section(results),
        flushes_section(results),
        *(curve_section(results, curve, plots) for curve in CURVES),
        *(told_section(name, lines) for name, lines in results.tables.items()),
        commands_section(results),
    ]
    if "benchmarks-s.svg" in plots:
        sections.insert(2, "![S, by tool and step](benchmarks-s.svg)")
    if "benchmarks-growth.svg" in plots:
        place = next(n for n, one in enumerate(sections) if one.startswith("## What is stored"))
        sections.insert(place + 1, "![What an edit adds to the remote](benchmarks-growth.svg)")
    return "\n\n".join(one for one in sections if one) + "\n"


def head(results: Results) -> str:
    machine = "\n".join(f"| {name} | {value} |" for name, value in results.machine.items())
    versions = "\n".join(
        f"| {TOOLS[name].title} | {version} | {TOOLS[name].note} |"
        for name, version in results.versions.items()
    )
    left_out = "".join(f"\n- {name}: {why}" for name, why in results.left_out.items())
    return f"""# Benchmarks

Written by `scripts/bench --report` from the results of `{results.command}`.
All times are medians. In a round every tool goes through the same story in turn;
each round begins with another tool. A warm-up round comes first: it looks at memory, and compares
what came back with the data, byte for byte. Timed rounds do not look at memory, since looking
costs time. Before each step what is unwritten is brought to the disk.

- **wall time**: of the step's commands, from start to end, and how many times dvtool's that is.
- **CPU**: user and system time of all processes of the step.
- **memory**: the largest sum, at one time, of the PSS of all processes of the step: a page that two
  share counts once.
- **with what was left**: wall time, and then that of a `sync` of the filesystem. A tool that does
  not flush what it writes leaves that to the kernel, and to luck if the power fails. How often each
  tool flushes is below.
- Settings are the tools' own. restic and dvtool compress with zstd; DVC, git-lfs and git-annex do
  not compress. git-annex gets `--jobs=cpus`. All Python code is compiled to bytecode.

| machine | |
|---|---|
{machine}
| sizes | {results.scale} |

| tool | version | |
|---|---|---|
{versions}
""" + (f"\nLeft out:\n{left_out}" if left_out else "")


def reach_table(rows: Sequence[reach.Row]) -> str:
    marks = {True: "yes", False: "**no**", None: "–"}
    return table(
        ("what", "reach", "measured", "reached"),
        [(row.what, row.reach, row.measured, marks[row.reached]) for row in rows],
    )


def plain(results: Results) -> list[Workload]:
    return [one for one in results.workloads if one.curve is None]


def section(results: Results, workload: Workload) -> str:
    rounds = max((run.round for run in results.runs if run.workload == workload.name), default=0)
    count = f"Medians of {rounds} rounds." if rounds > 1 else "One round."
    parts = [f"## {workload.title}", count, timed(results, workload)]
    if workload.name not in (chapters.START, chapters.STATUS_MANY):
        name = "CPU, memory, and what was left to write"
        inside = details(results, workload)
        parts.append(f"<details><summary>{name}</summary>\n\n{inside}\n\n</details>")
    return "\n\n".join(parts)


def timed(results: Results, workload: Workload) -> str:
    """Return the table of wall times, with how many times dv's they are."""
    tools = results.tools(workload.name)
    lines = []
    for step in steps_of(results, workload):
        ours = results.median(workload.name, "dv", step)
        cells = [
            with_ratio(results.median(workload.name, tool, step), ours, tool) for tool in tools
        ]
        lines.append((step, *cells))
    return table(("wall time", *map(title_of, tools)), lines)


def with_ratio(seconds: float | None, ours: float | None, tool: str) -> str:
    if seconds is None:
        return ""
    if tool == "dv" or not ours:
        return duration(seconds)
    return f"{duration(seconds)} ({times(seconds / ours)})"


def details(results: Results, workload: Workload) -> str:
    """Return CPU, memory and flushed time by step, for each tool."""
    tools = results.tools(workload.name)
    lines = []
    for step in steps_of(results, workload):
        for what, name in (("cpu_s", "CPU"), ("flushed_s", "with what was left")):
            found = [results.median(workload.name, tool, step, what) for tool in tools]
            lines.append((step, name, *("" if one is None else duration(one) for one in found)))
        peaks = [results.peak_bytes(workload.name, tool, (step,)) for tool in tools]
        lines.append((step, "memory", *("" if one is None else size(one) for one in peaks)))
    return table(("step", "", *map(title_of, tools)), lines)


def steps_of(results: Results, *workloads: Workload) -> list[str]:
    """Return the steps that were measured, in order; a sum only where some tool has it as one."""
    names = {one.name for one in workloads}
    measured = {step for run in results.runs if run.workload in names for step in run.steps}
    return [step for step in (*STEPS, LOG, VERSION) if step in measured]


def stored_section(results: Results) -> str:
    lines = []
    for workload in plain(results):
        for what, name in (
            ("remote", "remote"),
            ("growth", "added by the edit"),
            ("local", "here"),
        ):
            found = {tool: results.stored(workload.name, tool, what) for tool in TOOLS}
            if workload.cold or not any(found.values()):
                continue
            cells = (
                "" if one is None else f"{size(one.bytes)}, {one.files:,}" for one in found.values()
            )
            lines.append((workload.name, name, *cells))
    if not lines:
        return ""
    kept = "Bytes, and number of files. *here*: the tool's store in the repository itself."
    return f"## What is stored\n\n{kept}\n\n" + table(
        ("workload", "", *(tool.title for tool in TOOLS.values())), lines
    )


def requests_section(results: Results) -> str:
    if not results.requests:
        return ""
    lines = []
    for one in results.requests:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(one.kinds.items()))
        lines.append((title_of(one.tool), f"{one.files:,}", one.step, f"{one.count:,}", kinds))
    return (
        "## Requests\n\nTo an S3 server (`rclone serve s3`), counted by a proxy before it."
        " Files of 8 KiB.\n\n" + table(("tool", "files", "step", "requests", ""), lines)
    )


def flushes_section(results: Results) -> str:
    if not results.flushes:
        return ""
    lines = [
        (title_of(one.tool), one.step, f"{one.count:,}", f"{one.count / one.files:.2f}")
        for one in results.flushes
    ]
    files = results.flushes[0].files
    return (
        "## Who waits for the disk\n\nCalls of fsync, fdatasync, syncfs and the like, by strace,"
        f" for {files:,} files of 8 KiB.\n\n" + table(("tool", "step", "calls", "a file"), lines)
    )


def curve_section(results: Results, curve: str, plots: Sequence[str]) -> str:
    points = sorted(
        (one for one in results.workloads if one.curve == curve), key=lambda one: one.x or 0
    )
    if not points:
        return ""
    lines = []
    for step in steps_of(results, *points):
        for what, show in (("wall_s", duration), ("peak_bytes", size)):
            found = [results.median(one.name, "dv", step, what) for one in points]
            cells = ("" if one is None else show(one) for one in found)
            lines.append((step, WHAT[what], *cells, *slopes(curve, points, found)))
    heads = (*(one.title for one in points), "slope", "last slope")
    least = "" if curve not in LEAST_X else f" to the points {LEAST_X[curve][1]}"
    text = (
        f"## Growth with {CURVES[curve]}\n\n"
        f"*slope* is the exponent b of a·x^b, fitted{least}; *last slope* that of the two"
        " largest points. 1 is linear, 0 does not depend on it."
    )
    image = f"benchmarks-{curve}.svg"
    picture = f"\n\n![{text.splitlines()[0][3:]}]({image})" if image in plots else ""
    return f"{text}{picture}\n\n{table(('step', '', *heads), lines)}"


def slopes(
    curve: str, points: Sequence[Workload], found: Sequence[float | None]
) -> tuple[str, str]:
    """Return the fitted slope, and the one between the two largest points."""
    known = [(float(one.x or 0), y) for one, y in zip(points, found, strict=True) if y]
    least, _ = LEAST_X.get(curve, (0, ""))
    large = [(x, y) for x, y in known if x >= least]
    fitted, last = (f"{slope(one):.2f}" if len(one) > 1 else "" for one in (large, known[-2:]))
    return fitted, last


def told_section(name: str, lines: Sequence[str]) -> str:
    """Return the tables that a workload made itself."""
    return f"## {chapters.SPECIAL[name]}\n\n" + "\n".join(lines) if lines else ""


def commands_section(results: Results) -> str:
    if not results.commands:
        return ""
    lines = [
        (title_of(tool), step, f"`{command}`")
        for tool, steps in results.commands.items()
        for step, command in steps.items()
    ]
    said = (
        "What is measured of each step; what only sets up, and git's own commit and push, is not."
    )
    return f"## Commands\n\n{said}\n\n" + table(("tool", "step", "commands"), lines)


def title_of(tool: str) -> str:
    return TOOLS[tool].title if tool in TOOLS else tool


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rows = [tuple(heads), ("---",) * len(heads), *lines]
    return "\n".join("| " + " | ".join(cell or " " for cell in row) + " |" for row in rows)


def duration(seconds: float) -> str:
    """Return seconds with three digits that mean something."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return (
        f"{seconds:.2f} s"
        if seconds < 10
        else f"{seconds:.1f} s"
        if seconds < 100
        else f"{seconds:.0f} s"
    )


def size(number_bytes: float) -> str:
    """Return a number of bytes in decimal units, as the limits of the design are."""
    if abs(number_bytes) >= 1000 * MB:
        return f"{number_bytes / MB / 1000:.2f} GB"
    if abs(number_bytes) >= 10 * MB:
        return f"{number_bytes / MB:.0f} MB"
    if abs(number_bytes) >= MB / 100:
        return f"{number_bytes / MB:.2f} MB"
    return f"{number_bytes:.0f} B"


def times(ratio: float) -> str:
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 1 else f"{ratio:.2f}×"
