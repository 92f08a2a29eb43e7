"""copy: copy the objects of one remote to another, without a workspace or a local copy.

The objects are the roots of repositories, the shards they name, and the packs the shards point
into. Each is checked by its hash on its way. The order is that of a push: packs, proof, claim,
proof, shards, proof, roots, so that a copy that was interrupted is no half dataset, and goes on
when repeated.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from dvtool.errors import (
    CorruptError,
    DvError,
    MissingError,
    RemoteError,
    SetupError,
    UsageError,
    listing,
)
from dvtool.format.digest import Digest, hasher, parse_hex
from dvtool.format.locations import RemotePack
from dvtool.project.parts import Project
from dvtool.project.pushed import lost_targets
from dvtool.project.settings import Settings
from dvtool.remotes.estimate import Estimate, Requests
from dvtool.remotes.known import Known
from dvtool.remotes.objects import Root, pack_key, root_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import CLAIM_USED_S, Tombstones
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import Progress

COPIED_SHARDS_MAX_BYTES = 64 << 20


@dataclass(slots=True)
class Copied:
    """The result of a copy."""

    source: str
    """URL of the remote copied from."""
    destination: str
    """URL of the remote copied to."""
    manifests: int = 0
    """How many manifests are proven to be whole on the destination."""
    objects: int = 0
    """How many objects were copied."""
    bytes: int = 0
    """Bytes of these objects."""
    there: int = 0
    """How many objects were there already."""
    lost: dict[str, int] = field(default_factory=dict)
    """Target -> versions that a push from here proved on the source, which has them no more."""


@dataclass(slots=True)
class _Root:
    repo_id: str
    name: str
    root: Root


@dataclass(slots=True)
class _Plan:
    """The objects to copy, and their sizes on the source."""

    roots: list[_Root] = field(default_factory=list)
    shards: list[ObjectInfo] = field(default_factory=list)
    packs: list[RemotePack] = field(default_factory=list)
    there: int = 0


def copy_remote(
    project: Project, settings: Settings, source: str, destination: str, *, every: bool
) -> Copied:
    """Copy what this repository's roots name, or those of `every` one; prove that it is there.

    Remotes are given by name, URL or path. Packs pass through temporary files of the local store.
    MissingError and CorruptError name what the source lacks or has damaged: all else is copied by
    then, but no root that needs it.
    """
    work = _open_copy(project, settings, source, destination, every=every)
    work.run()
    work.result.lost = lost_targets(
        project,
        Known(project.store.db, work.source.required_mark().id),
        {parse_hex(name) for root in work.roots for name in _manifests_of(root)},
    )
    return work.result


def plan_copy(
    project: Project, settings: Settings, source: str, destination: str, *, every: bool
) -> tuple[Copied, Estimate]:
    """Return what a copy would do and what that takes; nothing is written."""
    work = _open_copy(project, settings, source, destination, every=every)
    plan = work.plan()
    size = sum(pack.size for pack in plan.packs) + sum(info.size for info in plan.shards)
    count = len(plan.packs) + len(plan.shards)
    requests = Requests(get=count, put=count + len(plan.roots), list=3 * bool(count))
    return work.result, Estimate(count + len(plan.roots), size, requests)


def _open_copy(
    project: Project, settings: Settings, source: str, destination: str, *, every: bool
) -> _Copy:
    settings.require_init()
    repo_id = None if every else project.config.text("core.repoid") or ""
    remotes = settings.open_place(source), settings.open_place(destination)
    return _Copy(*remotes, repo_id, project.progress, project.store.temp_folder)


class _Copy:
    def __init__(
        self,
        source: RemoteStore,
        destination: RemoteStore,
        repo_id: str | None,
        progress: Progress,
        folder: Callable[[], str],
    ) -> None:
        self.source = source
        self.destination = destination
        self.repo_id = repo_id
        self.progress = progress
        self.folder = folder
        self.result = Copied(source.url, destination.url)
        self.shard_packs: dict[Digest, frozenset[RemotePack]] = {}
        """Shard -> the packs that it points into on the source, of all that are sound there."""
        self.shard_md5s: dict[Digest, bytes] = {}
        self.proven: dict[Digest, frozenset[RemotePack]] = {}
        """Shard -> the packs that it points into on the destination, which has all of them."""
        self.broken: dict[Digest, DvError] = {}
        self.roots: list[_Root] = []

    # --- what there is to do --------------------------------------------------------------

    def plan(self) -> _Plan:
        """Read the source's roots and shards, and ask the destination what it has."""
        mark, other = self.source.required_mark(), self.destination.mark()
        if other is not None and other.id == mark.id:
            raise UsageError(f"{self.source.url} and {self.destination.url} are the same remote")
        self.roots = roots = list(self._roots())
        self.result.manifests = len(
            {manifest.manifest for r in roots for manifest in r.root.manifests}
        )
        objects = {} if other is None else {i.key: i for i in self.destination.backend.list("")}
        digests = list(dict.fromkeys(_shards_of(roots)))
        keys = {shard_key(digest): digest for digest in digests}
        infos = self.source.look(keys)
        for key, digest in keys.items():
            if key not in infos:
                self.broken[digest] = MissingError(f"{self.source.url} does not have {key}")
        self._read_shards(digest for key, digest in keys.items() if key in infos)
        self._find_proven(digests, objects)
        lacking = self.shard_packs.keys() - self.proven.keys()
        packs = {pack for digest in lacking for pack in self.shard_packs[digest]}
        plan = _Plan()
        plan.packs = [
            p
            for p in sorted(packs, key=_digest_of_pack)
            if not _is_at_destination(objects, _pack_info(p))
        ]
        plan.shards = [infos[shard_key(digest)] for digest in self.shard_packs if digest in lacking]
        rooted = {} if other is None else self._rooted({root.repo_id for root in roots})
        plan.roots = [r for r in roots if not _manifests_of(r) <= rooted.get(r.repo_id, set())]
        packs |= {pack for pointed in self.proven.values() for pack in pointed}
        plan.there = len(packs) + len(self.proven.keys() | lacking) + len(roots)
        plan.there -= len(plan.packs) + len(plan.shards) + len(plan.roots)
        self.result.there = plan.there
        return plan

    def _find_proven(self, digests: Collection[Digest], objects: Mapping[str, ObjectInfo]) -> None:
        """Note the shards that the destination has whole: the object, and every pack it points to.

        These packs may be others than the source's: data that a gc there moved stays where it is.
        """
        held = [digest for digest in digests if shard_key(digest) in objects]
        for digest, packs in run_bounded(lambda digest: self._packs_there(digest, objects), held):
            if packs is not None and all(
                _is_at_destination(objects, _pack_info(pack)) for pack in packs
            ):
                self.proven[digest] = packs
                self.broken.pop(digest, None)

    def _packs_there(
        self, digest: Digest, objects: Mapping[str, ObjectInfo]
    ) -> frozenset[RemotePack] | None:
        """Return the packs of the destination's own shard object, None if it is not sound."""
        md5 = objects[shard_key(digest)].md5
        if md5 is not None and md5 == self.shard_md5s.get(digest):
            return self.shard_packs[digest]
        packs = _packs_of(self.destination, digest)
        return None if isinstance(packs, DvError) else packs[0]

    def _roots(self) -> Iterator[_Root]:
        repositories = self.source.repositories()
        if self.repo_id is not None:
            repositories = {self.repo_id: repositories.get(self.repo_id, [])}
        names = [(repo, name) for repo, names in repositories.items() for name in names]
        if not names:
            raise SetupError(
                f"nothing was pushed to {self.source.url} from this repository",
                hint="see that the remotes are in the right order: dv remote copy FROM TO",
            )
        self.progress.start("reading what there is")
        for (repo, name), (root, _) in run_bounded(lambda name: self.source.get_root(*name), names):
            yield _Root(repo, name, root)
        self.progress.finish()

    def _rooted(self, repo_ids: Collection[str]) -> dict[str, set[str]]:
        """Return the manifests that roots on the destination name, and will go on to name."""
        tombstones = Tombstones(self.destination)
        doomed = tombstones.doomed_roots(tombstones.look())
        present = self.destination.repositories()
        names = [
            (repo, name)
            for repo in repo_ids
            for name in present.get(repo, ())
            if root_key(repo, name) not in doomed
        ]
        rooted: dict[str, set[str]] = {}
        for (repo, _), read in run_bounded(lambda name: self.destination.sound_root(*name), names):
            if read is not None:
                named = {manifest.manifest for manifest in read[0].manifests}
                rooted.setdefault(repo, set()).update(named)
        return rooted

    def _read_shards(self, digests: Iterable[Digest]) -> None:
        self.progress.start("reading shards")
        for digest, packs in run_bounded(lambda digest: _packs_of(self.source, digest), digests):
            if isinstance(packs, DvError):
                self.broken[digest] = packs
            else:
                self.shard_packs[digest], self.shard_md5s[digest] = packs
        self.progress.finish()

    # --- doing it -------------------------------------------------------------------------

    def run(self) -> None:
        plan = self.plan()
        if self.destination.mark() is None:
            self.destination.initialise()
        lost = self._copy_packs(plan.packs)
        for digest, packs in self.shard_packs.items():
            gone = [lost[pack] for pack in packs if pack in lost]
            if gone and digest not in self.proven:
                self.broken.setdefault(digest, gone[0])
        if plan.shards or plan.roots:
            self._publish(plan)
        if self.broken:
            texts = dict.fromkeys(str(error) for error in self.broken.values())
            raise CorruptError(
                f"not everything could be copied from {self.source.url}; what needs these was "
                f"left out:\n{listing(texts)}",
                hint="run: dv fsck --remote; or push from a clone that has the data",
            )

    def _copy_packs(self, packs: Sequence[RemotePack]) -> dict[RemotePack, DvError]:
        """Copy packs and prove them; return those that the source does not have, or not sound."""
        lost: dict[RemotePack, DvError] = {}
        sent: list[ObjectInfo] = []
        self.progress.start("copying", total_bytes=sum(pack.size for pack in packs))
        for pack, done in run_bounded(
            self._copy_pack, packs, size_of=lambda pack: pack.size, tell=self.progress.advance
        ):
            if isinstance(done, DvError):
                lost[pack] = done
            else:
                sent.append(done)
        self.progress.finish()
        self._prove(sent)
        return lost

    def _copy_pack(self, pack: RemotePack) -> ObjectInfo | DvError:
        with tempfile.TemporaryFile(dir=self.folder()) as file:
            sink = _HashingSink(file)
            try:
                self.source.read_pack(pack.digest, sink, offset=0, size=pack.size)
            except (MissingError, CorruptError) as error:
                return error
            if sink.hash.digest() != pack.digest:
                where = f"{self.source.url}: {pack_key(pack.digest)}"
                return CorruptError(f"{where}: its bytes are not what its name says")
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return self.destination.put_pack(pack.digest, file)

    def _publish(self, plan: _Plan) -> None:
        """Copy shards and roots, as a gc there asks: see `dvtool.remotes.tombstones`."""
        whole = {d: packs for d, packs in self.shard_packs.items() if d not in self.broken}
        whole |= self.proven
        packs = {pack for pointed in whole.values() for pack in pointed}
        expected = [_pack_info(pack) for pack in packs]
        with Tombstones(self.destination).claimed(
            shards=whole.keys(), packs={pack.digest for pack in packs}
        ):
            started = time.monotonic()
            objects = self.destination.look([info.key for info in expected])
            self._refuse_changed(all(_is_at_destination(objects, info) for info in expected))
            self._copy_shards(plan.shards)
            keys = [shard_key(digest) for digest in whole]
            self._refuse_changed(self.destination.look(keys).keys() >= set(keys))
            self._refuse_changed(time.monotonic() - started < CLAIM_USED_S)
            self._copy_roots(plan.roots)

    def _refuse_changed(self, sound: bool) -> None:
        if not sound:
            raise RemoteError(
                f"a gc took objects from {self.destination.url} that were there a moment ago",
                hint="repeat the command: it goes on where it was",
            )

    def _copy_shards(self, infos: Sequence[ObjectInfo]) -> None:
        whole = {shard_key(d): d for d in self.shard_packs if d not in self.broken}
        sent = run_bounded(
            lambda info: self._copy_shard(whole[info.key]),
            [info for info in infos if info.key in whole],
            size_of=lambda info: info.size,
            budget_bytes=COPIED_SHARDS_MAX_BYTES,
        )
        self._prove([info for _, info in sent])

    def _copy_shard(self, digest: Digest) -> ObjectInfo:
        shard, data = self.source.read_shard_object(digest)
        if not self.shard_packs[digest] >= shard.packs():
            raise RemoteError(
                f"{self.source.url}: {shard_key(digest)} was replaced while it was copied",
                hint="repeat the command: it goes on where it was",
            )
        return self.destination.put_shard(digest, data)

    def _copy_roots(self, roots: Sequence[_Root]) -> None:
        sent: list[ObjectInfo] = []
        for root in roots:
            if self.broken.keys().isdisjoint(_shards_of([root])):
                _, info = self.destination.put_root(root.repo_id, root.root.manifests)
                sent.append(info)
        self._prove(sent)

    def _prove(self, sent: Collection[ObjectInfo]) -> None:
        if not sent:
            return
        self.result.objects += len(sent)
        self.result.bytes += sum(info.size for info in sent)
        objects = self.destination.look([info.key for info in sent])
        sound = self.destination.confirmed(sent, objects)
        lost = [info.key for info in sent if info.key not in sound]
        if lost:
            raise RemoteError(
                f"{self.destination.url} took these without an error but does not have them:\n"
                f"{listing(lost)}",
                hint="repeat the command; if this stays, the store loses data: use another",
            )


