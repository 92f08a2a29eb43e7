"""gc and repair of a bucket, killed when any one request arrives: nothing lost, repeating mends.

The request is still answered, to nobody: what the store has by then is what a death leaves right
after it was sent. That of the request before is what one leaves before.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.crash import checks
from tests.crash.scenarios import BY_NAME, Scenario
from tests.crash.world import World
from tests.s3.proxy import CountingProxy
from tests.s3.servers import S3Server
from tests.s3.soundness import check_remote

NAMES = (
    *("gc-remote-bury", "gc-remote-sweep", "gc-remote-undo"),
    *("fsck-repair-remote", "fsck-repair-remote-new", "fsck-repair-root"),
)
PARTS = 10
"""The requests of a command are tried in so many tests: each takes every tenth."""
KILLED = -signal.SIGKILL


@dataclass
class Case:
    """A command at a bucket behind a proxy, which is put back to the same state for each run."""

    scenario: Scenario
    world: World
    proxy: CountingProxy
    before: checks.Report
    requests: int

    def killed_at(self, number: int) -> int:
        """Run the command until that request arrives; return its exit code."""
        self.world.restore()
        self.proxy.reset()
        started = threading.Event()

        def kill() -> None:
            started.wait()
            os.killpg(process.pid, signal.SIGKILL)

        self.proxy.call_when(lambda it: it.total >= number, kill)
        process = self.world.start(self.scenario.command)
        started.set()
        return self.world.finish(process).code


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {}


@pytest.fixture(scope="module")
def proxy(rclone_server: S3Server) -> Iterator[CountingProxy]:
    with CountingProxy(rclone_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    rclone_server: S3Server,
    proxy: CountingProxy,
    cases: dict[str, Case],
) -> Case:
    for name, value in rclone_server.env.items():
        monkeypatch.setenv(name, value)
    name: str = request.param
    if name not in cases:
        server = S3Server("rclone", proxy.url, rclone_server.env)
        cases[name] = _case(
            BY_NAME[name], World(tmp_path_factory.mktemp(name) / "it", server), proxy
        )
    return cases[name]


def _case(scenario: Scenario, world: World, proxy: CountingProxy) -> Case:
    scenario.prepare(world)
    world.save()
    before = world.check()
    proxy.reset()
    assert world.run(scenario.command).code == 0
    return Case(scenario, world, proxy, before, proxy.total)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_killed_at_a_request(case: Case, part: int) -> None:
    wrong = []
    for number in range(1 + part, case.requests + 1, PARTS):
        code = case.killed_at(number)
        assert code in (KILLED, 0), "fewer requests than before may take it to its end"
        found = [*_left(case), *_repeated(case)]
        if found:
            wrong.append(f"at {number} of {case.requests}: " + "\n  ".join(found))
    assert not wrong, "\n".join(wrong)


def _left(case: Case) -> list[str]:
    """Return what is wrong with what a dead process left."""
    report, before = case.world.check(), case.before
    known = {one.rpartition(": ")[0] for one in before.problems}
    found = [one for one in report.problems if one.rpartition(": ")[0] not in known]
    if lost := (before.named | before.workspace) - report.every:
        found.append(f"{len(lost)} contents are lost")
    if lost := (before.named & before.remote) - report.remote:
        found.append(f"{len(lost)} contents are lost on the remote")
    if not case.scenario.damaged:
        check_remote(case.world.remote)
    return found


def _repeated(case: Case) -> list[str]:
    """Return what is wrong when the command is repeated."""
    run = case.world.run(case.scenario.command)
    if run.code:
        return [f"again: {run.code}\n{run.err}"]
    known = {one.rpartition(": ")[0] for one in case.before.problems if case.scenario.stays}
    left = case.world.check(deep=True).problems
    assert check_remote(case.world.remote)
    return [f"in the end: {one}" for one in left if one.rpartition(": ")[0] not in known]
