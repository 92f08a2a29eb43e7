"""Names that some filesystems take for the same: they differ in case or Unicode form only.

On Linux such names are different files as a rule. macOS and Windows, and some disks under Linux,
keep only one of them: the second file would replace the first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

NAME_SIZE_MAX_BYTES = 255
"""The longest name of a file on all common filesystems."""


def folded(path: str) -> str:
    """Return the one spelling of all names that a folding filesystem takes for the same."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def distinct_folded(paths: Sequence[str]) -> bool:
    """Whether a cheap look proves that no two of the paths are folded to the same."""
    text = "\0".join(paths)
    if not text.isascii():
        return False
    lower = text.lower()  # most names have no upper case: then they are folded already
    return len(set(paths if lower == text else lower.split("\0"))) == len(paths)


def collisions(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of different paths that a folding filesystem takes for one.

    Both of a pair are among the paths, or one is a folder on the way to one of them.
    """
    first: dict[str, str] = {}
    for path in paths:
        if (other := first.setdefault(folded(path), path)) != path:
            yield other, path
    folders: set[str] = set()
    for path in list(first.values()):
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            other = first.get(folded(parent), parent)
            if other != parent:
                yield other, parent
            parent = parent.rpartition("/")[0]


def too_long(path: str) -> bool:
    """Whether a component of a path is longer than a filesystem takes."""
    if len(path) <= NAME_SIZE_MAX_BYTES // 4:
        return False
    return any(len(name.encode()) > NAME_SIZE_MAX_BYTES for name in path.split("/"))
