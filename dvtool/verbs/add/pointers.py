"""Files that stand for data of another tool: adding them would version the name of the data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice

from dvtool.errors import UsageError, listing
from dvtool.format.paths import SELF, workspace_path
from dvtool.format.pointer import LFS_SIZES_BYTES, is_lfs_pointer
from dvtool.project.parts import Project
from dvtool.system.stat import UNSEEN
from dvtool.workspace.scan import Scan

LFS_LOOKED_AT_MAX = 1000
"""A clone without its LFS content has pointers everywhere: so a look at some of the files tells."""
DVC_SUFFIX = ".dvc"
DVC_SIZE_MAX_BYTES = 1 << 20


def refuse_pointers(project: Project, scan: Scan) -> None:
    """UsageError if files that are new are pointers of git-lfs, or are kept by DVC."""
    refuse_lfs_pointers(project, scan)
    kept = list(_kept_by_dvc(project, scan))
    if kept:
        raise UsageError(
            f"DVC keeps data here, by these files:\n{listing(kept)}",
            hint="get the data (dvc pull) and take them away (dvc remove); or add what is here: "
            "--as-is",
        )


def refuse_lfs_pointers(project: Project, scan: Scan, known: Iterable[str] = ()) -> None:
    """UsageError if files that are new are pointers of git-lfs.

    `known` are such files, by their paths from the top of the worktree.
    """
    pointers = [*known, *_lfs_pointers(project, scan)]
    if pointers:
        raise UsageError(
            f"these are pointers of git-lfs, not the data itself:\n{listing(pointers)}",
            hint="get the data: git lfs pull; or add them as they are: --as-is",
        )


def _lfs_pointers(project: Project, scan: Scan) -> Iterator[str]:
    if scan.read is not None:
        return
    fitting = (
        path
        for path, stat in scan.files.items()
        if stat is not UNSEEN and stat.st_size in LFS_SIZES_BYTES and path not in scan.digests
    )
    for path in islice(fitting, LFS_LOOKED_AT_MAX):
        place = workspace_path(scan.target, path)
        if is_lfs_pointer(_small_file(project, place, LFS_SIZES_BYTES.stop)):
            yield place


def _kept_by_dvc(project: Project, scan: Scan) -> Iterator[str]:
    inside = [path for path in scan.files if path.endswith(DVC_SUFFIX)]
    places = [workspace_path(scan.target, path) for path in inside if path != SELF]
    for place in (scan.target + DVC_SUFFIX, *places):
        if b"outs:" in _small_file(project, place, DVC_SIZE_MAX_BYTES):
            yield place


def _small_file(project: Project, path: str, size_max: int) -> bytes:
    """Return the bytes of a file; nothing if it is larger or not there."""
    with contextlib.suppress(OSError):
        return project.workspace.read_bytes(path, size_max=size_max) or b""
    return b""
