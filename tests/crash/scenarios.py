"""The commands that are stopped at each of their fault points, and what they find when they start.

To add one, write what prepares it and put a `Scenario` into `SCENARIOS`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dvtool.remotes.transports.base import Backend
from dvtool.store.freeing import rewrite_packs
from dvtool.store.lock import drop_lock
from tests.crash.world import BACKUP, INJECT, World
from tests.scenario import Clone, noise

Command = tuple[str, ...]
KIB = 1 << 10
OBJECT_MAX_BYTES = 1 << 30
SHARDED_FILES = 1_050
"""Above the 1,000 entries that stand in a manifest itself."""
SMALL_PACKS = 9
"""More than gc leaves as they are."""


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
    frees: bool = False
    """The command is there to let go of content that nothing names."""
    damaged: bool = False
    """Store or remote are damaged at the start. Repeating the command makes it whole."""
    stays: bool = False
    """A damaged pack stays on the remote, where nothing points to it any more."""


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


def small_files(world: World) -> None:
    clone = world.new()
    for number in range(40):
        clone.write(f"data/{number % 3}/{number:02}.txt", b"%d" % number)


def linked(world: World) -> None:
    """Leave a folder of data that is a link to one outside of the repository."""
    clone = world.new()
    _data(clone)
    (clone.path / "data").rename(world.live / "disk")
    clone.link("data", "../disk")


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


def store_elsewhere(world: World) -> None:
    clone = world.new()
    clone.git("config", "dv.store.path", str(world.live / "shared/dv"))
    _data(clone)


def changed(world: World) -> None:
    _change(committed(world))


def two_commits(world: World) -> Clone:
    clone = committed(world)
    _change(clone)
    clone.add("data")
    clone.commit("two")
    return clone


def of_other_kinds(world: World) -> None:
    """Leave two commits: each of file, link, empty folder and nothing became each of the others."""
    clone = world.new()
    kinds = ("file", "link", "folder", "nothing")
    for number in range(2):
        clone.write("data/stays", b"stays")
        for before in kinds:
            for after in kinds:
                _put(clone, f"data/{before}-{after}", (before, after)[number], number)
        clone.add("data")
        clone.commit(f"{number}")


def _put(clone: Clone, path: str, kind: str, number: int) -> None:
    place = clone.path / path
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
    if kind == "file":
        clone.write(path, b"%s, version %d" % (path.encode(), number))
    elif kind == "link":
        clone.link(path, f"to-{number}")
    elif kind == "folder":
        place.mkdir()


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


def unignored(world: World) -> None:
    """Leave a target without its line in .gitignore, as a rename by git does, and files gone."""
    files_gone(world)
    (world.work / ".gitignore").unlink()


def rolled_back(world: World) -> None:
    """Leave a remote without the newest of each kind of object that pushes brought."""
    clone = pushed(world)
    with clone.repo() as repo:
        backend = repo.config.open_remote().backend
        for kind in ("packs/", "shards/", "roots/"):
            backend.delete(max(info.key for info in backend.list(kind)))


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


def for_workers(world: World) -> Clone:
    clone = world.new()
    for number in range(2):
        clone.write(f"data/{number}", noise(17 << 20, number))
    return clone


def gone_for_workers(world: World) -> None:
    clone = for_workers(world)
    clone.add("data")
    clone.commit("one")
    for number in range(2):
        clone.remove(f"data/{number}")


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
        repo.hooks.install()
    injected = shlex.quote(str(INJECT / "python"))
    own = shlex.quote(sys.executable)
    for hook in (clone.path / ".git/hooks").iterdir():
        text = hook.read_text()
        assert f"python={own}\n" in text
        hook.write_text(text.replace(f"python={own}\n", f"python={injected}\n"))
    for key in ("merge.dv.driver", "diff.dv.textconv"):
        command = clone.git("config", key)
        assert f"{own} -I -c " in command
        clone.git("config", key, command.replace(own, injected))
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


def outdated(world: World) -> Clone:
    """Leave version two in the workspace, with an edit, and version one in the manifest."""
    clone = two_commits(world)
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.write("data/run.sh", b"edited", executable=True)
    return clone


def left_outdated(world: World) -> None:
    outdated(world)


def hooked_reset(world: World) -> None:
    with_hooks(two_commits(world))


def hooked_conflict(world: World) -> None:
    """Leave a conflict that somebody staged."""
    clone = forked(world)
    with_hooks(clone)
    subprocess.run(["git", "merge", "-q", "side"], cwd=clone.path, capture_output=True)
    clone.git("add", "-A")


def meanwhile(world: World) -> None:
    """Leave a new file, and a colleague's manifest that comes while the first pack is written."""
    clone = pushed(world)
    other = world.clone(clone, "other")
    with other.repo() as repo:
        repo.pull()
        other.write("data/theirs", b"theirs")
        repo.add(["data"])
        other.git("add", "-A")
        other.commit("theirs")
        repo.push()
    clone.write("data/ours", b"ours")
    theirs = world.live / "theirs.json"
    shutil.copy(other.path / "data.dv.json", theirs)
    shutil.rmtree(other.path)
    order = {"at": "/dv/packs/", "from": str(theirs), "to": str(clone.path / "data.dv.json")}
    (world.live / "meanwhile.json").write_text(json.dumps(order))


