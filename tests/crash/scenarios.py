"""The commands that are stopped at each of their fault points, and what they find when they start.

To add one, write what prepares it and put a `Scenario` into `SCENARIOS`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.crash.world import World
from tests.scenario import Clone, noise

Command = tuple[str, ...]
KIB = 1 << 10
SHARDED_FILES = 1_050
"""Above the 1,000 entries that stand in a manifest itself."""


@dataclass(frozen=True)
class Scenario:
    """A command in a prepared repository.

    `again` are the commands that finish what an interrupted run left, the command itself if there
    are none; each may end with one of the exit codes `fine`, as when there is nothing left to do.
    `by_git` says that git runs dv, as a hook or driver: then dv alone dies, and git goes on.
    """

    name: str
    prepare: Callable[[World], None]
    command: Command
    again: tuple[Command, ...] = ()
    fine: tuple[int, ...] = (0,)
    by_git: bool = False
    s3: bool = False
    slow: bool = False
    """Many points or much data: the sample takes fewer."""


def _data(clone: Clone) -> None:
    clone.write("data/a.txt", b"content of a")
    clone.write("data/sub/c.txt", b"content of c")
    clone.write("data/big", noise(150 * KIB, 1))
    clone.write("data/run.sh", b"#!/bin/sh\n", executable=True)
    clone.link("data/link", "a.txt")
    (clone.path / "data/empty").mkdir()


def _change(clone: Clone) -> None:
    clone.write("data/a.txt", b"a, changed")
    clone.write("data/big", noise(150 * KIB, 1)[: 70 * KIB] + b"new" + noise(80 * KIB, 2))
    clone.remove("data/sub/c.txt")
    clone.write("data/new/d.txt", b"content of d")


def new_repository(world: World) -> None:
    _data(world.new())


def only_git(world: World) -> None:
    clone = Clone.new(world.work)
    clone.write("code.py", b"pass")
    clone.git("add", "code.py")
    clone.commit("code")


def committed(world: World) -> Clone:
    clone = world.new()
    _data(clone)
    clone.add("data")
    clone.commit("one")
    return clone


def changed(world: World) -> None:
    _change(committed(world))


def two_commits(world: World) -> Clone:
    clone = committed(world)
    _change(clone)
    clone.add("data")
    clone.commit("two")
    return clone


def pushed(world: World) -> Clone:
    clone = two_commits(world)
    with clone.repo() as repo:
        repo.push()
    return clone


def files_gone(world: World) -> None:
    clone = two_commits(world)
    clone.remove("data/big")
    clone.remove("data/new")
    clone.write("data/a.txt", b"content of a")


def unsaved(world: World) -> None:
    clone = two_commits(world)
    clone.write("data/a.txt", b"in no commit")
    clone.write("data/big", noise(100 * KIB, 9))


def pushed_once(world: World) -> None:
    clone = committed(world)
    with clone.repo() as repo:
        repo.push()
    _change(clone)
    clone.add("data")
    clone.commit("two")


def fresh_clone(world: World) -> None:
    origin = pushed(world)
    origin.path.rename(world.live / "origin")
    world.clone(Clone(world.live / "origin"), "work")


def in_git(world: World) -> None:
    clone = committed(world)
    clone.write("table/x.csv", b"1,2\n")
    clone.git("add", "table")
    clone.commit("by mistake")


def sharded(world: World) -> Clone:
    clone = world.new()
    for number in range(SHARDED_FILES):
        clone.write(f"data/{number:05}", b"%d" % number)
    clone.add("data")
    clone.commit("one")
    return clone


def sharded_changed(world: World) -> None:
    sharded(world).write("data/00500", b"changed")


def sharded_two(world: World) -> Clone:
    clone = sharded(world)
    clone.write("data/00500", b"changed")
    clone.remove("data/00900")
    clone.add("data")
    clone.commit("two")
    return clone


def sharded_pushed(world: World) -> None:
    with sharded_two(world).repo() as repo:
        repo.push()


def for_workers(world: World) -> None:
    clone = world.new()
    for number in range(2):
        clone.write(f"data/{number}", noise(17 << 20, number))


def forked(world: World) -> Clone:
    """Leave main and side, which changed different files and one file differently."""
    clone = committed(world)
    clone.git("branch", "side")
    clone.write("data/a.txt", b"ours")
    clone.write("data/ours", b"only ours")
    clone.add("data")
    clone.commit("ours")
    clone.git("checkout", "-q", "side")
    with clone.repo() as repo:
        repo.checkout()
    clone.write("data/a.txt", b"theirs")
    clone.write("data/theirs", b"only theirs")
    clone.add("data")
    clone.commit("theirs")
    clone.git("checkout", "-q", "main")
    with clone.repo() as repo:
        repo.checkout()
    return clone


def conflicted(world: World) -> None:
    clone = forked(world)
    subprocess.run(["git", "merge", "-q", "side"], cwd=clone.path, capture_output=True)


def with_hooks(clone: Clone) -> None:
    with clone.repo() as repo:
        repo.automation.install()
    clone.git("add", ".gitattributes")
    clone.git("commit", "-q", "--no-verify", "--message", "hooks", "--", ".gitattributes")


def driven_merge(world: World) -> None:
    clone = forked(world)
    with_hooks(clone)


def hooked_commit(world: World) -> None:
    clone = committed(world)
    with_hooks(clone)
    _change(clone)
    clone.add("data")


def hooked_switch(world: World) -> None:
    with_hooks(forked(world))


def hooked_push(world: World) -> None:
    clone = two_commits(world)
    clone.git("init", "-q", "--bare", "--template=", str(world.live / "hub.git"))
    clone.git("remote", "add", "hub", str(world.live / "hub.git"))
    with_hooks(clone)


def index_lost(world: World) -> None:
    clone = two_commits(world)
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (clone.path / ".git/dv" / name).unlink(missing_ok=True)
    clone.remove("data/big")


SCENARIOS = (
    Scenario("init", only_git, ("dv", "init", "--remote", "../remote")),
    Scenario("add-first", new_repository, ("dv", "add", "data")),
    Scenario("add-again", changed, ("dv", "add", "data")),
    Scenario("add-part", changed, ("dv", "add", "data/big", "data/new")),
    Scenario("add-untrack", in_git, ("dv", "add", "--untrack", "table")),
    Scenario("add-sharded", sharded_changed, ("dv", "add", "data"), slow=True),
    Scenario("add-workers", for_workers, ("dv", "add", "-j", "2", "data"), slow=True),
    Scenario("add-index-lost", index_lost, ("dv", "add", "data")),
    Scenario("checkout", files_gone, ("dv", "checkout")),
    Scenario("checkout-rev", two_commits, ("dv", "checkout", "HEAD~1")),
    Scenario("checkout-part", two_commits, ("dv", "checkout", "HEAD~1", "--", "data/sub")),
    Scenario("checkout-force", unsaved, ("dv", "checkout", "--force", "HEAD~1")),
    Scenario("checkout-sharded", sharded_two, ("dv", "checkout", "HEAD~1"), slow=True),
    Scenario("push", two_commits, ("dv", "push")),
    Scenario("push-again", pushed_once, ("dv", "push")),
    Scenario("push-sharded", sharded_two, ("dv", "push"), slow=True),
    Scenario("push-s3", pushed_once, ("dv", "push"), s3=True, slow=True),
    Scenario("fetch", fresh_clone, ("dv", "fetch")),
    Scenario("pull", fresh_clone, ("dv", "pull")),
    Scenario("pull-part", fresh_clone, ("dv", "pull", "data/a.txt", "data/new")),
    Scenario("pull-s3", fresh_clone, ("dv", "pull"), s3=True, slow=True),
    Scenario("drop", pushed, ("dv", "drop", "data")),
    Scenario("drop-part", pushed, ("dv", "drop", "data/big")),
    Scenario("drop-store", pushed, ("dv", "drop", "--store", "data")),
    Scenario("mv", two_commits, ("dv", "mv", "data", "moved/here"), fine=(0, 2)),
    Scenario("mv-part", two_commits, ("dv", "mv", "data/new", "data/old"), fine=(0, 2)),
    Scenario("rm", two_commits, ("dv", "rm", "data"), fine=(0, 2)),
    Scenario("rm-data", two_commits, ("dv", "rm", "--data", "data"), fine=(0, 2)),
    Scenario("rm-force", unsaved, ("dv", "rm", "--data", "--force", "data"), fine=(0, 2)),
    Scenario("rm-part", two_commits, ("dv", "rm", "--data", "data/new"), fine=(0, 2)),
    Scenario("resolve", conflicted, ("dv", "resolve", "--theirs")),
    Scenario("resolve-both", conflicted, ("dv", "resolve", "--both")),
    Scenario("hooks-install", committed, ("dv", "hooks", "install")),
    Scenario("hook-commit", hooked_commit, ("git", "commit", "-qm", "x"), fine=(0, 1), by_git=True),
    Scenario(
        "hook-switch",
        hooked_switch,
        ("git", "switch", "-q", "side"),
        again=(("git", "switch", "-q", "side"), ("dv", "checkout")),
        by_git=True,
    ),
    Scenario(
        "hook-push",
        hooked_push,
        ("git", "push", "-q", "hub", "main"),
        by_git=True,
    ),
    Scenario(
        "driver-merge",
        driven_merge,
        ("git", "merge", "-q", "side"),
        again=(("dv", "resolve", "--theirs"),),
        fine=(0, 1, 2),
        by_git=True,
    ),
)
BY_NAME = {one.name: one for one in SCENARIOS}
