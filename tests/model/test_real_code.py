"""The real push and gc, request by request: in the modelled order, and interleaved and killed.

All schedules of two processes with up to `SWITCHES_MAX` changes from one to the other are run:
each is let go on for any number of requests, then the other, and so on. The searches in
`test_protocol.py` take all schedules of the same steps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvtool.format.manifest import manifest_digest
from dvtool.remotes import repack as moving, survey, tombstones
from dvtool.remotes.pack_ranges import read_range
from dvtool.remotes.remote import RemoteStore
from dvtool.repo import Repo
from dvtool.system import parallel
from dvtool.verbs.gc.remote import collect_remote
from dvtool.verbs.push.plan import ManifestToPush
from dvtool.verbs.push.upload import upload
from tests.model.scheduler import Memory, Schedule, Turns
from tests.scenario import Clone, noise

SWITCHES_MAX = int(os.environ.get("DVTOOL_TEST_SWITCHES", "1"))
REPO_ID = "0123456789abcdef" * 2
OTHER_ID = "fedcba9876543210" * 2


@dataclass(frozen=True)
class Place:
    """A clone whose target `data` is committed, kept to be copied for each schedule."""

    path: Path
    manifest: str


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the order of a process's own requests fixed, and its waiting short."""
    defaults = {**(parallel.run_bounded.__kwdefaults__ or {}), "workers": 1}
    monkeypatch.setattr(parallel.run_bounded, "__kwdefaults__", defaults)
    monkeypatch.setattr(tombstones, "WAIT_S", 3e-6)
    monkeypatch.setattr(tombstones, "WAIT_STEP_S", 1e-6)


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Place]:
    def make(name: str, *seeds: int) -> Place:
        clone = Clone.new(tmp_path / name)
        with clone.repo() as repo:
            repo.config.init()
        for seed in seeds:
            clone.write(f"data/{seed}.bin", noise(5_000, seed))
        clone.add("data")
        clone.commit("data")
        with clone.repo() as repo:
            digest = manifest_digest(repo._project.manifest("data"))
        return Place(clone.path, digest.hex())

    return make


def push(backend: object, path: Path, repo_id: str = REPO_ID) -> str:
    with Repo.open(str(path)) as repo:
        wanted = [ManifestToPush("data", repo._project.manifest("data"))]
        upload(repo._project, RemoteStore(backend), repo_id, wanted)  # type: ignore[arg-type]
    return "done"


def collect(backend: object, scratch: Path) -> str:
    """Run a gc without any grace."""
    scratch.mkdir(exist_ok=True)
    collect_remote(
        RemoteStore(backend),  # type: ignore[arg-type]
        repo=REPO_ID,
        grace_s=0,
        here=moving.GcSide(lambda: str(scratch / os.urandom(8).hex())),
    )
    return "done"


def restorable(memory: Memory) -> set[str]:
    """Return the manifests that can be restored; fail if a root names one that cannot."""
    remote = RemoteStore(memory)
    there = survey.survey(remote, ())  # which fails if anything that roots need is missing
    shards = [remote.read_shard(bytes.fromhex(name)) for name in there.shards]
    packs = {pack.digest for shard in shards for pack in shard.packs()}
    for one in moving.ranges_of(moving.MovingContent.of(shards, packs).places):
        read_range(remote, one)  # checks every chunk by its name
    return {name for root in there.roots.values() for name in root.manifests}


def schedules(
    count: Callable[[str], int], names: tuple[str, str], switches_max: int
) -> Iterator[list[tuple[str, int]]]:
    """Yield runs of (process, requests); the last ones of each process are not counted."""
    for first, second in (names, names[::-1]):
        for one in range(1, count(first) + 1):
            yield [(first, one)]
            for two in range(1, count(second) + 1) if switches_max > 1 else ():
                yield [(first, one), (second, two)]
                for three in range(1, count(first) - one + 1) if switches_max > 2 else ():
                    yield [(first, one), (second, two), (first, three)]


