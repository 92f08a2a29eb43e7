"""Workers and drivers that are killed, packs that vanish: the same manifest, and no loose ends.

DV_TEST_MOMENTS says at how many moments each is killed.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dvtool.jobs import dask as dask_engine
from dvtool.jobs.take_to_remote import FarBatch, far_batches
from dvtool.remotes.address import remote_address
from dvtool.remotes.origins.base import OriginObject
from dvtool.remotes.origins.s3 import S3Origin
from dvtool.remotes.transports.s3.options import S3Options
from tests.cluster.clusters import RunningCluster, dask_cluster
from tests.cluster.conftest import OBJECTS
from tests.s3.servers import AWS_ENV, SECRET_ACCESS_KEY
from tests.s3.test_import import Bucket

MOMENTS = int(os.environ.get("DV_TEST_MOMENTS", "2"))
OBJECTS_THERE_MAX = 8
"""Less objects than this are on the remote when an import is done: packs, claims, shards, root."""
WAIT_S = 120.0
SMALL_BATCHES = """
import sys
from dvtool import cli
from dvtool.jobs import take_to_remote
take_to_remote.FAR_OBJECTS_MIN, take_to_remote.FAR_SIZE_MIN_BYTES = 8, 1 << 20
sys.exit(cli.run_command(sys.argv[1:]))
"""


def remote_of(bucket: Bucket) -> Path:
    return bucket.work.root.parent / "work-remote"


def objects(remote: Path) -> set[str]:
    """The objects of a folder remote, without unfinished ones."""
    return {
        str(path.relative_to(remote))
        for path in remote.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def when(count: int, remote: Path, act: Callable[[], object], over: Callable[[], object]) -> None:
    """Act as soon as there are so many objects on the remote, unless it is over before."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not over():
        if len(objects(remote)) >= int(count):
            time.sleep(count % 1 / 10)
            act()
            return
        time.sleep(0.002)


def moments() -> list[float]:
    """The moments: so many objects are there, and a part of a tenth of a second more."""
    step = (OBJECTS_THERE_MAX - 2) / max(MOMENTS - 1, 1)
    return [round(2 + step * number, 2) for number in range(MOMENTS)]


def check_no_loose_ends(bucket: Bucket, target: str) -> None:
    """A gc finds every object that no root needs; all others are sound."""
    work, remote = bucket.work, remote_of(bucket)
    work.commit(target)
    work.dv("push")
    work.dv("fsck", "--remote", "--deep")
    work.dv("gc", "--remote", "--grace", "0m")
    work.dv("gc", "--remote", "--grace", "0m")
    roots = [key for key in objects(remote) if key.startswith("roots/")]
    needed = work.dv("fsck", "--remote", "--deep", "--json").json["remote"]
    packs = [key for key in objects(remote) if key.startswith("packs/")]
    assert (needed["packs"], needed["roots"]) == (len(packs), len(roots))


@pytest.mark.parametrize("count", moments())
def test_a_driver_that_is_killed_goes_on(
    bucket: Bucket, dask: RunningCluster, count: float
) -> None:
    work = bucket.work
    bucket.dv("import", bucket.url, "here", "--no-checkout")
    expected = work.read("here.dv.json")
    work.git("rm", "-q", "--cached", "here.dv.json")
    (work.root / "here.dv.json").unlink()
    args = ["import", bucket.url, "far", *dask.options]
    args += ["--endpoint-url", bucket.server.endpoint_url]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SMALL_BATCHES, *args],
        cwd=work.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        when(count, remote_of(bucket), driver.kill, driver.poll)
    assert driver.returncode in (0, -signal.SIGKILL)
    done = bucket.dv("import", bucket.url, "far", *dask.options, "--json").json
    assert done["read"] <= len(OBJECTS) if driver.returncode else done["read"] == 0
    assert work.read("far.dv.json") == expected
    check_no_loose_ends(bucket, "far")


@pytest.mark.parametrize("count", moments())
def test_the_batch_of_a_worker_that_is_killed_is_done_by_another(
    bucket: Bucket, dask: RunningCluster, count: float
) -> None:
    work, stop = bucket.work, threading.Event()
    bucket.dv("import", bucket.url, "here", "--no-checkout")
    watch = threading.Thread(
        target=when, args=(count, remote_of(bucket), dask.kill_worker, stop.is_set)
    )
    watch.start()
    try:
        bucket.dv("import", bucket.url, "far", *dask.options)
    finally:
        stop.set()
        watch.join()
    assert work.read("far.dv.json") == work.read("here.dv.json")
    check_no_loose_ends(bucket, "far")


