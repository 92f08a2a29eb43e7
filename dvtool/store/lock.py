"""The lock that keeps two drops or gcs out of the same packs of a local store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dvtool.errors import BusyError
from dvtool.system.atomic import make_folders, share
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import filelock
else:
    filelock = later("filelock")

LOCK_WAIT_S = 30


@contextlib.contextmanager
def drop_lock(store_path: str) -> Iterator[None]:
    """Keep a second drop or gc, from another worktree, out of the packs of this store.

    BusyError if another process holds the lock for too long.
    """
    make_folders(store_path)
    try:
        path = os.path.join(store_path, "drop.lock")
        with filelock.FileLock(path, timeout=LOCK_WAIT_S):
            share(path)
            yield
    except filelock.Timeout as error:
        raise BusyError(
            f"another dv drop or dv gc has been at work in this store for {LOCK_WAIT_S} s",
            hint="wait for it to end, then repeat the command",
        ) from error
