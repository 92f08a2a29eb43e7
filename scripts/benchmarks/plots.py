"""Draws the report's plots as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import chapters
from benchmarks.results import Results, Workload
from benchmarks.tools import ADD, ADD_EDIT, BACK, PULL, PUSH, PUSH_EDIT, STATUS, TOOLS

COLOURS = {
    "dv": "#0072b2",
    "dvc": "#d55e00",
    "git-lfs": "#cc79a7",
    "git-annex": "#f0a830",
    "restic": "#009e73",
    "cp": "#999999",
    "git": "#444444",
}
"""Okabe and Ito's, which people with colour blindness can tell apart, and two greys."""
MARKERS = "osD^vPX"
MAIN_STEPS = (ADD, STATUS, PUSH, PULL, ADD_EDIT, PUSH_EDIT, BACK)
EDITED = ("B", "mixed", "text", "parquet", "parquet-cdc", "checkpoint", "rename")
AXES = {
    chapters.GROWTH_FILES: "files",
    chapters.GROWTH_BYTES: "bytes in one file",
    chapters.GROWTH_VERSIONS: "versions",
}


def draw(results: Results, folder: Path) -> list[str]:
    """Write each plot for which there are results; return their names."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "dvtool",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    drawn = []
    for name, figure in figures(results):
        if figure is not None:
            figure.savefig(folder / name, metadata={"Date": None}, bbox_inches="tight")
            drawn.append(name)
    return drawn


def figures(results: Results) -> list[tuple[str, Any]]:
    found = [
        ("benchmarks-s.svg", bars(results, "S", MAIN_STEPS)),
        ("benchmarks-growth.svg", growth_bars(results)),
    ]
    found += [(f"benchmarks-{curve}.svg", lines(results, curve)) for curve in AXES]
    return found


def new_figure(wide: float, high: float, panels: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), layout="constrained")
    return figure, figure.subplots(1, panels)


def bars(results: Results, workload: str, steps: Sequence[str]) -> Any:
    """Draw a group of bars a step, one for each tool, of wall time."""
    tools = results.tools(workload)
    found = results.workload(workload)
    if not tools or found is None:
        return None
    series = {tool: [results.median(workload, tool, step) for step in steps] for tool in tools}
    figure, axes = new_figure(8, 3.4)
    grouped(axes, series, steps)
    axes.set_ylabel("seconds")
    axes.set_title(found.title, loc="left")
    return figure


def growth_bars(results: Results) -> Any:
    """Draw what each edit adds to the remote."""
    names = [name for name in EDITED if results.stored(name, "dv", "growth")]
    if not names:
        return None
    series: dict[str, list[float | None]] = {}
    for tool in TOOLS:
        found = [results.stored(name, tool, "growth") for name in names]
        if any(found):
            series[tool] = [max(one.bytes, 100) if one else None for one in found]
    figure, axes = new_figure(8, 3.4)
    grouped(axes, series, names)
    axes.set_ylabel("bytes")
    axes.set_title("What an edit adds to the remote", loc="left")
    return figure


def grouped(axes: Any, series: dict[str, list[float | None]], groups: Sequence[str]) -> None:
    """Draw bars side by side, on a logarithmic scale; what is None has none."""
    width = 0.8 / max(1, len(series))
    for number, (tool, values) in enumerate(series.items()):
        places = [n + (number + 0.5) * width - 0.4 for n, one in enumerate(values) if one]
        heights = [one for one in values if one]
        axes.bar(places, heights, width * 0.92, color=COLOURS[tool], label=TOOLS[tool].title)
    axes.set_yscale("log")
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(ncols=len(series), frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def lines(results: Results, curve: str) -> Any:
    """Draw wall time and memory of each step against the size, both logarithmic."""
    points = sorted(
        (one for one in results.workloads if one.curve == curve), key=lambda one: one.x or 0
    )
    if len(points) < 2:
        return None
    names = {one.name for one in points}
    measured = {step for run in results.runs if run.workload in names for step in run.steps}
    figure, (times, memory) = new_figure(8, 3.2, panels=2)
    for number, step in enumerate(one for one in (*MAIN_STEPS, "log") if one in measured):
        for axes, what, unit in ((times, "wall_s", 1.0), (memory, "peak_bytes", 1e6)):
            line(axes, results, points, step, what, unit, number)
    for axes, label in ((times, "seconds"), (memory, "MB, all processes")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(AXES[curve])
        axes.set_ylabel(label)
        axes.grid(color="#dddddd", linewidth=0.6)
    figure.legend(
        *times.get_legend_handles_labels(), ncols=4, frameon=False, loc="outside lower center"
    )
    return figure


def line(
    axes: Any,
    results: Results,
    points: Sequence[Workload],
    step: str,
    what: str,
    unit: float,
    number: int,
) -> None:
    found = [(one.x, results.median(one.name, "dv", step, what)) for one in points]
    known = [(x, y / unit) for x, y in found if y]
    if known:
        xs, ys = zip(*known, strict=True)
        colour = list(COLOURS.values())[number % len(COLOURS)]
        axes.plot(
            xs, ys, marker=MARKERS[number % len(MARKERS)], markersize=4, color=colour, label=step
        )
