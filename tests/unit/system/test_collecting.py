"""The collector is put off for as long as anybody asks, and is then as it was."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from dvtool.system.collecting import collector_put_off


def test_the_collector_is_off_until_the_last_one_ends() -> None:
    assert gc.isenabled()
    with collector_put_off():
        with collector_put_off():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_put_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_it_as_it_was() -> None:
    """The thread that put it off is none of the child's."""
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with collector_put_off():
            begun.set()
            end.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    child = os.fork()
    if not child:
        with collector_put_off():
            was_off = not gc.isenabled()
        os._exit(0 if was_off and gc.isenabled() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not gc.isenabled()
    end.set()
    thread.join()
    assert gc.isenabled()
