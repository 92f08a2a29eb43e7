"""Opening a file of a snapshot as `open` opens one of the disk: modes, buffers and text."""

from __future__ import annotations

import io

from dvtool.snapshots.file import BUFFER_BYTES, SnapshotFile


def open_content(
    raw: SnapshotFile,
    mode: str,
    buffering: int,
    text: tuple[str | None, str | None, str | None],
) -> SnapshotFile | io.BufferedReader[SnapshotFile] | io.TextIOWrapper:
    """Return a file as `open` would for a mode; `text` is encoding, errors and newline."""
    letters = set(mode)
    if len(letters) != len(mode) or letters - set("rwxabt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    if letters & set("wxa+"):
        raise io.UnsupportedOperation(
            f"mode {mode!r}: a snapshot is only read; change the file in the worktree, then: dv add"
        )
    if "r" not in letters:
        raise ValueError("Must have exactly one of create/read/write/append mode")
    if "b" in letters:
        for name, value in zip(("an encoding", "an errors", "a newline"), text, strict=True):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {name} argument")
        if buffering == 1:
            buffering = -1
        if buffering == 0:
            return raw
    elif buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    size = BUFFER_BYTES if buffering < 2 else buffering
    buffered = io.BufferedReader(raw, size)
    if "b" in letters:
        return buffered
    wrapped = io.TextIOWrapper(buffered, *text)
    wrapped.mode = mode  # type: ignore[misc]
    return wrapped
