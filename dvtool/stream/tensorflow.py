"""Streams for TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow

from dvtool.errors import UsageError
from dvtool.stream.samples import Sample
from dvtool.stream.stream import Stream


def tensorflow_dataset(
    stream: Stream,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    *,
    convert: Callable[[Sample], Any] | None = None,
    output_signature: Any = None,
) -> Any:
    """Return a `tf.data.Dataset` of an epoch's samples.

    `convert` makes the dataset's elements, which `output_signature` describes. Without both, an
    element is the pair of a sample's key and its bytes. If the stream's `load_state_dict` named the
    epoch, the dataset begins at its place. `UsageError` where elements have no signature.
    """
    if output_signature is None:
        if convert is not None or stream.kind != "files":
            raise UsageError(
                "output_signature is to say what the dataset's elements are",
                hint="convert=lambda sample: len(sample.data), "
                "output_signature=tf.TensorSpec((), tf.int64)",
            )
        text = tensorflow.TensorSpec(shape=(), dtype=tensorflow.string)
        output_signature = (text, text)
    made = convert or (lambda sample: (sample.key, sample.data))
    # The place is taken now: a dataset is the same whenever it is read.
    place = stream.epoch(epoch, rank, world_size).begin

    def elements() -> Any:
        return map(made, stream.epoch(epoch, rank, world_size, place=place))

    return tensorflow.data.Dataset.from_generator(elements, output_signature=output_signature)
