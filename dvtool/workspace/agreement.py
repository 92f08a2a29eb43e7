"""Which folders of a large target are as its manifest says, without a look at their entries.

Where a folder was found to have exactly the entries that the manifest has there, its state is
remembered, and how many entries each shard has in it. As long as the folder has that state and the
manifest has the same shards, the folder's entries need not be known. A shard all of whose entries
are in such folders is not loaded.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from dvtool.format.manifest import Built, Entries, Manifest, ShardRef
from dvtool.format.paths import (
    check_nesting,
    folder_of,
    folder_runs,
    folders_above,
    joined,
    nested,
    workspace_path,
)
from dvtool.workspace.folder_state import states_of
from dvtool.workspace.scan import ContentAt, Scan, content_of, scan_rest
from dvtool.workspace.statcache import AgreedFolder

if TYPE_CHECKING:
    from dvtool.workspace.worktree import ShardStore, StoredWorktree

KEY_SIZE_BYTES = 16


class Agreement(msgspec.Struct):
    """The part of a target that is as the manifest says. Folder paths are relative to it."""

    target: str
    manifest: Manifest
    store: ShardStore
    same: dict[str, AgreedFolder] = msgspec.field(default_factory=dict)
    """The folders whose own entries are as the manifest says."""
    partial: dict[bytes, ShardRef] = msgspec.field(default_factory=dict)
    """The shards that have entries elsewhere too, by `key_of`; all are in the store."""

    _wanted: Entries | None = None
    _content_at: ContentAt | None = None

    @property
    def wanted(self) -> Entries:
        """The entries that are not in folders known to be the same. Asked for, these stay so."""
        if self._wanted is None:
            wanted: Entries = {}
            for part in self.parts():
                wanted.update(part)
            self._wanted = wanted
        return self._wanted

    def parts(self) -> Iterator[Entries]:
        """Yield `wanted` a shard at a time, so that of a large target not all is held."""
        if self._wanted is not None:
            yield self._wanted
            return
        for ref in self.partial.values():
            yield {
                path: entry
                for path, entry in self.store.load_shard(ref).items()
                if folder_of(path) not in self.same
            }

    def content_at(self, path: str) -> bool:
        """Whether the manifest has content at a path outside of the folders known to be the same.

        Only symlinks need this question; the first one costs a look at all `wanted` entries.
        """
        if self._content_at is None:
            self._content_at = content_of(self.wanted)
        return self._content_at(path)

    @property
    def empty(self) -> set[str]:
        """The entries that are empty folders, in folders known to be the same."""
        return {
            joined(folder, name) for folder, agreed in self.same.items() for name in agreed.empty
        }

    def check_nesting(self, worktree: StoredWorktree) -> None:
        """Raise a ManifestError for a path below another entry, be either known to be the same."""
        check_nesting(self.wanted, self.target)
        above = folders_above(self.wanted)
        inside = [folder for folder, agreed in self.same.items() if agreed.entries]
        alone = (folders_above(inside) | set(inside)) & self.wanted.keys() | above & self.empty
        for folder in above - self.same.keys():
            here = self.same.get(folder_of(folder))
            if here is None or folder.rpartition("/")[2] in here.folders:
                continue
            # New, or else an entry: what is in a folder that is the same is in the manifest.
            file_stat = worktree.workspace.stat(workspace_path(self.target, folder))
            if file_stat is not None and not stat.S_ISDIR(file_stat.st_mode):
                alone.add(folder)
        if alone:
            raise nested(self.target, min(alone))

    def scan_rest(self, worktree: StoredWorktree, content_at: ContentAt | None) -> Scan:
        """Look at everything outside of the folders known to be the same."""
        filled = self._filled()
        for folder in [
            folder_path
            for folder_path, agreed in self.same.items()
            if folder_path and not agreed.entries
        ]:
            # The folder may be an entry itself, and may be not empty, or only by the ignore rules
            # of now.
            if folder not in filled:
                del self.same[folder]
        scan = scan_rest(
            worktree,
            self.target,
            self.starts(),
            self.same,
            content_at=content_at,
        )
        if scan.left_out and scan.empty_folders:
            # Rules may leave out all that a folder has, also what is tracked, and not looked at.
            scan.empty_folders = [path for path in scan.empty_folders if path not in filled]
        return scan

    def _filled(self) -> set[str]:
        """Return the folders above those known to be the same that have entries."""
        filled: set[str] = set()
        for folder, agreed in self.same.items():
            while folder and agreed.entries:
                folder = folder_of(folder)
                filled.add(folder)
        return filled

    def starts(self) -> Iterator[str]:
        """Yield the folders from which the rest of the target is to be walked."""
        if "" not in self.same:
            yield ""
        for folder in sorted(self.same):
            prefix = folder + "/" if folder else ""
            for name in self.same[folder].folders:
                if prefix + name not in self.same:
                    yield prefix + name


def agree(
    worktree: StoredWorktree,
    target: str,
    manifest: Manifest,
    *,
    before: Manifest | None = None,
    tracked: bool = False,
) -> Agreement:
    """Find which folders of a target are as its manifest (one of shards) says; with one look.

    Folders remembered of another manifest, `before`, count where the two manifests say the same.
    With `tracked`, only folders count all of whose entries are tracked.
    """
    shards = _keys(manifest)
    others = _keys(before) if before is not None else shards
    agreed_folders = worktree.statcache.agreed_folders(target)
    known = {
        folder[len(target) + 1 :]: agreed
        for folder, agreed in agreed_folders.items()
        if (shards >= agreed.entries.keys() or others >= agreed.entries.keys())
        and (agreed.tracked or not tracked)
    }
    folders = sorted(known)
    paths = [joined(target, folder) for folder in folders]
    sizes = [
        sum(known[folder].entries.values()) + len(known[folder].folders) + 1 for folder in folders
    ]
    states = states_of(worktree.root, paths, sizes, worktree.workspace.links)
    agreement = Agreement(target, manifest, worktree.store)
    agreement.same = {
        folder: known[folder]
        for folder, state in zip(folders, states, strict=True)
        if state == known[folder].state
    }
    unseen = [path for path, state in zip(paths, states, strict=True) if state is None]
    _forget_gone(worktree, [*unseen, *(agreed_folders.keys() - set(paths))])
    if before is not None:
        _turn(worktree, agreement, before)
    _settle_folders(worktree, agreement)
    return agreement


def _turn(worktree: StoredWorktree, agreement: Agreement, before: Manifest) -> None:
    """Of the folders that are as `before` says, keep those of which the manifest says the same."""
    keys, olds = _keys(agreement.manifest), _keys(before)
    moved = [
        folder
        for folder, agreed_folder in agreement.same.items()
        if not keys.issuperset(agreed_folder.entries)
    ]
    if not moved:
        return
    gone = [ref for ref in before.shards if key_of(ref) not in keys]
    come = [ref for ref in agreement.manifest.shards if key_of(ref) not in olds]
    worktree.shards.need([*gone, *come])
    old = _by_folder(worktree.store, gone)
    new = _by_folder(worktree.store, come)
    turned = {}
    for folder in moved:
        agreed = agreement.same.pop(folder)
        entries = new.get(folder, {})
        if old.get(folder, {}) == entries:
            counts = {key: count for key, count in agreed.entries.items() if key in keys}
            counts |= entries_by_folder(entries, agreement.manifest).get(folder, {})
            turned[folder] = structs.replace(agreed, entries=counts)
    agreement.same |= turned
    _save(worktree, agreement.target, turned)


def _by_folder(store: ShardStore, refs: Iterable[ShardRef]) -> dict[str, Entries]:
    folders: dict[str, Entries] = {}
    for ref in refs:
        for path, entry in store.load_shard(ref).items():
            folders.setdefault(folder_of(path), {})[path] = entry
    return folders


def agreeing(
    worktree: StoredWorktree, target: str, manifest: Manifest, before: Manifest | None
) -> Agreement | None:
    """As `agree`, of what is tracked; None if the manifest is a small one, or no folder agrees."""
    if not manifest.shards:
        return None
    known = agree(worktree, target, manifest, before=before, tracked=True)
    return known if known.same else None


def _forget_gone(worktree: StoredWorktree, paths: Iterable[str]) -> None:
    """Forget those of the folders that are gone, as each new name would add a row.

    Other folders, as of another branch, may be of use again.
    """
    gone = [path for path in paths if not os.path.isdir(worktree.absolute(path))]
    if gone:
        worktree.statcache.forget_agreed(gone)


def _settle_folders(worktree: StoredWorktree, agreement: Agreement) -> None:
    """Find the shards that have entries elsewhere, until nothing contradicts what is the same."""
    shards = {key_of(ref): ref for ref in agreement.manifest.shards}
    while True:
        inside: Counter[bytes] = Counter()
        for agreed in agreement.same.values():
            inside.update(agreed.entries)
        short = {
            key: ref
            for key, ref in shards.items()
            if inside[key] != ref.files and key not in agreement.partial
        }
        if not short:
            return
        worktree.shards.need(short.values())
        agreement.partial.update(short)
        for key, ref in short.items() if agreement.same else ():
            entries = worktree.shards.load(ref)
            for folder, count in Counter(map(folder_of, entries)).items():
                here = agreement.same.get(folder)
                if here is not None and here.entries.get(key) != count:
                    del agreement.same[folder]


def leave_out(worktree: StoredWorktree, agreement: Agreement, folders: Iterable[str]) -> None:
    """Count folders as not the same, whatever they look like."""
    for folder in folders:
        agreement.same.pop(folder, None)
    _settle_folders(worktree, agreement)


def remember(
    worktree: StoredWorktree,
    scan: Scan,
    counts: Mapping[str, Mapping[bytes, int]],
    doubtful: Iterable[str],
    *,
    stored: Container[str] = (),
) -> None:
    """Remember the folders of a scan in which everything is as the manifest says.

    `counts` are `entries_by_folder` of all that the manifest has in the folders of the scan;
    `doubtful` those paths, of it or of the scan, that are not, or not known to be, as it says.
    The files `stored`, or all that the scan has as read, have just become so, and tracked,
    whatever the scan remembers of them.
    """
    out = {folder_of(path) for path in doubtful}
    tracked = dict.fromkeys(scan.states, True)
    for path, file_stat in scan.files.items() if scan.read is None else ():
        seen = scan.seen.get(path)
        if seen is None:
            if path not in stored:
                out.add(folder_of(path))
        elif not seen.matches(file_stat):
            out.add(folder_of(path))
        elif not seen.tracked and path not in stored:
            tracked[folder_of(path)] = False
    for path in (*scan.links, *scan.empty_folders):
        seen = scan.seen.get(path)
        if (seen is None or not seen.tracked) and path not in stored:
            tracked[folder_of(path)] = False
    empty: dict[str, list[str]] = {}
    for path in scan.empty_folders:
        empty.setdefault(folder_of(path), []).append(path.rpartition("/")[2])
    _save(
        worktree,
        scan.target,
        {
            folder: AgreedFolder(
                state, dict(counts.get(folder, {})), names, empty.get(folder, []), tracked[folder]
            )
            for folder, (state, names) in scan.states.items()
            if folder not in out
        },
    )


def carry_over(
    worktree: StoredWorktree, agreement: Agreement, changed: Container[str], built: Built
) -> None:
    """Remember the folders that were the same as the same in the next version of the manifest.

    Their shards are others where something else in those changed. The folders `changed` themselves,
    as those with empty folders in them can be, are not carried over.
    """
    manifest = built.manifest
    keys = _keys(manifest)
    moved = {
        folder: agreed
        for folder, agreed in agreement.same.items()
        if folder not in changed and not keys.issuperset(agreed.entries)
    }
    if not moved:
        return
    paths = [path for shard in built.shards for path in worktree.shards.load(shard.ref)]
    counts = entries_by_folder([path for path in paths if folder_of(path) in moved], manifest)
    agreed_folders = {
        folder: structs.replace(
            agreed,
            entries={key: count for key, count in agreed.entries.items() if key in keys}
            | counts.get(folder, {}),
        )
        for folder, agreed in moved.items()
    }
    _save(worktree, agreement.target, agreed_folders)


def carry_edits(
    worktree: StoredWorktree,
    target: str,
    before: Manifest,
    after: Manifest,
    edited: Iterable[str],
) -> None:
    """Remember the folders that agree with `before` as agreeing with `after`, without a look.

    The two have the same paths in the shards of the same number, and differ in the files `edited`
    alone. Of the folders of these nothing new is known.
    """
    pairs = zip(before.shards, after.shards, strict=True)
    turned = {key_of(was): key_of(now) for was, now in pairs if was != now}
    olds = _keys(before)
    changed = {folder_of(path) for path in edited}
    agreed_folders = {
        path[len(target) + 1 :]: structs.replace(
            agreed, entries={turned.get(key, key): n for key, n in agreed.entries.items()}
        )
        for path, agreed in worktree.statcache.agreed_folders(target).items()
        if path[len(target) + 1 :] not in changed
        and olds >= agreed.entries.keys()
        and not turned.keys().isdisjoint(agreed.entries)
    }
    _save(worktree, target, agreed_folders)


def _save(
    worktree: StoredWorktree, target: str, agreed_folders: Mapping[str, AgreedFolder]
) -> None:
    """Remember folders of a target, given by their paths in it."""
    if agreed_folders:
        worktree.statcache.save_agreed(
            {joined(target, folder): agreed for folder, agreed in agreed_folders.items()}
        )


def entries_by_folder(paths: Iterable[str], manifest: Manifest) -> dict[str, Counter[bytes]]:
    """Return folder -> how many of the paths, all entries of the manifest, each shard has there."""
    firsts = [ref.first for ref in manifest.shards]
    keys = [key_of(ref) for ref in manifest.shards]
    counts: dict[str, Counter[bytes]] = {}
    inner, low, high, key = None, "", "", b""
    for path in paths:
        folder = path.rpartition("/")[0]
        # Neighbours are in the same folder and shard mostly; the last shard has no end.
        if folder != inner or not low <= path < high:
            number = bisect_right(firsts, path) - 1
            key, low = keys[number], firsts[number]
            high = firsts[number + 1] if number + 1 < len(firsts) else ""
            inner, shard_counts = folder, counts.setdefault(folder, Counter())
        shard_counts[key] += 1
    return counts


def sorted_entries_by_folder(paths: Sequence[str], manifest: Manifest) -> dict[str, Counter[bytes]]:
    """Do as `entries_by_folder`, with paths that are sorted, without a look at each."""
    firsts = [ref.first for ref in manifest.shards]
    counts: dict[str, Counter[bytes]] = {}
    for folder, begin, end in folder_runs(paths):
        shard_counts = counts.setdefault(folder, Counter())
        while begin < end:
            number = bisect_right(firsts, paths[begin])
            # The last shard has no end.
            after = bisect_left(paths, firsts[number], begin, end) if number < len(firsts) else end
            shard_counts[key_of(manifest.shards[number - 1])] += after - begin
            begin = after
    return counts


def _keys(manifest: Manifest) -> set[bytes]:
    return {key_of(ref) for ref in manifest.shards}


def key_of(ref: ShardRef) -> bytes:
    """Return the key of a shard in an `AgreedFolder`."""
    return ref.digest[:KEY_SIZE_BYTES]
