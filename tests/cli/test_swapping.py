"""A folder that turns into a link or a file and back while dvtool is at work.

Nothing outside is reached, and what is recorded was there.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvtool.errors import DvError
from dvtool.format.digest import Digest, digest_of
from dvtool.repo import Repo
from tests.scenario import Clone, Remote, tree

FILES = 40
ROUNDS_S = 4
PATIENCE_S = 120

SWAPPER = """
import ctypes, os, random, sys, time
place, parked = map(os.fsencode, sys.argv[1:])
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
print(flush=True)
rest_s = 0.1
while True:
    if renameat2(-100, place, -100, parked, 2) != 0:  # from AT_FDCWD, RENAME_EXCHANGE
        sys.exit(os.strerror(ctypes.get_errno()))
    time.sleep(random.choice((0.0003, 0.0003, 0.03)))
    if random.random() < 0.01:  # at times long enough to come through, however slow the machine
        time.sleep(rest_s)
        rest_s *= 1.5
"""


@contextmanager
def swapping(place: Path, parked: Path) -> Iterator[None]:
    """Have what lies in two places change places, over and over."""
    command = [sys.executable, "-c", SWAPPER, str(place), str(parked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
            assert process.poll() is None, "nothing was swapped"
        finally:
            process.kill()


def ours(number: int, version: int) -> bytes:
    return b"ours %d %d" % (number, version)


def theirs(number: int) -> bytes:
    return b"SECR %d 0" % number  # as long as ours: a size does not give it away


@pytest.fixture
def mine(tmp_path: Path) -> Clone:
    clone = Clone.new(tmp_path / "mine", Remote(str(tmp_path / "remote")))
    (tmp_path / "outside/deep").mkdir(parents=True)
    for number in range(FILES):
        (tmp_path / f"outside/deep/{number}").write_bytes(theirs(number))
    for version in range(2):
        for number in range(FILES):
            clone.write(f"data/sub/deep/{number}", ours(number, version))
        clone.add("data")
        clone.commit(str(version))
    return clone


@pytest.mark.parametrize("threads", [False, True])
def test_what_a_swapped_folder_leads_to_is_neither_read_nor_changed(
    mine: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    if threads:
        monkeypatch.setattr("dvtool.workspace.hashing.HASH_THREADS_MIN_BYTES", 1)
        monkeypatch.setattr("dvtool.workspace.hashing.HASH_RUN_FILES", 4)
        monkeypatch.setattr("dvtool.jobs.engine.PARALLEL_MIN_FILES", 1)
        monkeypatch.setattr("dvtool.jobs.ingest.BATCH_FILES_MAX", 5)
    outside = tree(tmp_path / "outside")
    secrets = {digest_of(theirs(number)) for number in range(FILES)}
    ended = {"status": 0, "add": 0, "checkout": 0, "refused": 0}
    stop = time.monotonic() + ROUNDS_S
    (mine.path / "parked").symlink_to(tmp_path / "outside")
    with swapping(mine.path / "data/sub", mine.path / "parked"):
        while time.monotonic() < stop or not all(ended.values()):
            assert time.monotonic() < stop + PATIENCE_S, ended
            for verb in ("status", "add", "checkout"):
                (mine.path / ".git/dv/statcache.db").unlink(missing_ok=True)
                with mine.repo() as repo:
                    try:
                        run(repo, verb)
                        ended[verb] += 1
                    except DvError:
                        ended["refused"] += 1
                    text = (mine.path / "data.dv.json").read_text()
                    assert not [one for one in secrets if one.hex() in text]
                    assert not repo._project.store.db.held_chunks(secrets)
    assert tree(tmp_path / "outside") == outside


def test_a_folder_that_turns_into_a_file_and_back_while_it_is_walked(mine: Clone) -> None:
    right = {f"sub/deep/{n}": {digest_of(ours(n, v)) for v in range(2)} for n in range(FILES)}
    right["sub"] = {digest_of(b"a file")}
    seen: set[str] = set()
    ended = {"status": 0, "add": 0, "checkout": 0}
    stop = time.monotonic() + ROUNDS_S
    mine.write("parked", b"a file")
    with swapping(mine.path / "data/sub", mine.path / "parked"):
        while time.monotonic() < stop or not all(ended.values()) or len(seen) < 2:
            assert time.monotonic() < stop + PATIENCE_S, (ended, seen)
            for verb in ("status", "add", "checkout"):
                (mine.path / ".git/dv/statcache.db").unlink(missing_ok=True)
                with mine.repo() as repo:
                    try:
                        run(repo, verb)
                    except DvError:
                        continue
                    ended[verb] += 1
                    if verb == "add":
                        seen.add(_check_added(repo, right))
    with mine.repo() as repo:
        assert repo.fsck().clean
        repo.checkout("HEAD", force=True)
        assert not repo.status()[0].modified


def _check_added(repo: Repo, right: dict[str, set[Digest]]) -> str:
    """See that what add recorded was there and is stored; return what it took `sub` for."""
    entries = repo._project.entries(repo._project.manifest("data"))
    files = {path: entry.digest for path, entry in entries.items() if entry.is_file}
    assert all(digest in right[path] for path, digest in files.items())
    assert not repo._project.store.lacking(files.values())
    return "file" if "sub" in files else "folder"


def run(repo: Repo, verb: str) -> None:
    if verb == "status":
        repo.status()
    elif verb == "add":
        repo.add(["data"])
    else:
        repo.checkout("HEAD~1" if time.monotonic_ns() % 2 else "HEAD", force=True)
