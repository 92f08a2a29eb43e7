"""Contents of files into the store, by batches that an engine works on."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from dvtool.errors import count_text
from dvtool.format.chunker import SINGLE_CHUNK_SIZE_MAX_BYTES
from dvtool.format.packing import FinishedPack, discard_packs
from dvtool.format.paths import SELF, workspace_path
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import Begin, Engine, engine_for
from dvtool.jobs.ingest import (
    FileSource,
    IngestResult,
    ingest,
    ingest_batches,
    keeps_class,
)
from dvtool.jobs.small_files import SmallFilesResult, read_small_files, small_files_batches
from dvtool.project.parts import Project
from dvtool.store.freeing import sweep_temp
from dvtool.store.local import LocalStore
from dvtool.system.atomic import naming_full_disk
from dvtool.system.logs import NAMES_NOTED_MAX, Log
from dvtool.system.stat import EXECUTABLE, GONE, UNSEEN, stat_of
from dvtool.workspace.added import AddedRows
from dvtool.workspace.hashing import clock_ns
from dvtool.workspace.read_files import ReadFiles
from dvtool.workspace.scan import Scan
from dvtool.workspace.statcache import Seen, seen_added

ANEW_MIN_FILES = 200_000
"""Above this size a fresh worker costs less than a fork with a copy of all known of the files."""
ADOPTED_MIN_BYTES = 64 << 20
ADOPTED_MIN_CHUNKS = 200_000

_LOG = Log("workspace")


@dataclass(slots=True)
class StoredFiles:
    """Files whose content was just copied into the store, and by how many bytes the store grew.

    Of a million files only this is kept, besides the scan's stats and digests, or columns.
    """

    paths: list[str]
    read_at_ns: int
    size_bytes: int = 0
    pointers: list[str] = field(default_factory=list)
    """The pointers of git-lfs that `store_small_files` read, by paths from the worktree's top."""
    left: list[str] = field(default_factory=list)
    """The files that it left to be stored."""
    added: AddedRows | None = None
    """The rows of the statcache, where they were made of all that was read at one go."""

    def seen(self, scan: Scan) -> Iterator[tuple[str, Seen]]:
        """Yield what to remember of each, as tracked."""
        stats, digests, recorded = scan.files, scan.digests, scan.recorded
        if recorded is None:
            modes = (bool(stats[path].st_mode & EXECUTABLE) for path in self.paths)
        else:
            modes = (path in recorded for path in self.paths)
        columns = (map(stats.__getitem__, self.paths), map(digests.__getitem__, self.paths), modes)
        return seen_added(zip(self.paths, *columns, strict=True), self.read_at_ns)


def _sources(scan: Scan, paths: Iterable[str]) -> Iterator[FileSource]:
    prefix = scan.target + "/"
    for path in paths:
        size = scan.files[path].st_size
        full_path = workspace_path(scan.target, path) if path == SELF else prefix + path
        seen = scan.seen.get(path) if scan.seen else None
        earlier = seen.digest if seen is not None and keeps_class(size) else b""
        yield FileSource(full_path, size, earlier)


