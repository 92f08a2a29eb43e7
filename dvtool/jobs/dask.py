"""Dask's distributed scheduler as a cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any

from dvtool.errors import RemoteError, UsageError, printable
from dvtool.jobs.child_environment import FOR_CLUSTERS, variables_set
from dvtool.system.extras import import_extra

SCHEDULER_TIMEOUT_S = 10.0


class DaskCluster:
    """A client of a scheduler, and the cluster that was begun for it, if it was."""

    def __init__(self, client: Any, name: str, opened: contextlib.ExitStack) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._name = name
        self._opened = opened

    @property
    def name(self) -> str:
        """The cluster, for messages."""
        return self._name

    def slots(self) -> int:
        """Return how many batches it works on at a time now: the threads of its workers."""
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError:
            return 0
        return sum(worker["nthreads"] for worker in workers)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        """Have a call made by a worker."""
        future: concurrent.futures.Future[Any] = self._executor.submit(call, *arguments)
        return future

    def is_lost_worker(self, error: BaseException) -> bool:
        """Whether a call failed only since its worker is gone."""
        return type(error).__name__ == "KilledWorker"

    def is_alive(self) -> bool:
        """Whether the scheduler answers."""
        return bool(self._client.status == "running")

    def close(self) -> None:
        """Leave the cluster; end it if it was begun for this."""
        self._opened.close()


def open_dask(address: str | None) -> DaskCluster:
    """Connect to the scheduler at an address, or begin a cluster of processes on this machine.

    UsageError for an address that is none, RemoteError if no scheduler answers there.
    """
    distributed = import_extra("distributed", extra="dask", user="Dask clusters")
    _be_quiet()
    with contextlib.ExitStack() as opened:
        name = "the Dask cluster of this machine"
        if address is None:
            opened.enter_context(variables_set(FOR_CLUSTERS))
            cluster = opened.enter_context(
                distributed.LocalCluster(
                    n_workers=os.cpu_count() or 1,
                    threads_per_worker=1,
                    dashboard_address=None,
                    host="127.0.0.1",
                )
            )
            address = cluster.scheduler_address
        else:
            name = f"the Dask cluster at {printable(address)}"
        client = opened.enter_context(_client(distributed, address, name))
        return DaskCluster(client, name, opened.pop_all())


def _be_quiet() -> None:
    """Keep Dask from telling on standard error of each worker and connection that is lost."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _client(distributed: Any, address: str, name: str) -> Any:
    try:
        return distributed.Client(address, timeout=SCHEDULER_TIMEOUT_S, set_as_default=False)
    except ValueError as error:
        raise UsageError(
            f"{printable(address)} is not an address of a Dask scheduler: {printable(str(error))}",
            hint="write tcp://HOST:PORT, as `dask scheduler` prints it",
        ) from error
    except OSError as error:
        raise RemoteError(
            f"{name} does not answer",
            hint="see that `dask scheduler` runs there, and that its port can be reached from here",
        ) from error
    except Exception as error:  # whatever the bytes of another service mean to Dask
        raise RemoteError(
            f"{name} answers, but not as a Dask scheduler",
            hint="write the address that `dask scheduler` prints; its release may be too far off",
        ) from error
