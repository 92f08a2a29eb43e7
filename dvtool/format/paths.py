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


def joined(folder: str, name: str) -> str:
    """Return the path of what a folder has under a name; either may be "", which adds nothing."""
    return f"{folder}/{name}" if folder and name else folder or name


def is_utf8(text: str) -> bool:
    """Whether a name, as the system gave it, can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
