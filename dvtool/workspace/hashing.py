"""Reading files of the workspace whose digest is not known."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from dvtool.errors import DvError, InputError, count_text, printable
from dvtool.format.digest import READ_SIZE_BYTES, Digest, hasher
from dvtool.format.paths import workspace_path
from dvtool.system.calls import check_stopped, count
from dvtool.system.lazy import later
from dvtool.system.logs import NAMES_NOTED_MAX, Log
from dvtool.system.stat import Stat, stat_of
from dvtool.system.writeback import show_mapped_writes
from dvtool.workspace.files import COARSEST_NS
from dvtool.workspace.opener import READ_FLAGS, reason
from dvtool.workspace.remembered import remember_files
from dvtool.workspace.scan import Scan

if TYPE_CHECKING:
    from dvtool.system import parallel
    from dvtool.workspace.worktree import Worktree
else:
    parallel = later("dvtool.system.parallel")

_LOG = Log("workspace")
HASH_THREADS_MIN_BYTES = 4 << 20
HASH_RUN_FILES = 64
HASH_RUN_BYTES = 4 << 20


def hash_files(
    worktree: Worktree, scan: Scan, paths: Iterable[str], *, tolerant: bool = False
) -> None:
    """Read the files whose digest is not known, and remember their digests.

    A file that vanished meanwhile leaves the scan; one that cannot be read is an InputError, or,
    if `tolerant`, one more of the scan's faults.
    """
    unread = sorted(scan.unread(paths))
    if not unread:
        return
    total = sum(scan.files[path].st_size for path in unread)
    _LOG.note(
        "reads %d files, %d bytes, of %s: size or times are not those of when they were last read, "
        "or they were never read: %s",
        *(len(unread), total, scan.target, ", ".join(unread[:NAMES_NOTED_MAX])),
    )
    count_of = count_text(len(unread), "file")
    worktree.progress.start(f"reading {count_of} of {scan.target}", total_bytes=total)
    fresh: dict[str, Stat] = {}
    read_at_ns = clock_ns(worktree, scan)

    def take(done: Sequence[_Hashed]) -> None:
        for hashed in done:
            if hashed.stat is not None:
                scan.digests[hashed.path] = hashed.digest
                scan.files[hashed.path] = hashed.stat
                fresh[hashed.path] = hashed.stat
            elif hashed.fault:
                scan.faults.append((hashed.path, "cannot be read"))
            else:
                del scan.files[hashed.path]

    hash_run = partial(_hash_run, worktree, scan, tolerant=tolerant)
    if total < HASH_THREADS_MIN_BYTES:
        take(hash_run(unread))
    else:
        for _, done in parallel.run_bounded(
            hash_run,
            _runs(scan, unread),
            workers=os.cpu_count() or 1,
            size_of=lambda run: sum(scan.files[path].st_size for path in run),
            budget_bytes=total,
            tell=worktree.progress.advance,
        ):
            take(done)
    worktree.progress.finish()
    remember_files(worktree, scan, fresh, read_at_ns)


def clock_ns(worktree: Worktree, scan: Scan) -> int:
    """Return the time, as the disk of a target counts, from which on its files are read.

    Files behind links may be on another disk, so there the time is one before every stamp.
    """
    now = worktree.workspace.clock_ns(scan.target)
    inside = any(link.startswith(scan.target + "/") for link in worktree.workspace.links)
    return now - COARSEST_NS if scan.followed or inside else now


def read_digest(worktree: Worktree, path: str, *, follow: bool = False) -> Digest:
    """Return the digest of one file of the worktree, read now; OSError or InputError if it cannot.

    Links are followed only with `follow`, as what was added through them needs it.
    """
    if follow:
        return _hash_open(os.open(worktree.absolute(path), READ_FLAGS), path)[0]
    with worktree.workspace.opener() as opener:
        return _hash_open(opener.file(path), path)[0]


class _Hashed(msgspec.Struct, frozen=True):
    """A file as it was read; without `stat` it is gone or, with `fault`, cannot be read."""

    path: str
    digest: Digest = b""
    stat: Stat | None = None
    fault: bool = False


def _runs(scan: Scan, paths: Sequence[str]) -> Iterator[list[str]]:
    """Cut paths into runs of neighbours, so that who reads a run opens each folder once."""
    run: list[str] = []
    size = 0
    for path in paths:
        run.append(path)
        size += scan.files[path].st_size
        if len(run) >= HASH_RUN_FILES or size >= HASH_RUN_BYTES:
            yield run
            run, size = [], 0
    if run:
        yield run


def _hash_run(
    worktree: Worktree, scan: Scan, paths: Sequence[str], *, tolerant: bool
) -> list[_Hashed]:
    """Read files one after another; for any thread."""
    done = []
    with worktree.workspace.opener() as opener:
        for path in paths:
            full_path = workspace_path(scan.target, path)
            try:
                if scan.behind_link(path):
                    fd = os.open(worktree.absolute(full_path), READ_FLAGS)
                else:
                    fd = opener.file(full_path)
                digest, file_stat = _hash_open(fd, full_path)
            except FileNotFoundError:
                done.append(_Hashed(path))
            except (OSError, DvError) as error:
                if not tolerant:
                    raise _unreadable(full_path, error) from error
                done.append(_Hashed(path, fault=True))
            else:
                done.append(_Hashed(path, digest, file_stat))
    return done


def _unreadable(path: str, error: OSError | DvError) -> DvError:
    if isinstance(error, DvError):
        return error
    return InputError(f"{printable(path)} cannot be read: {reason(error)}")


def _hash_open(fd: int, path: str) -> tuple[Digest, Stat]:
    """Return the digest of an open file, which is closed, and its stat when it was read."""
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{printable(path)} is not a file any more")
        show_mapped_writes(fd, before.st_dev)
        whole = hasher()
        while data := os.read(fd, READ_SIZE_BYTES):
            whole.update(data)
            check_stopped()
            count(len(data))
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise DvError(
            f"{printable(path)} changed while it was read", hint="repeat the command when it rests"
        )
    return whole.digest(), stat_of(after)
