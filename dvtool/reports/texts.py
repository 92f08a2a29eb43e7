"""Texts for a report: the lines that differ."""

from __future__ import annotations

import difflib
import itertools
from typing import IO

TEXT_BYTES_MAX = 1 << 20
LINES_COMPARED_MAX = 3_000
"""Comparing takes time that grows with the square of lines; of more only the first are compared."""
LINES_SHOWN_MAX = 120
LINE_LENGTH_MAX = 240


def read_lines(file: IO[bytes]) -> list[str]:
    """Return the lines of a text file; ValueError if it is none."""
    data = file.read(TEXT_BYTES_MAX + 1)
    if b"\0" in data:
        raise ValueError("it is no text")
    return data.decode("utf-8").splitlines()


def text_difference(old: list[str], new: list[str]) -> tuple[list[str], str | None]:
    """Return the lines of a unified diff, and how much was left out; None if nothing was."""
    before = [_cut(line) for line in old[:LINES_COMPARED_MAX]]
    after = [_cut(line) for line in new[:LINES_COMPARED_MAX]]
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    shown = list(itertools.islice(lines, 2, LINES_SHOWN_MAX + 2))  # without the two headers
    more = sum(1 for _ in lines)
    notes = []
    if max(len(old), len(new)) > LINES_COMPARED_MAX:
        notes.append(f"the first {LINES_COMPARED_MAX:,} lines were compared")
    if more:
        notes.append(f"{more:,} more lines of the diff are not shown")
    if not shown and old != new:
        notes.append(f"lines differ only behind their first {LINE_LENGTH_MAX} characters")
    return shown, "; ".join(notes) or None


def _cut(line: str) -> str:
    return line if len(line) <= LINE_LENGTH_MAX else line[: LINE_LENGTH_MAX - 1] + "…"
