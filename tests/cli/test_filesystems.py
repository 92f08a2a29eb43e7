"""Disks, clocks and users as they are in the wild: real ones, where this machine has them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvtool.system.atomic import temp_name
from tests.cli.conftest import Work
from tests.scenario import noise

PAYLOAD = b"payload\n"
ROOT = os.geteuid() == 0


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Mount a filesystem at a folder; skip the test where that is not allowed."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {os.fsdecode(done.stderr).strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def repository(place: Path, remote: Path) -> Work:
    place.mkdir(exist_ok=True)
    work = Work(place)
    work.git("init", "-q")
    work.dv("init", "--remote", remote)
    return work


def names(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if ".git" not in path.parts}


# --- a disk that folds case and has no links ------------------------------------------------


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """A folder of a filesystem without hard links, symlinks and modes, which folds case."""
    fuse = shutil.which("fusermount3") or shutil.which("fusermount")
    rclone = shutil.which("rclone", path=os.path.dirname(sys.executable))
    if not (ROOT and fuse and rclone and os.path.exists("/dev/fuse")):
        pytest.skip("needs rclone and FUSE")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/fusermount3").symlink_to(fuse)
    for name in ("below", "mnt"):
        (tmp_path / name).mkdir()
    mount = [
        *(rclone, "--config", "/dev/null", "mount", str(tmp_path / "below"), str(tmp_path / "mnt")),
        *("--vfs-case-insensitive", "--vfs-cache-mode", "full", "--cache-dir", str(tmp_path / "c")),
    ]
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with subprocess.Popen(mount, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            give_up = time.monotonic() + 120
            while not os.path.ismount(tmp_path / "mnt"):
                if process.poll() is not None or time.monotonic() > give_up:
                    pytest.skip("rclone cannot mount here")
                time.sleep(0.05)
            yield tmp_path / "mnt"
        finally:
            subprocess.run([fuse, "-u", "-z", str(tmp_path / "mnt")], check=False)
            process.terminate()


def test_names_that_a_disk_takes_for_one_are_refused_there(
    folding: Path, data: Work, tmp_path: Path
) -> None:
    for name in ("Readme", "README", "Sub/x", "plain"):
        data.write(f"data/mixed/{name}", PAYLOAD + name.encode())
    data.dv("add", "data/mixed")
    data.commit("mixed")
    data.dv("push")
    (folding / "probe").touch()
    assert (folding / "PROBE").exists(), "the disk does not fold case"
    with pytest.raises(OSError):
        os.link(folding / "probe", folding / "linked")
    data.git("clone", "-q", str(data.root), str(folding / "clone"))
    clone = Work(folding / "clone")
    clone.dv("remote", "add", "origin", tmp_path / "remote")
    ran = clone.dv("pull", code=8)
    assert "data/mixed/README" in ran.err
    assert "data/mixed/Readme" in ran.err
    assert not (clone.root / "data/mixed").exists()
    assert not [name for name in names(clone.root) if ".dv-tmp-" in name]
    clone.dv("pull", "data/mixed/Readme", "data/mixed/Sub", "data/images", "data/table.csv")
    assert clone.read("data/mixed/Readme") == PAYLOAD + b"Readme"
    assert clone.read("data/images/sub/c.txt") == b"content of sub/c.txt"
    # And work goes on there: add, change, check out.
    clone.write("data/images/a.txt", "changed")
    clone.dv("add", "data/images")
    clone.dv("checkout", "HEAD", "--", "data/images")
    assert clone.read("data/images/a.txt") == b"content of a.txt"


def test_a_store_and_a_remote_on_a_disk_without_links(
    folding: Path, work: Work, tmp_path: Path
) -> None:
    work.dv("config", "store.path", str(folding / "store"))
    work.dv("remote", "set", "origin", str(folding / "remote"))
    for number in range(2):
        work.write("d/f", noise(100_000, number))
        work.dv("add", "d")
        work.commit()
        work.dv("push")
    pack, _ = (path for path in (folding / "store/packs").rglob("*") if path.is_file())
    pack.write_bytes(pack.read_bytes()[:-1_000])
    work.dv("fsck", code=6)
    work.dv("fsck", "--repair")
    assert work.dv("fsck", "--remote", "--deep").lines[-1] == "all of it is whole"
    assert len((folding / f"store/aside/{pack.name}").read_bytes()) < 100_000
    work.git("reset", "-q", "--hard", "HEAD~1")
    work.git("reflog", "expire", "--expire=now", "--all")
    (work.root / ".git/ORIG_HEAD").unlink()
    work.dv("checkout", "--force")
    work.dv("gc")
    work.dv("gc", "--remote")
    shutil.rmtree(folding / "store")
    (folding / "store/packs").mkdir(parents=True)  # as the refusal of a store that is away says
    (work.root / "d/f").unlink()
    work.dv("pull")
    assert work.read("d/f") == noise(100_000, 0)


# --- full and read-only disks ---------------------------------------------------------------


@pytest.mark.parametrize("verb", ["add", "fetch"])
def test_a_store_on_a_full_disk(pushed: Work, tmp_path: Path, verb: str) -> None:
    pushed.write("data/images/big.bin", os.urandom(6 << 20))
    pushed.dv("add", "data/images")
    pushed.commit("big")
    pushed.dv("push")
    clone = pushed.clone()
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as small:
        clone.dv("config", "store.path", str(small / "store"))
        if verb == "add":
            clone.write("new.bin", os.urandom(6 << 20))
        before = names(clone.root)
        ran = clone.process(verb, *(["new.bin"] if verb == "add" else []), code=1)
        assert "the disk is full" in ran.err
        assert str(small) in ran.err
        if verb == "add":
            assert re.search(rf"\({small}: .* of 2\.0 MiB free", ran.err)
        assert "Traceback" not in ran.err
        assert names(clone.root) == before
        if os.path.isdir(small / "store/tmp"):
            assert os.listdir(small / "store/tmp") == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        clone.process(verb, *(["new.bin"] if verb == "add" else []))
        clone.dv("pull")
    assert clone.read("data/images/big.bin") == pushed.read("data/images/big.bin")


def test_a_workspace_on_a_full_disk_keeps_what_is_there(pushed: Work, tmp_path: Path) -> None:
    first = pushed.git("rev-parse", "HEAD")
    old = os.urandom(1 << 20)
    pushed.write("data/images/big.bin", old)
    pushed.dv("add", "data/images")
    second = pushed.commit("small")
    pushed.write("data/images/big.bin", os.urandom(3 << 20))
    pushed.dv("add", "data/images")
    third = pushed.commit("large")
    pushed.dv("push")
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=3m", "tmpfs") as small:
        pushed.git("clone", "-q", str(pushed.root), str(small / "clone"))
        clone = Work(small / "clone")
        clone.dv("remote", "add", "origin", tmp_path / "remote")
        clone.dv("config", "store.path", str(tmp_path / "store"))
        clone.dv("checkout", second)
        before = names(clone.root)
        ran = clone.process("checkout", third, code=1)
        assert f"{clone.root}/" in ran.err
        assert f": the disk is full ({small}: " in ran.err
        assert clone.read("data/images/big.bin") == old
        assert names(clone.root) == before
        clone.dv("checkout", first)
        assert not (clone.root / "data/images/big.bin").exists()


def test_a_workspace_that_cannot_be_written(pushed: Work, tmp_path: Path) -> None:
    """The disk is read-only, so root cannot write either."""
    clone = pushed.clone("other")
    with mounted(tmp_path / "ro", "--bind", str(clone.root)) as place:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        work = Work(place)
        for verb, codes in (
            (["status"], {0}),
            (["ls"], {0}),
            (["pull"], {1, 3}),
            (["checkout"], {1, 3, 4}),
            (["add", "data/images"], {1, 2, 3}),
        ):
            ran = work.process(*verb, code=None)
            assert ran.code in codes, (verb, ran)
            assert "Traceback" not in ran.err
            assert "report" not in ran.err
    clone.dv("pull")


# --- coarse and wrong clocks ----------------------------------------------------------------


@contextmanager
def whole_seconds(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk that keeps no parts of a second: inodes of 128 bytes have no room for them."""
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 32 << 20)
    mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
    if not os.path.exists(mkfs):
        pytest.skip("needs mkfs.ext4")
    subprocess.run([mkfs, "-q", "-I", "128", str(image)], check=True, capture_output=True)
    with mounted(tmp_path / "coarse", "-o", "loop", str(image)) as place:
        yield place


