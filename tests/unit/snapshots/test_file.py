"""The memory of a file of a snapshot: what is read side by side is never in the same."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any, cast

from dvtool.snapshots.cache import Memory, NewMemory
from dvtool.snapshots.contents import Content
from dvtool.snapshots.file import SnapshotFile
from dvtool.snapshots.source import ContentSource

DIGEST = bytes(32)


class _Contents:
    """Asks for memory in two threads, both of which are held before the last line of the call."""

    def __init__(self) -> None:
        self.got: list[Memory] = []

    def trying(self, _: object, read: Callable[[dict[bytes, Any]], None]) -> None:
        read({DIGEST: SimpleNamespace(numbers=range, pieces=())})

    def chunks(self, _: object, __: object, memory: NewMemory) -> None:
        both = threading.Barrier(2)
        code = cast(Any, memory).__code__
        last = max(line for *_, line in code.co_lines() if line)

        def trace(frame: FrameType, event: str, _: object) -> Any:
            if frame.f_code is code and event == "line" and frame.f_lineno == last:
                both.wait(10)
            return trace

        def ask() -> None:
            sys.settrace(trace)
            self.got.append(memory(100))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_threads_that_ask_at_once_get_memory_of_their_own() -> None:
    contents = _Contents()
    content = cast(Content, SimpleNamespace(path="data", size=0, digest=DIGEST))
    file = SnapshotFile(lambda: cast(ContentSource, contents), content)
    window = file._read(0, 0)
    assert len({id(room) for room in contents.got}) == 2
    assert {id(room) for room in window.rooms} == {id(room) for room in contents.got}
