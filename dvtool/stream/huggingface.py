"""Streams for Hugging Face `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets

from dvtool.stream.stream import Stream


def iterable_dataset(
    stream: Stream, epoch: int, rank: int = 0, world_size: int = 1, *, features: Any = None
) -> Any:
    """Return a `datasets.IterableDataset` of an epoch's samples: `key`, and `data` or its fields.

    Fields of a sample are columns beside `key`; one that is called `key` itself takes its place.
    The order is the stream's, so the dataset need not be shuffled. If the stream's
    `load_state_dict` named the epoch, the dataset begins at its place. Where the dataset is read in
    this process, the stream's `state_dict` has the place; else the dataset's own has it.
    """
    kwargs = {"stream": stream, "epoch": epoch, "rank": rank, "world_size": world_size}
    # The place is taken now: a dataset is the same whenever it is read.
    kwargs["place"] = stream.epoch(epoch, rank, world_size).begin
    return datasets.IterableDataset.from_generator(_hub_rows, features=features, gen_kwargs=kwargs)


def _hub_rows(
    stream: Stream, epoch: int, rank: int, world_size: int, place: int
) -> Iterator[dict[str, Any]]:
    for sample in stream.epoch(epoch, rank, world_size, place=place):
        if isinstance(sample.data, dict):
            yield {"key": sample.key, **sample.data}
        else:
            yield {"key": sample.key, "data": sample.data}
