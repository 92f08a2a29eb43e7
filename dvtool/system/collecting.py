"""Python's collector, put off while many objects are made that all stay."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator


class _Off:
    """How many ask for the collector to be off in this process, and whether it was on before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.was_on = False


_off = _Off()


@contextlib.contextmanager
def collector_put_off() -> Iterator[None]:
    """Let the collector not run in this process meanwhile, whichever thread makes objects.

    For a moment in which very many objects are made and none is garbage: the collector would go
    through all objects of the process again and again, hundreds of thousands with PyTorch.
    """
    off = _off
    with off.lock:
        if not off.holders:
            off.was_on = gc.isenabled()
        off.holders += 1  # first: whoever forks now is to know
        gc.disable()
    try:
        yield
    finally:
        with off.lock:
            if off.holders == 1 and off.was_on:
                gc.enable()
            off.holders -= 1


def _begin_child() -> None:
    """Have the collector as it was: who put it off is a thread of the parent, and not here."""
    global _off
    before, _off = _off, _Off()
    if before.holders:
        if before.was_on:
            gc.enable()
        # Should the thread that forked be one of them, it changes nothing here any more.
        before.lock, before.was_on = threading.Lock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
