"""Streams for training, beside plain files and formats that want a second copy of the data.

Each tool reads whole epochs in processes of its own, in turn with the others. The kernel's cache is
warm, and what making the copies left to be written is on the disk; from S3 every tool begins
without a cache of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.measure import Bench
from benchmarks.scale import Scale
from benchmarks.stream_tools import CONVERTERS, ENOUGH_S, LOADERS, Read, Source

SAMPLE_BYTES = 20_000
SETTLED_AT_ONCE_BYTES = 1 << 20
PLAIN = "plain"
"""The bucket of those who do not read dvtool's."""
WORKERS = (0, 2)
PATIENCE_S = 75
"""A tool that has no end after so long is left out; see `stream_tools.ENOUGH_S`."""
FROM_S3 = ("dvtool", "plain files", "WebDataset", "litdata")
"""Hugging Face reads S3 by s3fs, which wants versions of boto of its own."""
MODULES = {"WebDataset": "webdataset", "Hugging Face": "datasets", "litdata": "litdata"}
HEADING = (
    "| tool, where, workers | samples/s | MB/s | samples per s of CPU | first batch "
    "| resume in the middle |\n|---|---|---|---|---|---|"
)
LEFT = " \\*"
LEFT_SAID = f"\n\\* Left after {ENOUGH_S} s; of what was read by then."
COPY_HEADING = "\n| tool | conversion | second copy |\n|---|---|---|\n| dvtool | none | 0 bytes |"


def measure(bench: Bench, scale: Scale, rounds: int) -> Iterator[str]:
    """Yield the lines of two tables; the data is made below the bench's folder and removed."""
    from tests.s3.servers import rclone_server
    from tests.scenario import Clone, Remote

    top, server_folder = bench.work / "run", bench.work / "server"
    for folder in (top, server_folder):
        bench.put_away(folder)
        folder.mkdir(parents=True)
    os.environ.update(bench.env, XDG_CACHE_HOME=str(top / "cache"))
    tools = [name for name in LOADERS if name not in MODULES or is_here(MODULES[name])]
    yield from (f"left out: {name} is not installed" for name in LOADERS if name not in tools)
    with rclone_server(server_folder) as server:
        os.environ.update(server.env)
        bucket = server.new_bucket()
        remote = Remote(f"s3://{bucket}/p", server.endpoint_url)
        mine = Clone.new(top / "mine", remote)
        files = fill(mine.path / "data", scale.stream_files)
        mine.add("data")
        mine.commit("data")
        with mine.repo() as repo:
            repo.push()
        theirs = mine.clone(top / "theirs", remote)
        copies = {tool: convert(tool, files, top / tool) for tool in tools if tool in CONVERTERS}
        places = {"dvtool": mine.path, "plain files": mine.path / "data"}
        places |= {tool: top / tool for tool in copies}
        local = [Source(tool, str(places[tool]), 0, len(files)) for tool in tools]
        signing = Config(signature_version="s3v4")
        client = boto3.client("s3", endpoint_url=server.endpoint_url, config=signing)
        client.create_bucket(Bucket=PLAIN)
        away = [
            replace(
                served(client, server_folder / "data" / PLAIN, source),
                local=str(theirs.path) if source.tool == "dvtool" else source.local,
                endpoint=server.endpoint_url,
            )
            for source in local
            if source.tool in FROM_S3
        ]
        yield HEADING
        for where, sources, read in (("local", local, top), ("S3", away, server_folder)):
            if where == "S3":
                forget(top)
            settle(read)
            for workers in WORKERS:
                chosen = [replace(source, workers=workers) for source in sources]
                yield from rows(where, chosen, rounds, top)
        yield LEFT_SAID
        yield COPY_HEADING
        for tool, (seconds, size) in copies.items():
            yield f"| {tool} | {seconds:.1f} s | {size:,} bytes |"
    for folder in (top, server_folder):
        bench.put_away(folder)


