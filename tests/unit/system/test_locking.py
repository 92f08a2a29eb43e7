"""Locks between processes, on disks that have them and on disks that have not."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from dvtool.errors import BusyError, SetupError
from dvtool.system.locking import HELD_SUFFIX, locked


@pytest.fixture(params=[None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def lock(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a lock, on a disk whose flock fails so, or that has it."""
    if request.param is not None:

        def flock(fd: int, operation: int) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)
    return tmp_path / "lock"


def test_one_holds_it_and_the_other_waits(lock: Path) -> None:
    with locked(str(lock), wait_s=1, busy="taken"):
        with (
            pytest.raises(BusyError, match="taken") as caught,
            locked(str(lock), wait_s=0, busy="taken"),
        ):
            pass
        assert "repeat" in (caught.value.hint or "")
    with locked(str(lock), wait_s=0, busy="taken"):
        pass
    assert [path.name for path in lock.parent.iterdir()] == ["lock"]


def test_an_error_gives_it_back(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(str(lock), wait_s=0, busy="taken"):
        raise ZeroDivisionError
    with locked(str(lock), wait_s=0, busy="taken"):
        pass


def test_a_fork_does_not_keep_it(lock: Path) -> None:
    with locked(str(lock), wait_s=0, busy="taken"):
        child = multiprocessing.get_context("fork").Process(
            target=__import__("time").sleep, args=(5,)
        )
        child.start()
    try:
        with locked(str(lock), wait_s=0, busy="taken"):
            pass
    finally:
        child.kill()
        child.join()


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a lock on a disk without flock."""

    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    return tmp_path / "lock"


def test_a_lock_that_a_killed_process_left_is_named(plain: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    held = Path(f"{plain}{HELD_SUFFIX}")
    held.write_text(f"{platform.node()} {int(done.stdout)}\n")
    with (
        pytest.raises(SetupError, match="left its lock") as caught,
        locked(str(plain), wait_s=0, busy="taken"),
    ):
        pass
    assert f"rm {held}" in (caught.value.hint or "")
    held.unlink()
    with locked(str(plain), wait_s=0, busy="taken"):
        pass


@pytest.mark.parametrize(
    "text", ["elsewhere.example.org 1\n", "", "\udcff", f"{platform.node()} x"]
)
def test_a_lock_of_another_machine_is_waited_for(plain: Path, text: str) -> None:
    Path(f"{plain}{HELD_SUFFIX}").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BusyError) as caught, locked(str(plain), wait_s=0, busy="taken"):
        pass
    assert "rm " in (caught.value.hint or "")
