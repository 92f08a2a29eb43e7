"""Every command, stopped or failed at its fault points: nothing lost, and repeating finishes it.

By default each command meets one kind of fault at one point. DV_TEST_FAULT_POINTS tries every kind,
at so many points each, or at "all". Which ones follows from DV_TEST_SEED.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvtool.format.digest import Digest
from tests.crash import checks
from tests.crash.inject.fault_points import FAILS
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.world import Point, Run, World, deadly

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")

SAMPLED = "DV_TEST_FAULT_POINTS" not in os.environ
POINTS = os.environ.get("DV_TEST_FAULT_POINTS", "1")
SEED = int(os.environ.get("DV_TEST_SEED", "0"))
DEATHS = ("before", "half", "power")
ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE")
MODES = (*DEATHS, *ERRORS, "sigint")
INTERRUPTED = 130
CRIES = ("Traceback", "bug in dvtool", "Exception ignored")


@dataclass(frozen=True)
class Prepared:
    """A scenario ready to be run, and what it does when nothing goes wrong."""

    scenario: Scenario
    world: World
    points: tuple[Point, ...]
    before: checks.Report
    after: checks.State
    damaged: frozenset[Digest]
    """The bytes of damaged packs, which must stay."""


@pytest.fixture(scope="module")
def ready() -> dict[str, Prepared]:
    """What was prepared already, by the scenario's name."""
    return {}


@pytest.fixture
def prepared(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    fast_folder: Path,
    ready: dict[str, Prepared],
) -> Prepared:
    scenario: Scenario = request.param
    server = request.getfixturevalue("moto_server") if scenario.s3 else None
    for name, value in (server.env if server else {}).items():
        monkeypatch.setenv(name, value)
    if server:  # the same file for all faults of a scenario, as it is prepared once
        monkeypatch.setenv("AWS_CONFIG_FILE", str(fast_folder / f"{scenario.name}.aws"))
    if scenario.name not in ready:
        ready[scenario.name] = prepare(scenario, World(fast_folder / scenario.name, server))
    return ready[scenario.name]


def prepare(scenario: Scenario, world: World) -> Prepared:
    scenario.prepare(world)
    world.save()
    before = world.check()
    assert bool(before.problems) == scenario.damaged, before.problems
    damaged = frozenset(d for top in stores(world) for d in checks.damaged_packs(top))
    run = world.run(scenario.command, point=0)
    points = world.trace()
    assert points, "no process of the command has fault points"
    assert not (world.live / "theirs.json").exists(), "nothing happened meanwhile"
    assert run.code in (0, 1) if scenario.by_git else run.code == 0, run.err
    assert not run.hit
    finish(scenario, world)
    return Prepared(scenario, world, tuple(points), before, world.state(), damaged)


def stores(world: World) -> tuple[Path, Path]:
    """Return the folders of the store and of a remote that is one."""
    return world.work / ".git/dv", world.live / "remote"


def finish(scenario: Scenario, world: World) -> None:
    for command in scenario.again:
        run = world.run(command)
        assert run.code in scenario.fine, f"{command} ends with {run.code}:\n{run.err}"


