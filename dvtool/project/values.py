"""The meaning of a setting's text: truth, sizes, numbers, choices, paths."""

from __future__ import annotations

import os
import re

from dvtool.project.keys import Key
from dvtool.remotes.transports.declaration import Value

# Patterns as text: they are compiled only where something is set.
_SIZE = r"([0-9]{1,19}) *([kmgt]?)(i?b)?"
_SIZE_MAX_BYTES = (1 << 63) - 1
_WHOLE_NUMBER = r"[0-9]{1,9}"
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off", ""})


def parse_value(key: Key, text: str) -> Value:
    """Return the value that `text` spells; ValueError (a predicate, without the value) if none.

    The value is not in the message since people paste credentials into urls. The empty text says
    that a ``str`` has no value: so a stronger file can undo the setting of a weaker one.
    """
    if not text.isprintable():
        raise ValueError("holds control characters or is not UTF-8")
    match key.kind:
        case "bool":
            return _parse_bool(text)
        case "size":
            return _parse_size(text)
        case "int":
            if not re.fullmatch(_WHOLE_NUMBER, text):
                raise ValueError("is not a whole number of at most nine digits")
            return int(text)
        case "choice":
            if text not in key.choices:
                raise ValueError(f"is none of: {', '.join(key.choices)}")
            return text
        case "path":
            if text and not os.path.isabs(os.path.expanduser(text)):
                raise ValueError("is not an absolute path")
        case "str":
            if text and key.check is not None:
                key.check(text)
    return text or None


def _parse_bool(text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    if re.fullmatch(_WHOLE_NUMBER, word):
        return int(word) != 0
    raise ValueError("is neither true nor false")


def _parse_size(text: str) -> int:
    """Return bytes: ``k``, ``KiB`` and so on are powers of 1024, ``kB`` and so on of 1000."""
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    if match is None or (match[3] and not match[2] and match[3].lower() == "ib"):
        raise ValueError("is not a size such as 500k, 10 MiB or 2G")
    base = 1000 if (match[3] or "").lower() == "b" else 1024
    power: int = "kmgt".index(match[2].lower()) + 1 if match[2] else 0
    size = int(match[1]) * int(base**power)
    if size > _SIZE_MAX_BYTES:
        raise ValueError("is larger than any file")
    return size
