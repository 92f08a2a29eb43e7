"""fsck of a remote: does it have all that this repository's roots need, and is it sound?

Without reading packs: roots and shard objects are read and checked in full, packs by the remote's
word on existence, size and, where it states one, MD5. Deep: packs are downloaded and checked chunk
by chunk, and files put together of them. The remote's word is compared with facts known for sure,
and never taken for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from msgspec import structs

from dvtool.errors import (
    CorruptError,
    DvError,
    MarkMissing,
    ObjectMissing,
    RemoteError,
    SetupError,
    count_text,
)
from dvtool.format.digest import READ_SIZE_BYTES, Digest, hasher
from dvtool.format.locations import Located, RemotePack
from dvtool.format.manifest import MANIFEST_VERSION
from dvtool.format.pack import (
    FRAME_RAW_SIZE_MAX_BYTES,
    PACK_SIZE_MAX_BYTES,
    TRAILER,
    Placement,
    read_index,
)
from dvtool.format.references import Reference, ReferenceLost, SourceAddress, shown
from dvtool.project.parts import Project
from dvtool.project.source_approvals import source_access
from dvtool.remotes.assembly import Assembly
from dvtool.remotes.objects import MARK, FetchedShard, Root, pack_key, root_key, shard_key
from dvtool.remotes.pack_probe import download_check
from dvtool.remotes.references import SourceAccess
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.store.packcheck import PackCheck, fingerprint
from dvtool.system.parallel import run_bounded
from dvtool.verbs.fsck.far_packs import FarReading, packs_batches, read_packs
from dvtool.verbs.fsck.findings import Damage, RemoteCheck, RemoteCounts, Sample

KINDS = ("dir", "file")


@dataclass(frozen=True, slots=True)
class LocalEvidence:
    """The facts known on this side.

    `packs` are the packs, with their sizes in bytes, that the local store was just seen to have
    sound; `sought` are the contents that the remote is asked for; `md5s` gives, for a remote's id
    and keys, the MD5s that objects there had when they were proven.
    """

    packs: Mapping[Digest, int]
    sought: Set[Digest]
    md5s: Callable[[str, Collection[str]], Mapping[str, bytes]]


def fsck_remote(
    project: Project,
    remote: RemoteStore,
    repo_id: str,
    depth: Sample | None,
    here: LocalEvidence,
    far: FarReading | None = None,
) -> RemoteCheck:
    """Check what the roots of this repository need there; packs are read here or `far` away."""
    return _RemoteCheck(project, remote, depth, here, far).run(repo_id)


class _RemoteCheck:
    def __init__(
        self,
        project: Project,
        remote: RemoteStore,
        depth: Sample | None,
        here: LocalEvidence,
        far: FarReading | None,
    ) -> None:
        self.far = far
        self.project = project
        self.remote = remote
        self.depth = depth
        self.name = remote.url
        self.local = here.packs
        self.here = here
        self.counts = RemoteCounts(remote.url)
        self.result = RemoteCheck(self.counts)
        self.md5s: Mapping[str, bytes] = {}
        """Key -> MD5 that a pack had when it was proven."""
        self.claims: dict[Digest, array[int]] = {}
        """Pack -> fingerprints of the places that shards say are in it, where it will be read."""
        self.references: dict[Digest, Reference] = {}
        """Content -> the object at a source that has it."""

    def run(self, repo_id: str) -> RemoteCheck:
        """Check from the roots down: whatever is referred to after what refers to it."""
        self._check_mark(repo_id)
        self._check_roots(repo_id)
        self._check_shards(self.result.shards)
        self._check_sources()
        self._check_packs()
        self._name_users()
        return self.result

    def _add(self, damage: Damage) -> None:
        self.result.damage.append(damage)

    # --- dv.json and roots ----------------------------------------------------------------

    def _check_mark(self, repo_id: str) -> None:
        """See that dv.json is there. A place that has no roots of ours either is no remote yet."""
        problem, missing = f"is gone, without which nothing uses {self.remote.url}", True
        try:
            if self.remote.mark() is not None:
                return
        except MarkMissing:
            pass
        except SetupError as error:
            if "format" in str(error):
                raise
            problem, missing = str(error), False
        if not any(True for _ in self.remote.backend.list(f"roots/{repo_id}/")):
            self.remote.required_mark()
        self.result.mark_lost = True
        self._add(Damage(self.name, "mark", MARK, problem, missing=missing))

    def _check_roots(self, repo_id: str) -> None:
        names = self.remote.root_names(repo_id)
        for name, root in run_bounded(lambda name: self._root(repo_id, name), names):
            self.counts.roots += 1
            if isinstance(root, str):
                self.result.bad_roots.add(name)
                self._add(Damage(self.name, "root", root_key(repo_id, name), root))
                continue
            for manifest in root.manifests:
                self.result.rooted[bytes.fromhex(manifest.manifest)] = manifest.target
                for shard in manifest.shards:
                    self.result.shards.setdefault(bytes.fromhex(shard), manifest.target)
        self.counts.manifests = len(self.result.rooted)

    def _root(self, repo_id: str, name: str) -> Root | str:
        """Return a root that is what it says, or why it is not."""
        try:
            root, _ = self.remote.get_root(repo_id, name)
            for manifest in root.manifests:
                shards = b"".join(bytes.fromhex(shard) for shard in manifest.shards)
                heads = [f"dv manifest {MANIFEST_VERSION} {kind}\n" for kind in KINDS]
                hashes = [hasher(head.encode() + shards).hexdigest() for head in heads]
                if manifest.manifest not in hashes:
                    return f"names a manifest of {manifest.target!r} that its shards do not make"
        except (CorruptError, ObjectMissing, ValueError) as error:
            return _problem(error, self.remote.url, root_key(repo_id, name))
        return root

    # --- shards ---------------------------------------------------------------------------

    def _check_shards(self, shards: Iterable[Digest]) -> None:
        self.project.progress.start("reading shards", total_bytes=None)
        for digest, shard in run_bounded(self._shard, shards):
            self.counts.shards += 1
            if isinstance(shard, str):
                self._bad_shard(digest, shard, missing=shard == "is not there")
                continue
            self.project.progress.advance(shard.size)
            if not shard.complete:
                self._bad_shard(digest, "does not say where all of its content is")
            self.result.held.update(self.here.sought & shard.locations.keys())
            self._take_places(digest, shard)
            self.references.update(shard.references)
        self.project.progress.finish()

    def _check_sources(self) -> None:
        """Ask sources for what shards refer to, or will once it is pushed; in depth, read it."""
        unpushed = self.here.sought - self.references.keys() - self.result.held
        for content, known in self.project.store.db.references.find(unpushed).items():
            self.references[content] = known[0]
        if not self.references:
            return
        total = (
            sum(reference.size for reference in self.references.values()) if self.depth else None
        )
        self.project.progress.start("asking sources", total_bytes=total)
        by_address: dict[SourceAddress, dict[Digest, Reference]] = {}
        for content, reference in self.references.items():
            by_address.setdefault(reference.address, {})[content] = reference
        with contextlib.closing(source_access(self.project.git.common_dir)) as access:
            for address, some in by_address.items():
                try:
                    self._check_source(access, some)
                except (SetupError, RemoteError) as error:
                    problem = f"could not be asked: {error}; {error.hint or ''}".rstrip("; ")
                    self._add(Damage(address.url, "object", address.url, problem))
        self.project.progress.finish()

    def _check_source(self, access: SourceAccess, references: Mapping[Digest, Reference]) -> None:
        lost = self._losses(access, self._timed(references))
        for content, reference in references.items():
            fault = lost.get(reference.name)
            if fault is None and self.depth:
                fault = access.fault(content, reference, self.project.progress.advance)
            if fault is not None:
                self._bad_object(content, reference, fault)
            else:
                self.result.held.update(self.here.sought & {content})

    def _timed(self, references: Mapping[Digest, Reference]) -> list[Reference]:
        """Return references with the last times at which this clone knows that they held."""
        known = self.project.store.db.references.find(references)
        times = {
            reference.name: reference.modified for some in known.values() for reference in some
        }
        return [
            structs.replace(
                reference, modified=max(reference.modified, times.get(reference.name, 0))
            )
            for reference in references.values()
        ]

    def _losses(
        self, access: SourceAccess, references: Sequence[Reference]
    ) -> Mapping[Digest, DvError]:
        """Ask for objects; read those written since they were taken, if not all are read anyway."""
        if self.depth:
            return access.ask(references).lost
        lost, _ = access.prove(references, self.project.progress)
        return lost

    def _bad_object(self, content: Digest, reference: Reference, fault: DvError) -> None:
        problem = str(fault).removeprefix(f"{shown(reference)} ")
        self._add(
            Damage(reference.address.url, "object", reference.key, problem,
                   missing=isinstance(fault, ReferenceLost), contents=frozenset([content]))
        )  # fmt: skip

    def _shard(self, digest: Digest) -> FetchedShard | str:
        try:
            return self.remote.read_shard(digest)
        except ObjectMissing:
            return "is not there"
        except CorruptError as error:
            return _problem(error, self.remote.url, shard_key(digest))

    def _bad_shard(self, digest: Digest, problem: str, *, missing: bool = False) -> None:
        self.result.bad_shards.add(digest)
        self._add(
            Damage(self.name, "shard", shard_key(digest), problem, missing=missing,
                   shards=frozenset([digest]))
        )  # fmt: skip

    def _take_places(self, digest: Digest, shard: FetchedShard) -> None:
        """Check the places that a shard gives for content, as far as that is possible by now."""
        by_pack: dict[RemotePack, list[Placement]] = {}
        for chunks in shard.locations.values():
            for chunk in chunks:
                by_pack.setdefault(chunk.pack, []).append(chunk.placement)
                self.counts.locations += 1
        for pack, places in by_pack.items():
            self.result.pointing.setdefault(pack.digest, set()).add(digest)
            if self.result.packs.setdefault(pack.digest, pack.size) != pack.size:
                self._bad_shard(digest, f"states another size of {pack_key(pack.digest)}")
            if fault := self._places_fault(pack, places):
                self._bad_shard(digest, fault)
            elif self.depth:
                claims = self.claims.setdefault(pack.digest, array("Q"))
                claims.extend(fingerprint(placement) for placement in places)

    def _places_fault(self, pack: RemotePack, places: list[Placement]) -> str:
        """Say which place cannot be, by the bounds of the pack or by its index if that is here."""
        if pack.digest in self.local:
            if pack.size != self.local[pack.digest]:
                return f"states a wrong size of {pack_key(pack.digest)}"
            path = self.project.store.pack_path(pack.digest)
            with contextlib.suppress(CorruptError, OSError), open(path, "rb") as file:
                index = read_index(file, size=self.local[pack.digest], where=path)
                wrong = set(places).difference(index.placements())
                return _points_wrong(pack.digest, len(wrong)) if wrong else ""
        end = pack.size - TRAILER.size
        for placement in places:
            within = (
                placement.frame_offset + placement.frame_size < end and placement.frame_size > 1
            )
            if not within or placement.start + placement.size > FRAME_RAW_SIZE_MAX_BYTES:
                return _points_wrong(pack.digest, 1)
        return ""

    # --- packs ----------------------------------------------------------------------------

    def _check_packs(self) -> None:
        packs = self.result.packs
        keys = [pack_key(digest) for digest in packs]
        infos = self.remote.look(keys)
        mark = None if self.result.mark_lost else self.remote.mark()
        if mark is not None:
            self.md5s = self.here.md5s(mark.id, keys)
        for digest, size in sorted(packs.items()):
            info = infos.get(pack_key(digest))
            self.counts.packs += 1
            if info is None:
                self._bad_pack(digest, "is not there", missing=True)
                continue
            self.counts.bytes += info.size
            if info.size != size:
                if info.size == self.local.get(digest):
                    continue  # the shards give wrong places, and were named
                self._bad_pack(digest, f"has {info.size:,} bytes, not {size:,}")
            elif self._md5_differs(digest, info):
                self._bad_pack(digest, "has other bytes: its MD5 is not that of the pack")
        if self.depth:
            self._read_packs(infos)

    def _md5_differs(self, digest: Digest, info: ObjectInfo) -> bool:
        """Whether the remote's MD5 is not that of the pack, where both are known."""
        expected = self._md5_of(digest) if info.md5 is not None else None
        if expected is None:
            return False
        self.counts.md5_equal += expected == info.md5
        if expected == info.md5:
            return False
        # A listing cannot tell an MD5 from what stores that encrypt put in its place.
        again = self.remote.backend.head(info.key)
        return again is not None and again.md5 not in (None, expected)

    def _md5_of(self, digest: Digest) -> bytes | None:
        """Return the MD5 of the pack here, or of the one that was once uploaded from here."""
        if digest not in self.local:
            return self.md5s.get(pack_key(digest))
        md5 = hashlib.md5(usedforsecurity=False)
        with open(self.project.store.pack_path(digest), "rb") as file:
            while data := file.read(READ_SIZE_BYTES):
                md5.update(data)
        return md5.digest()

    def _bad_pack(
        self, digest: Digest, problem: str, *, missing: bool = False, check: PackCheck | None = None
    ) -> None:
        self.result.bad_packs[digest] = check
        targets = {self.result.shards[shard] for shard in self.result.pointing[digest]}
        self._add(
            Damage(self.name, "pack", pack_key(digest), problem, missing=missing,
                   targets=tuple(targets))
        )  # fmt: skip

    def _name_users(self) -> None:
        """Say which contents the bad packs touch: the shards that point there are read again."""
        bad = self.result.bad_packs
        users: dict[str, set[Digest]] = {pack_key(pack): set() for pack in bad}
        for _, shard in run_bounded(self._shard, {s for p in bad for s in self.result.pointing[p]}):
            if isinstance(shard, str):
                continue
            for content, chunks in shard.locations.items():
                for chunk in chunks:
                    if chunk.pack.digest in bad and self._is_lost(chunk):
                        users[pack_key(chunk.pack.digest)].add(content)
        for damage in self.result.damage:
            if damage.kind == "pack":
                damage.contents = frozenset(users[damage.name])
                self.result.held -= damage.contents

    def _is_lost(self, chunk: Located) -> bool:
        """Whether a chunk in a bad pack is, or (where that is not known) may be, lost."""
        check = self.result.bad_packs[chunk.pack.digest]
        return check is None or check.index is None or chunk.placement.digest in check.bad

    # --- deep -----------------------------------------------------------------------------

    def _read_packs(self, infos: Mapping[str, ObjectInfo]) -> None:
        """Download packs, all or a sample; check them chunk by chunk, and the files in them."""
        sizes = {d: infos[pack_key(d)].size for d in self.result.packs if pack_key(d) in infos}
        # Objects whose size rules out a pack were reported above; they are not worth their bytes.
        sizes = {d: size for d, size in sizes.items() if size <= PACK_SIZE_MAX_BYTES}
        chosen = sorted(sizes)
        if self.depth is not None and self.depth.share < 1:
            self.counts.seed = self.depth.seed
            count = math.ceil(len(chosen) * self.depth.share)
            chosen = sorted(random.Random(self.depth.seed).sample(chosen, count))
        total = sum(sizes[digest] for digest in chosen)
        self.project.progress.start("downloading packs", total_bytes=total)
        if self.far is not None:
            self._read_far(self.far, {digest: sizes[digest] for digest in chosen})
            self.project.progress.finish()
            return
        assembly = Assembly(self.project.store, self.remote, sizes, chosen, self._judge_pack)
        for name, shard in run_bounded(self._shard, self.result.shards):
            if not isinstance(shard, str):
                assembly.add(name, shard)
        assembly.finish()
        self.project.progress.finish()
        self.counts.files_made = assembly.files
        self.counts.bytes_read += assembly.bytes_again
        self._name_wrong_files(assembly.wrong)

    def _read_far(self, far: FarReading, sizes: Mapping[Digest, int]) -> None:
        """Have the workers of a cluster read packs and put files together; judge what they say."""
        packs_of: dict[Digest, list[Digest]] = {}
        for pack, shards in self.result.pointing.items():
            for shard in shards:
                packs_of.setdefault(shard, []).append(pack)
        batches = packs_batches(far.remote, self.result.shards, packs_of, sizes)
        wrong: dict[Digest, set[Digest]] = {}
        for _, read in far.engine.as_done(read_packs, batches):
            for pack_read in read.packs:
                self._judge_read(
                    pack_read.digest, pack_read.size, pack_read.fingerprints(), pack_read.check
                )
            self.counts.files_made += read.files
            self.counts.bytes_read += read.bytes_again
            for name, contents in read.wrong.items():
                wrong.setdefault(name, set()).update(contents)
        self._name_wrong_files(self._besides_damage(wrong))

    def _besides_damage(self, wrong: Mapping[Digest, Set[Digest]]) -> dict[Digest, Set[Digest]]:
        """Leave out the files with a chunk in a damaged pack, which another worker read."""
        besides: dict[Digest, Set[Digest]] = {}
        for name, shard in run_bounded(self._shard, sorted(wrong)):
            if isinstance(shard, str):
                continue
            contents = {
                content
                for content in wrong[name]
                if not any(c.pack.digest in self.result.bad_packs for c in shard.locations[content])
            }
            if contents:
                besides[name] = contents
        return besides

    def _name_wrong_files(self, wrong: Mapping[Digest, Set[Digest]]) -> None:
        """Name the shards by whose places other files come out than they name."""
        for name, contents in sorted(wrong.items()):
            self.result.misplaced.setdefault(name, set()).update(contents)
            self.result.held.difference_update(contents)
            if name not in self.result.bad_shards:  # else it was named for what is worse
                self._bad_shard(
                    name, f"makes {count_text(len(contents), 'file')} of the chunks of others"
                )

    def _judge_pack(self, digest: Digest, check: PackCheck) -> None:
        have = [fingerprint(placement) for placement in check.places]
        self._judge_read(digest, check.size, have, None if check.sound else check, check)

    def _judge_read(
        self,
        digest: Digest,
        size: int,
        have: Iterable[int],
        damaged: PackCheck | None,
        check: PackCheck | None = None,
    ) -> None:
        self.counts.packs_read += 1
        self.counts.bytes_read += size
        self.project.progress.advance(size)
        if damaged is not None:
            if digest in self.result.bad_packs:
                self.result.bad_packs[digest] = damaged
                return
            lost = f"; {len(damaged.bad):,} chunks are lost in it" if damaged.bad else ""
            self._bad_pack(digest, damaged.faults[0] + lost, check=damaged)
            return
        if not set(have).issuperset(self.claims.get(digest, ())):
            # A worker sends no list of places; of the rare pack that is lied about it is read here.
            store = self.project.store
            self._name_liars(digest, check or download_check(store, self.remote, digest, size))

    def _name_liars(self, digest: Digest, check: PackCheck) -> None:
        """Read the shards that point into a pack once more: which point to what is not there?"""
        right = set(check.places)
        for name, shard in run_bounded(self._shard, sorted(self.result.pointing[digest])):
            if isinstance(shard, str):
                continue
            wrong = [
                content
                for content, chunks in shard.locations.items()
                for chunk in chunks
                if chunk.pack.digest == digest and chunk.placement not in right
            ]
            if wrong:
                self.result.held.difference_update(wrong)
                self._bad_shard(name, _points_wrong(digest, len(wrong)))


def _points_wrong(pack: Digest, count: int) -> str:
    return f"points {count:,} times to where {pack_key(pack)} has no such chunk"


def _problem(error: Exception, url: str, key: str) -> str:
    return str(error).removeprefix(f"{url}: ").removeprefix(f"{key}: ")
