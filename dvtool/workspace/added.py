"""Remembering the files that a first add has just read, and the folders that they are in."""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import islice
from typing import NamedTuple

from dvtool.format.paths import folder_runs, joined
from dvtool.workspace.folder_state import state_by, state_of_columns
from dvtool.workspace.read_files import ReadFiles, state_columns
from dvtool.workspace.remembered import SAVED_AT_ONCE
from dvtool.workspace.scan import Scan
from dvtool.workspace.statcache import encode_seen_names, seen_folder_of


class AddedRows(NamedTuple):
    """The statcache's rows of files that were read, and the paths of those that are racy."""

    rows: list[tuple[str, bytes]]
    racy: list[str]
    """Another look would have to read them again: see `seen_file`."""


def added_rows(target: str, files: ReadFiles, read_at_ns: int) -> AddedRows:
    """Return what the statcache is to remember of files, by sorted paths, as tracked.

    The files are all that is to be remembered of the folders that they are in.
    """
    counts: Counter[str] = Counter()
    encoded: dict[str, list[bytes]] = {}
    racy: list[str] = []
    for begin in range(0, len(files), SAVED_AT_ONCE):
        part = files.part(begin, begin + SAVED_AT_ONCE)
        seen = part.seen(read_at_ns)
        racy += [path for path, values in zip(part.paths, seen, strict=True) if values[2] < 0]
        for folder, first, end in folder_runs(part.paths):
            skip = len(folder) + 1 if folder else 0
            names = [path[skip:] for path in part.paths[first:end]]
            counts[folder] += end - first
            encoded.setdefault(folder, []).append(encode_seen_names(names, seen[first:end]))
    rows = [
        (joined(target, folder), seen_folder_of(counts[folder], encoded.pop(folder)))
        for folder in list(encoded)
    ]
    return AddedRows(rows, racy)


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
