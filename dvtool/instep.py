"""Bringing the workspace in step with a manifest that took the place of another.

Only what differs between the two is touched, only with what the store holds, and nothing that is
saved nowhere else is overwritten: what is left out for that is named instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from dvtool.compare import differing, unshared_shards
from dvtool.manifest import Entries, Manifest
from dvtool.ops import checkout as checkout_ops
from dvtool.project import Project, workspace_path
from dvtool.selection import Exactly, Selection


@dataclass(frozen=True, slots=True)
class Stepped:
    """What was done to a target in the workspace; paths are from the top of the worktree.

    `unsaved` was left as it is, `missing` could not be written for want of content.
    """

    target: str
    written: int = 0
    written_bytes: int = 0
    removed: int = 0
    unsaved: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    missing_bytes: int = 0


def bring_in_step(
    project: Project, target: str, before: Manifest | None, after: Manifest | None
) -> Stepped:
    """Give the workspace what `after` has and `before` had not; None: the target is not there.

    What `before` had and the workspace never got stays absent, in its new form too.
    """
    if before is not None and after is not None and before.kind != after.kind:
        gone = bring_in_step(project, target, before, None)
        return gone if gone.unsaved else bring_in_step(project, target, None, after)
    project.store.need_shards(unshared_shards(before, after))
    old, new = differing(before, after, project.store.load_shard)
    names = frozenset(path for path in {*old, *new} if old.get(path) != new.get(path))
    if before == after or (not names and before is not None):
        return Stepped(target)
    selection = Exactly(target, names=names) if before and after else Selection(target)
    plan = checkout_ops.plan(project, selection, after, before=before)
    for path in [path for path in plan.write if _never_came(plan, path, old)]:
        del plan.write[path]
    if plan.blocked:
        stuck = tuple(sorted(workspace_path(target, path) for path in set(plan.blocked)))
        return Stepped(target, unsaved=stuck)
    unsaved = set(plan.unsaved)
    _leave(plan, unsaved)
    lacking = project.store.lacking(plan.needed())
    missing = {
        path: entry.bytes
        for path, entry in plan.write.items()
        if entry.size > 0 and entry.digest in lacking
    }
    _leave(plan, set(missing))
    done = checkout_ops.apply(project, plan)
    if after is None:
        project.workspace.remove_empty_folder(target)
    return Stepped(
        target,
        done.written,
        done.written_bytes,
        done.removed,
        tuple(sorted(workspace_path(target, path) for path in unsaved)),
        tuple(sorted(workspace_path(target, path) for path in missing)),
        sum(missing.values()),
    )


def _never_came(plan: checkout_ops.Plan, path: str, old: Entries) -> bool:
    scan = plan.scan
    there = path in scan.files or path in scan.links or path in scan.folders
    return path in old and not there and not scan.vanished(path)


def _leave(plan: checkout_ops.Plan, paths: set[str]) -> None:
    """Take paths out of a plan."""
    for path in paths:
        plan.write.pop(path, None)
    plan.remove = [path for path in plan.remove if path not in paths]
