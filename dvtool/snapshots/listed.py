"""One path of a manifest or a snapshot, as listings show it."""

from __future__ import annotations

from typing import ClassVar

from dvtool.format.shown import ShownEntry


class Listed(ShownEntry, frozen=True, omit_defaults=True, kw_only=True):
    """One path of a listing."""

    json_keys: ClassVar = ("path", "target", "type", "size", "blake3", "exec", "symlink")

    path: str
    """Its path from the top of the worktree."""
    target: str
    """The target that it is in, from the top of the worktree; "" for a folder above targets."""