Processes = Mapping[str, Callable[[Turns, Path], str]]


def play(
    memory: Memory,
    processes: Processes,
    runs: list[tuple[str, int]],
    scratch: Path,
    *,
    kill: str | None = None,
) -> Schedule:
    """Run a schedule to its end; with `kill`, that process goes no further than the runs."""
    schedule = Schedule(Memory(memory.objects))
    for name, work in processes.items():
        schedule.start(name, lambda turns, name=name, work=work: work(turns, scratch / name))
    for name, requests in runs:
        for _ in range(requests):
            if not schedule.ended(name):
                schedule.grant(name)
    if kill is not None and not schedule.ended(kill):
        schedule.kill(kill)
    last = runs[-1][0]
    schedule.finish([name for name in processes if name != last] + [last])
    for thread in schedule.threads:
        thread.join()
    return schedule


def copying(place: Place, work: Callable[[Turns, Path], str]) -> Callable[[Turns, Path], str]:
    def run(turns: Turns, scratch: Path) -> str:
        copy = scratch / "clone"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place.path, copy, symlinks=True)
        return work(turns, copy)

    return run


def garbage(place: Place) -> Memory:
    """Return what a push leaves that was killed before its root, buried and due."""
    memory = Memory()
    schedule = Schedule(memory)
    schedule.start("push", lambda turns: push(turns, place.path))
    while not schedule.ended("push"):
        if any(key.startswith("shards/") for key in memory.objects):
            schedule.kill("push")
        else:
            schedule.grant("push")
    for key in [key for key in memory.objects if key.startswith("gc/claims/")]:
        del memory.objects[key]
    return memory


def buried(memory: Memory, scratch: Path) -> Memory:
    collect(memory, scratch)
    assert any(key.startswith("gc/tombstones/") for key in memory.objects)
    return memory


def explore(
    memory: Memory,
    processes: Processes,
    scratch: Path,
    check: Callable[[Schedule], None],
) -> int:
    """Run every schedule, and every one with each process killed at each request; count them."""
    alone = {
        name: len([1 for who, _, _ in play(memory, processes, [(name, 10_000)], scratch).record
                   if who == name])
        for name in processes
    }  # fmt: skip
    first, second = processes
    done = 0
    for runs in schedules(alone.__getitem__, (first, second), SWITCHES_MAX):
        check(play(memory, processes, runs, scratch))
        done += 1
    for name in processes:
        for requests in range(alone[name]):
            check(play(memory, processes, [(name, requests)], scratch, kill=name))
            done += 1
    return done


def test_push_of_what_is_being_swept(place: Callable[..., Place], tmp_path: Path) -> None:
    mine = place("mine", 1)
    memory = buried(garbage(mine), tmp_path / "scratch")
    processes: Processes = {"push": copying(mine, push), "gc": collect}
    ended: dict[str, int] = {}

    def check(schedule: Schedule) -> None:
        result = schedule.results["push"]
        ended[result.partition(":")[0]] = ended.get(result.partition(":")[0], 0) + 1
        whole = restorable(schedule.memory)
        if result == "done":
            assert mine.manifest in whole
        elif result == "killed":
            push(schedule.memory, mine.path)
            assert mine.manifest in restorable(schedule.memory)
        else:
            assert result.startswith(("BusyError", "RemoteError")), result

    count = explore(memory, processes, tmp_path, check)
    print(f"{count:,} schedules of the real push and gc: {ended}")
    assert ended["done"] > count / 2


