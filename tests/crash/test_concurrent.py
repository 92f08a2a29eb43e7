"""Several processes at once in one clone: each ends well or says why not, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash import checks, scenarios
from tests.crash.world import Point, Run, World
from tests.scenario import Clone, noise

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")

UNSAVED, INPUT, BUSY = 5, 8, 9
ROUNDS = 3
WORKERS = ("dv", "add", "-j", "2", "data")


@pytest.fixture
def world(fast_folder: Path, request: pytest.FixtureRequest) -> World:
    return World(fast_folder / request.node.name.replace("[", "-").replace("]", ""))


def together(world: World, *commands: Sequence[str]) -> list[Run]:
    """Run commands at the same time."""
    processes = [world.start(command) for command in commands]
    return [world.finish(process) for process in processes]


def well(runs: Sequence[Run], *, also: Sequence[int] = ()) -> None:
    for run in runs:
        assert run.code in (0, *also), run.err
        assert "Traceback" not in run.err and "bug in dvtool" not in run.err, run.err


def nothing_lost(world: World, before: checks.Report) -> None:
    report = world.check()
    assert not report.problems
    assert before.every <= report.every


@pytest.mark.parametrize("paths", [("data", "data"), ("data", "more"), ("data/big", "data/new")])
def test_two_adds(world: World, paths: tuple[str, str]) -> None:
    scenarios.changed(world)
    clone = Clone(world.work)
    clone.write("more/x", noise(100_000, 5))
    world.save()
    before = world.check()
    for path in dict.fromkeys(paths):
        assert world.run(("dv", "add", path)).code == 0
    expected = world.state()
    for _ in range(ROUNDS):
        world.restore()
        # Two git that stage at once may get in each other's way: git's own lock does not wait.
        runs = together(world, *(("dv", "add", path) for path in paths))
        well(runs)
        nothing_lost(world, before)
        assert not world.state().differences(expected)


def test_add_during_checkout(world: World) -> None:
    scenarios.two_commits(world)
    world.save()
    before = world.check()
    for _ in range(ROUNDS):
        world.restore()
        well(
            together(world, ("dv", "checkout", "HEAD~1"), ("dv", "add", "data")),
            also=(UNSAVED, INPUT, BUSY),
        )
        nothing_lost(world, before)
        assert world.run(("dv", "checkout", "HEAD~1")).code == 0
        assert world.run(("dv", "status", "--exit-code")).code in (0, 1)


def test_status_during_add(world: World) -> None:
    scenarios.changed(world)
    for number in range(50):
        Clone(world.work).write(f"data/many/{number}", noise(50_000, number))
    world.save()
    before = world.check()
    adding = world.start(("dv", "add", "data"))
    while adding.poll() is None:
        well([world.run(("dv", "status"))])
    well([world.finish(adding)])
    nothing_lost(world, before)
    assert world.run(("dv", "status")).code == 0


def test_checkout_and_pull_during_commit(world: World) -> None:
    scenarios.fresh_clone(world)
    (world.work / "code.py").write_text("pass\n")
    subprocess.run(["git", "add", "code.py"], cwd=world.work, check=True)
    world.save()
    before = world.check()
    for _ in range(ROUNDS):
        world.restore()
        pulled, committed = together(
            world, ("dv", "checkout", "HEAD~1"), ("git", "commit", "-qm", "code")
        )
        well([pulled], also=(BUSY,))
        assert committed.code in (0, 128)  # git does not wait for its lock
        nothing_lost(world, before)
        well([world.run(("dv", "pull"))])


def test_push_during_drop(world: World) -> None:
    clone = scenarios.pushed(world)
    clone.write("more/x", noise(100_000, 5))
    clone.add("more")
    clone.commit("more")
    world.save()
    before = world.check()
    for _ in range(ROUNDS):
        world.restore()
        well(together(world, ("dv", "push"), ("dv", "drop", "data")), also=(UNSAVED, BUSY))
        nothing_lost(world, before)
        well([world.run(("dv", "push")), world.run(("dv", "pull"))])
        assert not world.check().problems


@pytest.mark.parametrize(
    "gc",
    [
        ("gc",),
        ("gc", "--unpushed", "--grace", "0d"),
        ("gc", "--remote", "--expire", "--grace", "0d"),
    ],
    ids=["local", "unpushed", "remote"],
)
def test_gc_during_push(world: World, gc: tuple[str, ...]) -> None:
    """Interleaved request by request in tests/model; here two processes as they come."""
    clone = scenarios.abandoned(world)
    clone.write("data/new/more", noise(100_000, 6))
    clone.write("data/all-dead", noise(20_000 * 5, 5))
    clone.add("data")
    commit = clone.commit("more")
    files = clone.tree("data")
    world.save()
    for _ in range(ROUNDS):
        world.restore()
        well(together(world, ("dv", "push"), ("dv", *gc)), also=(BUSY,))
        assert not world.check().problems
        well([world.run(("dv", *gc)), world.run(("dv", "push"))])
        assert not world.check().problems
        fresh = world.clone(clone, "fresh")
        with fresh.repo() as repo:
            repo.checkout(commit)
        assert fresh.tree("data") == files


def test_two_worktrees(world: World) -> None:
    clone = scenarios.committed(world)
    clone.git("worktree", "add", "-q", "-b", "side", str(world.live / "tree"))
    tree = Clone(world.live / "tree")
    for number, one in enumerate((clone, tree)):
        one.write("data/shared", noise(200_000, 7))
        one.write("data/own", noise(200_000, 10 + number))
    world.save()
    before = world.check()
    for _ in range(ROUNDS):
        world.restore()
        well(together(world, ("dv", "add", "data"), ("dv", "-C", "../tree", "add", "data")))
        nothing_lost(world, before)
        for one in (clone, tree):
            one.remove("data")
        well(together(world, ("dv", "checkout"), ("dv", "-C", "../tree", "checkout")))
        assert (clone.path / "data/own").read_bytes() == noise(200_000, 10)
        assert (tree.path / "data/own").read_bytes() == noise(200_000, 11)


@pytest.mark.parametrize("name", ["add-again", "checkout-rev", "drop-part", "mv"])
def test_a_killed_holder_of_a_lock_holds_nobody_up(world: World, name: str) -> None:
    scenario = scenarios.BY_NAME[name]
    scenario.prepare(world)
    world.save()
    world.run(scenario.command, point=0, mode="before")
    points = world.trace()
    for point in (points[len(points) // 2], points[-1]):
        world.restore()
        # Only dv itself dies: its workers and git live on, as after `kill -9` by hand.
        world.run(scenario.command, point=point.number, mode="before", group=False)
        run = world.run(scenario.command)
        assert run.code in scenario.fine, run.err  # whoever waits in vain for a lock fails


@pytest.fixture
def working(world: World) -> tuple[World, list[Point]]:
    """A world in which two workers add, and the fault points of that."""
    scenarios.for_workers(world)
    world.save()
    assert world.run(WORKERS, point=0, mode="before").code == 0
    return world, world.trace()


def test_workers_end_with_the_process_that_they_work_for(
    working: tuple[World, list[Point]],
) -> None:
    world, points = working
    (adopts, *_) = (p for p in points if p.kind == "rename" and "/packs/" in p.path)
    assert any(p.pid != adopts.pid for p in points)
    world.restore()
    world.run(WORKERS, point=adopts.number, mode="before", group=False)
    run = world.run(WORKERS)
    assert run.code == 0, run.err
    assert not world.check().problems


def test_a_killed_worker_is_an_error_that_is_told(working: tuple[World, list[Point]]) -> None:
    world, points = working
    main = points[0].pid
    writes = next(p for p in points if p.pid != main and p.kind == "write")
    world.restore()
    run = world.run(WORKERS, point=writes.number, mode="before", group=False)
    assert run.code == 1
    assert "error: a worker process ended before its work was done" in run.err
    assert not (world.work / "data.dv.json").exists()
    assert world.run(WORKERS).code == 0
    assert not world.check().problems


def test_a_checkout_goes_on_where_a_killed_worker_left_it(world: World) -> None:
    scenarios.gone_for_workers(world)
    world.save()
    command = ("dv", "checkout")
    assert world.run(command, point=0, mode="before").code == 0
    expected = world.state()
    links = [p for p in world.trace() if p.kind == "link"]
    assert len({p.pid for p in links}) == 2
    world.restore()
    run = world.run(command, point=links[-1].number, mode="before", group=False)
    assert run.code == 1
    assert "error: a worker process ended before its work was done" in run.err
    assert not checks.leftovers(world.live)
    assert world.run(command).code == 0
    assert not world.state().differences(expected)
