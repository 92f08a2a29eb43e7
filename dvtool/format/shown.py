"""An entry as results show it: with its kind, and no more than a thing of that kind has."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

EntryType: TypeAlias = Literal["file", "symlink", "folder"]


class ShownEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One path of a manifest: a file, a symlink or an empty folder."""

    type: EntryType
    """file, symlink or folder; only the keys that the type has are there."""
    size: int | None = None
    """Size of a file in bytes."""
    blake3: str | None = None
    """BLAKE3 of a file's content, in hex."""
    exec: bool | None = None
    """Whether a file has its executable bit."""
    symlink: str | None = None
    """Where a symlink leads, as it stands on the disk."""


def shown_entry(size: int, blake3: str, exec: bool, symlink: str) -> ShownEntry:
    """Return an entry of a manifest, given by its fields, as results show it."""
    if blake3:
        return ShownEntry("file", size, blake3, exec)
    return ShownEntry("symlink", symlink=symlink) if symlink else ShownEntry("folder")
