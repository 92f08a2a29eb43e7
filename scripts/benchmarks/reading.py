"""Reading a commit from Python without a checkout, beside plain files and plain requests.

Each line is the median of paired rounds, in which both sides are measured one after the other.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

import dvtool
from benchmarks.measure import Bench
from benchmarks.scale import MIB, Scale
from dvtool.format.manifest import Entry, build, encode, in_order
from dvtool.store.local import LocalStore

if TYPE_CHECKING:
    from tests.s3.proxy import CountingProxy

SMALL_BYTES = 8 << 10
LARGE_BYTES = 256 * MIB
SAMPLE = 1_000
COLUMNS = 8
ROWS = 2_000_000
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, both sides in seconds or counts, and how the two are called."""

    what: str
    ours: float
    other: float
    beside: str
    unit: str = "s"

    @property
    def text(self) -> str:
        """The line of a table in Markdown."""
        ratio = f"{self.ours / self.other:.2f}" if self.other else ""
        ours, other = (shown(value, self.unit) for value in (self.ours, self.other))
        return f"| {self.what} | {ours} | {self.beside}: {other} | {ratio} |"


def shown(value: float, unit: str) -> str:
    """Return a number with its unit."""
    if unit != "s":
        return f"{value:,.0f} {unit}"
    return f"{value * 1000:,.2f} ms" if value < 1 else f"{value:,.2f} s"


