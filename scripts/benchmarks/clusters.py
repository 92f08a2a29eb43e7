"""Imports on a cluster: the driver with ten million entries, real workers, and a simulation.

scripts/scale driver --entries 10000000    what the driver takes: memory, CPU a batch
scripts/scale workers                      throughput with one and two workers of this machine
scripts/scale simulate                     time, requests and dollars by size: docs/scale.md
scripts/scale kills --engine dask          drivers and workers killed: what is lost, what is left
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from benchmarks.kills import run_kills
from dvtool.errors import ObjectMissing
from dvtool.format.chunker import chunks_expected
from dvtool.format.locations import Located, RemotePack, encode_locations
from dvtool.format.pack import Placement
from dvtool.format.source import DataSource
from dvtool.jobs.cluster import ClusterEngine
from dvtool.jobs.take_to_remote import FarBatch, FarTaken, PackThere, take_to_remote
from dvtool.project.taken import TakenObjects
from dvtool.remotes.address import RemoteAddress, remote_address
from dvtool.remotes.known import Known
from dvtool.remotes.objects import pack_key
from dvtool.remotes.origins.base import OriginObject
from dvtool.remotes.origins.s3 import S3Origin
from dvtool.remotes.remote import RemoteStore
from dvtool.remotes.transports.base import Features, ObjectInfo
from dvtool.remotes.transports.registry import open_backend
from dvtool.remotes.transports.s3.options import S3Options
from dvtool.repo import Repo
from dvtool.verbs.imports.bring import TargetThere
from dvtool.verbs.imports.listing import Opened, list_source
from dvtool.verbs.imports.on_cluster import ImportOnCluster

PACK_BYTES = 32 << 20
PAGE = 1_000
QUIET = subprocess.DEVNULL
SEED = 17
URL = "s3://synthetic/data/"

# --- the driver, with synthetic workers -------------------------------------------------------


class SyntheticOrigin:
    """So many objects of one size, listed and never read."""

    url = URL

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size

    def batches(self) -> Iterator[list[OriginObject]]:
        for at in range(0, self._count, PAGE):
            yield [
                OriginObject(
                    f"data/{number // 10_000:06}/{number:010}.bin", self._size, f"{number:x}"
                )
                for number in range(at, min(at + PAGE, self._count))
            ]

    def close(self) -> None:
        pass


class SyntheticRemote:
    """A backend that has every pack it was told of, on the disk, and keeps small objects."""

    url = "s3://synthetic-remote/p"
    features = Features(list_allowed=True, md5_etag=True)

    def __init__(self, path: str) -> None:
        self._packs = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._packs.execute("CREATE TABLE packs (key TEXT PRIMARY KEY, size) WITHOUT ROWID")
        self._small: dict[str, bytes] = {}
        self._sizes: dict[str, int] = {}
        self.requests = {"put": 0, "get": 0, "list": 0, "head": 0}
        self.put_bytes = 0

    def add_packs(self, packs: Iterable[PackThere]) -> None:
        rows = [(pack_key(pack.digest), pack.size) for pack in packs]
        self._packs.executemany("INSERT OR IGNORE INTO packs VALUES (?, ?)", rows)

    def put(self, key: str, body: Any) -> ObjectInfo:
        data = body if isinstance(body, bytes) else body.read()
        self.requests["put"] += 1
        self.put_bytes += len(data)
        self._sizes[key] = len(data)
        if not key.startswith("shards/"):
            self._small[key] = data
        return ObjectInfo(key, len(data))

    def put_if_absent(self, key: str, body: bytes) -> bool:
        absent = key not in self._sizes
        if absent:
            self.put(key, body)
        return absent

    def get(self, key: str, *, size_max: int) -> bytes:
        self.requests["get"] += 1
        if key not in self._small:
            raise ObjectMissing(key, self.url)
        return self._small[key]

    def head(self, key: str) -> ObjectInfo | None:
        self.requests["head"] += 1
        if key in self._sizes:
            return ObjectInfo(key, self._sizes[key])
        row = self._packs.execute("SELECT key, size FROM packs WHERE key = ?", (key,)).fetchone()
        return ObjectInfo(*row) if row else None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        small = iter(sorted(key for key in self._sizes if key.startswith(prefix)))
        infos = (ObjectInfo(key, self._sizes[key]) for key in small)
        merged = heapq.merge(infos, self._listed(prefix), key=lambda info: info.key)
        for count, info in enumerate(merged):
            self.requests["list"] += count % PAGE == 0
            yield info

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        last = prefix
        while rows := self._packs.execute(
            "SELECT key, size FROM packs WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (last, prefix + "\x7f", PAGE),
        ).fetchall():
            last = rows[-1][0]
            yield from (ObjectInfo(*row) for row in rows)

    def delete(self, key: str) -> None:
        self._small.pop(key, None)
        self._sizes.pop(key, None)


def synthetic_result(batch: FarBatch) -> FarTaken:
    """Return what a worker would: a hash for each object, its chunks in packs of 32 MiB."""
    digests, located = [], {}
    packs: list[PackThere] = []
    room, pack = 0, RemotePack(b"", 0)
    for described in batch.objects:
        digest = hashlib.blake2b(described.key.encode(), digest_size=32).digest()
        digests.append(digest)
        count = max(chunks_expected(described.size), 1)
        step, chunks = described.size // count, []
        for number in range(count):
            name = digest if count == 1 else digest[:28] + number.to_bytes(4, "big")
            size = step if number + 1 < count else described.size - step * (count - 1)
            if room < size:
                pack = RemotePack(
                    hashlib.blake2b(name, digest_size=32, key=b"p").digest(), PACK_BYTES
                )
                packs.append(PackThere(pack.digest, pack.size, None))
                room = PACK_BYTES - (64 << 10)
            at = PACK_BYTES - (64 << 10) - room
            chunks.append(Located(pack, Placement(name, at, size, 0, size)))
            room -= size
        located[digest] = chunks
    sizes = array("Q", [described.size for described in batch.objects])
    places = zstandard.compress(encode_locations(located))
    return FarTaken(b"".join(digests), sizes.tobytes(), places, packs)


class SyntheticEngine(ClusterEngine):
    """Says at once what workers would; `spent_s` is the CPU time that this takes."""

    def __init__(self, remote: SyntheticRemote) -> None:
        self._remote = remote
        self.batches = 0
        self.spent_s = 0.0

    def as_done(self, work: Any, batches: Any, *, tell: Any = None) -> Generator[Any, None, None]:
        for batch in batches:
            began_s = time.process_time()
            result = synthetic_result(batch)
            self._remote.add_packs(result.packs)
            self.batches += 1
            self.spent_s += time.process_time() - began_s
            yield batch, result


class Phases:
    """Prints how long each step took, and the peak of memory by then."""

    def __init__(self) -> None:
        self._at_s, self._cpu_s = time.monotonic(), time.process_time()

    def end(self, name: str) -> float:
        wall_s, cpu_s = time.monotonic() - self._at_s, time.process_time() - self._cpu_s
        self._at_s, self._cpu_s = time.monotonic(), time.process_time()
        print(f"{name:<28}{wall_s:8.1f} s {cpu_s:8.1f} s CPU {peak_mib():8.0f} MiB", flush=True)
        return cpu_s


def peak_mib() -> float:
    """Return the most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_driver(entries: int, size: int) -> None:
    """Send synthetic entries through the driver, from the listing to git's index."""
    with tempfile.TemporaryDirectory(prefix="dv-scale-") as folder:
        subprocess.run(["git", "init", "-q", f"{folder}/work"], check=True)
        os.environ.setdefault("SQLITE_TMPDIR", folder)
        with Repo.open(f"{folder}/work") as repo:
            repo.config.init()
            _drive(repo, folder, entries, size)


