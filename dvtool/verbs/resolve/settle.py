"""resolve: settle what a merge left in manifests, for one side or both; the files follow."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import msgspec

from dvtool.errors import ManifestError, UsageError, printable
from dvtool.format.manifest import Built, Entry, Manifest, encode, update
from dvtool.format.merge import (
    Changes,
    Conflict,
    edited,
    parents,
    source_after,
    with_source,
)
from dvtool.format.paths import SELF, SOURCE_PATH, SUFFIX
from dvtool.format.selection import Selection
from dvtool.format.source import same_but_edits
from dvtool.project.parts import Project
from dvtool.system.lazy import later
from dvtool.verbs.resolve.conflicts import (
    Select,
    Unmerged,
    decided,
    merged,
    unmerged_targets,
    whole_conflict,
)
from dvtool.verbs.resolve.records import (
    find_record,
    forget_other_records,
    forget_record,
    keep_settled,
)
from dvtool.workspace.gitignore import ignore_target

if TYPE_CHECKING:
    from dvtool.verbs.checkout import follow
    from dvtool.verbs.checkout.follow import Followed
else:
    follow = later("dvtool.verbs.checkout.follow")

Side: TypeAlias = Literal["ours", "theirs", "both"]


class Resolved(msgspec.Struct, frozen=True):
    """The result of `resolve` for one target: entries settled now, and still open.

    `before` and `after` are our manifest before the merge and the one that is there now (None:
    the target is gone). `kept` is the target made to keep the other side of a whole one.
    """

    target: str
    settled: tuple[str, ...]
    left: tuple[str, ...]
    before: Manifest | None
    after: Manifest | None
    kept: str | None = None


class Settled(msgspec.Struct, frozen=True):
    """The result of `resolve` for one target, and for its files."""

    json_keys: ClassVar = (
        *("target", "settled", "left", "kept", "written", "written_bytes", "removed"),
        *("unsaved", "missing", "missing_bytes"),
    )

    resolved: Resolved
    stepped: tuple[Followed, ...]

    @property
    def target(self) -> str:
        """The target, as a path from the top of the worktree."""
        return self.resolved.target

    @property
    def settled(self) -> tuple[str, ...]:
        """Entries that are settled now, as paths in the target."""
        return self.resolved.settled

    @property
    def left(self) -> tuple[str, ...]:
        """Entries that are still in conflict, as paths in the target."""
        return self.resolved.left

    @property
    def kept(self) -> str | None:
        """The target made to keep the other side of a whole one; null if there was no need."""
        return self.resolved.kept

    @property
    def written(self) -> int:
        """How many files were written."""
        return sum(step.written for step in self.stepped)

    @property
    def written_bytes(self) -> int:
        """Bytes of these files."""
        return sum(step.written_bytes for step in self.stepped)

    @property
    def removed(self) -> int:
        """How many files were removed."""
        return sum(step.removed for step in self.stepped)

    @property
    def unsaved(self) -> tuple[str, ...]:
        """Files with changes that are saved nowhere, left as they are; from the worktree's top."""
        return tuple(path for step in self.stepped for path in step.unsaved)

    @property
    def missing(self) -> tuple[str, ...]:
        """Files whose content is not here, left as they are; from the worktree's top."""
        return tuple(path for step in self.stepped for path in step.missing)

    @property
    def missing_bytes(self) -> int:
        """Bytes of the content that is not here."""
        return sum(step.missing_bytes for step in self.stepped)


def resolve(
    project: Project, select: Select, side: Side | None, plan_only: bool = False
) -> list[Settled]:
    """Settle what merges left, as far as selected; the rest of the merge is done in any case.

    Without a side only what does not truly conflict is settled. The workspace follows, as far as
    that overwrites nothing unsaved and the store has it. A manifest that is merged but not in the
    form that dvtool gives it gets that form. With `plan_only` nothing is changed: the results have
    what would be settled and left, and tell nothing of files.
    """
    with project.lock():
        left = unmerged_targets(project, project.git.conflicts_in_index(), mismerged=True)
        if not plan_only:
            forget_other_records(project, left)
        selections = select(sorted({*project.targets(), *left}))
        settle = _plan_target if plan_only else _settle_target
        done = [
            settle(project, left[selection.target], selection, side)
            for selection in selections
            if selection.target in left
        ]
        if plan_only:
            return done
        for selection in selections:
            if selection.target not in left:
                done.extend(_normalised(project, selection.target))
        return done


