"""Measurements beside the story: start-up, many files' status, versions, requests, flushes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.chapters import FLUSHES, GROWTH_VERSIONS, REQUESTS, START, STATUS_MANY
from benchmarks.data import labels, numbered, place_copy, small_files
from benchmarks.measure import Bench, BenchError, Command
from benchmarks.results import Count, Run, Workload
from benchmarks.scale import Scale
from benchmarks.story import UNMEASURED
from benchmarks.tools import (
    ADD,
    ADD_EDIT,
    BACK,
    BACKUP,
    COMMIT,
    COMMIT_EDIT,
    FORTH,
    PULL,
    PULL_AGAIN,
    PUSH,
    PUSH_AGAIN,
    PUSH_EDIT,
    SETTLE,
    SETUP,
    STATUS,
    TOOLS,
    Place,
    Steps,
    aside,
    run,
)

VERSION = "--version"
CLICK = "python + click"
START_ROUNDS = 15
LOG = "log"
VERSIONED_FILES = 2_000
VERSION_ROUNDS = 3
FLUSH_FILES = 500

Keep = Callable[[Run], None]


def start_up(bench: Bench, tools: Sequence[str], keep: Keep) -> None:
    """Measure what a command costs that does nothing, beside Python with click loaded."""
    commands = {name: TOOLS[name].version for name in tools if name not in ("cp", "git")}
    everything = {CLICK: (sys.executable, "-c", "import click"), **commands}
    for number in range(START_ROUNDS + 1):
        for name, argv in everything.items():
            taken = bench.take([Command(tuple(argv), bench.work)], memory=number == 0)
            keep(Run(START, name, number, {VERSION: taken}))


def status_of_many(
    bench: Bench, scale: Scale, tools: Sequence[str], rounds: int, keep: Keep
) -> None:
    """Measure status of unchanged files in dv and git, each tracking the same ones."""
    before, _ = labels(scale.many_files).ready(bench.work / "data")
    taking_part = [name for name in ("dv", "git") if name in tools]
    steps = {}
    for name in taking_part:
        place = Place(bench.work / "run" / name)
        bench.put_away(place.top)
        place.top.mkdir(parents=True)
        steps[name] = TOOLS[name].steps(place)
        bench.run(*steps[name][SETUP])
        place_copy(before, place.repo / "data")
        for step in (ADD, COMMIT, SETTLE, SETTLE):
            bench.run(*steps[name][step])
    for number in range(rounds + 1):
        for name in taking_part:
            taken = bench.take(steps[name][STATUS], memory=number == 0)
            keep(Run(STATUS_MANY, name, number, {STATUS: taken}))
    bench.put_away(bench.work / "run")
    bench.put_away(before.parent)


def versions(
    bench: Bench,
    scale: Scale,
    keep: Keep,
    note: Callable[[Workload], None],
    *,
    rounds: int = VERSION_ROUNDS,
) -> None:
    """Measure dv at several numbers of versions of a target; each changes one file of it."""
    files = min(VERSIONED_FILES, scale.s_files)
    before, _ = small_files(files, 1024).ready(bench.work / "data")
    place = Place(bench.work / "run")
    bench.put_away(place.top)
    place.top.mkdir(parents=True)
    steps = TOOLS["dv"].steps(place)
    bench.run(*steps[SETUP])
    place_copy(before, place.repo / "data")
    bench.run(*steps[ADD], *steps[COMMIT], *steps[PUSH])
    changes = Changes(place, files)
    for count in scale.growth_versions:
        name = f"{GROWTH_VERSIONS}-{count}"
        note(Workload(name, f"{count:,} versions", GROWTH_VERSIONS, count))
        changes.reach(count - rounds)
        bench.run(*steps[PUSH])
        for number in range(rounds + 1):
            changes.make()
            measured = {}
            for step in (ADD_EDIT, COMMIT_EDIT, STATUS, PUSH_EDIT, PUSH_AGAIN, LOG, BACK, FORTH):
                commands = versions_step(steps, place, step)
                if step in UNMEASURED:
                    bench.run(*commands)
                else:
                    measured[step] = bench.take(commands, memory=number == 0)
            changes.count += 1
            keep(Run(name, "dv", number, measured))
    bench.put_away(bench.work / "run")


def versions_step(steps: Steps, place: Place, step: str) -> tuple[Command, ...]:
    """Return a step's commands; back is one version back here, not to the first."""
    if step == LOG:
        return (run(place.repo, "dv", "log", "data"),)
    if step == BACK:
        return (run(place.repo, "git", "checkout", "-q", "main~1"),)
    return steps[step]


