"""One path of a manifest or a snapshot, as listings show it."""

from __future__ import annotations

from typing import ClassVar

from dvtool.format.manifest import Manifest
from dvtool.format.shown import ShownEntry


class Listed(ShownEntry, frozen=True, omit_defaults=True, kw_only=True):
    """One path of a listing."""

    json_keys: ClassVar = ("path", "target", "type", "size", "blake3", "exec", "symlink", "source")

    path: str
    """Its path from the top of the worktree."""
    target: str
    """The target that it is in, from the top of the worktree; "" for a folder above targets."""
    source: str | None = None
    """The address of the source that keeps the bytes of a file, if it was imported by reference."""


def source_of_files(manifest: Manifest) -> str | None:
    """Return the address of the source that keeps a target's bytes; None if remotes do."""
    source = manifest.source
    return source.url if source is not None and source.reference else None