def paired(
    rounds: int,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Return the median of each side; the two take turns, and go once before.

    `before` is called before each, outside of its time.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for side, work in zip(taken, (ours, other), strict=True):
            before()
            began = time.perf_counter()
            work()
            if number:
                side.append(time.perf_counter() - began)
    return statistics.median(taken[0]), statistics.median(taken[1])


HEADING = "| | dvtool | beside | ratio |\n|---|---|---|---|"


def measure(bench: Bench, scale: Scale, rounds: int) -> Iterator[str]:
    """Yield the lines of a table; the data is made below the bench's folder and removed."""
    yield HEADING
    for row in rows(bench, scale, rounds):
        yield row.text


def rows(bench: Bench, scale: Scale, rounds: int) -> Iterator[Row]:
    """Measure all, row by row."""
    from tests.s3.proxy import CountingProxy
    from tests.s3.servers import rclone_server
    from tests.scenario import Clone, Remote

    top, server_folder = bench.work / "run", bench.work / "server"
    for folder in (top, server_folder):
        bench.put_away(folder)
        folder.mkdir(parents=True)
    os.environ.update(bench.env, XDG_CACHE_HOME=str(top / "cache"))
    with rclone_server(server_folder) as server, CountingProxy(server.endpoint_url) as proxy:
        os.environ.update(server.env)
        bucket = server.new_bucket()
        remote = Remote(f"s3://{bucket}/p", proxy.url)
        mine = Clone.new(top / "mine", remote)
        fill(mine.path, scale.s_files)
        mine.add("data", "large")
        mine.commit("data")
        yield from local_rows(mine.path, scale.s_files, rounds)
        yield from many_rows(top / "many", rounds)
        if importlib.util.find_spec("dvc") is not None:
            yield from dvc_rows(top / "dvc", mine.path, rounds)
        with mine.repo() as repo:
            repo.push()
        theirs = mine.clone(top / "theirs", remote)
        yield from remote_rows(theirs.path, proxy, rounds)
        yield column_row(top / "tables", bucket, proxy)
        # Not by the proxy, whose threads would share an interpreter with what is measured.
        direct = mine.clone(top / "direct", Remote(remote.url, server.endpoint_url))
        yield large_row(direct.path, bucket, server.endpoint_url, mine.path / "large", rounds)
    for folder in (top, server_folder):
        bench.put_away(folder)


def fill(repo: Path, files: int) -> None:
    """Write so many small files and a large one, by seed."""
    source = random.Random(1)
    for number in range(files):
        path = repo / "data" / f"{number // 1000:03}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(SMALL_BYTES))
    with (repo / "large").open("wb") as file:
        for _ in range(LARGE_BYTES // MIB):
            file.write(source.randbytes(MIB))


def drained(file: object) -> None:
    """Read a file to its end in blocks."""
    while file.read(BLOCK_BYTES):  # type: ignore[attr-defined]
        pass


def local_rows(repo: Path, files: int, rounds: int) -> Iterator[Row]:
    """Measure what is in the local store, beside plain files and git alone."""
    git = ["git", "-C", str(repo)]

    def by_git() -> None:
        for words in (
            ("rev-parse", "--git-dir"),
            ("config", "--list"),
            ("config", "--file", ".dvconfig", "--list"),
            ("rev-parse", "HEAD"),
            ("ls-tree", "HEAD"),
            ("cat-file", "-p", "HEAD:data.dv.json"),
        ):
            subprocess.run([*git, *words], check=True, capture_output=True, cwd=repo)

    def opened() -> None:
        with dvtool.snapshot(repo=repo) as data:
            data.info("data/000/000007.bin")

    yield Row(
        f"open a snapshot of {files:,} files", *paired(rounds, opened, by_git), "its git calls"
    )
    with dvtool.snapshot(repo=repo) as data:
        paths = random.Random(2).sample(data.find("data"), SAMPLE)
        ours, plain = paired(
            rounds,
            lambda: [data.read(path) for path in paths],
            lambda: [(repo / path).read_bytes() for path in paths],
        )
        yield Row("read one small local file", ours / SAMPLE, plain / SAMPLE, "plain file")

        def in_order_of_bytes() -> None:
            with data.open("large", buffering=0) as file:
                drained(file)

        def piped() -> None:
            with subprocess.Popen(["cat", "large"], cwd=repo, stdout=subprocess.PIPE) as process:
                drained(process.stdout)

        yield Row("read 256 MiB in order, local", *paired(rounds, in_order_of_bytes, piped), "cat")


def many_rows(repo: Path, rounds: int) -> Iterator[Row]:
    """Measure `find` of 300,000 files, whose content is not needed."""
    repo.mkdir()
    entries = {
        f"{n % 300:03}/{n:07}.jpg": Entry(blake3=f"{n:064x}", size=1 + n) for n in range(300_000)
    }
    built = build("dir", in_order(entries))
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    with LocalStore(str(repo / ".git" / "dv")) as store:
        store.put_shards(built.shards)
    (repo / "many.dv.json").write_bytes(encode(built.manifest))
    for words in (("add", "."), ("commit", "-qm", "many")):
        subprocess.run(["git", *words], cwd=repo, check=True)

    def found() -> None:
        with dvtool.snapshot(repo=repo) as data:
            assert len(data.find()) == 300_000

    def by_git() -> None:
        subprocess.run(["git", "ls-tree", "HEAD"], cwd=repo, check=True, capture_output=True)

    yield Row("find 300,000 files", *paired(rounds, found, by_git), "git ls-tree of one file")


def dvc_rows(repo: Path, ours: Path, rounds: int) -> Iterator[Row]:
    """Measure the same small files through DVCFileSystem, whose cache has links to them."""
    theirs: Any = importlib.import_module("dvc.api").DVCFileSystem
    shutil.copytree(ours / "data", repo / "data")
    for words in (
        ("git", "init", "-q"),
        ("dvc", "init", "-q"),
        ("dvc", "config", "core.analytics", "false"),
        ("dvc", "add", "-q", "data"),
        ("git", "add", "."),
        ("git", "commit", "-qm", "data"),
    ):
        subprocess.run(words, cwd=repo, check=True)
    files = theirs(str(repo), rev="HEAD")
    with dvtool.snapshot(repo=ours) as data:
        paths = random.Random(2).sample(data.find("data"), SAMPLE)
        mine, other = paired(
            rounds,
            lambda: [data.read(path) for path in paths],
            lambda: [files.read_bytes(path) for path in paths],
        )
        yield Row("read one small local file", mine / SAMPLE, other / SAMPLE, "DVCFileSystem")

    def opened() -> None:
        with dvtool.snapshot(repo=ours) as data:
            data.find("data")

    def opened_by_dvc() -> None:
        theirs(str(repo), rev="HEAD").find("data")

    count = len(list((ours / "data").rglob("*.bin")))
    yield Row(f"open and find {count:,}", *paired(rounds, opened, opened_by_dvc), "DVCFileSystem")


def column_row(repo: Path, bucket: str, proxy: CountingProxy) -> Row:
    """Count the bytes from S3 for one column of a table, beside those that the column has."""
    import fsspec
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.scenario import Clone, Remote

    remote = Remote(f"s3://{bucket}/tables", proxy.url)
    mine = Clone.new(repo, remote)
    draw = np.random.default_rng(1)
    table = pa.table({f"c{n}": draw.random(ROWS) for n in range(COLUMNS)})
    pq.write_table(table, repo / "table.parquet", use_dictionary=False, row_group_size=ROWS // 2)
    groups = pq.ParquetFile(repo / "table.parquet").metadata
    size = sum(groups.row_group(n).column(3).total_compressed_size for n in range(2))
    mine.add("table.parquet")
    mine.commit("table")
    with mine.repo() as opened:
        opened.push()
    theirs = mine.clone(repo.with_name("tables-clone"), remote)
    proxy.reset()
    files = fsspec.filesystem("dv", repo=str(theirs.path))
    assert pq.read_table("table.parquet", columns=["c3"], filesystem=files).num_rows == ROWS
    return Row("bytes of one column of 8 from S3", proxy.received, size, "the column", "bytes")


def remote_rows(repo: Path, proxy: CountingProxy, rounds: int) -> Iterator[Row]:
    """Count the requests for files of which nothing is here."""
    for name, choose in (
        ("1,000 files at random", lambda paths: random.Random(3).sample(paths, SAMPLE)),
        ("1,000 files together", lambda paths: paths[:SAMPLE]),
    ):
        dvtool.clean_cache(str(repo))
        with dvtool.snapshot(repo=repo) as data:
            paths = choose(data.find("data"))
            proxy.reset()
            data.read_ranges([(path, None, None) for path in paths])
            count = proxy.total
        yield Row(f"requests for {name} from S3", count, SAMPLE, "one each", "requests")


def large_row(repo: Path, bucket: str, endpoint: str, plain: Path, rounds: int) -> Row:
    """Measure 256 MiB from S3, beside the same bytes as one object."""
    client = boto3.client("s3", endpoint_url=endpoint)
    client.upload_file(str(plain), bucket, "plain")

    def emptied() -> None:
        dvtool.clean_cache(str(repo))

    def ours() -> None:
        with dvtool.snapshot(repo=repo) as data, data.open("large", buffering=0) as file:
            drained(file)

    def theirs() -> None:
        with open(os.devnull, "wb") as nothing:
            client.download_fileobj(bucket, "plain", nothing)

    taken = paired(rounds, ours, theirs, before=emptied)
    return Row("read 256 MiB in order, S3", *taken, "download_fileobj")
