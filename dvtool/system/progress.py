"""Progress of long work. The library never prints; the CLI draws the bars."""

from __future__ import annotations


class Progress:
    """Takes notes of progress and ignores them; the CLI has a subclass that draws bars.

    Called from the main thread only.
    """

    def start(self, what: str, *, total_bytes: int | None = None) -> None:
        """Begin a phase (`'hashing'`, `'uploading'`) of `total_bytes`, if that is known."""

    def advance(self, size: int) -> None:
        """Another `size` bytes of the phase are done."""

    def finish(self) -> None:
        """The phase is over."""


SILENT = Progress()
