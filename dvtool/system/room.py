"""The room that a disk has, in words."""

from __future__ import annotations

import os

from dvtool.errors import printable, size_text

NEEDED = "needed_bytes"
"""The attribute by which an error says how much was to be written."""


def needed_of(error: OSError) -> int | None:
    """Return how much room was needed where the disk is full, None if that is not known."""
    needed: int | None = vars(error).get(NEEDED)
    return needed


def room_text(path: str, needed_bytes: int | None = None) -> str:
    """Say in parentheses which disk a path is on, what is free there, and what is to be written.

    Empty if that cannot be told.
    """
    path = os.path.abspath(path)
    try:
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        room = os.statvfs(path)
        while not os.path.ismount(path):
            path = os.path.dirname(path)
    except OSError:
        return ""
    free, whole = (blocks * room.f_frsize for blocks in (room.f_bavail, room.f_blocks))
    needed = f"; up to {size_text(needed_bytes)} are to be written" if needed_bytes else ""
    return f" ({printable(path)}: {size_text(free)} of {size_text(whole)} free{needed})"