def _drive(repo: Repo, folder: str, entries: int, size: int) -> None:
    project: Any = repo._project
    backend = SyntheticRemote(f"{folder}/remote.db")
    engine = SyntheticEngine(backend)
    cluster = ImportOnCluster.__new__(ImportOnCluster)
    cluster.project, cluster.engine = project, engine
    cluster.remote = RemoteStore(backend)  # type: ignore[arg-type]
    cluster.repo_id = repo.config.repo_id or ""
    cluster.known = Known(project.store.db, cluster.remote.initialise().id)
    cluster.address = RemoteAddress(backend.url, {}, cluster.remote.required_mark().id)
    origin: Any = SyntheticOrigin(entries, size)
    source = DataSource("s3", URL, "")
    phases = Phases()
    print(f"{entries:,} entries of {size:,} bytes; {peak_mib():.0f} MiB before")
    with TakenObjects(project.git.common_dir, source) as taken:
        listed = Opened(source, origin, origin.batches())
        found = list_source(taken, listed, project.progress, to_disk=False)
        listing_s = phases.end("listing")
        result = cluster.bring(TargetThere("data", None, None), found, taken, origin)
        bring_s = phases.end("batches, shards, root") - engine.spent_s
    print(f"{engine.batches:,} batches; made up in {engine.spent_s:.1f} s CPU, not the driver's")
    print(f"driver: {1e6 * listing_s / entries:.1f} µs an entry to list, "
          f"{1e6 * bring_s / entries:.1f} µs an entry after; "
          f"{1e3 * bring_s / engine.batches:.1f} ms a batch; {result.files:,} files in the "
          f"manifest; requests {backend.requests}, "
          f"{backend.put_bytes / 1e6:,.0f} MB put; peak {peak_mib():.0f} MiB")  # fmt: skip


