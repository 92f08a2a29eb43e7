"""Imports on a cluster whose driver, or one of whose workers, is killed: is anything lost or left?

Each import is in a repository of its own, with a folder as its remote. It must end with the
manifest of one machine, and a gc must leave on the remote exactly what the roots need: that is
worked out here from the objects, not asked of dv.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dvtool.format.locations import decode_object
from dvtool.remotes.objects import decode_root
from dvtool.system.atomic import TEMP_PREFIX

OBJECTS, LARGE, BATCH_OBJECTS = 2_000, 4, 60
"""Batches are made small, so that a moment falls into any of them."""
MARK = "DV_KILLS_CLUSTER"
WAIT_S = 300.0
DRIVER = f"""
import sys
from dvtool import cli
from dvtool.jobs import take_to_remote
take_to_remote.FAR_OBJECTS_MIN = {BATCH_OBJECTS}
sys.exit(cli.run_command(sys.argv[1:]))
"""
RAY_HEAD = """
import ray, sys
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


class Target(NamedTuple):
    """A running cluster: its engine, address, and how one of its workers is killed."""

    engine: str
    address: str
    kill_worker: Callable[[], bool]


@dataclass
class Tally:
    """What became of the imports."""

    imports: int = 0
    killed: int = 0
    read_again: list[int] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """A repository, and the folder that is its remote."""

    folder: Path
    name: str
    url: str
    endpoint: str

    @property
    def work(self) -> Path:
        return self.folder / f"work-{self.name}"

    @property
    def remote(self) -> Path:
        return self.folder / f"remote-{self.name}"

    def begin(self, *args: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-c", DRIVER, *args]
        return subprocess.Popen(
            command, cwd=self.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def dv(self, *args: str) -> Any:
        process = self.begin(*args)
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"dv {' '.join(args)}: exit {process.returncode}\n{err.decode()}")
        return json.loads(out) if "--json" in args else out

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.work, check=True, stdout=subprocess.DEVNULL)

    def make(self) -> None:
        self.work.mkdir()
        self.git("init", "-q")
        self.dv("init", "--no-hooks")
        self.dv("remote", "add", "origin", str(self.remote))

    def importing(self, cluster: Target | None) -> list[str]:
        args = ["import", self.url, "data", "--endpoint-url", self.endpoint, "--json"]
        if cluster is None:
            return [*args, "--no-checkout"]
        return [*args, "--engine", cluster.engine, "--engine-address", cluster.address]

    def manifest(self) -> bytes:
        return (self.work / "data.dv.json").read_bytes()

    def files(self) -> set[str]:
        """Everything on the remote, unfinished files included."""
        return {
            str(path.relative_to(self.remote)) for path in self.remote.rglob("*") if path.is_file()
        }

    def needed(self) -> set[str]:
        """The packs and shard objects that the roots on the remote lead to."""
        needed = set()
        for path in (self.remote / "roots").rglob("*.json"):
            for manifest in decode_root(path.read_bytes(), path.name).manifests:
                for shard in manifest.shards:
                    key = f"shards/{shard[:2]}/{shard}"
                    _, places = decode_object(
                        (self.remote / key).read_bytes(), bytes.fromhex(shard), key
                    )
                    needed.add(key)
                    names = {
                        chunk.pack.digest.hex()
                        for chunks in places.locations.values()
                        for chunk in chunks
                    }
                    needed |= {f"packs/{name[:2]}/{name}" for name in names}
        return needed

    def check(self, expected: bytes, tally: Tally) -> str:
        """Note what is wrong with the import, or is left; return a line about it."""
        faults = [] if self.manifest() == expected else ["another manifest"]
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "imported")
        self.dv("push")
        loose = {key for key in self.files() if key.startswith(("packs/", "shards/"))}
        loose -= self.needed()
        for key in self.files():
            if TEMP_PREFIX in key:  # a gc removes unfinished files once nobody can be at them
                os.utime(self.remote / key, (0, 0))
        self.dv("fsck", "--remote", "--deep")
        for _ in range(2):  # the first buries, the second removes
            self.dv("gc", "--remote", "--grace", "0m")
        self.dv("fsck", "--remote", "--deep")
        after = self.files()
        data = {key for key in after if key.startswith(("packs/", "shards/"))}
        if data != self.needed():
            faults.append(f"gc leaves {sorted(data ^ self.needed())}")
        others = {key for key in after - data if not key.startswith("roots/")}
        if others != {"dv.json"}:
            faults.append(f"there are {sorted(others - {'dv.json'})} after gc")
        tally.loose.append(len(loose))
        tally.faults += [f"{self.name}: {fault}" for fault in faults]
        return f"{len(loose)} loose before gc; {', '.join(faults) or 'sound'}"


