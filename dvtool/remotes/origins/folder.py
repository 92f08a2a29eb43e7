"""Objects in folders of this machine: a remote or cache of DVC, or git-lfs's own objects."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from dvtool.errors import ObjectMissing, RemoteError, RemoteForbidden, printable


@contextlib.contextmanager
def opened_in(folders: tuple[str, ...], name: str, offset: int, missing: str) -> Iterator[BinaryIO]:
    """Open the file of a name in the first of some folders that has it, from `offset`.

    ObjectMissing, about `missing`, if none has.
    """
    file = None
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            file = open(path, "rb")
            break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            raise RemoteForbidden(
                f"{printable(path)} cannot be read: {error.strerror}",
                hint="ask for the right to read it, then repeat the command",
            ) from error
        except OSError as error:
            raise RemoteError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if file is None:
        raise ObjectMissing(missing, printable(folders[0] if folders else "this machine"))
    with file:
        file.seek(offset)
        yield file


def size_in(folders: tuple[str, ...], name: str) -> int | None:
    """Return the size of the file of a name in the first of some folders that has it, or None."""
    for folder in folders:
        with contextlib.suppress(OSError):
            return os.stat(os.path.join(folder, name)).st_size
    return None