def chosen(points: Sequence[Point], key: str, *, slow: bool) -> list[Point]:
    """Return the points to try: all of them, or a sample that the seed decides."""
    if POINTS == "all" or (int(POINTS) >= len(points)):
        return list(points)
    count = max(1, int(POINTS) // 2) if slow else int(POINTS)
    return sorted(
        random.Random(f"{SEED} {key}").sample(points, min(count, len(points))),
        key=lambda point: point.number,
    )


def candidates(points: Sequence[Point], mode: str) -> list[Point]:
    if mode in DEATHS:
        every = deadly(points)
        return [one for one in every if one.kind in ("write", "send")] if mode == "half" else every
    if mode == "sigint":
        return list(points)
    return [point for point in points if mode in FAILS[point.kind]]


def pairs() -> list[tuple[Scenario, str]]:
    """Return every command with every kind of fault; or each with one, all kinds equally often."""
    # Of git's own writes nothing is seen, so a power cut could not take them back either.
    every = {one: [m for m in MODES if m != "power" or not one.by_git] for one in SCENARIOS}
    if not SAMPLED:
        return [(scenario, mode) for scenario, modes in every.items() for mode in modes]
    first = random.Random(SEED).randrange(len(MODES))
    return [
        (scenario, modes[(first + number) % len(modes)])
        for number, (scenario, modes) in enumerate(every.items())
    ]


@pytest.mark.parametrize(
    ("prepared", "mode"),
    [pytest.param(one, mode, id=f"{one.name}-{mode}") for one, mode in pairs()],
    indirect=["prepared"],
)
def test_a_command_survives_each_fault(prepared: Prepared, mode: str) -> None:
    scenario, world = prepared.scenario, prepared.world
    points = candidates(prepared.points, mode)
    if not points:  # as of writes where nothing is written: then it dies elsewhere
        mode, points = "before", candidates(prepared.points, "before")
    tried: list[tuple[Point, str]] = [
        (point, mode) for point in chosen(points, f"{scenario.name} {mode}", slow=scenario.slow)
    ]
    if mode == "before" and points and points[-1].kind != "spawn":
        tried.append((points[-1], "after"))  # elsewhere that is before the next
    wrong = []
    for point, how in tried:
        world.restore()
        run = world.run(scenario.command, point=point.number, mode=how, group=not scenario.by_git)
        found = judge(prepared, run, how)
        if found:
            told = "\n  ".join(found)
            wrong.append(f"{how} at {point.number} of {len(points)}, {run.hit}:\n  {told}")
    assert not wrong, f"{len(wrong)} of {len(tried)} (seed {SEED})\n" + "\n".join(wrong)


def judge(prepared: Prepared, run: Run, mode: str) -> list[str]:
    """Return what is wrong after a run: with how it ended, what it left, or its repetition."""
    scenario, world = prepared.scenario, prepared.world
    found = [run.hit] if run.hit.startswith("the injector failed") else []
    if mode not in (*DEATHS, "after"):
        found += _ending(scenario, world, run, mode)
    if mode == "power":
        world.lose_statcache()
    report = world.check()
    before = prepared.before
    known = {one.rpartition(": ")[0] for one in before.problems}
    found += [one for one in report.problems if one.rpartition(": ")[0] not in known]
    lost = (before.named | before.workspace if scenario.frees else before.every) - report.every
    if lost:
        found.append(f"{len(lost)} contents are lost: {sorted(d.hex()[:12] for d in lost)}")
    found += _repetition(prepared, run)
    if scenario.damaged:
        left = world.check(deep=True).problems
        left = [o for o in left if not scenario.stays or o.rpartition(": ")[0] not in known]
        found += [f"when all is done: {one}" for one in left]
        if not prepared.damaged <= set().union(*map(checks.bytes_kept, stores(world))):
            found.append("a damaged pack was deleted, not set aside")
    return found


def _ending(scenario: Scenario, world: World, run: Run, mode: str) -> list[str]:
    """Look at how a command ended that met an error, or Ctrl-C."""
    said = run.out + run.err
    found = [f"says {bad!r}" for bad in CRIES if bad in said]
    if run.hit and mode == "sigint" and not scenario.by_git and run.code not in (0, INTERRUPTED):
        found.append(f"exit code {run.code} after Ctrl-C")
    if run.code < 0:
        found.append(f"was ended by signal {-run.code}")
    said_by_fsck = any(word in run.out for word in ("damaged", "cannot be read"))
    told = "error:" in run.err or ("fsck" in scenario.command and said_by_fsck)
    if run.code and not scenario.by_git and not told:
        found.append("says nothing of an error")
    left = checks.leftovers(world.live)
    if left and not run.hit.startswith("unlink"):
        found.append(f"leaves unfinished files: {left}")
    if found:
        found.append(f"exit code {run.code}; it said:\n{said}")
    return found


def _repetition(prepared: Prepared, run: Run) -> list[str]:
    scenario, world = prepared.scenario, prepared.world
    again = scenario.again or (scenario.command,)
    if scenario.by_git and scenario.again and run.code not in scenario.fine:
        again = (scenario.command, *again)
    found = []
    for command in again:
        repeated = world.run(command)
        if repeated.code not in scenario.fine:
            found.append(f"{' '.join(command)} again: {repeated.code}\n{repeated.err}")
    different = world.state().differences(prepared.after)
    return found + [f"after it was repeated: {one}" for one in different]
