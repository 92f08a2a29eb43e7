"""Ctrl-C at moments that it must not cut in two."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: of a fork, or of a call that must not be lost.

    A process that begins in the block keeps the signal blocked, until it says otherwise.
    """
    came: list[tuple[int, object]] = []
    before: object = None
    # A signal that this thread blocks goes to another thread, also one of a library in C, and
    # Python raises what came of it here all the same. So what it calls is held back, too.
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGINT)
        if callable(before):
            signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    blocked = _blocked()
    try:
        yield
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if callable(before):
            signal.signal(signal.SIGINT, before)
            if came:
                before(*came[0])


def _blocked() -> set[int] | None:
    """Block Ctrl-C in this thread; return what was blocked before, if the system can do so."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
