"""Arrays for a report, by name, shape, dtype and statistics: npy, safetensors and HDF5."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from dvtool.system.extras import import_extra

ARRAY_SUFFIXES = (".npy", ".safetensors", ".h5", ".hdf5")
ARRAYS_MAX = 200
"""Of so many arrays of a file the statistics are read."""
SAMPLE_BYTES_MAX = 1 << 20
"""Statistics are of so many bytes at most, in blocks spread evenly over an array."""
_BLOCKS = 16
_HEADER_BYTES_MAX = 16 << 20
_CHUNK_BYTES_MAX = 64 << 20
_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "BOOL": "?",
}


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """One array of a file. `statistics` are None where they cannot be had."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    statistics: ArrayStatistics | None


@dataclass(frozen=True, slots=True)
class ArrayStatistics:
    """Statistics of the finite values of an array, or of a sample of it."""

    low: float
    high: float
    mean: float
    deviation: float
    not_finite: int
    sampled: bool


def read_arrays(path: str, file: IO[bytes], size: int) -> list[ArrayFacts]:
    """Return the arrays of a file, sorted by name; ValueError, with the reason, if it has none.

    Nothing in the file is run: no pickle, no link to another file.
    """
    suffix = os.path.splitext(path)[1].lower()
    read = {".npy": _npy, ".safetensors": _safetensors}.get(suffix, _hdf5)
    try:
        return sorted(read(file, size), key=lambda array: array.name)
    except (OSError, EOFError, SyntaxError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error


def _library(name: str) -> Any:
    return import_extra(name, extra="report", user="arrays")


def _npy(file: IO[bytes], size: int) -> Iterator[ArrayFacts]:
    numpy = _library("numpy")
    form = numpy.lib.format
    version = form.read_magic(file)
    read_header = form.read_array_header_1_0 if version[0] == 1 else form.read_array_header_2_0
    shape, _, dtype = read_header(file)
    begin = file.tell()
    held = math.prod(shape) * dtype.itemsize
    if begin + held > size:
        raise ValueError("its header claims more than the file has")
    statistics = None if dtype.hasobject else _sampled(file, (begin, begin + held), dtype)
    yield ArrayFacts("", tuple(shape), str(dtype), statistics)


def _safetensors(file: IO[bytes], size: int) -> Iterator[ArrayFacts]:
    numpy = _library("numpy")
    length = int.from_bytes(file.read(8), "little")
    if length > min(_HEADER_BYTES_MAX, size):
        raise ValueError("its header is too large")
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for number, (name, facts) in enumerate(sorted(header.items())):
        shape, kind = tuple(facts["shape"]), str(facts["dtype"])
        begin, end = (8 + length + int(offset) for offset in facts["data_offsets"])
        if not 8 + length <= begin <= end <= size:
            raise ValueError("its header claims more than the file has")
        known = kind in _SAFETENSORS and number < ARRAYS_MAX
        dtype = numpy.dtype(_SAFETENSORS[kind]) if known else None
        statistics = _sampled(file, (begin, end), dtype) if dtype is not None else None
        yield ArrayFacts(str(name), shape, kind, statistics)


def _sampled(file: IO[bytes], span: tuple[int, int], dtype: Any) -> ArrayStatistics | None:
    """Return the statistics of the values in a span of a file."""
    numpy = _library("numpy")
    begin, end = span
    count = (end - begin) // dtype.itemsize if dtype.itemsize else 0
    wanted = max(1, SAMPLE_BYTES_MAX // max(dtype.itemsize, 1))
    if count <= wanted:
        spans = [(0, count)]
    else:
        each = max(1, wanted // _BLOCKS)
        spans = [((count - each) * n // (_BLOCKS - 1), each) for n in range(_BLOCKS)]
    parts = []
    for first, number in spans:
        file.seek(begin + first * dtype.itemsize)
        parts.append(numpy.frombuffer(file.read(number * dtype.itemsize), dtype))
    return _statistics(numpy.concatenate(parts), sampled=count > wanted)


def _statistics(values: Any, *, sampled: bool) -> ArrayStatistics | None:
    numpy = _library("numpy")
    if values.size == 0 or values.dtype.kind not in "biuf":
        return None
    numbers = values.astype(numpy.float64).ravel()
    finite = numbers[numpy.isfinite(numbers)]
    gone = int(numbers.size - finite.size)
    if not finite.size:
        return ArrayStatistics(math.nan, math.nan, math.nan, math.nan, gone, sampled)
    with numpy.errstate(all="ignore"):
        facts = (finite.min(), finite.max(), finite.mean(), finite.std())
    low, high, mean, deviation = map(float, facts)
    return ArrayStatistics(low, high, mean, deviation, gone, sampled)


def _hdf5(file: IO[bytes], size: int) -> Iterator[ArrayFacts]:
    h5py = _library("h5py")
    datasets: list[tuple[str, Any]] = []

    def note(name: str, node: Any) -> None:  # soft and external links are not visited
        if isinstance(node, h5py.Dataset):
            datasets.append((name, node))

    with h5py.File(file, "r") as opened:
        opened.visititems(note)
        for number, (name, dataset) in enumerate(datasets):
            own = number < ARRAYS_MAX and not dataset.external and not dataset.is_virtual
            statistics = _hdf5_statistics(dataset) if own else None
            yield ArrayFacts(name, tuple(dataset.shape or ()), str(dataset.dtype), statistics)


def _hdf5_statistics(dataset: Any) -> ArrayStatistics | None:
    """Return the statistics of a dataset's first rows; none where a chunk is too large."""
    if dataset.dtype.kind not in "biuf" or dataset.shape is None or not dataset.size:
        return None
    if math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize > _CHUNK_BYTES_MAX:
        return None
    if not dataset.shape:
        return _statistics(_library("numpy").asarray(dataset[()]), sampled=False)
    row_bytes = max(1, dataset.size // dataset.shape[0] * dataset.dtype.itemsize)
    rows = min(dataset.shape[0], SAMPLE_BYTES_MAX // row_bytes)
    if not rows:
        return None
    return _statistics(dataset[:rows], sampled=rows < dataset.shape[0])
