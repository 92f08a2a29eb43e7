"""Real clusters on this machine, their scheduler and workers as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_S = 60.0


@dataclass
class RunningCluster:
    """A cluster of two workers: its engine's name, its address, and how to lose a worker."""

    engine: str
    address: str
    begin_worker: Callable[[], subprocess.Popen[bytes]] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """What names it on the command line."""
        return ("--engine", self.engine, "--engine-address", self.address)

    def kill_scheduler(self) -> None:
        """Kill the scheduler outright."""
        assert self.scheduler is not None
        self.scheduler.kill()

    def kill_worker(self) -> None:
        """Kill a worker outright, and begin another one in its place."""
        assert self.begin_worker is not None
        worker = self.workers.pop(0)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.workers.append(self.begin_worker())


@contextlib.contextmanager
def dask_cluster(folder: Path, env: Mapping[str, str]) -> Iterator[RunningCluster]:
    """Run a Dask scheduler and two workers with one thread each, whose environment is `env`."""
    log = (folder / "dask.log").open("wb")
    environ = {**os.environ, **env}

    def begin(module: str, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{module}", *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            cwd=folder,
        )

    place = folder / "scheduler.json"
    scheduler = begin(
        "dask_scheduler",
        *("--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        *("--scheduler-file", str(place)),
    )
    cluster = RunningCluster("dask", "", scheduler=scheduler)
    try:
        address = _address(place, scheduler)

        def begin_worker() -> subprocess.Popen[bytes]:
            return begin(
                "dask_worker",
                *(address, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
                *("--memory-limit", "0", "--local-directory", str(folder)),
            )

        cluster.address, cluster.begin_worker = address, begin_worker
        cluster.workers = [begin_worker(), begin_worker()]
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            process.kill()
            process.wait()
        log.close()


def _address(place: Path, scheduler: subprocess.Popen[bytes]) -> str:
    import json

    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(place.read_text())["address"])
        if scheduler.poll() is not None:
            raise RuntimeError(f"the scheduler ended with {scheduler.returncode}")
        time.sleep(0.02)
    raise RuntimeError("the scheduler did not begin")
