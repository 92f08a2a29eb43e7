"""Python's collector, put off while many objects are made that all stay."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()
_holders = 0
_was_on = False


@contextlib.contextmanager
def collector_put_off() -> Iterator[None]:
    """Let the collector not run in this process meanwhile, whichever thread makes objects.

    For a moment in which very many objects are made and none is garbage: the collector would go
    through all objects of the process again and again, hundreds of thousands with PyTorch.
    """
    global _holders, _was_on
    with _LOCK:
        if not _holders:
            _was_on = gc.isenabled()
            gc.disable()
        _holders += 1
    try:
        yield
    finally:
        with _LOCK:
            _holders -= 1
            if not _holders and _was_on:
                gc.enable()
