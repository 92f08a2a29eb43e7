"""Notes for the log that a user may attach to a report: what was asked of whom, and why.

They go to the standard `logging`, to the logger of the part's name, `dvtool.git` or another, and
only if this process uses `logging` already: importing it takes as long as some commands. Who wants
the notes imports it and sets a level and a handler; the library sets none.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

TEXT_LENGTH_MAX = 2_000
NAMES_NOTED_MAX = 20
"""Of many files a note names no more."""
HIDDEN = "(hidden)"
_NAMES = "x-amz-|signature|credential|password|passwd|secret|token|extraheader"
_SECRETS = (
    (r"(?i)(authorization['\"]?\s*[:=]\s*).*", rf"\1{HIDDEN}"),
    (r"(://)[^/\s@'\"]*@", rf"\1{HIDDEN}@"),
    (r"(://[^\s?'\"]*\?)[^\s'\"]*", rf"\1{HIDDEN}"),
    (r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}", HIDDEN),
    (rf"(?i)((?:{_NAMES})[\w-]*+['\"]?\s*+[:=]\s*+)\S+", rf"\1{HIDDEN}"),
)
"""Patterns of credentials, and what is written in their place: user info and queries of URLs, key
ids of AWS, and the values of what is called by such a name. A pattern begins with a fixed text: one
that could begin at any letter would take the square of a long line's time."""
_TEXT_LOOKED_AT_MAX = 10 * TEXT_LENGTH_MAX
"""No more of a text is searched, so that a text made for it costs little."""


class Log:
    """Takes the notes of one part of dvtool. A note is made only if somebody reads it."""

    def __init__(self, part: str) -> None:
        self._name = f"dvtool.{part}"

    @property
    def on(self) -> bool:
        """Whether somebody reads: for notes that are dear to make."""
        logging: Any = sys.modules.get("logging")
        get_logger = getattr(logging, "getLogger", None)  # not there yet while it is imported
        return get_logger is not None and bool(get_logger(self._name).isEnabledFor(logging.DEBUG))

    def note(self, text: str, *values: object) -> None:
        """Note a text, with values for ``%s`` and the like in it; credentials are hidden."""
        if self.on:
            logger = sys.modules["logging"].getLogger(self._name)
            logger.debug("%s", without_secrets(text % values if values else text))


def without_secrets(text: str) -> str:
    """Return a text without what may be a credential, on one line, and not too long."""
    length = len(text)
    text = text[:_TEXT_LOOKED_AT_MAX]
    for pattern, instead in _SECRETS:
        text = re.sub(pattern, instead, text)
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    if len(text) > TEXT_LENGTH_MAX:
        text = f"{text[:TEXT_LENGTH_MAX]}… ({length:,} characters)"
    return text


class Watch:
    """Says how long something took, from when it was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def __str__(self) -> str:
        return f"{(time.monotonic() - self._began_s) * 1000:,.0f} ms"
