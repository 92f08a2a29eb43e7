"""Remembering, in the statcache, what was seen of a target's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, cast

from dvtool.format.paths import workspace_path
from dvtool.system.stat import Stat
from dvtool.workspace.scan import Scan
from dvtool.workspace.statcache import Seen, SeenFolder, seen_file, seen_other

if TYPE_CHECKING:
    from dvtool.workspace.worktree import Worktree

SAVED_AT_ONCE = 50_000


def remember_files(worktree: Worktree, scan: Scan, fresh: dict[str, Stat], read_at_ns: int) -> None:
    """Put digests taken since `read_at_ns` into the statcache; what is tracked stays tracked."""
    changes: dict[str, Seen] = {}
    for path, file_stat in fresh.items():
        before = scan.seen.get(path)
        changes[path] = seen_file(
            file_stat,
            scan.digests[path],
            executable=scan.executable(path),
            read_at_ns=read_at_ns,
            tracked=before is not None and before.tracked,
        )
    scan.seen.update(changes)
    save_seen(worktree, scan.target, changes)


def save_seen(worktree: Worktree, target: str, changes: Mapping[str, Seen | None]) -> None:
    """Set or (None) forget what the statcache knows of paths of a target."""
    save_each_seen(worktree, target, changes.items())


def save_each_seen(
    worktree: Worktree, target: str, changes: Iterable[tuple[str, Seen | None]]
) -> None:
    """As `save_seen`, of paths that need not all be held at a time."""
    left = iter(changes)
    while batch := list(islice(left, SAVED_AT_ONCE)):
        by_folder: dict[str, dict[str, Seen | None]] = {}
        inner, names = None, {}  # neighbours are in the same folder mostly
        for path, seen in batch:
            folder, slash, name = path.rpartition("/")
            if folder != inner or not slash:
                inner = folder
                full_folder, _, name = workspace_path(target, path).rpartition("/")
                names = by_folder.setdefault(full_folder, {})
            names[name] = seen
        rows: dict[str, SeenFolder] = worktree.statcache.folders(by_folder)
        lost = {folder for folder, names in by_folder.items() if None in names.values()}
        for folder, names in by_folder.items():
            if folder not in rows and folder not in lost:
                rows[folder] = cast(SeenFolder, names)
                continue
            row = rows.setdefault(folder, {})
            for name, seen in names.items():
                if seen is None:
                    row.pop(name, None)
                else:
                    row[name] = seen
        worktree.statcache.save(rows, lost=lost)


def tracked_other(link: str = "") -> Seen:
    """Return what to remember of a symlink or (without `link`) empty folder that is tracked."""
    return seen_other(link, tracked=True)
