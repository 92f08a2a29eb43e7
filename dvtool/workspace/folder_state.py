"""The state of a folder: the names and stats of what is in it, as one digest. Nothing is read.

Two equal states mean that every file of the folder still has the stat it had. Many folders are
looked at by two processes, since Python does so with one core only.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, hasher
from dvtool.system.stat import Stat
from dvtool.system.workers import beside, can_fork
from dvtool.workspace.opener import NO_LINKS, Links, Opener

PARALLEL_MIN_NAMES = 4_000
"""Below this a second process costs more than it saves."""
_NOTHING = bytes(DIGEST_SIZE_BYTES)
_NAME = attrgetter("name")
_COLUMNS = (
    ("q", attrgetter("st_mtime_ns")),
    ("q", attrgetter("st_ctime_ns")),
    ("q", attrgetter("st_size")),
    ("Q", attrgetter("st_ino")),
)
"""The values that `Seen.matches` compares. A symlink's stat is enough: its text never changes."""


def state_of(entries: Sequence[os.DirEntry[str]]) -> Digest:
    """Return the state of a folder with these entries, in the order in which the system lists them.

    Folders in it count by their names alone. OSError if a file cannot be looked at.
    """
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    if folders:
        entries = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
    stats = [entry.stat(follow_symlinks=False) for entry in entries]
    return state_by(list(map(_NAME, entries)), stats, folders)


def state_by(
    names: Sequence[str], stats: Sequence[os.stat_result | Stat], folders: Sequence[str]
) -> Digest:
    """Return the state of a folder by the names and stats of what is in it besides its `folders`.

    They are in the order in which the system lists them. OverflowError for a time that is no 64
    bits.
    """
    text = "\0".join(names).encode("utf-8", "surrogateescape")
    whole = hasher(b"%d %d\n" % (len(stats), len(text)))
    whole.update(text)
    for kind, column in _COLUMNS:
        whole.update(array(kind, map(column, stats)).tobytes())
    whole.update("\0".join(sorted(folders)).encode("utf-8", "surrogateescape"))
    return whole.digest()


def states_of(
    root: str, folders: Sequence[str], sizes: Sequence[int], links: Links = NO_LINKS
) -> list[Digest | None]:
    """Return the states of folders (paths below `root`, best sorted), None for an unreadable one.

    `sizes` says about how many names each has. No link is followed on the way but `links`.
    """
    at = _half(sizes)
    if sum(sizes) < PARALLEL_MIN_NAMES or not 0 < at < len(folders) or not _may_fork():
        return list(_each(root, folders, links))
    with beside(partial(_packed, root, folders[at:], links)) as answer:
        own = list(_each(root, folders[:at], links))
        data = answer.read()
    step = DIGEST_SIZE_BYTES
    theirs = [data[offset : offset + step] for offset in range(0, len(data) - step + 1, step)]
    # None are left, unless the other process was killed.
    rest = _each(root, folders[at + len(theirs) :], links)
    return [*own, *(state if state != _NOTHING else None for state in theirs), *rest]


def _each(root: str, folders: Sequence[str], links: Links) -> Iterator[Digest | None]:
    with Opener(root, links) as opener:
        for folder in folders:
            try:
                with os.scandir(opener.folder(folder)) as iterator:
                    entries = list(iterator)
                state = state_of(entries)
            except (OSError, OverflowError):
                yield None
            else:
                yield state


def _half(sizes: Sequence[int]) -> int:
    """Return where to part a list so that both parts have about the same size."""
    left = sum(sizes) // 2
    for number, size in enumerate(sizes):
        left -= size
        if left < 0:
            return number + (-left <= size // 2)
    return len(sizes)


def _may_fork() -> bool:
    return can_fork() and len(os.sched_getaffinity(0)) > 1


def _packed(root: str, folders: Sequence[str], links: Links) -> bytes:
    return b"".join([state or _NOTHING for state in _each(root, folders, links)])