# --- real workers -----------------------------------------------------------------------------


def run_workers(objects: int, size: int) -> None:
    """Import from a real S3 server with one and with two workers of a Dask cluster, in turns."""
    from tests.cluster.clusters import dask_cluster
    from tests.s3.servers import AWS_ENV, rclone_server

    os.environ.update(AWS_ENV)
    with tempfile.TemporaryDirectory(prefix="dv-scale-") as name:
        folder = Path(name)
        with rclone_server(folder) as server, dask_cluster(folder, AWS_ENV) as cluster:
            bucket = server.new_bucket()
            data = folder / "data" / bucket / "src"
            data.mkdir(parents=True)
            for number in range(objects):
                (data / f"{number:06}").write_bytes(random.Random(number).randbytes(size))
            _batch_cost(folder, bucket, server.endpoint_url)
            for count in (2, 1):
                while len(cluster.workers) > count:
                    worker = cluster.workers.pop()
                    worker.kill()
                    worker.wait()
                for turn in range(3):
                    _import_once(
                        folder,
                        f"{count}-{turn}",
                        bucket,
                        server.endpoint_url,
                        cluster,
                        size * objects,
                    )


def _batch_cost(folder: Path, bucket: str, endpoint: str) -> None:
    """Work on one batch in this process, and print its CPU time, which load does not change."""
    origin = S3Origin(bucket, "src/", S3Options(endpoint_url=endpoint))
    objects = tuple(each for page in origin.batches() for each in page)
    remote = RemoteStore(open_backend(str(folder / "remote-batch")))
    (folder / "remote-batch").mkdir()
    address = remote_address(str(folder / "remote-batch"), {}, remote.initialise().id)
    for part in (objects[:1], objects[: len(objects) // 2], objects):
        batch = FarBatch(origin, address, part)
        began_s = time.process_time()
        take_to_remote(batch)
        spent_s = time.process_time() - began_s
        size = batch.size_bytes
        print(f"a batch of {len(part):,} objects, {size / 1e6:,.0f} MB: {spent_s:.2f} s CPU")


def _import_once(
    folder: Path, name: str, bucket: str, endpoint: str, cluster: Any, total: int
) -> None:
    work = folder / f"work-{name}"
    dv = [sys.executable, "-W", "ignore", "-m", "dvtool"]

    def run(*command: str) -> None:
        subprocess.run(command, cwd=work, check=True, stdout=QUIET, stderr=QUIET)

    work.mkdir()
    run("git", "init", "-q")
    run(*dv, "init", "-q", "--no-hooks")
    run(*dv, "remote", "add", "-q", "origin", str(folder / f"remote-{name}"))
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(
        *dv,
        "import",
        "-q",
        f"s3://{bucket}/src",
        "data",
        "--endpoint-url",
        endpoint,
        *cluster.options,
    )
    after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began_s
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name[0]} worker(s): {wall_s:6.1f} s, {total / wall_s / 1e6:6.0f} MB/s, "
          f"driver {cpu_s:5.1f} s CPU with its start")  # fmt: skip


# --- the simulation ---------------------------------------------------------------------------


class Costs(NamedTuple):
    """Costs of one worker and of the driver: CPU as measured, networks and prices as assumed.

    Measured with `driver` and `workers` below: a worker takes 3.7 ms of CPU for a MB of data that
    does not compress, so its share of the network is what bounds it.
    """

    worker_bytes_per_s: float = 75e6
    """A core's share of a network of 5 Gbit/s for 8 cores, both ways; assumed."""
    worker_object_s: float = 0.002
    """A request of 30 ms, 16 of them side by side; assumed."""
    batch_s: float = 0.3
    """What a batch costs a worker besides: a client that begins, the last pack; assumed."""
    driver_list_s: float = 11e-6
    driver_entry_s: float = 30e-6
    driver_batch_s: float = 0.004
    page_s: float = 0.15
    get_usd: float = 0.4e-6
    put_usd: float = 5e-6
    core_hour_usd: float = 0.05
    month_byte_usd: float = 0.023 / 1e9