def test_a_change_within_one_second_is_seen_on_a_disk_that_keeps_seconds(tmp_path: Path) -> None:
    with whole_seconds(tmp_path) as place:
        work = repository(place / "work", tmp_path / "remote")
        work.write("d/f", "0000")
        assert (work.root / "d/f").stat().st_mtime_ns % 1_000_000_000 == 0
        work.dv("add", "d")
        for number in range(1, 6):
            # The same size, inode and second: nothing but the bytes tells.
            with open(work.root / "d/f", "r+b") as file:
                file.write(b"%04d" % number)
            (state,) = work.dv("status", "--json").json["targets"]
            assert state["modified"] == ["f"], number
            work.dv("add", "d")


def test_a_file_edited_in_the_second_in_which_checkout_wrote_it_is_seen(tmp_path: Path) -> None:
    """However long the checkout goes on after that; on such a disk the edit moves no clock."""
    with whole_seconds(tmp_path) as place:
        work = repository(place / "work", tmp_path / "remote")
        work.write("d/f", "AAAA")
        work.write("d/g", "B" * 100)
        work.dv("add", "d")
        (work.root / "d/f").unlink()
        before = time.time_ns()
        work.dv("checkout")
        written = (work.root / "d/f").stat()
        assert written.st_mtime_ns < before // 10**9 * 10**9, "older than any edit from now on"
        with open(work.root / "d/f", "r+b") as file:
            file.write(b"USER")
        os.utime(work.root / "d/g", ns=(0, 0))  # so that nothing is left out for being racy
        (state,) = work.dv("status", "--json").json["targets"]
        assert state["modified"] == ["f"]
        assert "d/f" in work.dv("checkout", code=5).err
        assert (work.root / "d/f").read_text() == "USER"