class _Adopting:
    """Adopts finished packs some at a time, the last ones when it ends, also with an error.

    The index takes many chunks at once at less cost: each time it writes all of its pages anew.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._waiting: list[FinishedPack] = []

    def __enter__(self) -> _Adopting:
        return self

    def __exit__(self, *_: object) -> None:
        self._adopt()

    def take(self, packs: Sequence[FinishedPack]) -> int:
        """Adopt the packs, now or later; return their size in bytes."""
        self._waiting.extend(packs)
        size = sum(info.size for _, info in self._waiting)
        chunks = sum(len(info.index.chunk_digests) for _, info in self._waiting)
        if size >= ADOPTED_MIN_BYTES or chunks >= ADOPTED_MIN_CHUNKS:
            self._adopt()
        return sum(info.size for _, info in packs)

    def _adopt(self) -> None:
        packs, self._waiting = self._waiting, []
        if packs:
            self._store.adopt(packs, flushed=False)


def _discard(result: IngestResult | SmallFilesResult) -> None:
    discard_packs(result.packs)


def store_small_files(project: Project, scan: Scan, engine: Engine) -> StoredFiles:
    """Copy the contents of small files into the store, where most files were listed alone.

    All others are `left` for `store_files`: they were looked at then, and have a stat.
    """
    stored = StoredFiles([], clock_ns(project, scan))
    paths: list[str] = []
    for path, file_stat in scan.files.items():
        fitting = file_stat.st_size <= SINGLE_CHUNK_SIZE_MAX_BYTES
        (paths if fitting else stored.left).append(path)
    paths.sort()
    sweep_temp(project.store)
    _LOG.note(
        "reads %d files of %s, all that may be small: they are new: %s",
        *(len(paths), scan.target, ", ".join(paths[:NAMES_NOTED_MAX])),
    )
    count = count_text(len(paths), "file")
    project.progress.start(f"reading {count} of {scan.target}")
    prefix = scan.target + "/"
    batches = small_files_batches(
        project.root, project.store.path, scan.target, paths, project.workspace.links
    )
    results = engine_for(engine, files=len(paths), size_bytes=0).map(
        read_small_files, batches, undo=_discard, begin=_begin_put(scan)
    )
    coming = iter(paths)
    parts: list[tuple[list[str], ReadFiles]] = []
    alone = scan.plain and not stored.left
    with _adopting(project, results, None) as adopting:
        for result in results:
            read = list(islice(coming, len(result.files) + len(result.left)))
            if result.left:
                unread = set(result.left)
                stored.left += [read[number] for number in result.left]
                read = [path for number, path in enumerate(read) if number not in unread]
            parts.append((read, result.files))
            alone = alone and not result.left
            if not alone:
                _take_apart(scan, parts)
            stored.paths += read
            stored.pointers += [prefix + path for path in result.pointers]
            stored.size_bytes += adopting.take(result.packs)
            project.progress.note(f"{len(stored.paths):,} of {count} read")
    project.progress.finish()
    if alone:  # nothing else is in the scan than what was read: it stays in columns
        scan.read = ReadFiles()
        for read, files in parts:
            scan.read.extend(read, files)
    for path in stored.left:
        if scan.files[path] is UNSEEN:
            now = project.workspace.stat(prefix + path)
            scan.files[path] = GONE if now is None else stat_of(now)
    return stored


def store_files(
    project: Project,
    scan: Scan,
    engine: Engine,
    *,
    dereference: bool,
    before: StoredFiles | None = None,
) -> StoredFiles:
    """Copy every file's content into the store; then the scan has every digest.

    The earlier stats and hashes of the files that were read are forgotten. The files stored
    `before`, just now, are part of the result.
    """
    if before is None:
        digests = scan.digests
        lacking = project.store.lacking(digests.values())
        paths = [p for p in scan.files if p not in digests or digests[p] in lacking]
    else:
        paths = before.left
    stored = StoredFiles(paths, clock_ns(project, scan) if paths else 0)
    if paths:
        stored.paths.sort()
        _store_rest(project, scan, engine, stored, dereference=dereference)
    if before is not None:
        stored.paths = sorted(before.paths + paths) if paths else before.paths
        stored.size_bytes += before.size_bytes
        stored.read_at_ns = before.read_at_ns
    return stored


def _store_rest(
    project: Project, scan: Scan, engine: Engine, stored: StoredFiles, *, dereference: bool
) -> None:
    sweep_temp(project.store)
    total = sum(scan.files[path].st_size for path in stored.paths)
    _LOG.note(
        "stores %d files, %d bytes, of %s: they are new, changed, or not in the store: %s",
        *(len(stored.paths), total, scan.target, ", ".join(stored.paths[:NAMES_NOTED_MAX])),
    )
    count = count_text(len(stored.paths), "file")
    project.progress.start(f"adding {count} of {scan.target}", total_bytes=total)
    every = ingest_batches(
        project.root,
        project.store.path,
        _sources(scan, stored.paths),
        follow_links=dereference,
        total_bytes=total,
        links=project.workspace.links,
        far=isinstance(engine, ClusterEngine),
        flush=isinstance(engine, ClusterEngine),
    )
    left = iter(stored.paths)
    results = engine_for(engine, files=len(stored.paths), size_bytes=total).map(
        ingest,
        every,
        tell=project.progress.advance,
        undo=_discard,
        begin=_begin_put(scan),
    )
    with _adopting(project, results, total) as adopting:
        for result in results:
            stored.size_bytes += adopting.take(result.packs)
            # The results come in the order of the batches.
            _take_read(scan, list(islice(left, len(result.files))), result.files)
    project.progress.finish()


def _begin_put(scan: Scan) -> Begin:
    return "anew" if len(scan.files) >= ANEW_MIN_FILES else "quick"


@contextmanager
def _adopting(
    project: Project, results: Generator[Any, None, None], total_bytes: int | None
) -> Iterator[_Adopting]:
    with (
        naming_full_disk(project.store.path, total_bytes),
        closing(results),
        _Adopting(project.store) as adopting,
    ):
        yield adopting


def _take_apart(scan: Scan, parts: list[tuple[list[str], ReadFiles]]) -> None:
    """Take what was read file by file, and let go of it."""
    for paths, files in parts:
        _take_read(scan, paths, files)
    parts.clear()


def _take_read(scan: Scan, paths: Sequence[str], files: ReadFiles) -> None:
    scan.digests.update(zip(paths, files.digests(), strict=True))
    scan.files.update(zip(paths, files.stats(), strict=True))
    for path in paths if scan.seen else ():
        scan.seen.pop(path, None)
