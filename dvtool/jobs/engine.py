"""Engines, which work on batches. The verbs know the protocol; the local pool is one engine.

A batch is a value that pickles. It names its input and the place of its results by absolute paths,
so that any worker that sees the same disk can open both.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from dvtool.system import workers
from dvtool.system.interrupts import uninterrupted
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import queue
    from concurrent import futures

    from dvtool.system import calls

    Submit: TypeAlias = Callable[[Callable[..., Any], Any, calls.Tally], futures.Future[Any]]
    """Begins a batch: the work, the batch, and where its bytes are counted as they are done."""
else:
    calls = later("dvtool.system.calls")
    futures = later("concurrent.futures")
    queue = later("queue")

PARALLEL_MIN_BYTES = 32 << 20
PARALLEL_MIN_FILES = 2_000

Begin: TypeAlias = Literal["quick", "anew", "copied"]
"""How workers of this machine should begin: in whatever way is quick; without a copy of this
process's memory; or only by such a copy, in milliseconds, else the work is better done here."""


class SizedBatch(Protocol):
    """A picklable value that describes a piece of work."""

    @property
    def size_bytes(self) -> int:
        """The size of the work, for the progress."""


B = TypeVar("B", bound=SizedBatch)
B_contra = TypeVar("B_contra", bound=SizedBatch, contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Tell: TypeAlias = Callable[[int], None]


class Work(Protocol[B_contra, R_co]):
    """A function at the top of a module of dvtool, so that it pickles by its name."""

    def __call__(self, batch: B_contra, tell: Tell | None = None) -> R_co:
        """Work on a batch. `tell`, if given, is called with the bytes done since the last call."""


class Engine(Protocol):
    """Works on batches, several at a time if it can."""

    def map(
        self,
        work: Work[B, R],
        batches: Iterable[B],
        *,
        tell: Tell | None = None,
        undo: Callable[[R], None] | None = None,
        begin: Begin = "quick",
    ) -> Generator[R, None, None]:
        """Yield the results in the order of the batches, each as soon as it can be had.

        `batches` is read as workers become free. `tell` is called with the bytes done. `close` the
        generator (`contextlib.closing`) to cancel: no further batch is begun, and `undo` is called
        with each result that was not taken, and with the one taken last, so it must allow for
        results that are undone or taken already. The first error of a batch cancels all others,
        and is raised.
        """


class InProcess:
    """Works on one batch after the other, in this process."""

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
        for batch in batches:
            result = work(batch, tell)
            try:
                yield result
            except BaseException:
                if undo is not None:
                    undo(result)
                raise


class ExecutorEngine:
    """Works by an executor as of `concurrent.futures`, which its owner closes."""

    def __init__(self, executor: futures.Executor, workers: int) -> None:
        self._executor = executor
        self._workers = workers

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

        def submit(work: Callable[..., Any], batch: Any, _: calls.Tally) -> futures.Future[Any]:
            return self._executor.submit(work, batch)

        yield from _in_order(_Workers(submit, self._workers), work, batches, tell, undo)


class LocalPool:
    """Works by processes of this machine, which begin with the first batch and end with the last.

    A single batch is worked on in this process.
    """

    def __init__(self, jobs: int | None = None) -> None:
        """Work with at most so many processes; without a number, with one per core."""
        self._jobs = jobs

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
        left = iter(batches)
        first = list(islice(left, self._jobs or os.cpu_count() or 1))
        all_batches = chain(first, left)
        copied = workers.can_fork() and not (begin == "anew" and workers.can_begin_anew())
        in_process = not copied and (begin == "copied" or not workers.can_begin_anew())
        if len(first) <= 1 or in_process:
            yield from InProcess().map(work, all_batches, tell=tell, undo=undo)
            return
        with _local_workers(len(first), anew=not copied) as begun:
            yield from _in_order(begun, work, all_batches, tell, undo)


LOCAL_POOL = LocalPool()
"""One process per core."""


def engine_for(engine: Engine, *, files: int, size_bytes: int) -> Engine:
    """Return the engine if there is much work, else one that begins no workers."""
    large = size_bytes >= PARALLEL_MIN_BYTES or files >= PARALLEL_MIN_FILES
    return engine if large else InProcess()


class _Workers(NamedTuple):
    """How to begin a batch, for how many workers, and how to stop what they do."""

    submit: Submit
    number: int
    stop: Callable[[], object] = tuple
    """Has the batches under way end soon, with an error; by default they end in their time."""


class _Underway(NamedTuple):
    """A batch that was begun."""

    future: futures.Future[Any]
    size: int
    tally: calls.Tally


def _in_order(
    begun: _Workers,
    work: Work[B, R],
    batches: Iterable[B],
    tell: Tell | None,
    undo: Callable[[R], None] | None,
) -> Generator[R, None, None]:
    """Have batches worked on, twice as many begun as there are workers; yield in their order."""
    left = iter(batches)
    underway: deque[_Underway] = deque()

    def begin(next_batches: Iterable[B]) -> None:
        with uninterrupted():  # else the future of a batch that was begun could be lost
            for batch in next_batches:
                tally = calls.Tally()
                future = begun.submit(work, batch, tally)
                underway.append(_Underway(future, batch.size_bytes, tally))

    try:
        begin(islice(left, 2 * begun.number))
        while underway:
            if tell is not None:
                _tell_until_done(underway, tell)
            # Results that were taken are let go: a million files have many.
            yield underway[0].future.result()
            _, size, tally = underway.popleft()
            if tell is not None:
                tally.done_bytes = size
                tell(tally.untold(size))
            begin(islice(left, 1))
    except BaseException:
        for future, _, _ in underway:
            future.cancel()
        begun.stop()
        for future, _, _ in underway:
            if not future.cancelled() and future.exception() is None and undo is not None:
                undo(future.result())
        raise


def _tell_until_done(underway: Sequence[_Underway], tell: Tell) -> None:
    """Tell of the bytes of all batches, as they are done, until the first batch has ended."""
    while not underway[0].future.done():
        futures.wait([underway[0].future], timeout=calls.TELL_EVERY_S)
        for batch in underway:
            size = batch.tally.untold(batch.size)
            if size:
                tell(size)


@contextlib.contextmanager
def _local_workers(count: int, *, anew: bool) -> Iterator[_Workers]:
    """Yield processes of this machine, each with a thread that gives calls to it."""
    with workers.begun(count, anew=anew) as begun:
        idle: queue.SimpleQueue[workers.Worker] = queue.SimpleQueue()
        for worker in begun:
            idle.put(worker)

        def call(work: Callable[..., Any], batch: Any, tally: calls.Tally) -> Any:
            def count_bytes(size: int) -> None:
                tally.done_bytes += size

            worker = idle.get()
            try:
                return worker.call(work, batch, count_bytes)
            finally:
                idle.put(worker)

        def stop() -> None:
            for worker in begun:
                worker.stop()

        with futures.ThreadPoolExecutor(count, "dv-worker") as threads:
            yield _Workers(lambda *batch: threads.submit(call, *batch), count, stop)
