"""Planning a checkout: what to write, what to remove, and what would be lost.

Nothing is touched until the plan holds; `write` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from dvtool.errors import InputError, UnsavedError, listing
from dvtool.format.compare import shard_hashes
from dvtool.format.digest import Digest
from dvtool.format.manifest import Entries, Entry, Manifest
from dvtool.format.paths import SELF, check_nesting, folder_of, folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.format.spelling import collisions, too_long
from dvtool.project.base import put_here
from dvtool.project.parts import Project
from dvtool.project.preserve import Saved, save_files
from dvtool.project.sparse import SparseRules
from dvtool.workspace.agreement import Agreement, agreeing
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.scan import (
    Scan,
    content_of,
    file_entry,
    find_left_out,
    refuse_unreadable,
    scan_target,
)
from dvtool.workspace.statcache import link_digest

RUN_FILES_MAX = 65_536
"""How many files are looked up and remembered at a time: about 1 KB of memory each."""
NEXT_RUN_FILES_MAX = 8_192
"""Of more files than a run has, so many are looked up at a time, while those before are written."""
PROBE_MIN_FILES = 65_536
"""From here on the filesystem is asked whether it folds names, before all of them are compared."""
PROBE_EMPTY_MIN_FILES = 2_048
"""So it is from here on if no file is in the target: else the question changes a folder's times."""

FilesByContent: TypeAlias = dict[Digest, list[tuple[str, Entry]]]
"""Files to write, with their entries, by their content."""


class CheckoutPlan(msgspec.Struct):
    """The plan of checking out one target. Paths are relative to the target."""

    target: str
    scan: Scan
    write: Entries = msgspec.field(default_factory=dict)
    chmod: Entries = msgspec.field(default_factory=dict)
    remove: list[str] = msgspec.field(default_factory=list)
    unsaved: list[str] = msgspec.field(default_factory=list)
    """Files with content that is nowhere else, which writing or removing would destroy."""
    unstored: list[str] = msgspec.field(default_factory=list)
    """Files that dvtool put there and whose content the store has no more: it goes there first."""
    blocked: list[str] = msgspec.field(default_factory=list)
    """Obstacles that cannot be saved: links and folders that no manifest knows."""
    settled: Entries = msgspec.field(default_factory=dict)
    """Entries that the workspace has already."""
    keep_folders: set[str] = msgspec.field(default_factory=set)
    emptied: set[str] = msgspec.field(default_factory=set)
    """Folders from which everything went before, by what was then cut off."""
    make_target: bool = False
    """Whether the target is a folder that has to be there, be it empty."""
    manifest: Manifest | None = None
    """The large manifest all of which is wanted, if the plan is of that."""
    partial: bool = False
    """Whether standing rules leave out something that would have been written."""
    stays_tracked: bool = False
    """Whether the worktree's manifest stays, which has what is removed: that counts as deleted."""
    same: frozenset[str] = frozenset()
    """The folders of which nothing else here speaks: they are known to be as it says."""

    @property
    def empty(self) -> bool:
        """Whether the workspace is as it should be."""
        return not (self.write or self.chmod or self.remove)

    @property
    def write_bytes(self) -> int:
        """Bytes to write."""
        return sum([entry.size for entry in self.write.values() if entry.size > 0])

    def needed(self) -> dict[Digest, str]:
        """Return content -> one path that needs it."""
        return {entry.digest: path for path, entry in self.write.items() if entry.size > 0}

    def sizes(self) -> dict[Digest, int]:
        """Return content -> its size, of all that is to be written and not empty."""
        return {entry.digest: entry.size for entry in self.write.values() if entry.size > 0}

    @property
    def only(self) -> frozenset[Digest] | None:
        """The contents to be written; None if they are all that the selection has."""
        partial = self.settled or self.chmod or self.same or self.partial
        return frozenset(self.sizes()) if partial else None


def plan_checkout(
    project: Project,
    selection: Selection,
    wanted: Manifest | None,
    *,
    before: Manifest | None = None,
) -> CheckoutPlan:
    """Plan to give a target the entries of `wanted` (None: it is to go), as far as selected.

    `before` is the manifest that the workspace followed so far: its paths are dvtool's to remove.
    """
    old = _only_before(project, before, wanted, selection)
    entries, scan, same = _look(project, selection, wanted, before, old)
    find_left_out(project, scan, (*entries, *old))
    refuse_unreadable(scan, (*entries, *old))
    result = CheckoutPlan(selection.target, scan, keep_folders=folders_above(entries))
    if wanted is not None and selection.whole:
        result.make_target = wanted.kind == "dir"
        result.manifest = wanted if wanted.shards else None
    if same is not None:
        result.same = frozenset(same.same)
    hash_files(project, scan, [path for path in scan.files if _is_ours(path, scan, entries, old)])
    for path, entry in entries.items():
        plan_entry(result, scan, path, entry, old)
    for path in (*scan.files, *scan.links, *scan.empty_folders):
        ours = path in old or (path in scan.seen and scan.seen[path].tracked)
        if path not in entries and selection.matches(path) and ours:
            _plan_removal(result, scan, path, old)
    tracked = (path for path, seen in scan.seen.items() if seen.tracked)
    known = folders_above(path for path in (*old, *tracked) if selection.matches(path))
    result.emptied = known & scan.folders
    refuse_unwritable(project, result, entries)
    find_unsaved(project, result)
    if result.write:
        # The stats of files that are written anew are freed: 300 MB for a million.
        scan.seen = {path: seen for path, seen in scan.seen.items() if path not in result.write}
    return result


