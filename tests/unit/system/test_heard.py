"""Calls that may take long: signals are heard meanwhile, and what they raise waits for the end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dvtool.store.schema import connect
from dvtool.system.heard import hear_signals, while_hearing
from dvtool.system.sorting import sorted_in_parts
from dvtool.system.workers import can_fork


class Interruption(Exception):
    """What a handler raises."""


@pytest.fixture
def hearing() -> Iterator[None]:
    hear_signals(True)
    yield
    hear_signals(False)


@pytest.fixture
def interrupting() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("hearing")
def test_the_main_thread_is_free_to_hear_signals() -> None:
    main = threading.get_ident()
    assert while_hearing(threading.get_ident) != main
    assert while_hearing(can_fork) == can_fork()
    with pytest.raises(ZeroDivisionError):
        while_hearing(lambda: 1 // 0)


def test_nothing_is_begun_where_nobody_listens() -> None:
    assert while_hearing(threading.get_ident) == threading.get_ident()


@pytest.mark.usefixtures("hearing", "interrupting")
def test_what_a_handler_raises_waits_for_the_call() -> None:
    steps: list[str] = []

    def call() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.05)
        steps.append("ended")

    with pytest.raises(Interruption):
        while_hearing(call)
    assert steps == ["ended"]


@pytest.mark.usefixtures("hearing")
def test_a_handler_that_raises_as_the_call_has_ended_is_no_deadlock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lock:
        def __init__(self) -> None:
            self.real = threading.Lock()
            self.calls = 0
            self.release = self.real.release

        def acquire(self) -> bool:
            self.calls += 1
            assert self.calls <= 2, "it would wait for ever"
            self.real.acquire()
            if self.calls == 2:
                raise Interruption
            return True

    monkeypatch.setattr("dvtool.system.heard._thread.allocate_lock", Lock)
    with pytest.raises(Interruption):
        while_hearing(lambda: None)


@pytest.mark.usefixtures("hearing", "interrupting")
def test_a_commit_that_was_interrupted_is_whole_and_the_connection_of_use(tmp_path: Path) -> None:
    db = connect(str(tmp_path / "store.db"))
    with db:
        db.execute("INSERT INTO packs (digest, size) VALUES (x'01', 1)")
    with pytest.raises(ValueError, match="not"), db:
        db.execute("INSERT INTO packs (digest, size) VALUES (x'02', 1)")
        raise ValueError("not")
    with pytest.raises(Interruption), db:
        db.execute("INSERT INTO packs (digest, size) VALUES (x'03', 1)")
        signal.raise_signal(signal.SIGUSR1)
    with db:
        db.execute("INSERT INTO packs (digest, size) VALUES (x'04', 1)")
    rows = db.execute("SELECT digest FROM packs ORDER BY digest").fetchall()
    assert rows == [(b"\x01",), (b"\x04",)]
    db.close()


def test_records_are_sorted_part_by_part() -> None:
    source = random.Random(1)
    keys = [source.randbytes(source.randrange(4)) for _ in range(1000)]
    assert list(sorted_in_parts(keys, lambda key: key[:1])) == sorted(keys)
