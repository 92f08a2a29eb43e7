"""A pull from S3 beside `rclone copy` of the same files as objects of the same server.

rclone copies as it does by itself, with 4 transfers at a time, and with 16, as dvtool has.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.chapters import PULL_S3
from benchmarks.data import BLOCK_BYTES, MIB, Dataset, numbered, place_copy, same, write
from benchmarks.measure import Bench, BenchError
from benchmarks.results import Run
from benchmarks.special import Keep, s3_steps
from benchmarks.tools import ADD, COMMIT, PULL, PUSH, SETUP, TOOLS, Place, run

LARGE_FILES, LARGE_BYTES = 6, 100_000_000
SMALL_FILES, SMALL_BYTES = 5_000, 20_000
BUCKET = "plain"
COPY = "rclone copy"
COPY_16 = "rclone copy --transfers 16"


def measure(bench: Bench, rounds: int, keep: Keep) -> None:
    """Measure all sides in turn; the server shares the machine. Raises BenchError.

    Each fills a folder that is not there yet: `dv pull` that of a fresh clone, whose `git clone` is
    not measured.
    """
    from tests.s3.servers import _rclone_binary, rclone_server

    before, _ = dataset().ready(bench.work / "data")
    place = Place(bench.work / "run")
    server_folder = bench.work / "server"
    for folder in (place.top, server_folder):
        bench.put_away(folder)
        folder.mkdir(parents=True)
    with rclone_server(server_folder) as server:
        at = Bench(bench.work, {**bench.env, **server.env})
        steps = s3_steps("dv", place, f"s3://{server.new_bucket()}", server.endpoint_url)
        at.run(*steps[SETUP])
        place_copy(before, place.repo / "data")
        usual = TOOLS["dv"].steps(place)
        at.run(*usual[ADD], *usual[COMMIT], *steps[PUSH])
        with server.client() as client:
            client.create_bucket(Bucket=BUCKET)
        shutil.copytree(before, server_folder / "data" / BUCKET / "data")
        address = f":s3,provider=Other,env_auth=true,endpoint='{server.endpoint_url}':{BUCKET}"
        copied = place.top / "copied"
        words = ("--config", os.devnull, f"{address}/data", copied)
        copy = run(place.top, _rclone_binary(), "copy", *words)
        copy_16 = run(place.top, _rclone_binary(), "copy", "--transfers", "16", *words)
        sides = (
            ("dv", steps[PULL], place.clone / "data"),
            (COPY, (copy,), copied),
            (COPY_16, (copy_16,), copied),
        )
        for number in range(rounds + 1):
            first = number % len(sides)
            for tool, commands, folder in (*sides[first:], *sides[:first]):
                for left in (place.clone, copied):
                    bench.put_away(left)
                taken = at.take(commands, memory=number == 0)
                if number == 0 and not same(before, folder):
                    raise BenchError(f"{tool}: the data are not what they should be")
                keep(Run(PULL_S3, tool, number, {PULL: taken}))
    for folder in (place.top, server_folder):
        bench.put_away(folder)


def dataset() -> Dataset:
    """Random files, a few large and many small."""

    def make(before: Path, after: Path) -> dict[str, list[object]]:
        for number in range(LARGE_FILES):
            with (before / f"large-{number}.bin").open("wb") as file:
                for at in range(0, LARGE_BYTES, MIB):
                    file.write(os.urandom(min(MIB, LARGE_BYTES - at)))
        for number in range(SMALL_FILES):
            write(before / numbered(number), os.urandom(SMALL_BYTES))
        return {}

    size = LARGE_FILES * LARGE_BYTES + SMALL_FILES * (SMALL_BYTES + BLOCK_BYTES)
    return Dataset("pulled", make, size)
