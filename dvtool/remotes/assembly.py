"""Puts the files of a remote together as its shards say, and names the files that come out wrong.

Every pack is read whole once, for a check of its own. Files are hashed on the way, many at a time,
each as far as the packs at hand go. Chunks of a pack that is no longer at hand are read in ranges,
and only from sound packs: a wrong hash of a file then means that its locations are wrong. A few
packs are on the disk at a time; the memory holds only placements, of a bounded number of files.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dvtool.errors import CorruptError, ObjectMissing
from dvtool.format.digest import Digest, hasher
from dvtool.format.locations import Located
from dvtool.format.pack import unpack_frame
from dvtool.format.ranges import RangeLimits, join
from dvtool.remotes.objects import FetchedShard
from dvtool.remotes.pack_probe import download_check
from dvtool.remotes.remote import RemoteStore
from dvtool.store.local import LocalStore
from dvtool.store.packcheck import PackCheck
from dvtool.system.parallel import run_bounded

PLACES_MAX = 2_000_000
"""The placements of so many chunks are held at a time: 20 bytes each."""
FILES_MAX = 20_000
"""The hashes of so many files may be half done at a time: 2 KiB each."""
SEEN_MAX = 500_000
"""So many files are remembered, so that a file of many versions is hashed once."""
WINDOW_MAX_BYTES = 256 << 20
WINDOW_MAX_PACKS = 64
"""The bytes of packs on the disk at a time."""

Judge = Callable[[Digest, PackCheck], None]


@dataclass(slots=True)
class _Kept:
    """A pack, or ranges of it at their offsets, in a temporary file.

    `frames` are those in the file, offset -> stored size; None for all.
    """

    path: str
    frames: Mapping[int, int] | None
    fd: int = -1

    def read(self, offset: int, size: int) -> bytes:
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self.fd, size, offset)

    def drop(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


@dataclass(slots=True)
class _Batch:
    """Files whose chunks are being looked up, and the placements of all chunks in columns.

    A run is a stretch of a file whose chunks are all in one pack.
    """

    offsets: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    starts: array[int] = field(default_factory=lambda: array("I"))
    raws: array[int] = field(default_factory=lambda: array("I"))
    packs: array[int] = field(default_factory=lambda: array("I"))
    """Run -> the number of its pack."""
    begins: array[int] = field(default_factory=lambda: array("Q"))
    """Run -> its first place."""
    contents: list[Digest] = field(default_factory=list)
    shards: list[list[Digest]] = field(default_factory=list)
    """File -> the shards that name it."""
    next: array[int] = field(default_factory=lambda: array("Q"))
    """File -> the first of its runs that was not hashed yet."""
    ends: array[int] = field(default_factory=lambda: array("Q"))
    names: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    """The statement about a file -> the file's number."""

    def places(self, run: int) -> range:
        end = self.begins[run + 1] if run + 1 < len(self.begins) else len(self.offsets)
        return range(self.begins[run], end)

    def cut(self, places: int, runs: int) -> None:
        """Remove the rows beyond so many places and runs."""
        for column in (self.offsets, self.sizes, self.starts, self.raws):
            del column[places:]
        del self.packs[runs:]
        del self.begins[runs:]

    def name(self, content: Digest, places: int, runs: int) -> bytes:
        """Return a hash of a file and its places; they are foreign, so no weaker hash will do."""
        whole = hasher(content)
        for column in (self.offsets, self.sizes, self.starts, self.raws):
            whole.update(column[places:].tobytes())
        whole.update(self.packs[runs:].tobytes())
        for begin in self.begins[runs:]:
            whole.update((begin - places).to_bytes(8, "little"))
        return whole.digest()[:16]


