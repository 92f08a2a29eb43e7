"""Progress of long work. The library never prints; the CLI draws the bars."""

from __future__ import annotations


class Progress:
    """Takes notes of progress and ignores them; the CLI has a subclass that draws bars.

    Called from the main thread only.
    """

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        """Begin a phase of `total_bytes`, if that is known; `what` says what is done or waited for.

        As in `'adding 12 files of data/images'`. It may have names that others chose: escape it.
        """

    def note(self, text: str) -> None:
        """Say how far a phase is of which no bytes are known, in words of another program."""

    def advance(self, size: int) -> None:
        """Another `size` bytes of the phase are done; fewer than none if some are done again."""

    def finish(self) -> None:
        """The phase is over."""


SILENT = Progress()
