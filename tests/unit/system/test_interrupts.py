"""Ctrl-C is held back for a block, and not lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, threading, time
from dvtool.system.interrupts import uninterrupted
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
WITH_ANOTHER_THREAD = BEGIN + "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
TRY = """
try:
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass
        print("reached", end=" ")
except KeyboardInterrupt:
    print("raised", end=" ")
print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), end=" ")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
os._exit(0)
"""


def said(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("begin", [BEGIN, WITH_ANOTHER_THREAD], ids=["alone", "threads"])
def test_it_is_held_back_from_whatever_thread_takes_it(begin: str) -> None:
    assert said(begin + TRY) == ["reached", "raised", "False", "True"]


def test_in_another_thread_the_main_one_is_interrupted_as_ever() -> None:
    program = """
def work():
    with uninterrupted():
        time.sleep(60)
threading.Thread(target=work, daemon=True).start()
try:
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("raised", flush=True)
os._exit(0)
"""
    assert said(BEGIN + program) == ["raised"]


def test_where_it_is_ignored_it_stays_ignored() -> None:
    program = BEGIN + "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert said(program + TRY) == ["reached", "False", "False"]
