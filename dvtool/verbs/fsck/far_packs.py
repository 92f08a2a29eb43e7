"""Reading the packs of a remote by the workers of a cluster, each pack whole by one of them."""

from __future__ import annotations

import contextlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dvtool.errors import CorruptError, MissingError
from dvtool.format.digest import Digest
from dvtool.jobs.cluster import ClusterEngine
from dvtool.remotes.address import RemoteAddress
from dvtool.remotes.assembly import Assembly
from dvtool.store.local import LocalStore
from dvtool.store.packcheck import PackCheck, fingerprint

FAR_PACKS_BYTES = 256 << 20
FAR_SHARDS_MAX = 64


@dataclass(frozen=True, slots=True)
class FarReading:
    """A cluster, and the remote whose packs its workers read."""

    engine: ClusterEngine
    remote: RemoteAddress


@dataclass(frozen=True, slots=True)
class PacksBatch:
    """Shards whose files are to be put together, and the packs to read whole for that.

    `sizes` are the sizes of all packs that the shards point into and that count.
    """

    remote: RemoteAddress
    shards: tuple[Digest, ...]
    whole: tuple[Digest, ...]
    sizes: Mapping[Digest, int]

    @property
    def size_bytes(self) -> int:
        """The size of the packs that are read whole."""
        return sum(self.sizes[digest] for digest in self.whole)


@dataclass(frozen=True, slots=True)
class FarPackRead:
    """A pack as a worker read it: fingerprints of the chunks there, and all of it if damaged."""

    digest: Digest
    size: int
    have: bytes
    check: PackCheck | None

    def fingerprints(self) -> array[int]:
        """Return the fingerprints of the places of chunks in it."""
        numbers = array("Q")
        numbers.frombytes(self.have)
        return numbers


@dataclass(slots=True)
class PacksRead:
    """The result of a batch: `wrong` has shard -> contents that its places do not make."""

    packs: list[FarPackRead] = field(default_factory=list)
    wrong: dict[Digest, set[Digest]] = field(default_factory=dict)
    files: int = 0
    bytes_again: int = 0


def packs_batches(
    remote: RemoteAddress,
    shards: Iterable[Digest],
    packs_of: Mapping[Digest, Iterable[Digest]],
    sizes: Mapping[Digest, int],
) -> Iterator[PacksBatch]:
    """Cut shards into batches; a pack of several is read whole by the first."""
    left = set(sizes)
    run: list[Digest] = []
    whole: list[Digest] = []
    needed: dict[Digest, int] = {}
    size = 0
    for shard in shards:
        packs = [pack for pack in packs_of.get(shard, ()) if pack in sizes]
        run.append(shard)
        needed.update((pack, sizes[pack]) for pack in packs)
        fresh = [pack for pack in packs if pack in left]
        left.difference_update(fresh)
        whole += fresh
        size += sum(sizes[pack] for pack in fresh)
        if size >= FAR_PACKS_BYTES or len(run) >= FAR_SHARDS_MAX:
            yield PacksBatch(remote, tuple(run), tuple(whole), needed)
            run, whole, needed, size = [], [], {}, 0
    if run or left:
        needed.update((pack, sizes[pack]) for pack in left)
        yield PacksBatch(remote, tuple(run), (*whole, *sorted(left)), needed)


def read_packs(batch: PacksBatch, tell: Callable[[int], None] | None = None) -> PacksRead:
    """Read the packs of a batch, and put the files of its shards together, on a worker."""
    remote = batch.remote.open()
    result = PacksRead()

    def judge(digest: Digest, check: PackCheck) -> None:
        have = array("Q", [fingerprint(placement) for placement in check.places]).tobytes()
        damaged = None if check.sound else check
        result.packs.append(FarPackRead(digest, check.size, have, damaged))
        if tell is not None:
            tell(check.size)

    with tempfile.TemporaryDirectory(prefix="dv-packs-") as folder, LocalStore(folder) as store:
        assembly = Assembly(store, remote, batch.sizes, batch.sizes, judge, first_read=batch.whole)
        for name in batch.shards:
            # The driver has named shards that are gone or damaged.
            with contextlib.suppress(MissingError, CorruptError):
                assembly.add(name, remote.read_shard(name))
        assembly.finish()
    result.wrong = assembly.wrong
    result.files, result.bytes_again = assembly.files, assembly.bytes_again
    return result