class Outcome(NamedTuple):
    """What an import takes."""

    hours: float
    listing_hours: float
    driver_hours: float
    requests_get: int
    requests_put: int
    usd: float
    bottleneck: str


def simulate(
    objects: int,
    size: int,
    workers: int,
    costs: Costs,
    *,
    inventory: bool = False,
    seed: int = SEED,
) -> Outcome:
    """Simulate an import batch by batch, with stragglers and lost workers; the seed fixes it.

    One batch in 50 takes 2 to 10 times as long; one in 2,000 is lost with its worker at a random
    moment, and begins again on another one a minute later.
    """
    chance = random.Random(seed)
    per_batch = max(min(8_000, -(-(256 << 20) // size)), 1)
    batches = -(-objects // per_batch)
    usual_s = costs.batch_s + per_batch * (costs.worker_object_s + size / costs.worker_bytes_per_s)
    listing_s = objects / PAGE * (0 if inventory else costs.page_s) + objects * costs.driver_list_s

    def took_s() -> float:
        took = usual_s * chance.uniform(0.9, 1.15)
        if chance.random() < 0.02:
            took *= chance.uniform(2, 10)
        if chance.random() < 0.0005:
            took += chance.random() * took + 60
        return took

    result_s = costs.driver_batch_s + per_batch * costs.driver_entry_s / 2
    begun = min(workers, batches)
    ends = [took_s() for _ in range(begun)]
    busy_s, driver_s = sum(ends), 0.0
    heapq.heapify(ends)
    while ends:
        ended_s = heapq.heappop(ends)
        # The driver takes one result after the other; a worker has one batch more in hand.
        driver_s = max(driver_s, ended_s) + result_s
        if begun < batches:
            begun += 1
            more_s = took_s()
            busy_s += more_s
            heapq.heappush(ends, max(ended_s, driver_s - usual_s) + more_s)
    end_s = driver_s
    publish_s = objects * costs.driver_entry_s / 2
    packs = -(-objects * size // PACK_BYTES)
    gets = objects + batches
    puts = packs + objects // 4096 + (0 if inventory else objects // PAGE) + packs // PAGE
    hours = (listing_s + end_s + publish_s) / 3600
    driver_hours = (listing_s + publish_s + batches * costs.driver_batch_s
                    + objects * costs.driver_entry_s / 2) / 3600  # fmt: skip
    usd = gets * costs.get_usd + puts * costs.put_usd + hours * workers * costs.core_hour_usd
    worker_hours = busy_s / workers / 3600
    bottleneck = "workers" if worker_hours > driver_hours else "driver"
    return Outcome(hours, listing_s / 3600, driver_hours, gets, puts, usd, bottleneck)


def run_simulation() -> None:
    """Print the tables of docs/scale.md."""
    costs = Costs()
    print(
        "| data | objects | workers | hours | of them listing | driver CPU | GET | PUT, LIST "
        "| dollars | bottleneck |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for objects in (10**5, 10**6, 10**7, 10**8):
        for workers in (2, 16, 128, 1024):
            if objects * 1_000_000 / workers > 2e13 and workers < 16:
                continue
            out = simulate(objects, 1_000_000, workers, costs, inventory=objects == 10**8)
            print(f"| {objects / 1e6:,.1f} TB | {objects:,} | {workers:,} | {out.hours:,.1f} | "
                  f"{out.listing_hours:,.2f} | {out.driver_hours:,.2f} h | {out.requests_get:,} | "
                  f"{out.requests_put:,} | {out.usd:,.0f} | {out.bottleneck} |")  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("driver", "workers", "simulate", "kills"))
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--size", type=int, default=60_000)
    parser.add_argument("--objects", type=int, default=1_200)
    parser.add_argument("--engine", choices=("dask", "ray"), default="dask")
    parser.add_argument("--moments", type=int, default=10)
    given = parser.parse_args()
    acts: dict[str, Callable[[], None]] = {
        "driver": lambda: run_driver(given.entries, given.size),
        "workers": lambda: run_workers(given.objects, 500_000),
        "simulate": run_simulation,
        "kills": lambda: run_kills(given.engine, given.moments),
    }
    acts[given.what]()


if __name__ == "__main__":
    main()
