"""Texts of manifests that JSON decoders let pass and the format refuses.

Order, spacing and escapes are free, since git merges manifests as text. A path named twice, a
value that only repeats a default (``"exec": false``) or says nothing (``null``), and a number
of another form are refused: no text that dvtool wrote or git merged has them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dvtool.errors import ManifestError, listing
from dvtool.system.lazy import later

if TYPE_CHECKING:
    import json
else:
    json = later("json")

_FORMS: tuple[set[str], ...] = (
    {"blake3", "size"},
    {"blake3", "size", "exec"},
    {"symlink"},
    {"dir"},
)


def refuse_loose(text: bytes, name: str) -> dict[str, Any]:
    """Refuse a text that is not canonical for what the decoder let pass; return what it says."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        times = Counter(key for key, _ in pairs)
        if len(times) != len(pairs):
            twice = sorted(key for key, count in times.items() if count > 1)
            raise ManifestError(f"{name}: names a path twice:\n{listing(twice)}")
        return dict(pairs)

    def plain(number: str) -> int:
        if number.startswith("-"):
            raise ManifestError(f"{name}: has the number {number}, and none there is below zero")
        return int(number)

    document: dict[str, Any] = json.loads(text, object_pairs_hook=unique, parse_int=plain)
    if None in document.values():
        raise ManifestError(f"{name}: has null where {'entries'!r} or {'shards'!r} should be")
    for path, entry in (document.get("entries") or {}).items():
        keys = set(entry)
        if keys not in _FORMS or entry.get("exec", True) is not True:
            raise ManifestError(f"{name}: {path!r} has keys that no entry has together")
    return document
