"""How a file stands to its entry: the three-way question of base, manifest and file."""

from __future__ import annotations

from typing import Literal, TypeAlias

from dvtool.format.manifest import Entry

Standing: TypeAlias = Literal["clean", "outdated", "modified", "conflicting"]
"""`outdated`: the manifest changed since the file was put there. `modified`: the file changed.
`conflicting`: both did, to different things."""


def standing(base: Entry | None, manifest: Entry | None, file: Entry | None) -> Standing:
    """Say how a file stands to its entry; None: there is no entry, or no file.

    `base` is the entry that the workspace was last given, or that was last added from there.
    """
    if file == manifest:
        return "clean"
    if file == base:
        return "outdated"
    return "modified" if base == manifest else "conflicting"
