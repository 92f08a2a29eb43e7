"""merge: three manifests into one, entry by entry; and resolve: settling what conflicts.

A conflict leaves our side in place, so the manifest stays valid; git keeps the manifest as
unmerged, with all three versions in its index. From those the conflicts can be worked out again at
any time, so a merge made without the driver is settled in the same way.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from dvtool.atomic import write_bytes
from dvtool.compare import differences, differing
from dvtool.digest import digest_of
from dvtool.errors import ManifestError, UsageError, printable
from dvtool.manifest import (
    SUFFIX,
    Built,
    Entries,
    Entry,
    LoadShard,
    Manifest,
    decode,
    update,
)
from dvtool.project import Project
from dvtool.selection import Selection

Side: TypeAlias = Literal["ours", "theirs", "both"]
Changes: TypeAlias = dict[str, Entry | None]
"""Path -> what it became; None where it was removed."""
BASE, OURS, THEIRS = 1, 2, 3
"""git's stages of an unmerged path."""


class Conflict(msgspec.Struct, frozen=True):
    """One entry that both sides changed, to different things (None: removed it)."""

    path: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


@dataclass(slots=True)
class Merged:
    """What a merge comes to: changes to our manifest, and what it could not decide."""

    changes: Changes = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


def merge(
    base: Manifest | None, ours: Manifest, theirs: Manifest, load_shard: LoadShard
) -> tuple[Built, list[Conflict]]:
    """Merge two manifests that come from `base`; shards that all have are not loaded.

    The result has our side of each conflict.
    """
    if ours.kind != theirs.kind:
        raise ManifestError("one side made a file of what is a folder on the other")
    if base is not None and base.kind != ours.kind:
        base = None
    old = differing(base, ours, load_shard)
    other = differing(base, theirs, load_shard)
    merged = merge_changes(old, other)
    return update(ours, merged.changes, load_shard), merged.conflicts


def merge_changes(ours: tuple[Entries, Entries], theirs: tuple[Entries, Entries]) -> Merged:
    """Merge two pairs of (base, side), each as far as the side differs from the base.

    A rename on one side carries the other side's change of the file to the new name.
    """
    mine, others = _changes(*ours), _changes(*theirs)
    moved, moved_there = _renames(*ours), _renames(*theirs)
    merged = Merged()
    for path, entry in others.items():
        if path not in mine:
            merged.changes.setdefault(path, entry)
        elif mine[path] == entry:
            continue
        elif mine[path] is None and path in moved and moved[path] not in others:
            merged.changes[moved[path]] = entry
        elif entry is None and path in moved_there and moved_there[path] not in mine:
            merged.changes[moved_there[path]] = mine[path]
            merged.changes[path] = None
        else:
            base = ours[0].get(path) or theirs[0].get(path)
            merged.conflicts.append(Conflict(path, base, mine[path], entry))
    _settle_nesting(merged, mine)
    return merged


