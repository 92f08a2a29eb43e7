"""Clean pages for mapped files, so that a later write through the mapping shows in their stamps.

A write through a mapping moves a file's times only when it makes a clean page dirty (Linux: at the
page fault). Until the system has written the page, later writes to it move nothing.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Protocol

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import ctypes
else:
    ctypes = later("ctypes")

_START = 2
"""SYNC_FILE_RANGE_WRITE: begin to write the dirty pages, and wait for nothing."""


class _Call(Protocol):
    def __call__(self, fd: int, offset: int, size: int, flags: int) -> int: ...


def start_writeback(fd: int) -> None:
    """Let every write through a mapping from now on move the stamps of an open file.

    Nobody waits for the disk. It has no effect where files have no disk (tmpfs), or on systems
    without sync_file_range(2).
    """
    call = _call()
    if call is not None:
        call(fd, 0, 0, _START)


@cache
def _call() -> _Call | None:
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    function.restype = ctypes.c_int
    answer: _Call = function
    return answer
