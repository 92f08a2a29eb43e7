"""Imports from a bucket, from another repository and from PostgreSQL: time, requests, memory.

Requests are counted by a proxy in a run of its own; timed runs go straight to the server. The two
sides take turns.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import statistics
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.data import numbered, small_files
from benchmarks.measure import Bench, Command, Taken, stored
from benchmarks.scale import KIB, MIB, Scale
from benchmarks.tools import Place, aside, run
from dvtool.format.manifest import decode

if TYPE_CHECKING:
    from tests.postgres import Postgres
    from tests.s3.proxy import CountingProxy
    from tests.s3.servers import S3Server

OBJECT_BYTES = 8 * KIB
BUCKET = "source"
TRANSFERS = "16"
"""How many objects rclone copies at a time, as dv does; its default of 4 takes longer."""
EDIT_SHARE = 200
"""Of so many objects one is replaced, one goes, and one is new."""
BLOCK_BYTES = 512
"""The unit in which the system counts what a process wrote."""
HEADING = "| what | dv | beside | dv / beside |\n|---|---|---|---|"
QUERY = "SELECT * FROM points ORDER BY id"
TABLE = """
CREATE TABLE points (id int PRIMARY KEY, name text, x float8, at timestamptz);
INSERT INTO points SELECT i, 'point ' || md5(i::text), i / 3.0,
    '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, {rows}) i;
"""


class _Source(NamedTuple):
    """A bucket with the objects, and a proxy before it."""

    server: S3Server
    proxy: CountingProxy
    env: dict[str, str]

    def options(self, *, counted: bool) -> tuple[str, str]:
        url = self.proxy.url if counted else self.server.endpoint_url
        return ("--endpoint-url", url)


def measure(bench: Bench, scale: Scale, rounds: int) -> Iterator[str]:
    """Yield the lines of a table; the data is made below the bench's folder and removed."""
    from tests.s3.proxy import CountingProxy
    from tests.s3.servers import moto_server, rclone_server

    yield f"load {os.getloadavg()[0]:.1f}\n{HEADING}"
    before, _ = small_files(scale.s_files, OBJECT_BYTES).ready(bench.work / "data")
    for name, serve in (("rclone", rclone_server), ("moto", moto_server)):
        folder = bench.work / "server"
        bench.put_away(folder)
        folder.mkdir(parents=True)
        with serve(folder) as server, CountingProxy(server.endpoint_url) as proxy:
            _fill(server, folder / "data" if name == "rclone" else None, before)
            source = _Source(server, proxy, {**bench.env, **server.env})
            at = Bench(bench.work, source.env)
            lines = [_counted(at, source, before, scale.s_files)]
            if name == "rclone":  # moto's server is so slow that it alone would be measured
                lines.append(_timed(at, source, scale.s_files, rounds))
                lines.append(_repository(at, source, before))
            for line in chain.from_iterable(lines):
                yield f"| {name}: {line}"
        bench.put_away(folder)
    yield from _rows(bench, scale.parquet_rows)
    yield f"load {os.getloadavg()[0]:.1f}"


def _fill(server: S3Server, folder: Path | None, files: Path) -> None:
    """Put the objects into a bucket: into its folder, where it is one, else one by one."""
    with server.client() as client:
        client.create_bucket(Bucket=BUCKET)
        if folder is not None:
            shutil.copytree(files, folder / BUCKET / "data")
            return
        for path in sorted(path for path in files.rglob("*") if path.is_file()):
            key = f"data/{path.relative_to(files)}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def _fresh(bench: Bench) -> Place:
    place = Place(bench.work / "run")
    bench.put_away(place.top)
    place.top.mkdir(parents=True)
    bench.run(aside(place.top, "git", "init", "-q", place.repo), aside(place.repo, "dv", "init"))
    return place


def _import(place: Place, source: _Source, *more: str, counted: bool = False) -> Command:
    options = source.options(counted=counted)
    return run(place.repo, "dv", "import", "-q", *more, *options, f"s3://{BUCKET}/data", "data")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "none"


