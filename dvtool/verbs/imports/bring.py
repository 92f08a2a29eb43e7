"""Bringing a target to a state of its source: store, manifest, git's index, then the workspace.

The referenced comes before the referrer, so that a run that ends at any moment leaves a valid
repository, and the next one goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from dvtool.errors import UnsavedError, UsageError, listing, printable
from dvtool.format.compare import differing
from dvtool.format.manifest import Built, Manifest, encode, manifest_digest
from dvtool.format.merge import edited, merge, shards_needed, with_source
from dvtool.format.paths import SUFFIX, workspace_path
from dvtool.format.source import DataSource
from dvtool.project.as_taken import keep_as_taken, read_as_taken
from dvtool.project.base import read_base
from dvtool.project.history import versions_anywhere
from dvtool.project.ignoring import needs_line
from dvtool.project.parts import Project
from dvtool.verbs.checkout.follow import FollowPlan, apply_follow, plan_follow, record_followed
from dvtool.verbs.imports.results import Imported
from dvtool.workspace.gitignore import ignore_target, refuse_unusable


@dataclass(frozen=True, slots=True)
class TargetThere:
    """A target's manifest in the worktree, and its bytes; None where there is none yet."""

    target: str
    manifest: Manifest | None
    text: bytes | None


def publish(project: Project, there: TargetThere, built: Built) -> None:
    """Put a manifest in place and stage it; UnsavedError if another one is there by now."""
    target = there.target
    own_line = needs_line(project, target, is_new=there.text is None)
    project.store.put_shards(built.shards)
    project.write_manifest(target, built.manifest, instead_of=there.text)
    ignore = ignore_target(project.workspace, target) if own_line else []
    project.git.stage([target + SUFFIX, *ignore])


def refuse_unpublishable(project: Project, there: TargetThere) -> None:
    """Raise, before anything is asked, what `publish` would."""
    project.git.refuse_if_index_is_locked()
    refuse_unusable(project.workspace, there.target)
    needs_line(project, there.target, is_new=there.text is None)


def merged_with(project: Project, there: TargetThere, theirs: Built) -> Built:
    """Return what becomes of a target: the new state of the source, with what was edited here.

    UnsavedError if an entry was edited here and changed at the source.
    """
    ours = there.manifest
    if ours is None or ours.source is None or not ours.source.edited:
        return theirs
    base = _as_taken(project, there.target, ours.source)
    project.store.put_shards(theirs.shards)
    project.shards.need(shards_needed(base, ours, theirs.manifest))
    built, conflicts = merge(base, ours, theirs.manifest, project.shards.load)
    names = [workspace_path(there.target, c.path) for c in conflicts if not c.of_source]
    if names:
        raise UnsavedError(
            "these were changed here and at the source; nothing was changed:\n" + listing(names),
            hint="take yours out (dv rm PATH, or dv checkout REV -- PATH) and repeat the command",
        )
    built = with_source(built, theirs.manifest.source)
    same = manifest_digest(built.manifest) == manifest_digest(theirs.manifest)
    if same:
        return built
    keep_as_taken(project, there.target, theirs.manifest)
    return edited(built)


def _as_taken(project: Project, target: str, source: DataSource) -> Manifest:
    """Return the manifest as it was taken, before it was edited: from git's history, or a record.

    UsageError if neither has it.
    """
    for version in versions_anywhere(project, target):
        taken = version.source
        if taken is not None and taken == structs.replace(source, edited=False):
            return version
    recorded = read_as_taken(project, target, source)
    if recorded is not None:
        return recorded
    raise UsageError(
        f"{printable(target)} was edited, and neither a commit nor this clone has it as it was "
        "taken from the source, so nobody can tell what was edited",
        hint="import the source beside it: dv import SOURCE OTHER",
    )


def plan_workspace(project: Project, there: TargetThere, built: Built) -> FollowPlan | None:
    """Plan how the files follow; None if none of the target is in the workspace.

    UnsavedError for files that were edited and are to change, before anything is changed.
    """
    if there.manifest is None or project.workspace.stat(there.target) is None:
        return None
    project.store.put_shards(built.shards)
    base = read_base(project, there.target) or there.manifest
    plan = plan_follow(project, there.target, built.manifest, [base])
    stuck = [workspace_path(there.target, path) for path in plan.kept]
    stuck += [f"{workspace_path(there.target, path)}: {why}" for path, why in plan.failed]
    if stuck:
        raise UnsavedError(
            "these were edited here and changed at the source; nothing was changed:\n"
            + listing(sorted(stuck)),
            hint="keep them elsewhere, or give them up: dv checkout --force -- PATH (which saves "
            "them first); then repeat the command",
        )
    return plan


def put_in_place(project: Project, there: TargetThere, built: Built, result: Imported) -> None:
    """Put what a source gave in place: merged with what was edited here, published, followed.

    A state that the target has already is published again, as a run may have ended before it was
    staged.
    """
    before = there.manifest
    if before is not None and built.manifest == before:
        plan = plan_workspace(project, there, built) if is_unfinished(project, there) else None
    else:
        built = merged_with(project, there, built)
        plan = plan_workspace(project, there, built)
    publish(project, there, built)
    result.written = follow_plan(project, plan, built.manifest)
    count_changes(project, result, before, built.manifest)


def is_unfinished(project: Project, there: TargetThere) -> bool:
    """Whether a run ended after it put the manifest in place and before the files followed."""
    base = read_base(project, there.target)
    now = there.manifest.source if there.manifest is not None else None
    if base is None or base.source is None or now is None:
        return False
    return base.source.state != now.state


def follow_plan(project: Project, plan: FollowPlan | None, manifest: Manifest) -> int:
    """Bring the files in step; return how many were written."""
    if plan is None:
        return 0
    done = apply_follow(project, plan)
    record_followed(project, plan, manifest, recorded=True)
    return done.written


def count_changes(
    project: Project, result: Imported, before: Manifest | None, after: Manifest
) -> None:
    """Say in the result what became of the entries."""
    result.files, result.bytes = after.files, after.bytes
    result.changed = before is None or encode(before) != encode(after)
    if before is None:
        result.added = after.files
        return
    old, new = differing(before, after, project.shards.load)
    result.added = sum(path not in old for path in new)
    result.modified = sum(path in old and old[path] != entry for path, entry in new.items())
    result.removed = sorted(path for path in old if path not in new)
