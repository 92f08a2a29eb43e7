"""checkout: bring the workspace in step with manifests, losing nothing that is not in the store.

First a plan: what to write, what to remove, what would be lost. Nothing is touched until the plan
holds. Then each file is written beside its place, verified, and renamed into it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from dvtool.errors import InputError, ManifestError, UnsavedError, listing, printable
from dvtool.format.compare import differing, shard_hashes
from dvtool.format.digest import EMPTY, Digest
from dvtool.format.manifest import Entries, Entry, Manifest, ShardRef
from dvtool.format.paths import SELF, check_nesting, folder_of, folders_above, workspace_path
from dvtool.format.selection import Selection
from dvtool.format.spelling import collisions, too_long
from dvtool.jobs.unpack import WORKER_FILE_MAX_BYTES, Piece, write_new
from dvtool.project.parts import Project
from dvtool.project.preserve import Saved, save_files
from dvtool.store.local import ContentReader
from dvtool.system.stat import Stamp, Stat, is_executable
from dvtool.workspace.agreement import Agreement, agreeing, entries_by_folder, remember
from dvtool.workspace.hashing import hash_files
from dvtool.workspace.remembered import save_each_seen
from dvtool.workspace.scan import (
    Scan,
    content_of,
    find_left_out,
    refuse_unreadable,
    scan_target,
    sweep,
)
from dvtool.workspace.statcache import Seen, link_digest, now_ns, seen_file, seen_other

RUN_FILES_MAX = 65_536
"""So many files are looked up, written and remembered at a time: about 1 KB of memory each."""
PROBE_MIN_FILES = 65_536
"""From here on the filesystem is asked whether it folds names, before all of them are compared."""


@dataclass(slots=True)
class Plan:
    """What checking out one target will do. Paths are relative to the target."""

    target: str
    scan: Scan
    write: Entries = field(default_factory=dict)
    chmod: Entries = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    unsaved: list[str] = field(default_factory=list)
    """Files with content that is nowhere else, which writing or removing would destroy."""
    blocked: list[str] = field(default_factory=list)
    """What stands in the way and cannot be saved: links and folders that no manifest knows."""
    settled: Entries = field(default_factory=dict)
    """Entries that the workspace has already."""
    keep_folders: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    """Folders from which everything went before, by what was then cut off."""
    make_target: bool = False
    """Whether the target is a folder that has to be there, be it empty."""
    manifest: Manifest | None = None
    """The large manifest all of which is wanted, if the plan is of that."""
    same: frozenset[str] = frozenset()
    """The folders of which nothing else here speaks: they are known to be as it says."""

    @property
    def empty(self) -> bool:
        """Whether the workspace is as it should be."""
        return not (self.write or self.chmod or self.remove)

    @property
    def write_bytes(self) -> int:
        """Bytes to write."""
        return sum(entry.bytes for entry in self.write.values())

    def needed(self) -> dict[Digest, str]:
        """Return content -> one path that needs it."""
        return {entry.digest: path for path, entry in self.write.items() if entry.size > 0}

    @property
    def only(self) -> frozenset[Digest] | None:
        """The contents to be written; None if they are all that the selection has."""
        partial = self.settled or self.chmod or self.same
        return frozenset(self.needed()) if partial else None


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What was done to one target."""

    target: str
    written: int
    written_bytes: int
    removed: int


def plan(
    project: Project,
    selection: Selection,
    wanted: Manifest | None,
    *,
    before: Manifest | None = None,
) -> Plan:
    """Plan to give a target the entries of `wanted` (None: it is to go), as far as selected.

    `before` is the manifest that the workspace followed so far: its paths are dvtool's to remove.
    """
    old = _only_before(project, before, wanted, selection)
    entries, scan, same = _look(project, selection, wanted, before, old)
    find_left_out(project, scan, (*entries, *old))
    refuse_unreadable(scan, (*entries, *old))
    result = Plan(selection.target, scan, keep_folders=folders_above(entries))
    if wanted is not None and selection.whole:
        result.make_target = wanted.kind == "dir"
        result.manifest = wanted if wanted.shards else None
    if same is not None:
        result.same = frozenset(same.same)
    hash_files(project, scan, [path for path in scan.files if _is_ours(path, scan, entries, old)])
    for path, entry in entries.items():
        _plan_entry(result, scan, path, entry, old)
    for path in (*scan.files, *scan.links, *scan.empty_folders):
        ours = path in old or (path in scan.seen and scan.seen[path].tracked)
        if path not in entries and selection.matches(path) and ours:
            _plan_removal(result, scan, path, old)
    tracked = (path for path, seen in scan.seen.items() if seen.tracked)
    known = folders_above(path for path in (*old, *tracked) if selection.matches(path))
    result.emptied = known & scan.folders
    _refuse_unwritable(project, result, entries)
    _find_unsaved(project, result)
    if result.write:
        # What was remembered of files that are written anew counts no more: 300 MB of a million.
        scan.seen = {path: seen for path, seen in scan.seen.items() if path not in result.write}
    return result


