"""Worker processes: what they answer, what they import, and that none outlives its command."""

from __future__ import annotations

import operator
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dvtool.errors import DvError, InputError
from dvtool.system import workers
from dvtool.system.workers import Worker, begun, beside, meanwhile

PATIENCE_S = 30
kinds = pytest.mark.parametrize("anew", [False, True], ids=["copied", "anew"])


@kinds
def test_a_worker_answers_calls_one_after_the_other(anew: bool) -> None:
    with begun(2, anew=anew) as (one, two):
        assert one.call(operator.neg, 5) == -5
        assert two.call(len, "x" * 5_000_000) == 5_000_000
        assert one.call(bytes, 3_000_000) == bytes(3_000_000)
        assert {one.call(eval, "__import__('os').getpid()"), os.getpid()} != {os.getpid()}


@kinds
def test_an_error_of_the_work_is_raised_here_and_the_worker_goes_on(anew: bool) -> None:
    with begun(1, anew=anew) as (worker,):
        with pytest.raises(ZeroDivisionError) as caught:
            worker.call(eval, "1 / 0")
        assert "in a worker process" in caught.value.__notes__[0]
        with pytest.raises(TypeError, match="pickle"):
            worker.call(eval, "(number for number in ())")
        assert worker.call(operator.neg, 1) == -1


@kinds
def test_an_error_for_the_user_keeps_its_hint(anew: bool) -> None:
    program = "__import__('dvtool.errors').errors.InputError('wrong', hint='mend it')"
    with begun(1, anew=anew) as (worker,):
        with pytest.raises(InputError) as caught:
            worker.call(exec, f"raise {program}")
        assert (str(caught.value), caught.value.hint) == ("wrong", "mend it")


@kinds
def test_a_worker_that_was_killed_is_told_of(anew: bool) -> None:
    with begun(1, anew=anew) as (worker,):
        for _ in range(2):
            with pytest.raises(DvError, match="a worker process ended"):
                worker.call(eval, "__import__('os').kill(__import__('os').getpid(), 9)")


@kinds
def test_a_worker_ends_with_its_parent_also_if_that_is_killed_at_work(anew: bool) -> None:
    program = f"""
import os, threading, time
from dvtool.system.workers import begun
with begun(2, anew={anew}) as (one, two):
    print(one.call(eval, "__import__('os').getpid()"), two.call(eval, "__import__('os').getpid()"),
        flush=True)
    threading.Thread(target=one.call, args=(time.sleep, 1000), daemon=True).start()
    time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    stop = time.monotonic() + PATIENCE_S
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < stop
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return os.path.isdir("/proc/self") is False and _answers(pid)
    return state != "Z"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@kinds
def test_ctrl_c_does_not_reach_workers(anew: bool) -> None:
    with begun(1, anew=anew) as (worker,):
        pid = worker.call(eval, "__import__('os').getpid()")
        os.kill(pid, signal.SIGINT)
        assert worker.call(operator.neg, 1) == -1


def test_a_worker_that_begins_anew_imports_nothing_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from the current folder nor from PYTHONPATH, and not the main module."""
    hostile = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n"
    for name in ("pickle", "multiprocessing", "concurrent", "sitecustomize", "zstandard", "dvtool"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(hostile)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert pickle.dumps(None)  # this process has its own modules, which the worker has not
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    with begun(1, anew=True) as (worker,):
        imports = "[__import__(name).__file__ for name in ('zstandard', 'concurrent.futures')]"
        assert not [path for path in worker.call(eval, imports) if path.startswith(str(tmp_path))]
        place = worker.call(eval, "__import__('dvtool').__file__")
        assert place == str(Path(workers.PACKAGE_FOLDER, "dvtool/__init__.py"))
        assert worker.call(eval, "__import__('os').getcwd()") == os.path.abspath(os.sep)
        main = worker.call(eval, "getattr(__import__('sys').modules['__main__'], '__file__', None)")
        assert main is None
    assert not (tmp_path / "ran").exists()


def test_a_package_that_only_this_process_finds_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("NUMBER = 7")
    monkeypatch.syspath_prepend(str(tmp_path))
    with begun(1, anew=True) as (worker,):
        assert worker.call(eval, "__import__('only_here').NUMBER") == 7


def test_what_a_library_prints_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with begun(1, anew=True) as (worker,):
        assert worker.call(exec, "print('hello', flush=True)") is None
        assert worker.call(eval, "__import__('sys').stdin.read()") == ""
    assert capfd.readouterr() == ("", "hello\n")


def test_a_second_process_works_beside_this_one() -> None:
    with beside(lambda: b"%d" % os.getpid()) as answer:
        assert int(answer.read()) != os.getpid()


def test_a_worker_that_could_not_begin_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Worker.copied([])
    begin = iter([first])

    def next_worker(_: object) -> Worker:
        try:
            return next(begin)
        except StopIteration:
            raise OSError("no more processes") from None

    monkeypatch.setattr(Worker, "copied", next_worker)
    with pytest.raises(OSError, match="no more"), begun(2, anew=False):
        pass
    with pytest.raises((DvError, ValueError)):
        first.call(operator.neg, 1)


def test_a_copy_that_cannot_begin_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork() -> int:
        raise BlockingIOError("no more processes")

    open_before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "fork", no_fork)
    with beside(lambda: b"answer") as answer:
        assert answer.read() == b""
    went_on = False
    with meanwhile(lambda: None):
        went_on = True
    assert went_on
    assert len(os.listdir("/dev/fd")) == open_before


@pytest.mark.parametrize("begin", [beside, meanwhile])
def test_ctrl_c_while_the_copy_begins_ends_it(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[..., AbstractContextManager[object]]
) -> None:
    begun = []
    fork = os.fork

    def interrupted() -> int:
        child = fork()
        if child:
            begun.append(child)
            os.kill(os.getpid(), signal.SIGINT)  # held back until the fork is done
        return child

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt), begin(lambda: bytes(time.sleep(60) or 0)):
        pytest.fail("went on")
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)


def test_a_copy_that_is_not_waited_for_clears_up(tmp_path: Path) -> None:
    def work() -> bytes:
        unfinished = tmp_path / "unfinished"
        try:
            unfinished.touch()
            time.sleep(60)
        finally:
            unfinished.unlink()
        return b""

    with pytest.raises(KeyboardInterrupt), beside(work):
        give_up = time.monotonic() + PATIENCE_S
        while not (tmp_path / "unfinished").exists():
            assert time.monotonic() < give_up
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_copy_may_have_been_waited_for_elsewhere() -> None:
    with beside(lambda: b"answer") as answer:
        assert answer.read() == b"answer"
        os.waitpid(-1, 0)  # as a program's handler of SIGCHLD does
    with pytest.raises(ZeroDivisionError), beside(lambda: b"answer") as answer:
        answer.read()
        os.waitpid(-1, 0)
        raise ZeroDivisionError