@pytest.mark.parametrize("jump_s", [-3600, 3600, 10 * 365 * 86400])
def test_a_clock_that_jumps_hides_no_change(work: Work, jump_s: int) -> None:
    """Files stamped in the past or the future of the clock, before and after they are added."""
    for number in range(4):
        when = time.time() + (jump_s if number % 2 else 0)
        work.write("d/f", b"%04d" % number)
        os.utime(work.root / "d/f", (when, when))
        work.dv("add", "d")
        work.write("d/f", b"%04d" % (number + 5))
        os.utime(work.root / "d/f", (when, when))
        (state,) = work.dv("status", "--json").json["targets"]
        assert state["modified"] == ["f"], number
        work.dv("checkout", "--force")
        assert work.read("d/f") == b"%04d" % number


# --- what a crash left ----------------------------------------------------------------------


def test_unfinished_files_are_swept_and_never_versioned(data: Work) -> None:
    places = [f"data/images/{temp_name()}", f"data/images/sub/{temp_name()}", f"data/{temp_name()}"]
    young = f"data/images/{temp_name()}"
    for place in (*places, young):
        data.write(place, "half a file")
    for place in places:
        os.utime(data.root / place, (1, 1))
    assert not data.dv("status", "--json").json["targets"][0]["added"]
    data.write("data/images/new.txt", "new")
    data.dv("add", "data/images")
    assert ".dv-tmp-" not in data.read("data/images.dv.json").decode()
    assert not [place for place in places if (data.root / place).exists()]
    assert (data.root / young).exists()  # it may be in use
    os.utime(data.root / young, (1, 1))
    (data.root / "data/images/new.txt").unlink()
    data.dv("checkout")
    assert not (data.root / young).exists()


# --- users who share a store ----------------------------------------------------------------

GROUP = 4242


AS_USER = """
import os, sys
import concurrent.futures, ctypes, difflib
import pyfastcdc
from dvtool import cli
from dvtool.store import clones, lock
scratch, user, group, umask, *args = sys.argv[1:]
# Other users may not be allowed to read this Python: what the commands import is imported first.
os.chdir(scratch)
for command in (["init"], ["config", "core.jobs", "1"], ["add", "d"], ["checkout", "--force"]):
    cli.run_command(command)
if args[0] in ("push", "pull"):
    for command in (["init", "--remote", scratch + "-remote"], ["push"], ["fsck", "--remote"]):
        cli.run_command(command)
    os.system("rm -rf .git/dv/packs .git/dv/store.db* d")
    cli.run_command(["pull"])
os.chdir(os.environ["HOME"] + "/work")
os.umask(int(umask))
os.setgroups([int(group)])
os.setgid(int(user))
os.setuid(int(user))
print("READY", flush=True)
sys.exit(cli.run_command(args))
"""