def heed_rules(plan: CheckoutPlan, rules: SparseRules) -> None:
    """Take out of a plan what standing rules leave out and is not in the workspace."""
    if not rules.lines:
        return
    scan = plan.scan
    out = [
        path
        for path in plan.write
        if path not in scan.files and path not in scan.links and not rules.takes(plan.target, path)
    ]
    for path in out:
        del plan.write[path]
    plan.partial = plan.partial or bool(out)
    if out and not plan.write and not scan.files and not scan.folders:
        plan.make_target = False


def _look(
    project: Project,
    selection: Selection,
    wanted: Manifest | None,
    before: Manifest | None,
    old: Entries,
) -> tuple[Entries, Scan, Agreement | None]:
    """Return the entries to compare, the scan to compare with, and the part that needs neither.

    The parts that need neither are taken out of `old` too.
    """
    target = selection.target
    known = agreeing(project, target, wanted, before) if wanted and selection.whole else None
    if known is None:
        entries = project.entries(wanted, selection) if wanted else {}
        check_nesting(entries, target)
        every = entries | old if old else entries
        return entries, scan_target(project, target, content_at=content_of(every)), None
    known.check_nesting(project)
    entries = known.wanted | dict.fromkeys(known.empty, Entry(dir=True))
    scan = known.scan_rest(project, content_of(entries | old))
    # Whether a folder is empty does not show in a look at the one above it.
    for path in [path for path in old if folder_of(path) in known.same and not old[path].dir]:
        del old[path]
    return entries, scan, known


def _only_before(
    project: Project, before: Manifest | None, wanted: Manifest | None, selection: Selection
) -> Entries:
    """Return what of `before` is selected, without the shards that `wanted` has too."""
    if before is None or before == wanted:
        return {}
    shared = shard_hashes(wanted)
    old = dict(before.entries or ())
    refs = [ref for ref in project.selected_shards(before, selection) if ref.blake3 not in shared]
    project.shards.need(refs)
    for ref in refs:
        old.update(project.shards.load(ref))
    return old if selection.whole else {p: e for p, e in old.items() if selection.matches(p)}


def refuse_unwritable(project: Project, plan: CheckoutPlan, entries: Iterable[str]) -> None:
    """Raise an InputError for names that this filesystem does not take, or takes for others."""
    if not plan.write:
        return
    long = [workspace_path(plan.target, path) for path in plan.write if too_long(path)]
    if long:
        raise InputError(
            f"these names are too long for a file; nothing was changed:\n{listing(long)}",
            hint="they can be read all the same: dv cat PATH",
        )
    least = PROBE_MIN_FILES if plan.scan.files else PROBE_EMPTY_MIN_FILES
    many = len(plan.write) > least
    if many and not project.workspace.folds_names(plan.target):
        return
    there = {*entries, *plan.write, *plan.scan.files, *plan.scan.links}.difference(plan.remove)
    there.update(folder for folder in plan.same if folder)
    alike = list(collisions(there))
    if alike and (many or project.workspace.folds_names(plan.target)):
        names = sorted({workspace_path(plan.target, path) for pair in alike for path in pair})
        raise InputError(
            "these differ only in case or Unicode form, which this filesystem does not tell "
            f"apart; nothing was changed:\n{listing(names)}",
            hint="check out some of them only (dv checkout -- PATH), or use another disk",
        )


def _is_ours(path: str, scan: Scan, entries: Entries, old: Entries) -> bool:
    return path in entries or path in old or (path in scan.seen and scan.seen[path].tracked)


