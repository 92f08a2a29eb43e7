"""Batches of NumPy arrays, which JAX takes as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dvtool.errors import UsageError
from dvtool.stream.samples import Sample
from dvtool.stream.stream import Epoch
from dvtool.system.lazy import later

numpy = later("numpy")


def numpy_batches(
    epoch: Epoch,
    batch_size: int,
    *,
    drop_last: bool = False,
    convert: Callable[[Sample], Mapping[str, Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the samples of an epoch as dictionaries of arrays of shape (batch, …).

    `convert` makes a dictionary of arrays and numbers of one sample; without it the sample's data
    must be such a dictionary. All samples of a batch need the same shapes. `drop_last` leaves out a
    last batch that is smaller.
    """
    if batch_size < 1:
        raise UsageError(f"a batch has at least one sample, not {batch_size}")
    for count, samples in epoch.batches(batch_size):
        if not samples or (drop_last and count < batch_size):
            continue
        values = [sample.data if convert is None else convert(sample) for sample in samples]
        yield {name: numpy.stack([value[name] for value in values]) for name in values[0]}
