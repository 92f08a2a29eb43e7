"""Files of a remote, put together as its shards say: which come out, and what that reads."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from dvtool.format.digest import Digest, digest_of
from dvtool.format.locations import Located, RemotePack
from dvtool.format.pack import PackWriter
from dvtool.remotes import assembly
from dvtool.remotes.assembly import Assembly
from dvtool.remotes.objects import FetchedShard, pack_key
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import Backend, Sink
from dvtool.remotes.transports.local.backend import LocalBackend
from dvtool.store.local import LocalStore
from dvtool.store.packcheck import PackCheck
from tests.faulty import Faulty
from tests.scenario import noise

CHUNK_BYTES = 40_000
"""Large enough for a frame of its own."""
PACK_CHUNKS = 8
PACKS = 6


class Counting(Faulty):
    """Counts what is read."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, on="nothing")
        self.reads: list[int] = []
        self.keys: list[str] = []

    def read_into(self, key: str, sink: Sink, *, offset: int = 0, size: int | None = None) -> int:
        self.keys.append(key)
        self.reads.append(super().read_into(key, sink, offset=offset, size=size))
        return self.reads[-1]


@dataclass
class There:
    """A remote with packs of chunks numbered on end, and a check of it."""

    store: LocalStore
    remote: RemoteStore
    backend: Counting
    chunks: list[Located] = field(default_factory=list)
    judged: dict[Digest, PackCheck] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[Digest, int]:
        return {chunk.pack.digest: chunk.pack.size for chunk in self.chunks}

    def new(self, whole: list[Digest] | None = None) -> Assembly:
        def judge(digest: Digest, check: PackCheck) -> None:
            assert digest not in self.judged, "every pack once"
            # Beside these there may be packs that no file needs, on their way.
            assert len(one._kept) <= assembly.WINDOW_MAX_PACKS
            self.judged[digest] = check

        chosen = list(self.sizes) if whole is None else whole
        one = Assembly(self.store, self.remote, self.sizes, chosen, judge)
        return one

    def content(self, *chunks: int) -> Digest:
        return digest_of(b"".join(noise(CHUNK_BYTES, one) for one in chunks))

    def shard(self, **files: tuple[int, ...]) -> FetchedShard:
        """A shard of files by the numbers of their chunks; a name that begins with x lies."""
        locations = {
            self.content(*chunks[::-1] if name.startswith("x") else chunks): [
                self.chunks[one] for one in chunks
            ]
            for name, chunks in files.items()
        }
        return FetchedShard({}, b"", locations, 0)

    def read(self) -> int:
        """Bytes of packs that were read."""
        return sum(self.backend.reads)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[There]:
    (tmp_path / "remote").mkdir()
    backend = Counting(LocalBackend(str(tmp_path / "remote")))
    remote = RemoteStore(backend)
    with LocalStore(str(tmp_path / "store")) as store:
        found = There(store, remote, backend)
        for number in range(PACKS):
            file = io.BytesIO()
            writer = PackWriter(file)
            for chunk in range(number * PACK_CHUNKS, (number + 1) * PACK_CHUNKS):
                data = noise(CHUNK_BYTES, chunk)
                writer.add(digest_of(data), data)
            info = writer.finish()
            remote.put_pack(info.digest, file)
            pack = RemotePack(info.digest, info.size)
            found.chunks.extend(Located(pack, place) for place in info.index.placements())
        yield found
        assert not os.listdir(store.temp_folder())


def small_windows(monkeypatch: pytest.MonkeyPatch, packs: int) -> None:
    monkeypatch.setattr(assembly, "WINDOW_MAX_PACKS", packs)


@pytest.mark.parametrize("packs", [1, 2, 64])
def test_files_one_after_the_other_cost_each_pack_once(
    there: There, monkeypatch: pytest.MonkeyPatch, packs: int
) -> None:
    small_windows(monkeypatch, packs)
    one = there.new()
    one.add(b"s", there.shard(a=(0, 1, 2), b=tuple(range(3, 30)), c=tuple(range(30, 41))))
    one.finish()
    assert (one.files, one.wrong) == (3, {})
    assert there.judged.keys() == there.sizes.keys()
    assert there.read() == sum(there.sizes.values())


