"""The part of the local store that remotes hold, with evidence for all that a gc frees."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dvtool.errors import DvError
from dvtool.format.digest import Digest
from dvtool.format.locations import Located
from dvtool.project.parts import Project
from dvtool.project.settings import Settings
from dvtool.remotes.evidence import (
    Announce,
    ReadBack,
    not_stated,
    read_back,
    read_shards,
    reading_of,
    stated,
)
from dvtool.remotes.known import Known
from dvtool.remotes.objects import pack_key
from dvtool.remotes.proof import Kept, kept_chunks
from dvtool.remotes.remote import RemoteStore
from dvtool.system.progress import Progress


@dataclass(frozen=True, slots=True)
class AskedRemote:
    """A remote that answered: where it has chunks, by their sizes, and what roots there keep."""

    name: str
    store: RemoteStore
    known: Known
    chunks: dict[Digest, Located]
    kept: Kept

    def unstated(self, chunks: Collection[Digest]) -> dict[Digest, list[Located]]:
        """Return where those of the chunks are of which the remote states nothing certain."""
        places = {digest: [self.chunks[digest]] for digest in chunks if digest in self.chunks}
        packs = {pack_key(some[0].pack.digest) for some in places.values()}
        sure = stated(self.known, self.store.look(packs)) if packs else set()
        return {digest: places[digest] for digest in not_stated(places, sure)}


@dataclass(slots=True)
class HeldRemotely:
    """The data that remotes hold; each chunk and shard counts for the first remote that has it."""

    remotes: list[AskedRemote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sure: set[Digest] = field(default_factory=set)
    """Chunks and shards of which a remote stated or sent the very bytes."""
    wrong: set[Digest] = field(default_factory=set)
    """Chunks and shards that are damaged where a remote said that it has them."""

    @property
    def chunks(self) -> set[Digest]:
        """The chunks that a remote holds, as far as is known by now."""
        return {digest for remote in self.remotes for digest in remote.chunks} - self.wrong

    @property
    def kept(self) -> Kept:
        """The manifests that roots on remotes name, and their shards."""
        return Kept(
            {digest for remote in self.remotes for digest in remote.kept.manifests},
            {digest for remote in self.remotes for digest in remote.kept.shards} - self.wrong,
        )

    def doubtful(self, chunks: Iterable[Digest], shards: Iterable[str]) -> bool:
        """Whether there is no evidence yet for some of what is to go: chunks, paths of shards."""
        going = self.chunks.intersection(chunks) | self.kept.shards.intersection(
            map(_shard_digest, shards)
        )
        return not self.sure.issuperset(going)

    def reading(self, chunks: Collection[Digest], shards: Collection[str]) -> list[ReadBack]:
        """Return, for each remote, what has to be read back before this may go."""
        left = set(chunks) - self.sure
        reads = []
        for remote in self.remotes:
            part = reading_of(remote.store, remote.unstated(left))
            named = [path for path in shards if _shard_digest(path) in remote.kept.shards]
            size = part.bytes + sum(map(os.path.getsize, named))
            reads.append(ReadBack(remote.store.url, size, part.requests + len(named)))
        return [read for read in reads if read.requests]

    def inspect(
        self,
        chunks: Collection[Digest],
        shards: Collection[str],
        *,
        announce: Announce | None,
        progress: Progress,
    ) -> None:
        """Ask remotes for evidence of what is to go; what is not as it should be counts as gone."""
        reads = self.reading(chunks, shards)
        if announce is not None:
            for read in reads:
                announce(read)
        progress.start("reading back", total_bytes=sum(read.bytes for read in reads))
        wanted, names = set(chunks), set(map(_shard_digest, shards))
        for remote in self.remotes:
            going = (remote.chunks.keys() & wanted) - self.sure - self.wrong
            unstated = remote.unstated(going)
            good = read_back(remote.store, unstated, progress)
            self.sure |= going - (unstated.keys() - good)
            named = (remote.kept.shards & names) - self.sure - self.wrong
            good_shards = read_shards(remote.store, sorted(named))
            self.sure |= good_shards
            bad = len(unstated) - len(good), len(named) - len(good_shards)
            self.wrong |= (unstated.keys() - good) | (named - good_shards)
            if any(bad):
                self.warnings.append(
                    f"remote {remote.name} ({remote.store.url}) holds damaged objects: "
                    f"{bad[0]:,} chunks and {bad[1]:,} shards that gc would have freed stay here. "
                    f"Repair it from here: dv fsck --remote {remote.name} --deep --repair"
                )
        progress.finish()


def ask_remotes(project: Project, settings: Settings, asked: set[Digest]) -> HeldRemotely:
    """Ask every remote what it holds of the chunks `asked`; warn of those that do not answer."""
    repo_id = project.config.text("core.repoid") or ""
    held = HeldRemotely()
    left = set(asked)
    for name in sorted(settings.remotes()) if asked and repo_id else ():
        try:
            remote = settings.open_remote(name)
            mark = remote.mark()
            if mark is None:
                continue
            known = Known(project.store.db, mark.id)
            held_there, kept = kept_chunks(remote, known, repo_id, left)
        except DvError as error:
            held.warnings.append(
                f"remote {name} was not asked, what it has counts as not there: {error}"
            )
            continue
        left -= held_there.keys()
        held.remotes.append(AskedRemote(name, remote, known, held_there, kept))
    return held


def _shard_digest(path: str) -> Digest:
    return bytes.fromhex(os.path.basename(path))