def settle(folder: Path) -> None:
    """Read all files below a folder into the kernel's cache, once nothing is left to be written.

    Else the first tool of the first round pays for the copies that were made just before.
    """
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb", buffering=0) as file:
                while file.read(SETTLED_AT_ONCE_BYTES):
                    pass


def forget(folder: Path) -> None:
    """Have the kernel's cache let go of all files below a folder.

    Copies that are not read any more would leave no memory for the cache that dvtool writes.
    """
    os.sync()
    for path in folder.rglob("*") if hasattr(os, "posix_fadvise") else ():
        if path.is_file() and not path.is_symlink():
            with path.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def fill(folder: Path, count: int) -> list[Path]:
    """Write random files, by seed."""
    source = random.Random(1)
    files = []
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(SAMPLE_BYTES))
        files.append(path)
    return files


def convert(tool: str, files: list[Path], folder: Path) -> tuple[float, int]:
    """Make a tool's copy of the data; return the seconds, and the bytes of the copy."""
    folder.mkdir()
    began = time.perf_counter()
    CONVERTERS[tool](files, folder)
    seconds = time.perf_counter() - began
    return seconds, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def served(client: Any, folder: Path, source: Source) -> Source:
    """Put a tool's data into the server's folder, unless they are dvtool's; return where."""
    if source.tool == "dvtool":
        return source
    prefix = source.tool.replace(" ", "-")
    shutil.copytree(source.local, folder / prefix, copy_function=os.link)
    if source.tool == "litdata":
        return replace(source, bucket=f"s3://{PLAIN}/{prefix}")
    names = sorted(path for path in (folder / prefix).rglob("*") if path.is_file())
    named = [{"Bucket": PLAIN, "Key": path.relative_to(folder).as_posix()} for path in names]
    urls = (client.generate_presigned_url("get_object", one, ExpiresIn=86_400) for one in named)
    return replace(source, urls=tuple(urls))


def rows(where: str, sources: list[Source], rounds: int, top: Path) -> Iterator[str]:
    """Yield a line for each tool: medians of the rounds, in which the tools take turns."""
    reads: dict[str, list[Read]] = {source.tool: [] for source in sources}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for source in sources:
            if source.tool in failed:
                continue
            done = read_in_process(source, top)
            if isinstance(done, str):
                failed[source.tool] = done
            else:
                reads[source.tool].append(done)
    for source in sources:
        name = f"{source.tool}, {where}, {source.workers}"
        if source.tool in failed:
            yield f"| {name} | failed: {failed[source.tool]} | | | | |"
            continue
        found = reads[source.tool]
        left = "" if all(read.whole for read in found) else LEFT
        speed = statistics.median(read.samples / read.seconds for read in found)
        size = statistics.median(read.size_bytes / read.seconds for read in found)
        first = statistics.median(read.first_s for read in found)
        resumed = [read.resume_s for read in found if read.resume_s is not None]
        resume = f"{statistics.median(resumed):.2f} s" if resumed else f"over {ENOUGH_S} s"
        per_cpu = statistics.median(read.samples / read.cpu_s for read in found)
        yield (
            f"| {name} | {speed:,.0f}{left} | {size / 1e6:,.0f} | {per_cpu:,.0f} | {first:.2f} s "
            f"| {resume} |"
        )


def read_in_process(source: Source, top: Path) -> Read | str:
    """Read an epoch; return the last error that was said if that failed."""
    caches = top / "cache"
    shutil.rmtree(caches, ignore_errors=True)
    env = {**os.environ, "DATA_OPTIMIZER_CACHE_FOLDER": str(caches / "litdata")}
    env |= {"HF_HOME": str(caches / "hf"), "HOME": str(caches), "HF_HUB_OFFLINE": "1"}
    # Without compiled modules each process would compile what it imports, boto3 for half a second.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    caches.mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.stream_tools"],
            input=json.dumps(asdict(source)),
            env=env,
            capture_output=True,
            text=True,
            cwd=top,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {PATIENCE_S} s"
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        return next((line for line in reversed(said) if "Error" in line), said[-1])
    return Read(**json.loads(done.stdout.strip().splitlines()[-1]))
