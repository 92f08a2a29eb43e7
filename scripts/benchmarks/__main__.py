"""The command behind scripts/bench: runs workloads with tools, saves what was found."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import chapters, peers, pulling, results, special
from benchmarks.chapters import (
    FLUSHES,
    GROWTH_VERSIONS,
    IMPORT,
    PULL_S3,
    READ,
    REQUESTS,
    START,
    STATUS_MANY,
    STREAM,
)
from benchmarks.data import DataError
from benchmarks.measure import (
    LEAST_ROOM_BYTES,
    Bench,
    BenchError,
    can_drop_caches,
    can_trace,
    remove,
)
from benchmarks.report import summary, title_of, write_report
from benchmarks.results import Results, ResultsError, Run, Workload
from benchmarks.scale import DEFAULT, GIB, SCALES, Scale
from benchmarks.story import Chapter, play_rounds
from benchmarks.tools import TOOLS, Place, Tool, environment, prepare_home

PROJECT = Path(__file__).resolve().parents[2]
DESCRIPTION = """\
Measures dvtool beside DVC, git-lfs, git-annex, restic, git and cp, on data made by seed.
"""
EPILOG = """\
Tools are installed into the work folder (PyPI) or, as root, from Debian's packages; what cannot be
is left out by name. In a round every tool goes through its story in turn. Each round begins with
another tool. A warm-up round comes first; it looks at memory and compares the data that came back.

examples:
  scripts/bench                              about 40 minutes on two cores that are idle
  scripts/bench --quick                      below two minutes there
  scripts/bench --full                       about two hours there, with 60 GB of free disk
  scripts/bench --only S B --tools dv dvc    two workloads, two tools
  scripts/bench --report .bench/results.json
                                             writes docs/benchmarks.md; measures nothing

exit codes: 0 done; 1 a tool failed (the others were measured); 2 wrong usage or no room
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = parser_of_arguments()
    options = parser.parse_args(arguments)
    try:
        if options.report:
            write_report(results.load(options.report), PROJECT / "docs")
            print("written: docs/benchmarks.md")
            return 0
        scale = SCALES["quick" if options.quick else "full" if options.full else DEFAULT.name]
        known = chapters.names(scale)
        unknown = set(options.only or ()) - set(known)
        if unknown:
            parser.error(f"no workload {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return Session(options, scale).run()
    except (ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was measured is in the results file", file=sys.stderr)
        return 130


def parser_of_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small data, few workloads, cheap peers")
    size.add_argument("--full", action="store_true", help="a million files, 10 GiB, 1,000 versions")
    parser.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help="timed rounds (default: 5, of lesser workloads 3)",
    )
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="measure only these")
    parser.add_argument(
        "--tools", nargs="+", metavar="TOOL", choices=TOOLS, help="only these tools"
    )
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".bench", metavar="DIR", help="default: .bench"
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="default: DIR/results.json")
    parser.add_argument("--no-install", action="store_true", help="use only tools that are here")
    parser.add_argument(
        "--report",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="write docs/benchmarks.md from results; of a workload in several, the last counts",
    )
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