def test_the_slow_push_and_the_gc_without_grace(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    """Its packs are buried and swept, repeatedly, before it has written its root."""
    mine, theirs = place("mine", 1, 2), place("theirs", 3)
    memory = Memory()
    push(memory, theirs.path, OTHER_ID)

    def twice(turns: Turns, scratch: Path) -> str:
        collect(turns, scratch)
        return collect(turns, scratch)

    processes: Processes = {"push": copying(mine, push), "gc": twice}

    def check(schedule: Schedule) -> None:
        whole = restorable(schedule.memory)
        assert theirs.manifest in whole
        if schedule.results["push"] == "done":
            assert mine.manifest in whole

    count = explore(memory, processes, tmp_path, check)
    print(f"{count:,} schedules of the real push and two gcs")


def test_content_is_moved_during_a_push(place: Callable[..., Place], tmp_path: Path) -> None:
    """Many small packs are merged while another repository pushes the same content."""
    memory = Memory()
    many = [place(f"r{number}", number, number + 100) for number in range(10)]
    for number, one in enumerate(many):
        push(memory, one.path, f"{number:032x}")
    mine = place("mine", 3, 103)
    before = restorable(memory)
    processes: Processes = {"push": copying(mine, push), "gc": collect}

    def check(schedule: Schedule) -> None:
        assert before <= restorable(schedule.memory)

    count = 0
    for requests in range(0, 60, 3):
        for more in (1, 4, 12):
            runs = [("gc", requests), ("push", more), ("gc", 5)]
            check(play(memory, processes, runs, tmp_path))
            count += 1
    print(f"{count:,} schedules of the real push and moving gc")


def test_two_gcs_at_once(place: Callable[..., Place], tmp_path: Path) -> None:
    mine, kept = place("mine", 1), place("kept", 2)
    memory = garbage(mine)
    push(memory, kept.path)
    memory = buried(memory, tmp_path / "scratch")
    processes: Processes = {"gc": collect, "gc2": collect}

    def check(schedule: Schedule) -> None:
        assert kept.manifest in restorable(schedule.memory)

    explore(memory, processes, tmp_path, check)


# --- the same steps as the model ------------------------------------------------------------


def kinds(schedule: Schedule, name: str) -> list[str]:
    """Return what a process asked for, in short, repetitions left out."""
    found: list[str] = []
    for who, kind, key in schedule.record:
        top = "/".join(key.split("/")[:2]) if key.startswith("gc/") else key.partition("/")[0]
        one = f"{kind} {top}"
        if who == name and (not found or found[-1] != one):
            found.append(one)
    return found


def test_a_push_makes_the_requests_of_the_model(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    mine = place("mine", *range(3))
    memory = Memory()
    push(memory, place("first", 50).path)
    processes: Processes = {"push": copying(mine, push)}
    made = kinds(play(memory, processes, [("push", 0)], tmp_path), "push")
    order = [one for one in made if one.startswith(("put", "delete")) or one == "list gc/"]
    assert order == [
        "list gc/",  # which roots are going
        "put packs",
        "put gc/claims",
        "list gc/",  # what is being swept
        "put shards",
        "put roots",
        "delete gc/claims",
    ]
    # What it relies on is seen to be there between the claim and the first shard.
    between = made[made.index("put gc/claims") : made.index("put shards")]
    assert between[2:] in (["head packs"], ["list "])


def test_a_sweep_makes_the_requests_of_the_model(
    place: Callable[..., Place], tmp_path: Path
) -> None:
    mine, kept = place("mine", 1), place("kept", 2)
    memory = garbage(mine)
    push(memory, kept.path)
    memory = buried(memory, tmp_path / "scratch")
    RemoteStore(memory)
    tombstones.Tombstones(RemoteStore(memory)).claim(shards=["00" * 32], packs=[])
    made = kinds(play(memory, {"gc": collect}, [("gc", 0)], tmp_path), "gc")
    start, end = made.index("put gc/sweeps"), made.index("delete gc/tombstones")
    assert made[start : end + 1] == [
        "put gc/sweeps",
        "list gc/",
        "get gc/claims",
        "list roots",
        "get roots",
        "get shards",
        "list packs",
        "list shards",
        "delete shards",
        "delete packs",
        "delete gc/sweeps",
        "list gc/",
        "delete gc/tombstones",
    ]
