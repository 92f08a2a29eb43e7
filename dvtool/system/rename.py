"""Renames that never replace, and exchanges of two names.

The standard library has neither.
Linux has both in renameat2(2), macOS in renameatx_np(2); a filesystem may lack either. Each call
is one step for everybody who looks: no name is free or doubled in between.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from dvtool.system.lazy import later

if TYPE_CHECKING:
    import ctypes
else:
    ctypes = later("ctypes")

_Call: TypeAlias = Callable[[int, bytes, int, bytes, int], int]
_NO_REPLACE = 4 if sys.platform == "darwin" else 1
_EXCHANGE = 2
_LACKING = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM})
"""How a system, a filesystem or a sandbox says that it knows no such rename."""
_NO_SYMLINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


def rename_new(old: str, new: str, *, folder: int | None, into: int | None) -> None:
    """Rename a file, link or folder to a name that must be free; FileExistsError if it is not.

    `folder` and `into` are the descriptors of the folders of the names. Where the system has no
    such call, a second name of the file takes its place; where there are no links either, a look.
    """
    if _rename_by_call(old, new, folder, into, _NO_REPLACE):
        return
    try:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_SYMLINK:
            raise
    else:
        os.unlink(old, dir_fd=folder)
        return
    try:
        os.stat(new, dir_fd=into, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=into)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)


def exchange(first: str, second: str, *, folder: int | None) -> bool:
    """Let two names of a folder change places; False, and nothing done, where that is impossible.

    FileNotFoundError if nothing has one of the names.
    """
    return _rename_by_call(first, second, folder, folder, _EXCHANGE)


def _rename_by_call(old: str, new: str, folder: int | None, into: int | None, flag: int) -> bool:
    call = _call()
    if call is None or folder is None or into is None:
        return False
    if call(folder, os.fsencode(old), into, os.fsencode(new), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), old, None, new)


@cache
def _call() -> _Call | None:
    """Return the system's call, None if it has none."""
    name = {"linux": "renameat2", "darwin": "renameatx_np"}.get(sys.platform)
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), name) if name else None
    except (OSError, AttributeError):
        return None
    if call is not None:
        path = ctypes.c_char_p
        call.argtypes = (ctypes.c_int, path, ctypes.c_int, path, ctypes.c_uint)
        call.restype = ctypes.c_int
    return call
