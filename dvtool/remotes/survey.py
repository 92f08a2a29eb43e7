"""A survey of a remote for gc: its objects, and those that the roots of all repositories need.

It uses no knowledge of this clone. The order of reading is part of the protocol: claims before
roots, roots before shards; see `dvtool.remotes.tombstones`.
"""

from __future__ import annotations

import io
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dvtool.errors import CorruptError, MissingError, ObjectMissing, listing
from dvtool.format.digest import Digest
from dvtool.format.pack import PACK_MAGIC, TRAILER
from dvtool.remotes.objects import FetchedShard, Root, pack_key, shard_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.tombstones import Claim
from dvtool.remotes.transports.base import ObjectInfo
from dvtool.system.parallel import run_bounded
from dvtool.system.progress import SILENT, Progress

LIVE_SHARE_MIN = 0.5
"""A pack of whose data less is needed is written anew."""
PACKS, SHARDS, ROOTS = "packs/", "shards/", "roots/"
_OBJECT = re.compile(r"(?:packs|shards)/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_ROOT = re.compile(r"roots/([0-9a-f]{32})/([0-9a-f]{64})\.json")
_SIZE_MASK = (1 << 32) - 1
_HEX_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ShardUse:
    """The needs of one shard: pack -> its frames, each as a `frame_number`, and packs' sizes.

    A remote has millions of frames, so a frame takes eight bytes here.
    """

    frames: Mapping[Digest, array[int]]
    sizes: Mapping[Digest, int]
    bytes: int
    chunks: Mapping[Digest, int] = field(default_factory=dict)
    """Pack -> how many chunks the shard has in it; a chunk that it names twice counts twice."""


@dataclass(frozen=True, slots=True)
class RootThere:
    """A root as it is on the remote."""

    key: str
    info: ObjectInfo
    root: Root

    @property
    def repo(self) -> str:
        """The repository that it belongs to."""
        return self.key.split("/")[1]

    @property
    def manifests(self) -> set[str]:
        """The hashes of the manifests that it names."""
        return {manifest.manifest for manifest in self.root.manifests}

    @property
    def shards(self) -> set[str]:
        """The hashes of the shards that these manifests need."""
        return {name for manifest in self.root.manifests for name in manifest.shards}


@dataclass(slots=True)
class Survey:
    """Packs and shard objects there by key, all roots, and what each shard in question needs."""

    objects: dict[str, ObjectInfo] = field(default_factory=dict)
    roots: dict[str, RootThere] = field(default_factory=dict)
    shards: dict[str, ShardUse] = field(default_factory=dict)
    claimed: set[str] = field(default_factory=set)
    """Keys that a client at work relies on."""
    data_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes of all frames of the packs that may be needed by less than half."""
    faults: list[str] = field(default_factory=list)
    """The objects that are missing or damaged, each as a sentence."""
    broken: set[str] = field(default_factory=set)
    """The keys of roots that cannot be read, or that name what is not there."""

    def keys_of(self, shards: Iterable[str]) -> set[str]:
        """Return the keys of shard objects and of all packs that they point into."""
        keys: set[str] = set()
        for name in shards:
            keys.add(shard_key(bytes.fromhex(name)))
            if name in self.shards:
                keys.update(pack_key(pack) for pack in self.shards[name].frames)
        return keys

    def live(self, shards: Iterable[str]) -> set[str]:
        """Return the keys that must stay if these shards are needed."""
        return self.keys_of(shards) | self.claimed


def survey(
    remote: RemoteStore,
    claims: Collection[Claim],
    *,
    besides: Collection[str] = (),
    progress: Progress = SILENT,
) -> Survey:
    """Return the survey of `look_over`, if all of it is sound.

    CorruptError, naming them, if roots, shards or packs that are needed are damaged or gone: the
    objects that they named cannot be known, so nothing may be called dead.
    """
    result = look_over(remote, claims, besides=besides, progress=progress)
    if result.faults:
        raise CorruptError(
            f"{remote.url} is not whole, so the dead objects there cannot be known; "
            f"nothing was removed:\n{listing(result.faults)}",
            hint="repeat `dv push` in clones that have the data, or retire a repository that "
            "nobody needs: dv remote roots",
        )
    return result


def look_over(
    remote: RemoteStore,
    claims: Collection[Claim],
    *,
    besides: Collection[str] = (),
    progress: Progress = SILENT,
) -> Survey:
    """Read all roots and the shards that they and the claims name; then list the objects.

    The roots `besides` (keys) are not read and count for nothing. Damaged and missing objects are
    named in `faults`.
    """
    result = Survey()
    progress.start("reading shards", total_bytes=None)
    _read_roots(remote, result, besides)
    needed = sorted({name for root in result.roots.values() for name in root.shards})
    faulty = _read_shards(remote, result, needed, progress)
    claimed = {name for claim in claims for name in claim.shards if _HEX_NAME.fullmatch(name)}
    _read_shards(remote, result, sorted(claimed - set(needed)))  # they need not be there yet
    progress.finish()
    for top in (PACKS, SHARDS):
        for info in remote.backend.list(top):
            if _OBJECT.fullmatch(info.key):
                result.objects[info.key] = info
    faulty |= _absent(remote, result, needed)
    result.faults.extend(dict.fromkeys(faulty.values()))
    result.broken |= {
        k for k, root in result.roots.items() if not faulty.keys().isdisjoint(root.shards)
    }
    if not result.faults:
        _measure(remote, result, needed)
    result.claimed = result.keys_of(claimed) | {
        pack_key(bytes.fromhex(name))
        for claim in claims
        for name in claim.packs
        if _HEX_NAME.fullmatch(name)
    }
    return result


def is_root(key: str, repo: str | None) -> bool:
    """Whether this is the key of a root of this repository."""
    match = _ROOT.fullmatch(key)
    return match is not None and match[1] == repo


def list_roots(remote: RemoteStore, repo: str | None = None) -> dict[str, ObjectInfo]:
    """Return the roots of all repositories, or of one, by key, unread."""
    top = f"{ROOTS}{repo}/" if repo else ROOTS
    return {info.key: info for info in remote.backend.list(top) if _ROOT.fullmatch(info.key)}


def _read_roots(remote: RemoteStore, result: Survey, besides: Collection[str]) -> None:
    infos = list_roots(remote)
    wanted = [key for key in infos if key not in besides]
    for key, root in run_bounded(lambda key: _root_or_fault(remote, key), wanted):
        if isinstance(root, Root):
            result.roots[key] = RootThere(key, infos[key], root)
        elif root is not None:
            result.faults.append(root)
            result.broken.add(key)
    result.roots = dict(sorted(result.roots.items()))


def _root_or_fault(remote: RemoteStore, key: str) -> Root | str | None:
    """Return a root, or the fault of it; None if it was removed since it was listed."""
    _, repo_id, name = key.removesuffix(".json").split("/")
    try:
        root, _ = remote.get_root(repo_id, name)
    except ObjectMissing:
        return None
    except CorruptError as error:
        return str(error)
    names = [name for manifest in root.manifests for name in (manifest.manifest, *manifest.shards)]
    if not all(_HEX_NAME.fullmatch(name) for name in names):
        return f"{remote.url}: {key} names something that is no hash"
    return root


def _read_shards(
    remote: RemoteStore, result: Survey, names: Collection[str], progress: Progress = SILENT
) -> dict[str, str]:
    """Learn the needs of shards; return name -> fault for those that cannot be read."""

    def read(name: str) -> tuple[ShardUse, int] | str:
        try:
            shard = remote.read_shard(bytes.fromhex(name))
        except (CorruptError, MissingError) as error:
            return str(error)
        if not shard.complete:
            return f"{shard_key(bytes.fromhex(name))} does not say where all of its content is"
        return shard_use(shard), shard.size

    faulty: dict[str, str] = {}
    for name, answer in run_bounded(read, names):
        if isinstance(answer, str):
            faulty[name] = answer
        else:
            result.shards[name], size = answer
            progress.advance(size)
    return faulty


def shard_use(shard: FetchedShard) -> ShardUse:
    """Return which frames of which packs a shard needs, and how much content it has."""
    frames: dict[Digest, set[int]] = {}
    sizes: dict[Digest, int] = {}
    counts: Counter[Digest] = Counter()
    total = 0
    for chunks in shard.locations.values():
        for chunk in chunks:
            placement = chunk.placement
            frame = frame_number(placement.frame_offset, placement.frame_size)
            frames.setdefault(chunk.pack.digest, set()).add(frame)
            sizes[chunk.pack.digest] = chunk.pack.size
            counts[chunk.pack.digest] += 1
            total += placement.size
    numbers = {pack: array("Q", pack_frames) for pack, pack_frames in frames.items()}
    return ShardUse(numbers, sizes, total, dict(counts))


def frame_number(offset: int, size: int) -> int:
    """Return a frame's offset and stored size, both below 4 GiB, as one number."""
    return offset << 32 | size


def _absent(remote: RemoteStore, result: Survey, needed: Iterable[str]) -> dict[str, str]:
    """Return shard -> fault for each of `needed` that points to an absent object, seen twice.

    A gc elsewhere may have moved content after a shard was read here.
    """
    doubtful = [
        name for name in needed if name in result.shards and list(_missing_packs(result, name))
    ]
    faulty = _read_shards(remote, result, doubtful)
    for name in doubtful:
        for key, size in _missing_packs(result, name):
            info = remote.backend.head(key)
            if info is None or info.size != size:
                faulty[name] = f"{key}, which {shard_key(bytes.fromhex(name))} points to, is gone"
            else:
                result.objects[key] = info
    return faulty


def live_bytes(survey: Survey, shards: Iterable[str]) -> dict[str, int]:
    """Return key of a pack -> bytes of the frames in it that these shards need."""
    frames: dict[Digest, list[array[int]]] = {}
    for name in shards:
        for pack, pack_frames in survey.shards[name].frames.items():
            frames.setdefault(pack, []).append(pack_frames)
    # One pack after another: frames in a set take more memory than in an array.
    return {
        pack_key(pack): sum(frame & _SIZE_MASK for frame in set().union(*pack_frames))
        for pack, pack_frames in frames.items()
    }


def _measure(remote: RemoteStore, result: Survey, needed: Iterable[str]) -> None:
    """Learn the size of the frames of packs that may be mostly dead, without their indexes."""
    live = live_bytes(result, (name for name in needed if name in result.shards))
    doubtful = [
        result.objects[key]
        for key, size in live.items()
        if key in result.objects and size < LIVE_SHARE_MIN * result.objects[key].size
    ]
    for info, size in run_bounded(lambda info: _data_bytes(remote, info), doubtful):
        result.data_bytes[info.key] = size


def _data_bytes(remote: RemoteStore, info: ObjectInfo) -> int:
    buffer = io.BytesIO()
    offset = info.size - TRAILER.size
    remote.backend.read_into(info.key, buffer, offset=offset, size=TRAILER.size)
    index_size, *_, magic = TRAILER.unpack(buffer.getvalue())
    if magic != PACK_MAGIC or index_size > offset:
        raise CorruptError(
            f"{remote.url}: {info.key} is not a pack; nothing was removed", hint="dv fsck --remote"
        )
    return int(offset - index_size)


def _missing_packs(result: Survey, name: str) -> Iterator[tuple[str, int]]:
    for pack, size in result.shards[name].sizes.items():
        info = result.objects.get(pack_key(pack))
        if info is None or info.size != size:
            yield pack_key(pack), size
