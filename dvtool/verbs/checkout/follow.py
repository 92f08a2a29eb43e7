"""Following: the workspace gets what changed between manifests, one of which took another's place.

Only what differs is touched, only with what the store holds, and local changes are never
overwritten: what is left out for that is named instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dvtool.errors import BusyError, DvError
from dvtool.format.compare import differing, unshared_shards
from dvtool.format.edits import find_edits
from dvtool.format.manifest import Entries, Entry, Manifest
from dvtool.format.merge import parents
from dvtool.format.paths import SELF, check_nesting, folder_of, folders_above, workspace_path
from dvtool.jobs.engine import LOCAL_POOL, Engine
from dvtool.project.base import forget_base, read_base, record_base
from dvtool.project.parts import Project
from dvtool.verbs.checkout.plan import (
    CheckoutPlan,
    find_unsaved,
    plan_entry,
    refuse_unwritable,
    save_unsaved,
)
from dvtool.verbs.checkout.write import CheckedOut, apply_checkout
from dvtool.workspace.agreement import Agreement, agreeing, carry_edits
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import (
    Scan,
    content_of,
    find_left_out,
    is_known,
    scan_files,
    scan_target,
)

EACH_MAX_FILES = 10_000
"""Up to here a plan that failed is tried again path by path."""


class FollowPlan(msgspec.Struct):
    """How one target gets in step with a manifest that git has put in place.

    Paths are relative to the target. `kept` are local changes where the manifest changed too;
    `missing` is to be written, and its content is not in the store.
    """

    checkout: CheckoutPlan
    kept: list[str] = msgspec.field(default_factory=list)
    missing: Entries = msgspec.field(default_factory=dict)
    absent: set[str] = msgspec.field(default_factory=set)
    """The absent files of a target with nothing in the workspace: nobody asked for them yet."""
    gone: bool = False
    """Whether the target is no longer one, so that its emptied folders go too."""
    known: dict[str, list[Entry]] = msgspec.field(default_factory=dict)
    """The entries that `olds` have at each path that differs."""
    failed: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """Paths that were left since something went wrong there, and what."""


def plan_follow(
    project: Project, target: str, wanted: Manifest | None, olds: Sequence[Manifest]
) -> FollowPlan:
    """Plan what changed from the manifests `olds`, any of which the files may follow, to `wanted`.

    Only that: what is the same in all of them stays as it is on the disk. A file is replaced or
    removed if it is as one of `olds` has it and its content is in the store. Content that is not
    in the store is `missing`; no loss is planned, so there is nothing to refuse.
    """
    short = _plan_edits(project, target, wanted, olds)
    if short is not None:
        return short
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
    rules = project.sparse_rules()
    if rules.lines:
        here = scan.files.keys() | scan.links.keys()
        want = {path: e for path, e in want.items() if path in here or rules.takes(target, path)}
    hash_files(project, scan, [path for path in scan.files if path in want], tolerant=True)
    checkout = CheckoutPlan(target, scan, keep_folders=folders_above(new))
    result = FollowPlan(checkout, gone=wanted is None, known=known)
    if want:
        result.failed.extend(scan.faults)
    if same is not None:
        checkout.same = frozenset(same.same)
        checkout.keep_folders |= same.empty
    hidden = {path for path, _ in scan.faults}
    for path in sorted(want):
        if is_known(scan, path) and hidden.isdisjoint((path, *parents(path))):
            _follow_one(result, path, want[path], known[path])
        else:
            _hold_busy(result, path, want[path])
    refuse_unwritable(project, checkout, new)
    _keep_unsaved(project, result)
    _hold_missing(project, result, known)
    if wanted is not None and wanted.kind == "dir" and not olds:
        checkout.make_target = not result.missing
    return result


def _plan_edits(
    project: Project, target: str, wanted: Manifest | None, olds: Sequence[Manifest]
) -> FollowPlan | None:
    """Plan as `plan_follow` by a look at the files that differ alone.

    None if more differs than the content of files that are there, or links are followed.
    """
    if wanted is None or len(olds) != 1 or project.workspace.links:
        return None
    (old,) = olds
    refs = unshared_shards(old, wanted)
    if not refs or not all(project.store.has_shard(ref.digest) for ref in refs):
        return None
    edits = find_edits(old, wanted, lambda ref: project.store.shard_text(ref.digest))
    if edits is None:
        return None
    scan = scan_files(project, target, edits.new)
    hash_files(project, scan, edits.new, tolerant=True)
    if scan.faults or len(scan.files) != len(edits.new):
        return None  # something is in the place of a file, or in its way, or it cannot be read
    carry_edits(project, target, old, wanted, edits.new)
    checkout = CheckoutPlan(target, scan, keep_folders=folders_above(edits.new))
    result = FollowPlan(checkout, known={path: [entry] for path, entry in edits.old.items()})
    for path, entry in edits.new.items():
        _follow_one(result, path, entry, result.known[path])
    _keep_unsaved(project, result)
    _hold_missing(project, result, result.known)
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
    """Return what agrees already, unless it takes shards that are not here to say so."""
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


def _hold_busy(result: FollowPlan, path: str, entry: Entry | None) -> None:
    """Leave a file as it is that could not be read: its scan has a fault that says so."""
    result.kept.append(path)
    if entry is not None:
        result.checkout.keep_folders.update(folders_above([path]))


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
    save_unsaved(project, [plan])
    plan.unstored = []
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


def apply_each(project: Project, follow_plan: FollowPlan) -> CheckedOut:
    """Carry out a plan path by path: where something goes wrong, only that is left, and noted."""
    plan = follow_plan.checkout
    if len(plan.write) + len(plan.remove) + len(plan.chmod) > EACH_MAX_FILES:
        return apply_follow(project, follow_plan)
    steps = [(path, CheckoutPlan(plan.target, plan.scan, remove=[path])) for path in plan.remove]
    for path, entry in plan.write.items():
        steps.append((path, CheckoutPlan(plan.target, plan.scan, write={path: entry})))
    for path, entry in plan.chmod.items():
        steps.append((path, CheckoutPlan(plan.target, plan.scan, chmod={path: entry})))
    unstored = set(plan.unstored)
    written = size = removed = 0
    for path, step in steps:
        step.keep_folders = plan.keep_folders
        step.unstored = [path] if path in unstored else []
        try:
            save_unsaved(project, [step])
            done = apply_checkout(project, step)
        except BusyError:
            raise
        except (DvError, OSError) as error:
            follow_plan.failed.append((path, str(error)))
            continue
        written, removed = written + done.written, removed + done.removed
        size += done.written_bytes
    return CheckedOut(plan.target, written, size, removed)


class Followed(msgspec.Struct, frozen=True):
    """The changes to a target in the workspace; paths are from the top of the worktree."""

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
    """Give the workspace the changes from its base to `after`; None: the target is not there.

    `before` is taken for the base where none is recorded. A file of the base that the workspace
    never got stays absent, in its new form too.
    """
    base = read_base(project, target) or before
    if base == after:
        return Followed(target)
    if base is not None and after is not None and base.kind != after.kind:
        gone = _follow(project, target, base, None)
        return gone if gone.unsaved else _follow(project, target, None, after)
    return _follow(project, target, base, after)


def _follow(
    project: Project, target: str, base: Manifest | None, after: Manifest | None
) -> Followed:
    project.shards.need(unshared_shards(base, after))
    plan = plan_follow(project, target, after, [base] if base else [])
    done = apply_follow(project, plan)
    record_followed(project, plan, after, recorded=base is not None)
    return Followed(
        target,
        done.written,
        done.written_bytes,
        done.removed,
        tuple(sorted(workspace_path(target, path) for path in plan.kept)),
        tuple(sorted(workspace_path(target, path) for path in plan.missing)),
        sum(entry.bytes for entry in plan.missing.values()),
    )


def record_followed(
    project: Project, plan: FollowPlan, wanted: Manifest | None, *, recorded: bool
) -> None:
    """Record what the files of a target follow now: those left as they were still follow theirs.

    Without a record before, what was never here counts as new in the manifest, not as missed.
    """
    if wanted is None:
        forget_base(project, plan.checkout.target)
        return
    scan = plan.checkout.scan
    left = {*plan.kept, *plan.missing, *(path for path, _ in plan.failed)}
    kept: dict[str, Entry | None] = {}
    for path in left & plan.known.keys():
        if recorded or not _is_absent(scan, path):
            kept[path] = next(iter(plan.known[path]), None)
    record_base(project, plan.checkout.target, wanted, kept)
