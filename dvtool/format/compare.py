"""Comparing two manifests, or a manifest with the workspace, entry by entry."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import ClassVar, Literal, TypeAlias

import msgspec

from dvtool.format.manifest import Entries, Entry, LoadShard, Manifest, ShardRef

Change: TypeAlias = Literal["added", "removed", "modified", "renamed"]


class Difference(msgspec.Struct, frozen=True):
    """One changed path. `source` is the old path of a rename; a missing side is None."""

    json_keys: ClassVar = ("change", "path", "old_path", "old", "new")

    change: Change
    """added, modified, removed or renamed."""
    path: str
    """The path in the target now, or, of a removed entry, as it was."""
    old: Entry | None
    """Its entry before; null if it is new."""
    new: Entry | None
    """Its entry now; null if it is gone."""
    source: str | None = None

    @property
    def old_path(self) -> str | None:
        """The path before, which is another for a rename; null if the entry is new."""
        return self.source or (self.path if self.old else None)

    @property
    def growth(self) -> int:
        """By how many bytes the target grew."""
        return (self.new.bytes if self.new else 0) - (self.old.bytes if self.old else 0)


def differing(
    old: Manifest | None, new: Manifest | None, load_shard: LoadShard
) -> tuple[Entries, Entries]:
    """Return the entries of each side that may differ: shards that both have are never loaded."""
    shared = shard_hashes(old) & shard_hashes(new)
    return entries_but(old, shared, load_shard), entries_but(new, shared, load_shard)


def unshared_shards(old: Manifest | None, new: Manifest | None) -> list[ShardRef]:
    """Return the shards that only one of the two has, which a comparison loads."""
    shared = shard_hashes(old) & shard_hashes(new)
    refs = [*(old.shards if old else ()), *(new.shards if new else ())]
    return [ref for ref in refs if ref.blake3 not in shared]


def shard_hashes(manifest: Manifest | None) -> set[str]:
    """Return the hashes of the shards that a manifest lists; a small one lists none."""
    return {ref.blake3 for ref in manifest.shards} if manifest else set()


def entries_but(
    manifest: Manifest | None, left_out: Container[str], load_shard: LoadShard
) -> Entries:
    """Return a manifest's entries without those of the shards left out, which are not loaded."""
    if manifest is None:
        return {}
    if manifest.entries is not None:
        return manifest.entries
    entries: Entries = {}
    for ref in manifest.shards:
        if ref.blake3 not in left_out:
            entries.update(load_shard(ref))
    return entries


def differences(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[Difference]:
    """Return what changed from `old` to `new`, sorted by path.

    A file that is gone and one that is new, with the same bytes, are one rename.
    """
    removed = {path: entry for path, entry in old.items() if path not in new}
    added = {path: entry for path, entry in new.items() if path not in old}
    changes = [
        Difference("modified", path, old[path], entry)
        for path, entry in new.items()
        if path in old and old[path] != entry
    ]
    sources: dict[str, list[str]] = {}
    for path, entry in sorted(removed.items(), reverse=True):
        if entry.size > 0:
            sources.setdefault(entry.blake3, []).append(path)
    for path, entry in sorted(added.items()):
        candidates = sources.get(entry.blake3) if entry.size > 0 else None
        if candidates:
            source = candidates.pop()
            changes.append(Difference("renamed", path, removed.pop(source), entry, source))
        else:
            changes.append(Difference("added", path, None, entry))
    changes.extend(Difference("removed", path, entry, None) for path, entry in removed.items())
    return sorted(changes, key=lambda difference: difference.path)
