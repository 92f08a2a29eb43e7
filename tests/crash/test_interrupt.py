"""Ctrl-C at any moment: exit code 130, no traceback, nothing left over, and it can be repeated.

`test_faults` interrupts at each fault point. Here it comes when it comes, as on a terminal: to the
whole process group, git and worker processes included. Until dvtool runs, while Python still
imports it, what Ctrl-C prints is Python's.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.crash import checks
from tests.crash.scenarios import BY_NAME
from tests.crash.world import Run, World

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")

MOMENTS = int(os.environ.get("DV_TEST_MOMENTS", "4"))
SEED = int(os.environ.get("DV_TEST_SEED", "0"))
INTERRUPTED = 130
COMMANDS = (
    *("add-again", "add-workers", "checkout-rev", "checkout-workers"),
    *("push", "pull", "drop", "mv", "rm-data"),
)


def interrupt(world: World, command: Sequence[str], after_s: float) -> Run:
    process = world.start(command)
    time.sleep(after_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    return world.finish(process)


SWALLOWS = """
import os, signal, time
import dvtool.cli

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)  # Python raises KeyboardInterrupt in here, and ignores it

def work(arguments):
    value = Destroyed()
    del value
    time.sleep(60)
    return 0

dvtool.cli._run = work
dvtool.cli.main()
"""


def test_ctrl_c_that_comes_in_a_destructor_ends_the_command() -> None:
    ended = subprocess.run([sys.executable, "-c", SWALLOWS], capture_output=True, text=True)
    assert ended.returncode == INTERRUPTED, ended.stderr
    assert "Exception ignored" not in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_ends_cleanly(fast_folder: Path, name: str) -> None:
    scenario = BY_NAME[name]
    world = World(fast_folder / name)
    scenario.prepare(world)
    world.save()
    before = world.check()
    start_s = time.monotonic()
    assert world.run(scenario.command).code == 0
    duration_s = time.monotonic() - start_s
    expected = world.state()
    moments = random.Random(f"{SEED} {name}")
    for _ in range(MOMENTS):
        world.restore()
        after_s = moments.uniform(0, duration_s)
        run = interrupt(world, scenario.command, after_s)
        told = f"after {after_s:.3f} s: exit code {run.code}\n{run.out}{run.err}"
        # Python ends so if it comes while it makes itself ready, before `run_command`.
        began = ", in run_command\n" in run.err
        early = run.code == 1 and not began and "KeyboardInterrupt" in run.err
        assert early or run.code in (0, INTERRUPTED, -signal.SIGINT), told
        if "Traceback" in run.err or "Exception ignored" in run.err:
            assert run.code != 0 and not began, told
            assert "<frozen " in run.err or "in <module>" in run.err, told
        assert not checks.leftovers(world.live), told
        report = world.check()
        assert not report.problems, told
        assert before.every <= report.every, told
        assert world.run(scenario.command).code in scenario.fine, told
        assert not world.state().differences(expected), told
