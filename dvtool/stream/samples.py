"""Samples that are files, or files that share a stem. Other kinds are in the modules beside."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import blake3
import msgspec

from dvtool.errors import InputError, printable
from dvtool.snapshots.contents import Contents
from dvtool.snapshots.direct import FetchedTogether
from dvtool.snapshots.snapshot import Snapshot
from dvtool.stream.order import Sizes, Window, running_sizes


class Sample(msgspec.Struct, frozen=True):
    """One sample of a stream."""

    key: str
    """Its path from the top of the repository; of a row or line, path and number: ``a.csv#17``."""
    data: Any
    """Its bytes, or a dictionary of its fields."""


ReadSamples: TypeAlias = Callable[[Sequence[int]], list[Sample]]
"""Reads samples, given by their numbers."""


class SampleSet(Protocol):
    """All samples below a path of a snapshot, numbered in the order of their paths."""

    @property
    def sizes(self) -> Sizes:
        """How large the samples are."""

    @property
    def data_key(self) -> bytes:
        """The identity of keys and content of the samples: equal for equal data, anywhere."""

    def key(self, number: int) -> str:
        """Return the key of a sample."""

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read samples, given by ascending numbers; `DvError` if one of them cannot be read."""

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> ReadSamples | None:
        """Return what reads any of these samples fast, in any order, errors as those of `read`.

        None if that is `read`, of as many as there is memory for. A window that they are of is got
        into the cache before, if some of them are on a remote only and files are read whole.
        """


class FileSamples:
    """Each file below a path is a sample, and its bytes are the data."""

    kind = "files"

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot = snapshot
        self._files = list_files(snapshot, path)
        self.sizes = running_sizes(self._files.sizes)
        self.data_key = data_key(self.kind, self._files)

    def key(self, number: int) -> str:
        """Return the path of the file."""
        return self._files.path(number)

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read files, in one call of the snapshot."""
        files = [self._files[number] for number in numbers]
        contents = self._snapshot.read_contents(files)
        return [Sample(file.path, data) for file, data in zip(files, contents, strict=True)]

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> ReadSamples | None:
        """Return what reads any of these files, if packs have most of them uncompressed."""
        together = of_window(self.data_key, window, range)
        contents = self._snapshot.direct(self._files, numbers, together)
        if contents is None:
            return None
        read, path = contents.read, self._files.path
        return lambda wanted: list(map(Sample, map(path, wanted), read(wanted)))


class StemSamples:
    """Files of one folder whose names are equal up to the first dot are one sample.

    ``0001.jpg``, ``0001.json`` and ``0001.seg.png`` give the key ``0001`` and the fields ``jpg``,
    ``json`` and ``seg.png``, each with the bytes of its file, as in WebDataset.
    """

    kind = "stems"

    def __init__(self, snapshot: Snapshot, path: str) -> None:
        self._snapshot = snapshot
        files = self._files = list_files(snapshot, path)
        stems: dict[str, list[int]] = {}
        for number, file in enumerate(files.paths):
            stems.setdefault(split_stem(file)[0], []).append(number)
        self._stems = sorted(stems)
        self._members = [stems[stem] for stem in self._stems]
        sizes = files.sizes
        self.sizes = running_sizes([sum(sizes[n] for n in m) for m in self._members])
        self.data_key = data_key(self.kind, files)

    def key(self, number: int) -> str:
        """Return the path of the files up to the first dot of their names."""
        return self._stems[number]

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """Read all files of samples, in one call of the snapshot."""
        files = [self._files[file] for file in self._files_of(numbers)]
        return self._joined(numbers, self._snapshot.read_contents(files))

    def direct(self, numbers: Sequence[int], window: Window | None = None) -> ReadSamples | None:
        """Return what reads any of these samples, if packs have most of them uncompressed."""
        together = of_window(self.data_key, window, self._files_between)
        contents = self._snapshot.direct(self._files, self._files_of(numbers), together)
        if contents is None:
            return None
        read = contents.read
        return lambda wanted: self._joined(wanted, read(self._files_of(wanted)))

    def _files_of(self, numbers: Sequence[int]) -> list[int]:
        return [file for number in numbers for file in self._members[number]]

    def _joined(self, numbers: Sequence[int], contents: Sequence[bytes]) -> list[Sample]:
        data = iter(contents)
        samples = []
        for number in numbers:
            paths = map(self._files.path, self._members[number])
            fields = {split_stem(path)[1]: next(data) for path in paths}
            samples.append(Sample(self._stems[number], fields))
        return samples

    def _files_between(self, first: int, end: int) -> Sequence[int]:
        return self._files_of(range(first, end))


def of_window(
    data_key: bytes, window: Window | None, files: Callable[[int, int], Sequence[int]]
) -> FetchedTogether | None:
    """Return the files that are fetched with a window; `files` gives the numbers of those."""
    if window is None:
        return None
    blocks = window.fetched
    places = b"".join(b"%d-%d " % (block.first, block.end) for block in blocks)
    return FetchedTogether(
        blake3.blake3(data_key + places).digest(),
        lambda: [number for block in blocks for number in files(block.first, block.end)],
        window.is_beginning,
    )


def data_key(kind: str, files: Contents) -> bytes:
    """Return a hash of the kind of samples, and of paths and contents of the files."""
    state = blake3.blake3(kind.encode() + b"\0")
    for paths, digests in files.runs():
        parts = [b"\0"] * (3 * len(digests))
        parts[0::3] = paths.encode("utf-8", "surrogateescape").split(b"\0")
        parts[2::3] = digests
        state.update(b"".join(parts))
    return state.digest()


def list_files(snapshot: Snapshot, path: str, suffixes: tuple[str, ...] = ()) -> Contents:
    """List the files below a path, those whose names end so if suffixes are given.

    `PathMissing` if the commit lacks the path, `InputError` if there is no such file in it.
    """
    files = snapshot.contents(path)
    if suffixes:
        files = files.ending_in(suffixes)
    if not files:
        wanted = f"file that ends in {', '.join(suffixes)}" if suffixes else "file"
        where = f"below {printable(path)}" if path else "in the data"
        raise InputError(
            f"there is no {wanted} {where} at commit {snapshot.commit[:10]}",
            hint=f"see what there is: dv ls --rev {snapshot.commit[:10]}",
        )
    return files


def split_stem(path: str) -> tuple[str, str]:
    """Split a path at the first dot of its name that is not the first letter."""
    folder, name = posixpath.split(path)
    dot = name.find(".", 1)
    stem, extension = (name, "") if dot < 0 else (name[:dot], name[dot + 1 :])
    return posixpath.join(folder, stem), extension
