"""What merges left in the manifests of a repository: listing it, and settling it, data included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import DvError, UsageError, listing
from dvtool.format.manifest import SUFFIX
from dvtool.format.merge import Conflict
from dvtool.format.selection import Selection
from dvtool.project.parts import Project
from dvtool.system.lazy import later
from dvtool.verbs import resolve as resolve_ops
from dvtool.verbs import status as status_ops

if TYPE_CHECKING:
    from dvtool.verbs.checkout import follow
    from dvtool.verbs.checkout.follow import Followed
else:
    follow = later("dvtool.verbs.checkout.follow")

Select = Callable[[Sequence[str]], list[Selection]]


class Settled(msgspec.Struct, frozen=True):
    """What `resolve` did to one target, and to its files."""

    resolved: resolve_ops.Resolved
    stepped: tuple[Followed, ...]


def status(
    project: Project, select: Select, *, mismerged: bool = False
) -> list[status_ops.TargetStatus]:
    """Return the state of the targets that `select` chooses, with their conflicts.

    With `mismerged`, also of manifests that git merged as text into what is no manifest.
    """
    seen = project.git.overview()
    left = resolve_ops.unmerged(project, seen.conflicts)
    found = {one.target: one for one in _with_mismerged(project, left, mismerged=mismerged)}
    # A manifest that was deleted and is in HEAD shows in status, too.
    there = {path.removesuffix(SUFFIX) for path in (*seen.worktree, *seen.committed)}
    selections = select(sorted({*there, *found}))
    conflicts: dict[str, list[Conflict]] = {}
    problems: dict[str, str] = {}
    for selection in selections:
        one = found.get(selection.target)
        if one is None:
            continue
        conflicts[one.target] = []
        try:
            conflicts[one.target] = resolve_ops.conflicts(project, one)
        except DvError as error:  # a list of files that is neither here nor to be had
            problems[one.target] = f"cannot be compared: {error}"
        if one.damage is not None:
            problems[one.target] = f"cannot be compared: {one.damage}"
    results = status_ops.status(project, selections, seen.committed, conflicts)
    for result in results:
        if result.target in problems:
            result.faults.append((".", problems[result.target]))
    return results


def refuse_conflicted(project: Project, targets: Sequence[str]) -> None:
    """Raise a UsageError for targets that a merge left open: staging them would settle it."""
    conflicts = project.git.conflicts_in_index()
    left = {path.removesuffix(SUFFIX) for path in conflicts}.intersection(targets)
    if left:
        raise UsageError(
            f"a merge left conflicts in the manifests of:\n{listing(sorted(left))}",
            hint="settle them first: dv resolve (dv status lists them)",
        )


def resolve(project: Project, select: Select, side: resolve_ops.Side | None) -> list[Settled]:
    """Settle what merges left, as far as selected; the rest of the merge is done in any case.

    A manifest that is merged but not in the form that dvtool gives it gets that form.
    """
    left = resolve_ops.unmerged(project, project.git.conflicts_in_index())
    found = {one.target: one for one in _with_mismerged(project, left, mismerged=True)}
    resolve_ops.forget_others(project, found)
    selections = select(sorted({*project.targets(), *found}))
    chosen = [selection for selection in selections if selection.target in found]
    done = []
    for selection in chosen:
        resolved = resolve_ops.resolve(project, found[selection.target], selection, side)
        stepped = [follow.follow(project, resolved.target, resolved.before, resolved.after)]
        if resolved.kept is not None:
            kept = project.manifest(resolved.kept)
            stepped.append(follow.follow(project, resolved.kept, None, kept))
        resolve_ops.stage(project, resolved)
        done.append(Settled(resolved, tuple(stepped)))
    for selection in selections:
        if selection.target in found:
            continue
        before = project.manifest(selection.target)
        if resolve_ops.normalise(project, selection.target):
            after = project.manifest(selection.target)
            same = resolve_ops.Resolved(selection.target, (), (), before, after)
            done.append(Settled(same, ()))
    return done


def _with_mismerged(
    project: Project, found: list[resolve_ops.Unmerged], *, mismerged: bool
) -> list[resolve_ops.Unmerged]:
    if not (mismerged or resolve_ops.any_recorded(project)):
        return found
    known = {one.target for one in found}
    more = resolve_ops.mismerged(project)
    return found + [one for one in more if one.target not in known]
