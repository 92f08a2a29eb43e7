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

    Fields of a sample are columns beside `key`. The order is the stream's, so the dataset need not
    be shuffled, and its own `state_dict` is not needed: `stream.state_dict` has the place.
    """
    return datasets.IterableDataset.from_generator(
        _hub_rows,
        features=features,
        gen_kwargs={"stream": stream, "epoch": epoch, "rank": rank, "world_size": world_size},
    )


def _hub_rows(stream: Stream, epoch: int, rank: int, world_size: int) -> Iterator[dict[str, Any]]:
    for sample in stream.epoch(epoch, rank, world_size, place=0):
        if isinstance(sample.data, dict):
            yield {"key": sample.key, **sample.data}
        else:
            yield {"key": sample.key, "data": sample.data}
