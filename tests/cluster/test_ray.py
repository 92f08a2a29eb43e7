"""import by the workers of a Ray cluster; skipped where Ray is not installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.cluster.conftest import OBJECTS
from tests.s3.test_import import Bucket

if importlib.util.find_spec("ray") is None:  # dv imports it itself, in its own way
    pytest.skip("Ray is not installed: pip install 'dvtool[ray]'", allow_module_level=True)
WAIT_S = 120.0
MARK = "DV_TEST_RAY_OF"


def kill_a_worker(mark: str, over: threading.Event) -> None:
    """Kill a worker of the cluster of this process that works on a batch, once there is one."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not over.is_set():
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                named = b"run_batch" in (place / "cmdline").read_bytes()
                if named and f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
                    return
        time.sleep(0.005)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds workers in /proc")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_imports_what_one_machine_would_also_without_one_of_its_workers(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(MARK, tmp_path.name)
    # Workers need the packages of this Python, and Ray's own files need a short path.
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    bucket.dv("import", bucket.url, "here", "--no-checkout")
    over = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path.name, over))
    killer.start()
    try:
        done = bucket.dv("import", bucket.url, "far", "--engine", "ray", "--json").json
    finally:
        over.set()
        killer.join()
    assert done["read"] == len(OBJECTS)
    assert bucket.work.read("far.dv.json") == bucket.work.read("here.dv.json")
    bucket.work.commit("imported")
    bucket.work.dv("fsck", "--remote", "--deep")
    address = ("--engine", "ray", "--engine-address", "127.0.0.1:1")
    refused = bucket.dv("import", bucket.url, "far", *address, code=7)
    assert "the Ray cluster at 127.0.0.1:1 does not answer" in refused.err