def hooked_push(world: World) -> None:
    clone = two_commits(world)
    clone.git("init", "-q", "--bare", "--template=", str(world.live / "hub.git"))
    clone.git("remote", "add", "hub", str(world.live / "hub.git"))
    with_hooks(clone)


def untrusted(world: World) -> None:
    """Leave a remote in .dvconfig, as a pull brings it, that this clone does not trust."""
    clone = committed(world)
    clone.git("config", "--file", ".dvconfig", "remote.mirror.url", "s3://bucket/data")
    clone.git("commit", "-q", "--message", "a remote", "--", ".dvconfig")


def index_lost(world: World) -> None:
    clone = two_commits(world)
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (clone.path / ".git/dv" / name).unlink(missing_ok=True)
    clone.remove("data/big")


def forget(clone: Clone) -> None:
    """Take from git what no branch has."""
    clone.git("reflog", "expire", "--expire=now", "--all")
    (clone.path / ".git/ORIG_HEAD").unlink(missing_ok=True)
    clone.git("gc", "-q", "--prune=now")


def abandoned(world: World, *, push: bool = True) -> Clone:
    """Leave two versions that git has forgotten; of one, a file is in use again."""
    clone = pushed(world)
    _change_and_back(clone, {"kept": 3, "dead": 4}, push=push)
    _change_and_back(clone, {"all-dead": 5}, push=push)
    clone.write("data/kept", noise(20 * KIB * 3, 3))
    clone.add("data")
    clone.commit("three")
    if push:
        with clone.repo() as repo:
            repo.push()
    forget(clone)
    return clone


def _change_and_back(clone: Clone, files: dict[str, int], *, push: bool) -> None:
    for name, seed in files.items():
        clone.write(f"data/{name}", noise(20 * KIB * seed, seed))
    clone.add("data")
    clone.commit("abandoned")
    if push:
        with clone.repo() as repo:
            repo.push()
    clone.git("reset", "-q", "--hard", "HEAD~1")
    with clone.repo() as repo:
        repo.checkout()


def collectable(world: World) -> None:
    abandoned(world)


def collectable_unpushed(world: World) -> None:
    abandoned(world, push=False)


def small_packs(world: World) -> None:
    clone = pushed(world)
    for number in range(SMALL_PACKS):
        clone.write(f"data/{number}", noise(5 * KIB, 10 + number))
        clone.add("data")
        clone.commit(f"small {number}")


def to_sweep(world: World) -> None:
    """Leave a tombstone on the remote, for a version that no commit has."""
    with abandoned(world).repo() as repo:
        done = repo.remotes.gc(expire=True, grace_s=0)
    assert done.plan.dead
    assert done.plan.replace


def to_copy(world: World) -> None:
    with pushed(world).repo() as repo:
        repo.config.set_remote(BACKUP, str(world.live / BACKUP))


def pushed_only(world: World) -> None:
    pushed(world)


def rotten(world: World) -> None:
    """Leave a damaged pack, whose content is good on the remote and not in the workspace."""
    clone = pushed(world)
    _damage_a_pack(clone)
    clone.remove("data/big")


