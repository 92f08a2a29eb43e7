"""Calls that may take long in the system, as to flush a disk, while signals are heard.

Python runs the handlers of signals in the main thread, between two calls of C and never within one.
A disk that is busy may need seconds to flush. Where somebody listens, because a bar is drawn by a
handler, such a call runs in a thread that ends with it, and the main thread waits.
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_listening = [0]
"""The process whose main thread is to hear signals; workers that are copies of it are not."""


def hear_signals(wanted: bool) -> None:
    """Say whether signals are to be heard during calls that may take long."""
    _listening[0] = os.getpid() if wanted else 0


def while_hearing(call: Callable[[], T]) -> T:
    """Return what a call returns, and hear signals meanwhile if that is wanted.

    Errors of a signal's handler are raised once the call has ended: what the call works on is used
    by nothing else before.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or _listening[0] != os.getpid():
        return call()
    returned: list[T] = []
    raised: list[BaseException] = []
    ended = _thread.allocate_lock()
    ended.acquire()

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)
        finally:
            ended.release()

    try:
        # Not a `Thread`: it would count as one, and workers could not begin as copies.
        _thread.start_new_thread(run, ())
    except RuntimeError:  # there are too many threads
        return call()
    interruption: BaseException | None = None
    # Not by what `acquire` returns: a handler may raise once it has, and before that is kept.
    while not (returned or raised):
        try:
            ended.acquire()
        except BaseException as error:
            interruption = interruption or error
    if interruption is not None:
        raise interruption
    if raised:
        raise raised[0]
    return returned[0]
