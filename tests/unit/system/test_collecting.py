"""The collector is put off for as long as anybody asks, and is then as it was."""

from __future__ import annotations

import gc

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
