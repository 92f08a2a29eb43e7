"""Remembering the files that a first add has just read, and the folders that they are in."""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING, cast

from dvtool.format.paths import folder_runs, joined
from dvtool.workspace.folder_state import state_by, state_of_columns
from dvtool.workspace.read_files import ReadFiles, state_columns
from dvtool.workspace.remembered import SAVED_AT_ONCE
from dvtool.workspace.scan import Scan
from dvtool.workspace.statcache import SeenFolder

if TYPE_CHECKING:
    from dvtool.workspace.worktree import Worktree


def remember_read(worktree: Worktree, target: str, files: ReadFiles, read_at_ns: int) -> list[str]:
    """Put files, by sorted paths, into the statcache as tracked, as they were read and added.

    Return those that another look would have to read again: see `seen_file`.
    """
    racy: list[str] = []
    for begin in range(0, len(files), SAVED_AT_ONCE):
        part = files.part(begin, begin + SAVED_AT_ONCE)
        values = part.seen(read_at_ns)
        racy += [path for path, seen in zip(part.paths, values, strict=True) if seen[2] < 0]
        by_folder: dict[str, SeenFolder] = {}
        for folder, first, end in folder_runs(part.paths):
            skip = len(folder) + 1 if folder else 0
            names = [path[skip:] for path in part.paths[first:end]]
            rows = by_folder.setdefault(joined(target, folder), {})
            rows.update(cast(SeenFolder, zip(names, values[first:end], strict=True)))
        for folder, known in worktree.statcache.folders(by_folder).items():
            by_folder[folder] = known | by_folder[folder]
        worktree.statcache.save(by_folder)
    return racy


def set_states(scan: Scan) -> None:
    """Give the folders of a scan that were listed their states, once each file was read."""
    files = iter(scan.files.items())
    read = scan.read
    runs: dict[str, list[tuple[int, int]]] = {}
    for folder, first, end in folder_runs(read.paths) if read is not None else ():
        runs.setdefault(folder, []).append((first, end))
    for folder, count, folders in scan.listed:
        inside = list(islice(files, count))
        if folders is None:
            continue
        skip = len(folder) + 1 if folder else 0
        names = [path[skip:] for path, _ in inside]
        if read is None:
            stats = [file_stat for _, file_stat in inside]
            with contextlib.suppress(OverflowError):
                scan.states[folder] = (state_by(names, stats, folders), folders)
            continue
        by_path: dict[str, bytes] = {}
        for first, end in runs.get(folder, ()):
            by_path.update(zip(read.paths[first:end], read.rows(first, end), strict=True))
        # The state counts them in the order in which the system lists them.
        columns = state_columns((by_path[path] for path, _ in inside), count)
        scan.states[folder] = (state_of_columns(names, columns, folders), folders)
    scan.listed = []
