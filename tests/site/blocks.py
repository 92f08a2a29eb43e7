"""The code blocks of a page, and the comments that say how each is run.

A comment in HTML, which no reader sees, right before a block:

- `<!-- file: NAME -->`: the block is written to that file, and not run;
- `<!-- not run: REASON -->`: only the `dv` commands in it are parsed; `test_pages.py` lists the
  reasons;
- `<!-- output left out -->`: commands without output below them end with 0, and may print
  anything;
- `<!-- run` …commands… `-->`: a block of its own, which readers do not see.

`console` blocks have commands behind `$ `, which go on behind `> `, or behind a line that ends in a
backslash, and below each what it prints.
`python` blocks are run too; what they print is in a `text` block right behind.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parent.parent.parent
DOCS = PROJECT / "docs"
_BLOCK = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->|"
    r"^(?:<!-- (?P<word>file|not run|output left out)(?:: (?P<value>[^\n]*))? -->\n+)?"
    r"(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<body>.*?)^(?P=fence)$",
    re.M | re.S,
)


class Block(NamedTuple):
    """A block: `kind` is a language, "file" or "hidden"; `start` is where its body begins."""

    kind: str
    body: str
    start: int
    file: str = ""
    not_run: str = ""
    shortened: bool = False


class Step(NamedTuple):
    """A command of a console block, what it prints, or should by the page, and its exit code."""

    command: str
    shown: str
    status: int = 0


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page in order."""
    taken = []
    for match in _BLOCK.finditer(text):
        if match["hidden"] is not None:
            taken.append(Block("hidden", match["hidden"], match.start("hidden")))
            continue
        file = match["value"] if match["word"] == "file" else ""
        not_run = match["value"] if match["word"] == "not run" else ""
        kind = "file" if file else match["language"]
        shortened = match["word"] == "output left out"
        taken.append(Block(kind, match["body"], match.start("body"), file, not_run, shortened))
    return taken


def steps(body: str) -> list[Step]:
    """Return the commands of a console block."""
    parts: list[tuple[list[str], list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            parts.append(([line[2:]], []))
        elif parts and not parts[-1][1] and parts[-1][0][-1].endswith("\\"):
            parts[-1][0].append(line)
        elif line.startswith("> ") and parts and not parts[-1][1]:
            parts[-1][0].append(line[2:])
        elif parts:
            parts[-1][1].append(line)
        else:
            raise ValueError(f"a console block begins with a command, not with {line!r}")
    return [Step("\n".join(typed), "\n".join(shown)) for typed, shown in parts]


def written(taken: list[Step]) -> str:
    """Return the body of a console block that has these steps."""
    lines: list[str] = []
    for step in taken:
        typed = step.command.split("\n")
        lines.append(f"$ {typed[0]}")
        for before, line in itertools.pairwise(typed):
            lines.append(line if before.endswith("\\") else f"> {line}")
        lines += step.shown.splitlines()
    return "".join(f"{line}\n" for line in lines)
