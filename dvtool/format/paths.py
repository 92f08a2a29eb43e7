"""The folders in which paths lie. All is text; "" is the top, which counts as no folder."""

from __future__ import annotations

from collections.abc import Iterable


def folder_of(path: str) -> str:
    """Return the folder in which a path lies."""
    return path.rpartition("/")[0]


def folders_above(paths: Iterable[str]) -> set[str]:
    """Return all folders in which the paths lie, up to the top."""
    folders: set[str] = set()
    before = ""
    for path in paths:
        parent = path.rpartition("/")[0]
        if parent == before:  # as of most neighbours
            continue
        before = parent
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders
