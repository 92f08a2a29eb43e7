"""import on a cluster: workers read the source and write packs to the remote, the driver the rest.

The content never passes through this machine. The packs come first, then the driver's shards, the
root, the manifest, git's index. A journal has the workers' results, so that a driver that was
killed goes on: the packs that it no longer knows of are named by no root, and gc on the remote
finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from msgspec import structs

from dvtool.errors import BusyError, DvError
from dvtool.format.digest import Digest
from dvtool.format.manifest import Built, Manifest, decode_shard, manifest_shards, shard_refs
from dvtool.format.source import DataSource
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.take_to_remote import (
    FarBatch,
    FarTaken,
    PackThere,
    far_batches,
    take_to_remote,
)
from dvtool.project.journal import Journal, UsedBatch
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.project.taken import ListedFile, TakenObjects
from dvtool.remotes.address import RemoteAddress
from dvtool.remotes.known import Known
from dvtool.remotes.origins.base import Origin
from dvtool.remotes.origins.registry import entry_paths
from dvtool.remotes.proof import prove_shards
from dvtool.remotes.remote import RemoteStore
from dvtool.verbs.imports.bring import TargetThere, count_changes, merged_with, publish
from dvtool.verbs.imports.far_publish import FarPublisher, packs_proven
from dvtool.verbs.imports.far_shards import FarShards
from dvtool.verbs.imports.listing import Listing
from dvtool.verbs.imports.results import Imported

REPEATS_MAX = 4
"""How often batches are repeated whose packs are not on the remote any more."""


class ImportOnCluster:
    """One import by the workers of a cluster, to one remote."""

    def __init__(
        self,
        project: Project,
        settings: Settings,
        engine: ClusterEngine,
        remote_name: str | None,
    ) -> None:
        """Open the remote, which is made one if it is none yet."""
        self.project = project
        self.engine = engine
        self.remote: RemoteStore = settings.open_remote(remote_name)
        self.repo_id = settings.repo_id or ""
        self.known = Known(project.store.db, self.remote.initialise().id)
        self.address: RemoteAddress = settings.address_for_workers(
            remote_name, self.remote.required_mark().id
        )

    def bring(
        self, there: TargetThere, found: Listing, taken: TakenObjects, origin: Origin
    ) -> Imported:
        """Bring a target to the state that was found: remote, shards, manifest, index.

        No file is written into the workspace: dv pull gets them.
        """
        result = Imported(there.target, found.source.url, found.source.state)
        result.remote = self.remote.url
        before = there.manifest
        with Journal(self.project.git.common_dir, found.source, self.address.id) as journal:
            proven = self._recall(taken, before)
            shards = FarShards(self.project, self.remote, taken, journal, proven)
            publisher = FarPublisher(
                self.remote, self.known, self.repo_id, journal, self.project.progress
            )
            for _ in range(REPEATS_MAX):
                read, uploaded = self._take(journal, taken, found, origin)
                result.read += read
                result.uploaded_bytes += uploaded
                built = self._build(shards, taken, found, before)
                result.state = found.source.state
                lost = publisher.publish(there.target, built.manifest, shards.shards)
                if not lost:
                    break
                for batch in journal.drop_batches(lost):
                    taken.forget_between(batch.first, batch.last)
            else:
                raise BusyError(
                    f"packs are gone from {self.remote.url} as soon as they are there",
                    hint="see who removes them (a gc, a rule of the bucket); repeat the command",
                )
            self._put_in_place(there, built, result)
            taken.settle_listed()
            taken.keep_only_listed()
            journal.remove()
        return result

    def _recall(
        self, taken: TakenObjects, before: Manifest | None
    ) -> dict[Digest, list[PackThere]]:
        """Find in the listing what need not be read: as the target has it, and on the remote.

        Return the shards of the target that the remote holds whole, with their packs.
        """
        refs = {ref.digest: ref for ref in manifest_shards(before)} if before is not None else {}
        if before is None or not refs:
            return {}
        whole = prove_shards(self.remote, self.known, refs).shards
        proven = packs_proven(self.known, before, whole)
        taken.recall()
        entries = self._proven_entries(before, proven)
        current = next(entries, None)
        for run in taken.known():
            unsure = []
            for file in run:
                while current is not None and current[0] < file.path:
                    current = next(entries, None)
                if current != (file.path, file.digest):
                    unsure.append(file.path)
            taken.forget(unsure)
        return proven

    def _proven_entries(
        self, before: Manifest, proven: Mapping[Digest, object]
    ) -> Iterator[tuple[str, Digest]]:
        """Yield path and content of the files in the proven shards, in order."""
        for shard in shard_refs(before.entries) if before.entries is not None else ():
            if shard.ref.digest in proven:
                for path, entry in decode_shard(shard.text, shard.ref).items():
                    if entry.is_file:
                        yield path, entry.digest
        for ref in before.shards:
            if ref.digest in proven:
                for path, entry in self.project.shards.load(ref).items():
                    if entry.is_file:
                        yield path, entry.digest

    def _take(
        self, journal: Journal, taken: TakenObjects, found: Listing, origin: Origin
    ) -> tuple[int, int]:
        """Have workers read what is not known and not in the journal.

        Return how many objects they read, and the bytes of the packs that they made of them.
        """
        objects, size = taken.unknown_total()
        progress = self.project.progress
        progress.start("importing", total_bytes=size)

        def undone() -> Iterator[FarBatch]:
            unknown = (described for _, described in taken.unknown())
            for batch in far_batches(origin, self.address, unknown, count=objects):
                result = journal.result(batch.name)
                if result is None:
                    yield batch
                else:
                    _note_done(journal, taken, found.source, batch, result)
                    progress.advance(batch.size_bytes)

        read = uploaded = 0
        done = self.engine.as_done(take_to_remote, undone(), tell=progress.advance)
        try:
            with closing(done):
                for batch, result in done:
                    journal.add(batch.name, result)
                    _note_done(journal, taken, found.source, batch, result)
                    read += len(batch.objects)
                    uploaded += sum(pack.size for pack in result.packs)
        finally:
            progress.finish()
            origin.close()
        if taken.unknown_total()[0]:
            raise DvError("the listing changed while it was worked on", hint="repeat the command")
        return read, uploaded

    def _build(
        self, shards: FarShards, taken: TakenObjects, found: Listing, before: Manifest | None
    ) -> Built:
        if not found.source.state:  # what has no tag is told by its content alone
            found.source = structs.replace(found.source, state=taken.state())
        return shards.build(found.source, before)

    def _put_in_place(self, there: TargetThere, built: Built, result: Imported) -> None:
        """Publish the manifest here, merged with what was edited here; files stay as they are."""
        before = there.manifest
        merged = merged_with(self.project, there, built)
        publish(self.project, there, merged)
        count_changes(self.project, result, before, merged.manifest)


def _note_done(
    journal: Journal, taken: TakenObjects, source: DataSource, batch: FarBatch, result: FarTaken
) -> None:
    """Note in the listing and the journal what became of a batch."""
    path_of = entry_paths(source)
    paths = [path_of(described.key) for described in batch.objects]
    files = zip(paths, result.files(), strict=True)
    taken.guess(ListedFile(path, digest, size) for path, (digest, size) in files)
    journal.use(UsedBatch(paths[0], paths[-1], batch.name), result.packs)