class Assembly:
    """Takes every shard, then `finish`. Packs in `whole` are read and handed to `judge`, once.

    `sizes` are the sizes of the packs in `whole` on the remote. Files with a chunk in another
    pack, or in a damaged one, are passed over: a wrong hash would not tell what is wrong. With
    `first_read` only these packs of `whole` are judged: others read and judge the rest.
    """

    def __init__(
        self,
        store: LocalStore,
        remote: RemoteStore,
        sizes: Mapping[Digest, int],
        whole: Collection[Digest],
        judge: Judge,
        *,
        first_read: Collection[Digest] | None = None,
    ) -> None:
        self._store = store
        self._remote = remote
        self._sizes = sizes
        self._left = dict.fromkeys(whole if first_read is None else first_read)
        self._whole = frozenset(whole)
        self._judge = judge
        self._bad: set[Digest] = set()
        self._digests: list[Digest] = []
        self._numbers: dict[Digest, int] = {}
        self._batch = _Batch()
        self._right: set[bytes] = set()
        self._wrong: set[bytes] = set()
        self._kept: dict[int, _Kept] = {}
        self._visits: Counter[int] = Counter()
        """Pack -> how many runs of files are still to be hashed there."""
        self._waiting: dict[int, list[int]] = {}
        """Pack -> the files that come to it next."""
        self._hashes: dict[int, hasher] = {}
        self._frame: tuple[int, int, memoryview] = (-1, -1, memoryview(b""))
        self.wrong: dict[Digest, set[Digest]] = {}
        """Shard -> the contents that its locations do not make."""
        self.files = 0
        """How many files were put together and hashed."""
        self.bytes_again = 0
        """How many bytes were read in ranges, from packs that were read whole before."""

    def add(self, shard: Digest, fetched: FetchedShard) -> None:
        """Take the files of several chunks that a shard names; one chunk has the file's hash."""
        files = [item for item in fetched.locations.items() if len(item[1]) > 1]
        for content, chunks in files:
            if all(chunk.pack.digest in self._whole for chunk in chunks):
                self._add(shard, content, chunks)
        if len(self._batch.offsets) >= PLACES_MAX or len(self._batch.contents) >= FILES_MAX:
            self._run()

    def finish(self) -> None:
        """Put the remaining files together, then read the packs that no such file needed."""
        self._run()
        left, self._left = list(self._left), {}
        for digest, check in run_bounded(
            lambda digest: download_check(self._store, self._remote, digest, self._sizes[digest]),
            left,
            size_of=lambda digest: self._sizes[digest],
        ):
            self._judge(digest, check)

    # --- what there is to do --------------------------------------------------------------

    def _add(self, shard: Digest, content: Digest, chunks: Sequence[Located]) -> None:
        batch = self._batch
        places, runs = len(batch.offsets), len(batch.packs)
        for chunk in chunks:
            pack, placement = self._number(chunk.pack.digest), chunk.placement
            if len(batch.packs) == runs or batch.packs[-1] != pack:
                batch.packs.append(pack)
                batch.begins.append(len(batch.offsets))
            batch.offsets.append(placement.frame_offset)
            batch.sizes.append(placement.frame_size)
            batch.starts.append(placement.start)
            batch.raws.append(placement.size)
        name = batch.name(content, places, runs)
        known = batch.numbers.get(name)
        if known is None and name not in self._right and name not in self._wrong:
            batch.numbers[name] = len(batch.contents)
            batch.names.append(name)
            batch.contents.append(content)
            batch.shards.append([shard])
            batch.next.append(runs)
            batch.ends.append(len(batch.packs))
            return
        if name in self._wrong:
            self.wrong.setdefault(shard, set()).add(content)
        elif known is not None:
            batch.shards[known].append(shard)
        batch.cut(places, runs)

    def _number(self, pack: Digest) -> int:
        number = self._numbers.setdefault(pack, len(self._digests))
        if number == len(self._digests):
            self._digests.append(pack)
        return number

    # --- doing it -------------------------------------------------------------------------

    def _run(self) -> None:
        """Hash all files of the batch."""
        self._visits = Counter(self._batch.packs)
        for file, run in enumerate(self._batch.next):
            self._waiting.setdefault(self._batch.packs[run], []).append(file)
        try:
            while self._waiting:
                self._get(self._window())
                ready = [f for pack in self._kept for f in self._waiting.pop(pack, ())]
                for file in ready:
                    self._advance(file)
                self._drop()
        finally:
            self._drop()
        self._batch = _Batch()
        self._hashes.clear()
        if len(self._right) > SEEN_MAX:
            self._right.clear()

    def _drop(self) -> None:
        for kept in self._kept.values():
            kept.drop()
        self._kept.clear()
        self._frame = (-1, -1, memoryview(b""))

    def _window(self) -> dict[int, dict[int, int]]:
        """Choose packs to read next, each once all the files that go through it have come to it.

        Returns pack -> its needed frames, as offset -> stored size. If files wait for each other,
        the pack with the fewest files still to come is taken.
        """
        coming = {pack: self._visits[pack] - len(files) for pack, files in self._waiting.items()}
        packs_left = sorted(pack for pack, count in coming.items() if count == 0)
        packs_left = packs_left or [min(coming, key=lambda pack: (coming[pack], pack))]
        arrived = {
            pack: [(f, self._batch.next[f]) for f in self._waiting[pack]] for pack in packs_left
        }
        window: dict[int, dict[int, int]] = {}
        room = WINDOW_MAX_BYTES
        while packs_left:
            pack = packs_left.pop(0)
            size = self._sizes[self._digests[pack]]
            if window and (size > room or len(window) == WINDOW_MAX_PACKS):
                break
            room -= size
            window[pack] = {}
            for file, run in arrived[pack]:
                packs_left.extend(self._follow(file, run, window, coming, arrived))
        return window

    def _follow(
        self,
        file: int,
        run: int,
        window: Mapping[int, dict[int, int]],
        coming: dict[int, int],
        arrived: dict[int, list[tuple[int, int]]],
    ) -> Iterator[int]:
        """Let a file go on as far as the packs in the window go; yield the pack that is next.

        It is yielded if nobody else is still to come there.
        """
        batch = self._batch
        for at in range(run, batch.ends[file]):
            pack = batch.packs[at]
            if self._digests[pack] in self._bad:
                return
            if pack not in window:
                if pack not in coming:
                    coming[pack] = self._visits[pack]
                    arrived[pack] = []
                coming[pack] -= 1
                arrived.setdefault(
                    pack, [(f, batch.next[f]) for f in self._waiting.get(pack, ())]
                ).append((file, at))
                if coming[pack] == 0:
                    yield pack
                return
            frames = window[pack]
            for row in batch.places(at):
                frames[batch.offsets[row]] = batch.sizes[row]

    def _get(self, window: Mapping[int, dict[int, int]]) -> None:
        """Read packs whole where that is still to be done, else the ranges with these frames."""
        for pack, frames in window.items():
            wanted_frames = None if self._digests[pack] in self._left else frames
            self._kept[pack] = _Kept(self._store.temp_path(), wanted_frames)
        checks = run_bounded(
            self._read, window, size_of=lambda pack: self._sizes[self._digests[pack]]
        )
        for pack, check in checks:
            if isinstance(check, int):
                self.bytes_again += check
            else:
                digest = self._digests[pack]
                del self._left[digest]
                if not check.sound:
                    self._bad.add(digest)
                self._judge(digest, check)

    def _read(self, pack: int) -> PackCheck | int:
        """Read a pack whole and return its check, or read ranges and return their bytes."""
        digest, kept = self._digests[pack], self._kept[pack]
        if kept.frames is None:
            return download_check(
                self._store,
                self._remote,
                digest,
                self._sizes[digest],
                keep=lambda temp, _: os.replace(temp, kept.path),
            )
        read_bytes = 0
        with open(kept.path, "xb") as file, contextlib.suppress(ObjectMissing):
            # A shard may say anything: frames beyond the end of the pack are left out.
            frames = sorted(kept.frames.items())
            inside = ((at, size, 0) for at, size in frames if at + size <= self._sizes[digest])
            for offset, end, _ in join(inside, RangeLimits()):
                file.seek(offset)
                self._remote.read_pack(digest, file, offset=offset, size=end - offset)
                read_bytes += end - offset
        return read_bytes

    def _advance(self, file: int) -> None:
        """Hash the chunks of a file as far as the packs at hand go."""
        batch = self._batch
        whole = self._hashes.pop(file, None) or hasher()
        for run in range(batch.next[file], batch.ends[file]):
            pack = batch.packs[run]
            if self._digests[pack] in self._bad:
                self._visits.subtract(batch.packs[run : batch.ends[file]])
                return
            kept = self._kept.get(pack)
            if kept is None or not self._has(kept, run):
                batch.next[file] = run
                self._hashes[file] = whole
                self._waiting.setdefault(pack, []).append(file)
                return
            for at in batch.places(run):
                raw = self._unpacked(kept, pack, batch.offsets[at], batch.sizes[at])
                whole.update(raw[batch.starts[at] : batch.starts[at] + batch.raws[at]])
            self._visits[pack] -= 1
        self._end(file, whole.digest() == batch.contents[file])

    def _has(self, kept: _Kept, run: int) -> bool:
        return kept.frames is None or all(
            self._batch.offsets[at] in kept.frames for at in self._batch.places(run)
        )

    def _unpacked(self, kept: _Kept, pack: int, offset: int, size: int) -> memoryview:
        """Return a frame as it is in the pack; no bytes if there is no such frame."""
        if self._frame[:2] != (pack, offset):
            raw = memoryview(b"")
            with contextlib.suppress(CorruptError):
                raw = memoryview(unpack_frame(kept.read(offset, size), where=""))
            self._frame = pack, offset, raw
        return self._frame[2]

    def _end(self, file: int, right: bool) -> None:
        self.files += 1
        (self._right if right else self._wrong).add(self._batch.names[file])
        if not right:
            for shard in self._batch.shards[file]:
                self.wrong.setdefault(shard, set()).add(self._batch.contents[file])
