"""Streams for PyTorch: a loader that can be taken up anywhere, and datasets for other loaders."""

from __future__ import annotations

import contextlib
import functools
import gc
import multiprocessing.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.utils.data as torch_data

from dvtool.errors import SetupError, UsageError
from dvtool.stream.samples import Sample
from dvtool.stream.stream import Stream

Collate = Callable[[list[Any]], Any]


class IterableStream(torch_data.IterableDataset[Any]):
    """The samples of one epoch of a stream, for any loader, as dictionaries with `key` and `data`.

    `batch_size` is the loader's: its workers then give the stream's order back. `set_epoch` is
    called before each epoch, and reaches workers that persist. A `torchdata` StatefulDataLoader
    saves and restores its place, with the number of workers and ranks that it was saved with;
    `StreamLoader` asks for neither.
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
        self._chosen = _SharedNumbers(1)
        """The epoch that `set_epoch` chose, in memory that workers share."""
        self._taken_up: tuple[int, int] | None = None
        """The epoch that was loaded, and how many samples this worker took of it."""
        self._reading: Any = None

    def set_epoch(self, number: int) -> None:
        """Choose the epoch that is read next."""
        self._chosen.write(number)

    def __iter__(self) -> Iterator[Any]:
        # Not a generator: a loader that finds its state at an epoch's end begins a second time.
        worker = worker_of_loader()
        epoch, skip = self._taken_up or (self._chosen.read()[0], 0)
        self._taken_up = None
        self._reading = self.stream.epoch(
            epoch,
            self.rank,
            self.world_size,
            worker=worker.id if worker else 0,
            workers=worker.num_workers if worker else 1,
            batch_size=self.batch_size,
            skip=skip,
        )
        return _as_dictionaries(self._reading)

    def state_dict(self) -> dict[str, Any]:
        """Return how far this worker is."""
        reading = self._reading
        if reading is None:
            epoch, taken = self._taken_up or (self._chosen.read()[0], 0)
            return {"stream": self.stream.state_at(epoch, 0), "taken": taken}
        state = self.stream.state_at(reading.number, reading.begin)
        return {"stream": state, "taken": reading.consumed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where this worker was."""
        self.stream.load_state_dict(state["stream"])
        self._taken_up, self._reading = (state["stream"]["epoch"], state["taken"]), None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reading": None}


def _as_dictionaries(samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    for sample in samples:
        yield {"key": sample.key, "data": sample.data}


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
        if torch_data.get_worker_info() is not None:
            end_with_trainer()
        return [{"key": s.key, "data": s.data} for s in self.stream.read(numbers)]


_OF_THE_STREAM = frozenset({"sampler", "batch_sampler", "shuffle", "collate_fn"})


class StreamLoader:
    """Batches of a stream, made by workers, in an order that no number of workers or ranks changes.

    `state_dict` counts the batches that were taken from it, not those that workers have ready;
    `load_state_dict` takes it up with any number of workers and ranks. Iterate it once an epoch,
    after `set_epoch`. `collate` makes a batch of a list of samples; without one a batch is a
    dictionary: `key`, a list, and `data`, as PyTorch's `default_collate` joins it. `drop_last`
    leaves out a last batch that is smaller. `options` are those of DataLoader. Keys of samples that
    workers left out are put into the stream's `skipped` here, too.
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
        drop_last: bool = False,
        **options: Any,
    ) -> None:
        if refused := sorted(_OF_THE_STREAM & options.keys()):
            raise UsageError(
                f"{', '.join(refused)} cannot be given: the stream decides on the order",
                hint="Stream(shuffle=…) shuffles; collate= makes a batch of samples",
            )
        _refuse_batch_size(batch_size)
        self.stream = stream
        self.batch_size = batch_size
        self.rank, self.world_size = distributed_place(rank, world_size)
        self.collate = collate or default_collate
        self.drop_last = drop_last
        self._epoch, self._place = 0, 0
        self._batches = _Batches(self)
        self._loader = torch_data.DataLoader(
            self._batches, batch_size=None, num_workers=num_workers, **options
        )

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
        samples = len(self._begin())
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        reading = self._begin()
        self._batches.begin(self._epoch, self._place)
        for count, batch, skipped in self._loader:
            # Ranks take equally many samples, so the place of all of them is known here.
            self._place += count * self.world_size
            self.stream.skipped += skipped
            if batch is not None and not (self.drop_last and count < self.batch_size):
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
    """Whole batches of one worker, each with the number of samples that were read for it.

    The third of each is the keys of samples that a worker has left out since the batch before.
    """

    def __init__(self, loader: StreamLoader) -> None:
        self._stream, self._collate = loader.stream, loader.collate
        self._rank, self._world_size = loader.rank, loader.world_size
        self._batch_size = loader.batch_size
        self._from = _SharedNumbers(2)
        """Epoch and place, in memory that is shared with workers, as these may persist."""

    def begin(self, epoch: int, place: int) -> None:
        """Choose what is read next."""
        self._from.write(epoch, place)

    def __iter__(self) -> Iterator[tuple[int, Any, list[str]]]:
        worker = worker_of_loader()
        epoch, place = self._from.read()
        reading = self._stream.epoch(
            epoch,
            self._rank,
            self._world_size,
            place=place,
            worker=worker.id if worker else 0,
            workers=worker.num_workers if worker else 1,
            batch_size=self._batch_size,
        )
        known = len(self._stream.skipped)
        for count, samples in reading.batches(self._batch_size):
            skipped = self._stream.skipped[known:] if worker else []
            known += len(skipped)
            yield count, self._collate(samples) if samples else None, skipped


def default_collate(samples: list[Sample]) -> dict[str, Any]:
    """Make a batch: the keys as a list, the data as PyTorch joins it (bytes stay a list)."""
    return {
        "key": [sample.key for sample in samples],
        "data": torch_data.default_collate([sample.data for sample in samples]),
    }


class _SharedNumbers:
    """Numbers, 0 at first, in memory that workers share, by fork and spawn; a copy has its own.

    Without shared memory a loader that has no workers still reads them, and a worker refuses to.
    """

    def __init__(self, count: int) -> None:
        self._numbers: Any = torch.zeros(count, dtype=torch.int64)
        self._share()

    def write(self, *numbers: int) -> None:
        """Tell the numbers to all who share them."""
        for index, number in enumerate(numbers):
            self._numbers[index] = number

    def read(self) -> list[int]:
        """Return the numbers as they were written last; SetupError in a worker without them."""
        if torch_data.get_worker_info() is not None and not self._numbers.is_shared():
            raise SetupError(
                "workers cannot be told the epoch: there was no shared memory for it",
                hint="make /dev/shm writable, raise `ulimit -n`, or load with num_workers=0",
            )
        numbers: list[int] = self._numbers.tolist()
        return numbers

    def __setstate__(self, state: dict[str, Any]) -> None:
        # PyTorch copies and pickles into memory that is not shared; what a spawned worker gets is.
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            self._numbers.share_memory_()


def worker_of_loader() -> Any:
    """Return what PyTorch says of the loader's worker that this process is; None if it is none."""
    worker = torch_data.get_worker_info()
    if worker is not None:
        end_with_trainer()
        # Else the collector writes to all that was inherited, and so copies it: 60 MB with torch.
        gc.freeze()
    return worker


@functools.cache
def end_with_trainer() -> None:
    """Let this worker end when its trainer was killed.

    PyTorch ends the worker's loop then, but the worker would wait for ever to hand over the batches
    that it has ready, if they are more than a pipe holds.
    """
    multiprocessing.util.Finalize(None, _exit_if_alone, (os.getppid(),), exitpriority=0)


def _exit_if_alone(parent: int) -> None:
    trainer = multiprocessing.parent_process()
    # A worker that was forked later keeps the trainer's sentinel open, so the parent counts too.
    if os.getppid() != parent or (trainer is not None and not trainer.is_alive()):
        os._exit(1)


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