def _changes(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Changes:
    return {path: new.get(path) for path in sorted({*old, *new}) if old.get(path) != new.get(path)}


def _renames(old: Entries, new: Entries) -> dict[str, str]:
    return {
        change.source: change.path
        for change in differences(old, new)
        if change.change == "renamed" and change.source is not None
    }


def _settle_nesting(merged: Merged, mine: Changes) -> None:
    """Where one side has a file and the other something below that name, that is a conflict.

    An empty folder on one side simply is no longer empty.
    """
    present = {path: entry for path, entry in (mine | merged.changes).items() if entry is not None}
    for path in sorted(present):
        parent = posixpath.dirname(path)
        while parent:
            above = present.get(parent)
            if above is not None and above.dir:
                merged.changes[parent] = None
            elif above is not None:
                _conflict_between(merged, mine, parent if parent in merged.changes else path)
            parent = posixpath.dirname(parent)


def _conflict_between(merged: Merged, mine: Changes, path: str) -> None:
    entry = merged.changes.pop(path, None)
    if entry is not None:
        merged.conflicts.append(Conflict(path, None, mine.get(path), entry))


# --- what is recorded of conflicts ----------------------------------------------------------


class Record(msgspec.Struct):
    """The conflicts still open in one manifest; `stages` tells to which merge they belong."""

    target: str
    stages: list[str]
    conflicts: list[Conflict]


def _record_path(project: Project, target: str) -> str:
    name = digest_of(target.encode("utf-8", "surrogateescape")).hex()[:32]
    return os.path.join(project.git.git_dir, "dv", "conflicts", name + ".json")


def _read_record(project: Project, target: str) -> Record | None:
    try:
        with open(_record_path(project, target), "rb") as file:
            return msgspec.json.decode(file.read(), type=Record)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write_record(project: Project, record: Record) -> None:
    path = _record_path(project, record.target)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_bytes(path, msgspec.json.encode(record))


def _forget(project: Project, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_record_path(project, target))


# --- unmerged manifests in git's index ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unmerged:
    """A manifest that git has as unmerged. A side that removed the target is None."""

    target: str
    base: Manifest | None
    ours: Manifest | None
    theirs: Manifest | None
    stages: tuple[str, ...]


def unmerged(project: Project) -> list[Unmerged]:
    """Return the manifests that a merge, rebase, cherry-pick or stash left unmerged."""
    found = []
    for path, stages in sorted(project.git.conflicts_in_index().items()):
        sides = {
            stage: decode(project.git.read_blob(blob), f"{path} (stage {stage})")
            for stage, blob in stages.items()
        }
        found.append(
            Unmerged(
                path.removesuffix(SUFFIX),
                sides.get(BASE),
                sides.get(OURS),
                sides.get(THEIRS),
                tuple(f"{stage}:{blob}" for stage, blob in sorted(stages.items())),
            )
        )
    return found


def conflicts(project: Project, one: Unmerged) -> list[Conflict]:
    """Return the entries of an unmerged manifest that are still to be settled.

    A side that removed the whole target conflicts in every entry that the other side changed.
    """
    record = _read_record(project, one.target)
    if record is not None and record.stages == list(one.stages):
        return record.conflicts
    ours, theirs = _sides(one)
    return merge(one.base, ours, theirs, project.store.load_shard)[1]


def _sides(one: Unmerged) -> tuple[Manifest, Manifest]:
    kind = next(side.kind for side in (one.ours, one.theirs, one.base) if side is not None)
    nothing = Manifest(kind, {})
    return one.ours or nothing, one.theirs or nothing


@dataclass(frozen=True, slots=True)
class Resolved:
    """What `resolve` did to one target: entries settled now, and still open."""

    target: str
    settled: tuple[str, ...]
    left: tuple[str, ...]
    manifest: Manifest | None


def resolve(project: Project, one: Unmerged, selection: Selection, side: Side | None) -> Resolved:
    """Settle the selected conflicts of a target for one side, and stage it when none is left.

    Without a side only what does not truly conflict is settled.
    """
    ours, theirs = _sides(one)
    open_before = {conflict.path: conflict for conflict in conflicts(project, one)}
    manifest = _in_place(project, one, ours, theirs)
    chosen = [c for path, c in open_before.items() if side and selection.matches(path)]
    if side and not chosen and open_before and not selection.whole:
        raise UsageError(f"no conflict in {printable(one.target)} matches")
    changes: Changes = {}
    for conflict in chosen:
        changes.update(_settled(conflict, side, project.entries(manifest)))
    built = update(manifest, changes, project.store.load_shard)
    project.store.put_shards(built.shards)
    left = [conflict for path, conflict in open_before.items() if conflict not in chosen]
    gone = not built.manifest.files and (one.ours is None or one.theirs is None) and not left
    if gone:
        project.workspace.remove(one.target + SUFFIX)
    else:
        project.write_manifest(one.target, built.manifest)
    if left:
        _write_record(project, Record(one.target, list(one.stages), left))
    else:
        _forget(project, one.target)
        if gone:
            project.git.remove_staged([one.target + SUFFIX])
        else:
            project.git.stage([one.target + SUFFIX])
    return Resolved(
        one.target,
        tuple(conflict.path for conflict in chosen),
        tuple(conflict.path for conflict in left),
        None if gone else built.manifest,
    )


def _in_place(project: Project, one: Unmerged, ours: Manifest, theirs: Manifest) -> Manifest:
    """Return the merge so far: as recorded when entries were settled, or made now."""
    record = _read_record(project, one.target)
    if record is not None and record.stages == list(one.stages):
        with contextlib.suppress(ManifestError):
            return project.manifest(one.target)
    built, _ = merge(one.base, ours, theirs, project.store.load_shard)
    project.store.put_shards(built.shards)
    return built.manifest


def _settled(conflict: Conflict, side: Side | None, entries: Entries) -> Changes:
    path = conflict.path
    if side == "ours":
        return {path: conflict.ours}
    in_the_way = [p for p in entries if p.startswith(path + "/") or path.startswith(p + "/")]
    if side == "theirs":
        gone = dict.fromkeys(in_the_way) if conflict.theirs else {}
        return {**gone, path: conflict.theirs}
    if conflict.theirs is None or (conflict.ours is None and not in_the_way):
        return {path: conflict.ours or conflict.theirs}
    return {path: conflict.ours, name_for_other(path, entries): conflict.theirs}


def name_for_other(path: str, taken: Iterable[str]) -> str:
    """Return a free name for their version of a file: ``cat.theirs.jpg``."""
    names = set(taken)
    stem, extension = posixpath.splitext(path)
    candidate, number = f"{stem}.theirs{extension}", 2
    while candidate in names:
        candidate, number = f"{stem}.theirs-{number}{extension}", number + 1
    return candidate
