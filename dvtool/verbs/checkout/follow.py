"""Following: the workspace gets what changed between manifests, one of which took another's place.

Only what differs is touched, only with what the store holds, and local changes are never
overwritten: what is left out for that is named instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dvtool.format.compare import differing, unshared_shards
from dvtool.format.manifest import Entries, Entry, Manifest
from dvtool.format.paths import SELF, check_nesting, folder_of, folders_above, workspace_path
from dvtool.jobs.engine import LOCAL_POOL, Engine
from dvtool.project.parts import Project
from dvtool.verbs.checkout.plan import CheckoutPlan, find_unsaved, plan_entry, refuse_unwritable
from dvtool.verbs.checkout.write import CheckedOut, apply_checkout
from dvtool.workspace.agreement import Agreement, agreeing
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import Scan, content_of, find_left_out, scan_target


@dataclass(slots=True)
class FollowPlan:
    """How one target gets in step with a manifest that git has put in place.

    Paths are relative to the target. `kept` are local changes where the manifest changed too;
    `missing` is to be written, and its content is not in the store.
    """

    checkout: CheckoutPlan
    kept: list[str] = field(default_factory=list)
    missing: Entries = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """Those of a target of which nothing is in the workspace: nobody asked for them yet."""
    gone: bool = False
    """Whether the target is no longer one, so that its emptied folders go too."""


def plan_follow(
    project: Project, target: str, wanted: Manifest | None, olds: Sequence[Manifest]
) -> FollowPlan:
    """Plan what changed from the manifests `olds`, any of which the files may follow, to `wanted`.

    Only that: what is the same in all of them stays as it is on the disk. A file is replaced or
    removed if it is as one of `olds` has it and its content is in the store. Content that is not
    in the store is `missing`; no loss is planned, so there is nothing to refuse.
    """
    sides: Sequence[Manifest | None] = olds or (None,)
    want, known = _differing_entries(project, sides, wanted)
    new = {path: entry for path, entry in sorted(want.items()) if entry is not None}
    check_nesting(new, target)
    there = new | {path: entries[0] for path, entries in known.items() if entries}
    same = _held_agreement(project, target, wanted, sides[0])
    if same is None:
        scan = scan_target(project, target, content_at=content_of(there))
    else:
        same.check_nesting(project)
        scan = same.scan_rest(project, content_of(there))
    find_left_out(project, scan, there)
    if same is not None:
        want = {
            path: entry
            for path, entry in want.items()
            # Whether a folder is empty does not show in a look at the one above it.
            if folder_of(path) not in same.same or (entry is None and path in scan.folders)
        }
    hash_files(project, scan, [path for path in scan.files if path in want])
    checkout = CheckoutPlan(target, scan, keep_folders=folders_above(new))
    result = FollowPlan(checkout, gone=wanted is None)
    if same is not None:
        checkout.same = frozenset(same.same)
        checkout.keep_folders |= same.empty
    for path in sorted(want):
        _follow_one(result, path, want[path], known[path])
    refuse_unwritable(project, checkout, new)
    _keep_unsaved(project, result)
    _hold_missing(project, result, known)
    if wanted is not None and wanted.kind == "dir" and not olds:
        checkout.make_target = not result.missing
    return result


def _differing_entries(
    project: Project, olds: Sequence[Manifest | None], wanted: Manifest | None
) -> tuple[dict[str, Entry | None], dict[str, list[Entry]]]:
    """Return what is wanted at each path that differs, and what the others have there."""
    want: dict[str, Entry | None] = {}
    known: dict[str, list[Entry]] = {}
    for old in olds:
        before, after = differing(old, wanted, project.store.load_shard)  # no list is fetched
        for path in before.keys() | after.keys():
            if before.get(path) != after.get(path):
                want[path] = after.get(path)
                known.setdefault(path, []).extend([before[path]] if path in before else [])
    return want, known


def _held_agreement(
    project: Project, target: str, wanted: Manifest | None, before: Manifest | None
) -> Agreement | None:
    """Return what agrees already, unless it takes lists of files that are not here to say so."""
    if wanted is None or not all(project.store.has_shard(ref.digest) for ref in wanted.shards):
        return None
    return agreeing(project, target, wanted, before)


def _follow_one(result: FollowPlan, path: str, entry: Entry | None, known: Sequence[Entry]) -> None:
    plan, scan = result.checkout, result.checkout.scan
    if path in scan.files:
        digest = scan.digests.get(path)
        unchanged = any(one.is_file and one.digest == digest for one in known)
    elif path in scan.links:
        unchanged = any(one.symlink == scan.links[path] for one in known)
    elif path in scan.folders:
        unchanged = entry is not None or any(one.dir for one in known)
    else:
        unchanged = True
    if entry is None:
        if path in scan.files or path in scan.links or path in scan.empty_folders:
            (plan.remove if unchanged else result.kept).append(path)
        return
    probe = CheckoutPlan(plan.target, scan)
    plan_entry(probe, scan, path, entry, {})
    plan.settled.update(probe.settled)
    plan.chmod.update(probe.chmod)
    if probe.write and unchanged:
        plan.write[path] = entry
    elif probe.write:
        result.kept.append(path)


def _keep_unsaved(project: Project, result: FollowPlan) -> None:
    """Take out of the plan what would destroy content, or has something in its way."""
    plan = result.checkout
    while True:
        plan.unsaved, plan.blocked = [], []
        find_unsaved(project, plan)
        stuck = {*plan.unsaved, *plan.blocked}
        leaving = {*plan.remove, *plan.write}
        drop = {
            path
            for path in leaving
            if any(path == one or _is_below(path, one) or _is_below(one, path) for one in stuck)
        }
        if not drop:
            return
        result.kept.extend(sorted(drop))
        plan.remove = [path for path in plan.remove if path not in drop]
        plan.write = {path: entry for path, entry in plan.write.items() if path not in drop}
        plan.keep_folders = folders_above([*plan.write, *plan.settled, *plan.chmod])


def _is_absent(scan: Scan, path: str) -> bool:
    """Whether nothing is at a path, and nothing was put there before."""
    there = path in scan.files or path in scan.links or path in scan.folders
    return not there and not scan.vanished(path)


def _is_below(path: str, above: str) -> bool:
    return path.startswith(above + "/")


def _hold_missing(
    project: Project, result: FollowPlan, known: Mapping[str, Sequence[Entry]]
) -> None:
    """Leave out what cannot be written, and what someone who has a part of the target has not."""
    plan = result.checkout
    for path in [path for path in plan.write if known[path] and _is_absent(plan.scan, path)]:
        if plan.scan.files or plan.same:
            del plan.write[path]
        else:
            result.absent.add(path)
    sized = [entry.digest for entry in plan.write.values() if entry.size > 0]
    lacking = project.store.lacking(sized)
    result.missing = {
        path: entry
        for path, entry in plan.write.items()
        if entry.size > 0 and entry.digest in lacking
    }
    for path in result.missing:
        del plan.write[path]


def apply_follow(
    project: Project, follow_plan: FollowPlan, *, engine: Engine = LOCAL_POOL
) -> CheckedOut:
    """Carry out what `plan_follow` planned; see `apply_checkout`."""
    plan = follow_plan.checkout
    if SELF in plan.write and plan.remove and SELF not in plan.scan.files:
        # A folder became one file: it has to be gone before the file can take its name.
        first = CheckoutPlan(plan.target, plan.scan, remove=plan.remove)
        apply_checkout(project, first, engine=engine)
        project.workspace.remove_empty_folder(plan.target)
        plan.remove = []
    done = apply_checkout(project, plan, engine=engine)
    if follow_plan.gone:
        folder = plan.target
        while folder and project.workspace.remove_empty_folder(folder):
            folder = folder.rpartition("/")[0]
        if not follow_plan.kept:
            project.statcache.forget_below(plan.target)
    return done


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done to a target in the workspace; paths are from the top of the worktree."""

    target: str
    """The target, as a path from the top of the worktree."""
    written: int = 0
    """How many files were written."""
    written_bytes: int = 0
    """Bytes of these files."""
    removed: int = 0
    """How many files were removed."""
    unsaved: tuple[str, ...] = ()
    """Files with changes that are saved nowhere; they are as they were."""
    missing: tuple[str, ...] = ()
    """Files whose content is not here, so that they could not be written."""
    missing_bytes: int = 0
    """Bytes of the content that is not here."""


def follow(
    project: Project, target: str, before: Manifest | None, after: Manifest | None
) -> Followed:
    """Give the workspace what `after` has and `before` had not; None: the target is not there.

    What `before` had and the workspace never got stays absent, in its new form too.
    """
    if before == after:
        return Followed(target)
    if before is not None and after is not None and before.kind != after.kind:
        gone = follow(project, target, before, None)
        return gone if gone.unsaved else follow(project, target, None, after)
    project.shards.need(unshared_shards(before, after))
    plan = plan_follow(project, target, after, [before] if before else [])
    done = apply_follow(project, plan)
    return Followed(
        target,
        done.written,
        done.written_bytes,
        done.removed,
        tuple(sorted(workspace_path(target, path) for path in plan.kept)),
        tuple(sorted(workspace_path(target, path) for path in plan.missing)),
        sum(entry.bytes for entry in plan.missing.values()),
    )
