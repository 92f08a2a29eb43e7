"""The content of what was listed, into the store; and the manifest of it."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from msgspec import structs

from dvtool.errors import MissingError, printable
from dvtool.format.digest import EMPTY, hasher
from dvtool.format.manifest import (
    INLINE_ENTRIES_MAX,
    Built,
    Kind,
    Manifest,
    ShardRef,
    ShardText,
    build,
    cut_shards,
)
from dvtool.format.packing import discard_packs
from dvtool.format.paths import SELF
from dvtool.format.source import DataSource
from dvtool.jobs.engine import Engine
from dvtool.jobs.members import store_members
from dvtool.jobs.take import TakeResult, disconnect, take_objects
from dvtool.project.parts import Project
from dvtool.project.taken import ListedFile, TakenObjects
from dvtool.remotes.origins.base import Origin, OriginObject
from dvtool.remotes.origins.reading import READ_AT_ONCE_BYTES, ObjectReader
from dvtool.remotes.transports.retry import Attempts
from dvtool.store.freeing import sweep_temp
from dvtool.verbs.imports.listing import filters_of
from dvtool.verbs.imports.read_listed import ListingWork, read_listed
from dvtool.verbs.imports.staging import Staging

_MD5_TAG = r"[0-9a-f]{32}"


def _discard_taken(result: TakeResult) -> None:
    discard_packs(result.packs)


def recall_content(project: Project, taken: TakenObjects, before: Manifest | None) -> None:
    """Find in the listing what need not be read: taken before in this state, and in the store.

    Where this clone has no record of it, as after git clone, content that the manifest `before`
    names and the store has is compared with the MD5 that the origin states.
    """
    taken.recall()
    for run in taken.known():
        lacking = project.store.lacking(file.digest for file in run if file.digest != EMPTY)
        taken.forget(file.path for file in run if file.digest in lacking)
    if before is not None:
        _recognise(project, taken, before)


def _recognise(project: Project, taken: TakenObjects, before: Manifest) -> None:
    run: list[tuple[str, OriginObject]] = []
    for pair in taken.unknown():
        run.append(pair)
        if len(run) >= INLINE_ENTRIES_MAX:
            taken.settle(_recognised(project, run, before))
            run = []
    if run:
        taken.settle(_recognised(project, run, before))


def _recognised(
    project: Project, run: list[tuple[str, OriginObject]], before: Manifest
) -> list[ListedFile]:
    tags = {path: one.tag for path, one in run if re.fullmatch(_MD5_TAG, one.tag)}
    sizes = {path: one.size for path, one in run}
    entries = project.entries_near(before, tags) if tags else {}
    alike = {
        path: entries[path]
        for path in tags
        if path in entries and entries[path].is_file and entries[path].size == sizes[path]
    }
    lacking = project.store.lacking(entry.digest for entry in alike.values() if entry.size)
    found = []
    with project.store.reader() as reader:
        reader.prepare(entry.digest for entry in alike.values() if entry.digest not in lacking)
        for path, entry in alike.items():
            if entry.digest in lacking:
                continue
            md5 = hashlib.md5(usedforsecurity=False)
            for block in reader.read(entry.digest) if entry.size else ():
                md5.update(block)
            if md5.hexdigest() == tags[path]:
                found.append(ListedFile(path, entry.digest, entry.size))
    return found


def take_content(
    project: Project,
    taken: TakenObjects,
    origin: Origin,
    engine: Engine,
    staging: Staging | None = None,
) -> tuple[int, int]:
    """Bring the content of all that is listed into the store, reading only what is not known.

    Return how many objects were read, and by how many bytes the store grew. The objects read by
    then are in the store and on record after an error, too. With `staging` they are files, too.
    """
    stored = 0

    def keep(result: TakeResult) -> None:
        nonlocal stored
        project.store.adopt(result.packs)
        stored += sum(info.size for _, info in result.packs)
        if staging is not None:
            staging.keep(result)

    if taken.unknown_total()[0]:
        sweep_temp(project.store)
        _ = project.store.db  # makes the local store, before workers open it
    work = ListingWork("importing", take_objects, keep, undo=_discard_taken)
    if staging is not None:
        work = replace(work, batch=staging.batch)
    try:
        read = read_listed(project, taken, origin, engine, work)
    finally:
        disconnect()  # without workers, this process took them, by an origin of an import before
    return read, stored


def unpacked(
    project: Project, taken: TakenObjects, origin: Origin, source: DataSource
) -> tuple[Built, int]:
    """Read the one archive that is listed, and put its members into the store.

    Return the manifest of these, with the state that the archive has, and by how much the store
    grew. The archive itself is not kept.
    """
    ((path, described),) = taken.unknown()
    project.progress.start("importing", total_bytes=max(described.size, 0))
    with tempfile.TemporaryDirectory(dir=project.store.temp_folder()) as folder:
        place, whole, size = os.path.join(folder, "archive"), hasher(), 0
        reader = ObjectReader(origin, described, Attempts(), project.progress.advance)
        with reader, open(place, "wb") as file:
            while block := reader.read(READ_AT_ONCE_BYTES):
                file.write(block)
                whole.update(block)
                size += len(block)
        project.progress.finish()
        _ = project.store.db  # makes the local store
        entries, packs = store_members(
            project.store.path, place, printable(source.url), filters_of(source)
        )
    if not entries:
        raise MissingError(f"there is nothing to take in {printable(source.url)}")
    project.store.adopt(packs)
    taken.guess([ListedFile(path, whole.digest(), size)])
    found = structs.replace(source, state=taken.state())
    return build("dir", entries, found), sum(info.size for _, info in packs)


def manifest_of(project: Project, taken: TakenObjects, source: DataSource) -> Built:
    """Make the manifest of what is listed; of a large one, each shard is stored as it is cut."""
    objects, _ = taken.total()
    entries = ((file.path, file.entry) for run in taken.known() for file in run)
    if objects <= INLINE_ENTRIES_MAX:
        few = dict(entries)
        kind: Kind = "file" if SELF in few else "dir"
        return build(kind, few, source)
    refs: list[ShardRef] = []

    def shards() -> Iterator[ShardText]:
        for shard in cut_shards(entries):
            refs.append(shard.ref)
            yield shard

    project.store.put_shards(shards())
    return Built(Manifest("dir", None, tuple(refs), source), ())
