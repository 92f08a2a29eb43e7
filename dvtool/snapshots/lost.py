"""Packs that remotes lack although their lists name them, and remotes that do not answer now.

Both matter where there are several remotes: the next one is asked.
"""

from __future__ import annotations

import threading
import time

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.remotes.objects import Mark
from dvtool.remotes.remote import RemoteStore
from dvtool.snapshots.places import ListedPlaces

LOST_PACKS_MAX = 65_536
"""So many lost packs are remembered, about 200 bytes each; others are asked for again."""
SILENCE_S = 30.0
"""For so long a remote that did not answer is asked after the others."""


class LostPacks:
    """Packs that remotes lack, by the numbers of these; several threads may use it."""

    def __init__(self, before_fork: LostPacks | None) -> None:
        """Know what the parent of this process did, whose lock may be held for ever."""
        self._lock = threading.Lock()
        self._packs: dict[tuple[int, Digest], None] = {}
        if before_fork is not None:
            self._packs.update(before_fork._packs)

    def note(self, number: int, pack: Digest) -> None:
        """Remember that a remote lacks a pack."""
        with self._lock:
            self._packs[number, pack] = None
            while len(self._packs) > LOST_PACKS_MAX:
                self._packs.pop(next(iter(self._packs)))

    def without(self, number: int, located: ListedPlaces) -> ListedPlaces:
        """Return the contents that a remote has by its lists, without those in lost packs."""
        lost = self._packs
        if not lost:
            return located
        return {
            digest: chunks
            for digest, chunks in located.items()
            if not any((number, chunk.pack.digest) in lost for chunk in chunks)
        }

    def clear(self) -> bool:
        """Forget all; return whether there were any."""
        with self._lock:
            held = bool(self._packs)
            self._packs.clear()
            return held


class SilentRemotes:
    """Remotes that could not be asked, by their numbers; several threads may use it."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def since(self, number: int) -> float | None:
        """Return when a remote did not answer, by `time.monotonic`; None if long ago or never."""
        at = self._since.get(number)
        return at if at is not None and time.monotonic() - at < SILENCE_S else None

    def ask(self, remote: RemoteStore, number: int) -> Mark:
        """Return the remote's dv.json, and remember the time if an error is raised instead."""
        try:
            mark = remote.required_mark()
        except DvError:
            self._since[number] = time.monotonic()
            raise
        self._since.pop(number, None)
        return mark
