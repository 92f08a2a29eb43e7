"""Ray as a cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from dvtool.errors import RemoteError, UsageError, printable
from dvtool.jobs.child_environment import FOR_CLUSTERS, variables_set
from dvtool.system.extras import import_extra

HEAD_TIMEOUT_S = 10.0
LOST_WORKERS_MAX = 4
"""How often Ray itself has a call made again whose worker died."""


class RayCluster:
    """A connection to a Ray cluster."""

    def __init__(self, ray: Any, name: str, opened: contextlib.ExitStack) -> None:
        self._ray = ray
        self._name = name
        self._opened = opened
        self._calls: dict[Any, Any] = {}

    @property
    def name(self) -> str:
        """The cluster, for messages."""
        return self._name

    def slots(self) -> int:
        """Return how many batches it works on at a time now: the CPUs of its nodes."""
        try:
            return int(self._ray.cluster_resources().get("CPU", 0))
        except Exception:  # Ray has no one class for a cluster that is gone
            return 0

    def submit(self, call: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        """Have a call made by a worker."""
        remote = self._calls.get(call)
        if remote is None:
            options = {"max_retries": LOST_WORKERS_MAX, "num_cpus": 1}
            remote = self._calls[call] = self._ray.remote(**options)(call)
        reference = remote.remote(*arguments)
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def end(done: concurrent.futures.Future[Any]) -> None:
            error = done.exception()
            if error is None:
                outcome.set_result(done.result())
            else:
                # The error of the work is the cause of the one that Ray raises.
                outcome.set_exception(getattr(error, "cause", None) or error)

        outcome.set_running_or_notify_cancel()
        reference.future().add_done_callback(end)
        return outcome

    def is_lost_worker(self, error: BaseException) -> bool:
        """Whether a call failed since its workers died, one after the other."""
        exceptions = self._ray.exceptions
        kinds = (exceptions.WorkerCrashedError, exceptions.NodeDiedError)
        return isinstance(error, (*kinds, exceptions.OutOfMemoryError))

    def is_alive(self) -> bool:
        """Whether the cluster answers."""
        return bool(self._ray.is_initialized()) and self.slots() > 0

    def close(self) -> None:
        """Leave the cluster; end it if it was begun for this."""
        self._opened.close()


def open_ray(address: str | None) -> RayCluster:
    """Connect to a cluster, or begin one of processes on this machine.

    UsageError for an address that is none, RemoteError if no cluster answers there.
    """
    with variables_set(FOR_CLUSTERS):  # some of which Ray reads when it is imported
        ray = import_extra("ray", extra="ray", user="Ray clusters")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    name = "the Ray cluster of this machine"
    if address is None:
        address = "local"
        options |= {"include_dashboard": False, "num_cpus": os.cpu_count() or 1}
    else:
        name = f"the Ray cluster at {printable(address)}"
    with contextlib.ExitStack() as opened:
        opened.enter_context(variables_set(FOR_CLUSTERS))
        try:
            _see_that_it_answers(address)
        except OSError as error:
            raise RemoteError(
                f"{name} does not answer",
                hint="see that `ray start --head` was run there, and that its port can be reached",
            ) from error
        try:
            ray.init(address=address, **options)
        except ValueError as error:
            raise UsageError(
                f"{printable(address)} is not an address of a Ray cluster: "
                f"{printable(str(error).splitlines()[0])}",
                hint="write HOST:PORT as `ray start --head` prints it, or ray://HOST:10001",
            ) from error
        except Exception as error:  # Ray has no one class for what keeps it from connecting
            raise RemoteError(
                f"{name} cannot be used: {printable(str(error).strip().partition(chr(10))[0])}",
                hint="write the address that `ray start --head` prints, and have one release of "
                "Ray on all machines; a cluster that asks for a token wants it in RAY_AUTH_TOKEN",
            ) from error
        opened.callback(ray.shutdown)
        return RayCluster(ray, name, opened.pop_all())


def _see_that_it_answers(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray itself takes minutes to say so."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), HEAD_TIMEOUT_S).close()