def _plan_target(
    project: Project, unmerged: Unmerged, selection: Selection, side: Side | None
) -> Settled:
    """Return what settling a target would settle and leave; nothing is written."""
    if unmerged.ours is None or unmerged.theirs is None or unmerged.whole:
        whole = (SELF,) if whole_conflict(unmerged) else ()
        settled, still = ((), whole) if side is None else (whole, ())
        return Settled(Resolved(unmerged.target, settled, still, unmerged.ours, unmerged.ours), ())
    conflicts = _merged_so_far(project, unmerged, unmerged.ours, unmerged.theirs)[1]
    chosen, left = _told_apart(unmerged, selection, side, conflicts)
    return Settled(
        Resolved(
            unmerged.target,
            _conflict_paths(chosen),
            _conflict_paths(left),
            unmerged.ours,
            unmerged.ours,
        ),
        (),
    )


def _settle_target(
    project: Project, unmerged: Unmerged, selection: Selection, side: Side | None
) -> Settled:
    resolved = _resolve_target(project, unmerged, selection, side)
    stepped = [follow.follow(project, resolved.target, resolved.before, resolved.after)]
    if resolved.kept is not None:
        kept = project.manifest(resolved.kept)
        stepped.append(follow.follow(project, resolved.kept, None, kept))
    _stage_manifest(project, resolved)
    return Settled(resolved, tuple(stepped))


def _resolve_target(
    project: Project, unmerged: Unmerged, selection: Selection, side: Side | None
) -> Resolved:
    """Settle the selected conflicts of a target for one side, for `_stage` to tell git of.

    Without a side only what does not truly conflict is settled.
    """
    text = project.manifest_text(unmerged.target)
    if unmerged.ours is None or unmerged.theirs is None or unmerged.whole:
        return _resolve_whole(project, unmerged, side)
    built, open_before = _merged_so_far(project, unmerged, unmerged.ours, unmerged.theirs)
    project.store.put_shards(built.shards)
    manifest = built.manifest
    chosen, left = _told_apart(unmerged, selection, side, open_before)
    changes: Changes = {}
    for conflict in chosen:
        if conflict.path != SOURCE_PATH:
            _settle(project, manifest, changes, conflict, side)
    built = update(manifest, changes, project.shards.load)
    if any(conflict.path == SOURCE_PATH for conflict in chosen):
        winner = unmerged.theirs if side == "theirs" else unmerged.ours
        built = with_source(built, source_after(built.manifest, winner))
    elif changes:
        built = _edited_unless_a_sides(unmerged, built)
    project.store.put_shards(built.shards)
    # Kept even if no conflict is left: until the manifest is staged, the next look must not begin
    # anew.
    keep_settled(project, unmerged.target, unmerged.stages, encode(built.manifest), left)
    project.write_manifest(unmerged.target, built.manifest, instead_of=text)
    return Resolved(
        unmerged.target,
        _conflict_paths(chosen),
        _conflict_paths(left),
        unmerged.ours,
        built.manifest,
    )


def _merged_so_far(
    project: Project, unmerged: Unmerged, ours: Manifest, theirs: Manifest
) -> tuple[Built, Sequence[Conflict]]:
    """Return what is merged of a target so far, and the conflicts that are open in it."""
    before = find_record(project, unmerged.target, unmerged.stages)
    if before is not None and before.conflicts is not None:
        return Built(project.manifest(unmerged.target), ()), before.conflicts
    return merged(project, unmerged.base, ours, theirs)


def _told_apart(
    unmerged: Unmerged, selection: Selection, side: Side | None, conflicts: Sequence[Conflict]
) -> tuple[list[Conflict], list[Conflict]]:
    """Tell conflicts that a side settles from those that are left; UsageError if none is meant."""
    chosen = [c for c in conflicts if side is not None and selection.matches(c.path)]
    if side is not None and not chosen and conflicts and not selection.whole:
        raise UsageError(
            f"no conflict in {printable(unmerged.target)} matches",
            hint="dv status lists the conflicts",
        )
    return chosen, [conflict for conflict in conflicts if conflict not in chosen]


def _conflict_paths(conflicts: Sequence[Conflict]) -> tuple[str, ...]:
    return tuple(conflict.path for conflict in conflicts)


def _edited_unless_a_sides(unmerged: Unmerged, built: Built) -> Built:
    """Return a settled manifest with its source; edited, unless it is as a side has it."""
    for side in (unmerged.ours, unmerged.theirs):
        if side is not None and same_but_edits(side.source, built.manifest.source):
            source = source_after(built.manifest, side)
            if source == side.source:
                return with_source(built, source)
    return edited(built)