def _counted(bench: Bench, source: _Source, files: Path, count: int) -> Iterator[str]:
    """Count the requests of an import, of nothing new, and of a change."""
    place = _fresh(bench)
    source.proxy.reset()
    written = _written_bytes(bench, _import(place, source, "--no-checkout", counted=True))
    packs = stored(place.repo / ".git/dv/packs").bytes
    pages = -(-count // 1_000)
    yield f"requests of an import | {_told(source.proxy.counts)} | {pages} LIST, {count:,} GET | |"
    if written:
        shown = f"{written / MIB:.0f} MiB | packs: {packs / MIB:.0f} MiB | {written / packs:.2f}"
        yield f"written to the disk, `--no-checkout` | {shown} |"
    bench.run(aside(place.repo, "git", "commit", "-qm", "imported"))
    source.proxy.reset()
    bench.run(run(place.repo, "dv", "update", "-q"))
    yield f"requests of an update, nothing new | {_told(source.proxy.counts)} | {pages} LIST | |"
    changed = max(count // EDIT_SHARE, 1)
    _edit(source.server, files, count, changed)
    source.proxy.reset()
    bench.run(run(place.repo, "dv", "update", "-q"))
    expected = f"{pages} LIST, {2 * changed} GET"
    what = f"requests of an update: {changed} added, {changed} replaced, {changed} deleted"
    yield f"{what} | {_told(source.proxy.counts)} | {expected} | |"
    manifest = decode((place.repo / "data.dv.json").read_bytes(), "data")
    assert manifest.files == count, "an update took another number of files"
    _undo(source.server, files, count, changed)


def _edit(server: S3Server, files: Path, count: int, changed: int) -> None:
    draw = random.Random(7)
    with server.client() as client:
        for number in range(changed):
            at = number * EDIT_SHARE
            new = draw.randbytes(OBJECT_BYTES)
            client.put_object(Bucket=BUCKET, Key=f"data/new/{number:05}.bin", Body=new)
            client.put_object(Bucket=BUCKET, Key=f"data/{numbered(at)}", Body=new[::-1])
            client.delete_object(Bucket=BUCKET, Key=f"data/{numbered(at + 1)}")


def _undo(server: S3Server, files: Path, count: int, changed: int) -> None:
    with server.client() as client:
        for number in range(changed):
            client.delete_object(Bucket=BUCKET, Key=f"data/new/{number:05}.bin")
            for at in (number * EDIT_SHARE, number * EDIT_SHARE + 1):
                data = (files / numbered(at)).read_bytes()
                client.put_object(Bucket=BUCKET, Key=f"data/{numbered(at)}", Body=data)


def _written_bytes(bench: Bench, command: Command) -> int:
    """Return how many bytes a command and its workers wrote; 0 where the system does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    bench.run(command)
    return (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before) * BLOCK_BYTES


def _timed(bench: Bench, source: _Source, count: int, rounds: int) -> Iterator[str]:
    """Measure an import beside `rclone copy` and `dv add`; one round goes before."""
    taken: dict[str, list[Taken]] = {"import": [], "copy": [], "add": []}
    copy = (_rclone(), "copy", "--config", os.devnull, "--transfers", TRANSFERS)
    address = f":s3,provider=Other,env_auth=true,endpoint='{source.server.endpoint_url}'"
    for number in range(rounds + 1):
        place = _fresh(bench)
        imported = bench.take([_import(place, source)], memory=number == 0)
        place = _fresh(bench)
        copied = bench.take([run(place.repo, *copy, f"{address}:{BUCKET}/data", "data")])
        added = bench.take([run(place.repo, "dv", "add", "-q", "data")])
        for kind, each in (("import", imported), ("copy", copied), ("add", added)):
            taken[kind].append(each)
    if (peak := taken["import"][0].peak_bytes) is not None:
        yield f"peak memory of an import, all processes | {peak / MIB:.0f} MiB | | |"
    what = f"{count:,} objects of {OBJECT_BYTES // KIB} KiB, `rclone copy` and `dv add`"
    for field, kind in (("wall_s", "wall time"), ("cpu_s", "CPU")):
        ours, copying, adding = (
            [getattr(each, field) for each in taken[name][1:]] for name in taken
        )
        both = [sum(pair) for pair in zip(copying, adding, strict=True)]
        yield f"{kind}, {what} | {_compared(ours, both)} |"


def _compared(ours: Sequence[float], other: Sequence[float]) -> str:
    mine, theirs = statistics.median(ours), statistics.median(other)
    return f"{mine:.2f} s | {theirs:.2f} s | {mine / theirs:.2f}"


def _rclone() -> str:
    from tests.s3.servers import _rclone_binary

    return _rclone_binary()


def _repository(bench: Bench, source: _Source, files: Path) -> Iterator[str]:
    """Count the requests of an import from another repository with dv, beside those of a pull."""
    place = _fresh(bench)
    shutil.copytree(files, place.repo / "data")
    with source.server.client() as client:
        client.create_bucket(Bucket="remote")
    options = ("--endpoint-url", source.proxy.url)
    bench.run(
        aside(place.repo, "dv", "remote", "add", "origin", "s3://remote/p", *options),
        aside(place.repo, "dv", "add", "-q", "data"),
        aside(place.repo, "git", "add", "-A"),
        aside(place.repo, "git", "commit", "-qm", "data"),
        aside(place.repo, "dv", "push", "-q"),
        aside(place.top, "git", "clone", "-q", place.repo, place.clone),
    )
    source.proxy.reset()
    bench.run(aside(place.clone, "dv", "pull", "-q"))
    pulled = source.proxy.total
    mine = place.top / "mine"
    bench.run(aside(place.top, "git", "init", "-q", mine), aside(mine, "dv", "init"))
    source.proxy.reset()
    bench.run(aside(mine, "dv", "import", "-q", f"file://{place.repo}//data", "data"))
    what = "requests, from another repository with dv"
    ours = source.proxy.total
    yield f"{what} | {ours} | a pull of it: {pulled} | {ours / max(pulled, 1):.2f} |"


def _rows(bench: Bench, rows: int) -> Iterator[str]:
    """Measure an import of rows from PostgreSQL, and what a deleted row adds to a remote."""
    from tests.postgres import running_postgres

    try:
        with running_postgres() as server:
            yield from _rows_of(bench, server, rows)
    except pytest.skip.Exception as reason:
        yield f"PostgreSQL is left out: {reason}"


def _rows_of(bench: Bench, server: Postgres, rows: int) -> Iterator[str]:
    server.sql(TABLE.format(rows=rows))
    at = Bench(bench.work, {**bench.env, **server.env})
    place = _fresh(at)
    remote = place.remote / "packs"
    at.run(aside(place.repo, "dv", "remote", "add", "origin", place.remote))
    took = at.take(
        [run(place.repo, "dv", "import-sql", "-q", server.url, QUERY, "points.parquet")],
        memory=True,
    )
    publish = (
        aside(place.repo, "git", "commit", "-qm", "rows"),
        aside(place.repo, "dv", "push", "-q"),
    )
    at.run(*publish)
    size = (place.repo / "points.parquet").stat().st_size
    what = f"{rows:,} rows from PostgreSQL ({size / MIB:.0f} MiB of Parquet)"
    yield f"| {what}, peak memory | {(took.peak_bytes or 0) / MIB:.0f} MiB | goal: 150 MB | |"
    yield f"| {what}, wall time and CPU | {took.wall_s:.1f} s, {took.cpu_s:.1f} s | | |"
    before = stored(remote)
    server.sql(f"DELETE FROM points WHERE id = {rows * 2 // 5}")
    at.run(aside(place.repo, "dv", "update", "-q"), *publish)
    grown = (stored(remote) - before).bytes
    yield (
        f"| a deleted row adds to the remote | {grown / MIB:.2f} MiB | the file: {size / MIB:.0f} "
        f"MiB | {grown / size:.3f} |"
    )