class Session:
    """One run: what it uses, and what it found so far."""

    def __init__(self, options: argparse.Namespace, scale: Scale) -> None:
        quick = scale.name == "quick"
        everything = chapters.QUICK_ONLY if quick else chapters.names(scale)
        self._only = set(options.only or everything)
        self._scale = scale
        self._asked_rounds = options.rounds
        self._rounds = options.rounds or scale.rounds
        self._work = options.work.resolve()
        self._work.mkdir(parents=True, exist_ok=True)
        self._path = options.results or self._work / "results.json"
        self._failed = False
        wanted = options.tools or list(chapters.QUICK_PEERS if quick else TOOLS)
        check_room(self._work)
        found = peers.find(wanted, self._work, may_install=not options.no_install)
        for name, reason in found.left_out.items():
            print(f"left out: {name}: {reason}", flush=True)
        peers.compile_bytecode(PROJECT)
        self._tools = [name for name in wanted if name not in found.left_out]
        self._bench = Bench(self._work, environment(self._work, (found.folder,)))
        prepare_home(self._bench, has_lfs="git-lfs" in self._tools)
        self._results = Results(
            command=" ".join(["scripts/bench", *shown(options)]),
            scale=scale.name,
            machine=results.machine(self._work),
            versions=self._versions(),
            left_out=found.left_out,
            commands=commands_of(self._tools),
        )

    def run(self) -> int:
        """Measure everything that was asked for; print and save it."""
        began = time.monotonic()
        try:
            self._play_all(chapters.main(self._scale))
            self._special()
            self._play_all(chapters.curves(self._scale))
            self._versions_and_tables()
            self._play_all(chapters.lesser(self._scale, self._work / "data"))
        finally:
            self._results.save(self._path)
            remove(self._work / "run")
            remove(self._bench.trash)
        print(summary(self._results))
        print(f"{(time.monotonic() - began) / 60:.1f} minutes; results: {self._path}")
        return 1 if self._failed else 0

    def _play_all(self, several: Sequence[Chapter]) -> None:
        for chapter in several:
            self._play(chapter)

    def _play(self, chapter: Chapter) -> None:
        tools = [TOOLS[name] for name in chapter.tools if name in self._tools]
        if not tools or chapters.group(chapter) not in self._only:
            return
        if chapter.cold and not can_drop_caches():
            self._say(f"{chapter.name}: left out, since only root may empty the kernel's cache")
            return
        room_bytes = chapter.room_bytes
        if (self._work / "data" / chapter.dataset.name).exists():
            room_bytes -= chapter.dataset.disk_bytes
        self._bench.make_room(room_bytes)
        free_bytes = shutil.disk_usage(self._work).free
        if free_bytes < room_bytes + LEAST_ROOM_BYTES:
            needed = f"{(room_bytes + LEAST_ROOM_BYTES) / GIB:.0f} GiB"
            self._say(f"{chapter.name}: left out, since it needs {needed} of free disk; see --work")
            return
        self._note(workload_of(chapter))
        rounds = self._rounds if chapter.rounds is None else chapter.rounds
        if self._asked_rounds and chapter.curve is None:
            rounds = self._asked_rounds
        try:
            play_rounds(self._bench, chapter, tools, rounds, self._keep, self._fail)
        except (DataError, ImportError) as error:
            self._failed = True
            print(f"error: {chapter.name} is left out: {error}", file=sys.stderr, flush=True)

    def _special(self) -> None:
        bench, scale, tools = self._bench, self._scale, self._tools
        self._try(START, lambda: special.start_up(bench, tools, self._keep))
        self._try(PULL_S3, lambda: pulling.measure(bench, self._rounds, self._keep))
        self._try(
            STATUS_MANY,
            lambda: special.status_of_many(bench, scale, tools, self._rounds, self._keep),
        )
        found = self._results
        self._try(REQUESTS, lambda: found.requests.extend(special.requests(bench, scale, tools)))
        traced = [name for name in tools if name != "git"] if can_trace() else []
        if not traced and FLUSHES in self._only:
            self._say(f"{FLUSHES}: left out, since strace is not here")
        self._try(
            FLUSHES,
            lambda: found.flushes.extend(special.flushes(bench, traced, self._fail_by_name)),
        )
        rounds = scale.lesser_rounds
        self._try(READ, partial(self._tell, READ, "reading", rounds))
        self._try(STREAM, partial(self._tell, STREAM, "streaming", scale.stream_rounds))

    def _versions_and_tables(self) -> None:
        bench, scale = self._bench, self._scale
        if "dv" in self._tools:
            self._try(
                GROWTH_VERSIONS, lambda: special.versions(bench, scale, self._keep, self._note)
            )
        self._try(IMPORT, partial(self._tell, IMPORT, "importing", scale.lesser_rounds))

    def _tell(self, name: str, module: str, rounds: int) -> None:
        """Print and keep the lines of a module that makes tables of its own."""
        lines = self._results.tables[name] = []
        measure = importlib.import_module(f"benchmarks.{module}").measure  # some load dvtool
        for line in measure(self._bench, self._scale, self._asked_rounds or rounds):
            lines.extend(line.splitlines())
            self._results.save(self._path)
            self._say(line)

    def _try(self, name: str, measure: Callable[[], object]) -> None:
        """Measure what is beside the story; if that fails, go on with the rest."""
        if name not in self._only:
            return
        title = chapters.special_title(name, self._scale)
        if name in (START, STATUS_MANY, PULL_S3):
            self._note(Workload(name, title))
        else:
            self._say(f"\n{title}")
        try:
            measure()
        except Exception as error:  # also of a library, or of what a server said
            if not isinstance(error, BenchError):
                traceback.print_exc()
            self._fail_by_name(name, error)

    def _versions(self) -> dict[str, str]:
        env = dict(self._bench.env)
        return {name: peers.first_line(TOOLS[name].version, env) for name in self._tools}

    def _note(self, workload: Workload) -> None:
        self._results.workloads.append(workload)
        self._say(f"\n{workload.title}")

    def _keep(self, run: Run) -> None:
        self._results.runs.append(run)
        self._results.save(self._path)
        wall_s = sum(taken.wall_s for taken in run.steps.values())
        if run.workload != START:
            which = f"round {run.round}" if run.round else "warm-up"
            self._say(f"  {which}  {title_of(run.tool):<14}{wall_s:8.2f} s")

    def _fail(self, tool: Tool, error: BenchError) -> None:
        self._fail_by_name(tool.name, error)

    def _fail_by_name(self, name: str, error: Exception) -> None:
        self._failed = True
        print(f"error: {name} takes no further part here: {error}", file=sys.stderr, flush=True)

    def _say(self, text: str) -> None:
        print(text, flush=True)


def workload_of(chapter: Chapter) -> Workload:
    return Workload(chapter.name, chapter.title, chapter.curve, chapter.x, chapter.cold)


def check_room(work: Path) -> None:
    """Raise OSError if the disk has no room for the tools and a little more."""
    free_bytes = shutil.disk_usage(work).free
    if free_bytes < LEAST_ROOM_BYTES:
        raise OSError(
            f"{work} has {free_bytes / GIB:.1f} GiB free, and the tools alone need"
            f" {LEAST_ROOM_BYTES / GIB:.0f} GiB; name another place with --work"
        )


def shown(options: argparse.Namespace) -> list[str]:
    """Return the arguments that change what is measured, without the paths of this machine."""
    found = [f"--{name}" for name in ("quick", "full") if getattr(options, name)]
    if options.rounds:
        found += ["--rounds", str(options.rounds)]
    for name in ("only", "tools"):
        if getattr(options, name):
            found += [f"--{name}", *getattr(options, name)]
    return found


def commands_of(tools: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each tool and step what is run, for the report."""
    place = Place(Path("TOP"))
    found: dict[str, dict[str, str]] = {}
    for name in tools:
        found[name] = {
            step: "; ".join(" ".join(one.argv) for one in commands if one.timed)
            for step, commands in TOOLS[name].steps(place).items()
            if any(one.timed for one in commands)
        }
    return found


if __name__ == "__main__":
    os.environ.pop("GIT_DIR", None)  # as git hooks set it
    sys.exit(main())
