"""Pieces of the page. All text of others goes through `text`, so that it is never markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from dvtool.errors import printable, size_text

SHOWN_LENGTH_MAX = 400
_ADDRESS = re.compile("(https?):", re.IGNORECASE)


def text(foreign: str) -> str:
    """Return text of others as it may stand in the page, in quotes too: no markup, no controls.

    The colon of an address is a reference, so that a search for what a page loads finds none.
    """
    cut = foreign if len(foreign) <= SHOWN_LENGTH_MAX else foreign[: SHOWN_LENGTH_MAX - 1] + "…"
    safe = printable(cut.encode("utf-8", "backslashreplace").decode())
    escaped = html.escape(safe, quote=True)
    return _ADDRESS.sub(r"\1&#58;", escaped)


def growth(size: int) -> str:
    """Return a change in bytes with its sign: ``+4.0 KiB``, ``−1 B``, ``±0 B``."""
    return f"{'+' if size > 0 else '−' if size < 0 else '±'}{size_text(abs(size))}"


_COLUMN_KINDS = {"#": "number", "/": "path", ".": "word"}


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, stacks: bool = False
) -> str:
    """Return a table of cells that are markup; it scrolls by itself, also with the keyboard.

    In a narrow window one that `stacks` has the last cell of each row below the others.

    A column whose name begins with ``#`` is one of numbers, with ``/`` of paths, with ``.`` of
    words that stay in one line.
    """
    kinds = [_COLUMN_KINDS.get(name[:1], "value") for name in head]
    heads = "".join(
        f'<th scope="col" class="{kind}">{name.lstrip("#/.")}</th>'
        for name, kind in zip(head, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    label = text(caption)
    return (
        f'<div class="scroll{" stacks" if stacks else ""}" tabindex="0" role="region" '
        f'aria-label="{label}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