def plan_entry(result: CheckoutPlan, scan: Scan, path: str, entry: Entry, old: Entries) -> None:
    """Put an entry where it belongs in the plan: written, made executable or settled already.

    `old` are entries that the workspace followed so far: their symlinks may be replaced.
    """
    if path in scan.files:
        same = entry.is_file and scan.digests.get(path) == entry.digest
        # The file behind a link is not ours to chmod.
        if same and (scan.executable(path) == entry.exec or path in scan.followed):
            result.settled[path] = entry
        elif same:
            result.chmod[path] = entry
        else:
            result.write[path] = entry
    elif path in scan.links:
        if scan.links[path] == entry.symlink:
            result.settled[path] = entry
        else:
            result.write[path] = entry
            if not _link_known(scan, path, old):
                result.blocked.append(path)
    elif entry.dir and path in scan.folders:
        result.settled[path] = entry
    else:
        result.write[path] = entry


def _plan_removal(result: CheckoutPlan, scan: Scan, path: str, old: Entries) -> None:
    if path in scan.links and not _link_known(scan, path, old):
        return
    result.remove.append(path)


def _link_known(scan: Scan, path: str, old: Entries) -> bool:
    """Whether a symlink is one that a manifest has, so that replacing it loses nothing."""
    if path in old:
        return old[path].symlink == scan.links[path]
    seen = scan.seen.get(path)
    return seen is not None and seen.tracked and seen.digest == link_digest(scan.links[path])


def find_unsaved(project: Project, result: CheckoutPlan) -> None:
    """Note in the plan what it would destroy, and what is in its way."""
    scan = result.scan
    at_stake = [path for path in (*result.write, *result.remove) if path in scan.files]
    lacking = project.store.lacking(scan.digests[path] for path in at_stake)
    lost = {path: file_entry(scan, path) for path in at_stake if scan.digests[path] in lacking}
    ours = put_here(project, result.target, lost) if lost else set()
    result.unsaved = sorted(lost.keys() - ours)
    result.unstored = sorted(ours)
    # A folder where a file should go: what is in it must be going too, or it blocks.
    leaving = {*result.remove, *result.write}
    for path, entry in result.write.items():
        if path == SELF and path not in scan.files:
            result.blocked.extend(p for p in (*scan.files, *scan.links) if p not in leaving)
        elif path in scan.folders and not entry.dir:
            inside = [
                other
                for other in (*scan.files, *scan.links)
                if other.startswith(path + "/") and other not in leaving
            ]
            result.blocked.extend(inside)
    for folder in result.keep_folders:
        if (folder in scan.files or folder in scan.links) and folder not in leaving:
            result.blocked.append(folder)


def refuse_losses(plans: Iterable[CheckoutPlan], *, force: bool) -> None:
    """Raise an UnsavedError that names what the plans would destroy; `force` saves files first."""
    every = list(plans)
    blocked = [workspace_path(p.target, path) for p in every for path in p.blocked]
    if blocked:
        raise UnsavedError(
            f"these are in the way and in no manifest; nothing was changed:\n"
            f"{listing(sorted(set(blocked)))}",
            hint="move them elsewhere, then repeat the command",
        )
    unsaved = [workspace_path(p.target, path) for p in every for path in p.unsaved]
    if unsaved and not force:
        raise UnsavedError(
            f"these have changes that are saved nowhere; nothing was changed:\n{listing(unsaved)}",
            hint="keep them with `dv add`, or replace them with --force (which saves a copy first)",
        )


def save_unsaved(project: Project, plans: Iterable[CheckoutPlan]) -> list[Saved]:
    """Bring content that the plans would destroy into the store; return what of it was edited."""
    every = list(plans)
    unsaved = [workspace_path(plan.target, path) for plan in every for path in plan.unsaved]
    unstored = [workspace_path(plan.target, path) for plan in every for path in plan.unstored]
    saved = save_files(project, [*unsaved, *unstored])
    edited = set(unsaved)
    return [file for file in saved if file.path in edited]


def lacks_content(project: Project, plan: CheckoutPlan) -> bool:
    """Whether the store lacks something that is to be written."""
    if project.store.db.is_empty():
        return any(entry.size > 0 for entry in plan.write.values())
    return any(project.store.lacking(run) for run in content_runs(plan.write.items()))


def is_one_run(plan: CheckoutPlan) -> bool:
    """Whether `content_runs` yields at most one run."""
    return len(plan.write) <= RUN_FILES_MAX


def content_runs(
    entries: Iterable[tuple[str, Entry]], files_max: int | None = None
) -> Iterator[FilesByContent]:
    """Yield the files among entries by their content, in runs of neighbours.

    A run has `RUN_FILES_MAX` files, or `files_max`.
    """
    most = files_max or RUN_FILES_MAX
    run: FilesByContent = {}
    files = 0
    for path, entry in entries:
        blake3 = entry.blake3  # properties of a million entries take a second
        if not blake3:
            continue
        digest = bytes.fromhex(blake3)
        same = run.get(digest)
        if same is None:
            run[digest] = [(path, entry)]
        else:
            same.append((path, entry))
        files += 1
        if files == most:
            yield run
            run, files = {}, 0
    if run:
        yield run
