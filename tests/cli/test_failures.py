"""What is said, and with which exit code, when something fails that no verb foresees."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dvtool.cli import failures
from dvtool.system.locking import locked
from tests.cli.conftest import Patch, Work, command


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (OSError(errno.ENOSPC, "x", "data/a.bin"), "data/a.bin: the disk is full", 1),
        (OSError(errno.EDQUOT, "x"), "your disk quota is used up", 1),
        (PermissionError(errno.EACCES, "x", b"data/a"), "data/a: permission denied", 1),
        (OSError(errno.EROFS, "x", "a", None, "b"), "a -> b: the filesystem is read-only", 1),
        (OSError(errno.ELOOP, "Too many links", "a\x1bb"), "a\\x1bb: Too many links", 1),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full", 1),
        (sqlite3.OperationalError("database is locked"), "locked by another process", 9),
        (sqlite3.OperationalError("attempt to write a readonly database"), "cannot be used", 1),
        (sqlite3.DatabaseError("malformed"), "malformed", 1),
        (concurrent.futures.BrokenExecutor(), "a worker process ended", 1),
        (MemoryError(), "memory has run out", 1),
        (ModuleNotFoundError("x", name="blake3"), "the package blake3 is missing", 1),
    ],
)
def test_errors_are_sentences(
    data: Work, raising: Patch, error: BaseException, message: str, code: int
) -> None:
    raising("status", error)
    ran = data.dv("status", code=code)
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err


def test_full_disk_has_a_hint(data: Work, raising: Patch) -> None:
    raising("status", OSError(errno.ENOSPC, "No space left on device", "x"))
    assert "hint: free some space, then repeat" in data.dv("status", code=1).err


def test_interrupt(data: Work, raising: Patch) -> None:
    wrapped = RuntimeError("Error calling __set_name__")  # as Python 3.11 does on an import
    wrapped.__cause__ = KeyboardInterrupt()
    for error in (KeyboardInterrupt(), wrapped):
        raising("status", error)
        assert data.dv("status", code=130).err == "error: interrupted\n"


def test_a_bug_says_so_and_where(data: Work, raising: Patch) -> None:
    raising("status", ZeroDivisionError("evil\x1b[31m"))
    ran = data.dv("status", code=1)
    assert ran.err.startswith("error: this is a bug in dvtool: ZeroDivisionError in dvtool.cli.s")
    assert "hint: please report it" in ran.err
    assert "\x1b" not in ran.err
    assert "Traceback" not in ran.err


def test_traceback_on_request(data: Work, raising: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DV_TRACEBACK", "1")
    raising("status", ZeroDivisionError("x"))
    ran = data.dv("status", code=1)
    assert "Traceback (most recent call last)" in ran.err
    assert "error: this is a bug" in ran.err


def test_a_real_interrupt(data: Work) -> None:
    # A pipe where git would be read: the command hangs in opening it, until Ctrl-C.
    os.mkfifo(data.root / "stop")
    code = (
        "import sys; from dvtool.repo import Repo;"
        "Repo.status = lambda *a, **k: (print('up', flush=True), open('stop'))[1];"
        "from dvtool.cli import main; sys.argv = ['dv', 'status']; main()"
    )
    process = subprocess.Popen(
        [command()[0], "-c", code],
        cwd=data.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "error: interrupted\n")


def _first_bytes(work: Work, *args: str) -> tuple[int, bytes, bytes]:
    """Run `dv` and go away after its first bytes, as `head` does."""
    process = subprocess.Popen(
        command(*args), cwd=work.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    return process.wait(timeout=120), first, err


def test_a_reader_that_goes_away(work: Work) -> None:
    # More than a pipe holds, so that writing does meet the closed end.
    work.write("data/large.bin", bytes(4 << 20))
    for number in range(600):
        work.write(f"data/{'long-name-' * 20}{number}", "x")
    work.dv("add", "data")
    for args in (("cat", "data/large.bin"), ("ls",), ("ls", "--json"), ("status", "-v", "--json")):
        code, first, err = _first_bytes(work, *args)
        if args[0] == "status":
            assert code in (0, failures.READER_GONE)  # short: all of it may fit the pipe
        else:
            assert code == failures.READER_GONE
        assert len(first) == 10
        assert err == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_to_a_full_disk(data: Work) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("ls"), cwd=data.root, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the disk is full")
    assert b"Exception ignored" not in done.stderr


def test_closed_output(data: Work) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" >&-', "-", sys.executable, "-m", "dvtool", "status"],
        cwd=data.root,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_lock_held_by_another_process(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvtool.project.locks.LOCK_WAIT_S", 0.1)
    with locked(str(data.root / ".git/dv/worktree.lock"), wait_s=0, busy=""):
        ran = data.dv("add", "data/images", code=9)
    assert "another dv command" in ran.err
    assert "hint: wait" in ran.err


def test_a_lock_held_by_git(data: Work) -> None:
    data.write("data/images/new.txt")
    (data.root / ".git/index.lock").touch()
    ran = data.dv("add", "data/images", code=9)
    assert "hint: wait for the other git command" in ran.err
