"""The state of a folder: the names and stats of what is in it, as one digest. Nothing is read.

Two equal states mean that every file of the folder still has the stat it had. Many folders are
looked at by two processes, since Python does so with one core only.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from dvtool.format.digest import DIGEST_SIZE_BYTES, Digest, hasher
from dvtool.system.workers import beside, can_fork, meanwhile
from dvtool.workspace.opener import NO_LINKS, Links, Opener

if TYPE_CHECKING:  # it needs msgspec, and a look may begin before that is loaded
    from dvtool.system.stat import Stat

PARALLEL_MIN_NAMES = 4_000
"""Below this a second process costs more than it saves."""
EARLY_TRUSTED_S = 0.5
"""States are taken only if the look began no longer ago: git or a remote may have been slow."""
_NOTHING = bytes(DIGEST_SIZE_BYTES)
_FRONT = struct.Struct("=Q")
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
    columns = [array(kind, map(column, stats)).tobytes() for kind, column in _COLUMNS]
    return state_of_columns(names, columns, folders)


def state_of_columns(
    names: Sequence[str], columns: Iterable[bytes], folders: Sequence[str]
) -> Digest:
    """Do as `state_by`, from the times of content and of change, sizes and inodes.

    Of each column there are the values as 64 bits each, in the order of this machine.
    """
    text = "\0".join(names).encode("utf-8", "surrogateescape")
    whole = hasher(b"%d %d\n" % (len(names), len(text)))
    whole.update(text)
    for column in columns:
        whole.update(column)
    whole.update("\0".join(sorted(folders)).encode("utf-8", "surrogateescape"))
    return whole.digest()


def states_of(
    root: str, folders: Sequence[str], sizes: Sequence[int], links: Links = NO_LINKS
) -> list[Digest | None]:
    """Return the states of folders (paths below `root`, best sorted), None for an unreadable one.

    `sizes` says about how many names each has. No link is followed on the way but `links`.
    """
    if _early_look is not None and _early_look.covers(root, folders, links):
        return list(_early_look.states(folders))
    at = _half(sizes)
    if sum(sizes) < PARALLEL_MIN_NAMES or not 0 < at < len(folders) or not may_fork():
        return list(_each(root, folders, links))
    with beside(partial(_packed, root, folders[at:], links)) as answer:
        own = list(_each(root, folders[:at], links))
        data = answer.read()
    step = DIGEST_SIZE_BYTES
    theirs = [data[offset : offset + step] for offset in range(0, len(data) - step + 1, step)]
    # None are left, unless the other process was killed.
    rest = _each(root, folders[at + len(theirs) :], links)
    return [*own, *(state if state != _NOTHING else None for state in theirs), *rest]


def _each(root: str, folders: Iterable[str], links: Links) -> Iterator[Digest | None]:
    with Opener(root, links) as opener:
        for folder in folders:
            yield _look_at(opener, folder)


def _look_at(opener: Opener, folder: str) -> Digest | None:
    try:
        with os.scandir(opener.folder(folder)) as iterator:
            entries = list(iterator)
        return state_of(entries)
    except (OSError, OverflowError, ValueError):  # a name with a zero, of a damaged statcache
        return None


class SharedLook:
    """A look at folders by two processes, each from another end, until they meet.

    It has a state for each folder (paths below `root`, sorted) in memory that both processes have.
    """

    def __init__(self, root: str, folders: Sequence[str]) -> None:
        self.root = root
        self._began_s = time.monotonic()
        self._folders = folders
        self._numbers = {folder: number for number, folder in enumerate(folders)}
        self._states = mmap.mmap(-1, len(folders) * DIGEST_SIZE_BYTES)
        self._front = mmap.mmap(-1, _FRONT.size)
        """The number of the folder that the process at the front took last, and 1."""

    def covers(self, root: str, folders: Sequence[str], links: Links) -> bool:
        """Whether a look just now was at all of these folders, and no link is followed."""
        just_now = time.monotonic() - self._began_s < EARLY_TRUSTED_S
        return just_now and self.root == root and not links and self._numbers.keys() >= set(folders)

    def look_from_the_end(self, parent: int) -> None:
        """Look at folders until the other process, the `parent`, comes across or is gone."""
        looked = _each(self.root, reversed(self._folders), NO_LINKS)
        for number in reversed(range(len(self._folders))):
            if number < _FRONT.unpack_from(self._front)[0] or os.getppid() != parent:
                return
            at = number * DIGEST_SIZE_BYTES
            self._states[at : at + DIGEST_SIZE_BYTES] = next(looked) or _NOTHING

    def states(self, folders: Sequence[str]) -> Iterator[Digest | None]:
        """Yield the states of some of the folders, sorted: those that are not there are looked at.

        A state that is only half written equals no state that anything has.
        """
        with Opener(self.root) as opener:
            for folder in folders:
                number = self._numbers[folder]
                at = number * DIGEST_SIZE_BYTES
                state = self._states[at : at + DIGEST_SIZE_BYTES]
                if state == _NOTHING:
                    _FRONT.pack_into(self._front, 0, number + 1)
                    yield _look_at(opener, folder)
                else:
                    yield state


_early_look: SharedLook | None = None


@contextlib.contextmanager
def looking_early(look: SharedLook) -> Iterator[None]:
    """Let a copy of this process look at folders; in the block `states_of` takes what it saw.

    States in the block are those of its beginning, or of later, and never old: see `covers`.
    """
    global _early_look
    with meanwhile(partial(look.look_from_the_end, os.getpid())):
        _early_look = look
        try:
            yield
        finally:
            _early_look = None


def _half(sizes: Sequence[int]) -> int:
    """Return where to part a list so that both parts have about the same size."""
    left = sum(sizes) // 2
    for number, size in enumerate(sizes):
        left -= size
        if left < 0:
            return number + (-left <= size // 2)
    return len(sizes)


def may_fork() -> bool:
    """Whether a second process is possible, and has a core to run on."""
    return can_fork() and len(os.sched_getaffinity(0)) > 1


def _packed(root: str, folders: Sequence[str], links: Links) -> bytes:
    return b"".join([state or _NOTHING for state in _each(root, folders, links)])
