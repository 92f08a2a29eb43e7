"""Writing files so that a crash leaves the old content or the new, never a mixture.

A new file gets a temporary name in the same folder, is flushed to the disk, then renamed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from typing import BinaryIO

TEMP_PREFIX = ".dv-tmp-"
"""Names with this prefix are ours and unfinished: walks pass over them, fsck and gc sweep them."""


_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + r"[0-9]+-[0-9a-f]{12}")


def is_temp_name(name: str) -> bool:
    """Whether a name is one that `temp_name` makes; a user's own may begin alike."""
    return _TEMP_NAME.fullmatch(name) is not None


def temp_name() -> str:
    """Return a fresh name for an unfinished file."""
    return f"{TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"


def sync_folder(path: str) -> None:
    """Make renames in a folder durable (a no-op where folders cannot be opened, as on Windows)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(path: str) -> None:
    """Make a folder and those above it, each durable; fine if it is there already."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync_folder(above)


@contextlib.contextmanager
def replacing(path: str, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of `path` when the block ends well.

    When the block raises, `path` is untouched and the temporary file is gone.
    """
    folder = os.path.dirname(path) or "."
    temp = os.path.join(folder, temp_name())
    try:
        with open(temp, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    if durable:
        sync_folder(folder)


def write_bytes(path: str, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `path` with `data`."""
    with replacing(path, durable=durable) as file:
        file.write(data)
