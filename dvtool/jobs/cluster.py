"""Engines whose workers may be on other machines, and beginning one by its name.

A batch goes to a worker as a pickle, by value. A worker that is lost loses no batch: the batch is
sent to another one, and since a repeated batch changes nothing, nothing is done twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from dvtool import __version__
from dvtool.errors import RemoteError, SetupError, UsageError, printable
from dvtool.jobs.engine import B, Begin, R, Tell, Work
from dvtool.system.lazy import later
from dvtool.system.logs import Log

if TYPE_CHECKING:
    from concurrent import futures
else:
    futures = later("concurrent.futures")

dask = later("dvtool.jobs.dask")
ray = later("dvtool.jobs.ray")

EngineName: TypeAlias = Literal["dask", "ray"]
ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)
ATTEMPTS_MAX = 5
"""How often a batch is begun that the cluster lets go of."""
BEGUN_PER_SLOT = 2
AHEAD_PER_SLOT = 8
"""How many batches may be done before the one that is yielded next, where order matters."""
ASK_CLUSTER_EVERY_S = 1.0
WORKER_WAIT_S = 600.0
CANCELLED_WAIT_S = 5.0
"""How long an interrupted driver waits for batches that had begun."""

_LOG = Log("workers")


class Cluster(Protocol):
    """The scheduler of a cluster, as an engine needs it."""

    @property
    def name(self) -> str:
        """The cluster, for messages."""

    def slots(self) -> int:
        """Return how many batches it works on at a time now; 0 if it has no worker."""

    def submit(self, call: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Have a call made by a worker. A future that is cancelled by itself was lost."""

    def is_lost_worker(self, error: BaseException) -> bool:
        """Whether a call failed since its workers died, one after the other.

        The cluster itself has another worker make the call of one that is lost.
        """

    def is_alive(self) -> bool:
        """Whether the scheduler answers."""

    def close(self) -> None:
        """Leave the cluster; end it if it was begun for this."""


def run_batch(version: str, work: Work[B, R], batch: B) -> R:
    """Work on a batch, on a worker; SetupError if its dvtool is another one than the driver's."""
    if version != __version__:
        raise SetupError(
            f"a worker has dvtool {__version__}, this machine has {version}",
            hint="install the same version on all machines of the cluster",
        )
    return work(batch)


@dataclass(slots=True)
class _Begun:
    """A batch that is with the cluster."""

    number: int
    batch: Any
    attempts: int = 1


class ClusterEngine:
    """Works by the workers of a cluster; use it as a context manager, or `close` it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def __enter__(self) -> ClusterEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; end it if it was begun for this."""
        self.cluster.close()

    def map(
        self,
        work: Work[B, R],
        batches: Iterable[B],
        *,
        tell: Tell | None = None,
        undo: Callable[[R], None] | None = None,
        begin: Begin = "quick",
    ) -> Generator[R, None, None]:
        """See `Engine.map`."""
        with contextlib.closing(_Running(self.cluster, work, batches, undo)) as running:
            for batch, result in running.in_order():
                if tell is not None:
                    tell(batch.size_bytes)
                yield result

    def as_done(
        self,
        work: Work[B, R],
        batches: Iterable[B],
        *,
        tell: Tell | None = None,
    ) -> Generator[tuple[B, R], None, None]:
        """Yield each batch with its result, as they end: a slow worker holds up no other.

        Otherwise as `map`.
        """
        with contextlib.closing(_Running(self.cluster, work, batches, None)) as running:
            for begun, result in running.as_done():
                if tell is not None:
                    tell(begun.batch.size_bytes)
                yield begun.batch, result


