"""The lock that keeps two drops or gcs out of the same packs of a local store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dvtool.system.atomic import make_folders
from dvtool.system.locking import locked

STORE_LOCK_WAIT_S = 30


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
