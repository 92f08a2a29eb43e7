"""Streams for NumPy, Hugging Face and TensorFlow give the samples of the stream in its order."""

from __future__ import annotations

import itertools

import pytest

from dvtool import UsageError
from dvtool.stream import Stream
from dvtool.stream.arrays import numpy_batches
from dvtool.stream.samples import Sample
from tests.scenario import Clone
from tests.unit.stream.conftest import FILES
from tests.unit.stream.test_stream import SMALL


@pytest.fixture
def images(stored: Clone) -> Stream:
    return Stream("images", repo=stored.path, window=SMALL)


def pairs(stream: Stream, rank: int = 0, world_size: int = 1) -> list[tuple[str, bytes]]:
    return [(sample.key, sample.data) for sample in stream.epoch(1, rank, world_size)]


def test_numpy_batches_are_arrays(images: Stream) -> None:
    numpy = pytest.importorskip("numpy")

    def convert(sample: Sample) -> dict[str, object]:
        return {"first": numpy.frombuffer(sample.data[:1], "uint8"), "size": len(sample.data)}

    batches = list(numpy_batches(images.epoch(1), 7, convert=convert))
    assert [len(batch["size"]) for batch in batches] == [7] * (FILES // 7) + [FILES % 7]
    sizes = list(itertools.chain.from_iterable(batch["size"].tolist() for batch in batches))
    assert sizes == [len(data) for _, data in pairs(images)]
    assert batches[0]["first"].shape == (7, 1)
    whole = numpy_batches(images.epoch(1), 7, drop_last=True, convert=convert)
    assert len(list(whole)) == FILES // 7
    with pytest.raises(UsageError, match="at least one sample"):
        next(numpy_batches(images.epoch(1), 0))
    with pytest.raises(UsageError, match="dictionaries of the same names, not bytes"):
        next(numpy_batches(images.epoch(1), 4))
    contents = numpy_batches(
        images.epoch(1), 4, convert=lambda sample: {"x": numpy.frombuffer(sample.data, "uint8")}
    )
    with pytest.raises(UsageError, match="cannot be joined to one array"):
        next(contents)


@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_hugging_face_datasets_have_the_order(images: Stream) -> None:
    pytest.importorskip("datasets")
    from dvtool.stream.huggingface import iterable_dataset

    rows = iterable_dataset(images, 1, rank=1, world_size=2)
    assert [(row["key"], row["data"]) for row in rows] == pairs(images, 1, 2)


@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_hugging_face_datasets_are_taken_up(images: Stream) -> None:
    pytest.importorskip("datasets")
    from dvtool.stream.huggingface import iterable_dataset

    expected = pairs(images)
    images.load_state_dict(images.state_at(1, 20))
    dataset = iterable_dataset(images, 1)
    for _ in range(2):  # a dataset can be read again
        assert [(row["key"], row["data"]) for row in dataset] == expected[20:]
    first = [row["key"] for row in itertools.islice(dataset, 5)]
    assert first == [key for key, _ in expected[20:25]]
    assert images.state_dict()["place"] == 25
    with pytest.raises(UsageError, match="rank 2 of 2 is none"):
        iterable_dataset(images, 1, rank=2, world_size=2)


@pytest.mark.filterwarnings("ignore")  # of the packages that it imports
def test_tensorflow_datasets_have_the_order(images: Stream) -> None:
    """Where TensorFlow is installed: `pip install tensorflow-cpu`."""
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow-cpu is not installed")
    from dvtool.stream.tensorflow import tensorflow_dataset

    made = tensorflow_dataset(images, 1, rank=1, world_size=2)
    expected = pairs(images, 1, 2)
    for _ in range(2):  # a dataset can be read again
        read = [(key.numpy().decode(), data.numpy()) for key, data in made]
        assert read == expected
    images.load_state_dict(images.state_at(1, 20))
    taken_up = tensorflow_dataset(images, 1)
    assert [(key.numpy().decode(), data.numpy()) for key, data in taken_up] == pairs(images)[20:]
    with pytest.raises(UsageError, match="output_signature is to say"):
        tensorflow_dataset(images, 1, convert=lambda sample: len(sample.data))
    spec = {"size": tensorflow.TensorSpec(shape=(), dtype=tensorflow.int64)}
    sizes = tensorflow_dataset(
        images, 1, convert=lambda sample: {"size": len(sample.data)}, output_signature=spec
    )
    batch = next(iter(sizes.batch(5)))["size"].numpy().tolist()
    assert batch == [len(data) for _, data in pairs(images)][:5]