class _Running:
    """The batches of one call that are with a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        work: Callable[..., Any],
        batches: Iterable[Any],
        undo: Callable[[Any], None] | None,
    ) -> None:
        self._cluster = cluster
        self._work = work
        self._left = enumerate(batches)
        self._undo = undo
        self._underway: dict[futures.Future[Any], _Begun] = {}
        self._done: dict[int, tuple[Any, Any]] = {}
        """The batches that are done before their turn, with their results."""
        self._seen_s = time.monotonic()
        self._next = 0
        self._last: list[Any] = []
        """The result taken last: who took it may not have come to keep it."""

    def as_done(self) -> Iterator[tuple[_Begun, Any]]:
        """Yield batches and results as they end."""
        self._fill()
        while self._underway:
            for begun, result in self._ended():
                self._fill()
                yield begun, result
            self._fill()

    def in_order(self) -> Iterator[tuple[Any, Any]]:
        """Yield batches and results in the order of the batches."""
        self._fill(ordered=True)
        while self._underway or self._done:
            while self._next in self._done:
                batch, result = self._done.pop(self._next)
                self._next += 1
                self._last = [result]
                self._fill(ordered=True)
                yield batch, result
            self._last = []
            for begun, result in self._ended():
                self._done[begun.number] = begun.batch, result
            self._fill(ordered=True)
        self._last = []

    def close(self) -> None:
        """Cancel the batches under way; undo what was done and not taken."""
        for future in self._underway:
            future.cancel()
        futures.wait(self._underway, timeout=CANCELLED_WAIT_S)
        ended = [future for future in self._underway if future.done() and not future.cancelled()]
        results = [*self._last, *(result for _, result in self._done.values())]
        results += [future.result() for future in ended if future.exception() is None]
        self._underway.clear()
        self._done.clear()
        self._last = []
        for result in results if self._undo is not None else ():
            self._undo(result)  # type: ignore[misc]

    def _fill(self, *, ordered: bool = False) -> None:
        """Begin batches, so many that no worker waits for the driver."""
        slots = max(self._cluster.slots(), 1)
        while len(self._underway) < BEGUN_PER_SLOT * slots:
            waiting = len(self._underway) + len(self._done)
            if ordered and waiting >= AHEAD_PER_SLOT * slots:
                return
            following = next(self._left, None)
            if following is None:
                return
            self._begin(_Begun(*following))

    def _begin(self, begun: _Begun) -> None:
        try:
            future = self._cluster.submit(run_batch, __version__, self._work, begun.batch)
        except Exception as error:
            if self._cluster.is_alive():
                raise
            raise lost_cluster(self._cluster.name) from error
        self._underway[future] = begun

    def _ended(self) -> Iterator[tuple[_Begun, Any]]:
        """Wait until a batch ends; yield those that did, having begun lost ones anew."""
        done, _ = futures.wait(self._underway, ASK_CLUSTER_EVERY_S, futures.FIRST_COMPLETED)
        if not done:
            self._see_that_it_works()
        for future in done:
            begun = self._underway.pop(future)
            error = None if future.cancelled() else future.exception()
            if future.cancelled():
                self._again(begun)
                continue
            if error is not None and self._cluster.is_lost_worker(error):
                raise _workers_lost(self._cluster.name) from error
            if isinstance(error, ModuleNotFoundError):
                raise SetupError(
                    f"a worker of {self._cluster.name} lacks a package: {printable(str(error))}",
                    hint="install the same dvtool on all machines of the cluster",
                ) from error
            if error is not None:
                raise error
            yield begun, future.result()

    def _see_that_it_works(self) -> None:
        """Raise an error if the scheduler is gone, or has had no worker for long."""
        if not self._cluster.is_alive():
            raise lost_cluster(self._cluster.name)
        now = time.monotonic()
        if self._cluster.slots():
            self._seen_s = now
        elif now - self._seen_s > WORKER_WAIT_S:
            raise RemoteError(
                f"{self._cluster.name} has had no worker for {WORKER_WAIT_S / 60:.0f} minutes",
                hint="begin workers; the same command then goes on where this one ended",
            )

    def _again(self, begun: _Begun) -> None:
        """Begin a batch again that the cluster let go of."""
        if not self._cluster.is_alive():
            raise lost_cluster(self._cluster.name)
        if begun.attempts >= ATTEMPTS_MAX:
            raise _workers_lost(self._cluster.name)
        _LOG.note("batch %d is begun anew, since the cluster let go of it", begun.number)
        begun.attempts += 1
        self._begin(begun)


def _workers_lost(name: str) -> RemoteError:
    return RemoteError(
        f"several workers of {name} were lost, one after the other, by the same batch",
        hint="see the workers' logs: they may lack memory or disk; then repeat the command",
    )


def lost_cluster(name: str) -> RemoteError:
    """Return the error for a cluster whose scheduler does not answer any more."""
    return RemoteError(
        f"{name} does not answer any more",
        hint="see that its scheduler runs; the same command then goes on where this one ended",
    )


def open_engine(name: str, address: str | None = None) -> ClusterEngine:
    """Return the engine of a cluster: `dask` or `ray`; without an address one on this machine.

    UsageError for another name, SetupError if the package is not installed here, RemoteError if
    nothing answers at the address.
    """
    if name == "dask":
        return ClusterEngine(dask.open_dask(address))
    if name == "ray":
        return ClusterEngine(ray.open_ray(address))
    raise UsageError(
        f"there is no engine {printable(name)}", hint=f"there are {' and '.join(ENGINE_NAMES)}"
    )
