"""Files and sinks of a transfer, which stop it once nobody waits for its result."""

from __future__ import annotations

from typing import Any, BinaryIO

from dvtool.remotes.transports.base import Sink
from dvtool.system.parallel import check_stopped


class StoppableFile:
    """A file to upload, which cannot be read on once nobody waits for the transfer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Read as the file does; `Stopped` if nobody waits for the transfer."""
        check_stopped()
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class StoppableSink:
    """A sink that takes nothing more once nobody waits for the transfer."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes, /) -> object:
        """Write as the sink does; `Stopped` if nobody waits for the transfer."""
        check_stopped()
        return self._sink.write(data)
