"""Locks of a local store: two drops or gcs at once, and clones at work while one of them frees."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from dvtool.errors import BusyError, SetupError
from dvtool.system.atomic import make_folders, share
from dvtool.system.locking import locked

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

STORE_LOCK_WAIT_S = 30
LOCK_RETRY_S = 0.05


@contextlib.contextmanager
def drop_lock(store_path: str) -> Iterator[None]:
    """Keep a second drop or gc, from another worktree, out of the packs of this store.

    BusyError if another process holds the lock for too long.
    """
    make_folders(store_path)
    path = os.path.join(store_path, "drop.lock")
    busy = f"another dv drop or dv gc has been at work in this store for {STORE_LOCK_WAIT_S} s"
    with locked(path, wait_s=STORE_LOCK_WAIT_S, busy=busy):
        yield


@contextlib.contextmanager
def used(store_path: str, *, alone: bool) -> Iterator[None]:
    """Work in a store that several clones use, with the others at work in it or (`alone`) not.

    Who puts data in, and writes a manifest for it at the end, does not work `alone`; who frees
    does. BusyError if that cannot be had for too long.
    """
    make_folders(store_path)
    path = os.path.join(store_path, "use.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        share(path)
        give_up = time.monotonic() + STORE_LOCK_WAIT_S
        while not _locked(fd, alone=alone):
            if time.monotonic() > give_up:
                raise BusyError(
                    f"another clone has been at work in the store {store_path} for "
                    f"{STORE_LOCK_WAIT_S} s",
                    hint="wait for it to end, then repeat the command",
                )
            time.sleep(LOCK_RETRY_S)
        yield
    finally:
        os.close(fd)


def _locked(fd: int, *, alone: bool) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
            return False
        raise SetupError(
            f"the store cannot be locked, and several clones use it: {error.strerror}",
            hint="put it on a filesystem that has locks (flock)",
        ) from error
    return True
