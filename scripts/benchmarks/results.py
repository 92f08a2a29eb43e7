"""What a run found, as JSON; and medians, ratios and slopes of it."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Stored, Taken
from benchmarks.tools import SUMS

FORMAT = 1


class ResultsError(Exception):
    """A file of results that cannot be read."""


@dataclass(frozen=True, slots=True)
class Run:
    """One tool's way through one workload. Round 0 is the warm-up, which looks at memory."""

    workload: str
    tool: str
    round: int
    steps: dict[str, Taken]
    stored: dict[str, Stored] = field(default_factory=dict)
    """`local` and `remote` after the first push, `growth`: what the edit added to the remote."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened in a step: requests, or calls that wait for the disk."""

    workload: str
    tool: str
    step: str
    count: int
    files: int
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the report says of a workload."""

    name: str
    title: str
    curve: str | None = None
    x: int | None = None
    cold: bool = False


@dataclass(slots=True)
class Results:
    """All of a run."""

    command: str = ""
    scale: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    workloads: list[Workload] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    requests: list[Count] = field(default_factory=list)
    flushes: list[Count] = field(default_factory=list)
    commands: dict[str, dict[str, str]] = field(default_factory=dict)
    """Tool -> step -> what was run."""
    tables: dict[str, list[str]] = field(default_factory=dict)
    """Of workloads that print tables of their own: workload -> lines of Markdown."""

    def save(self, path: Path) -> None:
        """Write the results, whole or not at all."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")
        beside.replace(path)

    # --- what is asked of them ----------------------------------------------------------------

    def of(self, workload: str, tool: str) -> list[Run]:
        """Return the timed rounds of a tool; the warm-up where there are no others."""
        found = [run for run in self.runs if (run.workload, run.tool) == (workload, tool)]
        return [run for run in found if run.round > 0] or found

    def tools(self, workload: str) -> list[str]:
        """Return the tools that took part, in the order in which they first ran."""
        return list(dict.fromkeys(run.tool for run in self.runs if run.workload == workload))

    def median(self, workload: str, tool: str, step: str, what: str = "wall_s") -> float | None:
        """Return a step's median over the rounds; of `flushed_s`, wall time with what was left."""
        if what == "peak_bytes":
            return self.peak_bytes(workload, tool, (step,))
        found = [amount(run, step, what) for run in self.of(workload, tool)]
        known = [one for one in found if one is not None]
        return statistics.median(known) if known else None

    def peak_bytes(
        self, workload: str, tool: str, steps: Iterable[str] | None = None
    ) -> float | None:
        """Return the most memory at one time, of some steps or of all."""
        wanted = None if steps is None else set(parts(steps))
        peaks = [
            taken.peak_bytes
            for run in self.runs
            if (run.workload, run.tool) == (workload, tool)
            for step, taken in run.steps.items()
            if taken.peak_bytes is not None and (wanted is None or step in wanted)
        ]
        return max(peaks, default=None)

    def stored(self, workload: str, tool: str, what: str) -> Stored | None:
        """Return what was stored: of random data the same in each round, so of the last."""
        found = [run.stored[what] for run in self.of(workload, tool) if what in run.stored]
        return found[-1] if found else None

    def requests_of(self, tool: str, step: str) -> Count | None:
        """Return a step's requests to an S3 server."""
        found = [one for one in self.requests if (one.tool, one.step) == (tool, step)]
        return found[-1] if found else None

    def workload(self, name: str) -> Workload | None:
        """Return what is said of a workload."""
        return next((one for one in self.workloads if one.name == name), None)


def parts(steps: Iterable[str]) -> Iterable[str]:
    """Yield the steps, and those that they are a sum of."""
    for step in steps:
        yield step
        yield from SUMS.get(step, ())


def amount(run: Run, step: str, what: str) -> float | None:
    """Return what a step took in one run; a sum of steps if it is one for this tool."""
    if step in run.steps:
        taken = run.steps[step]
        if what == "flushed_s":
            return taken.wall_s + taken.flush_s
        return float(getattr(taken, what))
    found = [amount(run, one, what) for one in SUMS.get(step, ())]
    if not found or any(one is None for one in found):
        return None
    return sum(one for one in found if one is not None)


def load(paths: Sequence[Path]) -> Results:
    """Read results; of a workload in several files, the last file counts.

    Raises ResultsError for what is no results, and for data of different sizes; curves and tables,
    which say their size, may come from a run of another.
    """
    whole = Results()
    for path in paths:
        later = load_one(path)
        has_its_size = bool(later.workloads or later.tables) and all(
            one.curve for one in later.workloads
        )
        if whole.scale and later.scale != whole.scale and not has_its_size:
            raise ResultsError(f"{path}: of a {later.scale} run, the others of a {whole.scale} one")
        again = {run.workload for run in later.runs}
        whole.runs = [run for run in whole.runs if run.workload not in again] + later.runs
        known = {one.name for one in later.workloads}
        whole.workloads = [
            one for one in whole.workloads if one.name not in known
        ] + later.workloads
        whole.requests = later.requests or whole.requests
        whole.flushes = later.flushes or whole.flushes
        whole.command = "` and `".join(dict.fromkeys(filter(None, (whole.command, later.command))))
        whole.scale = whole.scale or later.scale
        whole.machine = whole.machine or later.machine
        for name in ("versions", "left_out", "commands", "tables"):
            getattr(whole, name).update(getattr(later, name))
    for name in set(whole.left_out) & {run.tool for run in whole.runs}:
        del whole.left_out[name]
    return whole


def load_one(path: Path) -> Results:
    """Read one file of results. Raises ResultsError."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: {error}") from error
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise ResultsError(f"{path}: not results of this version of scripts/bench")
    try:
        found["workloads"] = [Workload(**one) for one in found["workloads"]]
        found["requests"] = [Count(**one) for one in found["requests"]]
        found["flushes"] = [Count(**one) for one in found["flushes"]]
        found["runs"] = [read_run(one) for one in found["runs"]]
        return Results(**found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path}: not results of this version of scripts/bench: {error}"
        ) from error


def read_run(found: dict[str, Any]) -> Run:
    steps = {name: Taken(**one) for name, one in found.pop("steps").items()}
    stored = {name: Stored(**one) for name, one in found.pop("stored").items()}
    return Run(**found, steps=steps, stored=stored)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent b of the fit y = a * x**b: least squares of the logarithms.

    Raises ValueError for fewer than two different x, or for what has no logarithm.
    """
    if any(x <= 0 or y <= 0 for x, y in points):
        raise ValueError("only numbers above zero have a slope on a log-log scale")
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    if len(set(xs)) < 2:
        raise ValueError("a slope needs two different sizes")
    return statistics.linear_regression(xs, ys).slope


def machine(work: Path) -> dict[str, str]:
    """Describe the machine without its name or its paths."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(os.cpu_count()),
        "processor": processor(),
        "memory": f"{memory_bytes / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(work),
        "Python": platform.python_version(),
        "load before the run": f"{os.getloadavg()[0]:.1f}",
    }


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def filesystem(folder: Path) -> str:
    """Return the kind of the filesystem that a folder is on."""
    best = ("", "unknown")
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    place = os.path.realpath(folder)
    for line in lines:
        _, where, kind, *_ = line.split()
        if os.path.commonpath([where, place]) == where and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]