def as_user(user: int, home: Path, *args: str, umask: int) -> str:
    """Run `dv` as one of two users of a group; return what it said."""
    scratch = home.parent / "scratch"
    if not scratch.exists():
        (scratch / "d").mkdir(parents=True)
        (scratch / "d/f").write_bytes(os.urandom(100_000))
        for git in (["init", "-q"], ["commit", "-qm", "one", "--allow-empty"]):
            subprocess.run(["git", *git], cwd=scratch, check=True)
    if args[0] in ("push", "pull"):
        subprocess.run(["git", "add", "-A"], cwd=scratch, check=True)
        subprocess.run(["git", "commit", "-qm", "x", "--allow-empty"], cwd=scratch, check=True)
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, str(scratch), str(user), str(GROUP), str(umask), *args],
        env={**os.environ, "HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / "gitconfig")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout.partition("READY\n")[2]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="dv-shared-", dir="/tmp") as top:
        os.chmod(top, 0o755)
        yield Path(top)


@pytest.mark.skipif(not ROOT, reason="only root becomes other users")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_work_with_one_store(open_place: Path, umask: int) -> None:
    shared = open_place / "store"
    shared.mkdir()
    os.chown(shared, -1, GROUP)
    shared.chmod(0o2770)
    content = os.urandom(200_000)
    said = {}
    for user in (4301, 4302):
        home = open_place / str(user)
        work = home / "work"
        (work / "d").mkdir(parents=True)
        shutil.copy(os.environ["GIT_CONFIG_GLOBAL"], home / "gitconfig")
        (work / "d/own").write_bytes(b"%d" % user)
        (work / "d/same").write_bytes(content)
        subprocess.run(["git", "init", "-q"], cwd=work, check=True)
        subprocess.run(["chown", "-R", f"{user}:{user}", str(home)], check=True)
        as_user(user, home, "init", umask=umask)
        as_user(user, home, "config", "store.path", str(shared / "dv"), umask=umask)
        said[user] = as_user(user, home, "add", "d", umask=umask)
        (work / "d/same").unlink()
        as_user(user, home, "checkout", umask=umask)
        assert (work / "d/same").read_bytes() == content
        assert (work / "d/same").stat().st_uid == user
    # What the one had stored the other found there.
    assert "KiB" in said[4301]
    assert "KiB" not in said[4302].partition("stored")[2]
    found = list((shared / "dv").rglob("*"))
    assert {path.stat().st_uid for path in found} == {4301, 4302}
    for path in found:
        mode = path.stat().st_mode
        wanted = 0o2070 if path.is_dir() else 0o060
        assert mode & wanted == wanted, path
        assert not mode & 0o002, path
        assert path.stat().st_gid == GROUP, path


@pytest.mark.skipif(not ROOT, reason="only root becomes other users")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_push_to_one_folder(open_place: Path, umask: int) -> None:
    remote = open_place / "remote"
    remote.mkdir()
    os.chown(remote, -1, GROUP)
    remote.chmod(0o2770)
    works = {}
    for user in (4301, 4302):
        home = open_place / str(user)
        works[user] = work = home / "work"
        home.mkdir()
        shutil.copy(os.environ["GIT_CONFIG_GLOBAL"], home / "gitconfig")
        if user == 4301:
            subprocess.run(["git", "init", "-q", str(work)], check=True)
        else:
            subprocess.run(["chown", "-R", "root", str(works[4301])], check=True)
            subprocess.run(["git", "clone", "-q", str(works[4301]), str(work)], check=True)
        (work / "d").mkdir(exist_ok=True)
        (work / f"d/{user}").write_bytes(os.urandom(100_000))
        subprocess.run(["chown", "-R", f"{user}:{user}", str(home)], check=True)
        as_user(user, home, "init", "--remote", str(remote), umask=umask)
        if user == 4302:
            as_user(user, home, "pull", umask=umask)
        as_user(user, home, "add", "d", umask=umask)
        safe = ["git", "-c", f"safe.directory={work}"]
        subprocess.run([*safe, "add", "-A"], cwd=work, check=True)
        subprocess.run([*safe, "commit", "-qm", "data"], cwd=work, check=True)
        subprocess.run(["chown", "-R", f"{user}:{user}", str(home)], check=True)
        as_user(user, home, "push", umask=umask)
    assert (works[4302] / "d/4301").read_bytes() == (works[4301] / "d/4301").read_bytes()
    found = list(remote.rglob("*"))
    assert {path.stat().st_uid for path in found} == {4301, 4302}
    for path in found:
        mode = path.stat().st_mode
        wanted = 0o2070 if path.is_dir() else 0o040
        assert mode & wanted == wanted, path
        assert not mode & 0o002, path
        assert path.stat().st_gid == GROUP, path


def test_a_store_of_ones_own_stays_ones_own(work: Work) -> None:
    work.write("d/f", "x")
    before = os.umask(0o077)
    try:
        work.dv("add", "d")
    finally:
        os.umask(before)
    packs = [path for path in (work.root / ".git/dv/packs").rglob("*") if path.is_file()]
    assert packs
    assert not [path for path in packs if path.stat().st_mode & 0o077]


def test_a_repository_that_git_shares_has_a_shared_store(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    subprocess.run(["git", "init", "-q", "--shared=group", str(root)], check=True)
    work = Work(root)
    work.dv("init", "--remote", tmp_path / "remote")
    work.write("d/f", "x")
    work.dv("add", "d")
    for name in ("dv", "dv/packs", "dv/tmp", "dv/store.db"):
        mode = (root / ".git" / name).stat().st_mode
        assert mode & stat.S_IWGRP, name
        assert not stat.S_ISDIR(mode) or mode & stat.S_ISGID, name


def test_repairs_and_gc_leave_a_shared_store_shared(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    subprocess.run(["git", "init", "-q", "--shared=group", str(root)], check=True)
    work = Work(root)
    before = os.umask(0o077)
    try:
        work.dv("init", "--remote", tmp_path / "remote")
        for _ in range(2):
            work.write("d/f", os.urandom(100_000))
            work.dv("add", "d")
            work.commit()
        work.dv("push")
        one, other = sorted((root / ".git/dv/packs").glob("*/*"))
        one.write_bytes(one.read_bytes()[:-1_000])
        work.dv("fsck", "--repair")
        work.dv("fsck", "--rebuild", "--repair")
        other.unlink()
        work.dv("fetch")
        assert list((root / ".git/dv/aside").glob("*.lost"))
        work.dv("gc")
    finally:
        os.umask(before)
    found = [root / ".git/dv", *(root / ".git/dv").rglob("*")]
    assert list((root / ".git/dv/aside").glob("store-*.db"))
    for path in found:
        if path.name != "statcache.db":  # which is the worktree's
            mode = path.stat().st_mode
            wanted = 0o2070 if path.is_dir() else 0o060
            assert mode & wanted == wanted, path


# --- a disk whose files can share what they have in common ----------------------------------


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_push_and_a_fetch_on_such_a_disk_take_next_to_no_room(tmp_path: Path, kind: str) -> None:
    make = shutil.which(f"mkfs.{kind}")
    if make is None or not ROOT:
        pytest.skip(f"needs root and mkfs.{kind}")
    image = tmp_path / "image"
    with open(image, "xb") as file:
        file.truncate(400 << 20)
    subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
    size = 48 << 20
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        work = repository(disk / "work", disk / "remote")
        work.write("big", os.urandom(size))
        work.dv("add", "big")
        work.commit("big")
        before = used(disk)
        work.dv("push")
        assert used(disk) - before < size / 8
        work.git("clone", "-q", str(work.root), str(disk / "clone"))
        clone = Work(disk / "clone")
        clone.dv("remote", "add", "origin", disk / "remote")
        clone.dv("fetch")
        assert used(disk) - before < size / 8
        clone.dv("checkout")
        assert clone.read("big") == work.read("big")
        # Shared is not the same: what happens to the one leaves the other as it is.
        packs = [path for path in (work.root / ".git/dv/packs").rglob("*") if path.is_file()]
        for path in packs:
            path.chmod(0o600)
            with open(path, "r+b") as file:
                file.write(b"damage")
        assert clone.dv("fsck", "--remote", "origin", "--deep").code == 0
        assert work.dv("fsck", code=6).code == 6


def used(disk: Path) -> int:
    subprocess.run(["sync", "-f", str(disk)], check=True)
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("large", [False, True])
def test_times_far_from_now_are_no_trouble(work: Work, large: bool) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("/dev/shm is not here, and other disks keep no such times")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        clone = Work(Path(folder) / "clone")
        work.commit("init")
        work.git("clone", "-q", ".", str(clone.root))
        seconds = {"now": 1, "-1 ns": -1e-9, "1901": -(2**31), "2300": 2**33 + 2**31, "9999": 2**37}
        for name in (*seconds, *(f"more{number}" for number in range(1_100 if large else 0))):
            clone.write(f"data/{name}", name)

        def set_times() -> None:
            for name, time_s in seconds.items():
                if name != "now":
                    ns = -1 if name == "-1 ns" else int(time_s) * 10**9 + 1
                    os.utime(clone.root / "data" / name, ns=(0, ns))

        set_times()
        clone.dv("add", "data")
        clone.commit("one")
        assert clone.dv("status").out.startswith("Clean")
        for name in seconds:
            clone.write(f"data/{name}", name.upper() + "!")
        set_times()
        assert clone.dv("status").out.count("modified: ") == len(seconds)
        clone.dv("add", "data")
        clone.commit("two")
        assert clone.dv("status").out.startswith("Clean")
        clone.dv("mv", "data", "moved")
        clone.dv("checkout", "HEAD~1", "--", "data", code=None)
        assert clone.dv("status", "moved").err == ""
        assert clone.dv("fsck", "--workspace").code == 0