def test_versions_of_a_file_cost_each_pack_once(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them go through the packs side by side, with one pack on the disk at a time."""
    small_windows(monkeypatch, 1)
    versions = {f"v{n}": (*range(n), *range(40, 40 + n % 8 + 1)) for n in range(8, 40, 5)}
    one = there.new()
    for number, (name, chunks) in enumerate(versions.items()):
        one.add(bytes([number]), there.shard(**{name: chunks}))
    one.finish()
    assert (one.files, one.wrong) == (len(versions), {})
    assert there.read() == sum(there.sizes.values())


@pytest.mark.parametrize("packs", [1, 2, 3])
def test_what_is_gone_by_is_read_in_ranges(
    there: There, monkeypatch: pytest.MonkeyPatch, packs: int
) -> None:
    small_windows(monkeypatch, packs)
    back_and_forth = (0, 1, 8, 9, 16, 17, 2, 3, 18, 10, 4, 5)
    one = there.new()
    one.add(b"s", there.shard(a=back_and_forth, xb=(*back_and_forth, 6)))
    one.finish()
    assert one.files == 2
    assert one.wrong == {b"s": {there.content(*(*back_and_forth, 6)[::-1])}}
    again = there.read() - sum(there.sizes.values())
    assert again <= len(back_and_forth) * (CHUNK_BYTES + 100)
    assert one.bytes_again == again


def test_what_makes_another_file_is_named_by_every_shard_that_says_so(there: There) -> None:
    right, lie = there.shard(a=(0, 1)), there.shard(xb=(2, 3), c=(4, 5))
    one = there.new()
    for name, shard in ((b"1", right), (b"2", lie), (b"3", lie), (b"4", right)):
        one.add(name, shard)
    one._run()  # what comes after is of another batch
    one.add(b"5", lie)
    one.finish()
    wrong = {there.content(3, 2)}
    assert one.wrong == {b"2": wrong, b"3": wrong, b"5": wrong}
    assert one.files == 3


def test_small_batches_find_the_same(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "PLACES_MAX", 5)
    monkeypatch.setattr(assembly, "SEEN_MAX", 1)
    small_windows(monkeypatch, 2)
    random.seed(0)
    one, lies = there.new(), set()
    for number in range(30):
        chunks = tuple(random.sample(range(PACKS * PACK_CHUNKS), 6))
        name = random.choice(["a", "x"])
        shard = bytes([number])
        one.add(shard, there.shard(**{name: chunks}))
        if name == "x":
            lies.add(shard)
    one.finish()
    assert one.wrong.keys() == lies


def test_a_damaged_pack_is_judged_and_its_files_are_not(there: There) -> None:
    (first, *_) = there.sizes
    key = f"packs/{first.hex()[:2]}/{first.hex()}"
    data = bytearray(there.backend.get(key, size_max=1 << 30))
    data[100] ^= 1
    there.backend.put(key, bytes(data))
    one = there.new()
    one.add(b"s", there.shard(a=(0, 1), xb=(2, 3), xc=(9, 1, 10), xd=(11, 12)))
    one.finish()
    assert not there.judged[first].sound
    assert one.wrong == {b"s": {there.content(12, 11)}}


@pytest.mark.parametrize("packs", [1, 2, 3])
def test_of_a_damaged_pack_no_range_is_read(
    there: There, monkeypatch: pytest.MonkeyPatch, packs: int
) -> None:
    """It was cut short: many of its places lie beyond its end."""
    small_windows(monkeypatch, packs)
    random.seed(packs)
    sizes = there.sizes
    cut = next(iter(sizes))
    key = pack_key(cut)
    sizes[cut] //= 2
    there.backend.put(key, there.backend.get(key, size_max=1 << 30)[: sizes[cut]])
    one = Assembly(there.store, there.remote, sizes, list(sizes), there.judged.__setitem__)
    files = [tuple(random.sample(range(PACKS * PACK_CHUNKS), 6)) for _ in range(40)]
    for number, chunks in enumerate(files):
        one.add(bytes([number]), there.shard(x=chunks))
    one.finish()
    assert [digest for digest, check in there.judged.items() if not check.sound] == [cut]
    sound = {bytes([n]) for n, chunks in enumerate(files) if min(chunks) >= PACK_CHUNKS}
    assert one.wrong.keys() == sound
    assert there.backend.keys.count(key) == 1


def test_a_sample_takes_the_files_that_lie_in_it(there: There) -> None:
    some = list(there.sizes)[1:3]
    one = there.new(whole=some)
    files = {"xa": (0, 9), "xb": (9, 0), "xc": (8, 16, 40), "xd": (10, 11, 17), "e": (18, 12)}
    one.add(b"s", there.shard(**files))
    one.finish()
    assert there.judged.keys() == set(some)
    assert one.wrong == {b"s": {there.content(17, 11, 10)}}
    assert one.files == 2
    assert there.read() == sum(there.sizes[pack] for pack in some)


@pytest.mark.parametrize("harm", ["flip", "cut", "lose"])
def test_what_is_beside_a_sample_can_be_as_it_may(there: There, harm: str) -> None:
    first, second, *_ = there.sizes
    key = pack_key(first)
    data = bytearray(there.backend.get(key, size_max=1 << 30))
    if harm == "flip":
        data[100] ^= 1
    there.backend.put(key, bytes(data[:200] if harm == "cut" else data))
    if harm == "lose":
        there.backend.delete(key)
    one = there.new(whole=[second])
    one.add(b"s", there.shard(a=(8, 0), b=(9, 7), c=(9, 10)))
    one.finish()
    assert (one.files, one.wrong) == (1, {})


def test_places_that_are_none_make_no_file(there: There) -> None:
    shard = there.shard(a=(0, 1, 2))
    ((content, chunks),) = shard.locations.items()
    place = structs.replace(chunks[1].placement, frame_offset=7)
    shard.locations[content] = [chunks[0], Located(chunks[1].pack, place), chunks[2]]
    one = there.new()
    one.add(b"s", shard)
    one.finish()
    assert one.wrong == {b"s": {content}}


def test_places_beyond_the_end_of_a_pack_are_not_asked_for(
    there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where only ranges are read: a shard that lies is to be named, and ends nothing."""
    small_windows(monkeypatch, 1)
    shard = there.shard(a=(0, 8, 1, 9), b=(2, 10, 3))
    content = there.content(0, 8, 1, 9)
    chunks = shard.locations[content]
    place = structs.replace(chunks[2].placement, frame_offset=chunks[2].pack.size - 10)
    shard.locations[content] = [*chunks[:2], Located(chunks[2].pack, place), chunks[3]]
    one = there.new()
    one.add(b"s", shard)
    one.finish()
    assert (one.files, one.wrong) == (2, {b"s": {content}})
