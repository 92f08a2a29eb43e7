"""Conflicts that a merge left in manifests, worked out from git's index and from records.

git keeps an unmerged manifest with all three versions in its index. The conflicts are worked out
from these versions whenever they are asked for, so a merge made without the driver is settled in
the same way. Their existence, and which of them were settled, is recorded; see `records`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from dvtool.errors import DvError, ManifestError, UsageError, listing
from dvtool.format.manifest import Built, Entry, Manifest, decode, encode
from dvtool.format.merge import Conflict, merge, shards_needed
from dvtool.format.paths import SELF, SUFFIX
from dvtool.format.selection import Selection
from dvtool.project.parts import Project, require_worktree
from dvtool.verbs.resolve.records import (
    OpenConflicts,
    find_record,
    forget_other_records,
    is_any_recorded,
    is_recorded,
    keep_record,
    note_unmerged,
    records_in_force,
)
from dvtool.verbs.status import Fault, TargetStatus, mark_unpushed, status

Select: TypeAlias = Callable[[Sequence[str]], list[Selection]]
"""Returns what a command selects of these targets."""
BASE, OURS, THEIRS = 1, 2, 3
"""git's stages of an unmerged path."""


class Unmerged(msgspec.Struct, frozen=True):
    """A manifest that git has as unmerged. A side that removed the target is None.

    `stages` tells to which merge it belongs; `damage` says why a side cannot be read, and is then
    None here too.
    """

    target: str
    base: Manifest | None
    ours: Manifest | None
    theirs: Manifest | None
    stages: tuple[str, ...]
    damage: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the target is settled as one: a side lacks it, or it is a file on a side."""
        if self.ours is None or self.theirs is None:
            return True
        return self.ours.kind != self.theirs.kind or self.ours.kind == "file"


# --- what a merge left ----------------------------------------------------------------------


def _unmerged(target: str, texts: dict[int, bytes], stages: tuple[str, ...]) -> Unmerged:
    sides: dict[int, Manifest] = {}
    damage = None
    for stage, text in texts.items():
        try:
            sides[stage] = decode(text, f"{target + SUFFIX} (stage {stage})")
        except ManifestError as error:
            # Without a base, whatever the sides do not have alike conflicts: nothing is lost.
            damage = damage if stage == BASE else str(error)
    return Unmerged(
        target, sides.get(BASE), sides.get(OURS), sides.get(THEIRS), stages, damage=damage
    )


def unmerged_targets(
    project: Project, in_index: Mapping[str, Mapping[int, str]], *, mismerged: bool
) -> dict[str, Unmerged]:
    """Return target -> what a merge, rebase, cherry-pick or stash left, from git's index.

    With `mismerged`, or if conflicts of any target are recorded as open, also the manifests that
    git merged as text into what is no manifest.
    """
    left = {}
    for path, blobs in sorted(in_index.items()):
        target = path.removesuffix(SUFFIX)
        texts = {stage: project.git.read_blob(blob) for stage, blob in blobs.items()}
        stages = tuple(f"{stage}:{blob}" for stage, blob in sorted(blobs.items()))
        left[target] = _unmerged(target, texts, stages)
    if is_any_recorded(project):
        for record in records_in_force(project):
            left.setdefault(record.target, _recorded(project, record))
    if mismerged or is_any_recorded(project):
        left |= {
            target_left.target: target_left
            for target_left in _mismerged(project)
            if target_left.target not in left
        }
    return left


def _recorded(project: Project, record: OpenConflicts) -> Unmerged:
    """Return what a merge left that somebody has staged since, or committed."""
    pairs = (stage.partition(":") for stage in record.stages)
    texts = {int(number): project.git.read_blob(blob) for number, _, blob in pairs}
    return _unmerged(record.target, texts, tuple(record.stages))


def note_unmerged_targets(project: Project) -> dict[str, Unmerged]:
    """Record which manifests a merge left open; return them, and those recorded before."""
    left = unmerged_targets(project, project.git.conflicts_in_index(), mismerged=False)
    for unmerged in left.values():
        note_unmerged(project, unmerged.target, unmerged.stages)
    forget_other_records(project, left)
    return left


def record_conflicts(
    project: Project,
    path: str,
    sides: Mapping[str, bytes],
    manifest: Manifest,
    left: Sequence[Conflict],
) -> None:
    """Record the conflicts that git's merge of a manifest left, while git merges.

    `sides` has the texts of ``base`` (or nothing), ``ours`` and ``theirs``.
    """
    numbers = ((BASE, "base"), (OURS, "ours"), (THEIRS, "theirs"))
    texts = {number: sides[name] for number, name in numbers if sides[name]}
    stages = [f"{number}:{project.git.blob_id(text)}" for number, text in texts.items()]
    keep_record(project, path.removesuffix(SUFFIX), stages, encode(manifest), left)


def open_conflicts(project: Project) -> list[str]:
    """Return the targets with conflicts that are recorded and not settled, though staged."""
    targets = []
    for record in records_in_force(project):
        with contextlib.suppress(DvError):
            if conflicts(project, _recorded(project, record)):
                targets.append(record.target)
    return targets


def _mismerged(project: Project) -> list[Unmerged]:
    """Return the manifests that git merged as text into something that is no manifest.

    Of the merge that is under way, or that HEAD is; with those that were settled in part since.
    """
    damaged = {target for target in project.targets() if not _sound(project, target)}
    in_part = {target for target in project.targets() if is_recorded(project, target)}
    sides = project.git.merge_sides() if damaged or in_part else None
    mismerged = []
    for target in sorted(damaged | in_part) if sides else ():
        texts = {
            stage: text
            for stage, commit in zip((BASE, OURS, THEIRS), sides or (), strict=True)
            if commit and (text := project.git.blob_at(commit, target + SUFFIX)) is not None
        }
        unmerged = _unmerged(target, texts, tuple(side or "" for side in sides or ()))
        ours = target in damaged or find_record(project, target, unmerged.stages) is not None
        if ours and unmerged.ours is not None and unmerged.theirs is not None:
            mismerged.append(unmerged)
    return mismerged


def _sound(project: Project, target: str) -> bool:
    try:
        project.manifest(target)
    except ManifestError:
        return False
    return True


def conflicts(project: Project, unmerged: Unmerged) -> list[Conflict]:
    """Return the entries of an unmerged manifest that are still to be settled."""
    if unmerged.ours is None or unmerged.theirs is None or unmerged.whole:
        return whole_conflict(unmerged)
    record = find_record(project, unmerged.target, unmerged.stages)
    if record is not None and record.conflicts is not None:
        return record.conflicts
    return merged(project, unmerged.base, unmerged.ours, unmerged.theirs)[1]


def whole_conflict(unmerged: Unmerged) -> list[Conflict]:
    """Return the conflict of a target that is settled as one; none if it has an answer."""
    sides = (unmerged.base, unmerged.ours, unmerged.theirs)
    if unmerged.damage is None and decided(unmerged) is not None:
        return []
    base, ours, theirs = (_decoded_entry(side) for side in sides)
    return [Conflict(SELF, base, ours, theirs)]


def decided(unmerged: Unmerged) -> Manifest | None:
    """Return what two whole sides come to where only one of them changed, or both alike."""
    if unmerged.ours == unmerged.theirs or unmerged.base == unmerged.theirs:
        return unmerged.ours
    return unmerged.theirs if unmerged.base == unmerged.ours else None


def _decoded_entry(manifest: Manifest | None) -> Entry | None:
    if manifest is None:
        return None
    return (manifest.entries or {}).get(SELF, Entry(dir=True))


def merged(
    project: Project, base: Manifest | None, ours: Manifest, theirs: Manifest
) -> tuple[Built, list[Conflict]]:
    """Merge versions of a manifest by entry; return the result, with ours where entries conflict.

    The shards of the versions are fetched if need be; those of the result are for the caller to
    put into the store.
    """
    project.shards.need(shards_needed(base, ours, theirs))
    return merge(base, ours, theirs, project.shards.load)


def refuse_conflicted(project: Project, targets: Sequence[str]) -> None:
    """Raise a UsageError for targets that a merge left open: staging them would settle it."""
    unmerged = project.git.conflicts_in_index()
    every = {path.removesuffix(SUFFIX) for path in unmerged} | set(open_conflicts(project))
    left = every.intersection(targets)
    if left:
        raise UsageError(
            f"a merge left conflicts in the manifests of:\n{listing(sorted(left))}",
            hint="settle them first: dv resolve (dv status lists them)",
        )


# --- what status shows ----------------------------------------------------------------------


def status_with_conflicts(
    project: Project, select: Select, address: Callable[[], str | None] | None = None
) -> list[TargetStatus]:
    """Return the state of the targets that `select` chooses, with their conflicts.

    `address` gives the address of the default remote, by which it is remembered; without it nothing
    is said of what is not pushed. SetupError in a bare repository.
    """
    require_worktree(project.git)
    try:
        return _status(project, select, address, mismerged=False)
    except ManifestError:
        # Rare, and costly to look for: a manifest that git merged as text need not be one any more.
        return _status(project, select, address, mismerged=True)


def _status(
    project: Project,
    select: Select,
    address: Callable[[], str | None] | None,
    *,
    mismerged: bool,
) -> list[TargetStatus]:
    seen = project.git.overview()
    left = unmerged_targets(project, seen.conflicts, mismerged=mismerged)
    if seen.conflicts:
        note_unmerged_targets(project)
    # A manifest that was deleted and is in HEAD shows in status, too.
    paths = {*seen.worktree, *seen.committed} - seen.left_out
    known = {path.removesuffix(SUFFIX) for path in paths}
    selections = select(sorted({*known, *left}))
    open_in: dict[str, list[Conflict]] = {}
    problems: dict[str, str] = {}
    for target in (selection.target for selection in selections if selection.target in left):
        open_in[target] = []
        try:
            open_in[target] = conflicts(project, left[target])
        except DvError as error:  # a shard that is neither here nor to be had
            problems[target] = f"cannot be compared: {error}"
        if left[target].damage is not None:
            problems[target] = f"cannot be compared: {left[target].damage}"
    results = status(project, selections, seen.committed, open_in)
    for result in results:
        if result.target in problems:
            result.faults.append(Fault(".", problems[result.target]))
    if address is not None and project.config.remotes():
        mark_unpushed(project, results, seen.committed, address())
    return results
