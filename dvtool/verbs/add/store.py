"""Contents of files into the store, by batches that an engine works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from dvtool.errors import count_text
from dvtool.format.packing import discard_packs
from dvtool.format.paths import workspace_path
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.engine import Engine, engine_for
from dvtool.jobs.ingest import FileSource, IngestResult, ingest, ingest_batches, keeps_class
from dvtool.project.parts import Project
from dvtool.store.freeing import sweep_temp
from dvtool.system.atomic import naming_full_disk
from dvtool.system.logs import NAMES_NOTED_MAX, Log
from dvtool.workspace.hashing import clock_ns
from dvtool.workspace.scan import Scan
from dvtool.workspace.statcache import Seen, seen_file

ANEW_MIN_FILES = 200_000
"""Above this size a fresh worker costs less than a fork with a copy of all known of the files."""

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
        for path in self.paths:
            found = scan.files[path]
            yield (
                path,
                seen_file(
                    found,
                    scan.digests[path],
                    executable=scan.executable(path),
                    read_at_ns=self.read_at_ns,
                    tracked=True,
                ),
            )


def _source(scan: Scan, path: str) -> FileSource:
    size, seen = scan.files[path].st_size, scan.seen.get(path)
    earlier = seen.digest if seen is not None and keeps_class(size) else b""
    return FileSource(workspace_path(scan.target, path), size, earlier)


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
        (_source(scan, path) for path in stored.paths),
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
    with naming_full_disk(project.store.path, total), closing(results):
        for result in results:
            project.store.adopt(result.packs)
            stored.size_bytes += sum(info.size for _, info in result.packs)
            # The results come in the order of the batches.
            read = list(islice(left, len(result.files)))
            scan.digests.update(zip(read, result.files.digests(), strict=True))
            scan.files.update(zip(read, result.files.stats(), strict=True))
            for path in read if scan.seen else ():
                scan.seen.pop(path, None)
    project.progress.finish()
    return stored