def rotten_unpushed(world: World) -> None:
    """Leave a damaged pack, whose content is good in the workspace and nowhere else."""
    _damage_a_pack(committed(world))


def lost_unpushed(world: World) -> None:
    """Leave a pack gone, whose content is good in the workspace and nowhere else."""
    _largest_pack(committed(world)).unlink()


def _largest_pack(clone: Clone) -> Path:
    packs = [path for path in (clone.path / ".git/dv/packs").rglob("*") if path.is_file()]
    return max(packs, key=lambda path: (path.stat().st_size, path.name))


def _damage_a_pack(clone: Clone) -> None:
    largest = _largest_pack(clone)
    data = bytearray(largest.read_bytes())
    data[1_000] ^= 0xFF
    largest.chmod(0o644)
    largest.write_bytes(data)


def damaged_remote(world: World) -> None:
    """Leave a remote with a damaged pack, which is here too, and without a shard."""
    clone = pushed(world)
    with clone.repo() as repo:
        backend = repo.config.open_remote().backend
        _flip_on_remote(backend)
        backend.delete(max(info.key for info in backend.list("shards/")))


def damaged_root(world: World) -> None:
    """Leave a remote with half a root."""
    with pushed(world).repo() as repo:
        backend = repo.config.open_remote().backend
        root = max(info.key for info in backend.list("roots/"))
        backend.put(root, backend.get(root, size_max=OBJECT_MAX_BYTES)[:50])


def damaged_remote_pack(world: World) -> None:
    """Leave a remote with a damaged pack that is nowhere else: what was in it is, in another."""
    clone = pushed(world)
    with clone.repo() as repo:
        store = repo._project.store
        with drop_lock(store.path):
            rewrite_packs(store, list(store.db.packs()), set())
        _flip_on_remote(repo.config.open_remote().backend)


def _flip_on_remote(backend: Backend) -> None:
    """Damage all frames but the last bytes, which are the index."""
    key = max((info.size, info.key) for info in backend.list("packs/"))[1]
    data = backend.get(key, size_max=OBJECT_MAX_BYTES)
    backend.put(key, bytes(byte ^ 0xFF for byte in data[:-2_000]) + data[-2_000:])


GC_NOW = ("dv", "gc", "--remote", "--expire", "--grace", "0d")
REPAIR_REMOTE = ("dv", "fsck", "--repair", "--deep", "--remote")
TOUCH = ("touch", "--date", "30 days ago")
A_MONTH_PASSES = ("find", "..", "-path", "*/remote/gc/*", "-type", "f", "-exec", *TOUCH, "{}", "+")
"""What died is believed no more; until then its claims keep what they name, by design."""
GC_LATER = (GC_NOW, A_MONTH_PASSES, GC_NOW, GC_NOW, GC_NOW)
"""Bury; sweep that, and move what is left of packs mostly dead; sweep those packs."""

RUN_DIRTY = (
    *("dv", "run", "--allow-dirty", "--record", "../record.json", "--out", "result"),
    *("--", "cp", "data/a.txt", "result"),
)
FORGET_RUNS = (
    *("sh", "-c"),
    "git for-each-ref --format='delete %(refname)' refs/dv/runs | git update-ref --stdin",
)
"""Each run has an id of its own."""

SOURCE_BUCKET = "dv-crash-source"


def importable(world: World) -> Clone:
    """Leave data in a bucket, which the AWS configuration of the tests leads to."""
    assert world.server is not None
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(
        f"[default]\nendpoint_url = {world.server.endpoint_url}\n"
    )
    with world.server.client() as client:
        names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
        if SOURCE_BUCKET in names:
            world.server.drop_bucket(SOURCE_BUCKET)
        client.create_bucket(Bucket=SOURCE_BUCKET)
    put_at_source(
        world, {"a.txt": b"a", "sub/b.txt": b"b", "gone": b"c", "big": noise(90 * KIB, 3)}
    )
    return world.new()


def put_at_source(world: World, contents: dict[str, bytes]) -> None:
    assert world.server is not None
    with world.server.client() as client:
        for key, data in contents.items():
            client.put_object(Bucket=SOURCE_BUCKET, Key=f"data/{key}", Body=data)


