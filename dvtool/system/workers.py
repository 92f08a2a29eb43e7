"""Worker processes: how they are begun, and that none outlives the command it works for."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import multiprocessing
    import multiprocessing.context
else:
    multiprocessing = later("multiprocessing")

PARENT_CHECK_S = 0.5


def can_fork() -> bool:
    """Whether a worker may begin as a copy of this process: in milliseconds, with all it holds.

    A copy has the locks that other threads may hold just then, so there must be none.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def context(*, apart: bool = False) -> multiprocessing.context.BaseContext:
    """Return how to begin workers, now.

    With `apart`, they begin with nothing of what this process holds, if they can: a copy keeps
    the pages that this process changes or frees, which can be hundreds of megabytes.
    """
    if can_fork() and not (apart and _may_begin_anew()):
        return multiprocessing.get_context("fork")
    if apart:
        # Its own start would let Ctrl-C through; see `uninterrupted`.
        importlib.import_module("multiprocessing.resource_tracker").ensure_running()
    return multiprocessing.get_context("spawn")


def _may_begin_anew() -> bool:
    """Whether the program is `dv`: a worker imports the main module, which others may not allow."""
    main = getattr(sys.modules.get("__main__"), "main", None)
    return str(getattr(main, "__module__", "")).startswith("dvtool.")


def begin_worker(parent: int) -> None:
    """Let this worker end with its parent; the initializer of every pool.

    Ctrl-C reaches the whole process group; the parent alone decides what is then undone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, in which workers are forked.

    In the midst of a fork Python would print it as an exception that it ignores, and go on.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    # A parent that is killed closes no pipe that a worker waits for: forked ones hold both ends,
    # and hold its locks, so that every later command would wait for nobody.
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)
