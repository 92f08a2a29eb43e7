"""Bringing the workspace in step with a manifest that took the place of another.

Only what differs between the two is touched, only with what the store holds, and local changes are
never overwritten: what is left out for that is named instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from dvtool.format.compare import unshared_shards
from dvtool.format.manifest import Manifest
from dvtool.format.paths import workspace_path
from dvtool.project.parts import Project
from dvtool.verbs.checkout import plan as checkout_ops


@dataclass(frozen=True, slots=True)
class Stepped:
    """What was done to a target in the workspace; paths are from the top of the worktree.

    `unsaved` are local changes, left as they are; `missing` could not be written for want of
    content.
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
    if before == after:
        return Stepped(target)
    if before is not None and after is not None and before.kind != after.kind:
        gone = bring_in_step(project, target, before, None)
        return gone if gone.unsaved else bring_in_step(project, target, None, after)
    project.shards.need(unshared_shards(before, after))
    plan = checkout_ops.plan_following(project, target, after, [before] if before else [])
    done = checkout_ops.follow(project, plan)
    return Stepped(
        target,
        done.written,
        done.written_bytes,
        done.removed,
        tuple(sorted(workspace_path(target, path) for path in plan.kept)),
        tuple(sorted(workspace_path(target, path) for path in plan.missing)),
        sum(entry.bytes for entry in plan.missing.values()),
    )
