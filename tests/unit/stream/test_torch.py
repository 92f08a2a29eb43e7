"""Streams in PyTorch: loaders give the stream's order, and can be taken up anywhere."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dvtool import MissingError, SetupError, UsageError
from dvtool.stream import Stream
from tests.scenario import Clone
from tests.unit.stream.conftest import FILES
from tests.unit.stream.test_stream import SMALL, keys

torch_data = pytest.importorskip("torch.utils.data")
stateful = pytest.importorskip("torchdata.stateful_dataloader")
adapters = pytest.importorskip("dvtool.stream.torch")
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")


@pytest.fixture
def images(stored: Clone) -> Stream:
    return Stream("images", repo=stored.path, window=SMALL)


def pickled_and_loaded(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def batch_keys(batches: Any) -> list[list[str]]:
    return [list(batch["key"]) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_order_whatever_the_workers(images: Stream, workers: int) -> None:
    loader = adapters.StreamLoader(images, 7, workers)
    assert len(loader) == 9
    batches = list(loader)
    assert list(itertools.chain(*batch_keys(batches))) == keys(images.epoch(0))
    data = {s.key: s.data for s in images.epoch(0)}
    assert all(data[k] == d for b in batches for k, d in zip(b["key"], b["data"], strict=True))
    assert loader.epoch == 1


def test_a_loader_is_taken_up_with_other_workers_and_ranks(images: Stream) -> None:
    loader = adapters.StreamLoader(images, 4, 2)
    taken = batch_keys(itertools.islice(loader, 5))
    state = json.loads(json.dumps(loader.state_dict()))
    assert state["place"] == 20, "what workers have ready beside is not counted"
    ranks = []
    for rank in range(2):
        resumed = adapters.StreamLoader(images, 3, 0, rank=rank, world_size=2)
        resumed.load_state_dict(state)
        ranks.append(list(itertools.chain(*batch_keys(resumed))))
    rest = [key for step in itertools.zip_longest(*ranks) for key in step if key is not None]
    assert list(itertools.chain(*taken)) + rest == keys(images.epoch(0))


def test_epochs_follow_one_another_or_are_chosen(images: Stream) -> None:
    loader = adapters.StreamLoader(images, FILES)
    orders = [batch_keys(loader)[0] for _ in range(2)]
    assert orders == [keys(images.epoch(0)), keys(images.epoch(1))]
    loader.set_epoch(7)
    assert batch_keys(loader)[0] == keys(images.epoch(7))


def test_ranks_are_those_of_the_environment(
    images: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    (batch,) = batch_keys(adapters.StreamLoader(images, FILES))
    assert batch == keys(images.epoch(0, 1, 3))


def test_numbers_that_cannot_be_are_refused(
    images: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="at least 1 sample, not 0"):
        adapters.StreamLoader(images, batch_size=0)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="RANK is to be a number, not 'first'"):
        adapters.StreamLoader(images, batch_size=4)


def test_options_that_would_change_the_order_are_refused(images: Stream) -> None:
    with pytest.raises(UsageError, match="shuffle cannot be given"):
        adapters.StreamLoader(images, 4, shuffle=True)


def test_a_smaller_last_batch_is_left_out_if_told(images: Stream) -> None:
    loader = adapters.StreamLoader(images, 7, drop_last=True)
    assert len(loader) == FILES // 7
    assert list(itertools.chain(*batch_keys(loader))) == keys(images.epoch(0))[: FILES // 7 * 7]
    assert loader.epoch == 1, "the epoch is over all the same"


def test_workers_that_persist_read_each_epoch_once(images: Stream) -> None:
    """Also after an epoch that was broken off, and in a loader of PyTorch's own."""
    orders = [keys(images.epoch(number)) for number in range(3)]
    dataset = adapters.IterableStream(images, 7)
    loader = torch_data.DataLoader(
        dataset, batch_size=7, num_workers=2, persistent_workers=True, drop_last=True
    )
    for number, order in enumerate(orders):
        dataset.set_epoch(number)
        assert list(itertools.chain(*batch_keys(loader))) == order[: FILES // 7 * 7]
    own = adapters.StreamLoader(images, 7, 1, persistent_workers=True)
    begun = batch_keys(itertools.islice(own, 2))
    assert list(itertools.chain(*begun, *batch_keys(own))) == orders[0]
    assert list(itertools.chain(*batch_keys(own))) == orders[1]


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled_and_loaded])
def test_workers_of_a_copy_are_told_the_epoch(images: Stream, copied: Callable[[Any], Any]) -> None:
    dataset = adapters.IterableStream(images, FILES)
    dataset.set_epoch(1)
    copy_of_it = copied(dataset)
    loader = torch_data.DataLoader(
        copy_of_it, batch_size=FILES, num_workers=1, persistent_workers=True
    )
    assert batch_keys(loader) == [keys(images.epoch(1))], "the epoch is copied"
    dataset.set_epoch(2)
    copy_of_it.set_epoch(3)
    assert batch_keys(loader) == [keys(images.epoch(3))]


def test_without_shared_memory_there_are_no_workers(images: Stream) -> None:
    """A loader without workers reads all the same; workers do not read another epoch silently."""
    order = keys(images.epoch(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        own = adapters.StreamLoader(images, FILES)
        dataset = adapters.IterableStream(images, FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    own.set_epoch(1)
    dataset.set_epoch(1)
    assert batch_keys(own) == [order]
    assert batch_keys(torch_data.DataLoader(dataset, batch_size=FILES)) == [order]
    with pytest.raises(SetupError, match="workers cannot be told the epoch"):
        next(iter(torch_data.DataLoader(dataset, num_workers=1, multiprocessing_context="fork")))


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_were_left_out_are_counted_in_the_trainer(
    stored: Clone, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    stream = Stream("images", repo=stored.path, window=SMALL, on_damage="skip")
    order = keys(stream.epoch(0))
    read = type(stream.samples).read

    def fails(self: Any, numbers: list[int]) -> list[Any]:
        if order[20] in [self.key(number) for number in numbers]:
            raise MissingError("gone")
        return read(self, numbers)

    monkeypatch.setattr(type(stream.samples), "read", fails)
    monkeypatch.setattr(type(stream.samples), "direct", lambda *_: None)
    loader = adapters.StreamLoader(
        stream, 7, workers, multiprocessing_context="fork" if workers else None
    )
    assert list(itertools.chain(*batch_keys(loader))) == order[:20] + order[21:]
    assert stream.skipped == [order[20]]
    assert loader.epoch == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_state_from_the_end_of_an_epoch_begins_the_next(images: Stream, workers: int) -> None:
    def made() -> tuple[Any, Any]:
        dataset = adapters.IterableStream(images, 5)
        return dataset, stateful.StatefulDataLoader(dataset, batch_size=5, num_workers=workers)

    _, first = made()
    assert sum(1 for _ in first) == FILES // 5
    dataset, resumed = made()
    resumed.load_state_dict(first.state_dict())
    dataset.set_epoch(1)
    assert list(itertools.chain(*batch_keys(resumed))) == keys(images.epoch(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_goes_on_where_it_was(images: Stream, workers: int) -> None:
    def made() -> Any:
        return stateful.StatefulDataLoader(
            adapters.IterableStream(images, 5), batch_size=5, num_workers=workers
        )

    first = made()
    taken = batch_keys(itertools.islice(first, 3))
    state = first.state_dict()
    resumed = made()
    resumed.load_state_dict(state)
    assert list(itertools.chain(*taken, *batch_keys(resumed))) == keys(images.epoch(0))


def test_a_plain_loader_reads_by_number(images: Stream) -> None:
    dataset = adapters.MapStream(images)
    batches = torch_data.DataLoader(dataset, batch_size=8, shuffle=True)
    seen = sorted(itertools.chain(*batch_keys(batches)))
    assert seen == images.snapshot.find("images")
    assert dataset[3]["key"] == seen[3]


KILLED = """
import os, sys
import torch.utils.data._utils.worker as worker
from dvtool.stream import Stream
from dvtool.stream.torch import MapStream, StreamLoader
from torch.utils.data import DataLoader

worker.MP_STATUS_CHECK_INTERVAL = 0.1  # how often workers look whether the trainer lives
stream = Stream("images", repo=sys.argv[1], decode=lambda data: bytes(1 << 20))
if sys.argv[2] == "map":
    loader = DataLoader(MapStream(stream), batch_size=4, num_workers=2)
else:
    loader = StreamLoader(stream, 4, 2)
batches = iter(loader)
next(batches), next(batches)  # one of each worker: PyTorch's watch begins with a worker's loop
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("loader", ["stream", "map"])
def test_workers_end_when_the_trainer_is_killed(stored: Clone, loader: str) -> None:
    """Though they have more ready than a pipe holds. They have the other end of the output."""
    command = [sys.executable, "-c", KILLED, str(stored.path), loader]
    done = subprocess.run(command, capture_output=True, timeout=90, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
