"""A look that begins early sees what a look at that time would have seen, and is over in time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dvtool.format import manifest
from dvtool.format.digest import Digest
from dvtool.project import early_look as early
from dvtool.workspace import folder_state
from dvtool.workspace.folder_state import SharedLook, looking_early, states_of
from tests.cli.conftest import Work

FOLDERS = [f"data/{number:02}" for number in range(12)]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may be slow: what was seen is old only where a test says so."""
    monkeypatch.setattr(folder_state, "EARLY_TRUSTED_S", 1000.0)


@pytest.fixture
def top(tmp_path: Path) -> str:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / folder / name).write_text(folder)
    return str(tmp_path)


def alone(top: str, folders: list[str] = FOLDERS) -> list[Digest | None]:
    return states_of(top, folders, [3] * len(folders))


def wait_for(look: SharedLook, folder: str) -> None:
    """Wait until the other process has looked at a folder."""
    at = 32 * FOLDERS.index(folder)
    give_up = time.monotonic() + 20
    while look._states[at : at + 32] == bytes(32):
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_two_processes_see_what_one_sees(top: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(top)
    look = SharedLook(top, FOLDERS)
    with looking_early(look), monkeypatch.context() as patch:
        wait_for(look, FOLDERS[0])
        patch.setattr(folder_state, "_look_at", lambda *_: pytest.fail("looked at again"))
        assert alone(top) == expected
        assert alone(top, FOLDERS[3:5]) == expected[3:5]
    look = SharedLook(top, FOLDERS)
    with looking_early(look):
        assert alone(top) == expected  # wherever they meet


def test_what_was_seen_some_time_ago_is_not_believed(
    top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git, or a remote that has a list, may have taken long since the look began."""
    before = alone(top)
    look = SharedLook(top, FOLDERS)
    with looking_early(look):
        wait_for(look, FOLDERS[0])
        Path(top, FOLDERS[3], "a").write_text("changed")
        assert alone(top) == before  # as if that was written a moment later
        clock = time.monotonic() + folder_state.EARLY_TRUSTED_S
        monkeypatch.setattr(time, "monotonic", lambda: clock)
        assert [number for number, state in enumerate(alone(top)) if state != before[number]] == [3]


def test_names_that_no_file_can_have_are_of_no_state(top: str) -> None:
    assert alone(top, ["data/0\x00", FOLDERS[1]]) == [None, alone(top)[1]]


def test_without_the_other_process_one_looks_at_all(
    top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(top)
    monkeypatch.setattr(SharedLook, "look_from_the_end", lambda *_: os._exit(1))
    with looking_early(SharedLook(top, FOLDERS)):
        assert alone(top) == expected


def test_the_other_process_ends_where_they_meet_or_alone(top: str) -> None:
    look = SharedLook(top, FOLDERS)
    look.look_from_the_end(os.getpid())  # not the parent: as if that was gone
    assert look._states[:] == bytes(32 * len(FOLDERS))
    assert list(look.states(FOLDERS[:8])) == alone(top)[:8]
    look.look_from_the_end(os.getppid())
    assert look._states[: 32 * 8] == bytes(32 * 8)
    assert look._states[32 * 8 :] == b"".join(filter(None, alone(top)[8:]))


def test_after_the_block_nothing_of_it_is_believed(top: str) -> None:
    look = SharedLook(top, FOLDERS)
    with looking_early(look):
        wait_for(look, FOLDERS[0])
    before = alone(top)
    Path(top, FOLDERS[7], "new").write_text("new")
    now = alone(top)
    assert [at for at in range(12) if now[at] != before[at]] == [7]


def test_only_the_folders_of_the_look_itself_are_taken_from_it(top: str) -> None:
    Path(top, "link").symlink_to("data")
    look = SharedLook(top, FOLDERS)
    with looking_early(look):
        wait_for(look, FOLDERS[0])
        Path(top, FOLDERS[7], "new").write_text("new")
        expected = alone(os.path.join(top, "data"), ["07"])  # from another root
        assert alone(top, [FOLDERS[7]]) != expected
        assert states_of(top, [FOLDERS[7]], [3], {"link": top}) == expected
        assert alone(top, ["data", FOLDERS[7]])[1:] == expected


def test_a_folder_that_is_gone_has_no_state(top: str) -> None:
    Path(top, FOLDERS[4]).rename(Path(top, "gone"))
    look = SharedLook(top, FOLDERS)
    with looking_early(look):
        wait_for(look, FOLDERS[0])
        assert [at for at, state in enumerate(alone(top)) if state is None] == [4]


@pytest.fixture
def large(work: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Return a repository with a target of shards, for which the look begins early."""
    monkeypatch.setattr(manifest, "INLINE_ENTRIES_MAX", 4)
    monkeypatch.setattr(early, "REMEMBERED_MIN_BYTES", 1)
    monkeypatch.setattr(early, "may_fork", lambda: True)
    for number in range(12):
        work.write(f"data/{number % 4}/{number}", str(number))
    work.dv("add", "data")
    work.commit()
    for path in (work.root / "data").rglob("*"):
        os.utime(path, (1, 1))
    work.dv("status")
    return work


def test_status_begins_early_and_sees_every_change(
    large: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def states(look: SharedLook, folders: list[str]) -> list[Digest | None]:
        taken.append(folders)
        return list(look_states(look, folders))

    look_states = SharedLook.states
    monkeypatch.setattr(SharedLook, "states", states)
    assert large.dv("status").out.startswith("Clean: 1 target, 12 files")
    assert taken == [["data", *(f"data/{number}" for number in range(4))]]
    large.write("data/2/2", "8")
    assert large.dv("status", "--json").json["targets"][0]["modified"] == ["2/2"]
    assert len(taken) == 2
    large.dv("status", "data")  # with a path nothing begins early
    assert len(taken) == 2


def test_where_it_is_not_plain_what_is_meant_nothing_begins(
    large: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(environ: dict[str, str]) -> bool:
        return not isinstance(early.early_look(environ), contextlib.nullcontext)

    monkeypatch.chdir(large.root / "data")
    assert begins({})
    assert not begins({"GIT_DIR": ".git"})
    for owner, name, value in (
        (os, "geteuid", lambda: os.getuid() + 1),
        (early, "may_fork", lambda: False),
        (early, "REMEMBERED_MIN_BYTES", 300_000),  # so few files
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert not begins({})
    assert begins({})
    (large.root / ".git/dv/statcache.db").write_bytes(b"damaged" * 1000)
    assert not begins({})
    monkeypatch.chdir(large.root.parent)
    assert not begins({})


def test_a_statcache_in_use_is_left_alone(large: Work) -> None:
    path = large.root / ".git/dv/statcache.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert early._agreed_before(str(path)) == []
        db.rollback()
    assert len(early._agreed_before(str(path))) == 5


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "dvtool", *sys.argv[1:]])
"""
LIBRARY = """
import signal
from dvtool.system.workers import can_fork
print(can_fork())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(can_fork())
"""


def test_a_caller_that_ignores_the_end_of_processes_changes_nothing(large: Work) -> None:
    def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", script, *args]
        return subprocess.run(words, cwd=large.root, capture_output=True, text=True)

    large.write("data/2/2", "changed")
    status = run(IGNORING, "status", "--exit-code")
    assert (status.returncode, "2/2" in status.stdout) == (1, True), status.stderr
    large.write(".dvconfig", "[core")
    status = run(IGNORING, "status")
    assert (status.returncode, ".dvconfig cannot be read" in status.stderr) == (3, True)
    assert run(LIBRARY).stdout.split() == ["True", "False"]