def updatable(world: World) -> None:
    clone = importable(world)
    run = world.run(IMPORT)
    assert run.code == 0, run.err
    clone.commit("imported")
    clone.write("data/sub/b.txt", b"b, edited here")
    clone.add("data")
    clone.commit("edited")
    assert world.server is not None
    with world.server.client() as client:
        client.delete_object(Bucket=SOURCE_BUCKET, Key="data/gone")
    put_at_source(world, {"a.txt": b"a, changed", "new/d.txt": b"d"})


def referenced(world: World) -> None:
    clone = importable(world)
    run = world.run(REFERENCE)
    assert run.code == 0, run.err
    clone.commit("imported by reference")


IMPORT = ("dv", "import", f"s3://{SOURCE_BUCKET}/data", "data")
REFERENCE = ("dv", "import", "--reference", f"s3://{SOURCE_BUCKET}/data", "data")
DRIVER = (sys.executable, "-P", str(Path(__file__).with_name("driver.py")))
"""`dv` with a cluster of one worker."""
BESIDE = (sys.executable, "-P", str(Path(__file__).with_name("driver_beside.py")))
"""`dv` that makes the lists of a first add in a second process."""
SCENARIOS = (
    Scenario("import", importable, IMPORT, s3=True, slow=True),
    Scenario("update", updatable, ("dv", "update"), s3=True, slow=True),
    Scenario("import-reference", importable, REFERENCE, s3=True, slow=True),
    Scenario(
        "import-cluster",
        importable,
        (*DRIVER, *IMPORT[1:], "--engine", "dask"),
        s3=True,
        slow=True,
    ),
    Scenario("push-reference", referenced, ("dv", "push"), s3=True, slow=True),
    Scenario(
        "materialise",
        referenced,
        ("dv", "import", "--materialise", "data"),
        s3=True,
        slow=True,
        fine=(0, 2),
    ),
    Scenario("init", only_git, ("dv", "init", "--remote", "../remote")),
    Scenario("add-first", new_repository, ("dv", "add", "data")),
    Scenario("add-shared-store", store_elsewhere, ("dv", "add", "data")),
    Scenario("add-dereference", linked, ("dv", "add", "--dereference", "data")),
    Scenario("add-again", changed, ("dv", "add", "data")),
    Scenario("add-part", changed, ("dv", "add", "data/big", "data/new")),
    Scenario("add-untrack", in_git, ("dv", "add", "--untrack", "table")),
    Scenario("add-sharded", sharded_changed, ("dv", "add", "data"), slow=True),
    Scenario("add-workers", for_workers, ("dv", "add", "-j", "2", "data"), slow=True),
    Scenario("add-beside", small_files, (*BESIDE, "add", "data"), slow=True),
    Scenario("add-index-lost", index_lost, ("dv", "add", "data")),
    Scenario("checkout", files_gone, ("dv", "checkout")),
    Scenario("checkout-unignored", unignored, ("dv", "checkout")),
    Scenario("checkout-rev", two_commits, ("dv", "checkout", "HEAD~1")),
    Scenario("checkout-part", two_commits, ("dv", "checkout", "HEAD~1", "--", "data/sub")),
    Scenario("checkout-kinds", of_other_kinds, ("dv", "checkout", "HEAD~1")),
    Scenario("rm-kinds", of_other_kinds, ("dv", "rm", "--data", "data"), fine=(0, 2)),
    Scenario("checkout-force", unsaved, ("dv", "checkout", "--force", "HEAD~1")),
    Scenario("restore", unsaved, ("dv", "restore", "data")),
    Scenario("restore-source", two_commits, ("dv", "restore", "--source", "HEAD~1", "data")),
    Scenario("sparse", two_commits, ("dv", "sparse", "set", "--exclude", "data/big")),
    Scenario("checkout-workers", gone_for_workers, ("dv", "checkout"), slow=True),
    Scenario("checkout-sharded", sharded_two, ("dv", "checkout", "HEAD~1"), slow=True),
    Scenario("add-outdated", left_outdated, ("dv", "add", "data")),
    Scenario("run-dirty", unsaved, RUN_DIRTY, again=(RUN_DIRTY, FORGET_RUNS)),
    Scenario("push", two_commits, ("dv", "push")),
    Scenario("push-again", pushed_once, ("dv", "push")),
    Scenario("push-rolled-back", rolled_back, ("dv", "push"), damaged=True),
    Scenario("push-sharded", sharded_two, ("dv", "push"), slow=True),
    Scenario("push-s3", pushed_once, ("dv", "push"), s3=True, slow=True),
    Scenario("fetch", fresh_clone, ("dv", "fetch")),
    Scenario("pull", fresh_clone, ("dv", "pull")),
    Scenario("pull-part", fresh_clone, ("dv", "pull", "data/a.txt", "data/new")),
    Scenario("pull-s3", fresh_clone, ("dv", "pull"), s3=True, slow=True),
    Scenario("drop", pushed, ("dv", "drop", "data")),
    Scenario("drop-part", pushed, ("dv", "drop", "data/big")),
    Scenario("drop-store", pushed, ("dv", "drop", "--store", "data")),
    Scenario(
        "add-meanwhile",
        meanwhile,
        ("dv", "add", "data"),
        # What ended before the colleague's manifest came, is followed by it.
        again=(("mv", "../theirs.json", "data.dv.json"), ("dv", "add", "data")),
        fine=(0, 1),
    ),
    Scenario("mv", two_commits, ("dv", "mv", "data", "moved/here"), fine=(0, 2)),
    Scenario("mv-part", two_commits, ("dv", "mv", "data/new", "data/old"), fine=(0, 2)),
    Scenario("rm", two_commits, ("dv", "rm", "data"), fine=(0, 2)),
    Scenario("rm-data", two_commits, ("dv", "rm", "--data", "data"), fine=(0, 2)),
    Scenario("rm-force", unsaved, ("dv", "rm", "--data", "--force", "data"), fine=(0, 2)),
    Scenario("rm-part", two_commits, ("dv", "rm", "--data", "data/new"), fine=(0, 2)),
    Scenario("resolve", conflicted, ("dv", "resolve", "--theirs")),
    Scenario("resolve-both", conflicted, ("dv", "resolve", "--both")),
    Scenario("gc", collectable, ("dv", "gc")),
    Scenario("gc-merge", small_packs, ("dv", "gc")),
    Scenario(
        "gc-unpushed",
        collectable_unpushed,
        ("dv", "gc", "--unpushed", "--grace", "0d"),
        frees=True,
    ),
    Scenario("gc-remote-bury", collectable, GC_NOW, again=GC_LATER, frees=True),
    Scenario("gc-remote-sweep", to_sweep, GC_NOW, again=GC_LATER, frees=True),
    Scenario("gc-remote-undo", to_sweep, ("dv", "gc", "--remote", "--undo")),
    Scenario("remote-rename", pushed, ("dv", "remote", "rename", "origin", "new"), fine=(0, 2, 3)),
    Scenario("remote-trust", untrusted, ("dv", "remote", "trust")),
    Scenario("remote-copy", to_copy, ("dv", "remote", "copy", "origin", BACKUP)),
    Scenario(
        "fsck-repair",
        rotten,
        ("dv", "fsck", "--repair"),
        # What a remote has is no damage once the pack is mended; it is fetched as ever.
        again=(("dv", "fsck", "--repair"), ("dv", "fetch")),
        damaged=True,
    ),
    Scenario("fsck-repair-files", rotten_unpushed, ("dv", "fsck", "--repair"), damaged=True),
    Scenario("fsck-repair-lost", lost_unpushed, ("dv", "fsck", "--repair"), damaged=True),
    Scenario("fsck-repair-remote", damaged_remote, REPAIR_REMOTE, damaged=True),
    Scenario("fsck-repair-root", damaged_root, REPAIR_REMOTE, damaged=True),
    Scenario(
        "fsck-repair-remote-new", damaged_remote_pack, REPAIR_REMOTE, damaged=True, stays=True
    ),
    Scenario("fsck-rebuild", pushed_only, ("dv", "fsck", "--rebuild")),
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
        "hook-reset",
        hooked_reset,
        ("git", "reset", "-q", "--hard", "HEAD~2"),
        again=(("dv", "checkout"),),
        by_git=True,
    ),
    Scenario("resolve-staged", hooked_conflict, ("dv", "resolve", "--theirs")),
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
