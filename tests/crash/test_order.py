"""In which order commands write: whatever is referred to is on the disk before what refers to it.

Read from the trace of an uninterrupted run. `test_faults` plays the power cut itself; here the
rules that docs/design.md gives under "Order of writing" are held one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.crash.scenarios import BY_NAME
from tests.crash.world import Point, World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fault points are found by /proc")

DURABLE = ("/.git/dv/packs/", "/.git/dv/shards/", "/.git/dv/saved/", "/live/remote/", ".dv.json")
"""What must be on the disk before its name is; files of the workspace can be written again."""
RECORD_OF_BASES = "/.git/dv/base/"
"""A record that is lost is no error: see decision 022."""


def trace(folder: Path, name: str) -> list[Point]:
    scenario = BY_NAME[name]
    world = World(folder / f"order-{name}")
    scenario.prepare(world)
    world.save()
    run = world.run(scenario.command, point=0)
    assert run.code == 0, run.err
    return world.trace()


def of_kind(points: Sequence[Point], kind: str) -> list[Point]:
    return [p for p in points if p.kind == kind and RECORD_OF_BASES not in p.path]


def first(points: Sequence[Point], kind: str, holds: str) -> int:
    """Return when this was first done to a path that holds the text; "$" is the end of a path."""
    return next(p.number for p in of_kind(points, kind) if holds in f"{p.path}$")


def last(points: Sequence[Point], kind: str, holds: str) -> int:
    return max(p.number for p in of_kind(points, kind) if holds in f"{p.path}$")


def following(points: Sequence[Point], at: int, kind: str, holds: str) -> int:
    """The first such point after the one of this number."""
    return min(p.number for p in points if p.kind == kind and holds in p.path and p.number > at)


def flushed(points: Sequence[Point], path: str, *, after: int, before: int) -> bool:
    return any(p.kind == "fsync" and p.path == path and after < p.number < before for p in points)


@pytest.mark.parametrize(
    "name",
    [
        "add-first",
        "add-sharded",
        "checkout-force",
        "push",
        "push-again",
        "fetch",
        "drop-part",
        "mv",
    ],
)
def test_a_file_is_flushed_before_it_takes_its_name_and_its_folder_after(
    fast_folder: Path, name: str
) -> None:
    points = trace(fast_folder, name)
    renames = [p for p in points if p.kind in ("rename", "link") and p.source]
    durable = [
        p
        for p in renames
        if any(part in p.path for part in DURABLE) and RECORD_OF_BASES not in p.path
    ]
    assert durable
    for point in durable:
        written = [p.number for p in points if p.kind == "write" and p.path == point.source]
        assert flushed(points, point.source, after=max(written, default=0), before=point.number), (
            f"{point.path} takes its name unflushed"
        )
        folder = point.path.rpartition("/")[0]
        assert flushed(points, folder, after=point.number, before=len(points) + 1), (
            f"the name of {point.path} is never flushed"
        )


def moved_away(points: Sequence[Point], path: str) -> int:
    """Return when what has this path was moved aside, to be looked at and removed."""
    return max(p.number for p in points if p.kind == "rename" and p.source.endswith(path))


Rule = Callable[[Sequence[Point]], tuple[int, int]]

ORDERS: dict[str, tuple[str, Rule]] = {
    "packs before store.db": (
        "add-first",
        lambda t: (last(t, "fsync", "/dv/packs"), last(t, "commit", "store.db")),
    ),
    "store.db before the manifest": (
        "add-first",
        lambda t: (last(t, "commit", "store.db"), first(t, "rename", "data.dv.json")),
    ),
    "shards before the manifest": (
        "add-sharded",
        lambda t: (last(t, "fsync", "/dv/shards"), first(t, "rename", "data.dv.json")),
    ),
    "the manifest before git's index": (
        "add-first",
        lambda t: (first(t, "rename", "data.dv.json"), first(t, "spawn", "git ")),
    ),
    "the manifest before the statcache": (
        "add-again",
        lambda t: (first(t, "rename", "data.dv.json"), last(t, "commit", "statcache.db")),
    ),
    "what is replaced is saved before": (
        "checkout-force",
        lambda t: (last(t, "fsync", "/dv/saved"), first(t, "rename", "/work/data/")),
    ),
    "the store knows it before it is replaced": (
        "checkout-force",
        lambda t: (last(t, "commit", "store.db"), first(t, "rename", "/work/data/")),
    ),
    "the files before the manifest of a revision": (
        "checkout-rev",
        lambda t: (last(t, "rename", "/work/data/"), first(t, "spawn", " checkout ")),
    ),
    "packs before shards on the remote": (
        "push",
        lambda t: (last(t, "fsync", "/remote/packs"), first(t, "create", "/remote/shards")),
    ),
    "shards before roots on the remote": (
        "push",
        lambda t: (last(t, "fsync", "/remote/shards"), first(t, "create", "/remote/roots")),
    ),
    "fetched packs before files": (
        "pull",
        # What a remote can do is remembered at the end of all.
        lambda t: (
            following(t, last(t, "rename", "/dv/packs/"), "commit", "store.db"),
            first(t, "link", "/work/data/"),
        ),
    ),
    "the statcache forgets before a file is dropped": (
        "drop",
        lambda t: (first(t, "commit", "statcache.db"), first(t, "unlink", "/work/data/")),
    ),
    "what stays of a pack before the pack goes": (
        "drop-part",
        lambda t: (last(t, "commit", "store.db"), last(t, "unlink", "/dv/packs/")),
    ),
    "the new manifest before the data moves": (
        "mv",
        lambda t: (first(t, "rename", "here.dv.json"), first(t, "rename", "/moved/here$")),
    ),
    "git's index before the old manifest goes": (
        "mv",
        lambda t: (last(t, "spawn", "git "), moved_away(t, "/work/data.dv.json")),
    ),
    "the files before the manifest that names them": (
        "rm-data",
        lambda t: (last(t, "unlink", "/work/data/"), moved_away(t, "/work/data.dv.json")),
    ),
    "the files before git is told of a settled conflict": (
        "resolve",
        lambda t: (last(t, "rename", "/work/data/"), last(t, "spawn", "git ")),
    ),
}


@pytest.mark.parametrize("what", ORDERS)
def test_what_is_referred_to_comes_first(fast_folder: Path, what: str) -> None:
    name, rule = ORDERS[what]
    former, latter = rule(trace(fast_folder / str(list(ORDERS).index(what)), name))
    assert former < latter
