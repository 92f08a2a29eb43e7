"""The read ledger of a run: whatever reads an entry of a snapshot notes it in a file.

`dv run` names the file in the environment, so that all processes of the command append to it. A
line is one write to a file open for appending: lines of processes and threads do not mix, a fork
may share the file, and what `kill -9` cuts off is one line, which the reader drops.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from dvtool.format.digest import Digest

VARIABLE = "DV_LEDGER"
"""Names the file. Without it, and once the file is gone as the run has ended, nothing is noted."""
RUN_COMMIT, RUN_TOP = "DV_COMMIT", "DV_RUN_TOP"
"""Name the commit of a run, and the top of the worktree that it is a run of."""
NOTED_MAX = 16_384
"""So many entries are remembered as noted, lest an epoch of few files note them repeatedly."""
_LINE = re.compile(rb'([0-9a-f]{64}) (".*")')


def commit_of_run(top: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the commit of the run that this process is part of, if `top` is its worktree."""
    commit, run_top = environ.get(RUN_COMMIT), environ.get(RUN_TOP)
    if not commit or not run_top or top is None:
        return None
    return commit if os.path.realpath(top) == run_top else None


class ReadEntry(msgspec.Struct, frozen=True):
    """An entry that was read."""

    blake3: str
    """BLAKE3 of its content, in hex."""
    path: str
    """Its path from the top of the worktree."""


class _Ledger:
    """The open file, and what this process noted there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.noted: set[bytes] = set()
        try:
            self.fd: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            self.fd = None

    def note(self, line: bytes) -> None:
        if self.fd is None or line in self.noted:
            return
        # The line break before it keeps apart what a process that was killed may have begun.
        data = b"\n" + line + b"\n"
        if os.write(self.fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        if len(self.noted) >= NOTED_MAX:
            self.noted.clear()
        self.noted.add(line)


_ledger: _Ledger | None = None
_opening = threading.Lock()


class EntryContent(Protocol):
    """An entry of a snapshot: its path from the top, and the digest of its content."""

    @property
    def path(self) -> str:
        """The path."""

    @property
    def digest(self) -> Digest:
        """The digest."""


def note_reads(entries: Iterable[EntryContent]) -> None:
    """Note that entries were read, if a run asks for it; OSError where that cannot be written."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    global _ledger
    ledger = _ledger
    if ledger is None or ledger.path != name:
        with _opening:
            ledger = _ledger
            if ledger is None or ledger.path != name:
                # The file of another run stays open: a thread may be writing there.
                ledger = _ledger = _Ledger(name)
    for entry in entries:
        ledger.note(ledger_line(ReadEntry(entry.digest.hex(), entry.path)))


def ledger_line(entry: ReadEntry) -> bytes:
    """Return the line of an entry, without its line break."""
    return f"{entry.blake3} {json.dumps(entry.path)}".encode("ascii")


def entry_of(line: bytes) -> ReadEntry | None:
    """Return the entry of a line; None for what is no whole line."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        path = json.loads(match[2])
    except ValueError:
        return None
    entry = ReadEntry(match[1].decode("ascii"), path)
    return entry if ledger_line(entry) == line else None


def lines_in(path: str) -> Iterator[bytes]:
    """Yield the whole lines of a ledger in the order in which they were written."""
    with open(path, "rb") as file:
        for line in file:
            text = line.rstrip(b"\n")
            if entry_of(text) is not None:
                yield text