def _look(
    project: Project,
    selection: Selection,
    wanted: Manifest | None,
    before: Manifest | None,
    old: Entries,
) -> tuple[Entries, Scan, Agreement | None]:
    """Return the entries to compare with the workspace, what lies there, and what needs neither.

    What needs neither is taken out of `old` too.
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
    refs = [ref for ref in project.shards(before, selection) if ref.blake3 not in shared]
    project.store.need_shards(refs)
    for ref in refs:
        old.update(project.store.load_shard(ref))
    return old if selection.whole else {p: e for p, e in old.items() if selection.matches(p)}


def _refuse_unwritable(project: Project, plan: Plan, entries: Iterable[str]) -> None:
    """Raise an InputError for names that this filesystem does not take, or takes for others."""
    if not plan.write:
        return
    long = [workspace_path(plan.target, path) for path in plan.write if too_long(path)]
    if long:
        raise InputError(
            f"these names are too long for a file; nothing was changed:\n{listing(long)}",
            hint="they can be read all the same: dv cat PATH",
        )
    many = len(plan.write) > PROBE_MIN_FILES
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


def _plan_entry(result: Plan, scan: Scan, path: str, entry: Entry, old: Entries) -> None:
    if path in scan.files:
        found = scan.files[path]
        same = entry.is_file and scan.digests.get(path) == entry.digest
        # What a link leads to is not ours to chmod.
        if same and (is_executable(found) == entry.exec or path in scan.followed):
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


def _plan_removal(result: Plan, scan: Scan, path: str, old: Entries) -> None:
    if path in scan.links and not _link_known(scan, path, old):
        return
    result.remove.append(path)


def _link_known(scan: Scan, path: str, old: Entries) -> bool:
    """Whether a symlink is one that a manifest has, so that replacing it loses nothing."""
    if path in old:
        return old[path].symlink == scan.links[path]
    seen = scan.seen.get(path)
    return seen is not None and seen.tracked and seen.digest == link_digest(scan.links[path])


def _find_unsaved(project: Project, result: Plan) -> None:
    scan = result.scan
    at_stake = [path for path in (*result.write, *result.remove) if path in scan.files]
    lacking = project.store.lacking(scan.digests[path] for path in at_stake)
    result.unsaved = sorted(path for path in at_stake if scan.digests[path] in lacking)
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


@dataclass(slots=True)
class Following:
    """How one target gets in step with a manifest that git has put in place.

    Paths are relative to the target. `kept` are local changes where the manifest changed too;
    `missing` is to be written, and its content is not in the store.
    """

    plan: Plan
    kept: list[str] = field(default_factory=list)
    missing: Entries = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """Those of a target of which nothing is in the workspace: nobody asked for them yet."""
    gone: bool = False
    """Whether the target is no longer one, so that its emptied folders go too."""


def plan_following(
    project: Project, target: str, wanted: Manifest | None, olds: Sequence[Manifest]
) -> Following:
    """Plan what changed from the manifests `olds`, any of which the files may follow, to `wanted`.

    Only that: what is the same in all of them stays as it is on the disk. A file is replaced or
    removed if it is as one of `olds` has it and its content is in the store. Content that is not
    in the store is `missing`; no loss is planned, so there is nothing to refuse.
    """
    sides: Sequence[Manifest | None] = olds or (None,)
    want, known = _changed(project, sides, wanted)
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
    result = Following(Plan(target, scan, keep_folders=folders_above(new)), gone=wanted is None)
    if same is not None:
        result.plan.same = frozenset(same.same)
        result.plan.keep_folders |= same.empty
    for path in sorted(want):
        _follow_one(result, path, want[path], known[path])
    _refuse_unwritable(project, result.plan, new)
    _keep_unsaved(project, result)
    _hold_missing(project, result, known)
    if wanted is not None and wanted.kind == "dir" and not olds:
        result.plan.make_target = not result.missing
    return result


def _changed(
    project: Project, olds: Sequence[Manifest | None], wanted: Manifest | None
) -> tuple[dict[str, Entry | None], dict[str, list[Entry]]]:
    """Return what is wanted at each path that differs, and what the others have there."""
    want: dict[str, Entry | None] = {}
    known: dict[str, list[Entry]] = {}
    store = project.store

    def load(ref: ShardRef) -> Entries:
        # No list is fetched for this; of those here it will be asked for again.
        return (store.load_shard if store.has_shard(ref.digest) else store.held_shard)(ref)

    for old in olds:
        before, after = differing(old, wanted, load)
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


def _follow_one(result: Following, path: str, entry: Entry | None, known: Sequence[Entry]) -> None:
    plan, scan = result.plan, result.plan.scan
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
    probe = Plan(plan.target, scan)
    _plan_entry(probe, scan, path, entry, {})
    plan.settled.update(probe.settled)
    plan.chmod.update(probe.chmod)
    if probe.write and unchanged:
        plan.write[path] = entry
    elif probe.write:
        result.kept.append(path)


def _keep_unsaved(project: Project, result: Following) -> None:
    """Take out of the plan what would destroy content, or has something in its way."""
    plan = result.plan
    while True:
        plan.unsaved, plan.blocked = [], []
        _find_unsaved(project, plan)
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
    project: Project, result: Following, known: Mapping[str, Sequence[Entry]]
) -> None:
    """Leave out what cannot be written, and what someone who has a part of the target has not."""
    plan = result.plan
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


def follow(project: Project, todo: Following) -> CheckedOut:
    """Carry out what `plan_following` planned; see `apply`."""
    plan = todo.plan
    if SELF in plan.write and plan.remove and SELF not in plan.scan.files:
        # A folder became one file: it has to be gone before the file can take its name.
        first = Plan(plan.target, plan.scan, remove=plan.remove)
        apply(project, first)
        project.workspace.remove_empty_folder(plan.target)
        plan.remove = []
    done = apply(project, plan)
    if todo.gone:
        folder = plan.target
        while folder and project.workspace.remove_empty_folder(folder):
            folder = folder.rpartition("/")[0]
        if not todo.kept:
            project.statcache.forget_below(plan.target)
    return done


def refuse_losses(plans: Iterable[Plan], *, force: bool) -> None:
    """Raise an UnsavedError that names what the plans would destroy; `force` saves files first."""
    every = list(plans)
    blocked = [workspace_path(p.target, path) for p in every for path in p.blocked]
    if blocked:
        raise UnsavedError(
            f"these stand in the way and are in no manifest; nothing was changed:\n"
            f"{listing(sorted(set(blocked)))}",
            hint="move them elsewhere, then repeat the command",
        )
    unsaved = [workspace_path(p.target, path) for p in every for path in p.unsaved]
    if unsaved and not force:
        raise UnsavedError(
            f"these have changes that are saved nowhere; nothing was changed:\n{listing(unsaved)}",
            hint="keep them with `dv add`, or replace them with --force (which saves a copy first)",
        )


def save_unsaved(project: Project, plans: Iterable[Plan]) -> list[Saved]:
    """Bring content that the plans would destroy into the store; return what was saved."""
    unsaved = [workspace_path(one.target, path) for one in plans for path in one.unsaved]
    return save_files(project, unsaved)


def lacks_content(project: Project, todo: Plan) -> bool:
    """Whether the store lacks something that is to be written."""
    return any(project.store.lacking(run) for run in _runs(todo))


# --- doing it -------------------------------------------------------------------------------


def apply(project: Project, todo: Plan) -> CheckedOut:
    """Carry out a plan: remove, then write, then remember what is now on the disk.

    Of many files a run is written at a time, once all the contents of all runs were looked up.
    """
    with project.store.reader() as reader:
        files: _ToWrite = ()
        for run in _runs(todo):
            files = _looked_up(todo, reader, run)
        if len(todo.write) <= RUN_FILES_MAX:
            return _apply(project, todo, reader, [files])
        again = (_looked_up(todo, reader, run) for run in _runs(todo))
        return _apply(project, todo, reader, again)


def _runs(todo: Plan) -> Iterator[_ByContent]:
    """Yield the files to write by their content, in runs of neighbours."""
    run: _ByContent = {}
    files = 0
    for path, entry in todo.write.items():
        if not entry.is_file:
            continue
        run.setdefault(entry.digest, []).append((path, entry))
        files += 1
        if files == RUN_FILES_MAX:
            yield run
            run, files = {}, 0
    if run:
        yield run


def _looked_up(todo: Plan, reader: ContentReader, run: _ByContent) -> _ToWrite:
    """Prepare to read contents; return them in the order in which they are best read."""
    order = reader.prepare(run)
    _refuse_false_sizes(todo, reader, order, run)
    return [(digest, run[digest]) for digest in (*order, EMPTY) if digest in run]


def _refuse_false_sizes(
    todo: Plan,
    reader: ContentReader,
    order: Iterable[Digest],
    by_content: Mapping[Digest, Sequence[tuple[str, Entry]]],
) -> None:
    """Raise a ManifestError if an entry has another size than its content, before all else."""
    for digest in order:
        size = reader.size(digest)
        for path, entry in by_content[digest]:
            if entry.size != size:
                raise ManifestError(
                    f"{printable(workspace_path(todo.target, path))}: the manifest says "
                    f"{entry.size:,} bytes, the content has {size:,}; nothing was changed"
                )


_ByContent: TypeAlias = dict[Digest, list[tuple[str, Entry]]]
_Written: TypeAlias = dict[str, os.stat_result | Stamp]
"""What the files that were written are now."""
_ToWrite: TypeAlias = Sequence[tuple[Digest, Sequence[tuple[str, Entry]]]]
"""Contents in the order in which they are best read, each with the files that have it."""


def _apply(
    project: Project, todo: Plan, reader: ContentReader, runs: Iterable[_ToWrite]
) -> CheckedOut:
    sweep(project, todo.scan)
    for path in todo.remove:
        place = workspace_path(todo.target, path)
        if path in todo.scan.folders:
            project.workspace.remove_empty_folder(place)
        else:
            _refuse_meddled(project, todo, path)
            project.workspace.remove(place)
    _prune(project, todo)
    if todo.make_target:
        project.workspace.make_folder(todo.target)
    project.progress.start("writing", total_bytes=todo.write_bytes)
    written: _Written = {}
    for files in runs:
        before, written = written, {}
        _write_files(project, todo, reader, files, written)
        # Not at once: what is as young as the clock's last tick would have to be read again.
        save_each_seen(project, todo.target, _seen_written(todo, before))
    project.progress.finish()
    for path, entry in todo.write.items():
        place = workspace_path(todo.target, path)
        if entry.symlink:
            project.workspace.write_link(place, entry.symlink)
        elif entry.dir:
            project.workspace.make_folder(place)
    for path, entry in todo.chmod.items():
        _refuse_meddled(project, todo, path)
        place = workspace_path(todo.target, path)
        found = project.workspace.set_executable(place, entry.exec)
        if _same_content(todo.scan.files[path], found):
            written[path] = found
    seen = chain(_seen_written(todo, written), _seen_besides(todo, written))
    save_each_seen(project, todo.target, seen)
    _remember_same(project, todo)
    return CheckedOut(
        todo.target, len(todo.write) + len(todo.chmod), todo.write_bytes, len(todo.remove)
    )


def _write_files(
    project: Project,
    todo: Plan,
    reader: ContentReader,
    files: _ToWrite,
    written: _Written,
) -> None:
    """Write what is new first, then, one by one, what has to be looked at before it is replaced."""
    left = list(_write_new(project, todo, reader, files, written))
    for path, entry in left:
        place = workspace_path(todo.target, path)
        fill = _filler(project, todo, reader, path, entry)
        written[path] = project.workspace.write_file(place, fill, executable=entry.exec)
        project.progress.advance(entry.size)


def _write_new(
    project: Project, todo: Plan, reader: ContentReader, files: _ToWrite, written: _Written
) -> Iterator[tuple[str, Entry]]:
    """Write the files that nothing was in the place of; yield all others, also those that failed.

    The sizes in the entries were compared with the contents' before.
    """
    scan = todo.scan
    there = scan.files.keys() | scan.links.keys() | scan.folders
    pieces = []
    for digest, places in files:
        for path, entry in places:
            if path in there or entry.size > WORKER_FILE_MAX_BYTES:
                yield path, entry
            else:
                place = workspace_path(todo.target, path)
                pieces.append(Piece(place, digest, entry.size, entry.exec))
    skip = len(todo.target) + 1
    for batch, stamps in write_new(project.workspace, reader, pieces):
        size = 0
        for piece, stamp in zip(batch, stamps, strict=True):
            path = piece.place[skip:] or SELF
            if stamp is None:
                yield path, todo.write[path]
            else:
                written[path] = stamp
                size += piece.size
        project.progress.advance(size)


def _filler(
    project: Project, todo: Plan, reader: ContentReader, path: str, entry: Entry
) -> Callable[[int], None]:
    place = workspace_path(todo.target, path)

    def fill(fd: int) -> None:
        size = 0
        for data in reader.read(entry.digest):
            size += len(data)
            while data:
                data = data[os.write(fd, data) :]
        if size != entry.size:
            raise ManifestError(
                f"{printable(place)}: the manifest says {entry.size:,} bytes, "
                f"the content has {size:,}"
            )
        # The last moment before the file is replaced.
        _refuse_meddled(project, todo, path)

    return fill


def _refuse_meddled(project: Project, todo: Plan, path: str) -> None:
    """Raise an UnsavedError if what stands at a path is not what was planned with."""
    planned = todo.scan.files.get(path)
    if path in todo.scan.links or path in todo.scan.folders:
        return
    place = workspace_path(todo.target, path)
    found = project.workspace.stat(place)
    if planned is not None and found is not None and not stat.S_ISLNK(found.st_mode):
        same = _same_content(planned, found)
    else:
        same = planned is not None or found is None
    if not same:
        raise UnsavedError(
            f"{printable(place)} changed while dvtool was at work; it was left as it is",
            hint="repeat the command when nothing else writes there",
        )


def _same_content(planned: Stat, found: os.stat_result) -> bool:
    """Whether a file is, by its stat, the one that was read; a chmod moves its ctime only."""
    return (planned.st_mtime_ns, planned.st_size, planned.st_ino) == (
        found.st_mtime_ns,
        found.st_size,
        found.st_ino,
    )


def _prune(project: Project, todo: Plan) -> None:
    """Remove the folders that the removals emptied, deepest first."""
    replaced = {path for path in todo.write if path in todo.scan.folders}
    candidates = folders_above(todo.remove) | replaced | todo.emptied
    wanted = {path for path, entry in (*todo.write.items(), *todo.settled.items()) if entry.dir}
    for folder in sorted(candidates - todo.keep_folders - wanted, key=len, reverse=True):
        if folder in todo.scan.folders:
            project.workspace.remove_empty_folder(workspace_path(todo.target, folder))


def _remember_same(project: Project, todo: Plan) -> None:
    """Remember the folders in which all was as the manifest says, and still is."""
    scan = todo.scan
    if todo.manifest is None or not scan.states:
        return
    empty = set(scan.empty_folders)
    doubtful = {*todo.write, *todo.chmod, *todo.remove}
    doubtful.update(chain(scan.files, scan.links, empty))
    doubtful -= todo.settled.keys()
    doubtful.update(p for p, entry in todo.settled.items() if entry.dir and p not in empty)
    counts = entries_by_folder(chain(todo.settled, todo.write, todo.chmod), todo.manifest)
    remember(project, scan, counts, doubtful, stored=todo.settled)


def _seen_written(todo: Plan, written: _Written) -> Iterator[tuple[str, Seen]]:
    """Yield what to remember of files that were written, or made executable, by now."""
    finished = now_ns()
    for path, found in sorted(written.items()):
        entry = todo.write.get(path) or todo.chmod[path]
        yield (
            path,
            seen_file(
                found, entry.digest, executable=entry.exec, read_at_ns=finished, tracked=True
            ),
        )


def _seen_besides(todo: Plan, written: _Written) -> Iterator[tuple[str, Seen | None]]:
    """Yield what to remember of all that no file was written for, and what to forget."""
    for path in todo.remove:
        yield path, None
    finished = now_ns()
    others = ((path, entry) for path, entry in todo.write.items() if not entry.is_file)
    for path, entry in chain(others, todo.chmod.items(), todo.settled.items()):
        known = todo.scan.seen.get(path)
        if path in written or (known is not None and known.tracked):
            continue
        found = todo.scan.files.get(path)
        if entry.is_file and found is not None:
            yield (
                path,
                seen_file(
                    found, entry.digest, executable=entry.exec, read_at_ns=finished, tracked=True
                ),
            )
        else:
            yield path, seen_other(entry.symlink, tracked=True)
