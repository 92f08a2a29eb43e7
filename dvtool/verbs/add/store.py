"""Contents of files into the store, by batches that an engine works on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from dvtool.errors import count_text
from dvtool.format.packing import FinishedPack, discard_packs
from dvtool.format.paths import SELF, workspace_path
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import Engine, engine_for
from dvtool.jobs.ingest import FileSource, IngestResult, ingest, ingest_batches, keeps_class
from dvtool.project.parts import Project
from dvtool.store.freeing import sweep_temp
from dvtool.store.local import LocalStore
from dvtool.system.atomic import naming_full_disk
from dvtool.system.logs import NAMES_NOTED_MAX, Log
from dvtool.system.stat import EXECUTABLE
from dvtool.workspace.hashing import clock_ns
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

    Of a million files only this is kept, besides the scan's stats and digests.
    """

    paths: list[str]
    read_at_ns: int
    size_bytes: int = 0

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

    def take(self, packs: Iterable[FinishedPack]) -> None:
        """Adopt the packs, now or later."""
        self._waiting.extend(packs)
        size = sum(info.size for _, info in self._waiting)
        chunks = sum(len(info.index.chunk_digests) for _, info in self._waiting)
        if size >= ADOPTED_MIN_BYTES or chunks >= ADOPTED_MIN_CHUNKS:
            self._adopt()

    def _adopt(self) -> None:
        packs, self._waiting = self._waiting, []
        if packs:
            self._store.adopt(packs)


def _discard(result: IngestResult) -> None:
    discard_packs(result.packs)


def store_files(project: Project, scan: Scan, engine: Engine, *, dereference: bool) -> StoredFiles:
    """Copy every file's content into the store; then the scan has every digest.

    The earlier stats and hashes of the files that were read are forgotten.
    """
    lacking = project.store.lacking(scan.digests.values())
    digests = scan.digests
    paths = [p for p in scan.files if p not in digests or digests[p] in lacking]
    stored = StoredFiles(paths, clock_ns(project, scan) if paths else 0)
    if not paths:
        return stored
    stored.paths.sort()
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
    )
    left = iter(stored.paths)
    results = engine_for(engine, files=len(stored.paths), size_bytes=total).map(
        ingest,
        every,
        tell=project.progress.advance,
        undo=_discard,
        begin="anew" if len(scan.files) >= ANEW_MIN_FILES else "quick",
    )
    with (
        naming_full_disk(project.store.path, total),
        closing(results),
        _Adopting(project.store) as adopting,
    ):
        for result in results:
            adopting.take(result.packs)
            stored.size_bytes += sum(info.size for _, info in result.packs)
            # The results come in the order of the batches.
            read = list(islice(left, len(result.files)))
            scan.digests.update(zip(read, result.files.digests(), strict=True))
            scan.files.update(zip(read, result.files.stats(), strict=True))
            for path in read if scan.seen else ():
                scan.seen.pop(path, None)
    project.progress.finish()
    return stored