def _packs_of(remote: RemoteStore, digest: Digest) -> tuple[frozenset[RemotePack], bytes] | DvError:
    """Return the packs that a shard object points into, and its MD5; or what is wrong with it."""
    try:
        shard, data = remote.read_shard_object(digest)
    except (MissingError, CorruptError) as error:
        return error
    if not shard.complete:
        return CorruptError(f"{remote.url}: {shard_key(digest)} lacks locations")
    return frozenset(shard.packs()), hashlib.md5(data, usedforsecurity=False).digest()


def _shards_of(roots: Iterable[_Root]) -> Iterator[Digest]:
    for root in roots:
        for manifest in root.root.manifests:
            yield from map(parse_hex, manifest.shards)


def _manifests_of(root: _Root) -> set[str]:
    return {manifest.manifest for manifest in root.root.manifests}


def _digest_of_pack(pack: RemotePack) -> Digest:
    return pack.digest


def _pack_info(pack: RemotePack) -> ObjectInfo:
    return ObjectInfo(pack_key(pack.digest), pack.size)


def _is_at_destination(objects: Mapping[str, ObjectInfo], wanted: ObjectInfo) -> bool:
    held = objects.get(wanted.key)
    if held is None or held.size != wanted.size:
        return False
    return None in (held.md5, wanted.md5) or held.md5 == wanted.md5


class _HashingSink:
    """Writes to a file and hashes what it wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hasher()

    def write(self, data: bytes, /) -> int:
        self.hash.update(data)
        return self._file.write(data)
