"""Three manifests into one, entry by entry. Values in, values out: nothing here touches a disk.

A conflict leaves our side in place, so the result is a manifest in any case. Given the three
manifests, the conflicts can be worked out again at any time.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec
from msgspec import structs

from dvtool.errors import ManifestError
from dvtool.format.compare import differences, entries_but, shard_hashes
from dvtool.format.manifest import (
    Built,
    Entries,
    Entry,
    LoadShard,
    Manifest,
    ShardRef,
    manifest_digest,
    update,
)
from dvtool.format.paths import SOURCE_PATH
from dvtool.format.source import DataSource, as_edited, merge_sources, same_but_edits

Changes: TypeAlias = dict[str, Entry | None]
"""Path -> what it became; None where it was removed."""
Pair: TypeAlias = tuple[Entries, Entries]
"""The entries of the base and of one side, as far as the two may differ."""


class Conflict(msgspec.Struct, frozen=True):
    """One entry that both sides changed differently (None: the side removed it)."""

    path: str
    """The path in the target; '.' for a target that is one file; '/source', without versions, if
    both sides changed where the data comes from."""
    base: Entry | None
    """The entry that both sides come from; null if both added it."""
    ours: Entry | None
    """Our side; null if we removed it."""
    theirs: Entry | None
    """The other side; null if they removed it."""

    @property
    def of_source(self) -> bool:
        """Whether it is about where the data comes from, and not about an entry."""
        return self.path == SOURCE_PATH


class Merged(msgspec.Struct):
    """The result of a merge: changes to our manifest, and the conflicts."""

    changes: Changes = msgspec.field(default_factory=dict)
    conflicts: list[Conflict] = msgspec.field(default_factory=list)


def merge(
    base: Manifest | None, ours: Manifest, theirs: Manifest, load_shard: LoadShard
) -> tuple[Built, list[Conflict]]:
    """Merge two manifests that come from `base`; shards that the sides share are not loaded.

    The result has our side of each conflict. ManifestError if one side is a file, one a folder.
    """
    if ours.kind != theirs.kind:
        raise ManifestError("one side made a file of what is a folder on the other")
    if base is not None and base.kind != ours.kind:
        base = None
    loaded: dict[str, Entries] = {}

    def load(ref: ShardRef) -> Entries:
        if ref.blake3 not in loaded:
            loaded[ref.blake3] = load_shard(ref)
        return loaded[ref.blake3]

    in_base, in_ours, in_theirs = (shard_hashes(manifest) for manifest in (base, ours, theirs))
    # A shard that both sides have is the same change on both. Entries of the base that the shard
    # replaced count as removed by both, which changes nothing in ours either.
    our_pair = (entries_but(base, in_ours, load), entries_but(ours, in_base | in_theirs, load))
    their_pair = (entries_but(base, in_theirs, load), entries_but(theirs, in_base | in_ours, load))
    merged = merge_changes(our_pair, their_pair)
    built = update(ours, merged.changes, load)
    source, settled = _merged_source(base, ours, theirs, built.manifest)
    if not settled:
        merged.conflicts.insert(0, Conflict(SOURCE_PATH, None, None, None))
    return with_source(built, source), merged.conflicts


def with_source(built: Built, source: DataSource | None) -> Built:
    """Return the same entries and shards as of another source."""
    if built.manifest.source == source:
        return built
    return structs.replace(built, manifest=structs.replace(built.manifest, source=source))


def edited(built: Built) -> Built:
    """Return what was made from a manifest by a change of its entries: no more as it was taken."""
    return with_source(built, as_edited(built.manifest.source))


def source_after(merged: Manifest, chosen: Manifest) -> DataSource | None:
    """Return the source of a merged manifest for which that of one side was chosen.

    With other entries than that side's it is edited.
    """
    if chosen.source is None or manifest_digest(merged) == manifest_digest(chosen):
        return chosen.source
    return as_edited(chosen.source)


def _merged_source(
    base: Manifest | None, ours: Manifest, theirs: Manifest, merged: Manifest
) -> tuple[DataSource | None, bool]:
    """Return the source of the merged entries, and whether it is settled.

    If both sides changed it, it is that of the side whose very entries the merged ones are.
    """
    if ours.source == theirs.source:
        return source_after(merged, ours), True
    source, settled = merge_sources(base.source if base else None, ours.source, theirs.source)
    result = manifest_digest(merged)
    sides = [side for side in (ours, theirs) if manifest_digest(side) == result]
    if settled:
        exact = (side for side in sides if same_but_edits(side.source, source))
        winner = next(exact, None)
        return (as_edited(source) if winner is None else winner.source), True
    return (sides[0].source, True) if sides else (source, False)


def shards_needed(base: Manifest | None, ours: Manifest, theirs: Manifest) -> list[ShardRef]:
    """Return the shards that a merge will load, to be fetched at once; a few more may follow."""
    in_ours, in_theirs = shard_hashes(ours), shard_hashes(theirs)
    refs = [
        *(ref for ref in (base.shards if base else ()) if ref.blake3 not in in_ours & in_theirs),
        *(ref for ref in ours.shards if ref.blake3 not in in_theirs),
        *(ref for ref in theirs.shards if ref.blake3 not in in_ours),
    ]
    return list({ref.blake3: ref for ref in refs}.values())


# --- entries --------------------------------------------------------------------------------


def merge_changes(ours: Pair, theirs: Pair) -> Merged:
    """Merge the changes of two sides.

    A rename on one side carries the other side's change of the file to the new name, and a new
    executable bit goes with new content.
    """
    our_changes, their_changes = _changes_of(*ours), _changes_of(*theirs)
    our_renames, their_renames = _renames(*ours), _renames(*theirs)
    merged = Merged()
    sources: dict[str, str] = {}
    for path, entry in their_changes.items():
        if path not in our_changes:
            merged.changes.setdefault(path, entry)
            continue
        if our_changes[path] == entry:
            continue
        base = ours[0].get(path) or theirs[0].get(path)
        our_name, their_name = our_renames.get(path), their_renames.get(path)
        if our_name is not None and our_name not in their_changes:
            carried = _combined(base, our_changes[our_name], entry)
            if carried is not None:
                merged.changes[our_name] = carried
                continue
        if their_name is not None and their_name not in our_changes:
            carried = _combined(base, our_changes[path], their_changes[their_name])
            if carried is not None:
                merged.changes |= {their_name: carried, path: None}
                sources[their_name] = path
                continue
        both = _combined(base, our_changes[path], entry)
        if both is not None:
            merged.changes[path] = both
        else:
            merged.conflicts.append(Conflict(path, base, our_changes[path], entry))
    _Nesting(merged, our_changes, their_changes, ours[0] | theirs[0], sources).settle()
    merged.conflicts.sort(key=lambda conflict: conflict.path)
    return merged


def _changes_of(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Changes:
    return {path: new.get(path) for path in sorted({*old, *new}) if old.get(path) != new.get(path)}


def _renames(old: Entries, new: Entries) -> dict[str, str]:
    return {
        change.source: change.path
        for change in differences(old, new)
        if change.change == "renamed" and change.source is not None
    }


def _combined(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
    """Return a file with the content that one changed and the executable bit that either did."""
    if not (base and ours and theirs and base.is_file and ours.is_file and theirs.is_file):
        return None
    if ours.blake3 != theirs.blake3 and base.blake3 not in (ours.blake3, theirs.blake3):
        return None
    content = theirs if ours.blake3 == base.blake3 else ours
    executable = ours.exec if ours.exec == theirs.exec else not base.exec
    return Entry(blake3=content.blake3, size=content.size, exec=executable)


class _Nesting:
    """Finds conflicts in which one side has a file and the other side entries below that name.

    An empty folder on one side, with entries below it on the other, is no conflict: it goes.
    """

    def __init__(
        self,
        merged: Merged,
        our_changes: Changes,
        their_changes: Changes,
        base: Entries,
        sources: dict[str, str],
    ) -> None:
        self._merged = merged
        self._ours = our_changes
        self._theirs = their_changes
        self._base = base
        self._sources = sources
        """New name -> old name of files that they moved and we changed."""
        present = our_changes | merged.changes
        self._present = {path: entry for path, entry in present.items() if entry is not None}

    def settle(self) -> None:
        """Go through all entries until none is below a file."""
        # Each round but the last gives up some of their changes, so the loop ends.
        again = True
        while again:
            again = False
            for path in sorted(self._present):
                again = self._settle(path) or again

    def _settle(self, path: str) -> bool:
        changes = self._merged.changes
        gave_up = False
        for parent in parents(path):
            above = self._present.get(parent)
            if above is None or path not in self._present:
                continue
            if above.dir:
                changes[parent] = None
                del self._present[parent]
            else:
                ours_above = self._ours.get(parent) is not None
                loser = (
                    path if path in changes and (ours_above or parent not in changes) else parent
                )
                self._give_up(loser)
                gave_up = True
        return gave_up

    def _give_up(self, path: str) -> None:
        """Leave our side in place at a path, and record a conflict."""
        theirs = self._merged.changes.pop(path)
        source = self._sources.pop(path, None)
        if source is not None:
            del self._merged.changes[source]
            theirs = self._theirs[path]
            self._conflict(source, None)
        self._conflict(path, theirs)

    def _conflict(self, path: str, theirs: Entry | None) -> None:
        base = self._base.get(path)
        ours = self._ours.get(path, base)
        if ours is None:
            self._present.pop(path, None)
        else:
            self._present[path] = ours
        self._merged.conflicts.append(Conflict(path, base, ours, theirs))


def parents(path: str) -> Iterator[str]:
    """Yield the folders above a path, nearest first."""
    while path := posixpath.dirname(path):
        yield path
