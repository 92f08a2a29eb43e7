"""Streams for PyTorch: a loader that can be taken up anywhere, and datasets for other loaders."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch.utils.data as torch_data

from dvtool.errors import UsageError
from dvtool.stream.samples import Sample
from dvtool.stream.stream import Stream

Collate = Callable[[list[Any]], Any]


class IterableStream(torch_data.IterableDataset[Any]):
    """The samples of one epoch of a stream, for any loader, as dictionaries with `key` and `data`.

    `batch_size` is the loader's: its workers then give the stream's order back. `set_epoch` is
    called before each epoch. A `torchdata` StatefulDataLoader saves and restores its place,
    with the number of workers and ranks that it was saved with; `StreamLoader` asks for neither.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int = 1,
        *,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        _refuse_batch_size(batch_size)
        self.stream = stream
        self.batch_size = batch_size
        self.rank, self.world_size = distributed_place(rank, world_size)
        self._epoch = 0
        self._skip = 0
        self._reading: Any = None

    def set_epoch(self, number: int) -> None:
        """Choose the epoch that is read next."""
        self._epoch = number

    def __iter__(self) -> Iterator[Any]:
        worker = worker_of_loader()
        self._reading = self.stream.epoch(
            self._epoch,
            self.rank,
            self.world_size,
            worker=worker.id if worker else 0,
            workers=worker.num_workers if worker else 1,
            batch_size=self.batch_size,
            skip=self._skip,
        )
        self._skip = 0
        for sample in self._reading:
            yield {"key": sample.key, "data": sample.data}

    def state_dict(self) -> dict[str, Any]:
        """Return how far this worker is."""
        begin = self._reading.begin if self._reading is not None else 0
        taken = self._reading.consumed if self._reading is not None else self._skip
        return {"stream": self.stream.state_at(self._epoch, begin), "taken": taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where this worker was."""
        self.stream.load_state_dict(state["stream"])
        self._epoch = state["stream"]["epoch"]
        self._skip = state["taken"]


class MapStream(torch_data.Dataset[Any]):
    """The samples of a stream by number, in the order of their paths, for a loader's sampler."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, number: int) -> Any:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        """Read several samples at once."""
        return [{"key": s.key, "data": s.data} for s in self.stream.read(numbers)]


_OF_THE_STREAM = frozenset(
    {"sampler", "batch_sampler", "shuffle", "drop_last", "persistent_workers", "collate_fn"}
)


class StreamLoader:
    """Batches of a stream, made by workers, in an order that no number of workers or ranks changes.

    `state_dict` counts the batches that were taken from it, not those that workers have ready;
    `load_state_dict` takes it up with any number of workers and ranks. Iterate it once an epoch,
    after `set_epoch`. `collate` makes a batch of a list of samples; without one a batch is a
    dictionary: `key`, a list, and `data`, as PyTorch's `default_collate` joins it. `options` are
    those of DataLoader.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        num_workers: int = 0,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        collate: Collate | None = None,
        **options: Any,
    ) -> None:
        if refused := sorted(_OF_THE_STREAM & options.keys()):
            raise UsageError(
                f"{', '.join(refused)} cannot be given: the stream decides on order and length"
            )
        _refuse_batch_size(batch_size)
        self.stream = stream
        self.batch_size = batch_size
        self.rank, self.world_size = distributed_place(rank, world_size)
        self.collate = collate or default_collate
        self._workers, self._options = num_workers, options
        self._epoch, self._place = 0, 0

    def set_epoch(self, number: int) -> None:
        """Choose the epoch that is read next; one that was taken up goes on at its place."""
        if number != self._epoch:
            self._epoch, self._place = number, 0

    @property
    def epoch(self) -> int:
        """The epoch that is read next, or now."""
        return self._epoch

    def __len__(self) -> int:
        """Return how many batches the epoch has left."""
        return -(-len(self._begin()) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        reading = self._begin()
        batches = _Batches(self.stream, self._epoch, self._place, self)
        loader = torch_data.DataLoader(
            batches, batch_size=None, num_workers=self._workers, **self._options
        )
        for count, batch in loader:
            # Ranks take equally many samples, so the place of all of them is known here.
            self._place += count * self.world_size
            if batch is not None:
                yield batch
        if self._place - reading.begin >= len(reading):
            self._epoch, self._place = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where the trainer is: a small dictionary, the same for all ranks."""
        return self.stream.state_at(self._epoch, self._place)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the epoch where `state_dict` saw it."""
        self.stream.load_state_dict(state)
        self._epoch, self._place = state["epoch"], state["place"]

    def _begin(self) -> Any:
        return self.stream.epoch(self._epoch, self.rank, self.world_size, place=self._place)


class _Batches(torch_data.IterableDataset[Any]):
    """Whole batches of one worker, each with the number of samples that were read for it."""

    def __init__(self, stream: Stream, epoch: int, place: int, loader: StreamLoader) -> None:
        self._stream, self._epoch, self._place = stream, epoch, place
        self._collate = loader.collate
        self._rank, self._world_size = loader.rank, loader.world_size
        self._batch_size = loader.batch_size

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        worker = worker_of_loader()
        reading = self._stream.epoch(
            self._epoch,
            self._rank,
            self._world_size,
            place=self._place,
            worker=worker.id if worker else 0,
            workers=worker.num_workers if worker else 1,
            batch_size=self._batch_size,
        )
        for count, samples in reading.batches(self._batch_size):
            yield count, self._collate(samples) if samples else None


def default_collate(samples: list[Sample]) -> dict[str, Any]:
    """Make a batch: the keys as a list, the data as PyTorch joins it (bytes stay a list)."""
    return {
        "key": [sample.key for sample in samples],
        "data": torch_data.default_collate([sample.data for sample in samples]),
    }


def worker_of_loader() -> Any:
    """Return what PyTorch says of the loader's worker that this process is; None if it is none."""
    worker = torch_data.get_worker_info()
    if worker is not None:
        # Else the collector writes to all that was inherited, and so copies it: 60 MB with torch.
        gc.freeze()
    return worker


def distributed_place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size: as given, else RANK and WORLD_SIZE of torchrun, else 0 of 1."""
    return (
        _number_of("RANK", 0) if rank is None else rank,
        _number_of("WORLD_SIZE", 1) if world_size is None else world_size,
    )


def _number_of(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} is to be a number, not {text!r}") from None


def _refuse_batch_size(size: int) -> None:
    if size < 1:
        raise UsageError(f"a batch has at least 1 sample, not {size}")