def _at_moment(place: Place, moment: float, act: Callable[[], bool], over: threading.Event) -> None:
    """Act as soon as `moment` objects are on the remote, its fraction in tenths of a second later.

    It is tried again until it could be done, or the import is over.
    """
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not over.is_set():
        if place.remote.is_dir() and len(place.files()) >= int(moment):
            time.sleep(moment % 1 / 10)
            while not over.is_set() and not act():
                time.sleep(0.002)
            return
        time.sleep(0.002)


def _import_killed(place: Place, cluster: Target, tally: Tally, *, who: str, moment: float) -> str:
    """Import, killing a worker or the driver at a moment; import again where it was the driver."""
    over, driver = threading.Event(), place.begin(*place.importing(cluster))

    def kill_driver() -> bool:
        driver.kill()
        return True

    act = kill_driver if who == "driver" else cluster.kill_worker
    watch = threading.Thread(target=_at_moment, args=(place, moment, act, over))
    watch.start()
    out, err = driver.communicate()
    over.set()
    watch.join()
    killed = driver.returncode == -signal.SIGKILL
    if driver.returncode and not killed:
        tally.faults.append(f"{place.name}: exit {driver.returncode}: {err.decode()}")
        return "failed"
    done = place.dv(*place.importing(cluster)) if killed else json.loads(out)
    tally.imports += 1
    tally.killed += killed or who == "worker"
    if killed:
        tally.read_again.append(done["read"])
    return f"the second reads {done['read']:,}; " if killed else ""


def run_kills(engine: str, moments: int) -> None:
    """Import ~2,000 objects again and again, the driver and a worker killed at each moment."""
    from tests.s3.servers import AWS_ENV, rclone_server

    os.environ.update(AWS_ENV)
    opener = {"dask": _dask, "ray": _ray}[engine]
    with tempfile.TemporaryDirectory(prefix="dv-kills-") as name:
        folder = Path(name)
        with rclone_server(folder) as server, opener(folder) as cluster:
            bucket = server.new_bucket()
            _write_objects(folder / "data" / bucket / "src")
            where = f"s3://{bucket}/src", server.endpoint_url
            alone = Place(folder, "alone", *where)
            alone.make()
            alone.dv(*alone.importing(None))
            whole = Place(folder, "whole", *where)
            whole.make()
            whole.dv(*whole.importing(cluster))
            count = len(whole.files())
            print(f"{engine}: {OBJECTS + LARGE:,} objects; not killed: {count} objects on the "
                  f"remote; {whole.check(alone.manifest(), Tally())}", flush=True)  # fmt: skip
            for who in ("worker", "driver"):
                tally = Tally()
                for number in range(moments):
                    moment = 1 + number * (count - 0.5) / max(moments - 1, 1)
                    place = Place(folder, f"{who}-{number}", *where)
                    place.make()
                    said = _import_killed(place, cluster, tally, who=who, moment=moment)
                    if said != "failed":
                        said += place.check(alone.manifest(), tally)
                    print(f"  {who} at {moment:5.2f} objects: {said}", flush=True)
                _say(engine, who, tally)


def _say(engine: str, who: str, tally: Tally) -> None:
    again = f"; read again {tally.read_again}" if tally.read_again else ""
    print(f"{engine}: {who} killed in {tally.killed} of {tally.imports} imports: "
          f"{sum(tally.loose)} loose objects, all found by gc{again}; "
          f"{len(tally.faults)} faults", flush=True)  # fmt: skip
    for fault in tally.faults:
        print(f"  FAULT {fault}")


def _write_objects(folder: Path) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(17)
    for number in range(OBJECTS):
        (folder / f"{number:05}").write_bytes(chance.randbytes(chance.randrange(200, 20_000)))
    for number in range(LARGE):
        (folder / f"{number * 500:05}-large").write_bytes(chance.randbytes(9 << 20))


@contextlib.contextmanager
def _dask(folder: Path) -> Iterator[Target]:
    from tests.cluster.clusters import dask_cluster

    with dask_cluster(folder, {}) as cluster:

        def kill_worker() -> bool:
            cluster.kill_worker()
            return True

        yield Target("dask", cluster.address, kill_worker)


@contextlib.contextmanager
def _ray(folder: Path) -> Iterator[Target]:
    mark = folder.name
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {**os.environ, MARK: mark, "RAY_TMPDIR": "/tmp", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RAY_HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        text=True,
    ) as head:
        assert head.stdout is not None
        address = head.stdout.readline().strip()
        if not address:
            raise RuntimeError("Ray did not begin")
        yield Target("ray", address, lambda: _kill_ray_worker(mark))
        assert head.stdin is not None
        head.stdin.close()


def _kill_ray_worker(mark: str) -> bool:
    """Kill a worker of our own cluster that works on a batch now; False if none does."""
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                working = b"run_batch" in (place / "cmdline").read_bytes()
                if working and f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
                    return True
    return False
