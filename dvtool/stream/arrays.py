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
    must be such a dictionary. All samples of a batch need the same names and shapes, else it is a
    `UsageError`. `drop_last` leaves out a last batch that is smaller.
    """
    if batch_size < 1:
        raise UsageError(f"a batch has at least one sample, not {batch_size}")
    for count, samples in epoch.batches(batch_size):
        if not samples or (drop_last and count < batch_size):
            continue
        yield _stacked([sample.data if convert is None else convert(sample) for sample in samples])


def _stacked(values: list[Any]) -> dict[str, Any]:
    for value in values:
        if not isinstance(value, Mapping) or value.keys() != values[0].keys():
            raise UsageError(
                "samples of a batch are to be dictionaries of the same names, not "
                + ", ".join(sorted({_shape_of(value) for value in values})),
                hint="convert=lambda sample: {'size': len(sample.data)} makes one of each sample",
            )
    try:
        return {name: numpy.stack([value[name] for value in values]) for name in values[0]}
    except ValueError as error:
        raise UsageError(
            f"samples of a batch cannot be joined to one array: {error}",
            hint="convert= can give all of them one shape",
        ) from error


def _shape_of(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
