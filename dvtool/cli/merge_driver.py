"""``dv merge-driver``: what git runs to merge a manifest. Not for people."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.output import count_text
from dvtool.errors import DvError, ManifestError, printable

if TYPE_CHECKING:
    from dvtool.format.manifest import Built, Entries, Manifest
    from dvtool.format.merge import Conflict

CONFIG_FILE = ".dvconfig"
_FILE = click.Path(exists=True, dir_okay=False)


@command(
    "merge-driver",
    examples=("dv merge-driver BASE OURS THEIRS PATH   # git does, see docs/merging.md",),
    exits=(4, 6, 7, 9),
    fails="entries conflict, and OURS has our side of them; or failed",
)
@click.argument("base", type=_FILE)
@click.argument("ours", type=_FILE)
@click.argument("theirs", type=_FILE)
@click.argument("path")
def merge_driver(frame: Frame, base: str, ours: str, theirs: str, path: str) -> None:
    """Merge three versions of the manifest PATH by entry, or of .dvconfig by key, into OURS.

    For git, which runs it from the top of the worktree. When it fails OURS is left as it is.
    """
    if path == CONFIG_FILE:
        _merge_config(frame, base, ours, theirs)
        return
    from dvtool.format.manifest import decode, encode
    from dvtool.format.paths import SUFFIX
    from dvtool.system.atomic import write_bytes

    texts = {
        name: _read(file) for name, file in (("base", base), ("ours", ours), ("theirs", theirs))
    }
    sides = {
        name: decode(text, f"{path} ({name})") if text or name != "base" else None
        for name, text in texts.items()
    }
    own, other = sides["ours"], sides["theirs"]
    if own is None or other is None:
        raise ManifestError(f"{printable(path)}: a side of the merge is empty")
    built, conflicts = _merge(frame, sides["base"], own, other)
    write_bytes(ours, encode(built.manifest))
    if conflicts:
        _record(frame, path, texts, built.manifest, conflicts)
        count = count_text(len(conflicts), "conflict")
        target = printable(path.removesuffix(SUFFIX))
        frame.screen.note(f"{count} in {target}: dv status lists them, dv resolve settles them")
        raise click.exceptions.Exit(1)


def _merge_config(frame: Frame, base: str, ours: str, theirs: str) -> None:
    from dvtool.hooks.config_merge import merge_config

    conflicts = merge_config(os.getcwd(), base, ours, theirs)
    if conflicts:
        names = ", ".join(map(printable, conflicts))
        frame.screen.note(f"both sides changed {names}: settle that in {CONFIG_FILE}, then git add")
        raise click.exceptions.Exit(1)


def _record(
    frame: Frame,
    path: str,
    texts: Mapping[str, bytes],
    manifest: Manifest,
    conflicts: Sequence[Conflict],
) -> None:
    """Record the conflicts, so that they outlive `git add -A`; git has them in any case."""
    with contextlib.suppress(DvError, OSError), frame.repo(required=False) as repo:
        repo.for_git.record_conflicts(path, texts, manifest, conflicts)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _merge(
    frame: Frame, base: Manifest | None, ours: Manifest, theirs: Manifest
) -> tuple[Built, list[Conflict]]:
    from dvtool.format.manifest import ShardRef
    from dvtool.format.merge import merge

    def none_there(ref: ShardRef) -> Entries:
        raise AssertionError(ref)

    sharded = any(side is not None and side.shards for side in (base, ours, theirs))
    if not sharded:
        # Without opening the repository: quick, and whatever state its settings are in.
        built, conflicts = merge(base, ours, theirs, none_there)
        if not built.shards:
            return built, conflicts
    with frame.repo(required=False) as repo:
        return repo.for_git.merge(base, ours, theirs)
