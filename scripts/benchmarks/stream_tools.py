"""Loaders of samples: dvtool's beside others', each over the data in the form that it wants.

`python -m benchmarks.stream_tools` takes a source as JSON, reads an epoch and prints what it took.
"""

from __future__ import annotations

import gc
import importlib
import io
import itertools
import json
import resource
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BATCH = 64
SHARD_BYTES = 64 << 20
BUFFER = 1_000
"""Samples in the shuffle buffers of WebDataset and Hugging Face."""
ENOUGH_S = 15
"""An epoch is left after so long, and so is going on; what was read by then counts."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one tool finds its data, and with how many workers it reads."""

    tool: str
    local: str
    """A folder, or dvtool's repository."""
    workers: int
    samples: int
    urls: tuple[str, ...] = ()
    """Of S3: what may be got without credentials, in the order of names."""
    bucket: str = ""
    """Of S3: the URL that the tool itself reads, with the credentials of the environment."""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What reading an epoch took, imports not counted."""

    samples: int
    size_bytes: int
    seconds: float
    first_s: float
    """Until the first batch was there."""
    resume_s: float | None
    """Until the batch after half of the epoch was there, in a loader made anew, if it was there in
    `ENOUGH_S`."""
    cpu_s: float
    """Of all processes of the loader, starting workers included, for the epoch."""
    whole: bool
    """Whether the epoch came to its end before it was left."""


Batches = Iterable[list[bytes]]


# --- loaders: `skip` batches come first, which a tool that has a state passes over unread --------


def torch_loader(dataset: Any, source: Source, **options: Any) -> Any:
    data = importlib.import_module("torch.utils.data")
    return data.DataLoader(
        dataset, batch_size=BATCH, num_workers=source.workers, collate_fn=list, **options
    )


class PlainFiles:
    """Files of a folder, or objects, by number."""

    def __init__(self, source: Source) -> None:
        self._urls = source.urls
        self._paths = sorted(str(path) for path in Path(source.local).rglob("*.bin"))
        self._session: Any = None

    def __len__(self) -> int:
        return len(self._urls or self._paths)

    def __getitem__(self, number: int) -> bytes:
        if not self._urls:
            with open(self._paths[number], "rb") as file:
                return file.read()
        if self._session is None:
            self._session = importlib.import_module("urllib3").PoolManager()
        answer = self._session.request("GET", self._urls[number])
        if answer.status != 200:
            raise OSError(f"the server answers {answer.status}")
        content: bytes = answer.data
        return content


def plain(source: Source, skip: int) -> Batches:
    return itertools.islice(torch_loader(PlainFiles(source), source, shuffle=True), skip, None)


def dvtool(source: Source, skip: int) -> Batches:
    from dvtool.stream import Stream
    from dvtool.stream.torch import StreamLoader

    stream = Stream("data", repo=source.local)
    loader = StreamLoader(
        stream, BATCH, source.workers, collate=lambda samples: [sample.data for sample in samples]
    )
    if skip:
        loader.load_state_dict(stream.state_at(0, skip * BATCH))
    return loader


def webdataset(source: Source, skip: int) -> Batches:
    wds = importlib.import_module("webdataset")
    urls = [f"pipe:curl -s '{url}'" for url in source.urls]
    shards = urls or sorted(map(str, Path(source.local).glob("*.tar")))
    dataset = wds.WebDataset(
        shards, shardshuffle=len(shards), empty_check=False, nodesplitter=wds.split_by_node
    )
    chosen = dataset.shuffle(BUFFER).map(lambda sample: sample["bin"])
    return itertools.islice(torch_loader(chosen, source), skip, None)


def huggingface(source: Source, skip: int) -> Batches:
    shards = sorted(map(str, Path(source.local).glob("*.parquet")))
    dataset = importlib.import_module("datasets").load_dataset(
        "parquet", data_files={"train": shards}, split="train", streaming=True
    )
    chosen = dataset.shuffle(seed=0, buffer_size=BUFFER).skip(skip * BATCH)
    for rows in torch_loader(chosen, source):
        yield [row["data"] for row in rows]


def as_bytes(batch: list[memoryview]) -> list[bytes]:
    """Make views whole: they cannot go from a worker to the trainer."""
    return [bytes(view) for view in batch]


def litdata(source: Source, skip: int) -> Batches:
    lit = importlib.import_module("litdata")
    if source.endpoint.startswith("http:"):
        # Its other client, obstore, is not told of endpoints without TLS, and refuses them.
        downloader: Any = importlib.import_module("litdata.streaming.downloader")
        downloader._OBSTORE_AVAILABLE = False
    options = {"endpoint_url": source.endpoint}
    dataset = (
        lit.StreamingDataset(source.bucket, shuffle=True, storage_options=options)
        if source.bucket
        else lit.StreamingDataset(source.local, shuffle=True)
    )
    loader = lit.StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=source.workers, collate_fn=as_bytes
    )
    return itertools.islice(loader, skip, None)


LOADERS: dict[str, Callable[[Source, int], Batches]] = {
    "dvtool": dvtool,
    "plain files": plain,
    "WebDataset": webdataset,
    "Hugging Face": huggingface,
    "litdata": litdata,
}


# --- second copies --------------------------------------------------------------------------------


def as_tars(files: list[Path], folder: Path) -> None:
    tar: Any = None
    for number, file in enumerate(files):
        if tar is None or tar.offset >= SHARD_BYTES:
            if tar is not None:
                tar.close()
            tar = tarfile.open(folder / f"{number:07}.tar", "w")
        content = file.read_bytes()
        member = tarfile.TarInfo(f"{file.stem}.bin")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    tar.close()


def as_parquet(files: list[Path], folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    per_shard = max(1, SHARD_BYTES // files[0].stat().st_size)
    for first in range(0, len(files), per_shard):
        table = pa.table({"data": [f.read_bytes() for f in files[first : first + per_shard]]})
        path = folder / f"{first:07}.parquet"
        pq.write_table(table, path, compression="none", row_group_size=100)


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


def as_chunks(files: list[Path], folder: Path) -> None:
    importlib.import_module("litdata").optimize(
        fn=content_of,
        inputs=list(map(str, files)),
        output_dir=str(folder),
        chunk_bytes=SHARD_BYTES,
        num_workers=1,
    )


CONVERTERS: dict[str, Callable[[list[Path], Path], None]] = {
    "WebDataset": as_tars,
    "Hugging Face": as_parquet,
    "litdata": as_chunks,
}


# --- one epoch ------------------------------------------------------------------------------------


class Enough(Exception):
    """An epoch takes too long to be read to its end."""


@contextmanager
def leaving(seconds: float) -> Iterator[None]:
    """Raise Enough in what is inside once it has taken so long."""

    def leave(*_: object) -> None:
        raise Enough

    signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def read_epoch(source: Source) -> Read:
    load = LOADERS[source.tool]
    for module in ("torch.utils.data", "dvtool.stream.torch"):
        importlib.import_module(module)
    began, cpu_began = time.perf_counter(), cpu_seconds()
    first_s = seconds = 0.0
    samples = size = 0
    whole = False
    with suppress(Enough), leaving(ENOUGH_S):
        for batch in load(source, 0):
            seconds = time.perf_counter() - began
            first_s = first_s or seconds
            samples += len(batch)
            size += sum(map(len, batch))
        seconds = time.perf_counter() - began
        whole = True
    if not samples:
        raise TimeoutError(f"TimeoutError: no batch in {ENOUGH_S} s")
    gc.collect()  # the loader, which then waits for its workers
    cpu_s = cpu_seconds() - cpu_began
    resume_s = None
    began = time.perf_counter()
    with suppress(Enough), leaving(ENOUGH_S):
        half: Iterator[list[bytes]] = iter(load(source, source.samples // BATCH // 2))
        next(half)
        resume_s = time.perf_counter() - began
    return Read(samples, size, seconds, first_s, resume_s, cpu_s, whole)


def cpu_seconds() -> float:
    """Return the processor's time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    values = json.load(sys.stdin)
    read = read_epoch(Source(**{**values, "urls": tuple(values["urls"])}))
    print("\n" + json.dumps(asdict(read)))