def test_packs_that_nobody_came_to_name_are_found_by_gc_after_its_grace(
    bucket: Bucket, dask: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.verbs.imports.far_publish import FarPublisher

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    work, remote = bucket.work, remote_of(bucket)
    with monkeypatch.context() as patch:
        patch.setattr(FarPublisher, "publish", interrupted)
        bucket.dv("import", bucket.url, "far", *dask.options, code=130)
    assert not (work.root / "far.dv.json").exists()
    packs = {key for key in objects(remote) if key.startswith("packs/")}
    assert packs
    # While an import runs, a gc of others buries what it wrote, and removes nothing of it.
    work.dv("gc", "--remote")
    work.dv("gc", "--remote")
    assert packs <= objects(remote)
    done = bucket.dv("import", bucket.url, "far", *dask.options, "--json").json
    assert done["read"] == 0
    work.commit("imported")
    work.dv("gc", "--remote", "--grace", "0m")
    work.dv("fsck", "--remote", "--deep")
    # And where nobody goes on, they go.
    work.git("reset", "-q", "--hard", "HEAD^")
    bucket.put({"more.bin": os.urandom(50_000)})
    with monkeypatch.context() as patch:
        patch.setattr(FarPublisher, "publish", interrupted)
        bucket.dv("import", bucket.url, "other", *dask.options, code=130)
    loose = {key for key in objects(remote) if key.startswith("packs/")} - packs
    assert loose
    work.dv("gc", "--remote", "--grace", "0m")
    work.dv("gc", "--remote", "--grace", "0m")
    assert not loose & objects(remote)


def test_packs_that_vanished_are_made_again(
    bucket: Bucket, dask: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvtool.verbs.imports import on_cluster

    remote = remote_of(bucket)
    publish = on_cluster.FarPublisher.publish
    gone: list[str] = []

    def lose_one(*args: object) -> object:
        if not gone:
            gone.append(min(key for key in objects(remote) if key.startswith("packs/")))
            (remote / gone[0]).unlink()
        return publish(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(on_cluster.FarPublisher, "publish", lose_one)
    done = bucket.dv("import", bucket.url, "far", *dask.options, "--json").json
    assert done["files"] == len(OBJECTS) < done["read"] < 2 * len(OBJECTS)
    bucket.work.commit("imported")
    bucket.work.dv("fsck", "--remote", "--deep")


def test_no_batch_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token-of-a-test")
    origin = S3Origin("data", "scans/", S3Options(region="eu-north-1"))
    origin._source.client()  # which has found the credentials by now
    remote = remote_address("s3://remote/p", {"region": "eu-north-1", "profile": "lab"}, "ab" * 16)
    batch = FarBatch(origin, remote, (OriginObject("scans/a", 1, "tag"),))
    pickled = pickle.dumps(batch)
    assert b"scans/a" in pickled
    assert SECRET_ACCESS_KEY.encode() not in pickled
    assert b"session-token" not in pickled
    again = pickle.loads(pickled)
    assert (again.objects, again.remote, again.name) == (batch.objects, remote, batch.name)


def test_batches_are_large_and_end_where_the_keys_say() -> None:
    origin = S3Origin("data", "", S3Options())
    remote = remote_address("s3://remote/p", {}, "ab" * 16)

    def cut(objects: list[OriginObject]) -> list[FarBatch]:
        return list(far_batches(origin, remote, objects, count=len(objects)))

    small = [OriginObject(f"{number:06}", 100, "t") for number in range(30_000)]
    large = [OriginObject(f"{number:06}", 40 << 20, "t") for number in range(300)]
    for objects in (small, large):
        batches = cut(objects)
        assert [each for batch in batches for each in batch.objects] == objects
        for batch in batches[:-1]:
            assert len(batch.objects) >= 1_000 or batch.size_bytes >= 256 << 20
            assert len(batch.objects) <= 2_000
    before = {batch.name for batch in cut(small)}
    after = {batch.name for batch in cut([OriginObject("!", 1, "t"), *small])}
    assert len(after - before) < len(before) / 2


def test_a_scheduler_that_is_lost_and_one_that_never_was(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_engine, "SCHEDULER_TIMEOUT_S", 1.0)
    ran = bucket.dv(
        "import", bucket.url, "far", "--engine", "dask", "--engine-address", "tcp://127.0.0.1:1",
        code=7,
    )  # fmt: skip
    assert "the Dask cluster at tcp://127.0.0.1:1 does not answer" in ran.err
    ran = bucket.dv(
        "import", bucket.url, "far", "--engine", "dask", "--engine-address", "nowhere", code=2
    )
    assert "nowhere is not an address of a Dask scheduler" in ran.err
    ran = bucket.dv("import", bucket.url, "far", "--engine-address", "tcp://127.0.0.1:1", code=2)
    assert "the address of which engine?" in ran.err
    with dask_cluster(tmp_path, AWS_ENV) as own:
        stop = threading.Event()
        watch = threading.Thread(
            target=when, args=(2, remote_of(bucket), own.kill_scheduler, stop.is_set)
        )
        watch.start()
        ran = bucket.dv("import", bucket.url, "far", *own.options, code=7)
        stop.set()
        watch.join()
    assert "does not answer any more" in ran.err
    assert "goes on where this one ended" in ran.err
    assert not (bucket.work.root / "far.dv.json").exists()
