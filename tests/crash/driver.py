"""``dv`` whose clusters are one worker, in this process: so a driver meets faults at every step."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import dvtool
from dvtool.jobs import take_to_remote
from dvtool.jobs.cluster import ClusterEngine


class OneWorker:
    """A cluster that makes each call at once."""

    name = "the cluster of this process"

    def slots(self) -> int:
        return 1

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def is_lost_worker(self, error: BaseException) -> bool:
        return False

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        pass


def open_one_worker(name: str, address: str | None = None) -> ClusterEngine:
    return ClusterEngine(OneWorker())


if __name__ == "__main__":
    take_to_remote.FAR_OBJECTS_MIN = 1  # so that four objects are two batches
    dvtool.open_engine = open_one_worker
    runpy.run_module("dvtool", run_name="__main__")
