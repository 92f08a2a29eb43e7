"""A program run in the place of this one: same terminal and streams, same signals, its status."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""The exit statuses of a shell for a command that it cannot start."""
SIGNALLED = 128
"""A shell's exit status for a program that a signal ended is this and the signal's number."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
DELIVERY_S = 0.02
"""A signal to a group of processes has reached all of them by then."""
ANSWER_WAIT_S = 2.0
_WITNESS = f"""
import os, signal
got = set()
for number in {tuple(map(int, PASSED_ON))}:
    signal.signal(number, lambda number, _: got.add(number))
os.write(1, b"r")
while asked := os.read(0, 1):
    os.write(1, b"y" if asked[0] in got else b"n")
    got.discard(asked[0])
"""


class Ended(NamedTuple):
    """How a program ended: its exit status, as a shell has it, and why it could not be started."""

    status: int
    problem: str | None = None


def run_attached(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    stdout: int | None = None,
) -> Ended:
    """Run a program to its end, with the streams of this process (or `stdout`, a descriptor).

    It stays in this group of processes, so Ctrl-C reaches it from the terminal. This process does
    not end by Ctrl-C or another signal meanwhile. A signal that was sent to this process alone is
    passed on; one that the whole group got is not, so the program gets each once.
    """
    with _signals_passed_on() as passing:
        try:
            process = subprocess.Popen(list(command), env=dict(env), cwd=cwd, stdout=stdout)
        except FileNotFoundError:
            return Ended(NOT_FOUND, f"command not found: {command[0]}")
        except OSError as error:
            return Ended(NOT_EXECUTABLE, f"{command[0]} cannot be started: {error.strerror}")
        passing.begin(process)
        code = process.wait()
    return Ended(SIGNALLED - code if code < 0 else code)


class _Passing:
    """Passes on signals that this process alone got.

    A witness, another process of the group, tells whether the group got a signal, which the
    signal itself does not say.
    """

    def __init__(self, witness: subprocess.Popen[bytes]) -> None:
        self._witness = witness
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on from now, also what came before the process was there."""
        self._process = process
        while self._early:
            process.send_signal(self._early.pop(0))

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if self._process is None:
            self._early.append(number)
            return
        time.sleep(DELIVERY_S)
        if not self._group_got(number):
            self._process.send_signal(number)

    def _group_got(self, number: int) -> bool:
        asking, answering = self._witness.stdin, self._witness.stdout
        assert asking is not None
        assert answering is not None
        try:
            os.write(asking.fileno(), bytes([number]))
            if select.select([answering], [], [], ANSWER_WAIT_S)[0]:
                return os.read(answering.fileno(), 1) == b"y"
        except OSError:
            pass
        return False


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[_Passing]:
    witness = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WITNESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    with witness:
        assert witness.stdout is not None
        os.read(witness.stdout.fileno(), 1)  # its handlers are in place then, or it has ended
        passing = _Passing(witness)
        before: dict[signal.Signals, object] = {}
        try:
            if threading.current_thread() is threading.main_thread():
                for number in PASSED_ON:
                    # The program ignores signals that are ignored here, as by nohup.
                    if signal.getsignal(number) is not signal.SIG_IGN:
                        before[number] = signal.signal(number, passing.handle)
            yield passing
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
