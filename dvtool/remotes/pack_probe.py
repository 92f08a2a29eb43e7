"""Downloads a pack of a remote, which is not trusted, and reports its good chunks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from dvtool.errors import ObjectMissing
from dvtool.format.digest import Digest
from dvtool.format.pack import Placement
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import LocalStore
from dvtool.store.packcheck import PackCheck, check_pack


def download_check(
    store: LocalStore,
    remote: RemoteStore,
    digest: Digest,
    size: int,
    *,
    known: tuple[Placement, ...] = (),
    keep: Callable[[str, PackCheck], None] | None = None,
) -> PackCheck:
    """Download a pack of `size` bytes to a temporary file, check it, and hand it to `keep`."""
    temp = store.temp_path()
    try:
        with open(temp, "xb") as file, contextlib.suppress(ObjectMissing):
            remote.read_pack(digest, file, offset=0, size=size)
        check = check_pack(temp, digest, known=known)
        if keep is not None:
            keep(temp, check)
        return check
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
