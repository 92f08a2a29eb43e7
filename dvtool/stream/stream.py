"""A stream: samples of one commit, in an order that can be taken up at every place."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, cast

from dvtool.errors import UsageError
from dvtool.snapshots.reading import snapshot
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.order import (
    BLOCK_BYTES,
    WINDOW_BYTES,
    Block,
    Order,
    Shuffle,
    cut_blocks,
    node_blocks,
)
from dvtool.stream.reading import AHEAD_MAX, OnDamage, PartReader, parts
from dvtool.stream.samples import FileSamples, Sample, SampleSet, StemSamples
from dvtool.stream.share import Share, Tail, drop_first, positions, rank_length
from dvtool.system.collecting import collector_put_off

SampleKind = Literal["files", "stems", "rows", "tar"]
"""The kinds of samples: a file, files of one stem, a row of a table, or members of a tar file."""
STATE_VERSION = 2
AHEAD_CACHE = AHEAD_MAX + 2
"""A cache for fewer windows would lose some before they are read: one is in use, one goes."""
NUMBER_BITS_MAX = 127
"""Seeds and epochs are hashed as signed numbers of 16 bytes."""


class Stream:
    """The samples below a path at a commit.

    The order of an epoch depends on the data below the path, on `seed`, `window` and `nodes`, and
    on the epoch's number, but not on where the data is, the number of ranks or a loader's workers.

    - `path`: a file, a folder or a target, from the top of the repository; "" is all data.
    - `rev`, `repo`: the commit and the repository, as `dvtool.snapshot` has them.
    - `window`: how many bytes of samples are shuffled among each other. All readers of a node
      together hold at most twice as much in memory.
    - `nodes`: among how many machines the data is divided, for good: each reads its part only.
    - `tail`: what ranks do when samples do not divide among them, see `dvtool.stream.Tail`.
    - `samples`: what a sample is, see `dvtool.stream.SampleKind`.
    - `decode`: called with each sample's data; its result is put in the data's place.
    - `on_damage`: ``"skip"`` leaves out samples that are damaged or nowhere, and puts their keys
      into `skipped`.

    A stream can be pickled, and used under fork and spawn.
    """

    def __init__(
        self,
        path: str = "",
        rev: str | None = None,
        repo: str | os.PathLike[str] | Snapshot | None = None,
        seed: int = 0,
        shuffle: bool = True,
        window: int = WINDOW_BYTES,
        *,
        samples: SampleKind = "files",
        nodes: int = 1,
        tail: Tail = "keep",
        decode: Callable[[Any], Any] | None = None,
        on_damage: OnDamage = "raise",
    ) -> None:
        _refuse_options(seed, window, nodes, tail, samples, on_damage)
        self.snapshot = repo if isinstance(repo, Snapshot) else snapshot(rev, repo)
        self.path = os.fspath(path)
        self.seed, self.shuffle, self.window, self.nodes = seed, shuffle, window, nodes
        self.kind, self.tail, self.on_damage = samples, tail, on_damage
        self.decode = decode
        self.skipped: list[str] = []
        """Keys of the samples that were left out, as this process, or a StreamLoader, read them."""
        self._set: SampleSet | None = None
        self._parts: list[list[Block]] | None = None
        self._place = (0, 0)
        self._epoch: Epoch | None = None

    # --- what there is --------------------------------------------------------------------

    @property
    def samples(self) -> SampleSet:
        """The samples, numbered in the order of their paths."""
        if self._set is None:
            with collector_put_off():
                self._set = _sample_set(self.kind, self.snapshot, self.path)
        return self._set

    def __len__(self) -> int:
        return len(self.samples.sizes)

    def __repr__(self) -> str:
        return (
            f"<Stream of {self.path or 'all data'!r} at {self.snapshot.commit[:10]}: "
            f"{self.kind}, seed {self.seed}>"
        )

    def order(self, number: int, node: int = 0) -> Order:
        """Return the order of an epoch, or of a node's part of it."""
        if self._parts is None:
            blocks = cut_blocks(self.samples.sizes, min(BLOCK_BYTES, self.window))
            _refuse_idle_nodes(len(blocks), self.nodes)
            self._parts = node_blocks(blocks, self.samples.data_key, self.nodes)
        shuffle = Shuffle(self.seed, self.shuffle, self.window)
        return Order(self._parts[node], self.samples.data_key, shuffle, number)

    # --- reading --------------------------------------------------------------------------

    def epoch(
        self,
        number: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        worker: int = 0,
        workers: int = 1,
        batch_size: int = 1,
        place: int | None = None,
        skip: int = 0,
    ) -> Epoch:
        """Return the samples that a rank, or a worker of its loader, has in an epoch.

        An epoch that `load_state_dict` named goes on at its place, any other begins at its start,
        unless `place` says after how many samples of all ranks. `skip` passes over so many
        samples of this reader. A loader's workers make batches of `batch_size` in turn.
        """
        if not isinstance(number, SupportsIndex):
            raise TypeError(f"an epoch is a whole number, not {number!r}")
        number = number.__index__()
        if number.bit_length() > NUMBER_BITS_MAX:
            raise UsageError("an epoch is a number of at most 127 bits")
        share = Share(rank, world_size, worker, workers, batch_size)
        if world_size % self.nodes:
            raise UsageError(f"{world_size} ranks do not divide among {self.nodes} nodes")
        if place is None:
            named, place = self._place
            place = place if named == number else 0
        self._epoch = Epoch(self, number, place, share, skip)
        self._place = (number, 0)
        return self._epoch

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read samples by their numbers in the order of paths, in any order, decoded."""
        ascending = sorted(set(numbers))
        samples = dict(zip(ascending, self.samples.read(ascending), strict=True))
        return [self.decoded(samples[number]) for number in numbers]

    def decoded(self, sample: Sample) -> Sample:
        """Return a sample with its data decoded, if the stream says how."""
        decode = self.decode
        return sample if decode is None else Sample(sample.key, decode(sample.data))

    # --- state ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch in use is: how many of its samples all ranks consumed.

        Every rank has the same state if ranks took equally many samples, so one of them is enough.
        """
        if self._epoch is None:
            return self.state_at(*self._place)
        return self.state_at(self._epoch.number, self._epoch.place)

    def state_at(self, epoch: int, place: int) -> dict[str, Any]:
        """Return the state after the first `place` samples of an epoch, counted over all ranks."""
        return {**self._identity(), "epoch": epoch, "place": place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up an epoch where `state_dict` saw it, with any number of ranks and workers.

        `UsageError` names what differs if the state is of another order of samples.
        """
        identity = self._identity()
        if not isinstance(state, Mapping) or state.get("version") != STATE_VERSION:
            raise UsageError("this is no state of a stream that this version of dvtool can read")
        other = [name for name, value in identity.items() if state.get(name) != value]
        if other:
            names = ", ".join("the data" if name == "data" else name for name in other)
            raise UsageError(
                f"the state is of another order of samples: it differs in {names}",
                hint="make the stream with the commit and options of the run that saved the state",
            )
        epoch, place = state.get("epoch"), state.get("place")
        if not isinstance(epoch, int) or not isinstance(place, int) or place < 0:
            raise UsageError("the state of the stream is damaged: it has no epoch and place")
        self._place, self._epoch = (epoch, place), None

    def _identity(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "data": self.samples.data_key.hex(),
            "kind": self.kind,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "window": self.window,
            "nodes": self.nodes,
        }

    # --- pickling -------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_set": None, "_parts": None, "_epoch": None, "skipped": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Batch(NamedTuple):
    """Samples of one batch, and how many were read for it, those counted that were left out."""

    read: int
    samples: list[Sample]


class Epoch:
    """An iterator over the samples that one reader has in an epoch, once."""

    def __init__(self, stream: Stream, number: int, place: int, share: Share, skip: int) -> None:
        self.number = number
        self.begin = place
        """After how many samples of all ranks the epoch was taken up."""
        self.consumed = skip
        """How many samples this reader has taken, those counted that were left out."""
        self._stream = stream
        self._ranks = share.world_size // stream.nodes
        node, rank = divmod(share.rank, self._ranks)
        self._share = Share(rank, self._ranks, share.worker, share.workers, share.batch_size)
        self._begin = place // stream.nodes
        self._order = stream.order(number, node)
        self._read: Iterator[Sample | None] | None = None

    @property
    def place(self) -> int:
        """How many samples of the epoch all ranks consumed, if each took as many as this one.

        Of a reader that is one of several workers, this is not known: its loader counts.
        """
        return self.begin + self.consumed * self._ranks * self._stream.nodes

    def __len__(self) -> int:
        """Return how many samples the rank has from the place where the epoch was taken up."""
        return rank_length(len(self._order), self._begin, self._share, self._stream.tail)

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> Sample:
        while (sample := next(self._reading())) is None:
            self.consumed += 1
        self.consumed += 1
        return sample if self._stream.decode is None else self._stream.decoded(sample)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the samples in batches of `size`, less those that were left out."""
        while wanted := list(itertools.islice(self._reading(), size)):
            self.consumed += len(wanted)
            samples = [self._stream.decoded(sample) for sample in wanted if sample is not None]
            yield Batch(len(wanted), samples)

    def close(self) -> None:
        """Stop reading ahead."""
        if self._read is not None:
            cast(Any, self._read).close()

    def _reading(self) -> Iterator[Sample | None]:
        if self._read is None:
            stream = self._stream
            spans = positions(len(self._order), self._begin, self._share, stream.tail)
            reader = PartReader(
                stream.samples,
                stream.on_damage,
                lambda key, error: stream.skipped.append(key),
                AHEAD_MAX if stream.snapshot.cache_bytes_max >= AHEAD_CACHE * stream.window else 1,
            )
            wanted = parts(self._order, drop_first(spans, self.consumed))
            self._read = reader.read(wanted, unfetched=self.place > 0)
        return self._read


def _sample_set(kind: SampleKind, snapshot: Snapshot, path: str) -> SampleSet:
    if kind == "files":
        return FileSamples(snapshot, path)
    if kind == "stems":
        return StemSamples(snapshot, path)
    if kind == "tar":
        from dvtool.stream.tars import TarSamples

        return TarSamples(snapshot, path)
    from dvtool.stream.tables import RowSamples

    return RowSamples(snapshot, path)


def _refuse_options(
    seed: int, window: int, nodes: int, tail: str, kind: str, on_damage: str
) -> None:
    if not isinstance(seed, int) or seed.bit_length() > NUMBER_BITS_MAX:
        raise UsageError(
            f"a seed is a whole number of at most {NUMBER_BITS_MAX} bits, not {seed!r}"
        )
    if not isinstance(window, int) or window < 1:
        raise UsageError(f"a window is a whole number of at least 1 byte, not {window!r}")
    if not isinstance(nodes, int) or nodes < 1:
        raise UsageError(f"the data is divided among at least 1 node, not {nodes!r}")
    choices = {
        "tail": (tail, ("keep", "drop", "pad")),
        "samples": (kind, ("files", "stems", "rows", "tar")),
        "on_damage": (on_damage, ("raise", "skip")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UsageError(f"{name} is one of {', '.join(allowed)}, not {value!r}")


def _refuse_idle_nodes(blocks: int, nodes: int) -> None:
    """Refuse a node that would have nothing: its ranks would end while the others wait."""
    if 0 < blocks < nodes:
        raise UsageError(
            f"the data does not divide among {nodes} nodes; blocks that it has: {blocks}",
            hint="leave nodes= out: then all machines read all of it; or make blocks smaller than "
            f"{BLOCK_BYTES >> 20} MiB by a smaller window=",
        )
