"""One cluster of two workers for a whole run of tests, whose workers have their own credentials."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.jobs import take_to_remote
from tests.cli.conftest import Work
from tests.cluster.clusters import RunningCluster, dask_cluster
from tests.s3.conftest import use
from tests.s3.servers import AWS_ENV, S3Server
from tests.s3.test_import import Bucket
from tests.scenario import noise

OBJECTS = {
    **{f"part-{number:02}/{number}.bin": noise(3_000 + number, number) for number in range(34)},
    "large.bin": noise(3 << 20, 99),
    "part-00/empty": b"",
    "part-07/same-as-0": noise(3_000, 0),
    "zz/tüb 図.txt": b"odd",
}


@pytest.fixture(scope="session")
def dask(
    _isolated_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), AWS_ENV) as cluster:
        yield cluster


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few objects, so that little data makes several."""
    monkeypatch.setattr(take_to_remote, "FAR_OBJECTS_MIN", 8)
    monkeypatch.setattr(take_to_remote, "FAR_SIZE_MIN_BYTES", 1 << 20)


@pytest.fixture
def bucket(
    tmp_path: Path, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch, small_batches: None
) -> Bucket:
    """A bucket with data, and a repository with a folder as its remote."""
    use(rclone_server, monkeypatch)
    work = new_work(tmp_path)
    bucket = Bucket(work, rclone_server)
    bucket.put(OBJECTS)
    return bucket


def new_work(folder: Path, name: str = "work") -> Work:
    root = folder / name
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    work = Work(root)
    work.dv("init", "--no-hooks")
    work.dv("remote", "add", "origin", folder / f"{name}-remote")
    work.commit("init")
    return work