class Changes:
    """Makes versions of a target, by one more file changed each."""

    def __init__(self, place: Place, files: int) -> None:
        self.count = 1
        self._place = place
        self._files = files

    def reach(self, count: int) -> None:
        """Commit versions until there are so many: by the library, which starts no process each."""
        if count <= self.count:
            return
        program = (
            "import sys; from benchmarks.special import commit_versions;"
            "commit_versions(sys.argv[1], *map(int, sys.argv[2:]))"
        )
        argv = (sys.executable, "-c", program, self._place.repo, self.count, count, self._files)
        project = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(project)}
        environment["GIT_CONFIG_GLOBAL"] = str(self._place.top.parent / "home" / "gitconfig")
        subprocess.run([str(one) for one in argv], env=environment, check=True)
        self.count = count

    def make(self) -> None:
        """Change one more file, without adding it."""
        change(self._place.repo, self.count, self._files)


def commit_versions(repo: str, first: int, last: int, files: int) -> None:
    """Add and commit versions with these numbers."""
    from dvtool.repo import Repo

    os.chdir(repo)
    for number in range(first, last):
        path = change(Path(repo), number, files)
        with Repo.open(repo) as opened:
            opened.add([path])
        subprocess.run(["git", "commit", "-qam", f"version {number}"], check=True)


def change(repo: Path, number: int, files: int) -> str:
    """Change the file whose turn it is; return its path."""
    path = f"data/{numbered(number * 7919 % files)}"
    (repo / path).write_bytes(f"version {number}\n".encode() * 64)
    return path


def flushes(
    bench: Bench, tools: Sequence[str], fail: Callable[[str, BenchError], None]
) -> Iterator[Count]:
    """Count, by strace, the calls with which each tool waits for the disk."""
    before, _ = small_files(FLUSH_FILES).ready(bench.work / "data")
    place = Place(bench.work / "run")
    for name in tools:
        steps = TOOLS[name].steps(place)
        bench.put_away(place.top)
        place.top.mkdir(parents=True)
        try:
            bench.run(*steps[SETUP])
            place_copy(before, place.repo / "data")
            for step in (ADD, COMMIT, PUSH, BACKUP, PULL):
                if step == COMMIT:
                    bench.run(*steps.get(step, ()))
                elif step in steps:
                    yield Count(FLUSHES, name, step, bench.flushes(steps[step]), FLUSH_FILES)
        except BenchError as error:
            fail(name, error)
    bench.put_away(place.top)


def requests(bench: Bench, scale: Scale, tools: Sequence[str]) -> Iterator[Count]:
    """Count the requests of dv and DVC to an S3 server on this machine, by a proxy between them."""
    from tests.s3.proxy import CountingProxy
    from tests.s3.servers import rclone_server

    server_folder = bench.work / "server"
    for name, files in (("dv", scale.s_files), ("dvc", scale.request_files)):
        if name not in tools:
            continue
        before, _ = small_files(files).ready(bench.work / "data")
        place = Place(bench.work / "run")
        for folder in (place.top, server_folder):
            bench.put_away(folder)
            folder.mkdir(parents=True)
        with rclone_server(server_folder) as server, CountingProxy(server.endpoint_url) as proxy:
            at = Bench(bench.work, {**bench.env, **server.env})
            url = f"s3://{server.new_bucket()}"
            steps = s3_steps(name, place, url, proxy.url)
            at.run(*steps[SETUP])
            place_copy(before, place.repo / "data")
            at.run(*TOOLS[name].steps(place)[ADD], *TOOLS[name].steps(place)[COMMIT])
            for step in (PUSH, PUSH_AGAIN, PULL, PULL_AGAIN):
                proxy.reset()
                at.run(*steps[step])
                yield Count(REQUESTS, name, step, proxy.total, files, dict(proxy.counts))
        bench.put_away(place.top)
        bench.put_away(server_folder)


def s3_steps(name: str, place: Place, url: str, endpoint: str) -> dict[str, tuple[Command, ...]]:
    """Return the steps of the story with a bucket as the remote."""
    repo, clone = place.repo, place.clone
    usual = dict(TOOLS[name].steps(place))
    here: tuple[Command, ...]
    if name == "dv":
        here = (
            aside(place.top, "git", "init", "-q", repo),
            aside(repo, "dv", "init"),
            aside(repo, "dv", "remote", "add", "origin", url, "--endpoint-url", endpoint),
        )
    else:
        here = (
            *usual[SETUP][:-1],
            aside(repo, "dvc", "remote", "add", "-q", "-d", "origin", url),
            aside(repo, "dvc", "remote", "modify", "origin", "endpointurl", endpoint),
        )
    return usual | {
        SETUP: here,
        PULL: (aside(place.top, "git", "clone", "-q", repo, clone), run(clone, name, "pull")),
    }
