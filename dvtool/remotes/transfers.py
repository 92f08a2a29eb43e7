"""Transfers that stop once nobody waits for them, and reads repeated where damage arrived."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from dvtool.errors import CorruptError, DvError
from dvtool.remotes.transports.base import RoomySink, Sink
from dvtool.system.calls import check_stopped, count

READS_MAX = 3
"""How often an object that arrives damaged is read: mostly the transfer is to blame."""

T = TypeVar("T")


def read_checked(read: Callable[[], T], damage: type[DvError] = CorruptError) -> T:
    """Return the result of `read`, which is tried again if it raises `damage`.

    Damage in transfer may pass all checks but that of a hash.
    """
    for _ in range(READS_MAX - 1):
        with contextlib.suppress(damage):
            return read()
    return read()


class StoppableFile:
    """A file to upload, which cannot be read on once nobody waits for the transfer.

    The bytes read are counted as those sent, and anew if they are read again.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._counted = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does; `Stopped` if nobody waits for the transfer."""
        check_stopped()
        data = self._file.read(size)
        count(len(data))
        self._counted += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Seek as the file does; what is before the new place counts as sent."""
        at = self._file.seek(offset, whence)
        if at < self._counted:
            count(at - self._counted)
            self._counted = at
        return at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class StoppableSink:
    """A sink that takes nothing more once nobody waits for the transfer."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes, /) -> object:
        """Write as the sink does; `Stopped` if nobody waits for the transfer."""
        check_stopped()
        count(len(data))
        return self._sink.write(data)


class StoppableRoom(StoppableSink):
    """The same of a sink that has memory for what comes."""

    _sink: RoomySink

    def room(self, size: int, /) -> memoryview:
        """Return memory for the next bytes; `Stopped` if nobody waits for the transfer."""
        check_stopped()
        return self._sink.room(size)

    def filled(self, size: int, /) -> None:
        """Take what was received."""
        count(size)
        self._sink.filled(size)

    def stated(self, md5: bytes | None, /) -> None:
        """Pass on the MD5 that the store states."""
        self._sink.stated(md5)