def _stage_manifest(project: Project, done: Resolved) -> None:
    """Tell git that a target is settled, if it is; its files are in step by then.

    Until then git has all sides, so that what ended in between can be repeated.
    """
    if done.left:
        return
    for target in (done.kept, done.target):
        if target is None:
            continue
        if project.manifest_text(target) is None:
            project.git.remove_staged([target + SUFFIX])
        else:
            ignored = ignore_target(project.workspace, target)
            project.git.stage([target + SUFFIX, *ignored])
    forget_record(project, done.target)


def _resolve_whole(project: Project, unmerged: Unmerged, side: Side | None) -> Resolved:
    text = project.manifest_text(unmerged.target)
    settled: tuple[str, ...] = ()
    if not whole_conflict(unmerged):
        chosen = decided(unmerged)
    elif side is None:
        return Resolved(unmerged.target, (), (SELF,), unmerged.ours, unmerged.ours)
    else:
        chosen, settled = (unmerged.theirs if side == "theirs" else unmerged.ours), (SELF,)
        if side == "both":
            chosen = unmerged.ours or unmerged.theirs
        if unmerged.damage is not None and (chosen is None or side == "both"):
            raise ManifestError(unmerged.damage, hint="take the side that can be read")
    kept = None
    if side == "both" and settled and unmerged.ours is not None and unmerged.theirs is not None:
        kept = _keep_beside(project, unmerged.target, unmerged.theirs)
    if chosen is None:
        project.remove_manifest(unmerged.target, instead_of=text)
    else:
        project.write_manifest(unmerged.target, chosen, instead_of=text)
    return Resolved(unmerged.target, settled, (), unmerged.ours, chosen, kept)


def _keep_beside(project: Project, target: str, manifest: Manifest) -> str:
    """Make a target of the other side, beside this one."""

    def taken(path: str) -> bool:
        if project.manifest_text(path) == encode(manifest):
            return False  # by this, before it was interrupted
        return any(project.workspace.stat(name) is not None for name in (path, path + SUFFIX))

    beside = name_for_other(target, taken)
    project.write_manifest(beside, manifest, instead_of=None)
    return beside


def _settle(
    project: Project, manifest: Manifest, changes: Changes, conflict: Conflict, side: Side | None
) -> None:
    """Add to `changes` what settles a conflict; ours is in place, unless it was pushed out."""
    path = conflict.path

    def is_taken(name: str) -> bool:
        if name in changes:
            return changes[name] is not None
        return name in project.entries_near(manifest, [name])

    if side == "ours":
        _put(project, manifest, changes, path, conflict.ours)
    elif side == "theirs":
        _put(project, manifest, changes, path, conflict.theirs)
    elif conflict.theirs is not None:
        in_the_way = _in_the_way(project, manifest, changes, path)
        if conflict.ours is None and not in_the_way:
            _put(project, manifest, changes, path, conflict.theirs)
        else:
            changes[name_for_other(path, is_taken)] = conflict.theirs


def _put(
    project: Project, manifest: Manifest, changes: Changes, path: str, entry: Entry | None
) -> None:
    if entry is not None:
        in_the_way = _in_the_way(project, manifest, changes, path)
        if entry.dir and any(name.startswith(path + "/") for name in in_the_way):
            return  # the folder is there, and not empty
        changes.update(dict.fromkeys(in_the_way))
    changes[path] = entry


def _in_the_way(project: Project, manifest: Manifest, changes: Changes, path: str) -> list[str]:
    """Return the entries above and below a path, of which none can be when a file is there."""
    above = list(parents(path))
    now = project.entries_near(manifest, [path, *above], above=[path]) | changes
    return [
        name
        for name, entry in now.items()
        if entry is not None and (name in above or name.startswith(path + "/"))
    ]


def name_for_other(path: str, taken: Callable[[str], bool]) -> str:
    """Return a free name for their version of a file: ``cat.theirs.jpg``."""
    stem, extension = posixpath.splitext(path)
    candidate, number = f"{stem}.theirs{extension}", 2
    while taken(candidate):
        candidate, number = f"{stem}.theirs-{number}{extension}", number + 1
    return candidate


def _normalised(project: Project, target: str) -> list[Settled]:
    """Give a manifest that git merged as text its one form, staged; return if it had another.

    The merged text may have too many entries to be inline, or too few to be in shards.
    """
    before, text = project.read_manifest(target)
    built = update(before, {}, project.shards.load)
    project.store.put_shards(built.shards)
    if not project.write_manifest(target, built.manifest, instead_of=text):
        return []
    project.git.stage([target + SUFFIX])
    return [Settled(Resolved(target, (), (), before, project.manifest(target)), ())]
